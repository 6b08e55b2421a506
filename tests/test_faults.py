"""
Faults: peers that are killed, sockets that break within a flush, TLS that is cut, memory that runs out.

Rule: after each of them every count is exactly what it was: sockets, requests, subscribers, feeds, tasks, descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest
import trustme

import bunws
from bunws.engine import Engine
from bunws.http.wire import RequestParser
from bunws.messages import MessageAssembler
from bunws.topics import Run
from tests.attacks import counts_of
from tests.clients import (
    CLOSE,
    EACH_LOOP,
    Frame,
    TLSClient,
    binary,
    connected,
    connection,
    cont,
    handshake,
    ping,
    serving,
    text,
    until,
)
from tests.support import COMPILED, Script


LOOP_FACTORIES = EACH_LOOP

Socket = bunws.ServerWebSocket[object]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.asynccontextmanager
async def balanced(server: bunws.Server) -> AsyncIterator[None]:
    """Behind this block everything is as it was before, down to the descriptors."""
    async with connection(server) as client:  # what the first connection of a server takes for ever
        await client.send(b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n")
        await client.receive_answer()
    await until(lambda: not server._guests)
    gc.collect()
    counts, tasks, count = counts_of(server), asyncio.all_tasks(), descriptors()
    yield
    await until(lambda: counts_of(server) == counts)
    await until(lambda: asyncio.all_tasks() <= tasks)
    gc.collect()
    await until(lambda: descriptors() == count)


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    return None if server.upgrade(request) else bunws.Response("hello", 404)


class Room:
    """A table whose sockets hear "room", and what it was told."""

    def __init__(self, **more: object) -> None:
        self.sockets: list[Socket] = []
        self.closes: list[int] = []
        self.messages: list[object] = []
        self.table: dict[str, object] = {
            "open": self.open,
            "message": lambda ws, message: self.messages.append(message),
            "close": lambda ws, code, reason: self.closes.append(code),
            **more,
        }

    def open(self, ws: Socket) -> None:
        ws.subscribe("room")
        self.sockets.append(ws)


# Peers that die


KILLED = """
import sys
from tests.support import RawClient, RawWebSocket
peers = []
for number in range(20):
    peer = RawWebSocket({port})
    # Half a header, a header, half a payload, half a message: where it dies is different for each.
    peer.send([b"\\x82", b"\\x82\\xfe\\x10", b"\\x82\\x85abcd12", b"\\x02\\x81abcd1"][number % 4])
    peers.append(peer)
    client = RawClient({port})
    client.send([b"GET / HT", b"POST / HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: 9\\r\\n\\r\\nabc"][number % 2])
    peers.append(client)
