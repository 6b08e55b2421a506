"""Feed: what a subscription yields, compared with what a socket is sent; its bounds, its ends, and other threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from typing import TypeVar

import httpx
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import bunws
from bunws.exceptions import BunwsError
from bunws.feed import FEED_LIMIT, FeedOverflow, Feeds, Subscription
from bunws.frames import OPCODE_BITS, Opcode
from bunws.http.events import EventStream
from bunws.thread import new_event_loop
from bunws.turn import Turn
from tests.clients import EACH_LOOP, binary, connected, serving, text
from tests.fakes import FakeServer, frames
from tests.support import PATIENCE, until


T = TypeVar("T")

LOOP_FACTORIES = EACH_LOOP


class Hall:
    """A turn on an event loop that runs, and its subscriptions: what a server has of this."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.turn = Turn(loop.call_soon, lambda job, done: done(job()))
        self.feeds = Feeds(self.turn, loop, self.call)

    def call(self, call: Callable[[], T], /) -> T | None:
        """Like the server's."""
        try:
            if asyncio.get_running_loop() is self.loop:
                return call()
        except RuntimeError:
            pass
        if self.loop.is_closed():
            return None
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.loop.call_soon_threadsafe(lambda: answer.set_result(call()))
        return answer.result(PATIENCE)

    def publish(self, message: str | bytes, topic: str = "news") -> int:
        answer = self.call(lambda: self.turn.publish(None, topic, message, True))
        assert answer is not None
        return answer

    def count(self, topic: str = "news") -> int:
        answer = self.call(lambda: self.turn.topics.count(topic))
        assert answer is not None
        return answer


def hall() -> Hall:
    """One on the loop that runs."""
    return Hall(asyncio.get_running_loop())


async def take(feed: Subscription, count: int) -> list[str | bytes]:
    return [await anext(feed) for _ in range(count)]


async def rest(feed: Subscription) -> list[str | bytes]:
    """All until it ends."""
    return [message async for message in feed]


# What it yields


async def test_messages_come_in_the_order_of_the_calls_as_what_they_were() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    sent: list[str | bytes] = ["one", b"two", "", b"", "drëi", "x" * 200, b"y" * 70_000, "z" * 100_000]
    for message in sent:
        assert here.publish(message) == len(message.encode() if isinstance(message, str) else message)
    assert await take(feed, len(sent)) == sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
async def test_a_message_of_any_size_comes_whole(size: int) -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    here.publish("t" * size)
    here.publish(b"b" * size)
    assert await take(feed, 2) == ["t" * size, b"b" * size]


async def test_it_hears_what_is_published_after_the_call_and_nothing_before() -> None:
    here = hall()
    witness = here.feeds.subscribe("news")  # so that somebody listens at all
    here.publish("before")
    feed = here.feeds.subscribe("news")
    here.publish("after")
    assert await anext(feed) == "after"
    assert await take(witness, 2) == ["before", "after"]


async def test_it_hears_its_own_topic_only() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    other = here.feeds.subscribe("weather")
    here.publish("rain", "weather")
    here.publish("new")
    assert await anext(feed) == "new"
    assert await anext(other) == "rain"
    assert feed.topic == "news"


async def test_a_reader_waits_for_what_is_not_there_yet() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    reader = asyncio.create_task(anext_of(feed))
    await asyncio.sleep(0)
    assert not reader.done()
    here.publish("late")
    assert await reader == "late"


async def anext_of(feed: Subscription) -> str | bytes:
    return await anext(feed)


async def test_a_reader_that_is_cancelled_misses_nothing() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    reader = asyncio.create_task(anext_of(feed))
    await asyncio.sleep(0)
    here.publish("one")
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    here.publish("two")
    assert await take(feed, 2) == ["one", "two"]


async def test_a_reader_can_be_cancelled_and_another_take_its_place() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(feed)
    here.publish("one")
    assert await anext(feed) == "one"


async def test_a_message_that_comes_between_the_look_and_the_wait_is_not_waited_for() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    mailbox = feed._mailbox
    assert mailbox.take() is None
    mailbox.deliver(b"\x81\x01x")  # as the thread of the server would
    async with asyncio.timeout(PATIENCE):
        await mailbox.wait()
    assert mailbox.take() == b"\x81\x01x"


async def test_a_second_reader_that_would_wait_is_told_so() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    reader = asyncio.create_task(anext_of(feed))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="subscribe once for each reader"):
        await anext(feed)
    here.publish("for the first")
    assert await reader == "for the first"


