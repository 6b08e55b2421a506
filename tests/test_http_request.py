"""Request: what a client asked for, with the Fetch standard's meaning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict
from yarl import URL

from bunws.exceptions import HTTPError
from bunws.http.body import Body, ClientDisconnected
from bunws.http.head import RequestHead, RequestLine
from bunws.http.headers import is_authority, tokens
from bunws.http.request import Request


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
        ({"url": "http://a/", "method": "POST", "body": {}}, TypeError, "dict"),
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


async def test_json_that_is_none_raises() -> None:
    with pytest.raises(json.JSONDecodeError):
        await Request("http://a/", method="POST", body="{").json()


async def test_request_without_body_reads_as_empty() -> None:
    assert await Request("http://a/").text() == ""


async def test_client_that_leaves_is_told_to_who_reads() -> None:
    body = Body()
    request = Request.from_head(make_head(Host="a"), scheme="http", body=body)
    body.fail(ClientDisconnected("the client left"))
    with pytest.raises(ClientDisconnected):
        await request.text()


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
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="#"), max_size=20),
    st.booleans(),
)
def test_url_of_whatever_the_parser_accepts_can_be_used(host: str, port: str, path: str, absolute: bool) -> None:
    target = f"http://{host}{port}/{path}" if absolute else f"/{path}"
    head = make_head(f"GET {target} HTTP/1.1\r\n".encode(), Host=host + port)
    url = Request.from_head(head, scheme="http").url
    assert (url.scheme, url.path[:1]) == ("http", "/")
    assert [str(url), url.human_repr(), url.host, url.port, url.query, url.parts, url.name]
