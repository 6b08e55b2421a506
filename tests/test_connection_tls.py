"""Answers over TLS, on both event loops: whole for who reads them, however slowly, and never ahead without bound."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import bunws
from bunws.transport import bytes_left, departure_of, is_tls
from tests.clients import EACH_LOOP, Client, TLSClient, connection, serving, until


LOOP_FACTORIES = EACH_LOOP

Fetch = Callable[[bunws.Request], object]

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The server's and the client's."""
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def shaken(server: bunws.Server, context: ssl.SSLContext) -> AsyncIterator[TLSClient]:
    """A client for which the kernel takes little ahead."""
    async with connection(server, receive_buffer=10_000) as client:
        tls = TLSClient(client, context)
        await tls.shake_hands()
        yield tls


async def settle() -> None:
    """Let the loop do all that it can do by itself, with what the kernel has for it."""
    for _ in range(50):
        await asyncio.sleep(0)


# Streams


TEXT = b"".join(b"line %d of what is worth compressing\n" % number for number in range(50_000))  # 2 MB


async def pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(TEXT), 100_000):
        await asyncio.sleep(0)
        yield TEXT[at : at + 100_000]


async def moments() -> AsyncIterator[str]:
    for number in range(5):
        await asyncio.sleep(0)
        yield str(number)


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        async for piece in pieces():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


