"""
Connection: one TCP connection while it speaks HTTP/1.1.

Rule 1: one request is answered at a time, in the order of arrival (RFC 9112, 9.3.2); while others wait, nothing more is
read.
Rule 2: after a peer's mistake it is told so, and the connection ends; nothing that came behind is looked at.
Rule 3: an exception of a handler is answered with 500 and never with its text.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Final, Protocol, cast

from .errors import RAISED, is_cancelled
from .exceptions import HTTPError
from .http.body import EMPTY, Body, ClientDisconnected
from .http.encode import CONTINUE, encode_response, error_response
from .http.head import RequestHead
from .http.request import Request
from .http.response import Response
from .http.wire import EndOfRequest, RequestParser


__all__ = ["Connection", "Exchange", "Site"]

logger = logging.getLogger("bunws")

_TIMEOUT: Final = HTTPError(408, "Request took too long")


class Site(Protocol):
    """What a connection asks of its server."""

    scheme: str
    host: str  # for a client that named none
    max_request_body_size: int
    http_ticks: int  # how long a connection may idle, or take for a head; 0: for ever
    close_ticks: int  # how many ticks a peer has for its part of the closing
    stopping: bool

    def connection_made(self, connection: Connection) -> bool:
        """Count it in. False: there are too many."""

    def connection_gone(self, connection: Connection) -> None:
        """Its TCP connection is gone, or a WebSocket's from now on."""

    def answer(self, request: Request) -> object:
        """Call `fetch`. Returns a Response, None or an awaitable; may raise anything."""

    def answer_error(self, exc: BaseException) -> object | None:
        """Call `error`, likewise. None: there is no such handler."""

    def spawn(self, coroutine: Coroutine[object, object, None]) -> object:
        """Run it as a task."""

    def date(self) -> bytes:
        """Now, as RFC 9110, 5.6.7 writes it."""


class Exchange:
    """One request and what becomes of it. `request._context` leads here."""

    __slots__ = ("body", "connection", "head", "refusal", "request", "upgraded")

    def __init__(self, connection: Connection, head: RequestHead, request: Request, body: Body) -> None:
        self.connection = connection
        self.head = head
        self.request = request
        self.body = body
        self.refusal: HTTPError | None = None  # what it is answered, whatever the handler says
        self.upgraded = False

    @property
    def pending(self) -> bool:
        """Whether it can still be upgraded."""
        return self.connection.current is self and not self.upgraded


