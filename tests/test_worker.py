"""Worker: jobs beside the loop, in order."""

from __future__ import annotations

import asyncio
import threading

from bunws.worker import Worker


async def test_jobs_are_done_in_other_threads_one_at_a_time_in_order_and_handed_back_in_the_loop() -> None:
    worker = Worker(asyncio.get_running_loop())
    here = threading.get_ident()
    begun: list[tuple[int, int]] = []
    done: list[tuple[bytes, int]] = []
    finished = asyncio.Event()
    one_at_a_time = threading.Lock()

    def job(number: int) -> bytes:
        assert one_at_a_time.acquire(blocking=False)
        begun.append((number, threading.get_ident()))
        one_at_a_time.release()
        return str(number).encode()

    def hand_back(result: bytes) -> None:
        done.append((result, threading.get_ident()))
        if len(done) == 100:
            finished.set()

    for number in range(100):
        worker.submit(lambda number=number: job(number), hand_back)  # type: ignore[misc]  # a default
    await finished.wait()
    assert [number for number, _ in begun] == list(range(100))
    assert [int(result) for result, _ in done] == list(range(100))
    assert here not in {thread for _, thread in begun}
    assert {thread for _, thread in done} == {here}


async def test_close_drops_the_jobs_that_have_not_begun() -> None:
    worker = Worker(asyncio.get_running_loop())
    begun, go_on = threading.Event(), threading.Event()
    done: list[bytes] = []
    finished = asyncio.Event()

    def first() -> bytes:
        begun.set()
        go_on.wait(10)
        return b"first"

    def hand_back(result: bytes) -> None:
        done.append(result)
        finished.set()

    worker.submit(first, hand_back)
    worker.submit(lambda: b"second", done.append)
    await asyncio.to_thread(begun.wait, 10)
    worker.close()
    go_on.set()
    await finished.wait()
    assert done == [b"first"]


async def test_a_job_may_ask_for_another_when_it_is_done() -> None:
    worker = Worker(asyncio.get_running_loop())
    finished = asyncio.Event()
    worker.submit(lambda: b"", lambda _: worker.submit(lambda: b"", lambda _: finished.set()))
    await finished.wait()
