"""ASGI: raw applications, Starlette and FastAPI as `fetch` handlers, over real sockets."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import ClientDisconnect, Request as StarletteRequest
from starlette.responses import (
    FileResponse,
    PlainTextResponse,
    Response as StarletteResponse,
    StreamingResponse,
)
from starlette.routing import Mount, Route

import bunws
from bunws.asgi import ASGIApp, asgi
from tests.clients import EACH_LOOP, serving
from tests.support import PATIENCE, until


LOOP_FACTORIES = EACH_LOOP

# As ASGI has them; each framework has types of its own for them.
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


@asynccontextmanager
async def answering(app: ASGIApp, *, complains: bool = False, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """An application that is served, and a client of it."""
    arguments = {name: options.pop(name) for name in ("lifespan", "root_path") if name in options}
    async with (
        serving(fetch=asgi(app, **arguments), complains=complains, **options) as server,
        httpx.AsyncClient(base_url=str(server.url), timeout=PATIENCE) as client,
    ):
        yield client


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def content(data: bytes = b"", more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def http_only(handler: Callable[[Scope, Receive, Send], Awaitable[None]]) -> ASGIApp:
    """An application that knows no lifespan, in the way that the specification has it: it raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await handler(scope, receive, send)

    return app


# The scope


async def scope_of(method: str, target: str, root_path: str = "", **arguments: Any) -> tuple[Scope, bunws.Server]:
    """What an application is told about a request."""
    scopes: list[Scope] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(start())
        await send(content())

    async with serving(fetch=asgi(app, root_path=root_path)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        lines = "".join(f"{line}\r\n" for line in arguments.get("lines", ()))
        writer.write(f"{method} {target} HTTP/1.1\r\nHost: example.test\r\n{lines}\r\n".encode("latin-1"))
        await reader.readuntil(b"\r\n\r\n")
        port = writer.get_extra_info("sockname")[1]
        writer.close()
        await writer.wait_closed()
        (scope,) = scopes
        assert scope["client"] == ["127.0.0.1", port]
        assert scope["server"] == ["127.0.0.1", server.port]
    return scope, server


async def test_the_scope_says_what_the_request_line_says() -> None:
    scope, _ = await scope_of("PATCH", "/a/b?x=1&y=%20")
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["http_version"] == "1.1"
    assert scope["method"] == "PATCH"
    assert scope["scheme"] == "http"
    assert scope["path"] == "/a/b"
    assert scope["query_string"] == b"x=1&y=%20"
    assert scope["root_path"] == ""
    assert scope["state"] == {}
    assert scope["extensions"] == {}


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query"),
    [
        ("/", "/", b"/", b""),
        ("/caf%C3%A9", "/café", b"/caf%C3%A9", b""),
        ("/a%2Fb/../c", "/a%2Fb/../c", b"/a%2Fb/../c", b""),
        ("/%7Euser?%7E=%2B+", "/~user", b"/%7Euser", b"%7E=%2B+"),
        ("/?", "/", b"/", b""),
        ("/?a?b", "/", b"/", b"a?b"),
        ("/%ff%", "/\ufffd%", b"/%ff%", b""),
        ("http://example.test/x?y", "/x", b"/x", b"y"),
    ],
)
async def test_path_and_query_come_as_they_were_sent(target: str, path: str, raw_path: bytes, query: bytes) -> None:
    scope, _ = await scope_of("GET", target)
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


async def test_headers_come_in_lower_case_in_their_order_and_with_duplicates() -> None:
    scope, _ = await scope_of("GET", "/", lines=["X-One: 1", "x-two: t\xfcv", "X-ONE: 2", "Cookie: a=b"])
    assert [tuple(pair) for pair in scope["headers"]] == [
        (b"host", b"example.test"),
        (b"x-one", b"1"),
        (b"x-two", b"t\xfcv"),
        (b"x-one", b"2"),
        (b"cookie", b"a=b"),
    ]


async def test_an_application_is_told_where_it_is_mounted_and_the_whole_path() -> None:
    scope, _ = await scope_of("GET", "/api/users", root_path="/api")
    assert (scope["root_path"], scope["path"]) == ("/api", "/api/users")


