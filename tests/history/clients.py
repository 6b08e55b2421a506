"""
Clients: hundreds of them make a history, with a server that runs in a thread of its own.

Rule 1: what a client does is drawn from a seed; what comes of it, the schedulers decide. The steps are bounded.
Rule 2: a client says what it wants in a line of text, and the server's handler makes the call and notes it. So the
moments around a call are those right before and behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import bunws
from bunws.exchange import Exchange

from ..clients import handshake, text
from ..support import PATIENCE, eventually, quiet
from .promise import History, Left, Membership, Message, Moment, Publish, Receiver


__all__ = ["Plan", "make_history"]

#: Bytes that one socket may be behind.
LIMIT: Final = 64 * 1024
#: Bytes that the kernel may hold for it, on either side.
BUFFER: Final = 32 * 1024

_TAIL: Final = b"\x00\x00\xff\xff"


@dataclass(frozen=True)
class Plan:
    """How much happens."""

    clients: int = 200
    steps: int = 20  # of each client
    topics: int = 24
    feeds: int = 16
    threads: int = 2
    thread_steps: int = 150  # of each thread
    seed: int = 0


class Book:
    """Where everybody notes what happened. Appending to a list and counting are atomic in CPython."""

    def __init__(self) -> None:
        self.history = History()
        self._clock = itertools.count()

    def now(self) -> Moment:
        return next(self._clock)

    def enter(self, name: str) -> Receiver:
        receiver = Receiver(name)
        self.history.receivers.append(receiver)
        return receiver


# The server's side


@dataclass
class Guest:
    """What the server's handlers know of one socket."""

    receiver: Receiver
    stays: dict[str, Membership] = field(default_factory=dict)
    unsaid: list[str] = field(default_factory=list)  # answers that were over the limit


Socket = bunws.ServerWebSocket[Guest]


