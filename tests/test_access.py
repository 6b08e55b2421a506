"""Access log: what is told of each answer, and that nobody can forge a line."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given, strategies as st

import bunws
from bunws.access import AccessRecord, access_log
from tests.support import RawClient, until


def record(**changes: object) -> AccessRecord:
    plain = AccessRecord("192.0.2.1", "GET", "/", "1.1", 200, 120, 0.25, "", "")
    return plain._replace(**changes)  # type: ignore[arg-type]  # each test knows the types of what it changes


def test_a_record_is_one_line_of_keys_and_values() -> None:
    assert str(record(user_agent="curl/8.0", target="/a?b=c")) == (
        'client=192.0.2.1 method=GET target="/a?b=c" http_version=1.1 status=200 bytes_sent=120 seconds=0.25 '
        'referer="" user_agent=curl/8.0'
    )


@given(st.text(st.characters(codec="latin-1")))
def test_no_value_can_end_its_line_or_its_quotes(text: str) -> None:
    line = str(record(user_agent=text))
    value = line.partition("user_agent=")[2]
    assert line.isprintable()
    assert value.isascii()
    inside = value[1:-1].replace("\\\\", "").replace('\\"', "") if value[0] == '"' else value
    assert '"' not in inside
    assert " " not in value or value[0] == '"'


def test_nothing_is_called_where_nothing_is_to_be_logged() -> None:
    assert access_log(False) is None


def test_an_option_that_is_neither_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="access_log must be True, False or a function, got str"):
        bunws.serve(fetch=lambda request: bunws.Response("hello"), access_log="yes")  # type: ignore[arg-type]


async def ask(port: int | None, *requests: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"".join(requests))
    writer.write_eof()
    await reader.read()
    writer.close()
    await writer.wait_closed()


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    if request.url.path == "/ws":
        return None if server.upgrade(request) else bunws.Response("no", 400)
    if request.url.path == "/fails":
        raise ValueError("secret")
    return bunws.Response("hello")


async def test_each_answer_is_told_once_with_its_status_and_its_bytes() -> None:
    told: list[AccessRecord] = []
    async with bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0, access_log=told.append) as server:
        await ask(
            server.port,
            b"GET /a?x=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: test\r\nReferer: http://b/\r\n\r\n",
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /fails HTTP/1.1\r\nHost: a\r\n\r\n",
        )
    assert [(one.method, one.target, one.status) for one in told] == [
        ("GET", "/a?x=1", 200),
        ("HEAD", "/", 200),
        ("GET", "/fails", 500),
    ]
    assert told[0]._replace(seconds=0, bytes_sent=0) == AccessRecord(
        "127.0.0.1", "GET", "/a?x=1", "1.1", 200, 0, 0, "http://b/", "test"
    )
    assert told[0].bytes_sent - told[1].bytes_sent == len("hello")
    assert all(0 <= one.seconds < 60 for one in told)


POST = b"POST /p?q=1 HTTP/1.1\r\nHost: a\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "method", "target"),
    [
        (POST + b"Content-Length: 101\r\n\r\n", 413, "POST", "/p?q=1"),
        (POST + b"X: " + b"x" * 20_000 + b"\r\n\r\n", 431, "POST", "/p?q=1"),
        (POST + b"Content-Length: x\r\n\r\n", 400, "POST", "/p?q=1"),
        (b"rubbish\r\n\r\n", 400, "", ""),
    ],
)
async def test_a_request_that_no_handler_is_asked_about_is_told_once(
    request_: bytes, status: int, method: str, target: str
) -> None:
    told: list[AccessRecord] = []
    async with bunws.serve(
        fetch=fetch, hostname="127.0.0.1", port=0, access_log=told.append, max_request_body_size=100
    ) as server:
        await ask(server.port, request_)
    (one,) = told
    assert (one.client, one.method, one.target, one.status) == ("127.0.0.1", method, target, status)
    assert one.bytes_sent > 100
    assert (one.seconds, one.referer, one.user_agent) == (0, "", "")


async def test_a_client_that_is_too_many_and_one_that_is_too_slow_are_told() -> None:
    told: list[AccessRecord] = []
    async with bunws.serve(
        fetch=fetch, hostname="127.0.0.1", port=0, access_log=told.append, max_connections=1
    ) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /slow HTTP/1.1\r\nHos")
        await until(lambda: any(each._parser.in_head for each in server._guests.connections))
        await ask(server.port)
        for _ in range(server._site.http_ticks + 1):
            server._guests.sweeper.sweep()
        writer.close()
        await writer.wait_closed()
    assert [(one.method, one.target, one.status) for one in told] == [("", "", 503), ("GET", "/slow", 408)]


async def test_a_client_that_leaves_before_it_is_answered_is_told_as_499() -> None:
    async def wait(request: bunws.Request) -> bunws.Response:
        if request.url.path == "/cancelled":
            request.cancel_on_disconnect()
        await request.wait_disconnected()
        await asyncio.sleep(0)
        return bunws.Response("too late")

    told: list[AccessRecord] = []
    async with bunws.serve(fetch=wait, hostname="127.0.0.1", port=0, access_log=told.append) as server:
        for path in ("/told", "/cancelled"):
            assert server.port is not None
            with RawClient(server.port) as client:
                client.get(path)
                await until(lambda: server.pending_requests)
                client.reset()
                await until(lambda: not server.pending_requests)
    assert [(one.target, one.status, one.bytes_sent) for one in told] == [("/told", 499, 0), ("/cancelled", 499, 0)]


async def test_an_upgrade_is_told_as_101() -> None:
    from websockets.asyncio.client import connect

    told: list[AccessRecord] = []
    async with (
        bunws.serve(
            fetch=fetch, websocket={"open": lambda ws: None}, hostname="127.0.0.1", port=0, access_log=told.append
        ) as server,
        connect(f"ws://127.0.0.1:{server.port}/ws"),
    ):
        pass
    assert [(one.client, one.target, one.status) for one in told] == [("127.0.0.1", "/ws", 101)]
    assert 100 < told[0].bytes_sent < 1000


async def test_a_log_that_fails_is_logged_and_the_answer_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    def fail(record: AccessRecord) -> None:
        raise RuntimeError("disk full")

    async with bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0, access_log=fail) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"hello")
        writer.close()
        await writer.wait_closed()
    assert "the access log failed" in caplog.text


async def test_true_writes_to_the_logger_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bunws.access"):
        async with bunws.serve(fetch=fetch, hostname="127.0.0.1", port=0, access_log=True) as server:
            await ask(server.port, b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n")
    (line,) = [one for one in caplog.records if one.name == "bunws.access"]
    assert "method=GET target=/plain http_version=1.1 status=200" in line.getMessage()
    assert line.__dict__["access"]["status"] == 200
