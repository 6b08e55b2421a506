"""
Handler: the options and callbacks of `websocket=`, checked once and shared by all sockets.

Rule: what a caller gets wrong is said here, in `serve()`, with the name of the option and the way to mend it; behind
this door nothing is checked again.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from .compress import DeflateOptions, parse_options
from .notice import Notice
from .timeouts import Patience


__all__ = ["Handler", "check_unknown", "whole_number", "seconds", "flag"]

# What a handler returns is ignored, unless it can be awaited.
Callback: TypeAlias = Callable[..., object]

CALLBACKS: Final = ("open", "message", "drain", "close", "error", "ping", "pong")

# Bytes in one message, after inflating. Bun: 16 MiB (serve.d.ts).
MAX_PAYLOAD_LENGTH: Final = 16 * 1024 * 1024
# Bytes queued for one socket before what is sent to it is dropped. Bun: 16 MiB (serve.d.ts).
BACKPRESSURE_LIMIT: Final = 16 * 1024 * 1024
# Topics of one socket. Bun has no limit; a client that may choose its topics could fill the memory with them.
MAX_SUBSCRIPTIONS: Final = 1000
# Seconds of silence before a socket is closed. Bun: 120 (serve.d.ts).
IDLE_TIMEOUT: Final = 120.0

OPTIONS: Final = (
    "max_payload_length",
    "backpressure_limit",
    "close_on_backpressure_limit",
    "max_subscriptions",
    "idle_timeout",
    "send_pings",
    "publish_to_self",
    "per_message_deflate",
)


def _ignore(*_: object) -> None:
    """Stand in for a callback that was not given."""


class Handler:
    """One handler table. `update` gives all sockets that share it another one (`server.reload`)."""

    def __init__(self, table: object) -> None:
        self.open: Callback = _ignore
        self.message: Callback = _ignore
        self.drain: Callback = _ignore
        self.close: Callback = _ignore
        self.error: Callback | None = None
        self.ping: Callback = _ignore
        self.pong: Callback = _ignore

        self.max_payload_length = MAX_PAYLOAD_LENGTH
        self.backpressure_limit = BACKPRESSURE_LIMIT
        self.close_on_backpressure_limit = False
        self.max_subscriptions = MAX_SUBSCRIPTIONS  # 0: any number
        self.idle_timeout = IDLE_TIMEOUT
        self.send_pings = True
        self.publish_to_self = False
        self.per_message_deflate: DeflateOptions | None = None

        self.too_many_topics = Notice("a socket wanted to hear more topics than max_subscriptions allows")
        #: In ticks. Set by the server, which knows how long one is.
        self.patience = Patience(0, 0)

        self._read(table)

    def update(self, other: Handler) -> None:
        """Become `other`, for every socket that shares this table."""
        vars(self).update(vars(other))

    def _read(self, table: object) -> None:
        if isinstance(table, Mapping):
            check_unknown("websocket", table, (*CALLBACKS, *OPTIONS))
            given = {name: table[name] for name in (*CALLBACKS, *OPTIONS) if name in table}
        elif table is None or isinstance(table, str | bytes | int | float | list | tuple | set):
            raise TypeError(
                "websocket must be a mapping of handlers and options, or an object with those attributes, "
                f"got {type(table).__name__}"
            )
        else:
            twins = [name for name in OPTIONS if hasattr(table, _camel_case(name))]
            check_unknown("websocket", map(_camel_case, twins), OPTIONS)
            given = {n: getattr(table, n) for n in (*CALLBACKS, *OPTIONS) if hasattr(table, n)}
            if not given:
                known = ", ".join(CALLBACKS)
                raise TypeError(f"websocket must have some of the attributes {known}; {type(table).__name__} has none")

        for name in CALLBACKS:
            callback = given.get(name)
            if callback is None:
                continue
            if not callable(callback):
                raise TypeError(f"websocket.{name} must be a function, plain or async, got {type(callback).__name__}")
            setattr(self, name, callback)

        for name, check in _CHECKS.items():
            if given.get(name) is not None:  # None is the default, as in Bun
                setattr(self, name, check(f"websocket.{name}", given[name]))
        self.per_message_deflate = parse_options(given.get("per_message_deflate"))


# Checks that every door uses


def check_unknown(owner: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise TypeError for the first name in `given` that is not in `known`, and say which one was meant."""
    known = tuple(known)
    for name in given:
        if name in known:
            continue
        for candidate in known:
            if name == _camel_case(candidate):
                raise TypeError(f"{owner}: {name!r} is spelled {candidate!r} in Python")
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise TypeError(f"{owner}: unknown option {name!r}; {hint}")


def whole_number(name: str, value: object) -> int:
    """A count or a size: an int of at least 0. Raises TypeError or ValueError that names the option."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__}")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value}")
    return value


def seconds(name: str, value: object) -> float:
    """A time in seconds, at least 0. Raises TypeError or ValueError that names the option."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds, got {type(value).__name__}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{name} must be at least 0 and finite, got {value}")
    return float(value)


def flag(name: str, value: object) -> bool:
    """Raises TypeError that names the option when `value` is no bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {type(value).__name__}")
    return value


_CHECKS: Final[dict[str, Callable[[str, object], object]]] = {
    "max_payload_length": whole_number,
    "backpressure_limit": whole_number,
    "close_on_backpressure_limit": flag,
    "max_subscriptions": whole_number,
    "idle_timeout": seconds,
    "send_pings": flag,
    "publish_to_self": flag,
}


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)
