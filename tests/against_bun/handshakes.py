"""Handshakes: the good ones, and those that are odd in one way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bunws.handshake import accept_key
from tests.against_bun.play import Answer, Differs, Ends, Opens, Says, Scenario, Settles, Step
from tests.clients import KEY, ping, text


__all__ = ["SCENARIOS"]

Changes = Mapping[str, str | list[str] | None]

# Fields that are not as in the plainest handshake.
FIELDS: Final[dict[str, Changes]] = {
    "plain": {},
    # Upgrade
    "Upgrade: WebSocket": {"Upgrade": "WebSocket"},
    "Upgrade: WEBSOCKET": {"Upgrade": "WEBSOCKET"},
    "Upgrade: a list with websocket": {"Upgrade": "h2c, websocket"},
    "Upgrade: two lines": {"Upgrade": ["h2c", "websocket"]},
    "Upgrade: websocket/13": {"Upgrade": "websocket/13"},
    "Upgrade: h2c": {"Upgrade": "h2c"},
    "Upgrade: websockets": {"Upgrade": "websockets"},
    "Upgrade: empty": {"Upgrade": ""},
    "Upgrade: missing": {"Upgrade": None},
    # Connection
    "Connection: upgrade": {"Connection": "upgrade"},
    "Connection: keep-alive, Upgrade": {"Connection": "keep-alive, Upgrade"},
    "Connection: two lines": {"Connection": ["keep-alive", "Upgrade"]},
    "Connection: keep-alive": {"Connection": "keep-alive"},
    "Connection: close, Upgrade": {"Connection": "close, Upgrade"},
    "Connection: Upgrades": {"Connection": "Upgrades"},
    "Connection: missing": {"Connection": None},
    # Sec-WebSocket-Key
    "key: missing": {"Sec-WebSocket-Key": None},
    "key: empty": {"Sec-WebSocket-Key": ""},
    "key: no base64": {"Sec-WebSocket-Key": "this is not base64 =)"},
    "key: 15 bytes": {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAA"},
    "key: 17 bytes": {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAAA="},
    "key: without padding": {"Sec-WebSocket-Key": KEY.rstrip("=")},
    "key: padded once": {"Sec-WebSocket-Key": KEY[:-1]},
    "key: with bits behind the last byte": {"Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAB=="},
    "key: base64 for URLs": {"Sec-WebSocket-Key": "-_-_AAAAAAAAAAAAAAAAAA=="},
    "key: spaces around it": {"Sec-WebSocket-Key": f"  {KEY} \t"},
    "key: a space within": {"Sec-WebSocket-Key": f"{KEY[:8]} {KEY[9:]}"},
    "key: twice the same": {"Sec-WebSocket-Key": [KEY, KEY]},
    "key: two of them": {"Sec-WebSocket-Key": [KEY, "AAAAAAAAAAAAAAAAAAAAAA=="]},
    # Sec-WebSocket-Version
    "version: missing": {"Sec-WebSocket-Version": None},
    "version: empty": {"Sec-WebSocket-Version": ""},
    "version: 8": {"Sec-WebSocket-Version": "8"},
    "version: 14": {"Sec-WebSocket-Version": "14"},
    "version: 013": {"Sec-WebSocket-Version": "013"},
    "version: 13, 8": {"Sec-WebSocket-Version": "13, 8"},
    "version: twice": {"Sec-WebSocket-Version": ["13", "13"]},
    # Sec-WebSocket-Protocol
    "subprotocol: one": {"Sec-WebSocket-Protocol": "chat"},
    "subprotocol: two": {"Sec-WebSocket-Protocol": "chat, superchat"},
    "subprotocol: empty": {"Sec-WebSocket-Protocol": ""},
    "subprotocol: the same twice": {"Sec-WebSocket-Protocol": "chat, chat"},
    "subprotocol: no token": {"Sec-WebSocket-Protocol": "chat room"},
    # Others
    "Host: missing": {"Host": None},
    "Host: empty": {"Host": ""},
    "Host: two": {"Host": ["localhost", "example.com"]},
    "Origin: elsewhere": {"Origin": "https://example.com"},
    "body: Content-Length 0": {"Content-Length": "0"},
    "body: Content-Length no number": {"Content-Length": "x"},
    "extension: unknown": {"Sec-WebSocket-Extensions": "x-unknown; q=1"},
    "extension: deflate while it is off": {"Sec-WebSocket-Extensions": "permessage-deflate"},
    "names of fields in lower case": {
        **dict.fromkeys(("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version")),
        "upgrade": "websocket",
        "connection": "upgrade",
        "sec-websocket-key": KEY,
        "sec-websocket-version": "13",
    },
    "a field that is none": {"X Y": "1"},
    "a large field": {"X-Large": "x" * 8000},
    "a field too large": {"X-Large": "x" * 20_000},
}

# Request lines that are not as usual.
LINES: Final = {
    "HTTP/1.0": "GET {target} HTTP/1.0",
    "HTTP/2.0": "GET {target} HTTP/2.0",
    "HTTP/0.9": "GET {target}",
    "POST": "POST {target} HTTP/1.1",
    "HEAD": "HEAD {target} HTTP/1.1",
    "OPTIONS": "OPTIONS {target} HTTP/1.1",
    "get in lower case": "get {target} HTTP/1.1",
    "absolute target": "GET http://localhost{target} HTTP/1.1",
}

# What comes in the same packet.
FRAMES: Final = text("early") + ping(b"bird")


# What is answered


def accepted(key: str = KEY, **fields: str) -> Answer:
    accept = {"connection": "Upgrade", "sec-websocket-accept": accept_key(key), "upgrade": "websocket"}
    return {"handshake of a": [101, {**accept, **fields}], "events of a": [["open"]]}


def refused(status: int = 400, **fields: str) -> Answer:
    return {"handshake of a": [status, {name.replace("_", "-"): value for name, value in fields.items()}]}


def answered(answer: Answer) -> Answer:
    """Only what the handshake is answered with."""
    return {"handshake of a": answer["handshake of a"]}


STRICT: Final = Differs("strict-handshake", bun=accepted(), bunws=refused())
HOST: Final = Differs("host", bun=accepted(), bunws=refused())
METHOD: Final = Differs("wrong-method", bun=refused(), bunws=refused(405))
VERSION: Final = Differs(
    "upgrade-required",
    bun=refused(426, sec_websocket_version="13"),
    bunws=refused(426, sec_websocket_version="13", upgrade="websocket"),
)


def subprotocol(name: str) -> dict[str, str]:
    return {"sec-websocket-protocol": name}


DIFFERS: Final = {
    "Connection: keep-alive": STRICT,
    "Connection: Upgrades": STRICT,
    "Connection: missing": STRICT,
    "HTTP/1.0": STRICT,
    "key: with bits behind the last byte": Differs(
        "strict-handshake", bun=accepted("AAAAAAAAAAAAAAAAAAAAAB=="), bunws=refused()
    ),
    "subprotocol: empty": STRICT,
    "subprotocol: the same twice": Differs("strict-handshake", bun=accepted(**subprotocol("chat")), bunws=refused()),
    "subprotocol: no token": Differs("strict-handshake", bun=accepted(**subprotocol("chat room")), bunws=refused()),
    "Host: empty": HOST,
    "Host: two": HOST,
    **{
        f"version: {version}": VERSION
        for version in ("missing", "empty", "8", "14", "013", "13, 8", "twice", "8, after an await")
    },
    **{
        f"subprotocol: {count}": Differs(
            "subprotocol", bun=answered(accepted(**subprotocol("chat"))), bunws=answered(accepted())
        )
        for count in ("one", "two")
    },
    "subprotocol: chosen, but not offered": Differs(
        "subprotocol", bun=accepted(**subprotocol("c")), bunws=refused(500)
    ),
    "POST": METHOD,
    "HEAD": METHOD,
    "OPTIONS": METHOD,
    "HTTP/0.9": Differs("request-line", bun=refused(505), bunws=refused()),
    "get in lower case": Differs("request-line", bun={"handshake of a": ["no answer"]}, bunws=refused(501)),
    "frames in the same packet, after an await": Differs(
        "early-frames",
        bun={**refused(), "a": ["end"]},
        bunws={
            **accepted(),
            "a": [["text", "early"], ["pong", "bird"]],
            "events of a": [["open"], ["message", "early"], ["ping", {"binary": b"bird".hex()}]],
        },
    ),
}


def shakes_hands(name: str, *steps: Step) -> Scenario:
    return Scenario(f"handshake, {name}", [*steps], differs=(DIFFERS[name],) if name in DIFFERS else ())


SCENARIOS: Final = [
    *(shakes_hands(name, Opens("a", changes=changes)) for name, changes in FIELDS.items()),
    *(shakes_hands(name, Opens("a", line=line)) for name, line in LINES.items()),
    shakes_hands("after an await", Opens("a", later=True), Settles("a")),
    shakes_hands("version: 8, after an await", Opens("a", later=True, changes={"Sec-WebSocket-Version": "8"})),
    shakes_hands("no WebSocket at all", Opens("a", request=b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")),
    shakes_hands("garbage", Opens("a", request=b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")),
    shakes_hands("frames in the same packet", Opens("a", tail=FRAMES), Settles("a")),
    shakes_hands("half a frame in the same packet", Opens("a", tail=FRAMES[:3]), Says("a", FRAMES[3:]), Settles("a")),
    shakes_hands("frames in the same packet, after an await", Opens("a", later=True, tail=FRAMES), Settles("a")),
    shakes_hands("a broken frame in the same packet", Opens("a", tail=text("x", mask=None)), Ends("a")),
    shakes_hands("fields of the application", Opens("a", headers={"X-Test": "1", "Set-Cookie": "a=1"})),
    shakes_hands("a field that breaks the line", Opens("a", headers={"X-Test": "1\r\nX-Evil: 1"})),
    *(
        shakes_hands(
            name, Opens("a", headers={"Sec-WebSocket-Protocol": choice}, changes={"Sec-WebSocket-Protocol": "a, b"})
        )
        for name, choice in {"subprotocol: chosen": "b", "subprotocol: chosen, but not offered": "c"}.items()
    ),
]
