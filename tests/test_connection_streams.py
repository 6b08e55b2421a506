"""A connection that streams: what it writes and when, to a transport that notes it and to clients over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

import pytest
from hypothesis import given, strategies as st

import bunws
from bunws.address import SocketAddress
from bunws.connection import MAX_DISCARDED, MAX_TAIL, Connection
from bunws.exceptions import HTTPError
from bunws.exchange import Exchange, Refusal
from bunws.http.body import HIGH_WATER
from tests.support import PATIENCE, RawClient, eventually, quiet, until


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"


# A site and a transport that note what happens to them


class Wire(asyncio.Transport):
    """A transport whose client reads what it has `room` for."""

    def __init__(self, connection: Connection, room: int = 1 << 60) -> None:
        super().__init__()
        self.connection = connection
        self.room = room
        self.writes: list[bytes] = []
        self.left = 0
        self.high = 64 * 1024
        self.reading = True
        self.ended = False
        self.aborted = False
        self.closed = False
        connection.connection_made(self)

    @property
    def sent(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.ended, "written to behind the end"
        self.writes.append(bytes(data))
        self.left += len(data)
        self.read(0)
        if self.left > self.high:
            self.connection.pause_writing()

    def read(self, size: int) -> None:
        """The client reads."""
        self.room += size
        taken = min(self.left, self.room)
        self.left -= taken
        self.room -= taken
        if not self.left and not self.connection.is_writable:
            self.connection.resume_writing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = 64 * 1024 if high is None else high

    def get_write_buffer_size(self) -> int:
        return self.left

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def abort(self) -> None:
        self.aborted = True
        asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name == "peername":
            return ("192.0.2.1", 40_000)
        assert name == "socket"
        return self

    def fileno(self) -> int:
        return -1

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_LINGER)


class Site:
    """connection.Site"""

    scheme = "http"
    host = "localhost"
    max_request_body_size = 10_000_000
    max_head_size = 16 * 1024
    max_headers = 100
    http_ticks = 4
    close_ticks = 4
    stopping = False

    def __init__(self, answer: Callable[[bunws.Request], object], *, max_requests: int = 0) -> None:
        self._answer = answer
        self.max_requests = max_requests
        self.log: Callable[[Exchange | Refusal, int, int, float], object] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.errors: list[BaseException] = []
        self.error: Callable[[BaseException], object] | None = None
        self.prepared: Callable[[bunws.Response], bunws.Response] = lambda response: response

    def connection_made(self, connection: Connection) -> bool:
        return True

    def connection_gone(self, connection: Connection) -> None:
        pass

    def answer(self, request: bunws.Request) -> object:
        return self._answer(request)

    def answer_error(self, exc: BaseException) -> object | None:
        self.errors.append(exc)
        return self.error(exc) if self.error is not None else None

    def prepare(self, request: bunws.Request, response: bunws.Response) -> bunws.Response:
        return self.prepared(response)

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def date(self) -> bytes:
        return b"Fri, 20 Nov 2026 19:18:46 GMT"


class Source:
    """A stream that yields what it is given, when it is given, and notes what is done to it."""

    def __init__(self, *chunks: str, heartbeat: tuple[float, bytes] | None = None) -> None:
        self.queue: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        self.asked = 0
        self.closed = 0
        self.heartbeat = heartbeat
        for chunk in chunks:
            self.queue.put_nowait(chunk)

    def give(self, *items: str | BaseException | None) -> None:
        for item in items:
            self.queue.put_nowait(item)

    def __aiter__(self) -> Source:
        return self

    async def __anext__(self) -> str:
        self.asked += 1
        item = await self.queue.get()
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, BaseException):
            raise item
        return item

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


async def settle() -> None:
    """Let the loop do all that it can do by itself."""
    for _ in range(20):
        await asyncio.sleep(0)


def wired(
    answer: object, request: bytes = GET, *, room: int = 1 << 60, **options: int
) -> tuple[Site, Connection, Wire]:
    """A connection that has been sent one request."""
    site = Site(answer if callable(answer) else lambda _: answer, **options)
    connection = Connection(site)
    wire = Wire(connection, room)
    connection.data_received(request)
    return site, connection, wire


def body_of(sent: bytes) -> bytes:
    return sent.partition(b"\r\n\r\n")[2]


# When things are written


async def test_a_first_chunk_that_is_there_goes_out_with_the_head_in_one_write() -> None:
    _, _, wire = wired(bunws.Response(Source("hello")))
    await settle()
    (write,) = wire.writes
    assert write.startswith(b"HTTP/1.1 200 OK\r\n")
    assert write.endswith(b"\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


async def test_a_head_does_not_wait_for_a_chunk_that_is_not_there() -> None:
    source = Source()
    _, _, wire = wired(bunws.Response(source))
    await settle()
    assert [write[-4:] for write in wire.writes] == [b"\r\n\r\n"]
    source.give("a")
    await settle()
    assert wire.writes[1:] == [b"1\r\na\r\n"]


async def test_each_chunk_goes_out_by_itself_as_it_is_produced() -> None:
    source = Source("a")
    _, _, wire = wired(bunws.Response(source))
    for count, chunk in enumerate("bcd", 2):
        await settle()
        source.give(chunk)
        await settle()
        assert len(wire.writes) == count
    source.give("e", "f", None)
    await settle()
    assert wire.writes[1:] == [b"1\r\n%c\r\n" % char for char in b"bcdef"] + [b"0\r\n\r\n"]


async def test_the_next_chunk_is_asked_for_when_the_last_was_taken() -> None:
    source = Source("hello", "b", "c")
    _, _, wire = wired(bunws.Response(source), room=0)
    await settle()
    assert (source.asked, len(wire.writes)) == (1, 1)
    wire.read(len(wire.sent) - 1)
    await settle()
    assert source.asked == 1
    wire.read(1)
    await settle()
    assert (source.asked, len(wire.writes)) == (2, 2)


async def test_a_plain_iterable_lets_others_have_their_turn_between_two_chunks() -> None:
    turns = 0

    def chunks() -> Iterator[bytes]:
        while turns < 5:
            yield b"%d" % turns

    async def other() -> None:
        nonlocal turns
        while turns < 5:
            turns += 1
            await asyncio.sleep(0)

    _, connection, wire = wired(bunws.Response(chunks()))
    await other()
    await settle()
    assert connection.current is None
    assert wire.sent.endswith(b"0\r\n\r\n")


async def test_the_transport_is_as_it_was_behind_a_stream() -> None:
    source = Source("a")
    _, _, wire = wired(bunws.Response(source))
    await settle()
    assert wire.high == 0
    source.give(None)
    await settle()
    assert wire.high == 64 * 1024


async def test_what_is_pipelined_behind_a_stream_waits_for_its_end() -> None:
    source = Source("a")
    answers: list[object] = [bunws.Response(source), bunws.Response("next")]
    _, _, wire = wired(lambda _: answers.pop(0), GET + GET)
    await settle()
    assert len(answers) == 1
    source.give(None)
    await settle()
    assert wire.sent.endswith(b"0\r\n\r\n" + wire.writes[-1])
    assert wire.writes[-1].endswith(b"\r\n\r\nnext")


# How a stream ends


async def finished(source: Source, wire: Wire) -> None:
    source.give(None)


async def raised(source: Source, wire: Wire) -> None:
    source.give(ValueError("a secret"))


async def client_reset(source: Source, wire: Wire) -> None:
    wire.connection.connection_lost(ConnectionResetError())


async def client_half_closed(source: Source, wire: Wire) -> None:
    wire.connection.eof_received()


async def slow_reader(source: Source, wire: Wire) -> None:
    wire.room = 0
    source.give("never read")
    await settle()
    for _ in range(6):
        wire.connection.tick()


async def wrong_type(source: Source, wire: Wire) -> None:
    source.queue.put_nowait(5)  # type: ignore[arg-type]  # the mistake is what is tested


@pytest.mark.parametrize("end", [finished, raised, client_reset, client_half_closed, slow_reader, wrong_type])
@pytest.mark.parametrize("begun", [True, False])
async def test_a_stream_is_closed_once_however_it_ends(
    end: Callable[[Source, Wire], Coroutine[None, None, None]], begun: bool
) -> None:
    source = Source(*["a"] * begun)
    site, connection, wire = wired(bunws.Response(source))
    await settle()
    assert source.closed == 0
    await end(source, wire)
    await settle()
    assert source.closed == 1
    assert connection.current is None
    assert not site.tasks


@pytest.mark.parametrize(
    ("request_", "status"), [(b"HEAD" + GET[3:], 200), (GET, 204), (GET, 205), (GET, 304)], ids=str
)
async def test_a_stream_that_is_not_to_be_sent_is_not_asked_but_closed(request_: bytes, status: int) -> None:
    source = Source("a")
    site, connection, wire = wired(bunws.Response(source, status), request_)
    await settle()
    assert (source.asked, source.closed) == (0, 1)
    assert wire.sent.endswith(b"\r\n\r\n")
    assert connection.current is None
    assert not site.tasks


async def test_a_stream_for_a_client_that_has_gone_is_closed() -> None:
    source, go_on = Source("a"), asyncio.Event()

    async def answer(request: bunws.Request) -> bunws.Response:
        await go_on.wait()
        return bunws.Response(source)

    site, connection, _ = wired(answer)
    await settle()
    connection.connection_lost(None)
    go_on.set()
    await settle()
    assert (source.asked, source.closed, site.tasks) == (0, 1, set())


async def test_a_generator_is_closed_where_it_waits() -> None:
    ended = []

    async def chunks() -> AsyncIterator[str]:
        try:
            yield "a"
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("yes")

    _, connection, _ = wired(bunws.Response(chunks()))
    await settle()
    connection.connection_lost(None)
    await settle()
    assert ended == ["yes"]


async def test_a_stream_that_was_sent_is_not_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    response = bunws.Response(Source("a"))
    first = wired(response)
    second = wired(response)
    await settle()
    assert b" 500 Internal" in second[2].sent
    assert "make a new one for each request" in caplog.text
    first[1].connection_lost(None)
    await settle()


async def test_a_stream_that_raises_before_the_first_byte_is_answered_like_a_handler_that_raises() -> None:
    source = Source()
    source.give(ValueError("a secret"))
    site, connection, wire = wired(lambda _: bunws.Response(source))
    site.error = lambda exc: bunws.Response(type(exc).__name__, 503)
    await settle()
    assert wire.sent.startswith(b"HTTP/1.1 503 ")
    assert wire.sent.endswith(b"\r\n\r\nValueError")
    assert source.closed == 1
    assert not wire.aborted
    assert connection.current is None


async def test_an_error_handler_whose_streams_raise_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: object) -> bunws.Response:
        source = Source()
        source.give(ValueError("a secret"))
        return bunws.Response(source)

    site, _, wire = wired(broken)
    site.error = broken
    await settle()
    assert len(site.errors) == 1
    assert wire.sent.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in wire.sent
    assert "what stood in for an answer failed as well" in caplog.text


async def test_a_stream_that_raises_in_the_middle_is_logged_and_the_client_sees_the_cut(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source("a")
    source.give(ValueError("a secret"))
    site, _, wire = wired(bunws.Response(source))
    await settle()
    assert wire.aborted
    assert not wire.sent.endswith(b"0\r\n\r\n")
    assert b"secret" not in wire.sent
    assert "a streamed answer broke off" in caplog.text
    assert "a secret" in caplog.text
    assert site.errors == []


class NoException(BaseException):
    """What no handler of errors is for."""


@pytest.mark.parametrize("chunks", [[], ["a"]], ids=["before", "behind"])
@pytest.mark.parametrize("kind", [NoException, GeneratorExit])
async def test_a_stream_that_raises_what_is_no_exception_is_cut_and_closed_and_its_task_fails(
    kind: type[BaseException], chunks: list[str]
) -> None:
    source = Source(*chunks)
    site, connection, wire = wired(bunws.Response(source))
    (task,) = site.tasks
    source.give(kind("a secret"))
    await settle()
    assert wire.aborted
    assert not wire.sent.endswith(b"0\r\n\r\n")
    assert source.closed == 1
    assert connection.current is None
    assert site.errors == []
    assert type(task.exception()) is kind


async def test_a_stream_that_raises_what_is_no_exception_when_it_is_closed_is_cut() -> None:
    class Bad(Source):
        async def aclose(self) -> None:
            raise NoException

    source = Bad("a")
    site, connection, wire = wired(bunws.Response(source))
    (task,) = site.tasks
    source.give(None)
    await settle()
    assert wire.aborted
    assert connection.current is None
    assert isinstance(task.exception(), NoException)


@pytest.mark.parametrize("by", ["fetch", "error"])
async def test_a_plain_handler_that_raises_what_is_no_exception_is_cut_whoever_calls_it(by: str) -> None:
    async def slow() -> bunws.Response:
        await asyncio.sleep(0)
        return bunws.Response("slow")

    def answer(request: bunws.Request) -> object:
        if request.url.path == "/slow":
            return slow()
        raise ValueError if by == "error" else NoException

    def error(exc: BaseException) -> object:
        raise NoException

    site = Site(answer)
    site.error = error
    connection = Connection(site)
    wire = Wire(connection)
    connection.data_received(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
    (task,) = site.tasks
    await settle()
    assert wire.sent.endswith(b"slow")
    assert wire.aborted
    assert connection.current is None
    assert isinstance(task.exception(), NoException)

    connection = Connection(site)
    wire = Wire(connection)
    with pytest.raises(NoException):
        connection.data_received(GET)
    assert wire.aborted
    assert connection.current is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_program_reaches_the_loop_from_a_stream_behind_the_cut(kind: type[BaseException]) -> None:
    wires: list[Wire] = []
    tasks: set[asyncio.Task[None]] = set()

    async def main() -> None:
        source = Source("a")
        site, _, wire = wired(bunws.Response(source))
        wires.append(wire)
        tasks.update(site.tasks)
        source.give(kind())
        await asyncio.Event().wait()

    with pytest.raises(kind):
        asyncio.run(main())
    assert wires[0].aborted
    assert [type(task.exception()) for task in tasks] == [kind]


@pytest.mark.parametrize("chunks", [["abc"], ["ab", "cdefg"], []], ids=["too_few", "too_many", "none"])
async def test_a_stream_that_breaks_its_promised_length_is_cut_and_logged(
    chunks: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(*chunks)
    source.give(None)
    site, _, wire = wired(bunws.Response(source, headers={"Content-Length": "5"}))
    await settle()
    assert source.closed == 1
    assert len(body_of(wire.sent)) < 5 or not chunks
    assert wire.aborted or wire.sent.startswith(b"HTTP/1.1 500 ")
    assert "the stream has yielded" in caplog.text or site.errors


async def test_a_stream_whose_close_raises_is_sent_all_the_same_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Source):
        async def aclose(self) -> None:
            raise ValueError("not now")

    source = Bad("a")
    source.give(None)
    _, connection, wire = wired(bunws.Response(source))
    await settle()
    assert wire.sent.endswith(b"0\r\n\r\n")
    assert connection.current is None
    assert "a stream raised when it was closed" in caplog.text


async def test_http_1_0_is_told_by_the_end_of_the_connection() -> None:
    source = Source("a", "b")
    source.give(None)
    _, _, wire = wired(bunws.Response(source), b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    await settle()
    assert body_of(wire.sent) == b"ab"
    assert b"Connection: close" in wire.sent
    assert wire.ended


async def test_a_stream_of_known_length_goes_on_for_a_client_that_has_closed_its_half() -> None:
    source = Source("a")
    _, connection, wire = wired(bunws.Response(source, headers={"Content-Length": "2"}))
    await settle()
    assert connection.eof_received()
    source.give("b", None)
    await settle()
    assert body_of(wire.sent) == b"ab"
    assert wire.closed


# What the site makes of an answer


async def test_what_is_prepared_is_sent_and_what_it_was_made_of_cannot_be_sent_again() -> None:
    source, coded = Source("a"), Source("coded")
    coded.give(None)
    response = bunws.Response(source)
    site = Site(lambda _: response)
    site.prepared = lambda _: bunws.Response(coded)
    connection = Connection(site)
    wire = Wire(connection)
    connection.data_received(GET)
    await settle()
    assert b"\r\ncoded\r\n" in wire.sent
    assert (response.body_used, source.closed, coded.closed) == (True, 0, 1)


@pytest.mark.parametrize("body", ["stream", "text"])
async def test_what_cannot_be_prepared_is_closed_logged_and_answered_with_500(
    body: str, caplog: pytest.LogCaptureFixture
) -> None:
    def prepared(_: bunws.Response) -> bunws.Response:
        raise OSError("a secret")

    source = Source("a")
    site = Site(lambda _: bunws.Response(source if body == "stream" else body))
    site.prepared = prepared
    connection = Connection(site)
    wire = Wire(connection)
    connection.data_received(GET + GET if body == "text" else GET)
    await settle()
    assert wire.sent.count(b"HTTP/1.1 500 ") == (2 if body == "text" else 1)
    assert source.closed == (body == "stream")
    assert b"secret" not in wire.sent
    assert "a secret" in caplog.text


@pytest.mark.parametrize("later", [False, True])
async def test_a_mistake_of_the_peer_that_a_handler_lets_pass_is_answered_with_its_status(
    later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(request: bunws.Request) -> bunws.Response:
        raise HTTPError(415, "No form", (("Accept", "multipart/form-data"),))

    async def later_(request: bunws.Request) -> bunws.Response:
        return plain(request)

    site, _, wire = wired(later_ if later else plain, GET + GET)
    await settle()
    assert wire.sent.count(b"HTTP/1.1 415 Unsupported Media Type\r\nAccept: multipart/form-data\r\n") == 2
    assert site.errors == []
    assert caplog.text == ""


# Time


class Clock:
    """That of the running loop, which the test sets: what is due then happens when the loop is let run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.now)

    async def at(self, now: float) -> None:
        self.now = now
        await settle()


