"""Topics: who hears what, in which order, and what the calls return."""

from __future__ import annotations

from typing import Final

from tests.against_bun.play import Differs, Does, Opens, Says, Scenario, Settles, Waits
from tests.clients import text


__all__ = ["SCENARIOS"]

A, B, C = Opens("a"), Opens("b"), Opens("c")
ALL: Final = [Settles("a"), Settles("b"), Settles("c")]


def subscribed(topics: str, *clients: str) -> Does:
    """Each of the clients hears each of the topics, which are letters."""
    return Does([[client, "subscribe", topic] for client in clients for topic in topics])


LARGE: Final = {"text": "L", "times": 20_000}

SCENARIOS: Final = [
    Scenario(
        "subscribe and unsubscribe",
        [
            A,
            Does(
                [
                    ["a", "subscribe", "x"],
                    ["a", "subscribe", "x"],
                    ["a", "subscribe", "y"],
                    ["a", "subscribe", "日本/✓ *#+"],
                    ["a", "subscribe", ""],
                    ["a", "subscribe", None],
                    ["a", "isSubscribed", "x"],
                    ["a", "isSubscribed", "z"],
                    ["a", "get", "subscriptions"],
                    ["server", "subscriberCount", "x"],
                    ["server", "subscriberCount", "z"],
                    ["a", "unsubscribe", "x"],
                    ["a", "unsubscribe", "x"],
                    ["a", "unsubscribe", "z"],
                    ["a", "isSubscribed", "x"],
                    ["server", "subscriberCount", "x"],
                    ["a", "get", "subscriptions"],
                    ["a", "unsubscribe", "y"],
                    ["a", "unsubscribe", "日本/✓ *#+"],
                    ["a", "get", "subscriptions"],
                ]
            ),
        ],
    ),
    Scenario(
        "counts of several",
        [
            A,
            B,
            C,
            subscribed("x", "a", "b", "c"),
            subscribed("y", "b"),
            Does([["server", "subscriberCount", topic] for topic in "xyz"]),
        ],
    ),
    Scenario(
        "publish leaves out its sender",
        [
            A,
            B,
            C,
            subscribed("x", "a", "b"),
            Does([["a", "publish", "x", "1"], ["server", "publish", "x", "22"]]),
            *ALL,
        ],
    ),
    Scenario(
        "publish includes its sender, if told so",
        [A, B, subscribed("x", "a", "b"), Does([["a", "publish", "x", "1"]]), Settles("a"), Settles("b")],
        {"publishToSelf": True},
    ),
    Scenario(
        "publish by one that does not listen",
        [A, B, subscribed("x", "b"), Does([["a", "publish", "x", "1"]]), *ALL[:2]],
    ),
    Scenario(
        "publish that nobody hears",
        [
            A,
            subscribed("x", "a"),
            Does([["a", "publish", "x", "1"], ["a", "publish", "y", "1"], ["server", "publish", "y", "1"]]),
            Settles("a"),
        ],
    ),
    Scenario(
        "publish of every kind",
        [
            A,
            B,
            subscribed("x", "b"),
            Does(
                [
                    ["a", "publish", "x", "text"],
                    ["a", "publish", "x", ""],
                    ["a", "publish", "x", {"binary": "00ff"}],
                    ["a", "publishText", "x", "é"],
                    ["a", "publishBinary", "x", {"binary": "00"}],
                    ["a", "publishText", "x", {"binary": "00"}],
                    ["a", "publishBinary", "x", "text"],
                    ["a", "publish", "x", LARGE],
                    ["server", "publish", "x", {"binary": "00", "times": 16_384}],
                    ["server", "publish", "x", ""],
                    ["a", "publish", "", "x"],
                    ["a", "publishBinary", "", {"binary": "00"}],
                    ["server", "publish", "", "x"],
                ]
            ),
            *ALL[:2],
        ],
    ),
    Scenario(
        "publishText to the empty topic",
        [A, Does([["a", "publishText", "", "x"]])],
        differs=(Differs("empty-topic", bun={"calls": [0]}, bunws={"calls": ["raised"]}),),
    ),
    Scenario(
        "order among topics, sends and senders",
        [
            A,
            B,
            C,
            subscribed("xyz", "a", "b"),
            subscribed("y", "c"),
            Does(
                [
                    ["a", "publish", "x", "1"],
                    ["b", "send", "2"],
                    ["b", "publish", "y", "3"],
                    ["server", "publish", "z", "4"],
                    ["a", "send", "5"],
                    ["a", "publish", "y", LARGE],
                    ["c", "publish", "x", "6"],
                    ["c", "publish", "y", "7"],
                    ["b", "ping", "8"],
                    ["server", "publish", "x", {"binary": "09"}],
                    ["a", "publish", "z", ""],
                    ["server", "publish", "y", "10"],
                ]
            ),
            *ALL,
        ],
    ),
    Scenario(
        "order of many",
        [
            A,
            B,
            C,
            subscribed("xy", "a", "b", "c"),
            Does([["abc"[n % 3], "publish", "xy"[n % 2], str(n)] for n in range(200)] + [["c", "send", "last"]]),
            *ALL,
        ],
    ),
    Scenario(
        "unsubscribe and subscribe between messages of a turn",
        [
            A,
            subscribed("x", "a"),
            Does(
                [
                    ["server", "publish", "x", "1"],
                    ["a", "unsubscribe", "x"],
                    ["server", "publish", "x", "2"],
                    ["a", "subscribe", "x"],
                    ["server", "publish", "x", "3"],
                ]
            ),
            Settles("a"),
        ],
    ),
    Scenario(
        "the same message on two topics comes twice",
        [A, subscribed("xy", "a"), Does([["server", "publish", topic, "m"] for topic in "xy"]), Settles("a")],
    ),
    Scenario(
        "topics are equal or not, without patterns",
        [
            A,
            Does([["a", "subscribe", topic] for topic in ("x/#", "x/+", "*", "x")]),
            Does([["server", "publish", topic, topic] for topic in ("x/y", "X", "x ", "*", "x")]),
            Settles("a"),
        ],
    ),
    Scenario(
        "publish from open and message",
        [
            Opens("b", on={"open": [["me", "subscribe", "x"]]}),
            Opens(
                "a",
                mode="silent",
                on={
                    "open": [["me", "subscribe", "x"], ["me", "publish", "x", "a has come"], ["me", "send", "hello"]],
                    "message": [["me", "publish", "x", "a speaks"], ["server", "publish", "x", "hear a"]],
                },
            ),
            Says("a", text("m") + text("n")),
            Settles("a"),
            Settles("b"),
        ],
    ),
    Scenario(
        "a socket that closes hears what was published before",
        [
            A,
            B,
            subscribed("x", "a", "b"),
            Does(
                [
                    ["server", "publish", "x", "1"],
                    ["a", "close", 4000, "bye"],
                    ["server", "publish", "x", "2"],
                    ["server", "subscriberCount", "x"],
                ]
            ),
            Settles("b"),
            Waits("a", "close"),
        ],
    ),
]
