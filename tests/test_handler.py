"""Handler: one table for all sockets. Wrong options are in test_serve_options.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType, SimpleNamespace

import pytest

from bunws.compress import DeflateOptions
from bunws.handler import CALLBACKS, OPTIONS, Handler, check_unknown


TABLE = {
    "open": lambda ws: "open",
    "message": lambda ws, message: "message",
    "max_payload_length": 5,
    "idle_timeout": 7,
    "send_pings": False,
    "per_message_deflate": True,
}


class Bag(Mapping[str, object]):
    """A mapping that is no dict, and has attributes of its own."""

    def __getitem__(self, name: str) -> object:
        return TABLE[name]

    def __iter__(self) -> Iterator[str]:
        return iter(TABLE)

    def __len__(self) -> int:
        return len(TABLE)

    def open(self) -> str:
        return "the file"


@pytest.mark.parametrize(
    "table",
    [TABLE, MappingProxyType(TABLE), Bag(), SimpleNamespace(**TABLE)],
    ids=["dict", "proxy", "Mapping", "object"],
)
def test_a_table_is_a_mapping_or_an_object(table: object) -> None:
    handler = Handler(table)
    assert handler.open(None) == "open"
    assert handler.message(None, "") == "message"
    assert (handler.max_payload_length, handler.idle_timeout, handler.send_pings) == (5, 7.0, False)
    assert handler.per_message_deflate == DeflateOptions("shared", "shared")


def test_what_is_not_given_is_buns_default_but_for_the_number_of_topics() -> None:
    handler = Handler({})
    assert {name: getattr(handler, name) for name in OPTIONS} == {
        "max_payload_length": 16 * 1024 * 1024,
        "backpressure_limit": 16 * 1024 * 1024,
        "close_on_backpressure_limit": False,
        "max_subscriptions": 1000,
        "idle_timeout": 120.0,
        "send_pings": True,
        "publish_to_self": False,
        "per_message_deflate": None,
    }


def test_a_callback_that_is_not_given_does_nothing() -> None:
    handler = Handler({"message": None})
    for name in set(CALLBACKS) - {"error"}:
        assert getattr(handler, name)(None, None, None) is None
    assert handler.error is None


def test_a_table_is_read_once() -> None:
    table = dict(TABLE)
    handler = Handler(table)
    table["max_payload_length"] = 6
    assert handler.max_payload_length == 5


def test_update_takes_the_whole_other_table_its_defaults_included() -> None:
    handler, other = Handler(TABLE), Handler({"message": lambda ws, message: "other"})
    handler.update(other)
    assert vars(handler) == vars(other)


def test_a_name_that_is_known_is_not_complained_about() -> None:
    check_unknown("it", ["a", "b"], ["b", "a"])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("maxSize", "it: 'maxSize' is spelled 'max_size' in Python"),
        ("max_sise", r"it: unknown option 'max_sise'; did you mean 'max_size'\?"),
        ("zzz", "it: unknown option 'zzz'; known are max_size, name"),
    ],
)
def test_a_name_that_is_unknown_is_answered_with_the_right_one(name: str, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        check_unknown("it", ["name", name], ["max_size", "name"])