async def test_a_silence_is_broken_by_the_heartbeat_when_it_has_lasted_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    source = Source("a", heartbeat=(1.5, b":\n\n"))
    _, connection, wire = wired(bunws.Response(source))
    await settle()
    await clock.at(101.4)
    connection.tick()
    assert len(wire.writes) == 1
    await clock.at(101.5)
    assert wire.writes[1:] == [b"3\r\n:\n\n\r\n"]
    await clock.at(102.5)
    source.give("b")
    await settle()
    # Behind a write the silence begins anew.
    await clock.at(103.9)
    assert wire.writes[2:] == [b"1\r\nb\r\n"]
    await clock.at(104.0)
    await clock.at(105.5)
    assert wire.writes[3:] == [b"3\r\n:\n\n\r\n"] * 2
    source.give(None)
    await clock.at(120.0)
    assert wire.writes[5:] == [b"0\r\n\r\n"]


async def test_no_heartbeat_is_piled_up_for_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    _, connection, wire = wired(bunws.Response(Source("a", heartbeat=(1.0, b":\n\n"))), room=0)
    await settle()
    for now in range(101, 106):
        await clock.at(now)
    assert len(wire.writes) == 1
    wire.read(1 << 20)
    await clock.at(107)
    assert len(wire.writes) == 2
    connection.connection_lost(None)
    await settle()


