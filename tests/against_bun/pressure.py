"""Pressure: peers that do not read, and what the calls return then."""

from __future__ import annotations

from typing import Any, Final

from tests.against_bun.play import Differs, Does, Drains, HearsAccepted, Opens, Says, Scenario, Settles, Waits
from tests.clients import ping, text


__all__ = ["SCENARIOS"]

KIB: Final = 1024
LIMIT: Final = {"backpressureLimit": 64 * KIB}
MANY: Final = 20_000  # calls; the kernel takes a few megabytes before anything waits

SLOW: Final = Opens("slow", receive_buffer=4 * KIB)
LARGE: Final = {"text": "x", "times": 60_000}
SMALL: Final = {"text": "x", "times": 1000}


AGAIN: Final = [["text", "again"], ["text", "again"]]
BATCHED: Final = Differs(
    "publish-codes",
    bun={"slow": ["not all that was accepted", *AGAIN]},
    bunws={"slow": ["all that was accepted", *AGAIN]},
)


def until_dropped(*what: Any, times: int = MANY) -> Does:
    return Does([["server", "repeat", times, list(what)]])


SCENARIOS: Final = [
    *(
        Scenario(
            f"backpressure, {method}, {name}",
            [
                SLOW,
                Does([["slow", "subscribe", "x"]]),
                until_dropped(*call),
                Does([["slow", "send", ""], ["slow", "send", "x"], ["slow", "ping", "x"], ["slow", "pong", "x"]]),
                Does([["server", "publish", "x", "x"], ["slow", "get", "readyState"]]),
                HearsAccepted("slow"),
                Does([["slow", "getBufferedAmount"], ["slow", "send", "again"], ["server", "publish", "x", "again"]]),
                Settles("slow"),
            ],
            LIMIT,
            differs=(BATCHED,) if (method, name) == ("publish", "small") else (),
        )
        for method, call, name in [
            ("send", ("slow", "send", LARGE), "large"),
            ("send", ("slow", "send", SMALL), "small"),
            ("publish", ("server", "publish", "x", LARGE), "large"),
            ("publish", ("server", "publish", "x", SMALL), "small"),
        ]
    ),
    Scenario(
        "backpressure, without a limit nothing is dropped",
        [SLOW, until_dropped("slow", "send", LARGE, times=200), HearsAccepted("slow")],
        {"backpressureLimit": 0},
    ),
    Scenario(
        "backpressure, drain",
        [SLOW, until_dropped("slow", "send", LARGE, times=200), HearsAccepted("slow"), Drains("slow")],
        differs=(Differs("drain", bun={"drains of slow": [False, True]}, bunws={"drains of slow": [True]}),),
    ),
    Scenario(
        "backpressure, one slow listener among others",
        [
            SLOW,
            Opens("fast"),
            Opens("deaf"),
            Does([["slow", "subscribe", "x"], ["fast", "subscribe", "x"]]),
            until_dropped("slow", "send", LARGE),
            Does(
                [
                    ["deaf", "publish", "x", "to all"],
                    ["fast", "publish", "x", "to slow"],
                    ["slow", "publish", "x", "to fast"],
                ]
            ),
            Settles("fast"),
        ],
        LIMIT,
    ),
    Scenario(
        "backpressure, behind but under the limit",
        [
            SLOW,
            Opens("fast"),
            Does([["slow", "subscribe", "x"], ["fast", "subscribe", "x"]]),
            until_dropped("slow", "send", LARGE, times=200),
            Does(
                [
                    ["fast", "publish", "x", "to slow"],
                    ["server", "publish", "x", "to all"],
                    ["slow", "publish", "x", "to fast"],
                ]
            ),
            Settles("fast"),
        ],
    ),
    Scenario(
        "backpressure, Close is never dropped",
        [SLOW, until_dropped("slow", "send", LARGE), Does([["slow", "close", 4000, "enough"]]), Waits("slow", "close")],
        LIMIT,
    ),
    Scenario(
        "backpressure, closed when over the limit",
        [
            SLOW,
            Does([["slow", "subscribe", "x"]]),
            until_dropped("slow", "send", LARGE),
            Waits("slow", "close"),
            Does([["slow", "get", "readyState"], ["server", "subscriberCount", "x"]]),
        ],
        {**LIMIT, "closeOnBackpressureLimit": True},
    ),
    Scenario(
        "backpressure, closed by a publish over the limit",
        [
            SLOW,
            Does([["slow", "subscribe", "x"]]),
            until_dropped("server", "publish", "x", LARGE),
            Waits("slow", "close"),
            Does([["slow", "get", "readyState"], ["server", "subscriberCount", "x"]]),
        ],
        {**LIMIT, "closeOnBackpressureLimit": True},
    ),
    Scenario(
        "pause and resume",
        [
            Opens("a", on={"message": [["me", "pause"], ["me", "get", "isPaused"]]}),
            Says("a", text("1")),
            Waits("a", "message"),
            Says("a", text("2") + ping(b"3")),
            Does([["a", "send", "still"], ["a", "get", "isPaused"]]),
            Does([["a", "resume"], ["a", "get", "isPaused"]]),
            Waits("a", "message", 2),
            Does([["a", "resume"]]),
            Settles("a"),
        ],
    ),
    Scenario(
        "async handlers of one socket",
        [
            Opens("a", mode="slowly"),
            Says("a", text("1") + text("2")),
            Settles("a"),
            Does([["a", "release"]]),
            Waits("a", "done", 2),
        ],
        differs=(
            Differs(
                "async-handlers",
                bun={"events of a": [["open"], ["begun", "1"], ["begun", "2"], ["done", "1"], ["done", "2"]]},
                bunws={"events of a": [["open"], ["begun", "1"], ["done", "1"], ["begun", "2"], ["done", "2"]]},
            ),
        ),
    ),
]
