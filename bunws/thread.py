"""
Thread: an event loop in the background, for programs that have none.

Rule: the thread is no daemon, so the process stays alive while its server listens, and ends when it has stopped.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine


__all__ = ["LoopThread", "new_event_loop"]


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop's, or asyncio's where uvloop is missing."""
    try:
        import uvloop  # it does not exist everywhere
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class LoopThread:
    """Runs its loop until `closed` is done."""

    def __init__(self, closed: concurrent.futures.Future[None], ended: Callable[[], None]) -> None:
        self.loop = new_event_loop()
        self._closed = closed
        self._ended = ended  # called when the loop is closed, whatever has ended it
        self._thread = threading.Thread(target=self._run, name="bunws")

    def start(self, opening: Coroutine[object, object, None]) -> None:
        """Run; returns when `opening` is done. Raises what it raises."""
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
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._wait())
        finally:
            try:
                self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            finally:
                self.loop.close()
                self._ended()

    async def _wait(self) -> None:
        await asyncio.wait([asyncio.wrap_future(self._closed)])
        # Whatever other threads have asked for until now is still done: they wait for it.
        await asyncio.sleep(0)
