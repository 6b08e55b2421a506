"""
Connection: one TCP connection while it speaks HTTP/1.1.

Rule 1: one request is answered at a time, in the order of arrival (RFC 9112, 9.3.2). What comes behind it stays bytes,
and past `MAX_TAIL` of them nothing more is read.
Rule 2: after a peer's mistake it is told so, and the connection ends; nothing that came behind is looked at.
Rule 3: an exception of a handler is answered with 500 and never with its text. Where an answer has begun, the
connection is cut instead: a client never takes a part for the whole.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, Protocol, cast

from .answers import answer_to, failed_again, not_an_answer, settled
from .duty import Duty, Watch
from .errors import RAISED, is_cancelled
from .exceptions import HTTPError
from .exchange import Beginning, Exchange, Refusal
from .extension import Extension
from .http.body import EMPTY, Body, ClientDisconnected
from .http.encode import CONTINUE, StreamEncoder, encode_response, error_response
from .http.head import RequestHead
from .http.request import Request
from .http.response import Response
from .http.stream import Stream, StreamInit
from .http.wire import EndOfRequest, Event, RequestParser
from .sender import Sender, close_stream
from .transport import Departure, bytes_left, departure_of, is_tls


__all__ = ["Connection", "Site"]

logger = logging.getLogger("bunws")

# What nginx logs for a client that has closed the connection before it was answered. It is never sent.
_CLIENT_LEFT: Final = 499
_TIMEOUT: Final = HTTPError(408, "Request took too long")

# Bytes of pipelined requests that wait. As much as uvloop buffers for a client that does not read.
MAX_TAIL: Final = 64 * 1024

# Bytes of a body that nobody has read before the answer; they are read and forgotten. More cost more than a new one.
MAX_DISCARDED: Final = 256 * 1024


class Site(Protocol):
    """What a connection asks of its server."""

    scheme: str
    host: str  # for a client that named none
    max_request_body_size: int
    max_head_size: int  # bytes, of trailers too
    max_headers: int
    max_requests: int  # on one connection; 0: no limit
    http_ticks: int  # how long a connection may idle, or take for a head; 0: for ever
    close_ticks: int  # how many ticks a peer has for its part of the closing
    stopping: bool

    @property
    def log(self) -> Callable[[Exchange | Refusal, int, int, float], object] | None:
        """
        Called behind each answer with its status, the bytes that were sent, and the seconds since the request was read.

        101 stands for an upgrade, 499 for a client that left before it was answered, 0 for one that never will be. A
        refusal comes once on a connection, for it ends there. None: nobody wants to know.
        """

    def connection_made(self, connection: Connection) -> bool:
        """Count it in. False: there are too many."""

    def connection_gone(self, connection: Connection) -> None:
        """Its TCP connection is gone, or a WebSocket's from now on."""

    def answer(self, request: Request) -> object:
        """Call `fetch`. Returns a Response, None or an awaitable; may raise anything."""

    def answer_error(self, exc: BaseException) -> object | None:
        """Call `error`, likewise. None: there is no such handler."""

    def prepare(self, request: Request, response: Response) -> Response:
        """Make of an answer what goes to this client, such as a range or a compressed copy. May raise anything."""

    def spawn(self, coroutine: Coroutine[object, object, None]) -> object:
        """Run it as a task."""

    def date(self) -> bytes:
        """Now, as RFC 9110, 5.6.7 writes it."""