async def test_a_heart_stops_with_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    go_on = asyncio.Event()

    class Slow(Source):
        async def aclose(self) -> None:
            await go_on.wait()

    _, connection, wire = wired(bunws.Response(Slow("a", heartbeat=(1.0, b":\n\n"))))
    await settle()
    connection.eof_received()
    await clock.at(102.0)
    assert len(wire.writes) == 1
    go_on.set()
    await settle()


async def test_a_silent_stream_may_be_silent_for_ever() -> None:
    source = Source("a")
    _, connection, wire = wired(bunws.Response(source))
    await settle()
    for _ in range(100):
        connection.tick()
    assert not wire.is_closing()
    connection.connection_lost(None)
    await settle()


async def test_a_client_that_reads_slowly_but_reads_is_waited_for() -> None:
    source = Source("x" * 1000)
    _, connection, wire = wired(bunws.Response(source), room=0)
    await settle()
    for _ in range(30):
        wire.read(10)
        connection.tick()
    assert not wire.aborted
    for _ in range(5):
        connection.tick()
    assert wire.aborted
    await settle()
    assert source.closed == 1


async def test_a_stop_waits_a_tick_for_what_has_a_heartbeat_and_longer_for_the_rest() -> None:
    endless, ending = Source("a", heartbeat=(10.0, b":\n\n")), Source("a")
    streams = [wired(bunws.Response(source)) for source in (endless, ending)]
    await settle()
    for closed in (0, 0, 1):
        for site, connection, _ in streams:
            if not site.stopping:
                site.stopping = True
                connection.stop(abrupt=False)
            else:
                connection.tick()
        await settle()
        assert (endless.closed, ending.closed) == (closed, 0)
    assert [wire.aborted for _, _, wire in streams] == [True, False]
    ending.give("b", None)
    await settle()
    assert ending.closed == 1
    _, _, wire = streams[1]
    assert body_of(wire.sent) == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    assert wire.ended


