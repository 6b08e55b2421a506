"""Messages: echoes, fragments, pings, and every way to break RFC 6455."""

from __future__ import annotations

from typing import Final

from tests.against_bun.play import Answer, Differs, Does, Ends, Opens, Says, Scenario, Settles, Step
from tests.clients import binary, close, cont, frame, ping, pong, text


__all__ = ["SCENARIOS"]

# What is echoed; the answers to all of it are compared.
ECHOES: Final = {
    "text": text("hello"),
    "text beyond ASCII": text("héllo ✓ 😀"),
    "text of a NUL": text("\0"),
    "empty text": text(""),
    "binary": binary(b"\0\xff\x80"),
    "empty binary": binary(b""),
    "125 bytes": text("a" * 125),
    "126 bytes": text("a" * 126),
    "65,535 bytes": binary(b"a" * 65_535),
    "65,536 bytes": binary(b"a" * 65_536),
    "1 MiB": binary(b"0123456789abcdef" * 65_536),
    "many in one packet": text("a") * 100 + binary(b"b") * 100 + text("c" * 200) * 10,
    "a mask of zeros": text("hello", mask=bytes(4)),
    "a length in more bytes than are needed, 16 bits": text("hello", size_bytes=2),
    "a length in more bytes than are needed, 64 bits": text("hello", size_bytes=8),
    # Fragments, RFC 6455, 5.4
    "two fragments": text("he", fin=False) + cont("llo"),
    "many fragments": text("", fin=False) + cont("ab", fin=False) * 100 + cont(""),
    "fragments that are all empty": text("", fin=False) + cont("", fin=False) + cont(""),
    "binary fragments": binary(b"\xff", fin=False) + cont(b"\xfe"),
    "fragments that cut a character": text(b"\xf0\x9f", fin=False) + cont(b"\x98\x80"),
    "a ping between fragments": text("he", fin=False) + ping(b"mid") + cont("llo"),
    "a pong between fragments": text("he", fin=False) + pong(b"mid") + cont("llo"),
    # Control frames, RFC 6455, 5.5
    "ping": ping(b"there?"),
    "empty ping": ping(),
    "ping of 125 bytes": ping(b"p" * 125),
    "ten pings": b"".join(ping(bytes((number,))) for number in range(10)),
    "pong that nobody asked for": pong(b"here"),
    "empty pong": pong(),
    "ping that is no UTF-8": ping(b"\xff\xfe"),
}