class Application:
    """The handlers: each line of a client is one call, and its answer is sent behind it."""

    def __init__(self, book: Book) -> None:
        self._book = book

    def fetch(self, request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        guest = Guest(self._book.enter(request.url.query["name"]))
        exchange = request._context
        assert isinstance(exchange, Exchange)
        assert exchange.connection.transport is not None
        # So that who does not read is soon behind: else the kernel takes megabytes for it.
        exchange.connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        return None if server.upgrade(request, data=guest) else bunws.Response(status=400)

    def message(self, ws: Socket, line: str) -> None:
        verb, topic, number, size, compress = line.split()
        if verb == "publish":
            self._publish(ws, Message(ws.data.receiver.name, topic, int(number)), int(size), compress == "1")
        elif verb == "subscribe":
            self._subscribe(ws, topic)
        elif verb == "unsubscribe":
            self._unsubscribe(ws, topic)
        else:
            for name in list(ws.data.stays):
                self._unsubscribe(ws, name)
            self._say(ws, "bye")

    def drain(self, ws: Socket) -> None:
        ws.data.receiver.drains.append(self._book.now())
        unsaid, ws.data.unsaid = ws.data.unsaid, []
        for answer in unsaid:
            self._say(ws, answer)

    def _publish(self, ws: Socket, message: Message, size: int, compress: bool) -> None:
        payload = written(message, size)
        began = self._book.now()
        code = ws.publish(message.topic, payload, compress)
        self._book.history.publishes.append(Publish(message, len(payload), began, self._book.now(), code))

    def _subscribe(self, ws: Socket, topic: str) -> None:
        if topic not in ws.data.stays:
            began = self._book.now()
            assert ws.subscribe(topic)
            stay = ws.data.stays[topic] = Membership(topic, began, self._book.now())
            ws.data.receiver.memberships.append(stay)

    def _unsubscribe(self, ws: Socket, topic: str) -> None:
        stay = ws.data.stays.pop(topic, None)
        if stay is not None:
            stay.leave_began = self._book.now()
            assert ws.unsubscribe(topic)
            stay.leave_returned = self._book.now()
            self._say(ws, f"left {topic}")

    def _say(self, ws: Socket, answer: str) -> None:
        if ws.data.unsaid or ws.send(answer) == 0:
            ws.data.unsaid.append(answer)


def written(message: Message, size: int) -> str:
    return f"message {' '.join(map(str, message))} ".ljust(size, ".")


def read(payload: str) -> Message | None:
    verb, publisher, topic, number, _ = payload.split(" ", 4)
    return Message(publisher, topic, int(number)) if verb == "message" else None


# The clients' side


class Connection:
    """One connection of one client; what it reads is noted by a task."""

    def __init__(
        self, receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, deflated: bool
    ) -> None:
        self.receiver = receiver
        self.reads = asyncio.Event()
        self.reads.set()
        self._reader = reader
        self._writer = writer
        self._deflated = deflated
        self._numbers: dict[str, int] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, server: bunws.Server, book: Book, name: str, deflated: bool) -> Connection:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.setblocking(False)
        assert server.port is not None
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=BUFFER)
        offer = {"Sec-WebSocket-Extensions": "permessage-deflate" if deflated else None}
        writer.write(handshake(offer, line=f"GET /?name={name} HTTP/1.1"))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        (receiver,) = (each for each in book.history.receivers if each.name == name)
        return cls(receiver, reader, writer, deflated)

    async def subscribe(self, topic: str) -> None:
        await self._ask("subscribe", topic)

    async def unsubscribe(self, topic: str) -> None:
        await self._ask("unsubscribe", topic)

    async def publish(self, topic: str, size: int, compress: bool) -> None:
        number = self._numbers[topic] = self._numbers.get(topic, -1) + 1
        await self._ask("publish", topic, number, size, int(compress))

    async def _ask(self, verb: str, topic: str = "-", number: int = 0, size: int = 0, compress: int = 0) -> None:
        self._writer.write(text(f"{verb} {topic} {number} {size} {compress}"))
        await self._writer.drain()

    async def leave(self) -> None:
        """In good order: all that was published for it so far is read."""
        self.reads.set()
        await self._ask("bye")
        await self._reading
        self.receiver.stayed = True
        self._writer.close()
        await self._writer.wait_closed()

    async def die(self, abrupt: bool) -> None:
        """In the middle of anything, even of a frame."""
        self._reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reading
        if abrupt:
            linger = struct.pack("ii", 1, 0)  # RST
            self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._writer.transport.abort()
        else:
            self._writer.write(text("publish")[:5])
            self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        """Until it is told goodbye."""
        while True:
            await self.reads.wait()
            payload = await self._message()
            if payload == "bye":
                return
            if payload.startswith("left "):
                self.receiver.received.append(Left(payload[5:]))
            elif message := read(payload):
                self.receiver.received.append(message)

    async def _message(self) -> str:
        first, size = await self._reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self._reader.readexactly(2), "big")
        payload = await self._reader.readexactly(size)
        if first & 0x40:
            assert self._deflated, "compressed, which nobody has agreed on"
            payload = zlib.decompressobj(-15).decompress(payload + _TAIL)
        assert first & 0x0F == 1, (first, payload[:100])
        return payload.decode()


async def live(server: bunws.Server, book: Book, plan: Plan, index: int) -> None:
    """One client: it may die and come back a few times."""
    dice = random.Random(f"{plan.seed} {index}")
    is_slow = index % 20 == 0  # some stop reading now and then
    lives = itertools.count()
    connection = await Connection.open(server, book, f"client{index}.{next(lives)}", index % 2 == 0)
    for _ in range(2):
        await connection.subscribe(_topic(dice, plan))
    for _ in range(plan.steps):
        step = dice.random()
        if step < 0.55:
            size = dice.choice([0, 0, 0, 0, 0, 0, 200, 200, 3_000, 20_000])
            await connection.publish(_topic(dice, plan), size, dice.random() < 0.5)
        elif step < 0.70:
            await connection.subscribe(_topic(dice, plan))
        elif step < 0.85:
            await connection.unsubscribe(_topic(dice, plan))
        elif step < 0.90:
            await connection.die(dice.random() < 0.5)
            connection = await Connection.open(server, book, f"client{index}.{next(lives)}", dice.random() < 0.5)
            await connection.subscribe(_topic(dice, plan))
        elif is_slow and connection.reads.is_set():
            connection.reads.clear()
        else:
            connection.reads.set()
        await asyncio.sleep(0)  # the others' step
    await connection.leave()