print("ready")
sys.stdin.read()
"""


async def test_client_that_is_killed_in_the_middle_of_a_frame_leaves_nothing() -> None:
    room = Room()

    async def read(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        if request.method == "POST":
            await request.bytes()
        return fetch(request, server)

    async with serving(room.table, fetch=read) as server, balanced(server):
        with Script(KILLED.format(port=server.port), stdin=True) as script:
            assert await asyncio.to_thread(script.line) == "ready"
            await until(lambda: (server.pending_websockets, server.pending_requests) == (20, 10))
            assert server.subscriber_count("room") == 20
            script.signal(signal.SIGKILL)
            await until(lambda: server.pending_websockets == 0)
        await until(lambda: len(room.closes) == 20)
    assert room.closes == [1006] * 20


@pytest.mark.parametrize("how", ["RST", "FIN", "RST in a frame", "FIN in a frame"])
async def test_those_that_die_in_a_group_do_not_disturb_it(how: str) -> None:
    room = Room()
    async with serving(room.table) as server, balanced(server), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(20)]
        dying, living = clients[::2], clients[1::2]
        for n in range(100):
            server.publish("room", str(n))
            if n % 10 == 5:
                client = dying[n // 10]
                if how.endswith("frame"):
                    await client.send(binary(b"a" * 1000)[:500])
                client.reset() if how.startswith("RST") else client.socket.close()
            await asyncio.sleep(0)
        for client in living:
            assert [await client.receive() for _ in range(100)] == [Frame.text(str(n)) for n in range(100)]
        await until(lambda: server.subscriber_count("room") == 10)
        assert (server.pending_websockets, len(room.closes)) == (10, 10)
        assert set(room.closes) == {1006}
        for client in living:
            client.socket.close()


async def test_churn_of_every_kind_of_end_leaves_nothing() -> None:
    room = Room()

    async def come_and_go(number: int) -> None:
        async with connection(server) as client:
            if number % 5 == 0:
                await client.send(b"GET / HT")
            elif number % 5 == 1:
                await client.send(handshake()[: number % 100])
            else:
                await client.send(handshake() + text("hello") + ping())
                if number % 5 > 2:
                    await client.receive_answer()
            if number % 2:
                client.reset()

    async with serving(room.table, max_connections_per_ip=1000) as server, balanced(server):
        for begin in range(0, 300, 50):
            await asyncio.gather(*map(come_and_go, range(begin, begin + 50)))
        await until(lambda: not server._guests)
        assert server._guests._quota is not None
        assert len(server._guests._quota) == 0
    assert len(room.closes) == len(room.sockets)


# Sockets that break within a flush


class Broken:
    """A transport whose write fails."""

    def __init__(self, transport: Any, error: BaseException) -> None:
        self._transport = transport
        self._error = error

    def write(self, data: bytes) -> None:
        raise self._error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


ERRORS = [
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    MemoryError(),
    RuntimeError("File descriptor 5 is used by transport"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("own", [False, True], ids=["a publish", "a send"])
async def test_socket_that_breaks_within_a_flush_is_dropped_and_the_others_hear_all(
    error: BaseException, own: bool
) -> None:
    room = Room()
    async with serving(room.table, complains=True) as server, balanced(server), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(9)]
        broken = room.sockets[4]
        broken._transport = cast("Any", Broken(broken._transport, error))
        broken._descriptor = -1  # so that it is asked
        for n in range(10):
            server.publish("room", str(n))
            if own:
                for ws in room.sockets:
                    ws.send(f"to you {n}")
            await until(lambda: not server._turn._scheduled)
        expected = [Frame.text(f"{kind}{n}") for n in range(10) for kind in (("", "to you ") if own else ("",))]
        for index, client in enumerate(clients):
            if index != 4:
                assert [await client.receive() for _ in expected] == expected
        assert await clients[4].receive_until_dropped() == []
        await until(lambda: room.closes == [1006])
        assert (server.pending_websockets, server.subscriber_count("room")) == (8, 8)
        for client in clients:
            client.socket.close()


def poison(run: Run | None) -> None:
    """Make its messages such that nobody can encode them."""
    assert run is not None
    run.pieces[-1] = cast("bytes", [])


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflated"])
async def test_exception_in_the_middle_of_a_flush_costs_those_it_concerns(deflate: bool) -> None:
    room = Room(per_message_deflate=deflate)
    offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    async with serving(room.table, complains=True) as server, balanced(server), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server, offer)) for _ in range(6)]
        for number, ws in enumerate(room.sockets):
            ws.unsubscribe("room")
            ws.subscribe("ab"[number % 2])
        server.publish("a", "lost", compress=True)
        poison(server._turn.topics.open)
        server.publish("b", "hello", compress=True)
        room.sockets[1].send("hello to you")
        room.sockets[3].send("lost")
        poison(room.sockets[3]._run)
        await until(lambda: not server._turn._scheduled)
        # Who missed something is not left in the belief that it did not.
        await until(lambda: server.pending_websockets in (2, 3))
        server.publish("b", "once more")
        alive = [ws for ws in room.sockets if ws.ready_state is bunws.ReadyState.OPEN]
        assert room.sockets[1] in alive
        assert room.sockets[5] in alive
        assert room.sockets[0] not in alive
        for ws in alive:
            ws.send("and you")
        heard = [await clients[1].receive() for _ in range(4)]
        assert sorted(heard[:2]) == [Frame.text("hello"), Frame.text("hello to you")]
        assert heard[2:] == [Frame.text("once more"), Frame.text("and you")]
        assert [await clients[5].receive() for _ in range(3)] == [
            Frame.text("hello"),
            Frame.text("once more"),
            Frame.text("and you"),
        ]
        assert await clients[0].receive_until_dropped() == []
        for client in clients:
            client.socket.close()


# Memory that runs out while something is read


class Hungry:
    """A frame for whose payload there is no memory."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def get_payload_as_bytes(self) -> bytes:
        raise MemoryError

    get_payload_as_utf8_text = get_payload_as_bytes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frame, name)