async def test_a_stream_with_a_heartbeat_that_ends_when_the_server_stops_is_sent_whole() -> None:
    source = Source("a", heartbeat=(10.0, b":\n\n"))
    site, connection, wire = wired(bunws.Response(source))
    await settle()
    site.stopping = True
    connection.stop(abrupt=False)
    source.give("b", None)
    connection.tick()
    await settle()
    assert body_of(wire.sent) == b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    assert (wire.ended, wire.aborted) == (True, False)


async def test_what_takes_its_time_to_be_cancelled_is_cancelled_once() -> None:
    cancelled = 0
    go_on = asyncio.Event()

    class Slow(Source):
        async def __anext__(self) -> str:
            nonlocal cancelled
            try:
                return await super().__anext__()
            except asyncio.CancelledError:
                cancelled += 1
                await go_on.wait()
                raise

    site, connection, wire = wired(bunws.Response(Slow("a", heartbeat=(10.0, b":\n\n"))))
    await settle()
    site.stopping = True
    try:
        for _ in range(4):
            connection.tick()
            await settle()
        assert (cancelled, wire.aborted) == (1, False)
    finally:
        go_on.set()
    await settle()
    assert wire.aborted


def test_what_was_published_before_the_server_stops_arrives_and_then_the_last_chunk() -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return bunws.EventStream(server.subscribe("news"))

    with (
        quiet(bunws.serve(fetch=fetch, port=0, hostname="127.0.0.1")) as server,
        RawClient(server.port or 0) as client,
    ):
        client.send(GET)
        eventually(lambda: server.subscriber_count("news") == 1)
        for number in range(100):
            assert server.publish("news", str(number))
        server.stop()
        data = client.rest()
    events = b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in (b"data: %d\n\n" % n for n in range(100)))
    assert body_of(data) == events + b"0\r\n\r\n"