async def sleep_through(server: bunws.Server, book: Book, over: asyncio.Event) -> None:
    """One who reads nothing while 2 MB are published for it, and all of what there was room for when it is over."""
    connection = await Connection.open(server, book, "sleeper", False)
    connection.reads.clear()
    await connection.subscribe("flooded")
    flood = await Connection.open(server, book, "flood", True)
    for _ in range(100):
        await flood.publish("flooded", 20_000, False)
    await flood.leave()
    await over.wait()
    await connection.leave()


def _topic(dice: random.Random, plan: Plan) -> str:
    return f"topic{min(dice.randrange(plan.topics), dice.randrange(plan.topics))}"


# In process


async def listen(server: bunws.Server, book: Book, name: str, topic: str, leaves: bool) -> None:
    """A feed, which hears all to the end, or leaves in the middle."""
    receiver = book.enter(name)
    began = book.now()
    feed = server.subscribe(topic)
    stay = Membership(topic, began, book.now())
    receiver.memberships.append(stay)
    async with feed:
        async for payload in feed:
            assert isinstance(payload, str)
            message = read(payload)
            if message is None:
                receiver.stayed = True
                stay.leave_began = book.now()
                break
            receiver.received.append(message)
            if leaves and len(receiver.received) == 100:
                stay.leave_began = book.now()
                break
    stay.leave_returned = book.now()


def publish_beside(server: bunws.Server, book: Book, plan: Plan, index: int) -> None:
    """In a thread: `server.publish`."""
    dice = random.Random(f"{plan.seed} thread {index}")
    numbers: dict[str, Iterator[int]] = {}
    for _ in range(plan.thread_steps):
        topic = _topic(dice, plan)
        number = next(numbers.setdefault(topic, itertools.count()))
        message = Message(f"thread{index}", topic, number)
        payload = written(message, dice.choice([0, 0, 500]))
        began = book.now()
        code = server.publish(topic, payload, dice.random() < 0.5)
        book.history.publishes.append(Publish(message, len(payload), began, book.now(), code))


# All together


def make_history(plan: Plan) -> History:
    """Let all of them loose on a server, and return what they noted when the last has gone."""
    book = Book()
    application = Application(book)
    with quiet(
        bunws.serve(
            fetch=application.fetch,
            websocket={
                "message": application.message,
                "drain": application.drain,
                "backpressure_limit": LIMIT,
                "per_message_deflate": True,
            },
            hostname="127.0.0.1",
            port=0,
        )
    ) as server:
        asyncio.run(_all(server, book, plan))
        _check_nothing_is_left(server, plan)
    return book.history


async def _all(server: bunws.Server, book: Book, plan: Plan) -> None:
    async with asyncio.timeout(PATIENCE * 10):
        feeds = [
            asyncio.create_task(listen(server, book, f"feed{index}", f"topic{index % plan.topics}", index % 4 == 3))
            for index in range(plan.feeds)
        ]
        await asyncio.sleep(0)  # they subscribe
        threads = [
            threading.Thread(target=publish_beside, args=(server, book, plan, index)) for index in range(plan.threads)
        ]
        for thread in threads:
            thread.start()
        over = asyncio.Event()
        sleeper = asyncio.create_task(sleep_through(server, book, over))
        await asyncio.gather(*(live(server, book, plan, index) for index in range(plan.clients)))
        over.set()
        await sleeper
        for thread in threads:
            await asyncio.to_thread(thread.join)
        for index in range(plan.topics):
            await asyncio.to_thread(server.publish, f"topic{index}", "end - - - -")
        await asyncio.gather(*feeds)


def _check_nothing_is_left(server: bunws.Server, plan: Plan) -> None:
    eventually(lambda: not server.pending_websockets and not server._guests)
    assert not any(server.subscriber_count(f"topic{index}") for index in range(plan.topics))
