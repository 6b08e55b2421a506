"""
Server: `serve()` and what it returns.

Rule 1: `serve()` raises at once, or returns a server that listens.
Rule 2: everything of one server happens in one thread, that of its event loop. `publish`, `stop`, `wait_closed` and the
read-only properties may be used from any thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import math
import os
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from yarl import URL

from . import handshake, signals
from .compress import DeflateParams, negotiate
from .connection import Connection, Exchange
from .deflate import Deflaters, Inflater
from .engine import CLOSE_TIMEOUT, Engine
from .exceptions import HandshakeError
from .frames import CloseCode, Message
from .guests import Guests
from .handler import Handler, check_unknown, flag, seconds, whole_number
from .http.headers import HeadersInit
from .http.request import Request
from .http.response import Response
from .listener import TLS, Listener, tls_context
from .options import (
    IDLE_TIMEOUT,
    MAX_REQUEST_BODY_SIZE,
    Fetch,
    WebSocketTable,
    check_hostname,
    check_origins,
    check_port,
    check_unix,
    with_server,
)
from .thread import LoopThread
from .timeouts import Patience, tick_for
from .turn import Turn
from .websocket import ReadyState, ServerWebSocket
from .worker import Worker


if TYPE_CHECKING:
    import ssl


__all__ = ["Server", "SocketAddress", "serve"]

T = TypeVar("T")

# Seconds that `stop()` waits for answers and closing handshakes before it drops what is left.
STOP_TIMEOUT: Final = 10.0


class SocketAddress(NamedTuple):
    """Where a request came from."""

    address: str
    family: str
    port: int


def serve(
    *,
    fetch: Fetch,
    websocket: WebSocketTable[Any] | object | None = None,
    port: int | None = None,
    hostname: str | None = None,
    unix: str | os.PathLike[str] | None = None,
    tls: TLS | None = None,
    reuse_port: bool = False,
    error: Callable[[Any], object] | None = None,
    origins: Collection[str] | None = None,
    idle_timeout: float = IDLE_TIMEOUT,
    max_request_body_size: int = MAX_REQUEST_BODY_SIZE,
    max_connections: int | None = None,
    **unknown: Any,
) -> Server:
    """
    Serve HTTP and WebSockets; returns at once with a server that listens.

    Where an event loop runs, it is used: `async with bunws.serve(...)`, or `await server.wait_closed()`. Elsewhere the
    server runs on uvloop in a thread of its own, which keeps the process alive; Ctrl-C and SIGTERM stop it gracefully,
    and `with bunws.serve(...)` stops it at the end of the block.

    fetch: `fetch(request, server)`, plain or async, returns a `Response`; None after `server.upgrade()`.
    websocket: a mapping of handlers and options (see `WebSocketTable`), or an object with such attributes.
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
    max_connections: of all kinds together; more are answered with 503. Default no limit.

    Raises TypeError or ValueError that names the option, OSError for a port or path that cannot be had.
    """
    check_unknown("serve()", unknown, _OPTIONS)
    if not callable(fetch):
        raise TypeError(f"fetch must be a function of (request, server), got {type(fetch).__name__}")
    if error is not None and not callable(error):
        raise TypeError(f"error must be a function of (exception), got {type(error).__name__}")
    if unix is not None and (port is not None or hostname is not None):
        raise TypeError("unix takes the place of hostname and port: give one or the other")
    handler = Handler(websocket) if websocket is not None else None
    context = tls_context(tls) if tls is not None else None
    scheme = "https" if context is not None else "http"
    server = Server(
        fetch=with_server(fetch),
        handler=handler,
        error=error,
        origins=check_origins(origins),
        idle_timeout=seconds("idle_timeout", idle_timeout),
        max_request_body_size=whole_number("max_request_body_size", max_request_body_size),
        max_connections=None if max_connections is None else whole_number("max_connections", max_connections),
        scheme=scheme,
    )
    flag("reuse_port", reuse_port)
    if unix is not None:
        listener = Listener.unix(check_unix(unix), scheme)
    else:
        listener = Listener.tcp(check_hostname(hostname), check_port(port), reuse_port, scheme)
    server._start(listener, context)
    return server


_OPTIONS: Final = tuple(name for name in inspect.signature(serve).parameters if name != "unknown")


class Server:
    """A server that listens. See `serve`."""

    def __init__(
        self,
        *,
        fetch: Fetch,
        handler: Handler | None,
        error: Callable[[Any], object] | None,
        origins: frozenset[str] | None,
        idle_timeout: float,
        max_request_body_size: int,
        max_connections: int | None,
        scheme: str,
    ) -> None:
        self._fetch = fetch
        self._handler = handler
        self._error = error
        self._origins = origins
        self._idle_timeout = idle_timeout
        self._listener: Listener
        self._thread: LoopThread | None = None
        self._guests = Guests(max_connections, self._finish_if_empty)
        self._spawn = self.spawn  # one bound method for all sockets
        self._lock = threading.RLock()  # guards what follows against other threads, and against signal handlers
        self._closed: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._asked: set[concurrent.futures.Future[Any]] = set()  # what other threads wait for
        self._waiters = 0  # who await `wait_closed()`
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._ends = math.inf  # when the deadline is, in the loop's time
        self._deflaters: Deflaters | None = None
        self._date = (0, b"")

        # connection.Site and engine.Host
        self.scheme = scheme
        self.host = "localhost"
        self.max_request_body_size = max_request_body_size
        self.stopping = False
        self.loop: asyncio.AbstractEventLoop
        self.patience: Patience
        self.http_ticks: int
        self.close_ticks: int

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
        """Where to reach the server: `http://localhost:3000/`, or `unix:///path`."""
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
        state = "closed" if self._closed.done() else "stopping" if self.stopping else "listening"
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
        if self._handler is None:
            raise TypeError("server.upgrade() needs handlers: set websocket={...} in bunws.serve()")
        exchange = request._context
        if not isinstance(exchange, Exchange) or not exchange.pending or exchange.connection._site is not self:
            return False
        if self.stopping or exchange.connection.is_gone or not handshake.is_websocket(request):
            return False
        try:
            handshake.check(request, origins=self._origins)
            agreed = self._negotiate(request)
            accept, protocol = handshake.accept(request, headers, extensions=agreed[0] if agreed else None)
        except HandshakeError as refusal:
            exchange.refusal = refusal
            return False
        transport, tail = exchange.connection.detach()
        engine = Engine(self, transport, self._handler, Inflater(agreed[1]) if agreed else None)
        engine.ws = ServerWebSocket(
            self._turn,
            transport,
            self._handler,
            engine,
            self._spawn,
            data=data,
            protocol=protocol,
            remote_address=_address(transport),
            deflater=self._deflaters.deflater(agreed[1]) if agreed and self._deflaters else None,
        )
        self._guests.enter_engine(engine)
        try:
            engine.start(accept, tail)
        except BaseException:
            self._guests.leave_engine(engine)
            transport.abort()
            raise
        engine.ws._opened()
        return True

    def _negotiate(self, request: Request) -> tuple[str, DeflateParams] | None:
        """What is agreed on for compression: the answer to the client's offers, and what it means."""
        assert self._handler is not None
        options = self._handler.per_message_deflate
        if options is None:
            return None
        return negotiate(request.headers.getall("Sec-WebSocket-Extensions", []), options)

    def request_ip(self, request: Request) -> SocketAddress | None:
        """Where `request` came from; None on a Unix socket, in process, or when the client has gone."""
        exchange = request._context
        if not isinstance(exchange, Exchange) or exchange.connection.transport is None:
            return None
        peer = exchange.connection.transport.get_extra_info("peername")
        if not isinstance(peer, tuple):
            return None
        address = _plain_address(peer[0])
        return SocketAddress(address, "IPv6" if ":" in address else "IPv4", peer[1])

    def timeout(self, request: Request, timeout: float) -> None:
        """Let the connection of `request` idle for so many seconds; 0 for ever."""
        exchange = request._context
        if isinstance(exchange, Exchange):
            exchange.connection.allowed_ticks = math.ceil(seconds("timeout", timeout) / self._tick)

    async def fetch(self, request: Request | str | URL) -> Response:
        """
        Ask the `fetch` handler in process, as a client would; for tests. A path is taken relative to `url`.

        Raises what the handler raises, when there is no `error` handler.
        """
        if not isinstance(request, Request):
            request = Request(self.url.join(URL(request)))
        try:
            response = self._fetch(request, self)
            if inspect.isawaitable(response):
                response = await response
        except Exception as exc:
            if self._error is None:
                raise
            response = self._error(exc)
            if inspect.isawaitable(response):
                response = await response
        if not isinstance(response, Response):
            raise TypeError(f"fetch must return a bunws.Response, got {response!r}")
        return response

    # Topics

    def publish(self, topic: str, message: Message, compress: bool = True) -> int:
        """
        Send a message to all who hear `topic`. May be called from any thread.

        Returns the worst that happens to a receiver: 0 when somebody misses it or nobody listens, -1 when somebody is
        behind, else the bytes of the payload.
        """
        answer = self._in_loop(lambda: self._turn.publish(None, topic, message, compress))
        return 0 if answer is None else answer

    # Life

    def reload(
        self,
        *,
        fetch: Fetch | None = None,
        websocket: WebSocketTable[Any] | object | None = None,
        error: Callable[[Any], object] | None = None,
    ) -> Self:
        """
        Take other handlers, at once and for the sockets that are open too; what is not given stays.

        `websocket` is a whole table: what it does not say is back at its default. A larger `max_payload_length` holds
        for an open socket behind its next message. May be called from any thread. Raises like `serve`.
        """
        if websocket is not None and self._handler is None:
            raise TypeError("reload(websocket=) needs a server that was started with websocket=")
        table = Handler(websocket) if websocket is not None else None
        if fetch is not None:
            if not callable(fetch):
                raise TypeError(f"fetch must be a function of (request, server), got {type(fetch).__name__}")
            fetch = with_server(fetch)
        if error is not None and not callable(error):
            raise TypeError(f"error must be a function of (exception), got {type(error).__name__}")
        self._in_loop(lambda: self._reload(fetch, table, error))
        return self

    def _reload(self, fetch: Fetch | None, table: Handler | None, error: Callable[[Any], object] | None) -> None:
        self._fetch = fetch or self._fetch
        self._error = error or self._error
        if table is not None and self._handler is not None:
            self._handler.update(table)
            self._take_handler()
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
        deadline = 0.0 if close_active_connections else timeout
        with self._lock:
            if not self._closed.done():
                if self.loop.is_closed():
                    self._loop_ended()
                else:
                    self.loop.call_soon_threadsafe(self._stop, deadline)
        return self.wait_closed()

    def wait_closed(self) -> Awaitable[None]:
        """Await it, on any event loop, to wait until the server has stopped."""
        return _Closed(self)

    def __enter__(self) -> Self:
        if self._thread is None:
            raise RuntimeError("use `async with` where an event loop runs")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._thread is not None
        self._thread.join()
        signals.uninstall(self)  # once more, for here it may be the main thread

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Starting

    def _start(self, listener: Listener, context: ssl.SSLContext | None) -> None:
        self._listener = listener
        if self.port is not None:
            self.host = self.url.raw_authority
        try:
            self.loop = asyncio.get_running_loop()
        except RuntimeError:
            self._thread = LoopThread(self._closed, self._loop_ended)
            self.loop = self._thread.loop
        self._worker = Worker(self.loop)
        self._turn = Turn(self.loop.call_soon, self._worker.submit)
        self._take_handler()
        if self._thread is None:
            self.spawn(self._open(context))
        else:
            self._thread.start(self._open(context))
        signals.install(self)

    async def _open(self, context: ssl.SSLContext | None) -> None:
        await self._listener.open(self.loop, lambda: Connection(self), context, self._idle_timeout)
        self._sweep_timer = self.loop.call_later(self._tick, self._sweep)

    def _take_handler(self) -> None:
        handler = self._handler
        if handler is not None and handler.per_message_deflate is not None:
            self._deflaters = Deflaters(handler.per_message_deflate)
            self._turn.deflates = True  # and stays so: open sockets keep what they have agreed on
        websocket_timeout = handler.idle_timeout if handler is not None else 0.0
        self._tick = tick_for(websocket_timeout, self._idle_timeout)
        self.http_ticks = math.ceil(self._idle_timeout / self._tick)
        self.close_ticks = math.ceil(CLOSE_TIMEOUT / self._tick)
        self.patience = Patience.of(websocket_timeout, handler is not None and handler.send_pings, self._tick)

    def _sweep(self) -> None:
        self._sweep_timer = self.loop.call_later(self._tick, self._sweep)
        self._guests.sweeper.sweep()

    def _in_loop(self, call: Callable[[], T]) -> T | None:
        """Call in the thread of the loop and return what that returns; None: the server has closed."""
        if self._thread.is_current() if self._thread is not None else self._is_running_loop():
            return call()
        answer: concurrent.futures.Future[T] = concurrent.futures.Future()
        with self._lock:
            if self._closed.done() or self.loop.is_closed():
                return None
            self._asked.add(answer)
            self.loop.call_soon_threadsafe(_answer, answer, call)
        try:
            return answer.result()
        except concurrent.futures.CancelledError:
            return None
        finally:
            with self._lock:
                self._asked.discard(answer)

    def _is_running_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    # Stopping

    def stop_on_signal(self, signum: int, at_once: bool) -> bool:
        """signals.Stoppable"""
        if self.loop.is_closed():
            self.stop()
            return False
        if self._thread is None:
            self.loop.call_soon_threadsafe(self._interrupt_when_closed, signum)
        self.stop(at_once)
        return self._thread is None

    def _interrupt_when_closed(self, signum: int) -> None:
        if not self._waiters:
            self._closed.add_done_callback(lambda _: self.loop.call_soon(signals.interrupt, signum))

    def _stop(self, deadline: float) -> None:
        ends = self.loop.time() + deadline
        if ends < self._ends:  # another call grants no more time
            self._ends = ends
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = self.loop.call_later(deadline, self._drop_all)
        if not self.stopping:
            self.stopping = True
            self._listener.close()
            for engine in tuple(self._guests.engines):
                engine.ws.close(CloseCode.GOING_AWAY, "Server closed")
        for connection in tuple(self._guests.connections):
            connection.stop(abrupt=False)
        self._finish_if_empty()

    def _drop_all(self) -> None:
        # A handler may await again though it was cancelled: it is told every second.
        self._ends = math.inf
        self._deadline = self.loop.call_later(1.0, self._drop_all)
        self._guests.drop_all()

    def _finish_if_empty(self) -> None:
        if self.stopping and not self._closed.done():
            self.loop.call_soon(self._finish)

    def _finish(self) -> None:
        if self._guests or self._closed.done():
            return
        for timer in (self._sweep_timer, self._deadline):
            if timer is not None:
                timer.cancel()
        self._loop_ended()

    def _loop_ended(self) -> None:
        """Nothing more will happen: the server has stopped, or its loop has."""
        signals.uninstall(self)
        self._listener.close()
        self._worker.close()
        with self._lock:
            if not self._closed.done():
                self._closed.set_result(None)
            if self.loop.is_closed():
                for answer in self._asked:
                    answer.cancel()

    # connection.Site

    def connection_made(self, connection: Connection) -> bool:
        return self._guests.enter(connection)

    def connection_gone(self, connection: Connection) -> None:
        self._guests.leave(connection)

    def answer(self, request: Request) -> object:
        return self._fetch(request, self)

    def answer_error(self, exc: BaseException) -> object | None:
        return self._error(exc) if self._error is not None else None

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        self._guests.spawn(self.loop, coroutine)

    def date(self) -> bytes:
        now = int(time.time())
        if now != self._date[0]:
            self._date = (now, formatdate(now, usegmt=True).encode())
        return self._date[1]

    # engine.Host

    def engine_gone(self, engine: Engine) -> None:
        self._guests.leave_engine(engine)


def _answer(answer: concurrent.futures.Future[T], call: Callable[[], T]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(call())
    except Exception as exc:
        answer.set_exception(exc)


class _Closed:
    """What `wait_closed()` and `stop()` return: to be awaited, or not."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __await__(self) -> Generator[Any, None, None]:
        self._server._waiters += 1
        try:
            yield from asyncio.shield(asyncio.wrap_future(self._server._closed)).__await__()
        finally:
            self._server._waiters -= 1


def _address(transport: asyncio.Transport) -> str:
    peer = transport.get_extra_info("peername")
    return _plain_address(peer[0]) if isinstance(peer, tuple) else ""


def _plain_address(address: str) -> str:
    """An IPv4 client of a socket for both families looks like ::ffff:192.0.2.1."""
    return address.removeprefix("::ffff:") if "." in address else address
