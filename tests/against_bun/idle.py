"""Idle: peers that say nothing. All of them at once, since eight seconds are the shortest idle timeout of Bun."""

from __future__ import annotations

from typing import Final

from tests.against_bun.play import Differs, Does, Ends, Hears, Opens, Peeks, Scenario


__all__ = ["SCENARIOS"]

EIGHT: Final = {"idleTimeout": 8}  # seconds; with pings, unless told otherwise

SCENARIOS: Final = [
    Scenario(
        "idle",
        [
            Opens("silent"),
            Opens("answering"),
            Opens("unpinged", options={**EIGHT, "sendPings": False}),
            Opens("spoken to"),
            Opens("closed"),
            Does([["closed", "close", 4000]]),
            Hears("closed"),
            Hears("answering", answers_pings=True),
            Peeks("closed"),
            Does([["spoken to", "send", "hello?"]]),
            Ends("silent"),
            Ends("unpinged"),
            Hears("answering", answers_pings=True),
            Does([["answering", "get", "readyState"], ["spoken to", "get", "readyState"]]),
        ],
        EIGHT,
        differs=(
            Differs(
                "reaping",
                bun={"calls": [None, 6, 1, 1], "events of spoken to": [["open"]]},
                bunws={
                    "calls": [None, 6, 1, 3],
                    "events of spoken to": [["open"], ["close", 1006, "WebSocket timed out from inactivity"]],
                },
            ),
            Differs(
                "closing-handshake",
                bun={"closed": [["close", 4000, ""], "end"]},
                bunws={"closed": [["close", 4000, ""], "open"]},
            ),
        ),
    ),
]