# Requests on one connection


async def test_the_last_request_that_a_connection_may_carry_is_told_so() -> None:
    _, _, wire = wired(bunws.Response("ok"), GET * 5, max_requests=3)
    assert wire.sent.count(b"HTTP/1.1 200") == 3
    assert wire.sent.count(b"Connection: close") == 1
    assert b"Connection: close" in wire.writes[-1]
    assert wire.ended


async def test_pipelined_requests_wait_as_bytes_and_past_a_bound_nothing_more_is_read() -> None:
    calls = 0
    go_on = asyncio.Event()

    async def answer(request: bunws.Request) -> bunws.Response:
        nonlocal calls
        calls += 1
        await go_on.wait()
        return bunws.Response("ok")

    _, connection, wire = wired(answer)
    await settle()
    fed = 0
    while wire.reading:
        connection.data_received(GET)
        fed += 1
    assert MAX_TAIL <= fed * len(GET) < MAX_TAIL + len(GET)
    assert calls == 1
    go_on.set()
    await until(lambda: calls == fed + 1)
    await settle()
    assert wire.reading
    assert wire.sent.count(b"HTTP/1.1 200") == fed + 1


# The log


async def test_the_log_is_told_of_each_answer() -> None:
    told: list[tuple[str | None, int, int]] = []
    source = Source("hello")
    source.give(None)
    answers = {"/a": bunws.Response("hello"), "/b": bunws.Response(source)}
    site = Site(lambda request: answers.get(request.url.path))
    site.log = lambda exchange, status, sent, seconds: told.append(
        (exchange.head and exchange.head.target, status, sent)
    )
    connection = Connection(site)
    wire = Wire(connection)
    sizes = []
    for path in ("/a", "/b", "/c"):
        before = len(wire.sent)
        connection.data_received(GET.replace(b"/ ", path.encode() + b" "))
        await settle()
        sizes.append(len(wire.sent) - before)
    before = len(wire.sent)
    connection.data_received(b"rubbish\r\n\r\n")
    sizes.append(len(wire.sent) - before)
    assert told == [("/a", 200, sizes[0]), ("/b", 200, sizes[1]), ("/c", 500, sizes[2]), (None, 400, sizes[3])]


