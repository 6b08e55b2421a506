"""Encode: a stream to its bytes, one chunk at a time."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, strategies as st

from bunws.http.encode import BodyLengthError, StreamEncoder
from bunws.http.response import Response
from bunws.http.stream import Stream


DATE = b"Fri, 20 Nov 2026 19:18:46 GMT"


class Sized:
    """A stream that knows its size."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __iter__(self) -> Sized:
        return self

    def __next__(self) -> bytes:
        raise StopIteration


def encoder_of(
    response: Response, *, method: str = "GET", http_version: str = "1.1", keep_alive: bool = True
) -> StreamEncoder:
    assert response.body is not None
    assert not isinstance(response.body, bytes)
    return StreamEncoder(
        response,
        Stream(response.body),
        method=method,
        http_version=http_version,
        keep_alive=keep_alive,
        date=DATE,
    )


def stream(size: int | None = None, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(iter(()) if size is None else Sized(size), status, headers)


def fields(head: bytes) -> list[str]:
    return head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]


def test_a_stream_of_unknown_length_is_chunked() -> None:
    encoder = encoder_of(stream())
    assert encoder.encode(b"hello") == (
        b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 19:18:46 GMT\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    )
    assert encoder.encode(b"x" * 17) == b"11\r\n" + b"x" * 17 + b"\r\n"
    assert encoder.end() == b"0\r\n\r\n"
    assert (encoder.keep_alive, encoder.length, encoder.is_ended_by_closing) == (True, None, False)


def test_a_stream_of_known_length_says_it_and_sends_its_chunks_as_they_are() -> None:
    encoder = encoder_of(stream(5))
    assert "Content-Length: 5" in fields(encoder.encode_head())
    assert (encoder.encode(b"he"), encoder.encode(b"llo"), encoder.end()) == (b"he", b"llo", b"")
    assert (encoder.keep_alive, encoder.length) == (True, 5)


def test_http_1_0_is_sent_a_stream_of_unknown_length_until_the_connection_closes() -> None:
    encoder = encoder_of(stream(), http_version="1.0")
    assert fields(encoder.encode_head())[1:] == ["Connection: close"]
    assert (encoder.encode(b"a"), encoder.end()) == (b"a", b"")
    assert (encoder.keep_alive, encoder.is_ended_by_closing) == (False, True)


def test_http_1_0_may_keep_the_connection_behind_a_stream_of_known_length() -> None:
    encoder = encoder_of(stream(1), http_version="1.0")
    assert fields(encoder.encode_head())[1:] == ["Content-Length: 1", "Connection: keep-alive"]
    assert encoder.keep_alive


def test_an_empty_chunk_is_not_taken_for_the_last() -> None:
    encoder = encoder_of(stream())
    assert encoder.encode(b"") == b""
    assert encoder.end().endswith(b"\r\n\r\n0\r\n\r\n")


def test_the_length_that_the_caller_promised_is_kept() -> None:
    encoder = encoder_of(stream(headers={"Content-Length": "3"}))
    assert "Content-Length: 3" in fields(encoder.encode_head())
    assert encoder.length == 3
    # What the stream itself knows is better.
    assert encoder_of(stream(5, headers={"Content-Length": "3"})).length == 5
    assert encoder_of(stream(headers={"Content-Length": "3 bytes"})).length is None


def test_one_byte_too_many_is_refused_and_one_too_few_as_well() -> None:
    encoder = encoder_of(stream(2))
    encoder.encode(b"a")
    with pytest.raises(BodyLengthError, match="1 bytes less"):
        encoder.end()
    with pytest.raises(BodyLengthError, match="more than the 2"):
        encoder.encode(b"bc")


@pytest.mark.parametrize(
    ("size", "method", "status", "expected"),
    [
        (5, "HEAD", 200, ["Content-Length: 5"]),
        (None, "HEAD", 200, []),
        (5, "GET", 204, []),
        (5, "GET", 304, []),
        (5, "GET", 205, ["Content-Length: 0"]),
    ],
)
def test_a_stream_that_is_not_sent_has_a_head_only(
    size: int | None, method: str, status: int, expected: list[str]
) -> None:
    encoder = encoder_of(stream(size, status), method=method)
    assert not encoder.has_content
    assert encoder.keep_alive
    data = encoder.end()
    assert data.endswith(b"\r\n\r\n")
    assert fields(data)[1:] == expected


def test_the_head_is_sent_once() -> None:
    encoder = encoder_of(stream())
    assert encoder.encode_head().startswith(b"HTTP/1.1 200 OK\r\n")
    assert encoder.encode_head() == b""
    assert encoder.encode(b"a") == b"1\r\na\r\n"


def test_a_header_that_was_set_later_is_checked() -> None:
    response = stream()
    response.headers["X-A"] = "a\r\nb"
    with pytest.raises(ValueError, match="X-A"):
        encoder_of(response)


class Message:
    """llhttp as the client."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, piece: bytes) -> None:
        self.body += piece

    def on_message_complete(self) -> None:
        self.complete = True


@given(st.lists(st.binary(max_size=40)), st.booleans())
def test_a_client_reads_what_the_stream_has_yielded(chunks: list[bytes], sized: bool) -> None:
    whole = b"".join(chunks)
    encoder = encoder_of(stream(len(whole) if sized else None))
    message = Message()
    parser = httptools.HttpResponseParser(message)
    for chunk in chunks:
        parser.feed_data(encoder.encode(chunk))
        assert not message.complete or sized
    parser.feed_data(encoder.end())
    assert (message.body, message.complete) == (whole, True)
