"""Options: which values of `websocket` are taken, and which are refused at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.against_bun.play import Differs, Scenario, Serves


__all__ = ["SCENARIOS"]

LAX: Final = (Differs("strict-options", bun={"serves": [True]}, bunws={"serves": [False]}),)
RANGE: Final = (Differs("idle-timeout", bun={"serves": [False]}, bunws={"serves": [True]}),)

OPTIONS: Final[list[tuple[Mapping[str, Any], tuple[Differs, ...]]]] = [
    ({}, ()),
    ({"maxPayloadLength": None, "idleTimeout": None, "perMessageDeflate": None}, ()),
    ({"maxPayloadLength": 1}, ()),
    ({"maxPayloadLength": 1.5}, ()),
    ({"maxPayloadLength": "1"}, ()),
    ({"maxPayloadLength": -1}, LAX),
    ({"backpressureLimit": 1}, ()),
    ({"backpressureLimit": 1.5}, ()),
    ({"backpressureLimit": -1}, LAX),
    ({"closeOnBackpressureLimit": 1}, ()),
    ({"idleTimeout": 0}, ()),
    ({"idleTimeout": 960}, ()),
    ({"idleTimeout": 961}, RANGE),
    ({"idleTimeout": 0.5}, RANGE),
    ({"idleTimeout": "1"}, ()),
    ({"idleTimeout": -1}, LAX),
    ({"sendPings": 1}, ()),
    ({"publishToSelf": "yes"}, ()),
    ({"perMessageDeflate": 5}, ()),
    ({"perMessageDeflate": "shared"}, ()),
    ({"perMessageDeflate": {}}, ()),
    ({"perMessageDeflate": {"compress": "2KB"}}, ()),
    ({"perMessageDeflate": {"decompress": 3}}, ()),
    ({"perMessageDeflate": {"compressor": "3KB"}}, LAX),
    ({"maxPayLoadLength": 5}, LAX),
]

SCENARIOS: Final = [Scenario(f"options, {options}", [Serves(options)], differs=differs) for options, differs in OPTIONS]