async def test_the_log_knows_where_a_client_was_that_has_gone() -> None:
    told: list[tuple[SocketAddress | None, int, int]] = []
    go_on = asyncio.Event()

    async def answer(request: bunws.Request) -> bunws.Response:
        await go_on.wait()
        return bunws.Response("hello")

    site = Site(answer)
    site.log = lambda exchange, status, sent, seconds: told.append(
        (exchange.begun and exchange.begun.peer, status, sent)
    )
    connection = Connection(site)
    Wire(connection)
    connection.data_received(GET)
    await settle()
    connection.connection_lost(None)
    go_on.set()
    await settle()
    assert told == [(SocketAddress("192.0.2.1", "IPv4", 40_000), 499, 0)]


# Bodies of requests


def post(size: int, *fields: str) -> bytes:
    lines = ("POST / HTTP/1.1", "Host: a", f"Content-Length: {size}", *fields, "", "")
    return "\r\n".join(lines).encode()


async def test_nothing_is_read_while_nobody_takes_the_body() -> None:
    chunks: list[bytes] = []
    take = asyncio.Queue[None]()

    async def answer(request: bunws.Request) -> bunws.Response:
        async for chunk in request.body:
            chunks.append(chunk)
            await take.get()
        return bunws.Response("ok")

    _, connection, wire = wired(answer, post(HIGH_WATER * 2 + 1))
    await settle()
    connection.data_received(b"a")
    await settle()
    assert chunks == [b"a"]
    connection.data_received(b"b" * (HIGH_WATER - 1))
    assert wire.reading
    connection.data_received(b"c")
    assert not wire.reading
    take.put_nowait(None)
    await settle()
    assert wire.reading
    connection.data_received(b"d" * HIGH_WATER)
    take.put_nowait(None)
    take.put_nowait(None)
    await settle()
    assert b"".join(chunks) == b"a" + b"b" * (HIGH_WATER - 1) + b"c" + b"d" * HIGH_WATER
    assert wire.sent.endswith(b"ok")


async def test_who_wants_the_whole_body_is_never_full() -> None:
    async def answer(request: bunws.Request) -> bunws.Response:
        await asyncio.sleep(0)
        return bunws.Response(b"%d" % len(await request.bytes()))

    size = HIGH_WATER * 3
    _, connection, wire = wired(answer, post(size))
    connection.data_received(b"x" * HIGH_WATER)
    assert not wire.reading
    await settle()
    assert wire.reading
    connection.data_received(b"x" * HIGH_WATER * 2)
    await settle()
    assert wire.sent.endswith(b"%d" % size)


@pytest.mark.parametrize("size", [10, MAX_DISCARDED])
async def test_a_body_that_nobody_wants_is_forgotten_and_the_connection_used_again(size: int) -> None:
    _, connection, wire = wired(bunws.Response("ok"), post(size))
    assert b"Connection: close" not in wire.sent
    connection.data_received(b"x" * size + GET)
    assert wire.sent.count(b"HTTP/1.1 200") == 2


