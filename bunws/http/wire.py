"""
Wire: bytes in, facts out. What goes the other way is `encode`.

Rule 1: llhttp judges the syntax. This room cuts the bytes where lines and bodies end, so that every limit is exact
however the bytes were split; `head` adds the rules that llhttp does not know.
Rule 2: a peer's mistake is the last fact of a list, never an exception: the good requests before it are answered.
Rule 3: nothing that a peer sends is kept past a limit, wherever it is in its request.
Rule 4: one request at a time. What came behind it stays bytes until somebody asks for the next.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import httptools

from ..exceptions import HTTPError
from .head import RequestHead, RequestLine


__all__ = [
    "RequestParser",
    "Event",
    "RequestHead",
    "EndOfRequest",
]


_MAX_KNOWN_SIZE: Final = 1024  # bytes of a head that are worth keeping while a connection idles
_PLAIN_CHUNK_LINE: Final = 18  # bytes that need no excuse: 16 hexadecimal digits, which is 64 bits, CRLF


def _small_chunks() -> re.Pattern[bytes]:
    """Whole chunks of 1 to 63 bytes, one behind another, whose lines need no excuse."""
    chunks = []
    for size in range(1, 64):
        digits = "".join([digit if digit.isdigit() else f"[{digit}{digit.upper()}]" for digit in f"{size:x}"])
        chunks.append(rf"{digits}(?:;[^\r\n]++)?\r\n.{{{size}}}\r\n")
    is_short = rf"(?=[^\r\n]{{1,{_PLAIN_CHUNK_LINE - 2}}}+\r\n)"
    return re.compile(rf"(?s:{is_short}0*+(?:{'|'.join(chunks)}))++".encode())


# It only says where they end: llhttp judges them. The last chunk, of size 0, is none of them.
_match_small_chunks: Final = _small_chunks().match


@final
@dataclass(frozen=True, slots=True)
class EndOfRequest:
    """The request is complete, trailers included. Trailers are checked and dropped."""


_END: Final = EndOfRequest()


Event: TypeAlias = RequestHead | bytes | EndOfRequest | HTTPError
"""A head, a piece of its body, its end; or what the peer did wrong, after which nothing comes."""


# A number, because a tuple of steps is looked up by it. In CLOSED, whatever comes is dropped.
_State = enum.IntEnum("_State", "HEAD BODY CHUNK_LINE CHUNK TRAILERS CLOSED", start=0)
_HEAD, _CLOSED = _State.HEAD, _State.CLOSED  # for each request; to look one up takes 0.1 µs before CPython 3.12


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

    Behind each `EndOfRequest` it stops and keeps what follows in `tail`. Call `resume()` to go on with it, or take the
    tail where the connection becomes something else. While it is stopped, do not read from the transport without end:
    nothing else bounds the tail.
    """

    def __init__(self, *, max_head_size: int = 16 * 1024, max_headers: int = 100, max_body_size: int) -> None:
        """Sizes are in bytes. The limits on the head hold for head and trailers together."""
        self._max_head_size = max_head_size
        self._max_headers = max_headers
        self._max_body_size = max_body_size
        self._findings = _Findings()
        self._llhttp = httptools.HttpRequestParser(self._findings)
        self._state = _State.HEAD
        self._stopped = False
        self._events: list[Event] = []
        self._partial = bytearray()  # the beginning of a line whose end has not arrived
        # Not cut until it must be: thousands of small requests may wait in it, and each would copy the rest.
        self._tail = b""
        self._tail_at = 0
        self._request_line: RequestLine | None = None
        # The last head that was the whole request. Clients repeat themselves: who polls, checks health or comes through
        # a proxy sends the same bytes again, and others the same fields with another target; llhttp has judged them.
        # 0.2 µs for the same bytes, 2.6 for the same seven fields, instead of 7.7 (CPython 3.11).
        self._known_lines: bytes | None = None
        self._known_fields: bytes | None = None
        self._known_head: Event = _END
        self._is_at_rest = True  # between two requests, and nothing of the next has arrived
        self._keep_alive = True
        self._llhttp_strays = False
        self._head_size = 0
        self._body_size = 0
        self._chunk_excess = 0
        self._remaining = 0  # bytes to come of this body or chunk

    def __repr__(self) -> str:
        stopped = f" tail={self.tail_size}" if self._stopped else ""
        return f"<RequestParser {self._state.name}{stopped}>"

    @property
    def in_head(self) -> bool:
        """Whether a head has begun to arrive and is not complete."""
        return self._state is _State.HEAD and bool(self._head_size or self._partial)

    @property
    def remaining(self) -> int:
        """Bytes of the body that have not arrived; of a chunked one, those of its last chunk."""
        return self._remaining

    @property
    def request_line(self) -> RequestLine | None:
        """That of a request that is not complete, or was found wrong; None: it has not arrived, or is itself wrong."""
        return self._request_line

    @property
    def tail(self) -> bytes:
        """What came behind the request at which the parser has stopped."""
        return self._tail[self._tail_at :]

    @property
    def tail_size(self) -> int:
        """Bytes in `tail`."""
        return len(self._tail) - self._tail_at

    def feed(self, data: bytes) -> list[Event]:
        """Take bytes, return what they complete, up to the end of one request. An `HTTPError` is the last event."""
        if data == self._known_lines and self._is_at_rest:  # the common case
            self._is_at_rest = False
            self._stopped = True
            return [self._known_head, _END]
        if self._stopped:
            self._tail = self.tail + data
            self._tail_at = 0
            return []
        return self._parse(data, 0)

    def resume(self) -> list[Event]:
        """The request is dealt with: go on behind it, and return what the tail completes."""
        self._stopped = False
        if not self._tail:
            self._is_at_rest = self._state is _HEAD and not self._partial and not self._head_size
            return []
        tail, self._tail = self._tail, b""
        at, self._tail_at = self._tail_at, 0
        return self._parse(tail, at)

    def _parse(self, data: bytes, position: int) -> list[Event]:
        events = self._events = []
        self._is_at_rest = False
        try:
            while position < len(data) and not self._stopped:
                position = _STEPS[self._state](self, data, position)
        except HTTPError as error:
            self._state = _State.CLOSED
            events.append(error)
            return events
        if position < len(data):
            self._tail, self._tail_at = data, position
        return events

    # Cutting: each step takes what it can and returns the position behind it

    def _take_head(self, data: bytes, position: int) -> int:
        lines, position = self._take_lines(data, position)
        is_from_start = self._request_line is None
        if is_from_start:
            if lines == self._known_lines:
                self._events.append(self._known_head)
                self._end_request()
                return position
            line = lines[: lines.find(b"\n") + 1]
            RequestLine.check_size(line or self._partial)
            if line == b"\r\n":
                # RFC 9112, 2.2: "a server that is expecting to receive and parse a request-line SHOULD ignore at least
                # one empty line (CRLF) received prior to the request-line."
                self._head_size += 2
                self._check_head()
                return position
            if line:
                self._request_line = request_line = RequestLine.parse(line)
                fields = lines[len(line) :]
                if fields == self._known_fields and self._take_known_fields(request_line, lines):
                    return position
                if line[-3:-2] > b"1":
                    # Of 1.x, llhttp knows 1.0 and 1.1; what comes later is treated as 1.1, says `head`.
                    lines = line[:-3] + b"1\r\n" + fields
            else:
                # A peer that speaks something else, such as TLS, may never end a line.
                RequestLine.check_beginning(self._partial)
        if self._take_fields(lines):
            self._finish_head()
            if is_from_start and self._events[-1] is _END and len(lines) <= _MAX_KNOWN_SIZE:
                self._known_lines, self._known_head = lines, self._events[-2]
                self._known_fields = None if request_line.authority else fields
        return position

    def _take_known_fields(self, line: RequestLine, lines: bytes) -> bool:
        """Whether the fields of the last request mean the same behind this line. If so, the request is complete."""
        known = self._known_head
        assert isinstance(known, RequestHead)
        # Of such a line llhttp judges no more than `RequestLine` does, as it knows the method.
        if line.method != known.method or line.http_version != known.http_version or line.authority:
            return False
        self._head_size += len(lines)
        self._check_head()
        head = known.with_target(line.target)
        if len(lines) <= _MAX_KNOWN_SIZE:
            self._known_lines, self._known_head = lines, head
        self._events.append(head)
        self._end_request()
        return True

    def _take_trailers(self, data: bytes, position: int) -> int:
        lines, position = self._take_lines(data, position)
        if self._take_fields(lines):
            self._finish_request()
        return position

    def _take_fields(self, lines: bytes) -> bool:
        """Whether the lines end their section."""
        self._head_size += len(lines)
        self._check_head()
        if not lines:
            return False
        self._feed_llhttp(lines)
        if len(self._findings.fields) > self._max_headers:
            raise HTTPError(431, "Too many header fields")
        return lines.endswith(b"\r\n\r\n") or lines == b"\r\n"

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
        if not self._partial:
            # No further than the limit on the body: what may break it is taken one by one, and refused where it does.
            found = _match_small_chunks(data, position, position + self._max_body_size - self._body_size)
            if found:
                return self._take_small_chunks(found[0], position)
        line, position = self._take_line(data, position)
        # RFC 9112, 7.1.1: "A server ought to limit the total length of chunk extensions received in a request [...]
        # and generate an appropriate 4xx (Client Error) response if that amount is exceeded." Leading zeros count.
        excess = self._chunk_excess + max(len(line), len(self._partial)) - _PLAIN_CHUNK_LINE
        if excess > self._max_head_size:
            raise HTTPError(400, "The chunk extensions are too long")
        if not line:
            return position
        self._chunk_excess = max(self._chunk_excess, excess)
        # 7.1.1 has 'BWS ";" BWS chunk-ext-name', and RFC 9110, 5.6.3: "A sender MUST NOT generate BWS in messages. A
        # recipient MUST parse for such bad whitespace and remove it". Here we are stricter, with llhttp, and refuse it:
        # it is a probe for two readers that disagree about a chunk more often than a client's mistake, and what llhttp
        # alone refuses is never accepted. test_http_wire.py holds this room to that.
        self._feed_llhttp(line)
        size = int(line.strip().partition(b";")[0], 16)
        self._body_size += size
        if self._body_size > self._max_body_size:
            raise HTTPError(413, "The body is too long")
        self._remaining = size + 2  # with the CRLF behind it
        self._state = _State.CHUNK if size else _State.TRAILERS
        return position

    def _take_small_chunks(self, chunks: bytes, position: int) -> int:
        # As one piece: a client may send each byte in a chunk of its own, and one read of 256 KiB of them, taken one by
        # one, held up everybody for 130 ms. So it takes 11, most of them in llhttp (CPython 3.11).
        try:
            self._feed_llhttp(chunks)
        finally:  # those before one that is malformed as well
            piece = b"".join(self._findings.pieces)
            self._findings.pieces.clear()
            self._body_size += len(piece)
            if piece:
                self._events.append(piece)
        return position + len(chunks)

    def _drop(self, data: bytes, _: int) -> int:
        return len(data)

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

    def _check_head(self) -> None:
        # RFC 6585, 5: 431 is for "when the set of request header fields in total is too large".
        if self._head_size + len(self._partial) > self._max_head_size:
            raise HTTPError(431, "The head is too long")

    def _feed_llhttp(self, data: bytes) -> None:
        try:
            self._llhttp.feed_data(data)
        except httptools.HttpParserUpgrade:
            # httptools has freed llhttp from its pause: it expects another request.
            return
        except httptools.HttpParserInvalidMethodError:
            # It is a token, but no method that llhttp knows. RFC 9110, 9.1: "SHOULD respond with the 501 (Not
            # Implemented) status code".
            raise HTTPError(501, "Unknown method") from None
        except httptools.HttpParserError:
            raise HTTPError(400, "Malformed request") from None

    # Concluding

    def _finish_head(self) -> None:
        assert self._request_line is not None
        head = RequestHead.make(self._request_line, self._findings.fields)
        length = head.body_length
        # Said before a handler could run, and before the client has sent what it announces.
        if length is not None and length > self._max_body_size:
            raise HTTPError(413, "The body is too long")
        self._events.append(head)
        self._keep_alive = head.keep_alive
        self._llhttp_strays = length is None or "Proxy-Connection" in head.headers
        if length == 0:
            self._finish_request()
            return
        if self._findings.complete:
            self._restart_llhttp(length)
        self._remaining = length or 0
        self._state = _State.CHUNK_LINE if length is None else _State.BODY

    def _restart_llhttp(self, length: int | None) -> None:
        """llhttp takes a request with Upgrade to have no body. It has one: tell a new llhttp about that alone."""
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
        if self._llhttp_strays:
            # It takes "Connection: close" in a trailer, and Proxy-Connection anywhere, for the end of the connection.
            self._llhttp = httptools.HttpRequestParser(self._findings)
        self._findings.complete = False
        self._findings.fields = []
        self._end_request()

    def _end_request(self) -> None:
        self._events.append(_END)
        self._request_line = None
        self._head_size = self._body_size = self._chunk_excess = 0
        # RFC 9112, 9.6: a server told to close "MUST NOT process any further requests received on that connection."
        self._state = _HEAD if self._keep_alive else _CLOSED
        self._stopped = True  # even so: the connection may become something else


# In the order of _State.
_STEPS: Final[tuple[Callable[[RequestParser, bytes, int], int], ...]] = (
    RequestParser._take_head,
    RequestParser._take_body,
    RequestParser._take_chunk_line,
    RequestParser._take_body,
    RequestParser._take_trailers,
    RequestParser._drop,
)