async def test_on_a_unix_socket_there_is_no_client_and_the_server_is_a_path(tmp_path: Path) -> None:
    scopes: list[Scope] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await send(start())
        await send(content())

    path = str(tmp_path / "socket")
    async with (
        bunws.serve(fetch=asgi(app), unix=path),
        httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=path)) as client,
    ):
        await client.get("http://localhost/")
    assert scopes[0]["client"] is None
    assert scopes[0]["server"] == [path, None]


# The content of a request


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with each piece as it comes."""
    await send(start(200, (b"content-type", b"application/octet-stream")))
    more = True
    while more:
        event = await receive()
        assert event["type"] == "http.request"
        more = event["more_body"]
        await send(content(event["body"], more))


async def test_an_application_reads_a_request_and_writes_a_response_at_the_same_time() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def upload() -> AsyncIterator[bytes]:
        for number, gate in enumerate(gates):
            yield b"piece %d" % number
            await gate.wait()  # until this piece has come back

    # httpx does not read before it has sent all: so this is written by hand.
    async with serving(fetch=asgi(http_only(echo))) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        pieces = upload()
        for gate in gates:
            piece = await anext(pieces)
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if gate is gates[0]:
                assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readuntil(piece + b"\r\n")
            gate.set()
        writer.write(b"0\r\n\r\n")
        assert await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        await writer.wait_closed()


async def test_a_request_without_content_is_one_empty_event() -> None:
    async with answering(http_only(echo)) as client:
        response = await client.get("/")
        assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("size", [1, 100_000, 3_000_000])
async def test_an_upload_comes_whole(size: int) -> None:
    async def app(request: StarletteRequest) -> StarletteResponse:
        data = await request.body()
        return PlainTextResponse(f"{len(data)} {data == b'x' * size}")

    async with answering(Starlette(routes=[Route("/", app, methods=["POST"])])) as client:
        assert (await client.post("/", content=b"x" * size)).text == f"{size} True"


async def test_an_application_need_not_read_what_was_sent() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(content(b"not interested"))

    async with answering(app) as client:
        for _ in range(2):
            assert (await client.post("/", content=b"x" * 1000)).text == "not interested"


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_a_disconnect() -> None:
    events: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while not events or events[-1] != "http.disconnect":
            events.append((await receive())["type"])

    async with serving(fetch=asgi(app)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        await until(lambda: events)
        writer.close()
        await writer.wait_closed()
        await until(lambda: events[-1] == "http.disconnect")
    assert events == ["http.request", "http.disconnect"]


async def test_content_that_is_too_long_is_answered_by_the_server_and_is_a_disconnect() -> None:
    async def app(request: StarletteRequest) -> StarletteResponse:
        with pytest.raises(ClientDisconnect):
            await request.body()
        raise ClientDisconnect

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 100

    application = Starlette(routes=[Route("/", app, methods=["POST"])])
    async with answering(application, max_request_body_size=500) as client:
        assert (await client.post("/", content=pieces())).status_code == 413


def ask(receive: Receive) -> asyncio.Future[MutableMapping[str, Any]]:
    """Ask for an event; others may have asked before."""
    return asyncio.ensure_future(receive())


async def test_who_ask_for_events_at_the_same_time_get_them_in_that_order() -> None:
    told: list[bytes | str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for asked in [ask(receive) for _ in range(5)]:
            event = await asked
            told.append(event["body"] if event["type"] == "http.request" else "gone")

    async with serving(fetch=asgi(app)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none")
        await until(lambda: told == [b"one"])
        writer.write(b"two")
        await until(lambda: told == [b"one", b"two", b""])
        writer.close()
        await until(lambda: told == [b"one", b"two", b"", "gone", "gone"])
        await writer.wait_closed()


async def test_all_who_wait_for_content_are_told_when_the_client_leaves_in_the_middle() -> None:
    told: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting = [ask(receive) for _ in range(3)]
        told.append((await waiting[0])["type"])
        told.extend(event["type"] for event in await asyncio.gather(*waiting[1:]))

    async with serving(fetch=asgi(app)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\none")
        await until(lambda: told)
        writer.close()
        await until(lambda: len(told) == 3)
        await writer.wait_closed()
    assert told == ["http.request", "http.disconnect", "http.disconnect"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_all_who_wait_for_content_are_told_when_the_response_is_complete(streamed: bool) -> None:
    told: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        waiting = [ask(receive) for _ in range(3)]
        await asyncio.sleep(0)
        await send(start())
        await send(content(b"enough", more=streamed))
        if streamed:
            await send(content())
        told.extend(event["type"] for event in await asyncio.gather(*waiting))

    async with serving(fetch=asgi(app)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        assert await reader.readuntil(b"enough")
        await until(lambda: told == ["http.disconnect"] * 3)
        writer.close()
        await writer.wait_closed()


async def test_who_ask_at_the_same_time_in_process_get_what_comes_and_who_gives_up_takes_nothing_along() -> None:
    gate = asyncio.Event()
    told: list[bytes] = []

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        await gate.wait()
        yield b"two"

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        first, second, third = (ask(receive) for _ in range(3))
        told.append((await first)["body"])
        await asyncio.sleep(0)  # the second waits for its piece now
        second.cancel()
        gate.set()
        told.append((await third)["body"])
        told.append((await receive())["body"])
        await send(start())
        await send(content(b"read"))

    async with serving(fetch=asgi(app)) as server:
        request = bunws.Request(str(server.url), method="POST", body=pieces())
        assert await (await server.fetch(request)).text() == "read"
    assert told == [b"one", b"two", b""]


async def test_a_request_in_process_that_waits_for_its_content_and_is_given_up_is_a_disconnect() -> None:
    told: list[str] = []
    waiting = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        waiting.set()
        await asyncio.Event().wait()
        yield b"never"

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        told.extend(event["type"] for event in await asyncio.gather(receive(), receive()))

    async with serving(fetch=asgi(app)) as server:
        asked = asyncio.ensure_future(server.fetch(bunws.Request(str(server.url), method="POST", body=pieces())))
        await waiting.wait()
        asked.cancel()
        await until(lambda: told == ["http.disconnect"] * 2)


# The response


async def test_one_event_of_content_is_sent_with_its_length() -> None:
    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("héllo", 201, {"X-A": "b"})

    async with answering(Starlette(routes=[Route("/", app)])) as client:
        response = await client.get("/")
    assert response.status_code == 201
    assert response.text == "héllo"
    assert response.headers["Content-Length"] == "6"
    assert response.headers["X-A"] == "b"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "Transfer-Encoding" not in response.headers


async def test_every_cookie_is_a_line_of_its_own() -> None:
    async def app(request: StarletteRequest) -> StarletteResponse:
        response = PlainTextResponse(request.cookies["told"])
        for name in "abc":
            response.set_cookie(name, name.upper(), httponly=True)
        return response

    async with answering(Starlette(routes=[Route("/", app)])) as client:
        response = await client.get("/", headers={"Cookie": "told=you"})
    assert response.text == "you"
    assert [line.partition(";")[0] for line in response.headers.get_list("Set-Cookie")] == ["a=A", "b=B", "c=C"]


async def test_header_bytes_are_sent_as_they_are() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, (b"x-latin", b"t\xfcv"), (b"x-utf", "tüv".encode())))
        await send(content())

    async with answering(app) as client:
        headers = dict((await client.get("/")).headers.raw)
    assert headers[b"x-latin"] == b"t\xfcv"
    assert headers[b"x-utf"] == "tüv".encode()


async def test_content_is_streamed_piece_by_piece() -> None:
    gate = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        yield "first"
        await gate.wait()
        yield "second"

    async def app(request: StarletteRequest) -> StarletteResponse:
        return StreamingResponse(pieces(), media_type="text/plain")

    async with (
        answering(Starlette(routes=[Route("/", app)])) as client,
        client.stream("GET", "/") as response,
    ):
        assert response.headers["Transfer-Encoding"] == "chunked"
        received = response.aiter_raw()
        assert await anext(received) == b"first"
        gate.set()
        assert [piece async for piece in received] == [b"second"]


async def test_a_file_comes_with_its_length_and_its_ranges(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(256)) * 4096)

    async def app(request: StarletteRequest) -> StarletteResponse:
        return FileResponse(path)

    async with answering(Starlette(routes=[Route("/", app)])) as client:
        whole = await client.get("/")
        part = await client.get("/", headers={"Range": "bytes=1000-1003"})
        head = await client.head("/")
    assert whole.content == path.read_bytes()
    assert whole.headers["Content-Length"] == str(path.stat().st_size)
    assert (part.status_code, part.content) == (206, path.read_bytes()[1000:1004])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == whole.headers["Content-Length"]


async def test_an_application_that_writes_faster_than_its_client_reads_waits_for_it() -> None:
    sent = 0
    stopped = asyncio.Event()

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        try:
            while True:
                await send(content(b"x" * 65_536, more=True))
                sent += 1
        finally:
            stopped.set()

    async with serving(fetch=asgi(app)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readexactly(1)
        # Nobody reads on, so at some time nothing moves any more.
        before = -1
        while before != sent:
            before = sent
            for _ in range(50):
                await asyncio.sleep(0)
        assert sent < 1000
        writer.close()
        async with asyncio.timeout(PATIENCE):
            await stopped.wait()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_content_has_none(status: int, streamed: bool) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(status))
        await send(content(b"", more=streamed))
        if streamed:
            await send(content())

    async with answering(app) as client:
        for _ in range(2):
            response = await client.get("/")
            assert (response.status_code, response.content) == (status, b"")


async def test_head_is_answered_like_get_without_the_content() -> None:
    async def plain(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("hello")

    async def streamed(request: StarletteRequest) -> StarletteResponse:
        return StreamingResponse(iter(["one", "two"]))

    async with answering(Starlette(routes=[Route("/plain", plain), Route("/streamed", streamed)])) as client:
        for _ in range(2):
            response = await client.head("/plain")
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["Content-Length"] == "5"
            response = await client.head("/streamed")
            assert (response.status_code, response.content) == (200, b"")
            assert "Content-Length" not in response.headers


# Disconnects


async def test_an_application_that_waits_is_told_when_its_client_leaves() -> None:
    events: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            events.append((await receive())["type"])  # noqa: PERF401  # one is looked at before the next has come

    async with serving(fetch=asgi(app)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: events)
        writer.close()
        await writer.wait_closed()
        await until(lambda: len(events) == 3)
    assert events == ["http.request", "http.disconnect", "http.disconnect"]


async def test_an_application_that_has_answered_is_told_that_it_is_over() -> None:
    events: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.create_task(receive_until_disconnect(receive))
        await send(start())
        await send(content(b"done"))
        events.append(await watcher)
        await send(content(b"ignored"))
        events.append("went on")

    async def receive_until_disconnect(receive: Receive) -> str:
        while (event := await receive())["type"] == "http.request":
            pass
        return str(event["type"])

    async with answering(app) as client:
        assert (await client.get("/")).text == "done"
        await until(lambda: len(events) == 2)
    assert events == ["http.disconnect", "went on"]


async def test_an_application_that_answers_before_it_has_the_whole_request_waits_for_no_more() -> None:
    events: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send(start())
        await send(content(b"enough"))
        events.append((await watcher)["type"])

    async with serving(fetch=asgi(app)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        assert await reader.readuntil(b"enough")
        await until(lambda: events)
        writer.close()
    assert events == ["http.disconnect"]


async def test_who_gives_up_a_request_in_process_is_a_client_that_leaves() -> None:
    events: list[str] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        events.append((await receive())["type"])
        events.append((await receive())["type"])

    async with serving(fetch=asgi(app)) as server:
        asked = asyncio.create_task(server.fetch("/"))
        await until(lambda: events)
        asked.cancel()
        await until(lambda: len(events) == 2)
    assert events == ["http.request", "http.disconnect"]


async def test_nothing_goes_on_behind_a_request_in_process() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        watcher = asyncio.ensure_future(receive_all(receive))
        await asyncio.sleep(0)
        await send(start())
        await send(content(b"done"))
        await watcher

    async def receive_all(receive: Receive) -> None:
        while (await receive())["type"] == "http.request":
            pass

    async with serving(fetch=asgi(app)) as server:
        before = asyncio.all_tasks()
        assert await (await server.fetch("/")).text() == "done"
        await until(lambda: asyncio.all_tasks() <= before)


async def test_to_send_to_a_client_that_has_left_is_an_oserror_and_no_complaint() -> None:
    errors: list[BaseException] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            while True:
                await send(content(b"x" * 1000, more=True))
        except OSError as exc:
            errors.append(exc)
            with pytest.raises(OSError, match="went away"):
                await send(content(b"once more"))
            raise

    async with answering(app) as client:
        async with client.stream("GET", "/") as response:
            await anext(response.aiter_raw())
        await until(lambda: errors)


async def test_starlette_gives_up_a_stream_whose_client_has_left_though_it_has_nothing_to_say() -> None:
    closed = asyncio.Event()

    async def pieces() -> AsyncIterator[str]:
        try:
            yield "hello"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def app(request: StarletteRequest) -> StarletteResponse:
        return StreamingResponse(pieces())

    async with answering(Starlette(routes=[Route("/", app)])) as client:
        async with client.stream("GET", "/") as response:
            assert await anext(response.aiter_raw()) == b"hello"
        async with asyncio.timeout(PATIENCE):
            await closed.wait()


# Errors


async def test_what_an_application_raises_meets_the_error_handler() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("secret")

    def error(exc: Exception) -> bunws.Response:
        return bunws.Response(type(exc).__name__, status=503)

    async with answering(app, error=error) as client:
        response = await client.get("/")
    assert (response.status_code, response.text) == (503, "LookupError")


async def test_what_an_application_raises_is_answered_with_500_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200, (b"x-never", b"sent")))  # nothing is sent before there is content
        raise LookupError("secret")

    async with answering(app, complains=True) as client:
        response = await client.get("/")
        assert response.status_code == 500
        assert "secret" not in response.text
        assert "x-never" not in response.headers
        assert (await client.get("/")).status_code == 500  # and the server lives
    assert "secret" in caplog.text


async def test_starlette_answers_its_own_500_and_its_exception_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(request: StarletteRequest) -> StarletteResponse:
        raise LookupError("secret")

    async with answering(Starlette(routes=[Route("/", app)]), complains=True) as client:
        response = await client.get("/")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert "raised behind its response" in caplog.text
    assert "secret" in caplog.text


async def test_what_is_raised_in_the_middle_of_a_response_cuts_it(caplog: pytest.LogCaptureFixture) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(content(b"half", more=True))
        raise LookupError("secret")

    async with answering(app, complains=True) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")
    assert "secret" in caplog.text


class NoException(BaseException):
    """What no handler of errors is for."""


@pytest.mark.parametrize("has_begun", [False, True])
async def test_nobody_waits_for_an_application_that_was_ended_by_what_is_no_exception(has_begun: bool) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        if has_begun:
            await send(content(b"half", more=True))
        raise NoException

    async with answering(app, complains=True) as client:
        if has_begun:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/")
        else:
            assert (await client.get("/")).status_code == 500


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([], id="nothing"),
        pytest.param([start()], id="no-content"),
        pytest.param([content(b"x")], id="no-start"),
        pytest.param([start(), start()], id="two-starts"),
        pytest.param([start(), {"type": "http.response.trailers"}], id="unknown"),
        pytest.param([{"status": 200}], id="no-type"),
        pytest.param([{"type": "http.response.start"}], id="no-status"),
        pytest.param([start(99)], id="status-too-low"),
        pytest.param([{"type": "http.response.start", "status": "200"}], id="status-str"),
        pytest.param([{"type": "http.response.start", "status": 200, "headers": [("a", "b")]}], id="header-str"),
        pytest.param([start(200, (b"a", b"b\r\nc: d"))], id="header-injection"),
        pytest.param([start(200, (b"a b", b"c"))], id="header-name"),
        pytest.param([start(), {"type": "http.response.body", "body": "text"}], id="content-str"),
        pytest.param([start(200, (b"content-length", b"3")), content(b"four")], id="wrong-length"),
    ],
)
async def test_a_malformed_response_is_an_error_of_the_application(
    events: list[dict[str, object]], caplog: pytest.LogCaptureFixture
) -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for event in events:
            await send(event)

    async with answering(app, complains=True) as client:
        assert (await client.get("/")).status_code == 500
    assert "fetch raised" in caplog.text


async def test_a_streamed_response_without_an_end_is_cut() -> None:
    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(content(b"half", more=True))

    async with answering(app, complains=True) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


# Background tasks


async def test_a_background_task_runs_behind_the_response_and_the_server_waits_for_it() -> None:
    gate = asyncio.Event()
    done: list[str] = []

    async def work() -> None:
        await gate.wait()
        done.append("work")

    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("at once", background=BackgroundTask(work))

    server = bunws.serve(fetch=asgi(Starlette(routes=[Route("/", app)])), hostname="127.0.0.1", port=0)
    async with httpx.AsyncClient() as client:
        assert (await client.get(str(server.url))).text == "at once"
    stopping = asyncio.ensure_future(server.stop())
    assert done == []
    gate.set()
    await stopping
    assert done == ["work"]


async def passing(request: StarletteRequest, call_next: Any) -> Any:
    """A middleware that changes nothing."""
    return await call_next(request)


async def run_behind(answer: Callable[[BackgroundTask], StarletteResponse], method: str, is_wrapped: bool) -> None:
    """Returns when the background task of a response has run."""
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async def app(request: StarletteRequest) -> StarletteResponse:
        return answer(BackgroundTask(work))

    middleware = [Middleware(BaseHTTPMiddleware, dispatch=passing)] if is_wrapped else []
    async with answering(Starlette(routes=[Route("/", app)], middleware=middleware)) as client:
        assert (await client.request(method, "/")).status_code == 200
        async with asyncio.timeout(PATIENCE):
            await done.wait()


@pytest.mark.parametrize("is_wrapped", [False, True])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_background_task_runs_behind_the_answer_to_head_as_to_get(method: str, is_wrapped: bool) -> None:
    def plain(task: BackgroundTask) -> StarletteResponse:
        return PlainTextResponse("hello", background=task)

    async def pieces() -> AsyncIterator[str]:
        for _ in range(5):
            yield "x"

    def streamed(task: BackgroundTask) -> StarletteResponse:
        return StreamingResponse(pieces(), background=task)

    async def endless_pieces() -> AsyncIterator[str]:
        while True:
            yield "x"
            await asyncio.sleep(0)

    def endless(task: BackgroundTask) -> StarletteResponse:
        return StreamingResponse(endless_pieces(), background=task)

    await run_behind(plain, method, is_wrapped)
    await run_behind(streamed, method, is_wrapped)
    if method == "HEAD":
        await run_behind(endless, method, is_wrapped)


async def test_an_application_that_does_not_listen_and_answers_head_without_end_is_told_by_an_oserror() -> None:
    errors: list[OSError] = []

    @http_only
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            while True:
                await send(content(b"x", more=True))
        except OSError as exc:
            errors.append(exc)
            raise

    async with answering(app) as client:
        assert (await client.head("/")).status_code == 200
        await until(lambda: errors)


async def test_what_a_background_task_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise LookupError("secret")

    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("fine", background=BackgroundTask(work))

    async with answering(Starlette(routes=[Route("/", app)]), complains=True) as client:
        assert (await client.get("/")).text == "fine"
        await until(lambda: "secret" in caplog.text)


# Lifespan


class Diary:
    """A lifespan that is written down."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[dict[str, object]]:
        self.lines.append("up")
        yield {"pool": self, "count": 0}
        self.lines.append("down")


