"""
The hot rooms, each alone, on a transport that writes nowhere: what one message costs before the kernel sees it.

    python -m benchmarks micro [--save | --compare]

Rule: what is timed is what a turn does `MESSAGES` times (or once for as many), so the figures of one group compare.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import pytest

from bunws.compress import DeflateOptions, DeflateParams
from bunws.deflate import Deflaters, Inflater
from bunws.frames import Opcode, header
from bunws.handler import Handler
from bunws.http.wire import RequestParser
from bunws.messages import MessageAssembler
from bunws.turn import Turn
from bunws.websocket import PauseReason, ServerWebSocket


if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

MESSAGES: Final = 100
TEXT: Final = "a line of a chat, 32 bytes of it"
JSON: Final = ('{"id": 48213, "user": "ann", "text": "what is the meaning of life?"}, ' * 15)[:1024]

REQUEST: Final = (
    b"GET /chat?name=ann HTTP/1.1\r\nHost: localhost:3000\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    b"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n"
    b"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef\r\n\r\n"
)


class Nowhere:
    """A transport that takes everything and has nothing left, and a wire on which nothing is held."""

    def write(self, data: bytes | memoryview, /) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def hold(self, reason: PauseReason) -> None: ...

    def release(self, reason: PauseReason) -> None: ...

    def busy(self, busy: bool) -> None: ...

    def finish(self, now: bool) -> None: ...

    def drop(self) -> None: ...


class Room:
    """So many sockets in one topic, and a turn that ends when it is told."""

    def __init__(self, subscribers: int) -> None:
        self.turn = Turn(lambda callback: None, lambda job, done: done(job()))
        handler, nowhere = Handler({}), Nowhere()
        self.sockets: list[ServerWebSocket[None]] = [
            ServerWebSocket(
                self.turn,
                nowhere,
                handler,
                nowhere,
                lambda task: task.close(),
                data=None,
                protocol="",
                remote_address="192.0.2.1",
                deflater=None,
            )
            for _ in range(subscribers)
        ]
        for ws in self.sockets:
            ws.subscribe("room")


def repeated(action: Callable[[], object]) -> Callable[[], None]:
    def times() -> None:
        for _ in range(MESSAGES):
            action()

    return times


def test_yardstick(benchmark: BenchmarkFixture) -> None:
    """Plain Python that no change of ours makes faster or slower: what the others are divided by."""

    def plain() -> int:
        pieces: list[bytes] = []
        total = 0
        for number in range(2_000):
            pieces.append(b"%d" % number)
            total += len(pieces[-1])
        return total + len(b"".join(pieces))

    benchmark(plain)


@pytest.mark.parametrize("subscribers", [1, 16, 1_000])
def test_publish(benchmark: BenchmarkFixture, subscribers: int) -> None:
    """MESSAGES from one sender, not written: the price of publishing must not depend on who listens."""
    room = Room(subscribers + 1)
    sender = room.sockets[0]

    def publish() -> None:
        for _ in range(MESSAGES):
            sender.publish("room", TEXT)
        room.turn.topics.collect()

    benchmark(publish)


@pytest.mark.parametrize("subscribers", [1, 16, 1_000])
def test_flush_after_one_message(benchmark: BenchmarkFixture, subscribers: int) -> None:
    room = Room(subscribers + 1)
    sender, turn = room.sockets[0], room.turn

    def publish_and_flush() -> None:
        sender.publish("room", TEXT)
        turn.flush()

    benchmark(publish_and_flush)


@pytest.mark.parametrize("subscribers", [16, 1_000])
def test_flush_after_everybody_of_16_talked(benchmark: BenchmarkFixture, subscribers: int) -> None:
    """Ten messages each: runs to be cut out, one for each sender."""
    room = Room(subscribers)
    talkers, turn = room.sockets[:16], room.turn

    def talk_and_flush() -> None:
        for ws in talkers:
            for _ in range(10):
                ws.publish("room", TEXT)
        turn.flush()

    benchmark(talk_and_flush)


def test_flush_of_100_rooms_of_10(benchmark: BenchmarkFixture) -> None:
    room = Room(1_000)
    for number, ws in enumerate(room.sockets):
        ws.unsubscribe("room")
        ws.subscribe(f"room {number % 100}")
    turn = room.turn

    def talk_and_flush() -> None:
        for number, ws in enumerate(room.sockets):
            ws.publish(f"room {number % 100}", TEXT)
        turn.flush()

    benchmark(talk_and_flush)


def test_send(benchmark: BenchmarkFixture) -> None:
    """Echo: MESSAGES to one socket, one write."""
    room = Room(1)
    ws, turn = room.sockets[0], room.turn

    def send_and_flush() -> None:
        for _ in range(MESSAGES):
            ws.send(TEXT)
        turn.flush()

    benchmark(send_and_flush)


@pytest.mark.parametrize("size", [32, 1024, 65536])
def test_encode_a_header(benchmark: BenchmarkFixture, size: int) -> None:
    benchmark(repeated(lambda: header(Opcode.TEXT, size)))


@pytest.mark.parametrize("pieces", [1, 4])
def test_assemble(benchmark: BenchmarkFixture, pieces: int) -> None:
    """A message in so many frames: UTF-8 is checked as it comes."""
    payload = JSON.encode()
    size = len(payload) // pieces

    def assemble() -> None:
        assembler = MessageAssembler(1 << 24, None)
        for index in range(pieces):
            opcode = Opcode.CONTINUATION if index else Opcode.TEXT
            assembler.add(opcode, index == pieces - 1, False, payload[index * size : (index + 1) * size])

    benchmark(repeated(assemble))


@pytest.mark.parametrize("paths", [["/chat"], ["/chat", "/news"]], ids=["again", "another"])
def test_parse_a_head(benchmark: BenchmarkFixture, paths: list[str]) -> None:
    parser = RequestParser(max_body_size=1024)
    requests = itertools.cycle([REQUEST.replace(b"/chat", path.encode()) for path in paths])

    def parse() -> None:
        assert len(parser.feed(next(requests))) == 2  # the head, and that the request ends with it
        parser.resume()

    benchmark(repeated(parse))


@pytest.mark.parametrize("message", [TEXT * 2, JSON], ids=["64 B", "1 KiB"])
def test_deflate(benchmark: BenchmarkFixture, message: str) -> None:
    deflaters = Deflaters(DeflateOptions("shared", "shared", threshold=0))
    deflater = deflaters.deflater(DeflateParams(True, True))
    assert deflater is not None
    payload = message.encode()
    benchmark(lambda: deflater.deflate(payload))


def test_inflate(benchmark: BenchmarkFixture) -> None:
    deflater = Deflaters(DeflateOptions("shared", "shared", threshold=0)).deflater(DeflateParams(True, True))
    assert deflater is not None
    deflated = deflater.deflate(JSON.encode())
    assert deflated is not None
    inflater = Inflater(DeflateParams(client_no_context_takeover=True))
    benchmark(lambda: inflater.inflate(deflated, True, 1 << 24))