async def test_all_subscriptions_of_a_topic_share_its_bytes() -> None:
    here = hall()
    feeds = [here.feeds.subscribe("news") for _ in range(3)]
    here.publish("x" * 1000)
    here.turn.flush()
    chunks = [feed._mailbox._chunks[0] for feed in feeds]
    assert chunks[0] is chunks[1] is chunks[2]


@pytest.mark.parametrize(("topic", "error"), [("", ValueError), (7, TypeError), (b"news", TypeError)])
async def test_what_can_be_no_topic_is_refused(topic: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="topic must"):
        hall().feeds.subscribe(topic)


@pytest.mark.parametrize(("limit", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
async def test_what_can_be_no_limit_is_refused(limit: int, error: type[Exception]) -> None:
    with pytest.raises(error, match="limit must"):
        hall().feeds.subscribe("news", limit=limit)


class FeedBesideSockets(RuleBasedStateMachine):
    """
    Sockets publish to topics and are sent things of their own, join and leave. A subscription must get exactly what a
    socket got that joined in the same moment and only listened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.server = FakeServer(publish_to_self=True)
        self.feeds = Feeds(self.server.turn, self.loop, lambda call: call())
        self.sockets = [self.server.connect() for _ in range(3)]
        self.pairs: list[tuple[str, Subscription, Callable[[], list[tuple[int, bytes]]]]] = []
        self.heard: list[list[str | bytes]] = []
        self.number = 0

    def teardown(self) -> None:
        self.end_turn()
        for _, feed, _ in self.pairs:
            feed.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        assert len(self.feeds) == 0
        self.loop.close()

    @rule(topic=st.sampled_from("ab"))
    def listen(self, topic: str) -> None:
        if len(self.pairs) < 4:
            witness = self.server.connect()
            feed = self.feeds.subscribe(topic)
            witness.subscribe(topic)
            taken = self.server.transports[witness].taken
            self.pairs.append((topic, feed, lambda: frames(bytes(taken))))
            self.heard.append([])

    @rule(
        sender=st.integers(0, 3), topic=st.sampled_from("ab"), binary=st.booleans(), size=st.sampled_from([0, 9, 200])
    )
    def publish(self, sender: int, topic: str, binary: bool, size: int) -> None:
        self.number += 1
        message = f"{self.number}".ljust(size, ".")
        if sender == 3:
            self.server.turn.publish(None, topic, message.encode() if binary else message, True)
        elif binary:
            self.sockets[sender].publish_binary(topic, message.encode())
        else:
            self.sockets[sender].publish(topic, message)

    @rule(topic=st.sampled_from("ab"), size=st.sampled_from([20_000, 70_000]))
    def publish_much(self, topic: str, size: int) -> None:
        self.number += 1
        self.server.turn.publish(None, topic, f"{self.number}".ljust(size, "."), False)

    @rule(one=st.integers(0, 2), topic=st.sampled_from("ab"), join=st.booleans())
    def change(self, one: int, topic: str, join: bool) -> None:
        if join:
            self.sockets[one].subscribe(topic)
        else:
            self.sockets[one].unsubscribe(topic)

    @rule(one=st.integers(0, 2))
    def send(self, one: int) -> None:
        self.sockets[one].send("private")

    @rule()
    def end_turn(self) -> None:
        self.server.loop.end_turn()

    @invariant()
    def the_same_was_heard(self) -> None:
        for (_, feed, witness), heard in zip(self.pairs, self.heard, strict=True):
            while feed.buffered_amount or feed._at < len(feed._chunk):
                heard.append(self.loop.run_until_complete(anext_of(feed)))
            expected: list[str | bytes] = [
                payload.decode() if first & OPCODE_BITS == Opcode.TEXT else payload for first, payload in witness()
            ]
            assert heard == expected


TestFeedBesideSockets = FeedBesideSockets.TestCase
TestFeedBesideSockets.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# A slow reader


async def test_a_reader_that_is_too_slow_gets_what_had_room_and_then_an_error_and_then_the_end() -> None:
    here = hall()
    feed = here.feeds.subscribe("news", limit=100)
    kept = []
    for number in range(20):
        message = f"message number {number:3}"
        if here.publish(message) != 0:
            kept.append(message)
        here.turn.flush()  # as at the end of a turn
    assert 4 <= len(kept) <= 6  # 20 bytes each, and the limit is soft by one turn
    assert await take(feed, len(kept)) == kept
    with pytest.raises(FeedOverflow, match="'news' was read too slowly") as caught:
        await anext(feed)
    assert isinstance(caught.value, BunwsError)
    assert await rest(feed) == []
    assert len(here.feeds) == here.count() == 0


async def test_publishers_are_told_how_far_behind_a_slow_reader_is() -> None:
    here = hall()
    feed = here.feeds.subscribe("news", limit=100)

    def publish() -> int:
        answer = here.publish(b"x" * 28)  # 30 bytes with the header
        here.turn.flush()
        return answer

    assert [publish() for _ in range(5)] == [28, 28, -1, -1, 0]
    assert feed.buffered_amount == 120


async def test_a_reader_that_has_made_room_in_time_has_missed_nothing() -> None:
    here = hall()
    feed = here.feeds.subscribe("news", limit=100)
    for number in range(50):
        assert here.publish(b"%02d" % number + b"." * 60) == 62
        here.publish(b"second")
        here.turn.flush()
        assert await anext(feed) == b"%02d" % number + b"." * 60
        assert await anext(feed) == b"second"
        await asyncio.sleep(0)  # the server hears that there is room
    assert repr(feed) == "<Subscription 'news' open buffered=0>"


async def test_what_is_dropped_in_the_turn_in_which_the_reader_makes_room_is_not_forgotten() -> None:
    here = hall()
    feed = here.feeds.subscribe("news", limit=100)
    here.publish(b"x" * 150)
    here.turn.flush()
    assert here.publish("missed") == 0
    assert await anext(feed) == b"x" * 150  # and there is room again
    await asyncio.sleep(0)
    here.publish("behind the gap")
    with pytest.raises(FeedOverflow):
        await anext(feed)


async def test_a_slow_reader_does_not_disturb_the_others() -> None:
    here = hall()
    slow = here.feeds.subscribe("news", limit=10)
    quick = here.feeds.subscribe("news")
    for number in range(10):
        here.publish(f"message {number}")
        here.turn.flush()
    assert await take(quick, 10) == [f"message {number}" for number in range(10)]
    await until(lambda: here.count() == 1)
    assert await anext(slow) == "message 0"


async def test_no_limit_is_no_limit() -> None:
    here = hall()
    feed = here.feeds.subscribe("news", limit=0)
    for _ in range(3):
        assert here.publish(b"x" * FEED_LIMIT) == FEED_LIMIT
    assert len(await take(feed, 3)) == 3


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 60)), max_size=60), st.integers(1, 200))
@settings(deadline=None)
def test_what_is_yielded_before_an_overflow_is_what_publish_has_not_answered_with_zero(
    steps: list[tuple[bool, int]], limit: int
) -> None:
    async def run() -> None:
        here = hall()
        feed = here.feeds.subscribe("news", limit=limit)
        accepted: list[bytes] = []
        missed = False
        taken: list[str | bytes] = []
        for number, (read, size) in enumerate(steps):
            if read:
                if feed.buffered_amount or feed._at < len(feed._chunk):
                    taken.append(await anext(feed))
                await asyncio.sleep(0)
            elif not missed:
                message = b"%d" % number + b"." * size
                missed = here.publish(message) == 0
                if not missed:
                    accepted.append(message)
                if size % 3 == 0:
                    here.turn.flush()
        here.feeds.stop()
        try:
            taken += await rest(feed)
        except FeedOverflow:
            assert missed
        else:
            assert not missed
            taken += await rest(feed)
        # What an overflow cuts off behind the last that was taken had been read by nobody.
        assert taken + accepted[len(taken) :] == accepted
        assert missed or taken == accepted

    asyncio.run(run())


# Its ends


async def test_a_subscription_counts_until_it_is_closed() -> None:
    here = hall()
    async with here.feeds.subscribe("news") as feed:
        assert here.count() == 1
        assert repr(feed) == "<Subscription 'news' open buffered=0>"
    await until(lambda: here.count() == 0)
    assert here.publish("nobody") == 0
    assert await rest(feed) == []
    assert repr(feed) == "<Subscription 'news' closed buffered=0>"


async def test_one_that_was_closed_takes_nothing_and_holds_nothing() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    here.publish("unread")
    here.turn.flush()
    feed.close()
    here.publish("not even taken")
    here.turn.flush()
    assert feed.buffered_amount == len(b"\x81\x06unread")
    await until(lambda: here.count() == 0)
    assert feed.buffered_amount == 0


async def test_closing_drops_what_waits_and_tells_a_reader_the_end() -> None:
    here = hall()
    feed, other = here.feeds.subscribe("news"), here.feeds.subscribe("news")
    here.publish("unread")
    here.turn.flush()
    await feed.aclose()
    feed.close()  # once more is nothing
    assert await rest(feed) == []

    reader = asyncio.create_task(rest(other))
    await until(lambda: other._mailbox._waiter is not None)
    other.close()
    assert await reader == ["unread"]


async def test_leaving_the_loop_leaves_the_topic() -> None:
    here = hall()
    here.call(lambda: asyncio.get_running_loop().call_soon(here.publish, "one"))
    async for message in here.feeds.subscribe("news"):
        assert message == "one"
        break
    await until(lambda: here.count() == 0)


async def test_one_that_nobody_holds_leaves_its_topic() -> None:
    here = hall()
    feed = here.feeds.subscribe("news")
    here.publish("unread")
    seen = weakref.ref(feed)
    mailbox = weakref.ref(feed._mailbox._turn)
    cycle = [feed]
    cycle.append(cycle)  # type: ignore[arg-type]  # a cycle, so that only the collector finds it
    del feed, cycle
    gc.collect()
    assert seen() is None
    assert mailbox() is not None
    await until(lambda: here.count() == 0)
    assert len(here.feeds) == 0


async def test_one_that_somebody_waits_on_is_held_by_its_reader() -> None:
    here = hall()
    reader = asyncio.create_task(rest(here.feeds.subscribe("news")))
    await until(lambda: here.count() == 1)
    await asyncio.sleep(0)
    gc.collect()
    here.publish("still here")
    here.turn.flush()
    here.feeds.stop()
    assert await reader == ["still here"]


async def test_a_server_that_stops_ends_it_behind_what_was_published() -> None:
    here = hall()
    feed, waiting = here.feeds.subscribe("news"), here.feeds.subscribe("weather")
    reader = asyncio.create_task(rest(waiting))
    await until(lambda: waiting._mailbox._waiter is not None)
    here.publish("last words")
    here.feeds.stop()
    assert repr(feed) == "<Subscription 'news' ended buffered=12>"
    assert await rest(feed) == ["last words"]
    assert await reader == []
    assert len(here.feeds) == here.count() == 0


async def test_one_of_a_server_that_has_stopped_has_ended() -> None:
    here = hall()
    here.feeds.stop()
    here.feeds.stop()
    assert await rest(here.feeds.subscribe("news")) == []


async def test_one_of_a_server_that_has_closed_has_ended() -> None:
    here = hall()
    feeds = Feeds(here.turn, here.loop, lambda _: None)
    assert await rest(feeds.subscribe("news")) == []


# Other threads


@contextlib.contextmanager
def elsewhere() -> Iterator[Hall]:
    """A hall on a loop in another thread, as `serve()` in a script has it."""
    loop = new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    there = Hall(loop)
    try:
        yield there
    finally:
        there.call(there.feeds.stop)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        there.feeds.stop()


async def test_a_loop_in_another_thread_reads_what_the_servers_publishes() -> None:
    with elsewhere() as there:
        feed = there.feeds.subscribe("news")
        assert there.count() == 1
        heard = []
        for number in range(100):  # each waits for its own: a wake-up per message
            there.publish(f"{number}")
            heard.append(await anext(feed))
        assert heard == [f"{number}" for number in range(100)]


async def test_a_reader_in_another_thread_gets_everything_of_a_busy_server() -> None:
    total = 20_000
    with elsewhere() as there:
        feed = there.feeds.subscribe("news", limit=0)

        def publish(number: int = 0) -> None:
            # In many turns, so that the reader meets the writer.
            for one in range(number, number + 50):
                there.turn.publish(None, "news", f"{one}", False)
            if number + 50 < total:
                there.loop.call_soon(publish, number + 50)

        there.loop.call_soon_threadsafe(publish)
        async with asyncio.timeout(PATIENCE):
            assert await take(feed, total) == [f"{number}" for number in range(total)]


async def test_a_reader_in_another_thread_makes_room_for_a_server_that_waits_for_it() -> None:
    total = 2_000
    with elsewhere() as there:
        feed = there.feeds.subscribe("news", limit=10_000)
        async with asyncio.timeout(PATIENCE):
            heard = 0
            for number in range(total):
                while there.publish(b"%06d" % number + b"." * 200) == -1:
                    # It was accepted, but the reader is behind.
                    break
                if feed.buffered_amount > 4_000:
                    assert await anext(feed) == b"%06d" % heard + b"." * 200
                    heard += 1
            while heard < total:
                assert await anext(feed) == b"%06d" % heard + b"." * 200
                heard += 1


async def test_a_server_in_another_thread_that_stops_ends_it() -> None:
    with elsewhere() as there:
        feed = there.feeds.subscribe("news")
        reader = asyncio.create_task(rest(feed))
        await until(lambda: feed._mailbox._waiter is not None)
        there.publish("last words")
        there.call(there.feeds.stop)
        assert await reader == ["last words"]


async def test_closing_in_another_thread_leaves_the_topic() -> None:
    with elsewhere() as there:
        feed = there.feeds.subscribe("news")
        feed.close()
        await until(lambda: there.count() == 0)


def test_a_reader_whose_loop_was_closed_under_it_is_given_up() -> None:
    with elsewhere() as there:
        loop = asyncio.new_event_loop()
        feed = there.feeds.subscribe("news")
        reader = loop.create_task(rest(feed))
        while feed._mailbox._waiter is None:
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        there.publish("to nobody")
        in_hall(there, until(lambda: there.turn.topics.count("news") == 0))
        reader.get_coro().close()  # asyncio would complain that it was left pending
        reader._log_destroy_pending = False  # type: ignore[attr-defined]  # … and so would the task


def in_hall(there: Hall, coroutine: Coroutine[object, object, T]) -> T:
    return asyncio.run_coroutine_threadsafe(coroutine, there.loop).result(PATIENCE)


def test_one_that_outlives_the_loop_of_its_server_can_be_closed() -> None:
    with elsewhere() as there:
        feed = there.feeds.subscribe("news")
    feed.close()
    assert asyncio.run(rest(feed)) == []
    assert asyncio.run(rest(there.feeds.subscribe("news"))) == []


# On a server


async def test_a_subscription_hears_what_a_socket_hears() -> None:
    def open(ws: bunws.ServerWebSocket[object]) -> None:
        ws.subscribe("chat")

    def message(ws: bunws.ServerWebSocket[object], data: str | bytes) -> None:
        ws.publish("chat", data)

    async with (
        serving({"open": open, "message": message}) as server,
        connected(server) as ann,
        connected(server) as bob,
    ):
        await until(lambda: server.subscriber_count("chat") == 2)
        async with server.subscribe("chat") as feed:
            assert server.subscriber_count("chat") == 3
            await ann.send(text("from ann"), binary(b"\x00\x01"))
            assert await take(feed, 2) == ["from ann", b"\x00\x01"]
            assert [(await bob.receive()).payload for _ in range(2)] == [b"from ann", b"\x00\x01"]
        await until(lambda: server.subscriber_count("chat") == 2)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_topic_feeds_an_event_stream_and_the_server_that_stops_ends_it(in_thread: bool) -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return EventStream(server.subscribe("news"))

    async with serving(fetch=fetch, in_thread=in_thread) as server, httpx.AsyncClient() as client:
        async with client.stream("GET", str(server.url)) as left:
            assert left.headers["Content-Type"] == "text/event-stream"
            assert server.subscriber_count("news") == 1
        await until(lambda: server.subscriber_count("news") == 0)

        async with client.stream("GET", str(server.url)) as response:
            received = response.aiter_raw()
            assert server.publish("news", "one\ntwo") == 7
            assert await anext(received) == b"data: one\ndata: two\n\n"
            stopping = asyncio.ensure_future(server.stop())
            # A page connects again after both: WHATWG HTML, 9.2.3, "reestablish the connection".
            with contextlib.suppress(httpx.RemoteProtocolError):
                assert [piece async for piece in received] == []
            await stopping


async def test_what_is_said_as_the_server_stops_is_heard() -> None:
    def open(ws: bunws.ServerWebSocket[object]) -> None:
        ws.subscribe("chat")

    def close(ws: bunws.ServerWebSocket[object], code: int, reason: str) -> None:
        ws.publish("chat", "ann has left")

    async with serving({"open": open, "close": close}) as server, connected(server):
        feed = server.subscribe("chat")
        reader = asyncio.create_task(rest(feed))
        server.stop(close_active_connections=True)
        assert await reader == ["ann has left"]
        assert await rest(server.subscribe("chat")) == []
