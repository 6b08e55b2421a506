"""
Worker: one thread beside the event loop, for what would hold up all others there.

Rule: jobs are done one at a time, in their order, and each result is handed back in the thread of the loop. A job
touches nothing that the loop touches meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar


if TYPE_CHECKING:
    import asyncio


__all__ = ["Worker"]

T = TypeVar("T")


class Worker:
    """The thread begins with the first job."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, job: Callable[[], T], done: Callable[[T], None]) -> None:
        """Call `job()`, which must not raise, in the thread; then `done(result)` in the loop, if that still runs."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "bunws-worker")

        def hand_back(future: Future[T]) -> None:
            if not future.cancelled() and not self._loop.is_closed():
                self._loop.call_soon_threadsafe(done, future.result())

        self._executor.submit(job).add_done_callback(hand_back)

    def close(self) -> None:
        """No more jobs; those that have not begun are dropped."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
