"""
Server: `serve()` and what it returns.

Rule 1: `serve()` raises at once, or returns a server that listens.
Rule 2: everything of one server happens in one thread, that of its event loop. `publish`, `stop`, `wait_closed` and the
read-only properties may be used from any thread.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar, cast

from multidict import CIMultiDict
from yarl import URL

from . import handshake
from .access import AccessLog, Log, access_log as make_log
from .address import SocketAddress
from .connection import Connection
from .engine import CLOSE_TIMEOUT, Engine
from .exceptions import HandshakeError, HTTPError
from .exchange import Exchange
from .feed import FEED_LIMIT, Feeds, Subscription
from .frames import Message
from .guests import GuestLimits
from .handler import check_unknown, flag, seconds, whole_number
from .http.coding import parse_compression
from .http.encode import check_response, has_content
from .http.headers import HeadersInit
from .http.request import Request
from .http.response import Response
from .http.routes import Router
from .http.stream import Stream, StreamInit
from .life import STOP_TIMEOUT, Life
from .listener import TLS, Listener, tls_context
from .options import (
    IDLE_TIMEOUT,
    MAX_HEAD_SIZE,
    MAX_HEADERS,
    MAX_REQUEST_BODY_SIZE,
    Fetch,
    HTTPOptions,
    WebSocketTable,
    check_error,
    check_fetch,
    check_hostname,
    check_origins,
    check_port,
    check_unix,
    with_server,
)
from .sender import close_stream
from .site import Site
from .tables import Agreement, Table, Tables
from .timeouts import Patience, tick_for
from .turn import Turn
from .websocket import ReadyState, ServerWebSocket


if TYPE_CHECKING:
    import ssl


__all__ = ["Server", "SocketAddress", "serve"]

T = TypeVar("T")


def serve(
    *,
    fetch: Fetch | None = None,
    routes: Mapping[str, object] | None = None,
    websocket: WebSocketTable[Any] | Mapping[str, WebSocketTable[Any]] | object | None = None,
    port: int | None = None,
    hostname: str | None = None,
    unix: str | os.PathLike[str] | None = None,
    tls: TLS | None = None,
    reuse_port: bool = False,
    error: Callable[[Any], object] | None = None,
    origins: Collection[str] | None = None,
    idle_timeout: float = IDLE_TIMEOUT,
    max_request_body_size: int = MAX_REQUEST_BODY_SIZE,
    max_head_size: int = MAX_HEAD_SIZE,
    max_headers: int = MAX_HEADERS,
    max_requests: int = 0,
    max_connections: int | None = None,
    max_connections_per_ip: int | None = None,
    compression: bool | Mapping[str, object] = False,
    access_log: AccessLog = False,
    **unknown: Any,
) -> Server:
    """
    Serve HTTP and WebSockets; returns at once with a server that listens.

    Where an event loop runs, it is used: `async with bunws.serve(...)`, or `await server.wait_closed()`. Elsewhere the
    server runs on uvloop in a thread of its own, which keeps the process alive; Ctrl-C and SIGTERM stop it gracefully,
    and `with bunws.serve(...)` stops it at the end of the block.

    fetch: `fetch(request, server)`, plain or async, returns a `Response`; None after `server.upgrade()`. May be left
        out where `routes` says all; what has no route is then answered with 404.
    routes: by path ("/about", "/users/:id", "/assets/*") a function like `fetch`, a `Response`, or a mapping of methods
        to these; asked before `fetch`.
    websocket: a mapping of handlers and options (see `WebSocketTable`), or an object with such attributes; or a mapping
        of paths to such tables, for sockets of several kinds.
    port: default the environment's PORT, else 3000; 0 picks a free one.
    hostname: a name or an address; default all interfaces.
    unix: a path, or an abstract name that begins with NUL, in place of hostname and port.
    tls: an `ssl.SSLContext`, `(cert_path, key_path)`, or `{"cert": path, "key": path}`.
    reuse_port: let several processes listen on one port (SO_REUSEPORT).
    error: `error(exc)` answers for a `fetch` that raised.
    origins: the origins whose pages may open WebSockets, such as "https://example.com"; others are answered with 403.
        Without it any page may, in the name of any visitor: set it where cookies tell who somebody is.
    idle_timeout: seconds that an HTTP connection may idle, or take for a head; 0 for ever.
    max_request_body_size: bytes; more is answered with 413.
    max_head_size: bytes of request line and headers; more is answered with 431.
    max_headers: header fields of one request; more are answered with 431.
    max_requests: requests that one connection may make before it is closed; 0 for any number.
    max_connections: of all kinds together; more are answered with 503. Default no limit.
    max_connections_per_ip: likewise, of one address (of one /64 in IPv6). Do not set it behind a proxy.
    compression: True compresses HTTP answers for clients that ask for it (zstd, br, gzip, as far as they are there); a
        mapping says more, see `bunws.http.coding.parse_compression`. WebSockets have `per_message_deflate`.
    access_log: True writes one line for each answer to the logger "bunws.access"; a function is called with each
        `AccessRecord`.

    Raises TypeError or ValueError that names the option, OSError for a port or path that cannot be had.
    """
    check_unknown("serve()", unknown, _OPTIONS)
    if fetch is None and routes is None:
        raise TypeError("serve() needs fetch=, a function of (request, server), or routes=")
    if unix is not None and (port is not None or hostname is not None):
        raise TypeError("unix takes the place of hostname and port: give one or the other")
    http_options = HTTPOptions(
        whole_number("max_request_body_size", max_request_body_size),
        whole_number("max_head_size", max_head_size),
        whole_number("max_headers", max_headers),
        whole_number("max_requests", max_requests),
        parse_compression(compression),
    )
    context = tls_context(tls) if tls is not None else None
    scheme = "https" if context is not None else "http"
    answers = _Answers.make(fetch, routes, websocket, error)
    allowed = check_origins(origins)
    idle_timeout = seconds("idle_timeout", idle_timeout)
    guest_limits = GuestLimits(
        None if max_connections is None else whole_number("max_connections", max_connections),
        None if max_connections_per_ip is None else whole_number("max_connections_per_ip", max_connections_per_ip),
    )
    log = make_log(access_log)
    flag("reuse_port", reuse_port)
    if unix is not None:
        listener = Listener.unix(check_unix(unix), scheme)
    else:
        listener = Listener.tcp(check_hostname(hostname), check_port(port), reuse_port, scheme)
    server = Server(
        listener,
        answers=answers,
        http_options=http_options,
        origins=allowed,
        idle_timeout=idle_timeout,
        guest_limits=guest_limits,
        log=log,
    )
    server._start(context)
    return server


_OPTIONS: Final = tuple(name for name in inspect.signature(serve).parameters if name != "unknown")


class _Answers(NamedTuple):
    """What `serve` and `reload` take, checked; None: not given."""

    fetch: Fetch | None
    router: Router | None
    tables: Tables | None
    error: Callable[[Any], object] | None

    @classmethod
    def make(cls, fetch: object, routes: Mapping[str, object] | None, websocket: object, error: object) -> _Answers:
        return cls(
            None if fetch is None else check_fetch(fetch),
            None if routes is None else Router(routes, with_server),
            None if websocket is None else Tables(websocket),
            None if error is None else check_error(error),
        )


class Server:
    """A server that listens. See `serve`."""

    def __init__(
        self,
        listener: Listener,
        *,
        answers: _Answers,
        http_options: HTTPOptions,
        origins: frozenset[str] | None,
        idle_timeout: float,
        guest_limits: GuestLimits,
        log: Log | None,
    ) -> None:
        self._listener = listener
        self._tables = answers.tables
        self._origins = origins
        self._idle_timeout = idle_timeout
        self._life = Life(listener, guest_limits)
        self._guests = self._life.guests
        self._site = Site(self, self._life, http_options, listener, log)
        self._site.take(answers.fetch, answers.router, answers.error)
        self._spawn = self._site.spawn  # one bound method for all sockets
        self._turn = Turn(self._life.loop.call_soon, self._life.worker.submit)
        self._feeds = Feeds(self._turn, self._life.loop, self._life.call)
        self._life.at_stop(self._feeds.stop)
        self._life.at_end(self._feeds.stop)
        # engine.Host
        self.loop = self._life.loop
        self.close_ticks: int
        self._set_clock()

    # Facts

    @property
    def port(self) -> int | None:
        """The port that was bound; None on a Unix socket."""
        return self._listener.port

    @property
    def hostname(self) -> str | None:
        """As given, "localhost" where the server listens on all interfaces; None on a Unix socket."""
        return self._listener.hostname

    @property
    def url(self) -> URL:
        """Where to reach the server: `http://localhost:3000/`, or `unix:/path`."""
        return self._listener.url

    @property
    def pending_requests(self) -> int:
        """HTTP requests that are being answered."""
        return sum(connection.current is not None for connection in tuple(self._guests.connections))

    @property
    def pending_websockets(self) -> int:
        """WebSockets that are open."""
        return sum(engine.ws.ready_state is ReadyState.OPEN for engine in tuple(self._guests.engines))

    def subscriber_count(self, topic: str) -> int:
        """How many sockets hear `topic`."""
        return self._turn.topics.count(topic)

    def __repr__(self) -> str:
        state = "closed" if self._life.is_closed else "stopping" if self._life.stopping else "listening"
        return f"<Server {self.url} {state} websockets={self.pending_websockets}>"

    # What a fetch handler asks

    def upgrade(self, request: Request, *, headers: HeadersInit | None = None, data: object = None) -> bool:
        """
        Make the connection of `request` a WebSocket: sends 101, and runs `open`, before it returns True.

        Returns False when the request does not ask for a WebSocket, was answered or upgraded already, or its client has
        gone. One that asks in a way that RFC 6455 forbids (or from an origin that is not in `origins`) is False as
        well, and is answered with the right status whatever the handler returns.

        headers: for the 101, such as several Set-Cookie; Sec-WebSocket-Protocol chooses a subprotocol of the offer.
        data: what the handlers find as `ws.data`.

        Raises TypeError without `websocket=`, ValueError for headers that may not be sent.
        """
        if self._tables is None:
            raise TypeError("server.upgrade() needs handlers: set websocket={...} in bunws.serve()")
        exchange = request._context
        if not isinstance(exchange, Exchange) or not exchange.pending or exchange.connection._site is not self._site:
            return False
        if self._life.stopping or exchange.connection.is_gone or not handshake.is_websocket(request):
            return False
        table = self._tables.find(request._target)
        if table is None:
            return False
        try:
            handshake.check(request, origins=self._origins)
            agreement = table.agree(request)
            accept, protocol = handshake.accept(request, headers, extensions=agreement.answer)
        except HandshakeError as refusal:
            exchange.refusal = refusal
            return False
        self._open_websocket(exchange, table, agreement, accept, protocol, data)
        return True

    def _open_websocket(
        self, exchange: Exchange, table: Table, agreement: Agreement, accept: bytes, protocol: str, data: object
    ) -> None:
        connection = exchange.connection
        transport = connection.transport
        assert transport is not None
        peer = SocketAddress.of_peer(transport)
        engine = Engine(self, transport, table.handler, agreement.inflater)
        engine.ws = ServerWebSocket(
            self._turn,
            transport,
            table.handler,
            engine,
            self._spawn,
            data=data,
            protocol=protocol,
            remote_address=peer.address if peer is not None else "",
            deflater=agreement.deflater,
        )
        self._guests.become(connection, engine)
        tail = connection.detach(len(accept))
        try:
            engine.start(accept, tail)
        except BaseException:
            self._guests.leave_engine(engine)
            transport.abort()
            raise
        engine.ws._opened()

    def request_ip(self, request: Request) -> SocketAddress | None:
        """Where `request` came from; None on a Unix socket, in process, or when the client has gone."""
        exchange = request._context
        if not isinstance(exchange, Exchange) or exchange.connection.transport is None:
            return None
        return SocketAddress.of_peer(exchange.connection.transport)

    def timeout(self, request: Request, timeout: float) -> None:
        """Let the connection of `request` idle for so many seconds; 0 for ever."""
        exchange = request._context
        if isinstance(exchange, Exchange):
            exchange.connection.allowed_ticks = math.ceil(seconds("timeout", timeout) / self._life.tick)

    async def fetch(self, request: Request | str | URL, **init: Any) -> Response:
        """
        Ask routes and `fetch` in process, as a client would; for tests.

        A path is taken relative to `url`, and `init` is what `Request` takes: `method`, `headers`, `body`. An
        `HTTPError` is answered as over the wire; anything else that the handler raises is raised, when there is no
        `error` handler, and so is what is wrong with an answer that cannot be sent.
        """
        if not isinstance(request, Request):
            request = Request(self.url.join(URL(request)), **init)
        elif init:
            raise TypeError(f"a Request has its {next(iter(init))} already; give it to Request(...)")
        try:
            response = await _settled(self._site.answer(request))
        except HTTPError as exc:
            response = Response(exc.phrase, exc.status, exc.headers)
        except Exception as exc:
            response = await self._answer_error(exc)
        response = _check_is_response(response)
        try:
            return await self._finish(request, response)
        except Exception as exc:
            response = await self._answer_error(exc)
        return await self._finish(request, _check_is_response(response))

    async def _answer_error(self, exc: Exception) -> object:
        """What the `error` handler answers in process; raises `exc` where there is none."""
        response = self._site.answer_error(exc)
        if response is None:
            raise exc
        return await _settled(response)

    async def _finish(self, request: Request, response: Response) -> Response:
        """Make of an answer in process what its client would get. Raises where it would get another."""
        response = self._site.prepare(request, response)
        check_response(response)
        if response.body is None or has_content(request.method, response.status):
            return response
        if response._is_stream and not response._body_used:
            response._body_used = True
            await close_stream(Stream(cast("StreamInit", response.body)))
        bare = Response(None, response.status, status_text=response.status_text)
        bare.headers = CIMultiDict(response.headers)
        return bare

    # Topics

    def publish(self, topic: str, message: Message, compress: bool = True) -> int:
        """
        Send a message to all who hear `topic`. May be called from any thread.

        Returns the worst that happens to a receiver: 0 when somebody misses it or nobody listens, -1 when somebody is
        behind, else the bytes of the payload.
        """
        answer = self._life.call(lambda: self._turn.publish(None, topic, message, compress))
        return 0 if answer is None else answer

    def subscribe(self, topic: str, *, limit: int = FEED_LIMIT) -> Subscription:
        """
        Hear `topic` from now on, in process: `async for message in server.subscribe("chat")`.

        May be called from any thread, and read on any event loop. It ends when the server stops. Past `limit` bytes
        that wait to be read it raises `FeedOverflow`, and `publish` answers 0; a `limit` of 0 is none.
        """
        return self._feeds.subscribe(topic, limit=limit)

    # Life

    def reload(
        self,
        *,
        fetch: Fetch | None = None,
        routes: Mapping[str, object] | None = None,
        websocket: WebSocketTable[Any] | Mapping[str, WebSocketTable[Any]] | object | None = None,
        error: Callable[[Any], object] | None = None,
    ) -> Self:
        """
        Take other handlers, at once and for the sockets that are open too; what is not given stays.

        `websocket` is a whole table: what it does not say is back at its default. Of tables by route, each open socket
        takes the one for the route that it was opened with, and keeps its own where there is none. A larger
        `max_payload_length` holds for an open socket behind its next message. May be called from any thread. Raises
        like `serve`.
        """
        if websocket is not None and self._tables is None:
            raise TypeError("reload(websocket=) needs a server that was started with websocket=")
        answers = _Answers.make(fetch, routes, websocket, error)
        self._life.call(lambda: self._reload(answers))
        return self

    def _reload(self, answers: _Answers) -> None:
        self._site.take(answers.fetch, answers.router, answers.error)
        if answers.tables is not None and self._tables is not None:
            self._tables.update(answers.tables)
            self._set_clock()
            for engine in tuple(self._guests.engines):
                engine.renew()
            for connection in tuple(self._guests.connections):
                connection.renew()

    def stop(self, close_active_connections: bool = False, *, timeout: float = STOP_TIMEOUT) -> Awaitable[None]:
        """
        Stop listening and tell every WebSocket 1001; may be called from any thread, and more than once.

        Requests that are being answered are finished, and peers have `timeout` seconds to say goodbye; then, or at once
        with `close_active_connections`, what is left is dropped. Returns what `wait_closed()` returns; awaiting it is
        a choice.
        """
        seconds("timeout", timeout)
        self._life.stop(0 if close_active_connections else timeout)
        return self.wait_closed()

    def wait_closed(self) -> Awaitable[None]:
        """Await it, on any event loop, to wait until the server has stopped."""
        return self._life.wait_closed()

    def __enter__(self) -> Self:
        if not self._life.has_thread:
            raise RuntimeError("use `async with` where an event loop runs")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._life.join()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def at_stop(self, callback: Callable[[], None]) -> None:
        """Call back, in the thread of the loop, when the server begins to stop; at once where it has."""
        self._life.at_stop(callback)

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run it as a task that the server waits for when it stops; in the thread of the loop."""
        self._site.spawn(coroutine)

    # Private

    def _start(self, context: ssl.SSLContext | None) -> None:
        factory = partial(Connection, self._site)
        self._life.begin(self._listener.open(self.loop, factory, context, self._idle_timeout))

    def _set_clock(self) -> None:
        """Tell everybody what their timeouts are in ticks."""
        handlers = [table.handler for table in self._tables or ()]
        self._turn.deflates |= any(handler.per_message_deflate for handler in handlers)
        tick = self._life.tick = tick_for(self._idle_timeout, *[handler.idle_timeout for handler in handlers])
        self.close_ticks = self._site.close_ticks = math.ceil(CLOSE_TIMEOUT / tick)
        self._site.http_ticks = math.ceil(self._idle_timeout / tick)
        # A socket whose route a reload has dropped keeps its table, but the ticks are the new ones.
        for handler in {*handlers, *(engine._handler for engine in self._guests.engines)}:
            handler.patience = Patience.of(handler.idle_timeout, handler.send_pings, tick)

    # engine.Host

    def engine_gone(self, engine: Engine) -> None:
        self._guests.leave_engine(engine)


async def _settled(response: object) -> object:
    return await response if inspect.isawaitable(response) else response


def _check_is_response(response: object) -> Response:
    if not isinstance(response, Response):
        raise TypeError(f"fetch must return a bunws.Response, got {response!r}")
    return response