# What breaks the protocol. Before it comes a good message, whose answer is not to be lost.
VIOLATIONS: Final = {
    "unmasked text": text("x", mask=None),
    "unmasked empty text": text("", mask=None),
    "unmasked ping": ping(b"x", mask=None),
    "unmasked close": close(1000, mask=None),
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "reserved opcode without payload": frame(3),
    "RSV1 on text": text("x", rsv=4),
    "RSV1 on ping": ping(b"x", rsv=4),
    "RSV1 on pong": pong(b"x", rsv=4),
    "RSV1 on close": close(1000, rsv=4),
    "RSV1 on continuation": text("x", fin=False) + cont("y", rsv=4),
    "RSV2 on text": text("x", rsv=2),
    "RSV2 on ping": ping(b"x", rsv=2),
    "RSV3 on text": text("x", rsv=1),
    "RSV3 on close": close(1000, rsv=1),
    "all RSV": text("x", rsv=7),
    "fragmented ping": ping(b"x", fin=False),
    "fragmented pong": pong(b"x", fin=False),
    "fragmented close": close(1000, fin=False),
    "ping of 126 bytes": ping(b"p" * 126),
    "pong of 126 bytes": pong(b"p" * 126),
    "close of 126 bytes": close(1000, "x" * 124),
    "ping of 70,000 bytes": ping(b"p" * 70_000),
    "continuation of nothing": cont("x"),
    "unfinished continuation of nothing": cont("x", fin=False),
    "continuation behind a finished message": text("x", fin=False) + cont("y") + cont("z"),
    "text inside a text": text("x", fin=False) + text("y"),
    "binary inside a text": text("x", fin=False) + binary(b"y"),
    "unfinished text inside a text": text("x", fin=False) + text("y", fin=False),
    "text that is no UTF-8": text(b"\xff"),
    "text that ends within a character": text(b"a\xf0\x9f"),
    "text with a surrogate": text(b"\xed\xa0\x80"),
    "text overlong": text(b"\xc0\xaf"),
    "text beyond Unicode": text(b"\xf4\x90\x80\x80"),
    "fragments that are no UTF-8": text(b"\xff", fin=False) + cont("x"),
    "fragments that end within a character": text(b"\xf0\x9f", fin=False) + cont(b"\x98"),
    "length with the highest bit": text("x", size=1 << 63, size_bytes=8),
    "length of 2^63 - 1": text("x", size=(1 << 63) - 1, size_bytes=8),
    "length beyond the limit": text("x", size=(1 << 24) + 1, size_bytes=8),
    "close of one byte": frame(8, b"\x03"),
    "close with a reason that is no UTF-8": close(1000, b"\xff"),
    **{
        f"close {code}": close(code, "x")
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
}

# With a limit of ten bytes.
LIMITED: Final = {
    "as long as the limit": text("0123456789"),
    "one byte beyond the limit": text("0123456789a"),
    "binary beyond the limit": binary(b"0123456789a"),
    "beyond the limit before the payload has come": text("", size=11),
    "fragments as long as the limit": text("01234", fin=False) + cont("56789"),
    "fragments beyond the limit": text("01234", fin=False) + cont("567890"),
    "unfinished fragments beyond the limit": text("01234", fin=False) + cont("567890", fin=False),
    "ping beyond the limit of messages": ping(b"0123456789a"),
    "close beyond the limit of messages": close(1000, "0123456789a"),
}

A: Final = Opens("a")


# What is answered


def failed(code: int, phrase: str, *before: str) -> Answer:
    """The messages before the fault are echoed, and it is named to both sides."""
    return {
        "a": [*(["text", message] for message in before), ["close", code, phrase], "end"],
        "events of a": [["open"], *(["message", message] for message in before), ["close", 1006, phrase]],
    }


TOO_LONG: Final = Differs(
    "minimal-length",
    bun={"a": [["text", "hello"]], "events of a": [["open"], ["message", "hello"]]},
    bunws=failed(1002, "Received invalid payload length"),
)

DIFFERS: Final = {
    "a length in more bytes than are needed, 16 bits": TOO_LONG,
    "a length in more bytes than are needed, 64 bits": TOO_LONG,
    "length with the highest bit": Differs(
        "length-bit",
        bun=failed(1009, "Received too big message", "fine"),
        bunws=failed(1002, "Received invalid payload length", "fine"),
    ),
    "all RSV": Differs(
        "first-fault",
        bun=failed(1002, "Received unexpected RSV1 bit", "fine"),
        bunws=failed(1002, "Received unexpected RSV2 or RSV3 bit", "fine"),
    ),
}


def differs(name: str) -> tuple[Differs, ...]:
    return (DIFFERS[name],) if name in DIFFERS else ()


def ends_or_settles(name: str, data: bytes) -> list[Step]:
    """Some of the limited ones are fine."""
    fine = "as long as" in name or "ping" in name
    return [A, Says("a", text("fine") + data), Settles("a") if fine else Ends("a")]


SCENARIOS: Final = [
    *(
        Scenario(f"echo, {name}", [A, Says("a", data), Settles("a")], differs=differs(name))
        for name, data in ECHOES.items()
    ),
    Scenario(
        "echo, 16 MiB, the most that is taken",
        [A, Says("a", binary(b"0123456789abcdef" * (1 << 20))), Settles("a")],
    ),
    *(
        Scenario(f"violation, {name}", [A, Says("a", text("fine") + data), Ends("a")], differs=differs(name))
        for name, data in VIOLATIONS.items()
    ),
    Scenario(
        "violation, good frames behind it",
        [A, Says("a", text("fine") + text("x", mask=None) + text("lost")), Ends("a")],
    ),
    *(
        Scenario(f"limit, {name}", ends_or_settles(name, data), {"maxPayloadLength": 10}, differs=differs(name))
        for name, data in LIMITED.items()
    ),
    Scenario("limit, 0 takes the empty message", [A, Says("a", text("")), Settles("a")], {"maxPayloadLength": 0}),
    Scenario("limit, 0 takes no other", [A, Says("a", text("x")), Ends("a")], {"maxPayloadLength": 0}),
    Scenario(
        "ping, from the server",
        [
            A,
            Does(
                [
                    ["a", "ping"],
                    ["a", "ping", "text"],
                    ["a", "ping", {"binary": "00ff"}],
                    ["a", "ping", {"text": "p", "times": 125}],
                    ["a", "ping", {"text": "p", "times": 126}],
                    ["a", "pong"],
                    ["a", "pong", "text"],
                    ["a", "pong", {"binary": "70", "times": 126}],
                ]
            ),
            Settles("a"),
        ],
    ),
    Scenario(
        "send, every kind",
        [
            A,
            Does(
                [
                    ["a", "send", "text"],
                    ["a", "send", ""],
                    ["a", "send", "é"],
                    ["a", "send", {"binary": "00ff"}],
                    ["a", "send", {"binary": ""}],
                    ["a", "sendText", "text"],
                    ["a", "sendText", {"binary": "00"}],
                    ["a", "sendBinary", {"binary": "00"}],
                    ["a", "sendBinary", "text"],
                    ["a", "send", None],
                    ["a", "send", {"text": "x", "times": 100_000}],
                ]
            ),
            Settles("a"),
        ],
    ),
    Scenario(
        "send, a number",
        [A, Does([["a", "send", 5]]), Settles("a")],
        differs=(Differs("message-types", bun={"a": [["text", "5"]], "calls": [1]}, bunws={"calls": ["raised"]}),),
    ),
]
