"""The wire: given bytes, then facts."""

from __future__ import annotations

import contextlib

import httptools
import pytest
from hypothesis import given, strategies as st

from bunws.exceptions import HTTPError
from bunws.http.head import MAX_TARGET_SIZE
from bunws.http.wire import EndOfRequest, Event, RequestHead, RequestParser


GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"


def make_parser(*, max_body_size: int = 1000, **limits: int) -> RequestParser:
    return RequestParser(max_body_size=max_body_size, **limits)


def facts(events: list[Event]) -> list[object]:
    """Events that can be compared: pieces of body joined, errors as their status."""
    found: list[object] = []
    for event in events:
        if isinstance(event, HTTPError):
            found.append(event.status)
        elif isinstance(event, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += event
        else:
            found.append(event)
    return found


def read(parser: RequestParser, *pieces: bytes) -> list[Event]:
    """What a connection finds that goes on behind each request at once."""
    events: list[Event] = []
    for piece in pieces:
        events += parser.feed(piece)
        while parser.tail_size:
            events += parser.resume()
    return events


def parse(data: bytes, **limits: int) -> list[object]:
    return facts(read(make_parser(**limits), data))


def parse_bytewise(data: bytes, **limits: int) -> list[object]:
    return facts(read(make_parser(**limits), *(data[at : at + 1] for at in range(len(data)))))


def head_of(data: bytes) -> RequestHead:
    head = make_parser().feed(data)[0]
    assert isinstance(head, RequestHead), head
    return head


# Good requests


def test_request_without_body_is_a_head_and_its_end() -> None:
    head, end = make_parser().feed(b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com:80\r\nX-A: 1\r\nx-a: 2 \t\r\n\r\n")
    assert isinstance(head, RequestHead)
    assert (head.method, head.target, head.http_version) == ("GET", "/chat?room=1", "1.1")
    assert head.authority == "example.com:80"
    assert list(head.headers.items()) == [("Host", "example.com:80"), ("X-A", "1"), ("x-a", "2")]
    assert (head.keep_alive, head.body_length) == (True, 0)
    assert (head.expects_continue, head.wants_upgrade) == (False, False)
    assert end == EndOfRequest()


def test_pipelined_requests_come_in_order() -> None:
    found = parse(POST + b"Content-Length: 5\r\n\r\nhello" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET + b"\r\n")
    assert found[1:3] == [b"hello", EndOfRequest()]
    assert found[4:6] == [b"abc", EndOfRequest()]
    assert len(found) == 8


def test_good_requests_before_a_bad_one_are_kept_and_nothing_comes_after_it() -> None:
    parser = make_parser()
    events = read(parser, GET + b"\r\n" + b"BAD\r\n\r\n" + GET + b"\r\n")
    assert [type(event) for event in events] == [RequestHead, EndOfRequest, HTTPError]
    assert read(parser, GET + b"\r\n") == []


def test_trailers_and_chunk_extensions_are_dropped() -> None:
    found = parse(CHUNKED + b'3;a="b;c"\r\nabc\r\n2\r\nde\r\n0;x\r\nX-Trailer: y\r\n\r\n')
    assert found[1:] == [b"abcde", EndOfRequest()]


def test_header_values_are_latin_1() -> None:
    assert head_of(GET + b"X: caf\xe9\r\n\r\n").headers["X"] == "caf\xe9"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"http://Example.com/a?b", ("Example.com", "/a?b")),
        (b"https://b:8080", ("b:8080", "/")),
        (b"HTTP://[::1]?q", ("[::1]", "/?q")),
    ],
)
def test_authority_of_an_absolute_form_wins_over_host(target: bytes, expected: tuple[str, str]) -> None:
    head = head_of(b"GET " + target + b" HTTP/1.1\r\nHost: other\r\n\r\n")
    assert (head.authority, head.target) == expected


