"""
Encode: a response to its bytes.

Rule 1: what a response says about its own framing is written here, whatever the caller wrote.
Rule 2: a stream never says that it is complete when it is not: the connection is cut instead.
"""

from __future__ import annotations

from functools import lru_cache
from http import HTTPStatus
from typing import Final

from multidict import getversion

from ..exceptions import HTTPError
from .headers import check_field
from .response import Response
from .stream import Stream


__all__ = [
    "CONTINUE",
    "BodyLengthError",
    "StreamEncoder",
    "check_response",
    "encode_response",
    "error_response",
    "has_content",
]


class BodyLengthError(ValueError):
    """A stream has yielded more or fewer bytes than its Content-Length says."""


# RFC 9110, 15.2.1: "the initial part of a request has been received and has not yet been rejected".
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# RFC 9110 has other words for these than Python before 3.13.
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

# RFC 9112, 4: "A server MUST send the space that separates the status-code from the reason-phrase
# even when the reason-phrase is absent".
_STATUS_LINES: Final = {
    status: f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n".encode() for status in range(200, 600)
}

# What only this room says: RFC 9112, 6 and 9; RFC 9110, 7.6.1.
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive"})

# By (keep alive, HTTP/1.0, sends Upgrade). RFC 9112, 9.3: HTTP/1.1 persists unsaid, HTTP/1.0 not.
# RFC 9110, 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option".
_CONNECTION: Final = {
    (True, False, False): b"",
    (True, False, True): b"Connection: Upgrade\r\n",
    (True, True, False): b"Connection: keep-alive\r\n",
    (True, True, True): b"Connection: keep-alive, Upgrade\r\n",
    (False, False, False): b"Connection: close\r\n",
    (False, False, True): b"Connection: close, Upgrade\r\n",
    (False, True, False): b"Connection: close\r\n",
    (False, True, True): b"Connection: close, Upgrade\r\n",
}


# RFC 9110, 6.4.1: "Responses to the HEAD request method never include content"; "All 1xx (Informational), 204 (No
# Content), and 304 (Not Modified) responses do not include content." 15.3.6: "a server MUST NOT generate content in a
# 205 response". Others have content, be it of length 0.
_WITHOUT_CONTENT: Final = frozenset({204, 205, 304})


def encode_response(response: Response, method: str, http_version: str, keep_alive: bool, date: bytes) -> bytes:
    """
    The head and a body that is no stream, ready to write; `date` is the value of Date, unless the caller set one.

    Raises `TypeError` or `ValueError` for a header that was set after the response was made and
    may not be on the wire.
    """
    body = response._body
    assert body is None or isinstance(body, bytes)
    status = response._status
    with_content = method != "HEAD" and status not in _WITHOUT_CONTENT  # a call would take 0.05 µs of 0.4
    if response._headers is None and body and with_content and keep_alive and http_version == "1.1":
        # The common case.
        start = _plain_start(status, response._status_text, response._content_type, date)
        return start + b"%d\r\n\r\n" % len(body) + body
    length = _content_length(response, method, None if body is None else len(body))
    framing = b"" if length is None else b"Content-Length: %d\r\n" % length
    head = _encode_head(response, framing, http_version == "1.0", keep_alive, date)
    return head + body if body and with_content else head


def has_content(method: str, status: int) -> bool:
    """Whether the answer with this status to such a request has content, be it of length 0."""
    return method != "HEAD" and status not in _WITHOUT_CONTENT


def check_response(response: Response) -> None:
    """Raises like `encode_response`."""
    _encode_fields(response)


@lru_cache(maxsize=64)
def _plain_start(status: int, status_text: str, content_type: str, date: bytes) -> bytes:
    """
    The head of a response that nobody has given headers, up to the number of bytes of its body.

    It is the same for a whole second: with this an answer is encoded in 0.4 µs instead of 1.2 (CPython 3.11).
    """
    response = Response(None, status, status_text=status_text)
    if content_type:
        response.headers["Content-Type"] = content_type
    return _encode_head(response, b"", False, True, date)[:-2] + b"Content-Length: "


