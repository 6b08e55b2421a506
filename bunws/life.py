"""
Life: one server from listening to closed.

Rule 1: everything of a server happens in one thread, that of its event loop; `call` brings others there.
Rule 2: whatever ends it (`stop`, a signal, the end of its thread), it has closed exactly once, and who waits is told.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, Final, TypeVar

from . import signals
from .frames import CloseCode
from .guests import GuestLimits, Guests
from .listener import Listener
from .thread import LoopThread
from .worker import Worker


__all__ = ["Life", "STOP_TIMEOUT"]

T = TypeVar("T")

# Seconds that `stop()` waits for answers and closing handshakes before it drops what is left.
STOP_TIMEOUT: Final = 10.0

logger = logging.getLogger("bunws")


class Life:
    """The loop that runs here, or one in a thread of its own; who is connected; and how all of that ends."""

    def __init__(self, listener: Listener, limits: GuestLimits) -> None:
        self._listener = listener
        self._lock = threading.RLock()  # guards what follows against other threads, and against signal handlers
        self._closed: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._asked: set[concurrent.futures.Future[Any]] = set()  # what other threads wait for
        self._waiters = 0  # who await `wait_closed()`
        self._deadline: asyncio.TimerHandle | None = None
        self._ends = math.inf  # when the deadline is, in the loop's time
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._thread: LoopThread | None = None
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self._thread = LoopThread(self._closed, self._loop_ended)
            self.loop = self._thread.loop
        self.guests = Guests(limits, self._finish_if_empty)
        self.worker = Worker(self.loop)
        self._at_stop: list[Callable[[], None]] = []
        self._at_end: list[Callable[[], None]] = [self.worker.close]
        self.stopping = False
        #: Seconds from one sweep to the next. May be changed at any time.
        self.tick = 1.0

    @property
    def has_thread(self) -> bool:
        """Whether the loop runs in a thread of its own."""
        return self._thread is not None

    @property
    def is_closed(self) -> bool:
        """Whether it is over."""
        return self._closed.done()

    # Starting

    def begin(self, opening: Coroutine[object, object, None]) -> None:
        """Run `opening`, which makes the server listen. Raises what it raises, where the loop has its own thread."""
        if self._thread is None:
            self.guests.spawn(self.loop, self._open(opening))
        else:
            self._thread.start(self._open(opening))
        signals.install(self)

    async def _open(self, opening: Coroutine[object, object, None]) -> None:
        await opening
        self._sweep_timer = self.loop.call_later(self.tick, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = self.loop.call_later(self.tick, self._sweep)
        self.guests.sweeper.sweep()

    # Other threads

    def call(self, call: Callable[[], T]) -> T | None:
        """Call in the thread of the loop and return what that returns; None: the server has closed."""
        if self._thread.is_current() if self._thread is not None else self._is_running_loop():
            return call()
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._closed.done() or self.loop.is_closed():
                return None
            self._asked.add(answer)
            self.loop.call_soon_threadsafe(_answer, answer, call)
        try:
            return self._result_of(answer)
        except concurrent.futures.CancelledError:
            return None
        finally:
            with self._lock:
                self._asked.discard(answer)

    def _result_of(self, answer: concurrent.futures.Future[T]) -> T | None:
        # A loop of the caller's may be closed without a word to us; nobody would answer any more.
        while True:
            try:
                return answer.result(1.0)
            except TimeoutError:
                if answer.done():
                    raise  # it is the answer
                if self.loop.is_closed():
                    return None

    def _is_running_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    # Stopping

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call back, in whatever thread, when nothing more will happen; `at_stop` need not have come before."""
        self._at_end.append(callback)

    def at_stop(self, callback: Callable[[], None]) -> None:
        """Call back, in the loop, when the server begins to stop; at once where it has."""
        if self.stopping:
            self.loop.call_soon(callback)
        else:
            self._at_stop.append(callback)

    def stop(self, timeout: float) -> None:
        """Begin to stop; what is left after `timeout` seconds is dropped. May be called from any thread."""
        with self._lock:
            if not self._closed.done():
                if self.loop.is_closed():
                    self._loop_ended()
                else:
                    self.loop.call_soon_threadsafe(self._stop, timeout)

    def wait_closed(self) -> Awaitable[None]:
        """Await it, on any event loop, to wait until the server has stopped."""
        return _Closed(self)

    def join(self) -> None:
        """Wait until the thread has ended; called by another thread."""
        assert self._thread is not None
        self._thread.join()
        signals.uninstall(self)  # once more, for here it may be the main thread

    def stop_on_signal(self, signum: int, at_once: bool) -> bool:
        """signals.Stoppable"""
        if self.loop.is_closed():
            self.stop(0)
            return False
        if self._thread is None:
            self.loop.call_soon_threadsafe(self._interrupt_when_closed, signum)
        self.stop(0 if at_once else STOP_TIMEOUT)
        return self._thread is None

    def _interrupt_when_closed(self, signum: int) -> None:
        if not self._waiters:
            self._closed.add_done_callback(lambda _: self.loop.call_soon(signals.interrupt, signum))

    def _stop(self, timeout: float) -> None:
        ends = self.loop.time() + timeout
        if ends < self._ends:  # another call grants no more time
            self._ends = ends
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(timeout, self._drop_all)
        if not self.stopping:
            self.stopping = True
            self._listener.close()
            for engine in tuple(self.guests.engines):
                engine.ws.close(CloseCode.GOING_AWAY, "Server closed")
            _call_all(self._at_stop)
        for connection in tuple(self.guests.connections):
            connection.stop(abrupt=False)
        self._finish_if_empty()

    def _drop_all(self) -> None:
        # A handler may await again though it was cancelled: it is told every second.
        self._ends = self.loop.time() + 1.0
        self._deadline = self.loop.call_later(1.0, self._drop_all)
        self.guests.drop_all()

    def _finish_if_empty(self) -> None:
        if self.stopping and not self._closed.done():
            self.loop.call_soon(self._finish)

    def _finish(self) -> None:
        if self.guests or self._closed.done():
            return
        for timer in (self._sweep_timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self._loop_ended()

    def _loop_ended(self) -> None:
        """Nothing more will happen: the server has stopped, or its loop has."""
        signals.uninstall(self)
        self._listener.close()
        _call_all(self._at_end)
        with self._lock:
            if not self._closed.done():
                self._closed.set_result(None)
            if self.loop.is_closed():
                for answer in self._asked:
                    answer.cancel()


def _call_all(callbacks: list[Callable[[], None]]) -> None:
    while callbacks:
        try:
            callbacks.pop(0)()
        except Exception:
            logger.exception("bunws: what was to happen at the end of the server failed")


def _answer(answer: concurrent.futures.Future[T], call: Callable[[], T]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(call())
    except Exception as exc:
        answer.set_exception(exc)


class _Closed:
    """What `wait_closed()` returns: to be awaited, or not."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def __await__(self) -> Generator[Any, None, None]:
        self._life._waiters += 1
        try:
            yield from asyncio.shield(asyncio.wrap_future(self._life._closed)).__await__()
        finally:
            self._life._waiters -= 1
