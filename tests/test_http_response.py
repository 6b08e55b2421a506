"""Response: what the server answers, with the Fetch standard's meaning."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict
from yarl import URL

from bunws.exceptions import HTTPError
from bunws.http.encode import encode_response, error_response
from bunws.http.response import Response


DATE = b"Fri, 20 Nov 2026 19:18:46 GMT"


def test_response_has_the_defaults_of_fetch() -> None:
    response = Response()
    assert (response.status, response.status_text, response.ok, response.body) == (200, "", True, None)
    assert dict(response.headers) == {}
    assert repr(response) == "<Response 200 no body>"


@pytest.mark.parametrize(
    ("body", "content", "content_type"),
    [
        ("é", b"\xc3\xa9", "text/plain;charset=UTF-8"),
        ("", b"", "text/plain;charset=UTF-8"),
        (b"a", b"a", None),
        (bytearray(b"a"), b"a", None),
        (memoryview(b"abcd")[1:3], b"bc", None),
        (None, None, None),
    ],
)
def test_body_and_default_content_type_are_those_of_fetch(
    body: str | bytes | bytearray | memoryview | None, content: bytes | None, content_type: str | None
) -> None:
    response = Response(body)
    assert response.body == content
    assert response.headers.get("Content-Type") == content_type


def test_content_type_of_the_caller_wins() -> None:
    assert Response("<p>", headers={"content-type": "text/html"}).headers.getall("Content-Type") == ["text/html"]


def test_response_keeps_a_copy_of_what_it_was_given() -> None:
    body, headers = bytearray(b"a"), CIMultiDict({"A": "1"})
    response = Response(body, headers=headers)
    body[:] = b"b"
    headers["A"] = "2"
    assert (response.body, response.headers["A"]) == (b"a", "1")


@pytest.mark.parametrize(("status", "ok"), [(200, True), (299, True), (300, False), (599, False)])
def test_ok_means_200_to_299(status: int, ok: bool) -> None:
    assert Response(status=status).ok is ok


@pytest.mark.parametrize("status", [101, 100, 199, 600, 0, -1])
def test_status_outside_200_to_599_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="range 200 to 599"):
        Response(status=status)


def test_status_is_an_int() -> None:
    with pytest.raises(TypeError, match="str"):
        Response(status="200")  # type: ignore[arg-type]  # the mistake is what is tested


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\x01", "\x1f", "\x7f", "\u20ac"])
def test_text_that_may_not_be_on_the_wire_is_refused_and_named(bad: str) -> None:
    with pytest.raises(ValueError, match="X-A"):
        Response(headers={"X-A": f"a{bad}b"})
    with pytest.raises(ValueError, match="X-A"):
        Response(headers=[(f"X-A{bad}", "a")])
    with pytest.raises(ValueError, match="status_text"):
        Response(status_text=f"a{bad}b")


def test_value_may_hold_tabs_and_latin_1() -> None:
    assert Response(headers={"X": "a\tcaf\xe9"}).headers["X"] == "a\tcaf\xe9"


async def _coroutine() -> str:
    return ""


@pytest.mark.parametrize(("body", "fix"), [({}, "Response.json"), ([1], "Response.json"), (5, "str"), (object(), "")])
def test_body_of_another_type_is_refused_with_the_fix(body: object, fix: str) -> None:
    with pytest.raises(TypeError, match=f"str, bytes, bytearray, memoryview or None.*{fix}"):
        Response(body)  # type: ignore[arg-type]  # the mistake is what is tested


def test_body_that_was_not_awaited_is_refused_with_the_fix() -> None:
    body = _coroutine()
    with pytest.raises(TypeError, match="await it"):
        Response(body)  # type: ignore[arg-type]  # the mistake is what is tested
    body.close()


def test_json_is_made_with_its_content_type() -> None:
    response = Response.json({"a": [1, "é"]}, 201, {"X": "y"})
    assert (response.status, response.body) == (201, '{"a":[1,"é"]}'.encode())
    assert dict(response.headers) == {"X": "y", "Content-Type": "application/json"}
    assert Response.json(None, headers={"content-type": "a/b"}).headers.getall("Content-Type") == ["a/b"]


@pytest.mark.parametrize("made", ['{"a":1}', b'{"a":1}'])
def test_json_is_made_by_the_function_that_is_given(made: str | bytes) -> None:
    given: list[object] = []

    def dumps(data: object) -> str | bytes:
        given.append(data)
        return made

    response = Response.json({"a": 1}, dumps=dumps)
    assert (response.body, dict(response.headers)) == (b'{"a":1}', {"Content-Type": "application/json"})
    assert given == [{"a": 1}]


def test_a_function_that_makes_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="dumps must return str or bytes, not NoneType"):
        Response.json({}, dumps=lambda data: None)  # type: ignore[arg-type, return-value]  # a mistake


@pytest.mark.parametrize("dumps", [None, lambda data: f'"{data}"'])
def test_json_that_holds_a_lone_surrogate_can_be_sent(dumps: Callable[[object], str] | None) -> None:
    assert Response.json("\ud800", dumps=dumps).body == b'"\\ud800"'


def test_json_of_a_subclass_is_of_the_subclass() -> None:
    class Mine(Response):
        pass

    assert type(Mine.json([])) is Mine


@pytest.mark.parametrize("data", [float("nan"), {1, 2}])
def test_what_json_cannot_say_is_refused(data: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        Response.json(data)


async def test_body_can_be_read_as_often_as_one_likes() -> None:
    response = Response.json([1])
    for _ in range(2):
        assert (await response.bytes(), await response.text(), await response.json()) == (b"[1]", "[1]", [1])
    assert await Response().bytes() == b""
    with pytest.raises(json.JSONDecodeError):
        await Response("{").json()


# Redirects, files, cookies


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("/next", "/next"),
        ("https://example.com/a?b=c#d", "https://example.com/a?b=c#d"),
        ("/grüße €", "/gr%C3%BC%C3%9Fe%20%E2%82%AC"),
        ("/a%2Fb", "/a%2Fb"),
        ("/in?to=https%3A%2F%2Fa%2Fb&sig=a%2Bb+c", "/in?to=https%3A%2F%2Fa%2Fb&sig=a%2Bb+c"),
        ('/a b"<>', "/a%20b%22%3C%3E"),
        (URL("https://example.com/"), "https://example.com/"),
    ],
)
def test_redirect_sends_the_client_on(url: str | URL, location: str) -> None:
    response = Response.redirect(url)
    assert (response.status, response.headers["Location"], response.body) == (302, location, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_may_have_any_status_that_redirects(status: int) -> None:
    assert Response.redirect("/", status).status == status


@pytest.mark.parametrize("status", [200, 300, 304, 306, 404])
def test_redirect_with_another_status_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="301, 302, 303, 307, 308"):
        Response.redirect("/", status)


@pytest.mark.parametrize("bad", ["\r\n", "\n", "\0", "\t", "\x7f"])
def test_redirect_to_a_url_with_a_control_character_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        Response.redirect(f"/a{bad}Set-Cookie: b")


async def test_file_is_sent_as_a_stream_with_its_type(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("<p>")
    response = Response.file(path, 404)
    assert response.status == 404
    assert response.headers["Content-Type"].startswith("text/html")
    assert await response.text() == "<p>"
    mine = Response.file(path, headers={"content-type": "text/plain"})
    assert mine.headers.getall("Content-Type") == ["text/plain"]
    assert await mine.bytes() == b"<p>"


def test_file_that_is_not_there_raises_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Response.file(tmp_path / "missing")


def test_cookies_are_set_with_safe_defaults_and_each_has_its_line() -> None:
    response = Response("hello")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2", max_age=60, secure=False, http_only=False, same_site="Strict", path="/b")
    first, second = response.headers.getall("Set-Cookie")
    assert first.split("; ")[0] == "a=1"
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} == set(first.split("; ")[1:])
    assert {"Path=/b", "Max-Age=60", "SameSite=Strict"} == set(second.split("; ")[1:])
    assert [field.partition(":")[0] for field in encode(response)[1]].count("Set-Cookie") == 2


def test_cookie_is_deleted_by_one_that_has_ended() -> None:
    response = Response()
    response.delete_cookie("a", path="/b")
    assert "Expires=Thu, 01 Jan 1970" in response.headers["Set-Cookie"]
    assert "Path=/b" in response.headers["Set-Cookie"]


@pytest.mark.parametrize("bad", ["a\r\nX: y", "a\0"])
def test_cookie_that_may_not_be_on_the_wire_is_refused(bad: str) -> None:
    response = Response()
    for name, value in ((bad, "b"), ("a", bad)):
        with pytest.raises(ValueError, match="cookie"):
            response.set_cookie(name, value)
    assert "Set-Cookie" not in response.headers


@given(st.text(max_size=6))
def test_header_value_is_either_sent_as_it_is_or_refused(value: str) -> None:
    fine = all(char == "\t" or (0x20 <= ord(char) <= 0xFF and ord(char) != 0x7F) for char in value)
    if fine:
        assert Response(headers={"X": value}).headers["X"] == value
    else:
        with pytest.raises(ValueError, match="'X'"):
            Response(headers={"X": value})


# To the wire


def encode(
    response: Response, *, method: str = "GET", http_version: str = "1.1", keep_alive: bool = True
) -> tuple[str, list[str], bytes]:
    """Status line, fields and body of what would be sent."""
    data = encode_response(response, method=method, http_version=http_version, keep_alive=keep_alive, date=DATE)
    head, _, body = data.partition(b"\r\n\r\n")
    status_line, *fields = head.decode("latin-1").split("\r\n")
    return status_line, fields, body


def test_response_is_one_head_and_its_body() -> None:
    data = encode_response(Response("Hello"), method="GET", http_version="1.1", keep_alive=True, date=DATE)
    assert data == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain;charset=UTF-8\r\n"
        b"Date: Fri, 20 Nov 2026 19:18:46 GMT\r\nContent-Length: 5\r\n\r\nHello"
    )


@given(
    body=st.none() | st.text() | st.binary(),
    status=st.sampled_from([200, 201, 204, 205, 206, 304, 404, 500, 599]),
    status_text=st.sampled_from(["", "Fine"]),
    method=st.sampled_from(["GET", "HEAD", "POST"]),
    http_version=st.sampled_from(["1.1", "1.0"]),
    keep_alive=st.booleans(),
)
def test_a_response_is_sent_the_same_whether_its_headers_were_looked_at_or_not(
    body: str | bytes | None, status: int, status_text: str, method: str, http_version: str, keep_alive: bool
) -> None:
    untouched, touched = (Response(body, status, status_text=status_text) for _ in range(2))
    assert len(touched.headers) == isinstance(body, str)
    for _ in range(2):
        assert encode(untouched, method=method, http_version=http_version, keep_alive=keep_alive) == encode(
            touched, method=method, http_version=http_version, keep_alive=keep_alive
        )


def test_headers_that_change_between_two_answers_are_sent_as_they_are() -> None:
    response = Response("Hello", headers={"X": "1"})
    assert encode(response)[1][:2] == ["X: 1", "Content-Type: text/plain;charset=UTF-8"]
    response.headers["X"] = "2"
    del response.headers["Content-Type"]
    assert encode(response)[1][:2] == ["X: 2", "Date: Fri, 20 Nov 2026 19:18:46 GMT"]
    response.headers = CIMultiDict({"X": "3"})
    assert encode(response)[1][0] == "X: 3"
    response.headers["X"] = "a\r\nb"
    with pytest.raises(ValueError, match="'X'"):
        encode(response)


def test_the_date_of_an_answer_is_that_of_its_second() -> None:
    response = Response("Hello")
    for date in (b"Fri, 20 Nov 2026 19:18:46 GMT", b"Fri, 20 Nov 2026 19:18:47 GMT", DATE):
        data = encode_response(response, method="GET", http_version="1.1", keep_alive=True, date=date)
        assert b"\r\nDate: %b\r\n" % date in data


def test_encoding_does_not_change_a_response() -> None:
    response = Response("Hello", headers={"Connection": "close"})
    before = list(response.headers.items())
    first = encode(response)
    assert encode(response, method="HEAD")[2] == b""
    assert (list(response.headers.items()), encode(response)) == (before, first)


def test_answer_to_head_keeps_the_length_and_has_no_body() -> None:
    _, fields, body = encode(Response("Hello"), method="HEAD")
    assert ("Content-Length: 5" in fields, body) == (True, b"")
    assert "Content-Length: 7" in encode(Response(headers={"Content-Length": "7"}), method="HEAD")[1]
    assert "Content-Length: 0" in encode(Response(headers={"Content-Length": "x"}), method="HEAD")[1]


@pytest.mark.parametrize(("status", "length"), [(204, []), (304, []), (205, ["Content-Length: 0"])])
def test_status_without_content_sends_none(status: int, length: list[str]) -> None:
    _, fields, body = encode(Response(b"content", status, {"Content-Length": "7"}))
    assert [field for field in fields if field.startswith("Content-Length")] == length
    assert body == b""


def test_304_says_the_length_that_only_the_caller_can_know() -> None:
    assert "Content-Length: 7" in encode(Response(None, 304, {"Content-Length": "7"}))[1]


def test_framing_headers_that_the_caller_wrote_are_replaced() -> None:
    lies = {"content-length": "1", "Transfer-Encoding": "chunked", "connection": "x", "Keep-Alive": "timeout=5"}
    _, fields, body = encode(Response(b"abc", headers=lies))
    assert fields == ["Date: Fri, 20 Nov 2026 19:18:46 GMT", "Content-Length: 3"]
    assert body == b"abc"


@pytest.mark.parametrize(
    ("http_version", "keep_alive", "headers", "expected"),
    [
        ("1.1", True, {}, []),
        ("1.1", False, {}, ["Connection: close"]),
        ("1.0", True, {}, ["Connection: keep-alive"]),
        ("1.0", False, {}, ["Connection: close"]),
        ("1.1", False, {"Upgrade": "websocket"}, ["Connection: close, Upgrade"]),
        ("1.1", True, {"Upgrade": "websocket"}, ["Connection: Upgrade"]),
    ],
)
def test_connection_says_what_will_happen(
    http_version: str, keep_alive: bool, headers: dict[str, str], expected: list[str]
) -> None:
    _, fields, _ = encode(Response(headers=headers), http_version=http_version, keep_alive=keep_alive)
    assert [field for field in fields if field.startswith("Connection")] == expected


def test_date_and_repeated_fields_of_the_caller_are_kept() -> None:
    _, fields, _ = encode(Response(headers=[("date", "x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]))
    assert fields == ["date: x", "Set-Cookie: a=1", "Set-Cookie: b=2", "Content-Length: 0"]


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (Response(status=404), "HTTP/1.1 404 Not Found"),
        (Response(status=413), "HTTP/1.1 413 Content Too Large"),
        (Response(status=299), "HTTP/1.1 299 "),
        (Response(status=200, status_text="Fine"), "HTTP/1.1 200 Fine"),
    ],
)
def test_status_line_has_the_phrase(response: Response, expected: str) -> None:
    assert encode(response)[0] == expected


def test_header_set_later_is_checked_before_the_first_byte() -> None:
    response = Response("Hello")
    response.headers["X-A"] = "a\r\nSet-Cookie: b"
    with pytest.raises(ValueError, match="X-A"):
        encode(response)


def test_error_response_is_its_phrase_and_closes() -> None:
    data = error_response(HTTPError(405, "Use GET", (("Allow", "GET"),)), DATE)
    assert data == (
        b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Type: text/plain;charset=UTF-8\r\n"
        b"Date: Fri, 20 Nov 2026 19:18:46 GMT\r\nContent-Length: 7\r\nConnection: close\r\n\r\nUse GET"
    )
    assert error_response(HTTPError(400, "Bad"), DATE, method="HEAD").endswith(b"\r\n\r\n")
