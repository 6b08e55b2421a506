"""Deflated: what is compressed once it was agreed on, and what may not come compressed (RFC 7692)."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, Final

from tests.against_bun.play import Differs, Does, Ends, Opens, Says, Scenario, Settles, kept
from tests.clients import close, cont, frame, ping, pong, text


__all__ = ["SCENARIOS"]

RSV1: Final = 0b100
TEXT: Final = 1
EMPTY_BLOCK: Final = b"\0\0\xff\xff"  # RFC 7692, 7.2.1

SHARED: Final[Mapping[str, object]] = {"perMessageDeflate": True, "maxPayloadLength": 100_000}
DEDICATED: Final[Mapping[str, object]] = {
    "perMessageDeflate": {"compress": "dedicated", "decompress": "dedicated"},
    "maxPayloadLength": 100_000,
}

A: Final = Opens("a", mode="deflate", changes={"Sec-WebSocket-Extensions": "permessage-deflate"})
PLAIN: Final = Opens("plain", mode="deflate")

LINE: Final = "a line that is long enough to be worth it, and says again that it is long enough to be worth it; " * 3


def deflated(payload: str, *, last: bool = False) -> bytes:
    """The payload of a message that stands for itself; `last`: in a final block."""
    stream = zlib.compressobj(wbits=-15)
    data = stream.compress(payload.encode())
    if last:
        return data + stream.flush(zlib.Z_FINISH)
    return (data + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(EMPTY_BLOCK)


def compressed(data: bytes, **oddities: Any) -> bytes:
    return frame(TEXT, data, rsv=RSV1, **oddities)


LINES: Final = [deflated(LINE)[:20], deflated(LINE)[20:]]

# What a client may say that has negotiated compression.
FINE: Final = {
    "plain messages": text(LINE) * 3,
    "compressed messages": compressed(deflated(LINE)) * 3,
    "compressed in fragments": compressed(LINES[0], fin=False) + cont(LINES[1]),
    "a ping between compressed fragments": compressed(LINES[0], fin=False) + ping(b"mid") + cont(LINES[1]),
    "an empty fragment at the end": compressed(deflated(LINE), fin=False) + cont(b""),
    "stored, not compressed": compressed(b"\x00\x05\x00\xfa\xffhello\x00"),
    "a final block": compressed(deflated(LINE, last=True)) * 2,
    "a final block and a byte": compressed(deflated(LINE, last=True) + b"\0") * 2,
    "as long as the limit": compressed(deflated("x" * 100_000)),
    "plain and compressed by turns": (text(LINE) + compressed(deflated(LINE))) * 3,
}

BROKEN: Final = {
    "no deflate": compressed(b"\xff\xff\xff"),
    "no UTF-8": compressed(b"\x00\x01\x00\xfe\xff\xff\x00"),
    "beyond the limit": compressed(deflated("x" * 100_001)),
    "a bomb": compressed(deflated("x" * 10_000_000)),
    "a bomb in fragments": compressed(deflated("x" * 10_000_000)[:5000], fin=False)
    + cont(deflated("x" * 10_000_000)[5000:]),
    "RSV1 on a continuation": compressed(LINES[0], fin=False) + cont(LINES[1], rsv=RSV1),
    "RSV1 on a ping": ping(b"x", rsv=RSV1),
    "RSV1 on a pong": pong(b"x", rsv=RSV1),
    "RSV1 on a close": close(1000, rsv=RSV1),
    "RSV2 on a compressed message": frame(TEXT, deflated(LINE), rsv=0b110),
    "all RSV on a compressed message": frame(TEXT, deflated(LINE), rsv=0b111),
}

SHORT: Final = (
    Differs("compressed-only-if-shorter", bun={"a": [["compressed text", "hello"]]}, bunws={"a": [["text", "hello"]]}),
)
NOISE: Final = bytes(range(256))

SCENARIOS: Final = [
    *(
        Scenario(
            f"deflate {preset}, {name}",
            [A, Says("a", data), Settles("a")],
            options,
            differs=SHORT if name == "stored, not compressed" else (),
        )
        for preset, options in {"shared": SHARED, "dedicated": DEDICATED}.items()
        for name, data in FINE.items()
    ),
    *(
        Scenario(f"deflate {preset}, {name}", [A, Says("a", text(LINE) + data), Ends("a")], options)
        for preset, options in {"shared": SHARED, "dedicated": DEDICATED}.items()
        for name, data in BROKEN.items()
    ),
    Scenario(
        "deflate, cut off",
        [A, Says("a", compressed(deflated(LINE)[:10])), Settles("a")],
        SHARED,
        differs=(
            Differs(
                "cut-off-deflate",
                bun={"a": [["text", ""]], "events of a": [["open"], ["message", ""]]},
                bunws={
                    "a": [["close", 1007, "Received invalid compressed data"], "end"],
                    "events of a": [["open"], ["close", 1006, "Received invalid compressed data"]],
                },
            ),
        ),
    ),
    Scenario(
        "deflate, only what is asked for",
        [
            A,
            PLAIN,
            Does([[client, "subscribe", "x"] for client in ("a", "plain")]),
            Does(
                [
                    ["a", "send", LINE],
                    ["a", "send", LINE, True],
                    ["a", "sendText", LINE, True],
                    ["a", "sendBinary", {"binary": "78" * 300}, True],
                    ["a", "sendBinary", {"binary": "78" * 300}],
                    ["plain", "publish", "x", LINE],
                    ["plain", "publish", "x", LINE, True],
                    ["plain", "publishText", "x", LINE, True],
                    ["server", "publish", "x", LINE],
                    ["server", "publish", "x", LINE, False],
                    ["plain", "send", LINE, True],
                    ["a", "send", "", True],
                ]
            ),
            Settles("a"),
            Settles("plain"),
        ],
        SHARED,
    ),
    Scenario("deflate, short messages", [A, Does([["a", "send", "hello", True]]), Settles("a")], SHARED, differs=SHORT),
    Scenario(
        "deflate, messages that do not become shorter",
        [A, Does([["a", "sendBinary", {"binary": NOISE.hex()}, True]]), Settles("a")],
        SHARED,
        differs=(
            Differs(
                "compressed-only-if-shorter",
                bun={"a": [["compressed binary", kept(NOISE)]]},
                bunws={"a": [["binary", kept(NOISE)]]},
            ),
        ),
    ),
]