@pytest.mark.parametrize("coding", ["identity", "gzip"])
@pytest.mark.parametrize("kind", ["file", "generator", "iterable", "events", "application", "bytes"])
async def test_a_streamed_answer_is_whole_over_tls(
    kind: str, coding: str, contexts: tuple[ssl.SSLContext, ssl.SSLContext], tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    plain = {"Content-Type": "text/plain"}
    answers: dict[str, Fetch] = {
        "file": lambda request: bunws.Response.file(path),
        "generator": lambda request: bunws.Response(pieces(), headers=plain),
        "iterable": lambda request: bunws.Response((bytes([letter]) for letter in b"abcde"), headers=plain),
        "events": lambda request: bunws.EventStream(moments()),
        "bytes": lambda request: bunws.Response(TEXT, headers=plain),
    }
    theirs, ours = contexts
    fetch = bunws.asgi(application) if kind == "application" else answers[kind]
    expected = {"iterable": b"abcde", "events": b"".join(b"data: %d\n\n" % number for number in range(5))}
    async with serving(fetch=fetch, tls=theirs, compression=True) as server, httpx.AsyncClient(verify=ours) as client:
        for _ in range(2):  # over one connection
            answer = await client.get(str(server.url), headers={"Accept-Encoding": coding})
            assert answer.content == expected.get(kind, TEXT)


async def test_a_stream_waits_for_a_client_that_does_not_read_over_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    made = 0

    def chunks() -> Iterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(64 * 1024)

    theirs, ours = contexts
    async with (
        serving(fetch=lambda request: bunws.Response(chunks()), tls=theirs) as server,
        shaken(server, ours) as client,
    ):
        await client.send(GET)
        await until(lambda: any(not each.is_writable for each in server._guests.connections))
        (guest,) = server._guests.connections
        before = made
        await settle()
        assert made == before
        assert guest.transport is not None
        assert is_tls(guest.transport)
        assert guest.transport.get_write_buffer_size() < 3 * 64 * 1024
        while made < before + 10:  # goes on as it is read
            await client.receive()


# Clients that leave


async def test_a_client_that_leaves_during_an_answer_over_tls_is_nothing_to_log(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    left: list[bunws.Request] = []

    async def fetch(request: bunws.Request) -> bunws.Response:
        await request.wait_disconnected()
        left.append(request)
        return bunws.Response()

    theirs, ours = contexts
    async with serving(fetch=fetch, tls=theirs) as server:  # which fails where a warning is logged
        for leave in (Client.end, Client.reset):
            async with shaken(server, ours) as client:
                await client.send(GET)
                await until(lambda: server.pending_requests)
                leave(client.client)
                await until(lambda: not server.pending_requests)
        await until(lambda: not server._guests.connections)
    assert [request.disconnected for request in left] == [True, True]


@pytest.mark.parametrize("leave", [Client.end, Client.reset])
async def test_a_client_that_leaves_while_nothing_is_read_is_noticed_over_tls(
    leave: Callable[[Client], None], contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    left: list[bunws.Request] = []

    async def fetch(request: bunws.Request) -> bunws.Response:
        await request.wait_disconnected()
        left.append(request)
        return bunws.Response()

    theirs, ours = contexts
    async with serving(fetch=fetch, tls=theirs) as server, shaken(server, ours) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + bytes(70_000))
        await until(lambda: any(not each._reading for each in server._guests.connections))
        (guest,) = server._guests.connections
        assert left == []
        leave(client.client)
        await until(lambda: guest.transport is None or departure_of(guest.transport))
        server._guests.sweeper.sweep()
        await until(lambda: left)
        client.client.socket.close()
        await until(lambda: not server._guests.connections)


# Slow clients


WHOLE = bytes(6 * 1024 * 1024)


async def whole_pieces() -> AsyncIterator[bytes]:
    for at in range(0, len(WHOLE), 1024 * 1024):
        yield WHOLE[at : at + 1024 * 1024]


@pytest.mark.parametrize("connection_field", [b"", b"Connection: close\r\n"])
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_client_that_reads_slowly_gets_the_whole_answer_over_tls(
    is_streamed: bool,
    connection_field: bytes,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # What asyncio gives TLS for its goodbye, which waits behind the answer.
    monkeypatch.setattr(asyncio.constants, "SSL_SHUTDOWN_TIMEOUT", 0.001)  # type: ignore[attr-defined]  # no stub
    headers = {"Content-Length": str(len(WHOLE))}

    def fetch(request: bunws.Request) -> bunws.Response:
        return bunws.Response(whole_pieces() if is_streamed else WHOLE, headers=headers)

    theirs, ours = contexts
    async with serving(fetch=fetch, tls=theirs) as server, shaken(server, ours) as client:
        await client.send(GET[:-2] + connection_field + b"\r\n")
        received = await client.receive()
        head_size = received.index(b"\r\n\r\n") + 4
        size = len(received)
        while size < head_size + len(WHOLE):
            server._guests.sweeper.sweep()  # more often than any timeout has ticks
            for _ in range(4):
                size += len(await client.receive())
                await asyncio.sleep(0)  # what is there is received without one
        assert size == head_size + len(WHOLE)


async def test_a_client_that_reads_nothing_more_is_dropped_over_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    theirs, ours = contexts
    async with (
        serving(fetch=lambda request: bunws.Response(WHOLE), tls=theirs) as server,
        shaken(server, ours) as client,
    ):
        await client.send(GET)
        assert await client.receive()
        for _ in range(server._site.http_ticks):
            server._guests.sweeper.sweep()
            await settle()
        assert len(server._guests.connections) == 1
        for _ in range(3):  # what the kernel had taken may have moved once
            server._guests.sweeper.sweep()
            await settle()
        await until(lambda: not server._guests.connections)


async def test_a_client_that_has_read_it_all_only_has_to_ask_again_over_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    theirs, ours = contexts
    async with (
        serving(fetch=lambda request: bunws.Response(WHOLE), tls=theirs) as server,
        httpx.AsyncClient(verify=ours) as client,
    ):
        assert (await client.get(str(server.url))).content == WHOLE
        (guest,) = server._guests.connections
        assert guest.transport is not None
        assert bytes_left(guest.transport) == 0


async def test_a_client_that_does_not_answer_the_goodbye_is_dropped_over_tls(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    theirs, ours = contexts
    async with (
        serving(fetch=lambda request: bunws.Response(), tls=theirs, idle_timeout=0) as server,
        shaken(server, ours) as client,
    ):
        await client.send(GET)
        assert await client.receive()
        for _ in range(2):  # as when somebody has pressed Ctrl-C twice
            server.stop()
            await settle()
        assert len(server._guests.connections) == 1
        for _ in range(server.close_ticks):
            server._guests.sweeper.sweep()
        await until(lambda: not server._guests.connections)