class Connection(asyncio.Protocol):
    """See the rules above. `transport` is None once the connection is gone, or a WebSocket's."""

    __slots__ = (
        "_ending_ticks",
        "_eof",
        "_idle_ticks",
        "_last_left",
        "_parser",
        "_reading",
        "_receiving",
        "_site",
        "_waiting",
        "_writable",
        "allowed_ticks",
        "current",
        "transport",
    )

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = RequestParser(max_body_size=site.max_request_body_size)
        self.transport: asyncio.Transport | None = None
        self.current: Exchange | None = None  # being answered
        self._waiting: deque[Exchange | HTTPError] = deque()  # arrived behind it
        self._receiving: Exchange | None = None  # whose body still arrives
        self._eof = False
        self._reading = True
        self._writable = True
        self._idle_ticks = 0
        self._last_left = 0  # bytes that the transport held at the last tick
        self._ending_ticks = 0  # that are left for the peer to close; 0: not ending
        #: Ticks that this connection may idle (`server.timeout`).
        self.allowed_ticks = site.http_ticks

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as such
        if not self._site.connection_made(self):
            self._refuse(HTTPError(503, "Too many connections", (("Retry-After", "1"),)))

    def data_received(self, data: bytes) -> None:
        if self._ending_ticks:
            return
        for event in self._parser.feed(data):
            self._take(event)
        self._advance()

    def eof_received(self) -> bool:
        """The client has sent all it will (RFC 9112, 9.6); it may still wait for answers."""
        self._eof = True
        if self._receiving is not None:
            self._receiving.body.fail(_gone())
            self._receiving = None
        return self.current is not None and not self._ending_ticks  # True: keep the other half open

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._site.connection_gone(self)
        self._waiting.clear()
        if self._receiving is not None:
            self._receiving.body.fail(_gone())
            self._receiving = None

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._advance()

    # What the server asks

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away to a WebSocket, with the bytes that came behind the request."""
        assert self.transport is not None
        assert self.current is not None
        transport, self.transport = self.transport, None
        self.current.upgraded = True
        self._site.connection_gone(self)
        if not self._reading:
            transport.resume_reading()
        tail = self._parser.tail
        # uvloop's transport keeps the methods of its first protocol: without these two it keeps little else.
        del self._parser, self._waiting
        return transport, tail

    def stop(self, abrupt: bool) -> None:
        """Close when the answer under way is out; `abrupt`: now."""
        if self.transport is None:
            return
        if abrupt:
            self.transport.abort()
        elif self.current is None and not self._ending_ticks:
            self.transport.close()

    def renew(self) -> None:
        """The server counts in other ticks."""
        self._idle_ticks = 0
        self.allowed_ticks = self._site.http_ticks

    @property
    def is_gone(self) -> bool:
        """Whether the client cannot be talked to any more."""
        return self.transport is None or self.transport.is_closing() or self._eof

    def tick(self) -> None:
        """timeouts.Ticking"""
        transport = self.transport
        if transport is None:
            return
        left = transport.get_write_buffer_size()
        moves = bool(self._last_left) and left != self._last_left
        self._last_left = left
        if self._ending_ticks:
            # A slow reader has all the time it needs, as long as it takes something.
            self._ending_ticks = self._site.close_ticks if moves else self._ending_ticks - 1
            if not self._ending_ticks:
                transport.abort()
            return
        if moves or (self.current is not None and self._receiving is None):
            return  # it is the client's turn to read, or the handler's
        self._idle_ticks += 1
        if self.allowed_ticks and self._idle_ticks > self.allowed_ticks:
            self._time_out(transport)

    def _time_out(self, transport: asyncio.Transport) -> None:
        exchange = self._receiving
        if exchange is not None and exchange is self.current:
            # Its handler is told, by the body; what it answers then is replaced.
            self._receiving = None
            exchange.refusal = _TIMEOUT
            exchange.body.fail(ClientDisconnected("the client took too long to send its request"))
        elif exchange is not None or self._parser.in_head:
            self._refuse(_TIMEOUT)
        else:
            self._ending_ticks = self._site.close_ticks
            transport.close()

    # Private

    def _take(self, event: RequestHead | bytes | EndOfRequest | HTTPError) -> None:
        """Note one fact that the parser found."""
        self._idle_ticks = 0
        if isinstance(event, RequestHead):
            body = EMPTY if event.body_length == 0 else Body()
            request = Request.from_head(event, scheme=self._site.scheme, body=body, host=self._site.host)
            exchange = Exchange(self, event, request, body)
            request._context = exchange
            self._waiting.append(exchange)
            if body is not EMPTY:
                self._receiving = exchange
        elif isinstance(event, bytes):
            if self._receiving is not None:
                self._receiving.body.feed(event)
        elif isinstance(event, HTTPError):
            receiving, self._receiving = self._receiving, None
            if receiving is not None:
                receiving.refusal = event
                receiving.body.fail(event)
            if receiving is None or (receiving is not self.current and receiving not in self._waiting):
                self._waiting.append(event)
        elif self._receiving is not None:
            self._receiving.body.end()
            self._receiving = None

    def _advance(self) -> None:
        """Answer what can be answered now."""
        while self._may_answer():
            item = self._waiting.popleft()
            if isinstance(item, HTTPError):
                self._refuse(item)
                return
            self.current = item
            self._handle(item)
        if self.transport is not None and not self._ending_ticks:
            upgrading = self.current is not None and self.current.head.wants_upgrade
            self._read(not self._waiting and self._writable and not upgrading)

    def _may_answer(self) -> bool:
        return bool(
            self.transport is not None
            and self._waiting
            and self.current is None
            and self._writable
            and not self._ending_ticks
        )

    def _read(self, reading: bool) -> None:
        if reading is not self._reading and self.transport is not None:
            self._reading = reading
            if reading:
                self.transport.resume_reading()
            else:
                self.transport.pause_reading()

    def _handle(self, exchange: Exchange) -> None:
        if exchange.head.expects_continue and self._receiving is exchange and self.transport is not None:
            # RFC 9110, 10.1.1: the client waits for this before it sends the body.
            self.transport.write(CONTINUE)
        try:
            result = self._site.answer(exchange.request)
        except RAISED as exc:
            result = self._raised(exchange, exc)
        if inspect.isawaitable(result):
            self._site.spawn(self._await(exchange, result))
        else:
            self._respond(exchange, result)

    async def _await(self, exchange: Exchange, result: Awaitable[object]) -> None:
        try:
            response = await result
        except RAISED as exc:
            if is_cancelled(exc):
                if self.transport is not None and not exchange.upgraded:
                    self.transport.abort()
                raise
            response = self._raised(exchange, exc)
            if inspect.isawaitable(response):
                response = await self._await_error(response)
        self._respond(exchange, response)
        self._advance()

    async def _await_error(self, response: Awaitable[object]) -> object:
        try:
            return await response
        except RAISED as exc:
            if is_cancelled(exc):
                raise
            logger.exception("bunws: the error handler raised")
            return _internal_server_error()

    def _raised(self, exchange: Exchange, exc: BaseException) -> object:
        """A handler raised: what to answer instead; may have to be awaited."""
        if exc is exchange.refusal or isinstance(exc, ClientDisconnected):
            # The peer's mistake, which met the handler while it read the body.
            return Response("The request is incomplete", status=400)
        try:
            response = self._site.answer_error(exc)
        except RAISED:
            logger.exception("bunws: the error handler raised")
            return _internal_server_error()
        if response is None:
            logger.error("bunws: fetch raised", exc_info=exc)
            return _internal_server_error()
        return response

    def _respond(self, exchange: Exchange, response: object) -> None:
        # They hold each other; an idle WebSocket should not carry the request that it came from.
        self.current = exchange.request._context = None
        if exchange.upgraded or self.transport is None or self._ending_ticks:
            return
        if exchange.refusal is not None:
            self._refuse(exchange.refusal, exchange.head.method)
            return
        if not isinstance(response, Response):
            logger.error(
                "bunws: fetch must return a bunws.Response (or None after server.upgrade() returned True), got %r",
                response,
            )
            response = _internal_server_error()
        last = self._eof and not self._waiting
        keep_alive = exchange.head.keep_alive and not self._site.stopping and not last
        try:
            data = self._encode(exchange, response, keep_alive)
        except (TypeError, ValueError) as exc:  # a header that was set after the response was made
            logger.error("bunws: fetch returned a response that cannot be sent", exc_info=exc)
            data = self._encode(exchange, _internal_server_error(), keep_alive)
        self.transport.write(data)
        if not keep_alive:
            self._end()
        elif exchange.head.wants_upgrade:
            for event in self._parser.resume_http():
                self._take(event)

    def _encode(self, exchange: Exchange, response: Response, keep_alive: bool) -> bytes:
        return encode_response(
            response,
            method=exchange.head.method,
            http_version=exchange.head.http_version,
            keep_alive=keep_alive,
            date=self._site.date(),
        )

    def _refuse(self, error: HTTPError, method: str = "GET") -> None:
        if self.transport is not None:
            self.transport.write(error_response(error, self._site.date(), method=method))
            self._end()

    def _end(self) -> None:
        """
        All is said: close, but let the peer read it.

        RFC 9112, 9.6: a server that closes while bytes of the client are unread makes TCP reset the connection, and
        the client may lose the answer. So close one half, and read and forget until the client closes the other.
        """
        transport = self.transport
        assert transport is not None
        self._ending_ticks = self._site.close_ticks
        self._waiting.clear()
        if transport.can_write_eof() and not self._eof:
            try:
                transport.write_eof()
            except OSError:  # asyncio's own transports raise when the peer has reset the connection
                transport.abort()
                return
            self._read(True)
        else:
            transport.close()


def _internal_server_error() -> Response:
    return Response("Internal Server Error", status=500)


def _gone() -> ClientDisconnected:
    return ClientDisconnected("the client went away before its request was complete")