@pytest.mark.parametrize(
    ("version", "connection", "expected"),
    [
        (b"1.1", b"", True),
        (b"1.1", b"Connection: foo, Close\r\n", False),
        (b"1.1", b"Connection: close\r\nConnection: keep-alive\r\n", False),
        (b"1.1", b"Connection: closed\r\n", True),
        (b"1.0", b"", False),
        (b"1.0", b"Connection: Keep-Alive\r\n", True),
        (b"1.0", b"Connection: keep-alive, close\r\n", False),
    ],
)
def test_keep_alive_follows_version_and_connection(version: bytes, connection: bytes, expected: bool) -> None:
    first = b"GET / HTTP/" + version + b"\r\nHost: a\r\n" + connection + b"\r\n"
    assert head_of(first).keep_alive is expected
    # RFC 9112, 9.6: what comes after the last request is not processed.
    assert len(parse(first + GET + b"\r\n")) == (4 if expected else 2)


def test_one_empty_line_before_a_request_is_ignored() -> None:
    assert len(parse(b"\r\n" + GET + b"\r\n\r\n" + GET + b"\r\n")) == 4


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (POST + b"Content-Length: 5\r\nExpect: 100-Continue\r\n\r\n", True),
        (POST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", True),
        (POST + b"Expect: 100-continue\r\n\r\n", False),
        (b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n", False),
    ],
)
def test_continue_is_expected_with_a_body_and_http_1_1_only(head: bytes, expected: bool) -> None:
    assert head_of(head).expects_continue is expected


def test_parser_says_whether_it_is_in_a_head() -> None:
    parser = make_parser()
    assert not parser.in_head
    parser.feed(b"P")
    assert parser.in_head
    parser.feed(POST[1:] + b"Content-Length: 2\r\n")
    assert parser.in_head
    parser.feed(b"\r\na")
    assert not parser.in_head
    parser.feed(b"b")
    assert not parser.in_head
    assert repr(parser) == "<RequestParser HEAD tail=0>"
    parser.resume()
    assert repr(parser) == "<RequestParser HEAD>"


# Bad requests

