"""Head: a request line and its fields, and what they say together."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from bunws.exceptions import HTTPError
from bunws.http.head import MAX_TARGET_SIZE, RequestHead, RequestLine


def make_head(line: bytes = b"POST / HTTP/1.1\r\n", *fields: tuple[str, str]) -> RequestHead:
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in (("Host", "a"), *fields)]
    return RequestHead.make(RequestLine.parse(line), pairs)


def status_of(line: bytes) -> int:
    with pytest.raises(HTTPError) as caught:
        RequestLine.parse(line)
    return caught.value.status


# The line


def test_request_line_is_read_to_the_letter() -> None:
    assert RequestLine.parse(b"GET /a HTTP/1.0\r\n") == ("GET", "/a", "1.0", "")
    assert status_of(b"GET /a HTTP/1.0\n") == 400


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/", ("/", "")),
        ("//a/b", ("//a/b", "")),
        ("/a?b=\\&c=http://d/", ("/a?b=\\&c=http://d/", "")),
        ("*", ("*", "")),
        ("http://a", ("/", "a")),
        ("https://a:1?b", ("/?b", "a:1")),
        ("HTTP://[::1]/b?c", ("/b?c", "[::1]")),
    ],
)
def test_target_is_path_and_query_and_names_an_authority_in_absolute_form(
    target: str, expected: tuple[str, str]
) -> None:
    line = RequestLine.parse(f"OPTIONS {target} HTTP/1.1\r\n".encode())
    assert (line.target, line.authority) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [("HTTP/1.0", "1.0"), ("HTTP/1.1", "1.1"), ("HTTP/1.2", "1.1"), ("HTTP/1.9", "1.1")],
)
def test_later_minor_version_is_spoken_to_as_1_1(version: str, expected: str) -> None:
    assert RequestLine.parse(f"GET / {version}\r\n".encode()).http_version == expected


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/2.0", "HTTP/3.1", "HTTP/9.9"])
def test_other_major_version_is_not_supported(version: str) -> None:
    assert status_of(f"GET / {version}\r\n".encode()) == 505


@pytest.mark.parametrize("version", ["HTTP/1", "HTTP/1.", "HTTP/1.10", "HTTP/1.x", "http/1.1", "HTTP/1,1", "HTTP/1.²"])
def test_what_is_no_version_is_malformed(version: str) -> None:
    assert status_of(f"GET / {version}\r\n".encode("latin-1")) == 400


@pytest.mark.parametrize("method", ["CONNECT", "TRACE"])
def test_method_that_fetch_forbids_is_not_implemented(method: str) -> None:
    assert status_of(f"{method} / HTTP/1.1\r\n".encode()) == 501


@pytest.mark.parametrize(
    "target",
    ["", "a", "*", "/#a", "/a\\b", "http://a\\b/", "http://a/\\b", "http://u@a/", "ftp://a/", "http:/a", "a:80"],
)
def test_target_that_has_no_form_is_refused(target: str) -> None:
    assert status_of(f"GET {target} HTTP/1.1\r\n".encode()) == 400


def test_line_that_is_too_long_is_told_whether_its_method_or_its_target_is() -> None:
    fits = b"GET /" + b"a" * (MAX_TARGET_SIZE - 1) + b" HTTP/1.1\r\n"
    RequestLine.check_size(fits)
    for line, status in ((b"GET /" + b"a" * 10_000, 414), (b"A" * 10_000, 501), (b"\x16" * 10_000, 400)):
        with pytest.raises(HTTPError) as caught:
            RequestLine.check_size(line)
        assert caught.value.status == status
    assert status_of(b"GET /a" + fits[5:]) == 414


@pytest.mark.parametrize(("beginning", "may_be_one"), [(b"G", True), (b"\r", True), (b"~", True), (b"\x16\x03", False)])
def test_beginning_that_can_be_no_line_is_refused_before_its_end(beginning: bytes, may_be_one: bool) -> None:
    if may_be_one:
        RequestLine.check_beginning(beginning)
        return
    with pytest.raises(HTTPError, match="400"):
        RequestLine.check_beginning(beginning)


@given(st.binary(max_size=40) | st.from_regex(rb"[A-Z]{0,4} [ -\xff]{0,12} HTTP/[0-9.]{0,4}\r\n", fullmatch=True))
def test_any_line_is_refused_or_sound(line: bytes) -> None:
    try:
        method, target, version, authority = RequestLine.parse(line)
    except HTTPError:
        return
    assert version in ("1.0", "1.1")
    assert target == "*" or target[0] == "/"
    assert (method + target + authority).isprintable()
    assert not set(" #") & set(target)


# The line and the fields together


def test_fields_are_kept_in_order_without_the_white_space_around_them() -> None:
    head = make_head(b"GET / HTTP/1.1\r\n", ("X-A", "1"), ("x-a", " \t2 \t"), ("X-B", "caf\xe9"))
    assert list(head.headers.items()) == [("Host", "a"), ("X-A", "1"), ("x-a", "2"), ("X-B", "caf\xe9")]


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        ("1.1", [], True),
        ("1.1", ["foo, Close"], False),
        ("1.1", ["close", "keep-alive"], False),
        ("1.1", ["closed"], True),
        ("1.0", [], False),
        ("1.0", ["Keep-Alive"], True),
        ("1.0", ["keep-alive", "close"], False),
        ("1.2", [], True),
    ],
)
def test_keep_alive_follows_version_and_connection(version: str, connection: list[str], expected: bool) -> None:
    head = make_head(f"GET / HTTP/{version}\r\n".encode(), *[("Connection", value) for value in connection])
    assert head.keep_alive is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], 0),
        ([("Content-Length", "5")], 5),
        ([("Content-Length", "005")], 5),
        ([("Transfer-Encoding", "Chunked")], None),
    ],
)
def test_body_is_as_long_as_its_framing_says(fields: list[tuple[str, str]], expected: int | None) -> None:
    assert make_head(b"POST / HTTP/1.1\r\n", *fields).body_length == expected


@pytest.mark.parametrize(
    ("codings", "status"),
    [
        (["gzip, chunked"], 501),
        (["gzip", "chunked"], 501),
        (["chunked, gzip"], 400),
        (["chunked", "chunked"], 400),
        ([""], 400),
        (["chunked,"], 400),
    ],
)
def test_coding_is_not_implemented_where_the_end_is_known_and_malformed_elsewhere(
    codings: list[str], status: int
) -> None:
    with pytest.raises(HTTPError, match=str(status)):
        make_head(b"POST / HTTP/1.1\r\n", *[("Transfer-Encoding", coding) for coding in codings])


@pytest.mark.parametrize("fields", [[("Host", "b")], [("Content-Type", "a/b"), ("content-type", "a/b")]])
def test_field_that_comes_once_is_refused_twice(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(HTTPError, match="400"):
        make_head(b"POST / HTTP/1.1\r\n", *fields)


@pytest.mark.parametrize(
    ("version", "expectation", "length", "expected"),
    [
        ("1.1", "100-Continue", "5", True),
        ("1.1", "100-continue, 100-continue", "5", True),
        ("1.1", "100-continue", "0", False),
        ("1.1", "", "5", False),
        ("1.0", "100-continue", "5", False),
        ("1.0", "nonsense", "5", False),
    ],
)
def test_continue_is_expected_with_a_body_and_http_1_1_only(
    version: str, expectation: str, length: str, expected: bool
) -> None:
    line = f"POST / HTTP/{version}\r\n".encode()
    assert make_head(line, ("Expect", expectation), ("Content-Length", length)).expects_continue is expected


def test_other_expectation_fails() -> None:
    with pytest.raises(HTTPError, match="417"):
        make_head(b"POST / HTTP/1.1\r\n", ("Expect", "100-continue, more"))


@pytest.mark.parametrize(
    ("version", "fields", "expected"),
    [
        ("1.1", [("Connection", "Upgrade"), ("Upgrade", "WebSocket")], True),
        ("1.1", [("Connection", "keep-alive, upgrade"), ("Upgrade", "h2c, websocket")], True),
        ("1.1", [("Connection", "Upgrade"), ("Upgrade", "h2c")], False),
        ("1.1", [("Connection", "Upgrade")], False),
        ("1.1", [("Upgrade", "websocket")], False),
        ("1.1", [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Content-Length", "5")], False),
        ("1.0", [("Connection", "Upgrade"), ("Upgrade", "websocket")], False),
    ],
)
def test_upgrade_is_wanted_in_http_1_1_without_a_body(
    version: str, fields: list[tuple[str, str]], expected: bool
) -> None:
    assert make_head(f"GET / HTTP/{version}\r\n".encode(), *fields).wants_upgrade is expected


def test_authority_of_an_absolute_form_wins_over_host() -> None:
    assert make_head(b"GET http://b:80/ HTTP/1.1\r\n").authority == "b:80"
    assert make_head(b"GET / HTTP/1.1\r\n").authority == "a"


def test_client_of_http_1_0_need_not_name_a_host() -> None:
    assert RequestHead.make(RequestLine.parse(b"GET / HTTP/1.0\r\n"), []).authority == ""
    with pytest.raises(HTTPError, match="400"):
        RequestHead.make(RequestLine.parse(b"GET / HTTP/1.1\r\n"), [])