async def test_a_body_that_nobody_wants_and_is_too_long_ends_the_connection() -> None:
    _, _, wire = wired(bunws.Response("ok"), post(MAX_DISCARDED + 1))
    assert b"Connection: close" in wire.sent
    assert wire.ended
    _, connection, wire = wired(bunws.Response("ok"), f"POST / HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n".encode())
    for _ in range(MAX_DISCARDED // 1024):
        connection.data_received(b"400\r\n" + b"x" * 1024 + b"\r\n")
    assert not wire.ended
    connection.data_received(b"1\r\nx\r\n")
    assert wire.ended


async def test_who_reads_a_body_behind_the_answer_is_told_the_mistake() -> None:
    requests: list[bunws.Request] = []

    def answer(request: bunws.Request) -> bunws.Response:
        requests.append(request)
        return bunws.Response("ok")

    wired(answer, post(10))
    with pytest.raises(RuntimeError, match="read its body before"):
        await requests[0].bytes()


async def test_100_is_said_when_the_body_is_first_read_and_once() -> None:
    go_on = asyncio.Event()

    async def answer(request: bunws.Request) -> bunws.Response:
        await go_on.wait()
        return bunws.Response(b"".join([chunk async for chunk in request.body]))

    _, connection, wire = wired(answer, post(2, "Expect: 100-continue"))
    await settle()
    assert wire.writes == []
    go_on.set()
    await settle()
    assert wire.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    connection.data_received(b"a")
    await settle()
    connection.data_received(b"b")
    await settle()
    assert len(wire.writes) == 2
    assert wire.sent.endswith(b"ab")
    assert b"Connection: close" not in wire.sent


async def test_100_is_not_said_to_who_did_not_wait_for_it() -> None:
    async def answer(request: bunws.Request) -> bunws.Response:
        return bunws.Response(await request.bytes())

    _, connection, wire = wired(answer, post(2, "Expect: 100-continue") + b"a")
    await settle()
    assert wire.writes == []
    connection.data_received(b"b")
    await settle()
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_who_waits_for_100_and_gets_an_answer_instead_is_told_the_end() -> None:
    _, _, wire = wired(bunws.Response("no", 403), post(2, "Expect: 100-continue"))
    assert wire.sent.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in wire.sent
    assert wire.ended


async def test_100_is_said_to_who_is_answered_with_its_own_body() -> None:
    _, connection, wire = wired(lambda request: bunws.Response(request.body), post(2, "Expect: 100-continue"))
    await settle()
    assert wire.writes[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert wire.writes[1].startswith(b"HTTP/1.1 200 OK\r\n")
    for piece in (b"a", b"b"):
        connection.data_received(piece)
        await settle()
    assert wire.sent.endswith(b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


async def test_100_is_never_said_within_an_answer() -> None:
    failures: list[Exception] = []

    def answer(request: bunws.Request) -> bunws.Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a"
            try:
                await request.bytes()
            except RuntimeError as exc:
                failures.append(exc)

        return bunws.Response(chunks())

    _, _, wire = wired(answer, post(2, "Expect: 100-continue"))
    await settle()
    assert b"100 Continue" not in wire.sent
    assert wire.sent.endswith(b"0\r\n\r\n")
    assert len(failures) == 1


async def test_a_client_that_waits_for_100_is_not_timed_out_by_a_slow_handler() -> None:
    async def answer(request: bunws.Request) -> bunws.Response:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    site, connection, wire = wired(answer, post(2, "Expect: 100-continue"))
    await settle()
    for _ in range(20):
        connection.tick()
    assert wire.writes == []
    for task in site.tasks:
        task.cancel()
    await settle()


async def test_a_request_knows_when_its_client_has_gone() -> None:
    requests: list[bunws.Request] = []
    for leave in (Connection.eof_received, lambda connection: connection.connection_lost(None)):

        async def answer(request: bunws.Request) -> bunws.Response:
            requests.append(request)
            await request.wait_disconnected()
            return bunws.Response("too late")

        site, connection, _ = wired(answer)
        await settle()
        assert not requests[-1].disconnected
        leave(connection)
        await settle()
        assert requests[-1].disconnected
        assert not site.tasks


async def test_an_answer_may_be_made_of_the_body_of_the_request() -> None:
    _, connection, wire = wired(lambda request: bunws.Response(request.body), post(6))
    await settle()
    assert b"Content-Length" not in wire.sent  # what has arrived by now is not its size
    connection.data_received(b"abc")
    await settle()
    connection.data_received(b"def")
    await settle()
    assert wire.writes[1:] == [b"3\r\nabc\r\n", b"3\r\ndef\r\n", b"0\r\n\r\n"]


# However the bytes are split


async def _answer_all(pieces: list[bytes]) -> bytes:
    async def later(request: bunws.Request) -> bunws.Response:
        return bunws.Response(request.method.encode() + b" " + await request.bytes())

    async def chunks(request: bunws.Request) -> AsyncIterator[bytes]:
        async for chunk in request.body:
            for byte in chunk:  # so that the answer does not depend on how the chunks came
                yield bytes([byte])

    def answer(request: bunws.Request) -> object:
        match request.url.path:
            case "/later":
                return later(request)
            case "/stream":
                return bunws.Response(chunks(request))
            case "/unread":
                return bunws.Response("unread")
        raise ValueError(request.url.path)

    site = Site(answer)
    site.error = lambda exc: bunws.Response(str(exc), 500)
    connection = Connection(site)
    wire = Wire(connection)
    for piece in pieces:
        connection.data_received(piece)
        await asyncio.sleep(0)
    await until(lambda: not site.tasks)
    return wire.sent


_paths = st.sampled_from(["/later", "/stream", "/unread", "/broken"])


@st.composite
def exchanges(draw: st.DrawFn) -> bytes:
    body = draw(st.text("ab: 0\r\n\0", max_size=30)).encode()
    head = f"POST {draw(_paths)} HTTP/1.1\r\nHost: a\r\n"
    if draw(st.booleans()):
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    return f"{head}{CHUNKED}\r\n\r\n".encode() + chunk + b"0\r\n\r\n"


@given(
    st.lists(exchanges(), min_size=1, max_size=5),
    st.sampled_from([b"", b"rubbish\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /later HTTP/1.0\r\n\r\n" + GET]),
    st.data(),
)
def test_answers_do_not_depend_on_how_the_bytes_were_split(
    requests: list[bytes], last: bytes, data: st.DataObject
) -> None:
    whole = b"".join(requests) + last
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = asyncio.run(_answer_all([whole]))
    assert expected.count(b"HTTP/1.1 ") == len(requests) + bool(last)
    assert asyncio.run(_answer_all(pieces)) == expected
    assert asyncio.run(_answer_all([whole[at : at + 1] for at in range(len(whole))])) == expected


# Over real sockets, on uvloop


def serve(fetch: Callable[..., object], **options: object) -> contextlib.AbstractContextManager[bunws.Server]:
    return quiet(bunws.serve(fetch=fetch, port=0, hostname="127.0.0.1", **options))  # type: ignore[arg-type]  # a mix


def connect(server: bunws.Server, **options: int) -> RawClient:
    assert server.port is not None
    return RawClient(server.port, **options)


def head(client: RawClient) -> bytes:
    return b"".join(iter(client.file.readline, b"\r\n"))


def chunk(client: RawClient) -> bytes:
    size = int(client.file.readline(), 16)
    data = client.file.read(size)
    assert client.file.readline() == b"\r\n"
    return data


def test_a_client_has_the_first_part_while_the_second_is_being_made() -> None:
    go_on = threading.Event()

    async def page() -> AsyncIterator[str]:
        yield "shell"
        await asyncio.to_thread(go_on.wait, PATIENCE)
        yield "content"

    with serve(lambda _: bunws.Response(page())) as server, connect(server) as client:
        client.get()
        assert b"chunked" in head(client)
        assert chunk(client) == b"shell"
        go_on.set()
        assert [chunk(client), chunk(client)] == [b"content", b""]
        assert chunk_free_get(client) == b"shell"


def chunk_free_get(client: RawClient) -> bytes:
    """The first chunk of another answer on the same connection."""
    client.get()
    head(client)
    return chunk(client)


@pytest.mark.parametrize("leave", [RawClient.close, RawClient.reset, RawClient.half_close])
@pytest.mark.parametrize("waits", [True, False], ids=["waits", "writes"])
def test_a_client_that_leaves_closes_the_generator(leave: Callable[[RawClient], object], waits: bool) -> None:
    ended = threading.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            yield b"a"
            while True:
                if waits:
                    await asyncio.get_running_loop().create_future()
                yield b"x" * 100_000
        finally:
            ended.set()

    with serve(lambda _: bunws.Response(chunks())) as server, connect(server) as client:
        client.get()
        head(client)
        assert chunk(client) == b"a"
        leave(client)
        assert ended.wait(PATIENCE)
        eventually(lambda: not server._guests.connections)


def test_a_client_that_does_not_read_stops_the_generator_and_gets_everything_in_the_end() -> None:
    made = 0

    def chunks() -> Iterator[bytes]:
        nonlocal made
        for _ in range(2000):
            made += 1
            yield b"x" * 10_000

    with serve(lambda _: bunws.Response(chunks())) as server, connect(server, receive_buffer=4096) as client:
        client.get()
        head(client)

        def is_stuck() -> bool:
            before = made
            with connect(server) as other:  # a whole answer to somebody else lies between two looks
                other.send(b"rubbish\r\n\r\n").answer()
            return made == before

        eventually(is_stuck)
        assert made < 2000
        assert sum(len(chunk(client)) for _ in range(2000)) == 20_000_000
        assert chunk(client) == b""


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_client_never_takes_a_part_for_the_whole(version: bytes, caplog: pytest.LogCaptureFixture) -> None:
    go_on = threading.Event()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"a part"
        await asyncio.to_thread(go_on.wait, PATIENCE)
        raise ValueError("a secret")

    with serve(lambda _: bunws.Response(chunks())) as server, connect(server) as client:
        client.send(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n")
        head(client)
        read = client.file.read(6) if version == b"1.0" else chunk(client)
        assert read == b"a part"
        go_on.set()
        if version == b"1.0":
            with pytest.raises(ConnectionResetError):
                client.rest()
        else:
            assert client.rest() == b""
    assert [(record.name, record.levelno) for record in caplog.records] == [("bunws", logging.ERROR)]


def test_an_upload_is_echoed_chunk_by_chunk_while_it_arrives() -> None:
    with serve(lambda request: bunws.Response(request.body)) as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + CHUNKED.encode() + b"\r\n\r\n")
        assert b"chunked" in head(client)
        for word in (b"one", b"two", b"three"):
            client.send(b"%x\r\n%b\r\n" % (len(word), word))
            assert chunk(client) == word
        client.send(b"0\r\n\r\n")
        assert chunk(client) == b""


def test_an_endless_upload_to_a_handler_that_does_not_read_meets_tcp() -> None:
    go_on = threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        await asyncio.to_thread(go_on.wait, PATIENCE)
        size = 0
        async for piece in request.body:
            size += len(piece)
        return bunws.Response(str(size))

    size = 50_000_000
    with serve(fetch) as server, connect(server) as client:
        client.send(post(size))
        data = memoryview(bytes(size))
        client.socket.setblocking(False)
        sent = 0

        def is_stuck() -> bool:
            nonlocal sent
            before = sent
            with contextlib.suppress(BlockingIOError):
                sent += client.socket.send(data[sent:])
            with connect(server) as other:
                other.send(b"rubbish\r\n\r\n").answer()
            return sent == before

        eventually(is_stuck)
        assert sent < size
        (exchange,) = (c.current for c in server._guests.connections if c.current is not None)
        assert exchange.body.buffered < 1_000_000
        go_on.set()
        client.socket.settimeout(PATIENCE)
        client.socket.sendall(data[sent:])
        assert client.answer().body == str(size).encode()