MALFORMED = {
    # RFC 9112, 3: the request line
    "no_version (9112, 3)": (400, b"GET /\r\nHost: a\r\n\r\n"),
    "two_spaces_before_target (9112, 3)": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two_spaces_before_version (9112, 3)": (400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space_in_target (9112, 3.2)": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space_before_method (9112, 3)": (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "space_after_version (9112, 3)": (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    "tab_for_space (9112, 3)": (400, b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    "bare_lf_after_request_line (9112, 2.2)": (400, b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "bare_lf_before_request (9112, 2.2)": (400, b"\n" + GET + b"\r\n"),
    "bare_cr_in_request_line (9112, 2.2)": (400, b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method_is_no_token (9110, 9.1)": (400, b"G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method_is_empty (9110, 9.1)": (400, b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method_is_unknown (9110, 9.1)": (501, b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method_in_lower_case (9110, 9.1)": (501, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "method_begins_like_get (9110, 9.1)": (501, b"GETX / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "connect (9110, 9.3.6)": (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "version_0_9 (9110, 15.6.6)": (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    "version_2_0 (9110, 15.6.6)": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version_with_two_digits (9112, 2.3)": (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    "version_in_lower_case (9112, 2.3)": (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    "version_without_minor (9112, 2.3)": (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    "version_of_letters (9112, 2.3)": (400, b"GET / HTTP/a.b\r\nHost: a\r\n\r\n"),
    "target_is_empty (9112, 3.2)": (400, b"GET  HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target_without_slash (9112, 3.2.1)": (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target_is_a_query (9112, 3.2.1)": (400, b"GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target_with_fragment (9112, 3.2)": (400, b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target_not_ascii (9112, 3.2)": (400, b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target_with_nul (9112, 3.2)": (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    "target_with_del (9112, 3.2)": (400, b"GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"),
    "asterisk_without_options (9112, 3.2.4)": (400, b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute_form_with_userinfo (9110, 4.2.4)": (400, b"GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute_form_without_host (9110, 4.2.1)": (400, b"GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"),
    "absolute_form_of_ftp (9112, 3.2.2)": (400, b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    # RFC 9112, 3.2 and RFC 9110, 7.2: Host
    "no_host (9112, 3.2)": (400, b"GET / HTTP/1.1\r\n\r\n"),
    "two_hosts (9112, 3.2)": (400, GET + b"Host: a\r\n\r\n"),
    "two_hosts_in_1_0 (9112, 3.2)": (400, b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "no_host_with_absolute_form (9112, 3.2.2)": (400, b"GET http://a/ HTTP/1.1\r\n\r\n"),
    "host_is_empty (9112, 3.2)": (400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    "host_with_userinfo (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    "host_with_path (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "host_with_comma (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"),
    "host_with_space (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "host_with_bad_port (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    "host_with_huge_port (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"),
    "host_with_open_bracket (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "host_with_bad_punycode (9110, 7.2)": (400, b"GET / HTTP/1.1\r\nHost: xn--a\r\n\r\n"),
    # RFC 9112, 5: fields
    "space_before_colon (9112, 5.1)": (400, GET + b"X : a\r\n\r\n"),
    "space_before_first_field (9112, 2.2)": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "obs_fold (9112, 5.2)": (400, GET + b"X: a\r\n b\r\n\r\n"),
    "field_without_colon (9112, 5)": (400, GET + b"X\r\n\r\n"),
    "field_without_name (9112, 5)": (400, GET + b": a\r\n\r\n"),
    "field_name_not_ascii (9110, 5.1)": (400, GET + b"X\xe9: a\r\n\r\n"),
    "nul_in_value (9110, 5.5)": (400, GET + b"X: a\x00b\r\n\r\n"),
    "control_character_in_value (9110, 5.5)": (400, GET + b"X: a\x01b\r\n\r\n"),
    "del_in_value (9110, 5.5)": (400, GET + b"X: a\x7fb\r\n\r\n"),
    "bare_cr_in_value (9112, 2.2)": (400, GET + b"X: a\rb\r\n\r\n"),
    "bare_lf_after_field (9112, 2.2)": (400, GET + b"X: a\nY: b\r\n\r\n"),
    "bare_lf_after_fields (9112, 2.2)": (400, GET + b"\n"),
    "two_content_types (9110, 5.3)": (400, GET + b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n"),
    "unknown_expectation (9110, 10.1.1)": (417, GET + b"Expect: a\r\n\r\n"),
    # RFC 9112, 6: framing
    "length_with_sign (9110, 8.6)": (400, POST + b"Content-Length: +5\r\n\r\nhello"),
    "length_is_negative (9110, 8.6)": (400, POST + b"Content-Length: -1\r\n\r\n"),
    "length_is_hexadecimal (9110, 8.6)": (400, POST + b"Content-Length: 0x5\r\n\r\nhello"),
    "length_is_empty (9110, 8.6)": (400, POST + b"Content-Length:\r\n\r\n"),
    "length_is_a_list (9112, 6.3)": (400, POST + b"Content-Length: 5, 5\r\n\r\nhello"),
    "length_with_underscore (9110, 8.6)": (400, POST + b"Content-Length: 1_0\r\n\r\n"),
    "length_beyond_64_bits (9110, 8.6)": (400, POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "same_length_twice (9112, 6.3)": (400, POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    "two_lengths (9112, 6.3)": (400, POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    "length_and_coding (9112, 6.3)": (400, POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding_and_length (9112, 6.3)": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
    "coding_in_1_0 (9112, 6.1)": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "coding_is_unknown (9112, 6.1)": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "coding_in_two_lines (9112, 6.1)": (
        501,
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "last_coding_not_chunked (9112, 6.3)": (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    "coding_is_identity (9112, 6.3)": (400, POST + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    "coding_is_empty (9112, 6.1)": (400, POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    "coding_behind_a_comma (9112, 6.1)": (400, POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
    "coding_with_parameter (9112, 6.1)": (400, POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"),
    "chunked_twice (9112, 6.1)": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    "chunked_in_two_lines (9112, 6.1)": (
        400,
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
}
"""What is wrong (RFC, clause): the status that answers it, the bytes."""

MALFORMED_CHUNKS = {
    "size_with_prefix (9112, 7.1)": b"0x3\r\nabc\r\n0\r\n\r\n",
    "size_with_sign (9112, 7.1)": b"+3\r\nabc\r\n0\r\n\r\n",
    "size_with_underscore (9112, 7.1)": b"0_3\r\nabc\r\n0\r\n\r\n",
    "size_is_empty (9112, 7.1)": b"\r\nabc\r\n0\r\n\r\n",
    "size_with_space (9112, 7.1)": b"3 \r\nabc\r\n0\r\n\r\n",
    "size_beyond_64_bits (9112, 7.1)": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "bare_lf_after_size (9112, 7.1)": b"3\nabc\r\n0\r\n\r\n",
    "bare_semicolon (9112, 7.1.1)": b"3;\r\nabc\r\n0\r\n\r\n",
    "space_before_extension (9112, 7.1.1, where it is BWS)": b"3 ;a\r\nabc\r\n0\r\n\r\n",
    "space_in_extension (9112, 7.1.1, where it is BWS)": b"3; a = b\r\nabc\r\n0\r\n\r\n",
    "nul_in_extension (9112, 7.1.1)": b"3;a\x00\r\nabc\r\n0\r\n\r\n",
    "bare_lf_in_extension (9112, 7.1.1)": b"3;a\nb\r\nabc\r\n0\r\n\r\n",
    "chunk_longer_than_its_size (9112, 7.1)": b"3\r\nabcd\r\n0\r\n\r\n",
    "no_line_end_behind_chunk (9112, 7.1)": b"3\r\nabc0\r\n\r\n",
    "space_before_colon_in_trailer (9112, 7.1.2)": b"0\r\nX : y\r\n\r\n",
    "bare_lf_in_trailer (9112, 7.1.2)": b"0\r\nX: y\n\r\n",
    "length_in_trailer (9110, 6.5.1)": b"0\r\nContent-Length: 5\r\n\r\n",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_refused(name: str) -> None:
    status, data = MALFORMED[name]
    assert parse(data) == [status]
    assert parse_bytewise(data) == [status]


@pytest.mark.parametrize("name", MALFORMED_CHUNKS)
def test_malformed_chunk_ends_the_request_with_400(name: str) -> None:
    data = CHUNKED + MALFORMED_CHUNKS[name]
    for found in (parse(data), parse_bytewise(data)):
        assert found[-1] == 400
        assert EndOfRequest() not in found


@pytest.mark.parametrize("greeting", [b"\x16\x03\x01\x02\x00\x01", b"\x00", b"(", b"\x80hello"])
def test_peer_that_speaks_something_else_is_refused_before_it_ends_a_line(greeting: bytes) -> None:
    assert parse(greeting) == [400]


# Limits


def test_head_of_exactly_the_limit_is_accepted_and_of_one_byte_more_refused() -> None:
    data = GET + b"X: " + b"a" * 1000 + b"\r\n\r\n"
    for read in (parse, parse_bytewise):
        assert len(read(data, max_head_size=len(data))) == 2
        assert read(data, max_head_size=len(data) - 1) == [431]


@pytest.mark.parametrize(
    "piece", [b"X: a\r\n", b"a", b"X:\t\t\t", b"\r\n"], ids=["fields", "name", "whitespace", "empty_lines"]
)
def test_endless_head_is_refused_at_the_limit(piece: bytes) -> None:
    parser = make_parser(max_head_size=4096, max_headers=10_000)
    if piece != b"\r\n":
        parser.feed(GET)
    fed = 0
    while not (events := parser.feed(piece)):
        fed += len(piece)
        assert fed <= 4096
    assert facts(events) == [431]


def test_one_field_more_than_the_limit_is_refused() -> None:
    assert len(parse(GET + b"X: a\r\n" * 9 + b"\r\n", max_headers=10)) == 2
    assert parse(GET + b"X: a\r\n" * 10 + b"\r\n", max_headers=10) == [431]


def test_trailers_count_with_the_head() -> None:
    many = CHUNKED + b"0\r\n" + b"X: a\r\n" * 9 + b"\r\n"
    assert parse(many, max_headers=10)[-1] == 431
    assert parse(many, max_headers=11)[-1] == EndOfRequest()
    assert parse(CHUNKED + b"0\r\nX: " + b"a" * 5000, max_head_size=4096)[-1] == 431


def test_limits_begin_anew_with_each_request() -> None:
    request = POST + b"Content-Length: 9\r\n\r\n123456789"
    assert len(parse(request * 50, max_head_size=100, max_headers=2, max_body_size=9)) == 150


def test_target_of_exactly_the_limit_is_accepted_and_of_one_byte_more_refused() -> None:
    def request(size: int) -> bytes:
        return b"GET /" + b"a" * (size - 1) + b" HTTP/1.1\r\nHost: a\r\n\r\n"

    for read in (parse, parse_bytewise):
        assert len(read(request(MAX_TARGET_SIZE))) == 2
        assert read(request(MAX_TARGET_SIZE + 1)) == [414]
        assert read(request(MAX_TARGET_SIZE + 5000)) == [414]


def test_declared_body_over_the_limit_is_refused_before_a_handler_could_run() -> None:
    assert parse(POST + b"Content-Length: 11\r\n\r\n", max_body_size=10) == [413]
    assert len(parse(POST + b"Content-Length: 10\r\n\r\n0123456789", max_body_size=10)) == 3


def test_chunked_body_over_the_limit_is_refused_where_it_is_announced() -> None:
    assert parse(CHUNKED + b"6\r\n012345\r\n5\r\n", max_body_size=10)[1:] == [b"012345", 413]
    assert parse(CHUNKED + b"fffffffffffffff\r\n", max_body_size=10)[1:] == [413]
    assert parse(CHUNKED + b"a\r\n0123456789\r\n0\r\n\r\n", max_body_size=10)[-1] == EndOfRequest()


@pytest.mark.parametrize(
    "chunks",
    [
        b"1;" + b"a" * 65536,
        b"1;" + b"a" * 65536 + b"\r\nx\r\n",
        (b"1;" + b"a" * 100 + b"\r\nx\r\n") * 500,
        b"0" * 20000,
    ],
    ids=["endless", "64_KiB", "many", "zeros"],
)
def test_long_chunk_extensions_are_refused(chunks: bytes) -> None:
    assert parse(CHUNKED + chunks)[-1] == 400


def test_small_chunks_without_extensions_are_not_taken_for_long_ones() -> None:
    assert parse(CHUNKED + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")[1:] == [b"x" * 1000, EndOfRequest()]


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"0001;a\r\nx\r\n", b"3F\r\n" + b"x" * 63 + b"\r\n"])
def test_small_chunks_that_come_together_are_one_piece(chunk: bytes) -> None:
    parser = make_parser(max_body_size=100_000)
    _, piece, end = parser.feed(CHUNKED + chunk * 1000 + b"0\r\n\r\n")
    assert piece == b"x" * 1000 * chunk.count(b"x")
    assert end == EndOfRequest()


# One request at a time


def test_parser_stops_behind_each_request_and_keeps_the_rest_as_bytes() -> None:
    parser = make_parser()
    request = GET + b"\r\n"
    assert [type(event) for event in parser.feed(request * 3)] == [RequestHead, EndOfRequest]
    assert (parser.tail, parser.tail_size) == (request * 2, len(request) * 2)
    assert parser.feed(request) == []
    for left in (2, 1, 0):
        assert [type(event) for event in parser.resume()] == [RequestHead, EndOfRequest]
        assert parser.tail == request * left
    assert parser.resume() == []
    assert len(parser.feed(request)) == 2


@given(
    st.lists(
        st.sampled_from(
            [
                GET + b"\r\n",
                GET + b"X: y\r\n\r\n",
                GET + b"X: z\r\n\r\n",
                POST + b"Content-Length: 2\r\n\r\nab",
                POST + b"Content-Length: 0\r\n\r\n",
                GET + UPGRADE + b"\r\n",
                b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
                b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                GET + b"Proxy-Connection: close\r\n\r\n",
                b"\r\n" + GET + b"\r\n",
                b"GET /other?a=b HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET /other HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                b"GET /other HTTP/1.2\r\nHost: a\r\n\r\n",
                b"GET /other HTTP/1.1\r\nHost: a\r\n" + UPGRADE + b"\r\n",
                b"GET /other HTTP/1.0\r\n\r\n",
                b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
                b"OPTIONS /other HTTP/1.1\r\nHost: a\r\n\r\n",
                b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
                b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
        ),
        max_size=12,
    ),
    st.sampled_from([b"", GET + b"Connection: close\r\n\r\n", b"\n" + GET + b"\r\n", GET + b"\n"]),
)
def test_a_request_means_the_same_wherever_it_comes(stream: list[bytes], last: bytes) -> None:
    alone: list[object] = []
    for request in [*stream, last]:
        alone += parse(request)
        if alone and (isinstance(alone[-1], int) or _closes(alone)):
            break
    data = b"".join(stream) + last
    assert parse(data) == alone
    assert parse_bytewise(data) == alone


def _closes(found: list[object]) -> bool:
    heads = [fact for fact in found if isinstance(fact, RequestHead)]
    return bool(heads) and not heads[-1].keep_alive


@pytest.mark.parametrize("code", range(256))
def test_a_target_is_judged_the_same_behind_a_request_with_the_same_fields(code: int) -> None:
    # llhttp is not asked about the second request: what it thinks of each byte of a target must be known without it.
    for target in (b"/%b", b"/a%bb", b"/a?%b", b"%b/", b"/a?b%bc"):
        request = b"GET " + target % bytes([code]) + b" HTTP/1.1\r\nHost: a\r\n\r\n"
        assert parse(GET + b"\r\n" + request)[2:] == parse(request)


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET /b HTTP/1.0\r\nHost: a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_a_request_line_means_the_same_behind_a_request_with_the_same_fields(request_: bytes) -> None:
    assert parse(GET + b"\r\n" + request_)[2:] == parse(request_)


@pytest.mark.parametrize("beginning", [b"A", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\nX: y\r\n", b"\r"])
def test_a_known_request_is_none_behind_the_beginning_of_another(beginning: bytes) -> None:
    known = GET + b"\r\n"
    parser = make_parser()
    assert len(read(parser, known)) == 2
    assert parser.resume() == []
    # A connection asks for more behind each read.
    found = parser.feed(beginning) + parser.resume() + parser.feed(known)
    assert facts(found) == parse(beginning + known)


def test_a_head_that_is_too_long_is_refused_behind_one_with_the_same_fields() -> None:
    long = b"GET /" + b"a" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    assert parse(GET + b"\r\n" + long, max_head_size=100)[2:] == [431]
    assert parse(GET + b"\r\n" + long + long, max_head_size=300)[2:] == parse(long) + parse(long)


def test_the_host_of_an_absolute_target_is_not_taken_for_that_of_the_next_request() -> None:
    fields = b" HTTP/1.1\r\nHost: a\r\n\r\n"
    found = parse(b"GET http://b/" + fields + b"GET /c" + fields + b"GET http://d/" + fields + b"GET /c" + fields)
    assert [head.authority for head in found if isinstance(head, RequestHead)] == ["b", "a", "d", "a"]


def test_a_long_head_is_not_kept() -> None:
    parser = make_parser()
    long = GET + b"X: " + b"a" * 2000 + b"\r\n\r\n"
    assert len(read(parser, long * 3)) == 6
    assert parser._known_lines is parser._known_fields is None
    assert len(read(parser, GET + b"\r\n", GET.replace(b"/ ", b"/" + b"a" * 2000 + b" ") + b"\r\n")) == 4
    assert parser._known_lines == GET + b"\r\n"


def test_to_resume_in_the_middle_of_a_request_changes_nothing() -> None:
    parser = make_parser()
    assert len(parser.feed(POST + b"Content-Length: 2\r\n\r\na")) == 2
    assert parser.remaining == 1
    assert parser.resume() == []
    assert facts(parser.feed(b"b")) == [b"b", EndOfRequest()]
    assert parser.remaining == 0


# Upgrades


def test_parser_stops_at_an_upgrade_and_keeps_the_tail() -> None:
    parser = make_parser()
    events = parser.feed(GET + UPGRADE + b"\r\n\x81\x80")
    assert [type(event) for event in events] == [RequestHead, EndOfRequest]
    assert isinstance(events[0], RequestHead)
    assert events[0].wants_upgrade
    assert parser.feed(b"\x00\x00\x00\x00") == []
    assert parser.tail == b"\x81\x80\x00\x00\x00\x00"


def test_parser_goes_on_with_the_tail_where_the_request_was_not_upgraded() -> None:
    parser = make_parser()
    parser.feed(GET + UPGRADE + b"\r\n" + GET + UPGRADE + b"\r\n" + GET)
    assert len(parser.resume()) == 2
    assert parser.resume() == []
    assert parser.tail == b""
    assert len(parser.feed(b"\r\n")) == 2


def test_tail_of_an_upgrade_is_kept_where_the_client_said_close() -> None:
    parser = make_parser()
    parser.feed(GET + b"Connection: close, upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x80")
    assert parser.tail == b"\x81\x80"


def test_nothing_follows_an_upgrade_that_was_refused_where_the_client_said_close() -> None:
    parser = make_parser()
    parser.feed(GET + b"Connection: close, upgrade\r\nUpgrade: websocket\r\n\r\n" + GET + b"\r\n")
    assert parser.resume() == []
    assert parser.tail == b""


@pytest.mark.parametrize(
    "request_",
    [
        GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: Upgrade, keep-alive\r\nUpgrade: websocket\r\n\r\n",
        GET + b"Upgrade: websocket\r\n\r\n",
        GET + b"Connection: Upgrade\r\n\r\n",
    ],
    ids=["h2c", "http_1_0", "no_connection", "no_upgrade"],
)
def test_what_is_no_upgrade_to_websocket_is_not_taken_for_one(request_: bytes) -> None:
    found = parse(request_ + GET + b"\r\n")
    assert len(found) == 4
    assert isinstance(found[0], RequestHead)
    assert not found[0].wants_upgrade


@pytest.mark.parametrize("upgrade", [b"websocket", b"h2c"])
@pytest.mark.parametrize(
    "body", [b"Content-Length: 5\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n"]
)
def test_body_of_a_request_with_upgrade_is_its_body_and_not_the_tail(upgrade: bytes, body: bytes) -> None:
    data = POST + b"Connection: upgrade\r\nUpgrade: " + upgrade + b"\r\n" + body + GET + b"\r\n"
    for found in (parse(data), parse_bytewise(data)):
        assert found[1:3] == [b"hello", EndOfRequest()]
        assert len(found) == 5
        assert isinstance(found[0], RequestHead)
        assert not found[0].wants_upgrade


def test_trailers_count_with_a_head_that_has_upgrade() -> None:
    data = POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n"
    assert parse(data, max_headers=5)[-1] == EndOfRequest()
    assert parse(data, max_headers=4)[-1] == 431


# Whole, byte by byte, split anywhere

_names = st.sampled_from(["Accept", "Cookie", "X-A", "user-agent"])
_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=20)
_bodies = st.binary(max_size=60)


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in draw(st.lists(st.tuples(_names, _values), max_size=4)))
    connection = draw(
        st.sampled_from(["", "", "Connection: keep-alive, x\r\n", "Connection: upgrade\r\nUpgrade: h2c\r\n"])
    )
    head = f"POST /{draw(st.text('ab?/%', max_size=8))} HTTP/1.1\r\nHost: a\r\n{fields}{connection}".encode("latin-1")
    body = draw(_bodies)
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "none":
        return head + b"\r\n"
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    chunks = b""
    while body:
        size = draw(st.integers(1, len(body)))
        chunks += b"%x%s\r\n" % (size, draw(st.sampled_from([b"", b";a", b";a=b"]))) + body[:size] + b"\r\n"
        body = body[size:]
    trailers = draw(st.sampled_from([b"", b"X: y\r\n", b"X: y\r\nZ:\r\n"]))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + trailers + b"\r\n"


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_facts_do_not_depend_on_how_the_bytes_were_split(stream: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(stream)
    expected = parse(whole)
    assert expected.count(EndOfRequest()) == len(stream)
    assert parse_bytewise(whole) == expected

    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert facts(read(make_parser(), *pieces)) == expected


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_facts_do_not_depend_on_when_the_parser_is_told_to_go_on(stream: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    parser = make_parser()
    events: list[Event] = []
    for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        found = parser.feed(whole[a:b])
        # One request at a time, whatever has arrived.
        assert found.count(EndOfRequest()) <= 1
        assert EndOfRequest() not in found[:-1]
        events += found
        if data.draw(st.booleans()):
            events += parser.resume()
    while parser.tail_size:
        events += parser.resume()
    assert facts(events) == parse(whole)


class Heads:
    """llhttp alone, as the judge of where requests end."""

    def __init__(self) -> None:
        self.completed = 0

    def on_message_complete(self) -> None:
        self.completed += 1


class Bodies(Heads):
    """And where the body of the first is."""

    body = b""

    def on_body(self, piece: bytes) -> None:
        if not self.completed:
            self.body += piece


@given(st.lists(requests(), min_size=1, max_size=3), st.data())
def test_nothing_is_accepted_that_llhttp_alone_refuses(stream: list[bytes], data: st.DataObject) -> None:
    broken = bytearray(b"".join(stream).replace(b"Upgrade: h2c", b"X-Up: h2c"))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b"", b"\r", b"\n", b" ", b"\r\n", b":", b"0", b";", b"\x00", b"\xff", b"Upgrade: a\r\n"])
        )
    found = parse(bytes(broken))
    heads = Heads()
    judge = httptools.HttpRequestParser(heads)
    try:
        judge.feed_data(bytes(broken))
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        pass
    else:
        assert found.count(EndOfRequest()) == heads.completed or isinstance(found[-1], int)
    assert found.count(EndOfRequest()) <= heads.completed


_lines = st.sampled_from([b"%x", b"%X", b"%03x", b"%016x", b"%x;a", b'%x;b="c"'])
_breaks = st.sampled_from(
    [b"", b"\r", b"\n", b" ", b"\r\n", b"0", b"1", b"a", b"F", b";", b";a=b", b';a="', b"\x00", b"\xff", b"-", b"_"]
)


@given(
    st.lists(st.tuples(_lines, st.binary(max_size=70))),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 2), _breaks), max_size=3),
    st.integers(0, 300),
)
def test_a_run_of_chunks_is_the_body_that_llhttp_alone_finds(
    chunks: list[tuple[bytes, bytes]], breaks: list[tuple[float, int, bytes]], limit: int
) -> None:
    whole = b"".join([(line % len(body)) + b"\r\n" + body + b"\r\n" for line, body in chunks]) + b"0\r\n\r\n"
    broken = bytearray(CHUNKED + whole)
    for where, length, instead in breaks:
        at = len(CHUNKED) + int(where * len(whole))
        broken[at : at + length] = instead
    data = bytes(broken)
    judge = Bodies()
    with contextlib.suppress(httptools.HttpParserError):
        httptools.HttpRequestParser(judge).feed_data(data)

    found = parse(data, max_body_size=100_000)
    if EndOfRequest() in found:
        assert judge.completed
        assert found[1 : found.index(EndOfRequest())] == [judge.body] * bool(judge.body)
    # However the bytes were split, unless they are malformed: then less of them may have been a piece before.
    for max_body_size in (limit, 100_000):
        found = parse(data, max_body_size=max_body_size)
        bytewise = parse_bytewise(data, max_body_size=max_body_size)
        assert found[-1] == bytewise[-1]
        assert found == bytewise or found[-1] == 400


@given(st.text(st.sampled_from("closekpaiv-, \tCLOSE"), max_size=24), st.sampled_from(["1.0", "1.1"]))
def test_keep_alive_is_never_promised_where_llhttp_would_close(value: str, version: str) -> None:
    data = f"GET / HTTP/{version}\r\nHost: a\r\nConnection: {value}\r\n\r\n".encode()
    found = parse(data + data)
    assert found[-1] == EndOfRequest()
    assert len(found) == (4 if head_of(data).keep_alive else 2)