async def test_an_application_starts_before_its_first_request_and_ends_with_the_server() -> None:
    diary = Diary()

    async def app(request: StarletteRequest) -> StarletteResponse:
        assert request.state.pool is diary
        request.state.count += 1  # a copy is its own
        diary.lines.append(f"request {request.state.count}")
        return PlainTextResponse("")

    async with answering(Starlette(routes=[Route("/", app)], lifespan=diary.lifespan), lifespan="on") as client:
        assert diary.lines == []
        await asyncio.gather(client.get("/"), client.get("/"))
        assert diary.lines == ["up", "request 1", "request 1"]
    assert diary.lines == ["up", "request 1", "request 1", "down"]


async def test_an_application_shuts_down_behind_its_last_request() -> None:
    diary = Diary()
    began, gate = asyncio.Event(), asyncio.Event()

    async def app(request: StarletteRequest) -> StarletteResponse:
        began.set()
        await gate.wait()
        diary.lines.append("request")
        return PlainTextResponse("in time")

    fetch = asgi(Starlette(routes=[Route("/", app)], lifespan=diary.lifespan))
    server = bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0)
    async with httpx.AsyncClient() as client:
        asked = asyncio.create_task(client.get(str(server.url)))
        await began.wait()
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0)
        gate.set()
        assert (await asked).text == "in time"
        await stopping
    assert diary.lines == ["up", "request", "down"]


