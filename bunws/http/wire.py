"""
Wire: bytes in, facts out. What goes the other way is `encode`.

Rule 1: llhttp judges the syntax. This room cuts the bytes where lines and bodies end, so that every limit is exact
however the bytes were split; `head` adds the rules that llhttp does not know.
Rule 2: a peer's mistake is the last fact of a list, never an exception: the good requests before it are answered.
Rule 3: nothing that a peer sends is kept past a limit, wherever it is in its request.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, TypeAlias

import httptools

from ..exceptions import HTTPError
from .head import MAX_TARGET_SIZE, RequestHead, RequestLine


__all__ = [
    "RequestParser",
    "Event",
    "RequestHead",
    "EndOfRequest",
]


_LINE_OVERHEAD: Final = 64  # bytes of a request line beside its target: method, version, spaces, CRLF
_PLAIN_CHUNK_LINE: Final = 18  # bytes that need no excuse: 16 hexadecimal digits, which is 64 bits, CRLF


@dataclass(frozen=True, slots=True)
class EndOfRequest:
    """The request is complete, trailers included. Trailers are checked and dropped."""


Event: TypeAlias = RequestHead | bytes | EndOfRequest | HTTPError
"""A head, a piece of its body, its end; or what the peer did wrong, after which nothing comes."""


# DECIDING: whether to upgrade. In CLOSED, whatever comes is dropped.
_State = enum.Enum("_State", "REQUEST_LINE FIELDS BODY CHUNK_LINE CHUNK TRAILERS DECIDING CLOSED")


class _Findings:
    """What llhttp found. httptools looks the callbacks up by name."""

    __slots__ = ("complete", "fields", "pieces")

    def __init__(self) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.pieces: list[bytes] = []
        self.complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_body(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        self.complete = True


class RequestParser:
    """
    The bytes of one connection to the requests in them.

    After a head with `wants_upgrade` (and its `EndOfRequest`) it stops and keeps what follows in `tail`. Whoever
    upgrades takes the tail; who does not calls `resume_http()`. While it is stopped, do not read from the transport:
    nothing else bounds the tail.
    """

    def __init__(self, *, max_head_size: int = 16 * 1024, max_headers: int = 100, max_body_size: int) -> None:
        """Sizes are in bytes. The limits on the head hold for head and trailers together."""
        self._max_head_size = max_head_size
        self._max_headers = max_headers
        self._max_body_size = max_body_size
        self._findings = _Findings()
        self._llhttp = httptools.HttpRequestParser(self._findings)
        self._state = _State.REQUEST_LINE
        self._events: list[Event] = []
        self._partial = bytearray()  # the beginning of a line whose end has not arrived
        self._tail = bytearray()
        self._request_line: RequestLine | None = None
        self._keep_alive = True
        self._head_size = 0
        self._body_size = 0
        self._chunk_excess = 0
        self._remaining = 0  # bytes to come of this body or chunk

    def __repr__(self) -> str:
        return f"<RequestParser {self._state.name}>"

    @property
    def in_head(self) -> bool:
        """Whether a head has begun to arrive and is not complete."""
        begun = self._state is _State.REQUEST_LINE and bool(self._head_size or self._partial)
        return begun or self._state is _State.FIELDS

    @property
    def tail(self) -> bytes:
        """What came behind a request that wants an upgrade."""
        return bytes(self._tail)

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, return what they complete. An `HTTPError` is the last event for ever."""
        events = self._events = []
        position = 0
        try:
            while position < len(data) and (step := self._STEPS.get(self._state)) is not None:
                position = step(self, data, position)
        except HTTPError as error:
            self._state = _State.CLOSED
            events.append(error)
        if self._state is _State.DECIDING:
            self._tail += data[position:]
        return events

    def resume_http(self) -> list[Event]:
        """The request was not upgraded: go on with the tail, and return what it completes."""
        if self._state is not _State.DECIDING:
            raise RuntimeError("resume_http() is for a parser that stopped at an upgrade")
        # httptools has freed llhttp from its pause: it expects another request.
        self._state = _State.REQUEST_LINE if self._keep_alive else _State.CLOSED
        tail = self.tail
        self._tail.clear()
        return self.feed(tail)

    # Cutting: each step takes what it can and returns the position behind it

    def _take_request_line(self, data: bytes, position: int) -> int:
        line, position = self._take_line(data, position)
        # RFC 9112, 3: "A server that receives a request-target longer than any URI it wishes to parse MUST respond
        # with a 414 (URI Too Long) status code".
        if max(len(line), len(self._partial)) > MAX_TARGET_SIZE + _LINE_OVERHEAD:
            raise HTTPError(414, "The request line is too long")
        if not line:
            # A peer that speaks something else, such as TLS, may never end a line.
            RequestLine.check_beginning(self._partial)
            self._count_head(0)
        elif line == b"\r\n":
            # RFC 9112, 2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least
            # one empty line (CRLF) received prior to the request-line."
            self._count_head(2)
        else:
            self._request_line = RequestLine.parse(line)
            self._count_head(len(line))
            self._feed_llhttp(line)
            self._state = _State.FIELDS
        return position

    def _take_fields(self, data: bytes, position: int) -> int:
        lines, position = self._take_lines(data, position)
        self._count_head(len(lines))
        if not lines:
            return position
        is_upgrade = self._feed_llhttp(lines)
        if len(self._findings.fields) > self._max_headers:
            raise HTTPError(431, "Too many header fields")
        if lines == b"\r\n" or lines.endswith(b"\r\n\r\n"):
            if self._state is _State.FIELDS:
                self._finish_head(is_upgrade)
            else:
                self._finish_request()
        return position

    def _take_body(self, data: bytes, position: int) -> int:
        end = min(len(data), position + self._remaining)
        self._feed_llhttp(data[position:end])
        self._events += self._findings.pieces
        self._findings.pieces.clear()
        self._remaining -= end - position
        if self._remaining:
            return end
        if self._state is _State.BODY:
            self._finish_request()
        else:
            self._state = _State.CHUNK_LINE
        return end

    def _take_chunk_line(self, data: bytes, position: int) -> int:
        line, position = self._take_line(data, position)
        # RFC 9112, 7.1.1: "A server ought to limit the total length of chunk extensions received in a request [...]
        # and generate an appropriate 4xx (Client Error) response if that amount is exceeded." Leading zeros count.
        excess = self._chunk_excess + max(len(line), len(self._partial)) - _PLAIN_CHUNK_LINE
        if excess > self._max_head_size:
            raise HTTPError(400, "The chunk extensions are too long")
        if not line:
            return position
        self._chunk_excess = max(self._chunk_excess, excess)
        self._feed_llhttp(line)
        size = int(line.strip().partition(b";")[0], 16)
        self._body_size += size
        if self._body_size > self._max_body_size:
            raise HTTPError(413, "The body is too long")
        self._remaining = size + 2  # with the CRLF behind it
        self._state = _State.CHUNK if size else _State.TRAILERS
        return position

    _STEPS: ClassVar[dict[_State, Callable[[RequestParser, bytes, int], int]]] = {
        _State.REQUEST_LINE: _take_request_line,
        _State.FIELDS: _take_fields,
        _State.BODY: _take_body,
        _State.CHUNK_LINE: _take_chunk_line,
        _State.CHUNK: _take_body,
        _State.TRAILERS: _take_fields,
    }

    def _take_line(self, data: bytes, position: int) -> tuple[bytes, int]:
        """One line with its end; b"" where its end has not arrived."""
        end = data.find(b"\n", position) + 1
        if not end:
            self._partial += data[position:]
            return b"", len(data)
        line = data[position:end]
        if self._partial:
            line = bytes(self._partial) + line
            self._partial.clear()
        return line, end

    def _take_lines(self, data: bytes, position: int) -> tuple[bytes, int]:
        """Lines as far as they go, at most with the empty line that ends their section."""
        if not self._partial:
            if data.startswith(b"\r\n", position):
                return b"\r\n", position + 2
            end = data.find(b"\r\n\r\n", position) + 4
            if end < 4:
                end = data.rfind(b"\n", position) + 1
            if end:
                return data[position:end], end
        return self._take_line(data, position)

    def _count_head(self, size: int) -> None:
        self._head_size += size
        # RFC 6585, 5: 431 is for "when the set of request header fields in total is too large".
        if self._head_size + len(self._partial) > self._max_head_size:
            raise HTTPError(431, "The head is too long")

    def _feed_llhttp(self, data: bytes) -> bool:
        """Whether llhttp saw an upgrade: then it takes the request to have no body."""
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade:
            return True
        except httptools.HttpParserInvalidMethodError:
            # It is a token, but no method that llhttp knows. RFC 9110, 9.1: "SHOULD respond with the 501 (Not
            # Implemented) status code".
            raise HTTPError(501, "Unknown method") from None
        except httptools.HttpParserError:
            raise HTTPError(400, "Malformed request") from None
        return False

    # Concluding

    def _finish_head(self, is_upgrade: bool) -> None:
        assert self._request_line is not None
        head = RequestHead.make(self._request_line, self._findings.fields)
        length = head.body_length
        # Said before a handler could run, and before the client has sent what it announces.
        if length is not None and length > self._max_body_size:
            raise HTTPError(413, "The body is too long")
        self._events.append(head)
        self._keep_alive = head.keep_alive
        if length == 0:
            self._finish_request()
            if head.wants_upgrade:
                self._state = _State.DECIDING
            return
        if is_upgrade:
            self._restart_llhttp(length)
        self._remaining = length or 0
        self._state = _State.CHUNK_LINE if length is None else _State.BODY

    def _restart_llhttp(self, length: int | None) -> None:
        """A request with Upgrade has a body all the same: tell a new llhttp about that alone."""
        framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
        fields = self._findings.fields
        self._findings = _Findings()
        self._llhttp = httptools.HttpRequestParser(self._findings)
        self._llhttp.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n")
        self._findings.fields = fields

    def _finish_request(self) -> None:
        if not self._findings.complete:
            # llhttp and this room do not agree where the request ends.
            raise HTTPError(400, "Malformed request")
        self._events.append(EndOfRequest())
        self._findings.complete = False
        self._findings.fields = []
        self._head_size = self._body_size = self._chunk_excess = 0
        # RFC 9112, 9.6: a server told to close "MUST NOT process any further requests received on that connection."
        self._state = _State.REQUEST_LINE if self._keep_alive else _State.CLOSED
