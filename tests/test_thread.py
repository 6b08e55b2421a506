"""Thread: an event loop in the background."""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading

import pytest

from bunws.thread import LoopThread, new_event_loop


Closed = concurrent.futures.Future[None]


async def nothing() -> None: ...


def nobody() -> None: ...


def test_start_returns_when_the_opening_is_done() -> None:
    seen: list[object] = []

    async def opening() -> None:
        await asyncio.sleep(0)
        seen.append((asyncio.get_running_loop() is thread.loop, thread.is_current()))

    closed = Closed()
    thread = LoopThread(closed, nobody)
    thread.start(opening())
    assert seen == [(True, True)]
    assert not thread.is_current()
    closed.set_result(None)
    thread.join()
    assert thread.loop.is_closed()


def test_an_opening_that_raises_raises_here_and_the_thread_ends() -> None:
    async def opening() -> None:
        raise ValueError("no")

    before = threading.active_count()
    thread = LoopThread(Closed(), nobody)
    with pytest.raises(ValueError, match="no"):
        thread.start(opening())
    assert threading.active_count() == before
    assert thread.loop.is_closed()


def test_what_was_asked_for_before_the_end_is_still_done() -> None:
    closed = Closed()
    done: list[str] = []
    thread = LoopThread(closed, nobody)
    thread.start(nothing())

    def close() -> None:
        thread.loop.call_soon_threadsafe(done.append, "in time")
        closed.set_result(None)

    thread.loop.call_soon_threadsafe(close)
    thread.join()
    assert done == ["in time"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("breaks", [False, True])
def test_somebody_is_told_when_the_loop_is_closed_whatever_has_ended_it(breaks: bool) -> None:
    closed = Closed()
    told: list[bool] = []
    thread = LoopThread(closed, lambda: told.append(thread.loop.is_closed()))
    thread.start(nothing())
    if breaks:
        thread.loop.call_soon_threadsafe(thread.loop.stop)
    else:
        closed.set_result(None)
    thread.join()
    assert told == [True]


def test_the_process_waits_for_the_thread() -> None:
    thread = LoopThread(Closed(), nobody)
    assert not thread._thread.daemon
    thread.loop.close()


def test_the_loop_is_that_of_uvloop_or_of_asyncio_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = new_event_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = new_event_loop()
    assert not isinstance(loop, uvloop.Loop)
    loop.close()