class Connection(Extension, asyncio.Protocol):
    """See the rules above. `transport` is None once the connection is gone, or a WebSocket's."""

    __slots__ = (
        "_discarded",
        "_ending_ticks",
        "_eof",
        "_parser",
        "_reading",
        "_receiving",
        "_requests",
        "_sender",
        "_site",
        "_taken",
        "_watch",
        "_written",
        "allowed_ticks",
        "current",
        "is_writable",
        "transport",
    )

    def __init__(self, site: Site) -> None:
        self._site = site
        self._parser = RequestParser(
            max_head_size=site.max_head_size, max_headers=site.max_headers, max_body_size=site.max_request_body_size
        )
        self.transport: asyncio.Transport | None = None
        self.current: Exchange | None = None  # being answered
        self._receiving: Exchange | None = None  # whose body still arrives
        self._sender: Sender | None = None  # of the answer to `current`
        self._requests = 0
        self._eof = False
        self._reading = True
        self.is_writable = True
        self._written = 0  # bytes in all
        self._discarded = 0  # bytes of a body that nobody wants
        self._watch = Watch()
        self._taken = 0  # bytes that the client had taken at the last tick
        self._ending_ticks = 0  # that are left for the peer to close; 0: not ending
        #: Ticks that this connection may idle (`server.timeout`).
        self.allowed_ticks = site.http_ticks

    # What the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not registered as such
        if not self._site.connection_made(self):
            self._refuse(HTTPError(503, "Too many connections", (("Retry-After", "1"),)))

    def data_received(self, data: bytes) -> None:
        if not self._ending_ticks:
            self._take(self._parser.feed(data))
            self._go_on()

    def eof_received(self) -> bool:
        """The client has sent all it will (RFC 9112, 9.6); it may still wait for answers."""
        self._eof = True
        self._tell_gone()
        if self._sender is not None:
            self._sender.eof_received()
        if self.current is None and self.is_writable:
            return False
        # True: keep the other half. TLS has no halves: asyncio and uvloop close it, and warn who wants to keep it.
        return not self._ending_ticks and self.transport is not None and not is_tls(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        self._site.connection_gone(self)
        self._tell_gone()
        if self._sender is not None:
            self._sender.stop()

    def pause_writing(self) -> None:
        self.is_writable = False

    def resume_writing(self) -> None:
        self.is_writable = True
        if self._sender is not None:
            self._sender.resume_writing()
        self._go_on()

    # What the server asks

    def detach(self, answer_size: int) -> bytes:
        """Give the transport away to who writes the 101, of so many bytes. Returns what came behind the request."""
        assert self.transport is not None
        assert self.current is not None
        transport, self.transport = self.transport, None
        self.current.upgraded = True
        self._written += answer_size
        self._site.connection_gone(self)
        if not self._reading:
            transport.resume_reading()
        tail = self._parser.tail
        # uvloop's transport keeps the methods of its first protocol: without this it keeps little else.
        self._parser = None  # type: ignore[assignment]  # nobody asks for it any more
        return tail

    def stop(self, abrupt: bool) -> None:
        """Close when the answer under way is out; `abrupt`: now."""
        if self.transport is None:
            return
        if abrupt:
            self.transport.abort()
        elif self.current is None and not self._ending_ticks:
            self._close(self.transport)

    def renew(self) -> None:
        """The server counts in other ticks."""
        self._watch.renew()
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
        left = bytes_left(transport)
        moves = self._written - left != self._taken
        self._taken = self._written - left
        if self._ending_ticks:
            # A slow reader has all the time it needs, as long as it takes something.
            self._ending_ticks = self._site.close_ticks if moves and left else self._ending_ticks - 1
            if not self._ending_ticks:
                self._ending_ticks = 1  # it does not begin anew
                transport.abort()
            return
        if not self._reading:
            self._look_for_client(transport)
        if self._sender is not None:
            self._sender.tick(self._site.stopping)
        duty = self._find_duty(left)
        if self._watch.is_overdue(duty, self.allowed_ticks, moves=moves):
            self._time_out(transport, duty)

    def _look_for_client(self, transport: asyncio.Transport) -> None:
        """Nothing is read, so nobody tells that the client has left: ask."""
        departure = departure_of(transport)
        if departure is Departure.WHOLE:
            transport.abort()
        elif departure is not None and self.current is not None and not self.current.request.disconnected:
            # As `eof_received` has it, but for what the client has sent before: that can still be read.
            self.current.request._tell_disconnected()
            if self._sender is not None:
                self._sender.eof_received()

    def _find_duty(self, left: int) -> Duty | None:
        if left:
            return Duty.TAKE
        receiving = self._receiving
        if receiving is not None:
            # Not where it waits for us to say 100, or to read.
            return Duty.SEND_BODY if self._reading and not receiving.expects_continue else None
        if self.current is not None:
            return None
        return Duty.SEND_HEAD if self._parser.in_head else Duty.SEND_REQUEST

    def _time_out(self, transport: asyncio.Transport, duty: Duty | None) -> None:
        exchange = self._receiving
        if duty is Duty.TAKE:
            transport.abort()
        elif exchange is not None and exchange is self.current:
            # Its handler is told, by the body; what it answers then is replaced.
            self._receiving = None
            exchange.refusal = _TIMEOUT
            exchange.body.fail(ClientDisconnected("the client took too long to send its request"))
        elif duty is Duty.SEND_HEAD:
            self._refuse(_TIMEOUT)
        elif exchange is not None:
            self._end()
        else:
            self._close(transport)

    # Receiving

    def body_wanted(self) -> None:
        """http.body.BodySource"""
        exchange = self._receiving
        if exchange is not None and exchange.expects_continue:
            if exchange.answered and (self._sender is None or not self._sender.encoder.head):
                exchange.body.fail(RuntimeError("the answer has begun: read the body of the request before"))
                return
            # RFC 9110, 10.1.1: the client waits for this before it sends the body.
            exchange.expects_continue = False
            self.write(CONTINUE)
        self._flow()

    def _take(self, events: list[Event]) -> None:
        """Note what the parser found, and begin to answer what it has begun."""
        begun: Exchange | None = None
        for event in events:
            if type(event) is RequestHead:
                begun = self._begin(event)
            elif type(event) is EndOfRequest:
                if self._receiving is not None:
                    self._receiving.body.end()
                    self._receiving = None
            elif isinstance(event, bytes):
                self._take_piece(event)
            else:
                self._take_error(event)
        if begun is not None:
            self._handle(begun)

    def _begin(self, head: RequestHead) -> Exchange:
        site = self._site
        body = EMPTY if head.body_length == 0 else Body(source=self)
        request = Request.from_head(head, site.scheme, body, site.host)
        exchange = self.current = Exchange(self, head, request, body)
        request._context = exchange
        if body is not EMPTY:
            self._receiving = exchange
            self._watch.renew()
        if site.log is not None:
            exchange.begun = Beginning.now(self.transport, self._written)
        self._requests += 1
        return exchange

    def _take_piece(self, piece: bytes) -> None:
        exchange = self._receiving
        if exchange is None:
            return  # it came too late
        # RFC 9110, 10.1.1: "A server MAY omit sending a 100 (Continue) response if it has already received some or all
        # of the content for the corresponding request".
        exchange.expects_continue = False
        self._watch.progress += len(piece)
        if exchange is self.current:
            exchange.body.feed(piece)
            return
        self._discarded += len(piece)
        if self._discarded > MAX_DISCARDED:
            self._end()

    def _take_error(self, error: HTTPError) -> None:
        exchange, self._receiving = self._receiving, None
        if exchange is None or exchange is not self.current:
            self._refuse(error)
        else:
            exchange.refusal = error
            exchange.body.fail(error)

    def _go_on(self) -> None:
        """Answer what waits, as far as it can be answered now; read on where there is room."""
        while (
            self.current is None
            and self.transport is not None
            and not self.transport.is_closing()
            and self.is_writable
            and self._receiving is None
            and not self._ending_ticks
        ):
            events = self._parser.resume()
            if events:
                self._take(events)
            elif self._eof:
                self._end()
            elif self._reading:
                return  # nothing is left, the common case
            else:
                break
        self._flow()

    def _flow(self) -> None:
        """Read from the transport while there is room for what comes."""
        transport, receiving = self.transport, self._receiving
        if transport is None or self._ending_ticks:
            return
        is_full = self._parser.tail_size >= MAX_TAIL or (receiving is not None and receiving.body.is_full)
        if is_full is self._reading:
            self._reading = not is_full
            if is_full:
                transport.pause_reading()
            else:
                transport.resume_reading()

    def _tell_gone(self) -> None:
        """The client will send no more."""
        if self._receiving is not None:
            self._receiving.body.fail(ClientDisconnected("the client went away before its request was complete"))
            self._receiving = None
        if self.current is not None:
            self.current.request._tell_disconnected()

    # Answering

    def _handle(self, exchange: Exchange) -> None:
        if exchange.refusal is not None:  # its body was broken when it came
            self._respond(exchange, None)
            return
        try:
            try:
                result = self._site.answer(exchange.request)
            except RAISED as exc:
                result = answer_to(exc, self._site.answer_error)
                if inspect.isawaitable(result):
                    result = settled(result)  # or it would be asked what to answer for itself
        except BaseException:  # it is for the loop, maybe in the task of another request
            self._abandon(exchange)
            raise
        if isinstance(result, Response) or not inspect.isawaitable(result):
            self._respond(exchange, result)
        else:
            self._site.spawn(self._await(exchange, result))

    async def _await(self, exchange: Exchange, result: Awaitable[object]) -> None:
        try:
            response = await result
        except BaseException as exc:
            if is_cancelled(exc) or not isinstance(exc, RAISED):
                self._abandon(exchange)
                raise
            response = await settled(answer_to(exc, self._site.answer_error))
        self._respond(exchange, response)
        self._go_on()

    def _abandon(self, exchange: Exchange) -> None:
        """Nobody is going to answer it."""
        if self.transport is not None and not exchange.upgraded:
            self.transport.abort()
        self._finish(exchange, False)

    def _respond(self, exchange: Exchange, response: object) -> None:
        site, transport, head = self._site, self.transport, exchange.head
        if transport is None or exchange.upgraded or self._ending_ticks or exchange.refusal is not None:
            self._respond_nothing(exchange, response)
            return
        if not isinstance(response, Response) or response._body_used:
            response = not_an_answer(response)
        keep_alive = self._is_kept_alive(exchange)
        response._body_used = response._is_stream
        try:
            response = site.prepare(exchange.request, response)
            if response._is_stream:
                self._begin_stream(exchange, response, keep_alive)
                return
            data = encode_response(response, head.method, head.http_version, keep_alive, site.date())
        except Exception as exc:  # such as for a header that was set after the response was made
            self._forget(response)
            if not exchange.failed:
                site.spawn(self._answer_failure(exchange, exc, "fetch returned a response that cannot be sent"))
                return
            response = failed_again(exc)
            data = encode_response(response, head.method, head.http_version, keep_alive, site.date())
        exchange.answered = response._status
        self._written += len(data)
        transport.write(data)
        self._finish(exchange, keep_alive)

    async def _answer_failure(self, exchange: Exchange, failure: BaseException, problem: str) -> None:
        """Not a byte was sent: it is as if the handler had raised, or else the `error` handler."""
        is_second, exchange.failed = exchange.failed, True
        answer = failed_again(failure) if is_second else answer_to(failure, self._site.answer_error, problem)
        self._respond(exchange, await settled(answer))
        self._go_on()

    def _respond_nothing(self, exchange: Exchange, response: object) -> None:
        """The handler's answer has come too late, or is replaced by another."""
        if isinstance(response, Response) and not response._body_used:
            self._forget(response)
        if exchange.upgraded:
            exchange.answered = 101
        elif exchange.refusal is not None and not self._ending_ticks:
            exchange.answered = exchange.refusal.status
            self._refuse(exchange.refusal, exchange)
        elif isinstance(response, Response) and self.transport is not None:
            exchange.answered = response.status
        self._finish(exchange, True)

    def _is_kept_alive(self, exchange: Exchange) -> bool:
        """Whether the connection can be used again behind the answer that is about to be sent."""
        site = self._site
        return (
            exchange.head.keep_alive
            and not site.stopping
            and not (site.max_requests and self._requests >= site.max_requests)
            and not (self._eof and not self._parser.tail_size)
            # RFC 9110, 10.1.1: "A server that responds with a final status code instead of reading the entire request
            # content SHOULD indicate whether it intends to close the connection [...] or continue reading". Who was
            # not told to continue may send the content all the same, or not: nobody can tell.
            and not (self._receiving is exchange and self._is_too_much(exchange))
        )

    def _is_too_much(self, exchange: Exchange) -> bool:
        """Whether the rest of its body is not worth reading for the next request behind it."""
        return exchange.expects_continue or self._parser.remaining > MAX_DISCARDED

    def write(self, data: bytes) -> None:
        """sender.SenderConnection"""
        if self.transport is not None:
            self._written += len(data)
            self.transport.write(data)

    def _finish(self, exchange: Exchange, keep_alive: bool) -> None:
        """The answer is out, or will never be."""
        # They hold each other; an idle WebSocket should not carry the request that it came from.
        self.current = None
        exchange.request._context = None
        exchange.request._release()
        self._watch.renew()
        begun = exchange.begun
        if begun is not None and self._site.log is not None:
            sent = self._written - begun.written
            status = exchange.answered or (_CLIENT_LEFT if exchange.request.disconnected else 0)
            self._site.log(exchange, status, sent, time.perf_counter() - begun.clock)
        if self.transport is None or self._ending_ticks:
            return
        if self._receiving is exchange:
            exchange.body.fail(RuntimeError("the request has been answered: read its body before"))
            self._discarded = 0
            keep_alive = keep_alive and not self._is_too_much(exchange)
        # A stream may have begun before the server stopped.
        if not keep_alive or exchange.refusal is not None or self._site.stopping:
            self._end()

    # Streaming

    def _begin_stream(self, exchange: Exchange, response: Response, keep_alive: bool) -> None:
        stream = Stream(cast("StreamInit", response._body))
        encoder = StreamEncoder(
            response,
            stream,
            method=exchange.head.method,
            http_version=exchange.head.http_version,
            keep_alive=keep_alive,
            date=self._site.date(),
        )
        exchange.answered = response.status
        if not encoder.has_content:
            self.write(encoder.end())
            self._forget(response)
            self._finish(exchange, keep_alive)
            return
        self._sender = Sender(self, stream, encoder)
        if self._eof or exchange.request.disconnected:
            self._sender.eof_received()
        self._site.spawn(self._send(exchange, self._sender))

    async def _send(self, exchange: Exchange, sender: Sender) -> None:
        failure = await sender.send()
        self._sender = None
        if failure is None:
            self._finish(exchange, sender.encoder.keep_alive)
        elif sender.encoder.head and not sender.is_unwanted and isinstance(failure, RAISED):
            await self._answer_failure(exchange, failure, "fetch raised")
        else:
            sender.cut()
            self._finish(exchange, False)
            if not isinstance(failure, RAISED):
                raise failure
        self._go_on()

    def _forget(self, response: Response) -> None:
        """Close what would have been sent."""
        if response._is_stream:
            response._body_used = True
            self._site.spawn(close_stream(Stream(cast("StreamInit", response._body))))

    # Ending

    def _refuse(self, error: HTTPError, exchange: Exchange | None = None) -> None:
        """Answer with an error, and end. Without an `exchange`, there is nobody else to tell the log."""
        transport, site = self.transport, self._site
        if transport is None:
            return
        answer = error_response(error, site.date(), method=exchange.head.method if exchange is not None else "GET")
        if exchange is None and site.log is not None and not transport.is_closing():
            refusal = Refusal(self._parser.request_line, Beginning.now(transport, self._written))
            site.log(refusal, error.status, len(answer), 0.0)
        self.write(answer)
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
        if transport.is_closing():
            return
        if transport.can_write_eof() and not self._eof:
            try:
                transport.write_eof()
            except OSError:  # asyncio's own transports raise when the peer has reset the connection
                transport.abort()
                return
            if not self._reading:
                self._reading = True
                transport.resume_reading()
        else:
            self._close(transport)

    def _close(self, transport: asyncio.Transport) -> None:
        self._ending_ticks = self._site.close_ticks  # in which it goes on as a slow client takes what is left
        if not transport.is_closing():  # asyncio's over TLS, closed twice, can never be aborted
            transport.close()
