"""HTTP/1.1 over real sockets: what a client sees, and what the handlers do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable

import httpx
import pytest

import bunws
from bunws.duty import MIN_BODY_PROGRESS
from bunws.http.body import Body
from tests.support import PATIENCE, RawClient, eventually, quiet, until


SECRET = "the password is swordfish"


def serve(fetch: Callable[..., object], **options: object) -> contextlib.AbstractContextManager[bunws.Server]:
    """A server in its own thread, on a free port of 127.0.0.1."""
    return quiet(bunws.serve(fetch=fetch, port=0, hostname="127.0.0.1", **options))  # type: ignore[arg-type]  # a mix


def connect(server: bunws.Server, **options: int) -> RawClient:
    assert server.port is not None
    return RawClient(server.port, **options)


def path(request: bunws.Request) -> bunws.Response:
    return bunws.Response(request.url.path)


async def path_later(request: bunws.Request) -> bunws.Response:
    await asyncio.sleep(0)
    return path(request)


async def echo(request: bunws.Request) -> bunws.Response:
    return bunws.Response(await request.bytes())


def broken(request: bunws.Request) -> bunws.Response:
    raise ValueError(SECRET)


async def broken_later(request: bunws.Request) -> bunws.Response:
    await asyncio.sleep(0)
    raise ValueError(SECRET)


HOST = b"Host: localhost\r\n"


def get(path: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: localhost", *fields, "", "")).encode()


def post(body: bytes, *fields: str, path: str = "/") -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *fields, "", "")
    return "\r\n".join(head).encode() + body


# One request after another


def test_a_client_of_everyday_use_is_served_over_one_connection() -> None:
    async def fetch(request: bunws.Request) -> bunws.Response:
        match request.method, request.url.path:
            case "POST", "/json":
                return bunws.Response.json({"got": await request.json()}, status=201)
            case "PUT", "/text":
                return bunws.Response((await request.text()).upper())
            case "GET", "/query":
                return bunws.Response(request.url.query["q"], headers={"X-Agent": request.headers["user-agent"]})
        return bunws.Response(None, status=404)

    with serve(fetch) as server, httpx.Client(base_url=str(server.url), headers={"User-Agent": "me"}) as client:
        made = client.post("/json", json={"a": [1, "ü"]})
        assert (made.status_code, made.json()) == (201, {"got": {"a": [1, "ü"]}})
        assert made.headers["content-type"] == "application/json"
        assert client.put("/text", content="grüße").text == "GRÜSSE"
        found = client.get("/query", params={"q": "a b&c"})
        assert (found.text, found.headers["x-agent"]) == ("a b&c", "me")
        missing = client.delete("/query")
        assert (missing.status_code, missing.content, missing.headers["content-length"]) == (404, b"", "0")
        assert len(server._guests.connections) == 1


@pytest.mark.parametrize("fetch", [path, path_later])
def test_a_connection_is_kept_for_the_next_request(fetch: Callable[..., object]) -> None:
    with serve(fetch) as server, connect(server) as client:
        for name in ("/a", "/b", "/c"):
            answer = client.get(name).answer()
            assert (answer.status, answer.body) == (200, name.encode())
            assert "Connection" not in answer.headers


def test_an_answer_says_when_it_was_made() -> None:
    with serve(path) as server, connect(server) as client:
        assert client.get().answer().headers["Date"].endswith(" GMT")


def test_head_is_answered_with_the_head_only() -> None:
    with serve(path) as server, connect(server) as client:
        answer = client.get("/long", method="HEAD").answer("HEAD")
        assert (answer.status, answer.headers["Content-Length"]) == (200, "5")
        assert client.get("/next").answer().body == b"/next"


def test_connection_close_is_obeyed() -> None:
    with serve(path) as server, connect(server) as client:
        answer = client.get("/a", "Connection: close").answer()
        assert (answer.body, answer.headers["Connection"]) == (b"/a", "close")
        assert client.rest() == b""


def test_what_comes_behind_connection_close_is_not_looked_at() -> None:
    with serve(path) as server, connect(server) as client:
        client.send(get("/a", "Connection: close") + get("/b"))
        assert client.answer().body == b"/a"
        assert client.rest() == b""


def test_http_1_0_is_answered_and_the_connection_closed() -> None:
    with serve(path) as server, connect(server) as client:
        answer = client.send(b"GET /old HTTP/1.0\r\n\r\n").answer()
        assert (answer.body, answer.headers["Connection"]) == (b"/old", "close")
        assert client.rest() == b""


def test_http_1_0_may_ask_to_keep_the_connection() -> None:
    with serve(path) as server, connect(server) as client:
        for _ in range(2):
            answer = client.send(b"GET /old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").answer()
            assert (answer.body, answer.headers["Connection"]) == (b"/old", "keep-alive")


def test_a_request_may_come_byte_by_byte() -> None:
    with serve(echo) as server, connect(server) as client:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(b"hello"):
            client.send(bytes([byte]))
        assert client.answer().body == b"hello"


# Pipelining


@pytest.mark.parametrize("fetch", [path, path_later])
def test_pipelined_requests_are_answered_in_order(fetch: Callable[..., object]) -> None:
    names = [f"/{number}" for number in range(50)]
    with serve(fetch) as server, connect(server) as client:
        client.send(b"".join(map(get, names)))
        assert [client.answer().body.decode() for _ in names] == names


def test_a_quick_answer_waits_for_the_slow_one_before_it() -> None:
    calls = []
    reached, go_on = threading.Event(), threading.Event()

    async def slow() -> bunws.Response:
        reached.set()
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return bunws.Response("slow")

    def fetch(request: bunws.Request) -> object:
        calls.append(request.url.path)
        return slow() if request.url.path == "/slow" else path(request)

    with serve(fetch) as server, connect(server) as client, connect(server) as other:
        client.send(get("/a") + get("/slow") + get("/b") + get("/c"))
        assert client.answer().body == b"/a"
        assert reached.wait(PATIENCE)
        assert other.get("/other").answer().body == b"/other"  # another connection does not wait
        assert calls == ["/a", "/slow", "/other"]
        go_on.set()
        assert [client.answer().body for _ in range(3)] == [b"slow", b"/b", b"/c"]


def test_pipelined_bodies_do_not_mix() -> None:
    bodies = [bytes([65 + number]) * number * 500 for number in range(20)]
    with serve(echo) as server, connect(server) as client:
        client.send(b"".join(map(post, bodies)))
        assert [client.answer().body for _ in bodies] == bodies


def test_a_client_that_does_not_read_its_answers_is_not_answered_without_end() -> None:
    calls = 0

    def fetch(request: bunws.Request) -> bunws.Response:
        nonlocal calls
        calls += 1
        return bunws.Response(b"x" * 1000)

    requests = 30_000
    with serve(fetch) as server, connect(server, receive_buffer=4096) as client:
        client.send(get("/"))
        size = sum(map(len, iter(client.file.readline, b"\r\n"))) + 2 + len(client.file.read(1000))
        data = memoryview(get("/") * requests)
        client.socket.setblocking(False)
        sent = 0

        def is_stuck() -> bool:
            nonlocal sent
            before = sent, calls
            with contextlib.suppress(BlockingIOError):
                sent += client.socket.send(data[sent:])
            # A whole answer of the server to somebody else lies between two looks.
            with connect(server) as other:
                other.get().answer()
            return (sent, calls - 1) == before  # one call was for the other

        eventually(is_stuck)
        assert calls < requests / 2
        (transport,) = {c.transport for c in server._guests.connections if c.transport and not c.is_writable}
        assert transport.get_write_buffer_size() < 1_000_000
        client.socket.settimeout(PATIENCE)
        writer = threading.Thread(target=client.socket.sendall, args=(data[sent:],))
        writer.start()
        for _ in range(requests):  # and once it reads, it gets them all
            assert len(client.file.read(size)) == size
        writer.join()


# Bodies


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
def test_a_body_of_any_size_comes_through(size: int, chunked: bool) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    content = content[:size]
    pieces = iter([content[at : at + 10_000] for at in range(0, size, 10_000)])
    with serve(echo) as server, httpx.Client() as client:
        answer = client.post(str(server.url), content=pieces if chunked else content)
        assert answer.content == content


def test_a_chunked_body_may_have_extensions_and_trailers() -> None:
    chunked = b"5;a=b\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n"
    with serve(echo) as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + chunked + post(b"next"))
        assert client.answer().body == b"hello world"
        assert client.answer().body == b"next"


def test_a_handler_may_begin_before_the_body_has_arrived() -> None:
    begun = threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        begun.set()
        return await echo(request)

    with serve(fetch) as server, connect(server) as client:
        request = post(b"hello")
        client.send(request[:-3])
        assert begun.wait(PATIENCE)
        client.send(request[-3:])
        assert client.answer().body == b"hello"


def test_a_handler_need_not_read_the_body() -> None:
    with serve(path) as server, connect(server) as client:
        request = post(b"x" * 200_000, path="/a")
        client.send(request[:1000])
        assert client.answer().body == b"/a"
        client.send(request[1000:] + get("/b"))
        assert client.answer().body == b"/b"


@pytest.mark.parametrize(
    "body", [b"Content-Length: 101\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n64\r\n" + b"x" * 100 + b"\r\n1\r\n"]
)
def test_a_body_past_the_limit_is_answered_with_413(body: bytes) -> None:
    with serve(echo, max_request_body_size=100) as server:
        with connect(server) as client:
            answer = client.send(b"POST / HTTP/1.1\r\n" + HOST + body).answer()
            assert (answer.status, answer.headers["Connection"]) == (413, "close")
            assert client.rest() == b""
        with connect(server) as client:
            assert client.send(post(b"x" * 100)).answer().body == b"x" * 100


def test_a_body_past_the_limit_is_no_fault_of_the_handler(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = []

    def error(exc: Exception) -> bunws.Response:
        errors.append(exc)
        return bunws.Response("error")

    with serve(echo, max_request_body_size=10, error=error) as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        eventually(lambda: server.pending_requests)
        assert client.send(b"6\r\n").answer().status == 413
    assert errors == []
    assert caplog.text == ""


def test_a_body_that_breaks_off_ends_a_connection_that_was_answered_already() -> None:
    with serve(path) as server, connect(server) as client:
        client.send(b"POST /a HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        assert client.answer().body == b"/a"
        assert client.send(b"garbage\r\n").answer().status == 400
        assert client.rest() == b""


# Waiting for 100


def test_a_client_that_expects_100_is_told_to_continue() -> None:
    with serve(echo) as server, connect(server) as client:
        request = post(b"hello", "Expect: 100-continue")
        assert client.send(request[:-5]).answer().status == 100
        assert client.send(request[-5:]).answer().body == b"hello"


def test_a_client_that_expects_100_for_too_much_is_told_413_instead() -> None:
    with serve(echo, max_request_body_size=4) as server, connect(server) as client:
        assert client.send(post(b"hello", "Expect: 100-continue")[:-5]).answer().status == 413


def test_a_100_waits_for_the_answers_before_it() -> None:
    go_on = threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        if request.method == "POST":
            return await echo(request)
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return bunws.Response("slow")

    with serve(fetch) as server, connect(server) as client:
        client.send(get("/slow") + post(b"hello", "Expect: 100-continue")[:-5])
        eventually(lambda: server.pending_requests)
        go_on.set()
        assert client.answer().body == b"slow"
        assert client.answer().status == 100
        assert client.send(b"hello").answer().body == b"hello"


def test_another_expectation_is_answered_with_417() -> None:
    with serve(echo) as server, connect(server) as client:
        assert client.send(post(b"hello", "Expect: a-miracle")).answer().status == 417


# What a client does wrong


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"hello there\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: 1\nY: 2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X : 1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505),
        (b"BREW / HTTP/1.1\r\n" + HOST + b"\r\n", 501),
    ],
)
def test_a_request_that_breaks_http_is_answered_with_the_right_status_and_the_end(data: bytes, status: int) -> None:
    with serve(path) as server, connect(server) as client:
        answer = client.send(data).answer()
        assert (answer.status, answer.headers["Connection"]) == (status, "close")
        assert client.rest() == b""


@pytest.mark.parametrize("fetch", [path, path_later])
def test_a_good_request_before_a_bad_one_is_answered(fetch: Callable[..., object]) -> None:
    with serve(fetch) as server, connect(server) as client:
        client.send(get("/a") + get("/b") + b"rubbish\r\n\r\n" + get("/c"))
        assert [client.answer().body for _ in range(2)] == [b"/a", b"/b"]
        assert client.answer().status == 400
        assert client.rest() == b""


def test_an_error_is_not_lost_when_the_client_is_still_sending() -> None:
    with serve(echo, max_request_body_size=100) as server, connect(server) as client:
        client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4000000\r\n\r\n")
        client.send(b"x" * 4_000_000)  # a server that closes now would make TCP reset the connection
        assert client.answer().status == 413
        assert client.rest() == b""


@pytest.mark.parametrize(
    ("method", "fields", "status"),
    [
        ("GET", ("Sec-WebSocket-Version: 8", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 426),
        ("GET", ("Sec-WebSocket-Version: 13",), 400),
        ("HEAD", ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 405),
    ],
)
def test_a_bad_handshake_is_answered_with_its_status_whatever_the_handler_says(
    method: str, fields: tuple[str, ...], status: int
) -> None:
    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response:
        assert not server.upgrade(request)
        return bunws.Response("the handler's own words")

    with serve(fetch, websocket={}) as server, connect(server) as client:
        client.get("/", "Upgrade: websocket", "Connection: Upgrade", *fields, method=method)
        assert client.answer(method).status == status
        assert client.rest() == b""


# Time


async def _drive(server: bunws.Server, ticks: int) -> None:
    for _ in range(ticks):
        server._guests.sweeper.sweep()
        await asyncio.sleep(0)


def serve_here(fetch: Callable[..., object], **options: object) -> bunws.Server:
    """A server on the running loop, whose time only passes by `_drive`."""
    return bunws.serve(fetch=fetch, port=0, hostname="127.0.0.1", **options)  # type: ignore[arg-type]  # a mix


async def test_a_head_that_takes_too_long_is_answered_with_408() -> None:
    async with serve_here(path) as server:
        with connect(server) as client:
            client.send(b"GET / HTTP/1.1\r\nHost:")
            await until(lambda: any(c._parser.in_head for c in server._guests.connections))
            await _drive(server, server._site.http_ticks)
            assert len(server._guests.connections) == 1
            await _drive(server, 1)
            assert (await asyncio.to_thread(client.answer)).status == 408
            assert await asyncio.to_thread(client.rest) == b""


async def test_a_body_that_takes_too_long_is_answered_with_408_and_its_handler_told() -> None:
    errors = []

    async def fetch(request: bunws.Request) -> bunws.Response:
        try:
            return await echo(request)
        except Exception as exc:
            errors.append(type(exc))
            raise

    async with serve_here(fetch) as server:
        with connect(server) as client:
            client.send(post(b"hello")[:-1])
            await until(lambda: server.pending_requests)
            await _drive(server, server._site.http_ticks + 1)
            assert (await asyncio.to_thread(client.answer)).status == 408
            assert await asyncio.to_thread(client.rest) == b""
            client.close()
            await until(lambda: not server._guests.connections)
            await until(lambda: errors)
    assert errors == [bunws.ClientDisconnected]


async def test_a_body_that_comes_slowly_but_not_too_slowly_is_waited_for() -> None:
    content = b"x" * MIN_BODY_PROGRESS
    async with serve_here(echo) as server:
        with connect(server) as client:
            client.send(post(content * 5, "X-Padding: 1")[: -len(content) * 5])
            await until(lambda: server.pending_requests)
            (connection,) = server._guests.connections
            assert connection.current is not None
            body = connection.current.body
            for number in range(1, 5):
                client.send(content)
                await until(lambda: body.buffered == number * len(content))  # noqa: B023
                await _drive(server, server._site.http_ticks)
            client.send(content)
            assert (await asyncio.to_thread(client.answer)).body == content * 5


async def test_a_body_that_trickles_is_answered_with_408() -> None:
    async with serve_here(echo) as server:
        with connect(server) as client:
            request = post(b"x" * 100)
            client.send(request[:-100])
            await until(lambda: server.pending_requests)
            (connection,) = server._guests.connections
            assert connection.current is not None
            body = connection.current.body
            for size in range(1, server._site.http_ticks + 1):
                client.send(b"x")
                await until(lambda: body.buffered == size)  # noqa: B023
                await _drive(server, 1)
            await _drive(server, 1)
            assert (await asyncio.to_thread(client.answer)).status == 408
            assert await asyncio.to_thread(client.rest) == b""


async def test_a_client_that_was_told_goodbye_and_stays_is_dropped() -> None:
    async with serve_here(path) as server:
        with connect(server) as client:
            client.get("/", "Connection: close")
            assert (await asyncio.to_thread(client.answer)).status == 200
            assert await asyncio.to_thread(client.rest) == b""
            await _drive(server, server.close_ticks - 1)
            assert len(server._guests.connections) == 1
            await _drive(server, 1)
            await until(lambda: not server._guests.connections)


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serve_here(path) as server:
        with connect(server) as fresh, connect(server) as used:
            await asyncio.to_thread(used.get().answer)
            await until(lambda: len(server._guests.connections) == 2)
            await _drive(server, server._site.http_ticks)
            assert len(server._guests.connections) == 2
            await _drive(server, 1)
            assert await asyncio.to_thread(fresh.rest) == b""
            assert await asyncio.to_thread(used.rest) == b""


async def test_a_handler_has_all_the_time_it_wants() -> None:
    go_on = asyncio.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        await go_on.wait()
        return bunws.Response("at last")

    async with serve_here(fetch) as server:
        with connect(server) as client:
            client.get()
            await until(lambda: server.pending_requests)
            await _drive(server, server._site.http_ticks * 3)
            go_on.set()
            assert (await asyncio.to_thread(client.answer)).body == b"at last"


async def test_idle_timeout_0_waits_for_ever() -> None:
    async with serve_here(path, idle_timeout=0) as server:
        with connect(server) as client:
            await until(lambda: server._guests.connections)
            await _drive(server, 1000)
            assert (await asyncio.to_thread(client.get().answer)).status == 200


# Handlers that raise


@pytest.mark.parametrize("fetch", [broken, broken_later])
def test_a_handler_that_raises_is_answered_with_500_without_its_words_and_logged(
    fetch: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    with serve(fetch) as server, connect(server) as client:
        for _ in range(2):  # the connection is fit for use
            answer = client.get().answer()
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert [(record.name, record.levelno) for record in caplog.records] == [("bunws", logging.ERROR)] * 2
    assert SECRET in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("fetch", [broken, broken_later])
@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
def test_an_error_handler_answers_for_a_handler_that_raises(
    fetch: Callable[..., object], later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def error(exc: Exception) -> bunws.Response:
        return bunws.Response(type(exc).__name__, status=503)

    async def error_later(exc: Exception) -> bunws.Response:
        await asyncio.sleep(0)
        return error(exc)

    with serve(fetch, error=error_later if later else error) as server, connect(server) as client:
        for _ in range(2):
            answer = client.get().answer()
            assert (answer.status, answer.body) == (503, b"ValueError")
    assert caplog.text == ""


@pytest.mark.parametrize("fetch", [broken, broken_later])
@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
def test_an_error_handler_that_raises_is_answered_with_500_and_logged(
    fetch: Callable[..., object], later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[type[Exception]] = []

    def error(exc: Exception) -> bunws.Response:
        asked.append(type(exc))
        raise RuntimeError("and now this: " + SECRET)

    async def error_later(exc: Exception) -> bunws.Response:
        await asyncio.sleep(0)
        return error(exc)

    with serve(fetch, error=error_later if later else error) as server, connect(server) as client:
        for _ in range(2):
            answer = client.get().answer()
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert asked == [ValueError] * 2  # and not about itself
    assert "the error handler raised" in caplog.text
    assert "and now this" in caplog.text


@pytest.mark.parametrize("answer", ["a str", b"bytes", 200, {"a": 1}, (200, "ok")])
@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
def test_an_error_handler_that_returns_no_response_is_answered_with_500_and_logged(
    answer: object, later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def return_later(exc: Exception) -> object:
        return answer

    with serve(broken, error=return_later if later else lambda exc: answer) as server, connect(server) as client:
        assert client.get().answer().status == 500
    assert repr(answer) in caplog.text


@pytest.mark.parametrize("answer", [None, "a str", b"bytes", 200, {"a": 1}, bunws.Response])
@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
def test_a_fetch_that_returns_no_response_is_answered_with_500_and_the_log_tells_the_fix(
    answer: object, later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def return_later(request: bunws.Request) -> object:
        return answer

    with serve(return_later if later else lambda request: answer) as server, connect(server) as client:
        for _ in range(2):
            assert client.get().answer().status == 500
    assert "fetch must return a bunws.Response (or None after server.upgrade() returned True)" in caplog.text
    assert repr(answer) in caplog.text


@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
def test_a_header_that_may_not_be_on_the_wire_is_answered_with_500_and_logged(
    later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch(request: bunws.Request) -> bunws.Response:
        response = bunws.Response("hello")
        response.headers["X-Evil"] = "a\r\nSet-Cookie: b"  # checked when it is sent
        return response

    async def fetch_later(request: bunws.Request) -> bunws.Response:
        return fetch(request)

    with serve(fetch_later if later else fetch) as server, connect(server) as client:
        for _ in range(2):
            answer = client.get().answer()
            assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert "fetch returned a response that cannot be sent" in caplog.text
    assert "X-Evil" in caplog.text


@pytest.mark.parametrize("later", [False, True], ids=["plain", "async"])
def test_the_error_handler_answers_for_a_response_that_cannot_be_sent(
    later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def fetch(request: bunws.Request) -> bunws.Response:
        response = bunws.Response(iter(["never sent"]) if request.method == "POST" else "hello")
        response.headers["X-Evil"] = "a\r\nSet-Cookie: b"
        return response

    def answer(exc: Exception) -> bunws.Response:
        return bunws.Response(str(exc)[:15], 503)

    async def answer_later(exc: Exception) -> bunws.Response:
        return answer(exc)

    with serve(fetch, error=answer_later if later else answer) as server, connect(server) as client:
        get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(
            get + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" + get
        )  # pipelined: what waits behind it is answered
        for _ in range(3):
            reply = client.answer()
            assert (reply.status, reply.body) == (503, b"header 'X-Evil'")
    assert caplog.text == ""


def test_an_answer_of_the_error_handler_that_cannot_be_sent_either_is_500(caplog: pytest.LogCaptureFixture) -> None:
    def answer(*_: object) -> bunws.Response:
        response = bunws.Response("hello")
        response.headers["X-Evil"] = "a\r\nSet-Cookie: b"
        return response

    with serve(answer, error=answer) as server, connect(server) as client:
        for _ in range(2):
            reply = client.get().answer()
            assert (reply.status, reply.body) == (500, b"Internal Server Error")
    assert caplog.text.count("what stood in for an answer failed as well") == 2


# Clients that leave


def test_a_client_that_has_closed_its_half_still_gets_its_answer_and_is_gone() -> None:
    reached, go_on = threading.Event(), threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        reached.set()
        await asyncio.to_thread(go_on.wait, PATIENCE)
        return bunws.Response("at last")

    with serve(fetch) as server, connect(server) as client:
        client.get().half_close()
        assert reached.wait(PATIENCE)
        with connect(server) as other:  # by the time it is accepted, the end has been read
            other.send(b"rubbish\r\n")
            other.answer()
        go_on.set()
        assert client.answer().body == b"at last"
        assert client.rest() == b""
        eventually(lambda: not server._guests.connections)


def test_a_client_that_has_closed_its_half_gets_all_pipelined_answers() -> None:
    with serve(path_later) as server, connect(server) as client:
        client.send(get("/a") + get("/b") + get("/c")).half_close()
        assert [client.answer().body for _ in range(3)] == [b"/a", b"/b", b"/c"]
        assert client.rest() == b""
        eventually(lambda: not server._guests.connections)


@pytest.mark.parametrize("leave", [RawClient.half_close, RawClient.reset, RawClient.close])
def test_a_handler_that_waits_for_the_body_is_told_that_the_client_has_gone(
    leave: Callable[[RawClient], object], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[BaseException] = []

    async def fetch(request: bunws.Request) -> bunws.Response:
        try:
            return await echo(request)
        except bunws.ClientDisconnected as exc:
            told.append(exc)
            raise

    with serve(fetch) as server, connect(server) as client:
        client.send(post(b"hello")[:-1])
        eventually(lambda: server.pending_requests)
        leave(client)
        eventually(lambda: told)
        client.close()
        eventually(lambda: not server._guests.connections)
    assert len(told) == 1
    assert caplog.text == ""  # it is nobody's mistake here


def test_an_answer_to_a_client_that_has_gone_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    reached, go_on, done = threading.Event(), threading.Event(), threading.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        reached.set()
        await asyncio.to_thread(go_on.wait, PATIENCE)
        done.set()
        return bunws.Response("too late")

    with serve(fetch) as server:
        with connect(server) as client:
            client.get()
            assert reached.wait(PATIENCE)
            client.reset()
        eventually(lambda: not server._guests.connections)
        go_on.set()
        assert done.wait(PATIENCE)
    assert caplog.text == ""


def test_a_client_that_leaves_in_the_middle_of_a_head_is_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    with serve(path) as server:
        with connect(server) as client:
            client.send(b"GET / HT")
        with connect(server) as client:
            client.send(b"GET / HT").reset()
        eventually(lambda: not server._guests.connections)
    assert caplog.text == ""


@pytest.mark.parametrize("is_async", [False, True])
async def test_http_error_that_cannot_be_sent_is_a_500_and_holds_nothing_up(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(request: bunws.Request) -> bunws.Response:
        raise bunws.HTTPError(302, "go", (("Location", request.url.query["next"]),))

    async def refuse_later(request: bunws.Request) -> bunws.Response:
        return refuse(request)

    fetch = refuse_later if is_async else refuse
    async with bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(2):
            writer.write(b"GET /?next=%0d%0aX:y HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
            assert await reader.readexactly(len("Internal Server Error")) == b"Internal Server Error"
        writer.close()
        await writer.wait_closed()
    assert "that cannot be sent" in caplog.text


async def test_reader_that_gave_up_waiting_for_a_body_lets_no_more_of_it_in() -> None:
    given_up = asyncio.Event()
    waits = asyncio.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        try:
            async with asyncio.timeout(0):
                await request.bytes()
        except TimeoutError:
            given_up.set()
        await waits.wait()
        return bunws.Response("too slow", 408)

    async with bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
        await given_up.wait()
        (connection,) = server._guests.connections
        assert connection.current is not None
        body = connection.current.request._body
        assert isinstance(body, Body)
        assert not body._whole
        waits.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 408 ")
        writer.close()
        await writer.wait_closed()


def test_options_for_the_whole_server_are_those_of_its_routes_unless_fetch_tells_others() -> None:
    routes = {"/a": {"GET": bunws.Response("a")}, "/b": {"PUT": bunws.Response("b")}}
    request = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"
    with quiet(bunws.serve(routes=routes, port=0, hostname="127.0.0.1")) as server, connect(server) as client:
        for _ in range(2):
            answer = client.send(request).answer()
            assert (answer.status, answer.headers["Allow"]) == (204, "GET, HEAD, PUT, OPTIONS")
    with serve(lambda request: bunws.Response("mine"), routes=routes) as server, connect(server) as client:
        assert client.send(request).answer().body == b"mine"