def starve_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    if COMPILED:
        pytest.skip("nothing can be put into a compiled class")
    original = Engine.on_ws_frame
    monkeypatch.setattr(
        Engine, "on_ws_frame", lambda self, transport, frame: original(self, transport, cast("Any", Hungry(frame)))
    )


def starve_assembler(monkeypatch: pytest.MonkeyPatch) -> None:
    def add(self: MessageAssembler, *_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(MessageAssembler, "add", add)


STARVED: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], bytes]] = {
    "a text": (starve_frames, text("lost")),
    "a binary message": (starve_frames, binary(b"lost")),
    "a ping": (starve_frames, ping(b"lost")),
    "a fragment": (starve_assembler, text("lost", fin=False) + cont("too")),
}


@pytest.mark.parametrize("name", STARVED)
async def test_message_for_which_there_is_no_memory_is_not_lost_without_a_word(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    starve, wire = STARVED[name]
    room = Room()
    async with (
        serving(room.table, complains=True) as server,
        balanced(server),
        connected(server) as client,
        connected(server) as other,
    ):
        starve(monkeypatch)
        await client.send(wire)
        opcode, payload = await client.receive()
        assert (opcode, payload[:2]) == (CLOSE, b"\x03\xf3")  # 1011
        client.end()
        await until(lambda: len(room.closes) == 1)
        monkeypatch.undo()
        await other.send(text("still there?"))
        await until(lambda: room.messages == ["still there?"])
        assert server.pending_websockets == 1
        client.socket.close()
        other.socket.close()


@pytest.mark.skipif(COMPILED, reason="nothing can be put into a compiled class")
async def test_request_for_which_there_is_no_memory_ends_its_connection_only(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def read(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return bunws.Response(await request.bytes())

    original = RequestParser.feed

    def feed(self: RequestParser, data: bytes) -> Any:
        if b"poison" in data:
            raise MemoryError
        return original(self, data)

    async with serving(fetch=read, complains=True) as server, balanced(server), connection(server) as other:
        monkeypatch.setattr(RequestParser, "feed", feed)
        for begin in (b"", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n"):
            async with connection(server) as client:
                await client.send(begin)
                if begin:
                    await until(lambda: server.pending_requests == 1)
                await client.send(b"poison")
                assert await client.receive_until_dropped() == []
        await until(lambda: server.pending_requests == 0)
        await other.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await other.receive_answer()).status == 200
        other.socket.close()


async def test_handler_without_memory_is_answered_with_500(caplog: pytest.LogCaptureFixture) -> None:
    def starve(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        if request.url.path == "/nothing":
            return bunws.Response()
        raise MemoryError

    async with serving(fetch=starve, complains=True) as server, balanced(server), connection(server) as client:
        for _ in range(3):
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.receive_answer()).status == 500
        client.socket.close()


# Clients that go in the middle of an answer


@pytest.mark.parametrize("path", ["/file", "/upload", "/events", "/stream", "/wait", "/application"])
@pytest.mark.parametrize("how", ["RST", "FIN"])
async def test_client_that_goes_within_an_answer_leaves_nothing(path: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(8 * 1024 * 1024))
    folder = bunws.static(tmp_path)
    ended: list[str] = []

    async def forever() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(60_000)
        finally:
            ended.append("stream")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with contextlib.suppress(OSError):
            while True:
                await send({"type": "http.response.body", "body": bytes(60_000), "more_body": True})

    app = bunws.asgi(application, lifespan="off")

    async def answer(request: bunws.Request, server: bunws.Server) -> Any:
        match request.url.path:
            case "/file":
                return folder(request, server)
            case "/upload":
                async with await request.form() as form:
                    return bunws.Response(str(len(form)))
            case "/events":
                return bunws.EventStream(server.subscribe("events"))
            case "/stream":
                return bunws.Response(forever())
            case "/wait":
                await request.wait_disconnected()
                return bunws.Response()
            case "/application":
                return await app(request, server)
        return bunws.Response()

    request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    if path == "/upload":
        request = (
            b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b'Content-Length: 10000000\r\n\r\n--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\n'
        ) + bytes(1_000_000)
    async with serving(fetch=answer) as server:
        async with connection(server) as client:  # the executor's threads, and what they hold
            await client.send(b"GET /file HTTP/1.1\r\nHost: a\r\nRange: bytes=0-0\r\n\r\n")
            await client.receive_answer()
        async with balanced(server):
            for _ in range(5):
                async with connection(server, receive_buffer=10_000) as client:
                    await client.send(request)
                    await until(lambda: server.pending_requests == 1)
                    if path not in ("/upload", "/wait"):
                        assert await asyncio.get_running_loop().sock_recv(client.socket, 15) == b"HTTP/1.1 200 OK"
                    if how == "RST":
                        client.reset()
                await until(lambda: server.pending_requests == 0)
    assert len(ended) == (5 if path == "/stream" else 0)


# TLS that is cut


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def contexts(authority: trustme.CA) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


def changed(record: bytes) -> bytes:
    return record[:-1] + bytes([record[-1] ^ 1])


# RFC 8446, 6: an alert is a record of type 21 with a level and a description.
CUTS: dict[str, Callable[[TLSClient], bytes]] = {
    "FIN": lambda tls: b"",
    "fatal alert": lambda tls: b"\x15\x03\x03\x00\x02\x02\x28",
    "warning": lambda tls: b"\x15\x03\x03\x00\x02\x01\x5a",
    "half a record": lambda tls: tls.records(text("hello"))[:-5],
    "record that was changed": lambda tls: changed(tls.records(text("hello"))),
    "record that is too long": lambda tls: b"\x17\x03\x03\xff\xff" + b"a" * 100,
    "no TLS": lambda tls: b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("stage", ["handshake", "request", "websocket"])
@pytest.mark.parametrize("cut", CUTS)
async def test_tls_that_is_cut_ends_its_connection_only(
    cut: str, stage: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    # asyncio reports what peers do to TLS to the loop's exception handler, which is the caller's to choose.
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    if stage == "handshake" and cut in ("half a record", "record that was changed"):
        pytest.skip("there are no records yet")
    room = Room()
    theirs, ours = contexts
    async with serving(room.table, tls=theirs, fetch=fetch) as server, connection(server) as raw:
        other = TLSClient(raw, ours)
        await other.shake_hands()
        await other.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await other.receive()).startswith(b"HTTP/1.1 404 ")
        gc.collect()
        counts, count = counts_of(server), descriptors()
        for _ in range(3):
            async with connection(server) as client:
                tls = TLSClient(client, ours)
                if stage == "handshake":
                    await client.send(b"\x16\x03\x01")
                else:
                    await tls.shake_hands()
                    await tls.send(handshake() if stage == "websocket" else b"GET / HT")
                    if stage == "websocket":
                        assert (await tls.receive()).startswith(b"HTTP/1.1 101 ")
                        await until(lambda: server.pending_websockets == 1)
                with contextlib.suppress(ConnectionError):
                    await client.send(CUTS[cut](tls))
                    client.end()
                    while await asyncio.get_running_loop().sock_recv(client.socket, 65_536):
                        pass
            await until(lambda: counts_of(server) == counts)
        await until(lambda: descriptors() == count)
        await other.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await other.receive()).startswith(b"HTTP/1.1 404 ")
        assert room.messages == []
        assert room.closes == ([1006] * 3 if stage == "websocket" else [])


async def test_handshake_of_tls_that_never_ends_is_ended_by_the_idle_timeout(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1, "asyncio")
    async with serving(fetch=fetch, tls=contexts[0], idle_timeout=0.2) as server:
        async with connection(server) as client:  # what the first connection of a server takes for ever
            await TLSClient(client, contexts[1]).shake_hands()
        await until(lambda: not server._guests)
        gc.collect()
        before = descriptors()
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(50)]
            for sock in silent:
                sock.setblocking(False)
                with contextlib.suppress(ConnectionError):
                    assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
        await until(lambda: descriptors() <= before)


# The end of the server


@pytest.mark.parametrize("at_once", [False, True], ids=["gracefully", "at once"])
async def test_async_close_handlers_are_told_however_the_server_ends(at_once: bool) -> None:
    told: list[int] = []

    async def tell(ws: Socket, code: int, reason: str) -> None:
        told.append(code)
        await asyncio.sleep(0)

    async with serving({"close": tell}) as server, contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(server)) for _ in range(10)]
        stopped = asyncio.ensure_future(server.stop(close_active_connections=at_once))
        for client in clients:
            frames = await client.receive_until_dropped() if at_once else [await client.receive()]
            assert frames in ([Frame.close(1001, "Server closed")], [])
            client.socket.close()
        await stopped
        assert set(counts_of(server).values()) == {0}
    assert told == [1001] * 10