async def test_an_application_has_a_life_with_each_of_its_servers() -> None:
    diary = Diary()

    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("hello")

    fetch = asgi(Starlette(routes=[Route("/", app)], lifespan=diary.lifespan))
    for _ in range(2):
        async with serving(fetch=fetch) as server, httpx.AsyncClient() as client:
            assert (await client.get(str(server.url))).text == "hello"
    assert diary.lines == ["up", "down"] * 2


async def test_a_server_that_is_gone_is_not_kept_by_its_application() -> None:
    fetch = asgi(http_only(echo))
    async with serving(fetch=fetch) as server:
        async with httpx.AsyncClient() as client:
            await client.get(str(server.url))
        seen = weakref.ref(server)
    del server
    await asyncio.sleep(0)
    gc.collect()
    assert seen() is None


async def test_off_leaves_the_lifespan_alone() -> None:
    diary = Diary()

    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("hello")

    async with answering(Starlette(routes=[Route("/", app)], lifespan=diary.lifespan), lifespan="off") as client:
        assert (await client.get("/")).text == "hello"
    assert diary.lines == []


@pytest.mark.parametrize("mode", ["auto", "on"])
async def test_requests_to_an_application_that_failed_to_start_are_errors(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    async with answering(Starlette(lifespan=lifespan), lifespan=mode, complains=True) as client:
        for _ in range(2):
            assert (await client.get("/")).status_code == 500
    assert "no database" in caplog.text


async def test_on_insists_on_a_lifespan(caplog: pytest.LogCaptureFixture) -> None:
    async with answering(http_only(echo), lifespan="on", complains=True) as client:
        assert (await client.get("/")).status_code == 500
    assert "has failed to start" in caplog.text


async def test_what_is_raised_at_the_shutdown_is_logged_and_the_server_ends(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        yield
        raise LookupError("no way out")

    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("hello")

    async with answering(Starlette(routes=[Route("/", app)], lifespan=lifespan), complains=True) as client:
        assert (await client.get("/")).text == "hello"
    assert "no way out" in caplog.text


async def test_an_application_that_never_shuts_down_is_cancelled_at_the_deadline() -> None:
    cancelled = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: object) -> AsyncIterator[None]:
        try:
            yield
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def app(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("hello")

    fetch = asgi(Starlette(routes=[Route("/", app)], lifespan=lifespan))
    server = bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0)
    async with httpx.AsyncClient() as client:
        assert (await client.get(str(server.url))).text == "hello"
    await server.stop(timeout=0)
    assert cancelled.is_set()


# Frameworks, and beside sockets


async def test_a_starlette_middleware_and_a_mount_work() -> None:
    class Stamp(BaseHTTPMiddleware):
        async def dispatch(
            self, request: StarletteRequest, call_next: Callable[[StarletteRequest], Awaitable[StarletteResponse]]
        ) -> StarletteResponse:
            response = await call_next(request)
            response.headers["X-Stamp"] = request.url.path
            return response

    async def user(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse(f"{request.path_params['id']} {request.url_for('user', id='7')}")

    app = Starlette(
        routes=[Mount("/users", routes=[Route("/{id}", user, name="user")])], middleware=[Middleware(Stamp)]
    )
    async with answering(app, root_path="/api") as client:
        response = await client.get("/api/users/42")
    assert response.text == f"42 {client.base_url.join('/api/users/7')}"
    assert response.headers["X-Stamp"] == "/api/users/42"


async def test_a_fastapi_application_answers_as_it_does_elsewhere() -> None:
    app = FastAPI()
    closed: list[str] = []

    async def session() -> AsyncIterator[str]:
        try:
            yield "session"
        finally:
            closed.append("session")

    @app.get("/items/{number}")
    async def item(number: int, held: str = Depends(session)) -> dict[str, object]:
        if number == 13:
            raise HTTPException(404, "no such item")
        return {"number": number, "held": held}

    @app.post("/items")
    def create(item: dict[str, int]) -> dict[str, int]:  # in a thread
        return {"sum": sum(item.values())}

    async with answering(app) as client:
        response = await client.get("/items/7")
        assert (response.status_code, response.json()) == (200, {"number": 7, "held": "session"})
        assert (await client.get("/items/13")).json() == {"detail": "no such item"}
        assert (await client.get("/items/x")).status_code == 422
        assert (await client.post("/items", json={"a": 1, "b": 2})).json() == {"sum": 3}
        assert (await client.get("/openapi.json")).json()["paths"].keys() == {"/items/{number}", "/items"}
    assert closed == ["session"] * 3  # the one of the request that was refused with 422 too


async def test_the_same_server_has_sockets_too() -> None:
    async def hello(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("from starlette")

    door = asgi(Starlette(routes=[Route("/", hello)]))

    async def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        if request.url.path == "/ws" and server.upgrade(request):
            return None
        return await door(request, server)

    async with serving(fetch=fetch) as server, httpx.AsyncClient() as client:
        assert (await client.get(str(server.url))).text == "from starlette"
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        writer.close()


async def test_it_answers_in_process() -> None:
    async def hello(request: StarletteRequest) -> StarletteResponse:
        return StreamingResponse(iter(["from ", (await request.body()).decode()]))

    app = Starlette(routes=[Route("/", hello, methods=["POST"])])
    async with serving(fetch=asgi(app)) as server:
        response = await server.fetch(bunws.Request(str(server.url), method="POST", body="here"))
        assert await response.text() == "from here"


async def test_it_answers_in_process_on_another_loop_than_that_of_the_server() -> None:
    async def hello(request: StarletteRequest) -> StarletteResponse:
        return PlainTextResponse("hello")

    diary = Diary()
    app = Starlette(routes=[Route("/", hello)], lifespan=diary.lifespan)
    async with serving(fetch=asgi(app), in_thread=True) as server:
        assert await (await server.fetch("/")).text() == "hello"
        await server.stop()
        await until(lambda: diary.lines == ["up", "down"])


# Arguments


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"app": "module:app"}, TypeError),
        ({"lifespan": "yes"}, ValueError),
        ({"root_path": b"/api"}, TypeError),
        ({"root_path": "api"}, ValueError),
        ({"root_path": "/api/"}, ValueError),
    ],
)
def test_a_wrong_argument_is_refused_by_its_name(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))):
        asgi(**{"app": http_only(echo)} | arguments)


async def test_an_encoded_slash_is_no_slash_to_the_app_as_it_is_none_to_routes() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    routes = {"/admin/*": bunws.Response("no", 403)}
    fetch = bunws.asgi(app, lifespan="off")
    async with (
        bunws.serve(fetch=fetch, routes=routes, hostname="127.0.0.1", port=0) as server,
        httpx.AsyncClient(base_url=str(server.url)) as client,
    ):
        assert (await client.get("/admin/x")).status_code == 403
        assert (await client.get("/admin%2Fx%20y")).status_code == 200
    assert seen == ["/admin%2Fx y"]
