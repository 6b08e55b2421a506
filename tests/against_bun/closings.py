"""Closings: every way in which a WebSocket ends, and what its `close` handler is told."""

from __future__ import annotations

from typing import Any, Final

from tests.against_bun.play import (
    Answer,
    Differs,
    Does,
    Ends,
    HalfCloses,
    Opens,
    Resets,
    Says,
    Scenario,
    Settles,
    Step,
    Waits,
)
from tests.clients import close, cont, ping, text


__all__ = ["SCENARIOS"]

A: Final = Opens("a")
LONGEST: Final = "é" * 61 + "x"  # bytes of reason: 123

# What a closed socket answers.
AFTERWARDS: Final[list[list[Any]]] = [
    ["a", "get", "readyState"],
    ["a", "send", "x"],
    ["a", "ping"],
    ["a", "pong"],
    ["a", "getBufferedAmount"],
    ["a", "subscribe", "t"],
    ["a", "unsubscribe", "t"],
    ["a", "get", "isPaused"],
    ["a", "pause"],
    ["a", "resume"],
    ["a", "get", "isPaused"],
    ["a", "close"],
    ["a", "terminate"],
    ["server", "subscriberCount", "t"],
]

# What a socket answers inside its `close` handler.
INSIDE: Final[list[list[Any]]] = [
    ["me", "get", "readyState"],
    ["me", "send", "x"],
    ["server", "subscriberCount", "t"],
    ["me", "publish", "t", "from me"],
    ["server", "publish", "t", "from the server"],
    ["me", "subscribe", "t"],
    ["me", "close"],
]

# How a socket ends.
ENDS: Final[dict[str, list[Step]]] = {
    "closed by the client": [Says("a", close(1000)), Ends("a")],
    "closed by the server": [Does([["a", "close"]]), Ends("a")],
    "terminated": [Does([["a", "terminate"]]), Ends("a")],
    "gone": [Resets("a")],
    "failed": [Says("a", text("x", mask=None)), Ends("a")],
}


# What is answered


def forbidden(frame: list[Any], code: int, reason: str = "bye") -> tuple[Differs]:
    """What Bun makes of a code or a reason that may not be sent, and that bunws raises; then it is terminated."""
    bun: Answer = {"a": [frame, "end"], "calls": [None, None], "events of a": [["open"], ["close", code, reason]]}
    bunws: Answer = {"a": ["end"], "calls": ["raised", None], "events of a": [["open"], ["close", 1006, ""]]}
    return (Differs("close-codes", bun, bunws),)