class StreamEncoder:
    """
    A response whose body is a stream: how its end is told (RFC 9112, 6.3), and its bytes one chunk at a time.

    `head` is what was not sent of it, `keep_alive` whether the connection can go on behind it, `length` how many bytes
    the body has; None: nobody knows.
    """

    __slots__ = ("_is_chunked", "_left", "has_content", "head", "keep_alive", "length")

    def __init__(
        self, response: Response, stream: Stream, *, method: str, http_version: str, keep_alive: bool, date: bytes
    ) -> None:
        """Raises like `encode_response`."""
        told = response.headers.get("Content-Length", "")
        size = stream.size if stream.size is not None or not _is_number(told) else int(told)
        self.length = _content_length(response, method, size)
        self.has_content = has_content(method, response.status)
        self._left = self.length or 0 if self.has_content else 0
        # RFC 9112, 6.1: "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding
        # request indicates HTTP/1.1 (or later minor revisions)." What is left is 6.3: "the message body length is
        # determined by the number of octets received prior to the server closing the connection."
        ends_untold = self.length is None and self.has_content
        self._is_chunked = ends_untold and http_version != "1.0"
        self.keep_alive = keep_alive and (self._is_chunked or not ends_untold)
        framing = b"" if self.length is None else b"Content-Length: %d\r\n" % self.length
        if self._is_chunked:
            framing = b"Transfer-Encoding: chunked\r\n"
        self.head = _encode_head(response, framing, http_version == "1.0", self.keep_alive, date)

    def encode(self, chunk: bytes) -> bytes:
        """One chunk, with the head where that was not sent; b"" for b"". Raises `BodyLengthError` for one too many."""
        if self.length is not None:
            self._left -= len(chunk)
            if self._left < 0:
                raise BodyLengthError(f"the stream has yielded more than the {self.length} bytes it was to have")
        elif self._is_chunked and chunk:
            # RFC 9112, 7.1: "chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF". One of size 0 would be the last.
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return self._with_head(chunk) if chunk else b""

    def end(self) -> bytes:
        """What tells the end, with the head where that was not sent. Raises `BodyLengthError` for too few bytes."""
        if self._left:
            raise BodyLengthError(
                f"the stream has yielded {self._left} bytes less than the {self.length} it was to have"
            )
        return self._with_head(b"0\r\n\r\n" if self._is_chunked else b"")

    def encode_head(self) -> bytes:
        """The head alone, where it does not wait for the first chunk."""
        return self._with_head(b"")

    @property
    def is_ended_by_closing(self) -> bool:
        """Whether a client would take the end of the connection for the end of the body."""
        return self.length is None and not self._is_chunked

    def _with_head(self, data: bytes) -> bytes:
        if self.head:
            data = self.head + data
            self.head = b""
        return data


def _encode_head(response: Response, framing: bytes, is_1_0: bool, keep_alive: bool, date: bytes) -> bytes:
    status, text, headers = response._status, response._status_text, response.headers
    status_line = f"HTTP/1.1 {status} {text}\r\n".encode("latin-1") if text else _STATUS_LINES[status]
    if not headers:
        return b"%bDate: %b\r\n%b%b\r\n" % (status_line, date, framing, _CONNECTION[keep_alive, is_1_0, False])
    fields = _encode_fields(response)
    if "Date" not in headers:
        fields += b"Date: %b\r\n" % date
    return b"%b%b%b%b\r\n" % (status_line, fields, framing, _CONNECTION[keep_alive, is_1_0, "Upgrade" in headers])


def _encode_fields(response: Response) -> bytes:
    """
    The lines of its fields, kept until they change: a response that answers many requests is encoded in 0.8 µs instead
    of 1.7, with three fields.
    """
    headers = response.headers
    # No other multidict has this number, nor has this one again once it was changed.
    version = getversion(headers)  # type: ignore[arg-type]  # it is typed for values of type object only
    if response._encoded is not None and response._encoded[0] == version:
        return response._encoded[1]
    fields = "".join([_field_line(name, value) for name, value in headers.items()]).encode("latin-1")
    response._encoded = (version, fields)
    return fields


def _field_line(name: str, value: str) -> str:
    # Nearly every value is this. To ask first makes a field three times as fast: 0.25 µs instead of 0.8.
    if not (type(value) is str and value.isascii() and value.isprintable()):
        check_field(name, value)
    start = _field_start(name)
    return f"{start}{value}\r\n" if start else ""


@lru_cache(maxsize=256)
def _field_start(name: str) -> str:
    """Up to the value; "" where the caller has no say. Names are few, and checking one is the dearer half."""
    check_field(name, "")
    return "" if name.lower() in _FRAMING else f"{name}: "


def _content_length(response: Response, method: str, length: int | None) -> int | None:
    """RFC 9110, 8.6. `length` is that of the body; None: there is none, or nobody knows."""
    status = response._status
    # "A server MUST NOT send a Content-Length header field in any response with a status code of
    # 1xx (Informational) or 204 (No Content)."
    if status == 204:
        return None
    if status == 205:
        return 0
    # To HEAD and with 304 it tells what a GET would have been answered with. Where there is no
    # body to measure, only the caller can know.
    if length is None and (method == "HEAD" or status == 304):
        told = response.headers.get("Content-Length", "")
        if _is_number(told):
            return int(told)
    return None if status == 304 or (length is None and response._body is not None) else length or 0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def error_response(error: HTTPError, date: bytes, *, method: str = "GET") -> bytes:
    """The answer to a peer that broke HTTP: its phrase as text, and the connection closes."""
    response = Response(error.phrase, error.status, error.headers)
    return encode_response(response, method=method, http_version="1.1", keep_alive=False, date=date)
