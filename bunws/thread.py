"""
Thread: an event loop in the background, for programs that have none.

Rule: the thread is no daemon, so the process stays alive while its server listens, and ends when it has stopped.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import concurrent.futures.thread  # it has to have its hook at the end of the main thread before us; see `_join_all`
import threading
from collections.abc import Callable, Coroutine
from typing import Final


__all__ = ["LoopThread", "new_event_loop"]


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, or asyncio's where uvloop is missing."""
    try:
        import uvloop  # it does not exist everywhere
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


# Seconds after which a thread that waits for ours looks up. CPython runs handlers of signals in the main thread, and
# a signal that comes just before it begins to wait is not seen until the wait ends.
JOIN_SPAN: Final = 1.0

# Threads of the default executor. They begin with the loop: CPython 3.12 starts none once the main thread has ended.
POOL_SIZE: Final = 4


def _started_pool() -> concurrent.futures.ThreadPoolExecutor:
    pool = concurrent.futures.ThreadPoolExecutor(POOL_SIZE, "bunws-pool")
    begun = threading.Barrier(POOL_SIZE + 1)
    for _ in range(POOL_SIZE):
        pool.submit(begun.wait)
    begun.wait()
    return pool


_threads: Final[set[LoopThread]] = set()


def _join_all() -> None:
    """
    Keep the main thread until the servers have stopped, when it has come to the end of its program.

    Without it concurrent.futures would refuse all jobs from then on: `asyncio.to_thread` in a handler, files, uploads.
    """
    for thread in tuple(_threads):
        thread.join()


# No public API, but the one that concurrent.futures itself uses; without it the thread still keeps the process alive.
_register: Final = getattr(threading, "_register_atexit", None)
if _register is not None:
    _register(_join_all)


class LoopThread:
    """Runs its loop until `closed` is done."""

    def __init__(self, closed: concurrent.futures.Future[None], ended: Callable[[], None]) -> None:
        self.loop = new_event_loop()
        self._closed = closed
        self._ended = ended  # called when the loop is closed, whatever has ended it
        self._thread = threading.Thread(target=self._run, name="bunws")
        self._pool: concurrent.futures.ThreadPoolExecutor

    def start(self, opening: Coroutine[object, object, None]) -> None:
        """Run; returns when `opening` is done. Raises what it raises."""
        # Here, where it may raise: without a pool the thread would end before anybody could be answered.
        self._pool = _started_pool()
        self.loop.set_default_executor(self._pool)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(opening, self.loop).result()
        except BaseException:
            if not self._closed.done():
                self._closed.set_result(None)
            self.join()
            raise

    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return threading.current_thread() is self._thread

    def join(self) -> None:
        """Wait until the thread has ended."""
        while self._thread.is_alive():
            self._thread.join(JOIN_SPAN)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        _threads.add(self)
        try:
            self.loop.run_until_complete(self._wait())
        finally:
            try:
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
                self._pool.shutdown()  # not by the loop, which would want another thread for it
            finally:
                self.loop.close()
                _threads.discard(self)
                self._ended()

    async def _wait(self) -> None:
        await asyncio.wait([asyncio.wrap_future(self._closed)])
        # Whatever other threads have asked for until now is still done: they wait for it.
        await asyncio.sleep(0)
