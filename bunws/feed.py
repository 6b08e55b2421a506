"""
Feed: the messages of a topic for code in the same process, as `async for` on any event loop.

Rule 1: a subscription is a receiver like a socket. It gets what a socket gets that subscribed at the same moment: the
same bytes, in the same order. They are parsed back into messages when, and where, somebody reads them.
Rule 2: nothing is lost without a word. What a subscription has no room for is answered with 0 to its publisher, and
with `FeedOverflow` to its reader, behind everything that came before the gap.
Rule 3: a `Mailbox` belongs to the thread of the server, but for what its lock guards. It never holds its
`Subscription`, so that one that nobody holds any more is collected, and leaves its topic.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol, Self

from .exceptions import BunwsError
from .frames import OPCODE_BITS, Opcode
from .handler import whole_number
from .late import Late
from .topics import Level
from .turn import MessageDeflater, Turn, check_topic


__all__ = ["FEED_LIMIT", "FeedOverflow", "Feeds", "Mailbox", "Subscription"]

# Bytes. As much as a socket may be behind (`backpressure_limit`), and for the same reason: it holds references to
# buffers that all receivers of a topic share, so many slow readers of one topic hold one copy of it.
FEED_LIMIT: Final = 16 * 1024 * 1024


class FeedOverflow(BunwsError):
    """A subscription was read too slowly, and has missed messages; it has ended."""


class InLoop(Protocol):
    """How to reach the thread of the server."""

    def __call__(self, call: Callable[[], bool], /) -> bool | None:
        """Call in the thread of the loop and return what that returns; None: the server has closed."""


class Mailbox:
    """What waits for one subscription: a `turn.Receiver`."""

    __slots__ = (
        "_chunks",
        "_flowing",
        "_leave_feeds",
        "_level",
        "_limit",
        "_lock",
        "_loop",
        "_relieving",
        "_size",
        "_turn",
        "_waiter",
        "abandoned",
        "deflater",
        "ended",
        "missed",
    )

    def __init__(
        self, turn: Turn, loop: asyncio.AbstractEventLoop, leave: Callable[[Mailbox], None], limit: int
    ) -> None:
        self.deflater: MessageDeflater | None = None  # nobody to compress for
        #: Nobody will read it any more.
        self.abandoned = False
        #: Something was published that it had no room for, and nothing behind that is taken.
        self.missed = False
        #: Nothing more will come.
        self.ended = False
        self._turn = turn
        self._loop = loop
        self._leave_feeds = leave
        self._limit = limit or math.inf
        self._flowing = self._limit / 2  # bytes up to which it is not behind
        self._lock = threading.Lock()  # guards what follows against the reader's thread
        self._chunks: deque[bytes] = deque()  # whole frames each
        self._size = 0  # bytes in them
        self._level = Level.FLOWING
        self._relieving = False  # the server will look at the level
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return self._size

    # What the flush tells: turn.Receiver

    def deliver(self, data: bytes) -> None:
        """Keep a reference, and wake who waits for it."""
        if self.abandoned or self.missed or self.ended:
            return
        with self._lock:
            self._chunks.append(data)
            self._size += len(data)
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._wake(*waiter)
        if self._size > self._flowing:
            self._measure()

    def deliver_late(self, late: Late) -> None:
        """Only what is deflated is late."""
        raise AssertionError("nothing is deflated for a mailbox")

    def deliver_own(self, data: bytes) -> None:
        """It was settled."""
        if data:
            self.deliver(data)

    def delivered_own(self) -> None:
        """It was settled; there is nothing that only a mailbox is sent."""

    def dropped(self) -> None:
        """There is a gap from here on, so this is the end."""
        if not self.missed:
            self.missed = True
            # Not now: no membership changes while the flush walks its receivers.
            self._turn.afterwards(self._leave)

    def broken(self) -> None:
        """`deliver` raised: there is a gap, or may be."""
        self.dropped()

    # What its level says to publishers

    def relieve(self) -> None:
        """Some of it was read. In the thread of the server, not within a flush."""
        self._relieving = False
        if self._level is Level.OVER:
            # What was published in this turn, while it was over its limit, is missing: `dropped` has to hear of it.
            self._turn.flush()
        if not (self.abandoned or self.missed or self.ended):
            self._measure()

    def _measure(self) -> None:
        with self._lock:
            level = self._level_now()
            if level is self._level:
                return
            self._level = level
        self._turn.topics.set_level(self, level)

    def _level_now(self) -> Level:
        """A mailbox always holds something for a moment: it is behind from half its limit on. The limit is soft."""
        if self._size <= self._flowing:
            return Level.FLOWING
        return Level.OVER if self._size > self._limit else Level.BEHIND

    # The end

    def end(self) -> None:
        """Nothing more will come: it has left its topic, or never was in one."""
        with self._lock:
            self.ended = True
            if self.abandoned:
                self._chunks.clear()
                self._size = 0
            waiter, self._waiter = self._waiter, None
        if waiter is not None:
            self._wake(*waiter)

    def abandon(self) -> None:
        """
        Nobody will read it any more.

        It takes no lock: the garbage collector calls it too, and may do so in the middle of anything.
        """
        if not self.abandoned:
            self.abandoned = True
            self._soon(self._leave)

    def _leave(self) -> None:
        self._leave_feeds(self)

    # What the reader asks, in whatever thread

    def take(self) -> bytes | None:
        """The oldest frames, whole; None when there are none."""
        with self._lock:
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            self._size -= len(chunk)
            if self._relieving or self._level_now() is self._level:
                return chunk
            self._relieving = True
        self._soon(self.relieve)
        return chunk

    async def wait(self) -> None:
        """Until there is something to take, or the end."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._chunks or self.ended:
                return
            if self._waiter is not None:
                raise RuntimeError("somebody waits for this subscription already; subscribe once for each reader")
            waiter = loop.create_future()
            self._waiter = (loop, waiter)
        try:
            await waiter
        finally:
            with self._lock:
                if self._waiter is not None and self._waiter[1] is waiter:
                    self._waiter = None

    # From thread to thread

    def _wake(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        try:
            if loop is self._loop:
                _set(waiter)
            else:
                loop.call_soon_threadsafe(_set, waiter)
        except RuntimeError:  # that loop was closed with a reader in the middle of `async for`
            self.abandon()

    def _soon(self, call: Callable[[], None]) -> None:
        # A server whose loop is closed has ended everything.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


class Subscription(AsyncIterator[str | bytes]):
    """
    The messages of a topic from now on: `async for message in server.subscribe("chat")`.

    It may be read on any event loop, in any thread, by one reader. It ends when the server stops, behind all that was
    published before, or when it is closed: by `close()`, `aclose()`, `async with`, or the garbage collector. It counts
    as a subscriber of its topic. A slow reader does not slow down the others: past its limit `publish` answers 0, and
    the iteration raises `FeedOverflow` behind what had room.
    """

    __slots__ = ("__weakref__", "_at", "_chunk", "_mailbox", "_topic")

    def __init__(self, topic: str, mailbox: Mailbox) -> None:
        self._topic = topic
        self._mailbox = mailbox
        self._chunk = b""  # frames that are being read
        self._at = 0  # where the next of them begins

    @property
    def topic(self) -> str:
        """What it hears."""
        return self._topic

    @property
    def buffered_amount(self) -> int:
        """Bytes that wait to be read."""
        return self._mailbox.size

    def __repr__(self) -> str:
        mailbox = self._mailbox
        state = (
            "closed" if mailbox.abandoned else "overflown" if mailbox.missed else "ended" if mailbox.ended else "open"
        )
        return f"<Subscription {self._topic!r} {state} buffered={mailbox.size}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        """
        The next message, text as str.

        Raises `FeedOverflow`, once, in the place of messages that had no room; RuntimeError where another reader waits.
        """
        while self._at == len(self._chunk):
            mailbox = self._mailbox
            if mailbox.abandoned:
                raise StopAsyncIteration
            # Asked before the mailbox is found empty: what comes before the end is read before the end.
            ended = mailbox.ended
            chunk = mailbox.take()
            if chunk is not None:
                self._chunk, self._at = chunk, 0
            elif not ended:
                await mailbox.wait()
            elif mailbox.missed:
                self.close()
                raise FeedOverflow(f"the subscription to {self._topic!r} was read too slowly and has missed messages")
            else:
                raise StopAsyncIteration
        message, self._at = _read_frame(self._chunk, self._at)
        return message

    def close(self) -> None:
        """Hear nothing more; what waits is dropped, and a reader that waits is told the end. From any thread."""
        self._mailbox.abandon()
        self._chunk, self._at = b"", 0

    async def aclose(self) -> None:
        """`close()`, for who closes generators."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._mailbox.abandon()


class Feeds:
    """The subscriptions of one server."""

    def __init__(self, turn: Turn, loop: asyncio.AbstractEventLoop, in_loop: InLoop) -> None:
        self._turn = turn
        self._loop = loop
        self._in_loop = in_loop
        self._mailboxes: set[Mailbox] = set()
        self._stopped = False

    def __len__(self) -> int:
        """How many there are."""
        return len(self._mailboxes)

    def subscribe(self, topic: str, *, limit: int = FEED_LIMIT) -> Subscription:
        """
        Hear `topic` from now on; from any thread. With a server that has stopped, that is nothing.

        limit: bytes that may wait; 0 for any number. Raises TypeError or ValueError that names the argument.
        """
        check_topic(topic)
        mailbox = Mailbox(self._turn, self._loop, self._leave, whole_number("limit", limit))
        # Made first: should what follows raise, it is collected and leaves.
        subscription = Subscription(topic, mailbox)
        if not self._in_loop(lambda: self._enter(mailbox, topic)):
            mailbox.end()
        return subscription

    def stop(self) -> None:
        """
        All of them end, behind what was published so far. In the thread of the server, not within a flush; or anywhere
        once its loop is closed.
        """
        self._stopped = True
        if not self._loop.is_closed():
            self._turn.flush()
        for mailbox in tuple(self._mailboxes):
            self._leave(mailbox)

    def _enter(self, mailbox: Mailbox, topic: str) -> bool:
        if self._stopped:
            return False
        self._mailboxes.add(mailbox)
        self._turn.topics.subscribe(mailbox, topic)
        return True

    def _leave(self, mailbox: Mailbox) -> None:
        self._mailboxes.discard(mailbox)
        self._turn.topics.forget(mailbox)
        mailbox.end()


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _read_frame(data: bytes, at: int) -> tuple[str | bytes, int]:
    """
    The message at a position, and the position behind it.

    These are frames of the turn (frames.py): each is final, is plain text or binary, and is not masked.
    """
    # RFC 6455, 5.2: "Payload length: 7 bits, 7+16 bits, or 7+64 bits".
    size = data[at + 1]
    begin = at + 2
    if size == 126:
        begin = at + 4
        size = int.from_bytes(data[at + 2 : begin], "big")
    elif size == 127:
        begin = at + 10
        size = int.from_bytes(data[at + 2 : begin], "big")
    end = begin + size
    payload = data[begin:end]
    return (payload.decode() if data[at] & OPCODE_BITS == Opcode.TEXT else payload), end
