"""Request: what a client asked for, with the Fetch standard's meaning."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict
from yarl import URL

from bunws.exceptions import BodyError, HTTPError
from bunws.http.body import Body, ClientDisconnected
from bunws.http.head import RequestHead, RequestLine
from bunws.http.headers import is_authority, tokens
from bunws.http.request import Request
from tests.support import until


def make_head(line: bytes = b"POST / HTTP/1.1\r\n", **fields: str) -> RequestHead:
    pairs = [(name.encode(), value.encode()) for name, value in fields.items()]
    return RequestHead.make(RequestLine.parse(line), pairs)


# Made in the process


def test_request_has_the_defaults_of_fetch() -> None:
    request = Request("http://example.com/chat?room=1")
    assert (request.method, request.http_version, dict(request.headers)) == ("GET", "1.1", {})
    assert request.url == URL("http://example.com/chat?room=1")
    assert request.url.query["room"] == "1"
    assert repr(request) == "<Request GET http://example.com/chat?room=1>"


async def test_body_of_text_has_the_content_type_of_fetch() -> None:
    request = Request(URL("http://a/"), method="post", body="é")
    assert (request.method, request.headers["content-type"]) == ("POST", "text/plain;charset=UTF-8")
    assert await request.bytes() == b"\xc3\xa9"


async def test_content_type_of_the_caller_wins() -> None:
    request = Request("http://a/", method="PUT", headers={"content-type": "application/json"}, body="[1]")
    assert request.headers.getall("Content-Type") == ["application/json"]
    assert await request.json() == [1]


def test_body_of_bytes_has_no_content_type() -> None:
    assert "Content-Type" not in Request("http://a/", method="POST", body=b"a").headers


@pytest.mark.parametrize(("method", "expected"), [("delete", "DELETE"), ("patch", "patch"), ("Query", "Query")])
def test_only_the_methods_that_fetch_names_are_put_in_upper_case(method: str, expected: str) -> None:
    assert Request("http://a/", method=method).method == expected


def test_headers_may_be_a_mapping_or_pairs_and_are_copied() -> None:
    headers = CIMultiDict({"A": "1"})
    request = Request("http://a/", headers=headers)
    headers["A"] = "2"
    assert request.headers["a"] == "1"
    assert Request("http://a/", headers=[("B", "1"), ("b", "2")]).headers.getall("B") == ["1", "2"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"url": "/chat"}, ValueError, "absolute"),
        ({"url": "http://a/", "method": "G T"}, ValueError, "token"),
        ({"url": "http://a/", "body": "x"}, TypeError, "POST"),
        ({"url": "http://a/", "method": "head", "body": b"x"}, TypeError, "HEAD"),
        *[
            ({"url": "http://a/", "method": "POST", "body": body}, TypeError, type(body).__name__)
            for body in ({}, [b"a"], (b"a",), {b"a"}, 1, object())
        ],
        ({"url": "http://a/", "headers": {"X\n": "a"}}, ValueError, "X"),
        ({"url": "http://a/", "headers": {"X-A": "a\r\nb"}}, ValueError, "X-A"),
        ({"url": "http://a/", "headers": {"X-A": 1}}, TypeError, "X-A"),
        ({"url": "http://a/", "headers": ["ab"]}, TypeError, "pairs"),
    ],
)
def test_mistake_of_the_caller_is_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Request(**arguments)  # type: ignore[arg-type]  # wrong types are what is tested


# Reading


async def test_second_read_is_refused_as_fetch_does() -> None:
    request = Request("http://a/", method="POST", body="hello")
    assert not request.body_used
    assert await request.text() == "hello"
    assert request.body_used
    for read in (request.text, request.json, request.bytes):
        with pytest.raises(TypeError, match="body already used"):
            await read()


@pytest.mark.parametrize(
    "body",
    ["{", "", b"\xff", "[" * 1_000_000, '{"a": NaN}', "-Infinity"],
    ids=["cut", "empty", "no text", "deep", "no number", "infinity"],
)
async def test_json_that_is_none_raises_what_is_answered_with_400(body: str | bytes) -> None:
    with pytest.raises(ValueError, match="not valid JSON") as caught:
        await Request("http://a/", method="POST", body=body).json()
    assert isinstance(caught.value, BodyError)
    assert caught.value.status == 400


async def test_request_without_body_reads_as_empty() -> None:
    assert await Request("http://a/").text() == ""


async def test_client_that_leaves_is_told_to_who_reads() -> None:
    body = Body()
    request = Request.from_head(make_head(Host="a"), scheme="http", body=body)
    body.fail(ClientDisconnected("the client left"))
    with pytest.raises(ClientDisconnected):
        await request.text()


# Streamed


def _words() -> Iterator[str | bytes]:
    yield from ("a", b"", b"b", "", "é")


async def _words_in_time() -> AsyncIterator[str | bytes]:
    for word in _words():
        await asyncio.sleep(0)
        yield word


async def test_body_of_an_iterable_is_read_whole_or_in_chunks() -> None:
    for body in (_words, _words_in_time):
        assert await Request("http://a/", method="POST", body=body()).text() == "abé"
        request = Request("http://a/", method="POST", body=body())
        assert [chunk async for chunk in request.body] == [b"a", b"b", b"\xc3\xa9"]
        assert "Content-Type" not in request.headers


async def test_nothing_is_taken_of_an_iterable_before_it_is_read() -> None:
    words = _words()
    request = Request("http://a/", method="POST", body=words)
    stream = aiter(request.body)
    assert next(words) == "a"
    assert await anext(stream) == b"b"


async def test_chunk_of_another_type_is_refused() -> None:
    with pytest.raises(TypeError, match="not int"):
        await Request("http://a/", method="POST", body=iter([1])).bytes()  # type: ignore[arg-type]  # that is tested


@pytest.mark.parametrize("body", [b"ab", bytearray(b"ab"), memoryview(b"ab"), "ab"])
async def test_body_that_is_there_is_read_in_chunks(body: str | bytes | bytearray | memoryview) -> None:
    request = Request("http://a/", method="POST", body=body)
    assert b"".join([chunk async for chunk in request.body]) == b"ab"


async def test_request_without_body_streams_nothing() -> None:
    request = Request("http://a/")
    assert [chunk async for chunk in request.body] == []
    assert [chunk async for chunk in Request("http://a/").body] == []


async def test_body_is_streamed_while_it_arrives() -> None:
    body = Body()
    request = Request.from_head(make_head(Host="a"), scheme="http", body=body)
    assert request.body
    assert not request.body_used
    stream = aiter(request.body)
    assert request.body_used
    body.feed(b"a")
    assert await anext(stream) == b"a"
    body.feed(b"b")
    assert await anext(stream) == b"b"
    body.fail(ClientDisconnected("the client left"))
    with pytest.raises(ClientDisconnected):
        await anext(stream)


async def test_streamed_body_is_used_for_every_reader() -> None:
    request = Request("http://a/", method="POST", headers={"Content-Type": "text/plain"}, body="hello")
    async for _ in request.body:
        break
    with pytest.raises(TypeError, match="body already used"):
        aiter(request.body)
    for read in (request.text, request.form):
        with pytest.raises(TypeError, match="body already used"):
            await read()


async def test_form_that_was_read_is_used() -> None:
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    request = Request("http://a/", method="POST", headers=fields, body="a=1&a=2")
    assert (await request.form()).getall("a") == ["1", "2"]
    with pytest.raises(TypeError, match="body already used"):
        await request.form()


async def test_form_takes_each_limit_as_an_argument() -> None:
    limits = ("fields", "files", "field_size", "fields_size", "file_size", "header_size", "size")
    for limit in (*(f"max_{limit}" for limit in limits), "spool_size"):
        request = Request("http://a/", method="POST", body="a=1")
        with pytest.raises(ValueError, match=f"^{limit} must not be negative"):
            await request.form(**{limit: -1})
        assert not request.body_used
    with pytest.raises(HTTPError, match="415"):
        await Request("http://a/", method="POST", body="a=1").form()


# Cookies and parameters


def test_cookies_of_all_lines_are_read_once() -> None:
    request = Request("http://a/", headers=[("Cookie", "a=1; b=%20"), ("cookie", "a=2; c=3")])
    assert request.cookies == {"a": "1", "b": " ", "c": "3"}
    assert request.cookies is request.cookies
    assert Request("http://a/").cookies == {}
    with pytest.raises(TypeError):
        request.cookies["a"] = "2"  # type: ignore[index]  # that is what is tested


def test_request_that_no_route_took_has_no_params() -> None:
    request = Request("http://a/")
    assert request.params == {}
    request._params = {"id": "1"}
    assert request.params["id"] == "1"
    assert Request("http://a/").params == {}


# When the client goes away


@pytest.fixture
def request_() -> Request:
    return Request.from_head(make_head(Host="a"), scheme="http")


async def _asleep(task: asyncio.Task[None], request: Request) -> None:
    """Let it come to its wait for the client."""
    await until(lambda: request._watchers)
    assert not task.done()


async def test_who_waits_for_the_client_to_leave_is_woken(request_: Request) -> None:
    tasks = [asyncio.create_task(request_.wait_disconnected()) for _ in range(2)]
    await _asleep(tasks[0], request_)
    assert not request_.disconnected
    request_._tell_disconnected()
    request_._tell_disconnected()
    await asyncio.gather(*tasks)
    assert request_.disconnected
    await request_.wait_disconnected()


async def test_who_waits_for_a_client_that_stays_is_woken_by_the_end(request_: Request) -> None:
    task = asyncio.create_task(request_.wait_disconnected())
    await _asleep(task, request_)
    request_._release()
    await task
    assert not request_.disconnected
    await request_.wait_disconnected()
    request_._tell_disconnected()
    assert not request_.disconnected


async def test_who_waits_no_more_is_forgotten(request_: Request) -> None:
    task = asyncio.create_task(request_.wait_disconnected())
    await _asleep(task, request_)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert request_._watchers == []


async def test_who_is_woken_and_cancelled_at_once_disturbs_nobody(request_: Request) -> None:
    task = asyncio.create_task(request_.wait_disconnected())
    await _asleep(task, request_)
    task.cancel()
    request_._tell_disconnected()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_handler_is_cancelled_only_if_it_asks(request_: Request) -> None:
    never = asyncio.Event()

    async def handler(cancels: bool) -> None:
        if cancels:
            request_.cancel_on_disconnect()
        await never.wait()

    asked, did_not = asyncio.create_task(handler(True)), asyncio.create_task(handler(False))
    await _asleep(asked, request_)
    request_._tell_disconnected()
    with pytest.raises(asyncio.CancelledError):
        await asked
    assert not did_not.done()
    never.set()
    await did_not


async def test_handler_that_asks_late_is_cancelled_at_its_next_await(request_: Request) -> None:
    request_._tell_disconnected()
    reached: list[str] = []

    async def handler() -> None:
        request_.cancel_on_disconnect()
        reached.append("before")
        await asyncio.sleep(0)
        reached.append("behind")

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(handler())
    assert reached == ["before"]


async def test_handler_whose_client_had_its_answer_is_not_cancelled(request_: Request) -> None:
    ready = asyncio.Event()

    async def handler() -> None:
        request_.cancel_on_disconnect()
        await ready.wait()
        request_.cancel_on_disconnect()
        await asyncio.sleep(0)

    task = asyncio.create_task(handler())
    await _asleep(task, request_)
    request_._release()
    request_._tell_disconnected()
    ready.set()
    await task


def test_only_a_task_can_be_cancelled(request_: Request) -> None:
    with pytest.raises(RuntimeError):
        request_.cancel_on_disconnect()

    async def call() -> None:
        raised: asyncio.Future[RuntimeError] = asyncio.get_running_loop().create_future()

        def callback() -> None:
            with pytest.raises(RuntimeError, match="in a task") as error:
                request_.cancel_on_disconnect()
            raised.set_result(error.value)

        asyncio.get_running_loop().call_soon(callback)
        await raised

    asyncio.run(call())


# Made from a head


@pytest.mark.parametrize(
    ("line", "url"),
    [
        (b"GET /a?b=%20c HTTP/1.1\r\n", "https://example.com/a?b=%20c"),
        (b"GET / HTTP/1.1\r\n", "https://example.com/"),
        (b"OPTIONS * HTTP/1.1\r\n", "https://example.com"),
        (b"GET //evil.example/x HTTP/1.1\r\n", "https://example.com//evil.example/x"),
        (b"GET /a/../../b HTTP/1.1\r\n", "https://example.com/b"),
        (b"GET http://other:81/x HTTP/1.1\r\n", "https://other:81/x"),
    ],
)
def test_url_is_made_of_scheme_authority_and_target(line: bytes, url: str) -> None:
    request = Request.from_head(make_head(line, Host="example.com"), scheme="https")
    assert request.url == URL(url)
    assert request.url is request.url
    assert request._context is None


def test_url_of_a_client_that_named_no_host_has_the_hosts_name() -> None:
    head = make_head(b"GET /a HTTP/1.0\r\n")
    assert str(Request.from_head(head, scheme="http").url) == "http://localhost/a"
    assert str(Request.from_head(head, scheme="http", host="b:3000").url) == "http://b:3000/a"


def test_request_line_is_read_to_the_letter() -> None:
    assert RequestLine.parse(b"GET /a HTTP/1.0\r\n") == ("GET", "/a", "1.0", "")
    with pytest.raises(HTTPError, match="400"):
        RequestLine.parse(b"GET /a HTTP/1.0\n")


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        *[
            (text, True)
            for text in ("a", "a.b:80", "a:", "127.0.0.1:0", "[::1]", "[::1]:80", "my_host", "xn--bcher-kva.de")
        ],
        *[(text, False) for text in ("", ":80", "[::1", "[::1]80", "[a]", "[fe80::1%eth0]", "a:-1", "a:٣", "u@a", "é")],
        *[(text, False) for text in ("a,b", "a/b", "a b", "a?b", "a#b", "a\\b", "a:80:80", "::1", "a:123456")],
    ],
)
def test_authority_is_a_host_and_a_port_and_nothing_else(text: str, valid: bool) -> None:
    assert is_authority(text) is valid


@given(st.lists(st.text(st.sampled_from(", \tab"), max_size=12), max_size=3))
def test_tokens_are_the_elements_of_all_lines_without_the_empty_ones(values: list[str]) -> None:
    assert tokens(values) == [part for part in (piece.strip(" \t") for piece in ",".join(values).split(",")) if part]


@given(
    st.text(st.sampled_from("abAB09.-_~"), min_size=1, max_size=12) | st.sampled_from(["[::1]", "127.0.0.1", "1.2.3"]),
    st.sampled_from(["", ":", ":0", ":80", ":65535"]),
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#\\"), max_size=20),
    st.booleans(),
)
def test_url_of_whatever_the_parser_accepts_can_be_used(host: str, port: str, path: str, absolute: bool) -> None:
    target = f"http://{host}{port}/{path}" if absolute else f"/{path}"
    head = make_head(f"GET {target} HTTP/1.1\r\n".encode(), Host=host + port)
    url = Request.from_head(head, scheme="http").url
    assert (url.scheme, url.path[:1]) == ("http", "/")
    assert [str(url), url.human_repr(), url.host, url.port, url.query, url.parts, url.name]
