"""
Worker: jobs beside the event loop, for what would hold up all others there.

Rule: they are done one at a time, in their order, and each result is handed back in the thread of the loop. A job
touches nothing that the loop touches meanwhile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import asyncio


__all__ = ["Worker"]


class Worker:
    """Uses the default executor of its loop, one thread at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[tuple[Callable[[], bytes], Callable[[bytes], None]]] = deque()
        self._busy = False

    def submit(self, job: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        """Call `job()`, which must not raise, in another thread; then `done(result)` in the loop, if it still runs."""
        self._jobs.append((job, done))
        if not self._busy:
            self._begin()

    def close(self) -> None:
        """Those that have not begun are dropped."""
        self._jobs.clear()

    def _begin(self) -> None:
        job, done = self._jobs.popleft()
        self._busy = True
        future = self._loop.run_in_executor(None, job)
        future.add_done_callback(lambda future: self._end(future, done))

    def _end(self, future: asyncio.Future[bytes], done: Callable[[bytes], None]) -> None:
        self._busy = False
        if not future.cancelled():
            done(future.result())
        if self._jobs and not self._busy:
            self._begin()
