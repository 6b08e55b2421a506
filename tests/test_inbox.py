"""Inbox: what waits while an async handler of a socket runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bunws.inbox import MAX_BYTES, MAX_EVENTS, Inbox, as_awaitable


class FakeOwner:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.events: list[object] = []
        self.handle_error: Callable[[BaseException], Awaitable[object] | None] = lambda exc: None

    def _call(self, callback: Callable[..., object], *args: object) -> Awaitable[object] | None:
        return as_awaitable(callback(*args))

    def _raised(self, exc: BaseException) -> Awaitable[object] | None:
        self.events.append(repr(exc))
        return self.handle_error(exc)

    def _give_up(self, exc: BaseException) -> None:
        self.events.append(f"gave up: {exc!r}")

    def _inbox_full(self, full: bool) -> None:
        self.events.append("full" if full else "room again")

    def _inbox_empty(self) -> None:
        self.events.append("empty")


@pytest.fixture
def owner() -> FakeOwner:
    return FakeOwner()


class Gate:
    """Handlers that wait until they are let through."""

    def __init__(self, owner: FakeOwner) -> None:
        self._owner = owner
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def handler(self, name: object) -> None:
        self._owner.events.append(f"{name} begins")
        await self._opened.wait()
        self._owner.events.append(f"{name} ends")


async def test_handlers_run_one_at_a_time_in_order(owner: FakeOwner) -> None:
    gate, inbox = Gate(owner), Inbox(owner)
    task = asyncio.create_task(inbox.run(gate.handler("first")))
    inbox.put(gate.handler, "second")
    inbox.put(owner.events.append, "a plain one")
    inbox.put(gate.handler, "third")
    await asyncio.sleep(0)
    assert owner.events == ["first begins"]
    gate.open()
    await task
    second, third = ["second begins", "second ends"], ["third begins", "third ends"]
    assert owner.events == ["first begins", "first ends", *second, "a plain one", *third, "empty"]


async def test_what_comes_while_the_last_one_runs_is_not_forgotten(owner: FakeOwner) -> None:
    inbox = Inbox(owner)

    async def first() -> None:
        inbox.put(second, None)

    async def second(_: None) -> None:
        inbox.put(owner.events.append, "third")

    await inbox.run(first())
    assert owner.events == ["third", "empty"]


async def test_close_is_told_last_whenever_it_came(owner: FakeOwner) -> None:
    inbox = Inbox(owner)
    inbox.put_last(owner.events.append, "close")
    inbox.put(owner.events.append, "message")
    await inbox.run(None)
    assert owner.events == ["message", "close", "empty"]


async def test_an_exception_goes_to_the_owner_and_the_next_is_handled(owner: FakeOwner) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("broken")

    inbox = Inbox(owner)
    inbox.put(broken, "x")
    inbox.put(owner.events.append, "next")
    await inbox.run(broken())
    assert owner.events == ["ValueError('broken')", "ValueError('broken')", "next", "empty"]


async def test_an_async_error_handler_is_waited_for_and_may_raise(owner: FakeOwner) -> None:
    async def broken(*_: object) -> None:
        raise ValueError("broken")

    async def error() -> None:
        await asyncio.sleep(0)
        owner.events.append("error handled")
        raise RuntimeError("worse")

    owner.handle_error = lambda exc: error()
    inbox = Inbox(owner)
    inbox.put(owner.events.append, "next")
    await inbox.run(broken())
    assert owner.events == [
        "ValueError('broken')",
        "error handled",
        "gave up: RuntimeError('worse')",
        "next",
        "empty",
    ]


# Bounds


async def test_it_is_full_at_so_many_events_and_has_room_again_below_half(owner: FakeOwner) -> None:
    inbox = Inbox(owner)
    for number in range(MAX_EVENTS):
        assert "full" not in owner.events
        inbox.put(owner.events.append, number)
    assert owner.events == ["full"]
    inbox.put(owner.events.append, "one that was read already")
    assert owner.events == ["full"]
    await inbox.run(None)
    assert owner.events.count("room again") == 1
    # The event that made the room was taken out, but is handled after it was said.
    behind = owner.events[owner.events.index("room again") + 2 :]
    assert len(behind) == MAX_EVENTS // 2 - 1 + len(["empty"])
    assert behind[-2:] == ["one that was read already", "empty"]


@pytest.mark.parametrize("message", ["x", b"x"], ids=["text", "bytes"])
async def test_it_is_full_at_so_many_bytes(owner: FakeOwner, message: Any) -> None:
    def nothing(*_: object) -> None: ...

    inbox = Inbox(owner)
    inbox.put(nothing, None, message * (MAX_BYTES - 1))
    assert owner.events == []
    inbox.put(nothing, None, message)
    assert owner.events == ["full"]
    await inbox.run(None)
    assert owner.events == ["full", "room again", "empty"]


# The end of the server


async def test_who_is_cancelled_still_tells_close_and_nothing_else(owner: FakeOwner) -> None:
    gate, inbox = Gate(owner), Inbox(owner)
    task = asyncio.create_task(inbox.run(gate.handler("first")))
    inbox.put(owner.events.append, "message")
    inbox.put_last(owner.events.append, "close")
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert owner.events == ["first begins", "close", "empty"]


async def test_a_handler_that_meets_a_cancelled_task_has_raised_and_the_next_is_handled(owner: FakeOwner) -> None:
    """It is the task of somebody else that was cancelled, not the server that gives up."""

    async def handler() -> None:
        task = asyncio.create_task(asyncio.Event().wait())
        task.cancel()
        await task

    inbox = Inbox(owner)
    inbox.put(owner.events.append, "next")
    await asyncio.create_task(inbox.run(handler()))
    assert owner.events == ["CancelledError()", "next", "empty"]


# What can be awaited


async def test_a_coroutine_a_future_and_an_object_with_await_are_awaitable() -> None:
    class Custom:
        def __await__(self) -> Any:
            yield

    async def coroutine() -> None: ...

    made = coroutine()
    future = asyncio.get_running_loop().create_future()
    custom = Custom()
    assert as_awaitable(made) is made
    assert as_awaitable(future) is future
    assert as_awaitable(custom) is custom
    await made


@pytest.mark.parametrize("result", [None, 0, "text", [], iter("abc"), lambda: None])
def test_what_a_plain_handler_returns_is_not(result: object) -> None:
    assert as_awaitable(result) is None