SCENARIOS: Final = [
    # The client says Close
    *(
        Scenario(f"close by the client, {code}", [A, Says("a", close(code, "bye")), Ends("a")])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
    ),
    Scenario("close by the client, empty", [A, Says("a", close()), Ends("a")]),
    Scenario("close by the client, no reason", [A, Says("a", close(1000)), Ends("a")]),
    Scenario(
        "close by the client, 123 bytes of reason",
        [A, Says("a", close(1000, LONGEST)), Ends("a")],
    ),
    Scenario("close by the client, twice in one packet", [A, Says("a", close(1000) + close(1001)), Ends("a")]),
    Scenario("close by the client, frames behind it", [A, Says("a", close(1000) + text("x") + ping()), Ends("a")]),
    Scenario("close by the client, a message before it", [A, Says("a", text("x") + close(1000)), Ends("a")]),
    Scenario(
        "close by the client, inside a message",
        [A, Says("a", text("x", fin=False) + close(1000) + cont("y")), Ends("a")],
    ),
    # The client just goes
    Scenario("gone, FIN", [A, HalfCloses("a"), Ends("a")]),
    Scenario("gone, FIN behind a message", [A, Says("a", text("x")), HalfCloses("a"), Ends("a")]),
    Scenario("gone, FIN within a frame", [A, Says("a", text("xyz")[:7]), HalfCloses("a"), Ends("a")]),
    Scenario("gone, FIN within a message", [A, Says("a", text("x", fin=False)), HalfCloses("a"), Ends("a")]),
    Scenario("gone, RST", [A, Resets("a")]),
    # The server says Close
    *(
        Scenario(f"close by the server, {code}", [A, Does([["a", "close", code, "bye"]]), Ends("a")])
        for code in (1000, 1001, 1002, 1003, 1007, 1011, 1014, 3000, 4000, 4999)
    ),
    Scenario("close by the server, no arguments", [A, Does([["a", "close"]]), Ends("a")]),
    Scenario("close by the server, 123 bytes of reason", [A, Does([["a", "close", 1000, LONGEST]]), Ends("a")]),
    Scenario("close by the server, twice", [A, Does([["a", "close", 4000], ["a", "close", 4001]]), Ends("a")]),
    Scenario(
        "close by the server, behind messages",
        [A, Does([["a", "send", "1"], ["a", "send", "2"], ["a", "close"], ["a", "send", "3"]]), Ends("a")],
    ),
    Scenario(
        "close by the server, in open",
        [Opens("a", on={"open": [["me", "send", "x"], ["me", "close", 4000]]}), Ends("a")],
    ),
    Scenario(
        "close by the server, in message",
        [Opens("a", on={"message": [["me", "close", 4000, "you"]]}), Says("a", text("1") + text("2")), Ends("a")],
    ),
    Scenario(
        "close by the server, in ping", [Opens("a", on={"ping": [["me", "close", 4000]]}), Says("a", ping()), Ends("a")]
    ),
    *(
        Scenario(
            f"close by the server, {code}",
            [A, Does([["a", "close", code, "bye"]]), Does([["a", "terminate"]]), Ends("a")],
            differs=forbidden(["close", code, "bye"], code),
        )
        for code in (999, 1004, 1015, 2999, 5000)
    ),
    *(
        Scenario(
            f"close by the server, {code}",
            [A, Does([["a", "close", code, "bye"]]), Does([["a", "terminate"]]), Ends("a")],
            differs=forbidden(["close"], code),
        )
        for code in (0, 1005, 1006, 65_536)
    ),
    Scenario(
        "close by the server, a reason that is too long",
        [A, Does([["a", "close", 1000, "é" * 100]]), Does([["a", "terminate"]]), Ends("a")],
        differs=forbidden(["close", 1000, "é" * 61], 1000, "é" * 61),
    ),
    # The server drops
    Scenario("terminate", [A, Does([["a", "terminate"]]), Ends("a")]),
    Scenario("terminate, behind a message", [A, Does([["a", "send", "before"], ["a", "terminate"]]), Ends("a")]),
    Scenario(
        "terminate, in message", [Opens("a", on={"message": [["me", "terminate"]]}), Says("a", text("1")), Ends("a")]
    ),
    Scenario("terminate, in open", [Opens("a", on={"open": [["me", "terminate"]]}), Ends("a")]),
    # What is left of it
    Scenario("afterwards", [A, Does([["a", "subscribe", "t"], ["a", "close"]]), Ends("a"), Does(AFTERWARDS)]),
    Scenario("afterwards, of one that was terminated", [A, Does([["a", "terminate"]]), Ends("a"), Does(AFTERWARDS)]),
    Scenario("afterwards, of one that is gone", [A, Resets("a"), Does(AFTERWARDS)]),
    Scenario(
        "afterwards, the address",
        [A, Does([["a", "close"]]), Ends("a"), Does([["a", "get", "remoteAddress"]])],
        differs=(Differs("address", bun={"calls": [None, None]}, bunws={"calls": [None, "127.0.0.1"]}),),
    ),
    *(
        Scenario(
            f"inside the close handler, {name}",
            [
                Opens("a", on={"open": [["me", "subscribe", "t"]], "close": INSIDE}),
                Opens("b", on={"open": [["me", "subscribe", "t"]]}),
                *steps,
                Waits("a", "close"),
                Settles("b"),
            ],
        )
        for name, steps in ENDS.items()
    ),
    Scenario(
        "topics inside the close handler",
        [
            Opens(
                "a",
                on={
                    "open": [["me", "subscribe", "t"]],
                    "close": [["me", "get", "subscriptions"], ["me", "isSubscribed", "t"]],
                },
            ),
            Says("a", close(1000)),
            Ends("a"),
            Does([["a", "get", "subscriptions"], ["a", "isSubscribed", "t"]]),
        ],
        differs=(
            Differs(
                "topics-in-close",
                bun={"calls": [[], False], "events of a": [["open", [True]], ["close", 1000, "", [[], False]]]},
                bunws={"calls": [["t"], True], "events of a": [["open", [True]], ["close", 1000, "", [["t"], True]]]},
            ),
        ),
    ),
    # The server stops
    Scenario(
        "stop(true)",
        [A, Opens("b"), Does([["server", "stop", True]]), Ends("a", answers=False), Ends("b", answers=False)],
        own=True,
    ),
    Scenario(
        "stop",
        # One more turn: bunws stops in the next one.
        [A, Does([["server", "stop"]]), Does([]), Says("a", text("still here?") + close(1000)), Ends("a")],
        own=True,
        differs=(
            Differs(
                "stop",
                bun={
                    "a": [["text", "still here?"], ["close", 1000, ""], "end"],
                    "events of a": [["open"], ["message", "still here?"], ["close", 1000, ""]],
                },
                bunws={
                    "a": [["close", 1001, "Server closed"], "end"],
                    "events of a": [["open"], ["close", 1001, "Server closed"]],
                },
            ),
        ),
    ),
    # Handlers that raise
    *(
        Scenario(
            f"error, in {handler}",
            [Opens("a", on={handler: [["throw", "throw"]]}), *steps],
        )
        for handler, steps in {
            "message": [Says("a", text("1")), Settles("a")],
            "ping": [Says("a", ping(b"x")), Settles("a")],
            "close": [Says("a", close(4000)), Ends("a")],
        }.items()
    ),
    Scenario(
        "error, in open",
        [Opens("a", on={"open": [["throw", "throw"]]}), Waits("a", "error"), Settles("a")],
        differs=(
            Differs(
                "open-raises",
                bun={"a": ["end"], "events of a": [["open"], ["close", 1006, ""], ["error", "as told"]]},
                bunws={"events of a": [["open"], ["error", "as told"]]},
            ),
        ),
    ),
    Scenario(
        "error, without an error handler",
        [Opens("a", on={"message": [["throw", "throw"]]}), Says("a", text("1") + ping(b"2") + close(1000)), Ends("a")],
        {"error": False},
        differs=(
            Differs(
                "no-error-handler",
                bun={
                    "a": [["text", "1"], ["pong", "2"], ["close", 1000, ""], "end"],
                    "events of a": [["open"], ["message", "1"], ["ping", {"binary": b"2".hex()}], ["close", 1000, ""]],
                },
                bunws={
                    "a": [["text", "1"], ["close", 1011, ""], "end"],
                    "events of a": [["open"], ["message", "1"], ["close", 1011, ""]],
                },
            ),
        ),
    ),
]
