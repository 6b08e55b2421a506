"""
Inbox: the events of one socket that wait while its async handler runs.

Rule: the handlers of one socket run one at a time, in the order of what happened; sockets do not wait for each other.
A socket without a running async handler has no inbox.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Final, Protocol

from .errors import RAISED, is_cancelled
from .handler import Callback


__all__ = ["Inbox", "InboxOwner", "as_awaitable"]

# Past this many events or bytes that wait, the socket is not read any more, so a flood meets TCP.
MAX_EVENTS: Final = 64
MAX_BYTES: Final = 256 * 1024


class InboxOwner(Protocol):
    """The socket whose events these are."""

    def _call(self, callback: Callback, *args: object) -> Awaitable[object] | None:
        """Run one handler; what it returns if that is to be awaited. Raises nothing."""

    def _raised(self, exc: BaseException) -> Awaitable[object] | None:
        """A handler raised; what there is to be awaited now. Raises nothing."""

    def _give_up(self, exc: BaseException) -> None:
        """The error handler raised as well."""

    def _inbox_full(self, full: bool) -> None:
        """Stop reading, or go on."""

    def _inbox_empty(self) -> None:
        """No handler runs and nothing waits: forget the inbox."""


class Inbox:
    """One running handler, and what waits for it."""

    __slots__ = ("_bytes", "_events", "_full", "_last", "_owner")

    def __init__(self, owner: InboxOwner) -> None:
        self._owner = owner
        self._events: deque[tuple[Callback, tuple[object, ...]]] = deque()
        self._last: tuple[Callback, tuple[object, ...]] | None = None
        self._bytes = 0
        self._full = False

    def put(self, callback: Callback, *args: object) -> None:
        """Let `callback` wait its turn."""
        self._events.append((callback, args))
        self._bytes += _size(args)
        if not self._full and (len(self._events) >= MAX_EVENTS or self._bytes >= MAX_BYTES):
            self._full = True
            self._owner._inbox_full(True)

    def put_last(self, callback: Callback, *args: object) -> None:
        """The same for the event behind which there is none: `close`."""
        self._last = (callback, args)

    async def run(self, running: Awaitable[object] | None) -> None:
        """Finish the running handler, then all that wait."""
        try:
            await self._finish(running)
            while self._events:
                callback, args = self._events.popleft()
                self._bytes -= _size(args)
                self._read_again()
                await self._finish(self._owner._call(callback, *args))
        finally:
            # If the server has stopped and waited long enough, what waits is lost; but `close` is always told.
            self._events.clear()
            while (last := self._last) is not None:
                self._last = None
                await self._finish(self._owner._call(last[0], *last[1]))
            self._owner._inbox_empty()

    async def _finish(self, running: Awaitable[object] | None) -> None:
        if running is None:
            return
        try:
            await running
        except RAISED as exc:
            if is_cancelled(exc):
                raise
            handling = self._owner._raised(exc)
            if handling is not None:
                try:
                    await handling
                except RAISED as second:
                    if is_cancelled(second):
                        raise
                    self._owner._give_up(second)

    def _read_again(self) -> None:
        if self._full and len(self._events) < MAX_EVENTS // 2 and self._bytes < MAX_BYTES // 2:
            self._full = False
            self._owner._inbox_full(False)


def as_awaitable(result: object) -> Awaitable[object] | None:
    """What a handler returned, if it is to be awaited; a plain handler may return anything else."""
    if isinstance(result, Coroutine):
        return result
    return result if inspect.isawaitable(result) else None


def _size(args: tuple[object, ...]) -> int:
    message = args[-1] if args else None
    return len(message) if isinstance(message, str | bytes) else 0
