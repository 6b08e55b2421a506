"""Worker: jobs beside the loop, in order."""

from __future__ import annotations

import asyncio
import threading

from bunws.worker import Worker


async def test_jobs_are_done_in_one_other_thread_in_order_and_handed_back_in_the_loop() -> None:
    worker = Worker(asyncio.get_running_loop())
    here = threading.get_ident()
    done: list[tuple[int, int, bool]] = []
    finished = asyncio.Event()

    def hand_back(result: tuple[int, int]) -> None:
        done.append((*result, threading.get_ident() == here))
        if len(done) == 100:
            finished.set()

    for number in range(100):
        worker.submit(lambda number=number: (number, threading.get_ident()), hand_back)  # type: ignore[misc]  # a default
    await finished.wait()
    worker.close()
    assert [number for number, _, _ in done] == list(range(100))
    assert len({thread for _, thread, _ in done}) == 1
    assert done[0][1] != here
    assert all(in_loop for _, _, in_loop in done)


async def test_close_drops_the_jobs_that_have_not_begun() -> None:
    worker = Worker(asyncio.get_running_loop())
    begun, go_on = threading.Event(), threading.Event()
    done: list[str] = []
    finished = asyncio.Event()

    def first() -> str:
        begun.set()
        go_on.wait(10)
        return "first"

    def hand_back(result: str) -> None:
        done.append(result)
        finished.set()

    worker.submit(first, hand_back)
    worker.submit(lambda: "second", done.append)
    await asyncio.to_thread(begun.wait, 10)
    worker.close()
    go_on.set()
    await finished.wait()
    assert done == ["first"]


def test_result_for_a_loop_that_was_closed_is_forgotten() -> None:
    loop = asyncio.new_event_loop()
    worker = Worker(loop)
    begun, go_on = threading.Event(), threading.Event()
    done: list[None] = []

    def job() -> None:
        begun.set()
        go_on.wait(10)

    worker.submit(job, done.append)
    begun.wait(10)
    loop.close()
    go_on.set()
    worker.close()
    assert done == []


def test_worker_that_was_never_asked_has_no_thread() -> None:
    before = threading.active_count()
    loop = asyncio.new_event_loop()
    Worker(loop).close()
    loop.close()
    assert threading.active_count() == before
