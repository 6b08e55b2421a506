"""
ASGI: an application of that kind as a `fetch` handler, so that Starlette or FastAPI answers HTTP beside sockets.

Rule 1: one task runs the application for one request, and goes on behind the answer (background tasks). The handler
waits until it knows whether the answer is whole; else it returns one that streams.
Rule 2: what an application raises before its answer has begun is raised by the handler, so it meets `error`.
Rule 3: everything here happens on the event loop that the request is handled on.

The specification is ASGI 3.0, https://asgi.readthedocs.io: its HTTP format ("HTTP") and its lifespan protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, Final, Literal, Protocol, Self, TypeAlias
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from yarl import URL

from .errors import RAISED, is_cancelled
from .exceptions import HTTPError
from .http.body import ClientDisconnected
from .http.request import Request
from .http.response import Response


__all__ = ["ASGIApp", "AppHost", "asgi"]

logger = logging.getLogger("bunws")

# What ASGI passes around is typed by each framework for itself, hence `Any`.
Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI 3.0 application."""

Lifespan: TypeAlias = Literal["auto", "on", "off"]

# Of the HTTP format. 2.4 adds that `send` raises an OSError when the client has gone, and that is done. But told of
# it, Starlette no longer looks out for "http.disconnect" beside a streamed answer, and one that waits for something
# to say would wait for ever.
_HTTP_VERSIONS: Final = {"version": "3.0", "spec_version": "2.3"}
_LIFESPAN_VERSIONS: Final = {"version": "3.0", "spec_version": "2.0"}

# Pieces of content that an application may send to HEAD behind the answer. One that listens is told by
# "http.disconnect" that it is over; of those that do not, one without an end must not go on for ever.
MAX_UNHEARD: Final = 100


class AppHost(Protocol):
    """What an application needs of its server."""

    loop: asyncio.AbstractEventLoop

    @property
    def hostname(self) -> str | None: ...

    @property
    def port(self) -> int | None: ...

    @property
    def url(self) -> URL: ...

    def request_ip(self, request: Request, /) -> tuple[str, str, int] | None:
        """Address, family and port of the client."""

    def spawn(self, coroutine: Coroutine[object, object, None], /) -> object:
        """Run it as a task, which the server waits for when it stops, up to its deadline."""

    def at_stop(self, callback: Callable[[], None], /) -> object:
        """Call back, in the thread of the loop, when the server begins to stop; at once if it has begun."""


def asgi(
    app: ASGIApp, *, lifespan: Lifespan = "auto", root_path: str = ""
) -> Callable[[Request, AppHost], Awaitable[Response]]:
    """
    An ASGI 3.0 application as a `fetch` handler, or as the handler of a route. It answers HTTP, and no WebSockets.

    lifespan: "on" starts the application before its first request is answered, and shuts it down when the server stops
        and all its requests are done; if it fails to start, they are errors. "auto" does so for an application that
        knows that protocol. "off" leaves it alone.
    root_path: where the application is mounted, such as "/api" for `routes={"/api/*": bunws.asgi(app,
        root_path="/api")}`. It is told the whole path all the same, as ASGI wants it.

    Raises TypeError or ValueError that names the argument.
    """
    if not callable(app):
        raise TypeError(f"app must be an ASGI 3.0 application, got {type(app).__name__}")
    if lifespan not in ("auto", "on", "off"):
        raise ValueError(f"lifespan must be 'auto', 'on' or 'off', got {lifespan!r}")
    if not isinstance(root_path, str):
        raise TypeError(f"root_path must be a str, got {type(root_path).__name__}")
    if root_path and (root_path[0] != "/" or root_path[-1] == "/"):
        raise ValueError(f"root_path must begin with a slash and end without one, got {root_path!r}")
    lives: WeakKeyDictionary[AppHost, _Life] = WeakKeyDictionary()  # one for each server that has this handler

    async def fetch(request: Request, server: AppHost) -> Response:
        life = lives.get(server)
        if life is None:
            life = lives[server] = _Life(app, lifespan)
            if lifespan != "off":
                life.spawn(server, life.run())
                server.at_stop(life.stop)
        if not life.is_ready:
            await life.ready()
        exchange = _Exchange(request)
        scope = _scope(request, server, root_path, life.state)
        life.spawn(server, life.serve(exchange, scope))
        return await exchange.answer()

    return fetch


def _scope(request: Request, server: AppHost, root_path: str, state: dict[str, Any]) -> Scope:
    path, _, query = request._target.partition("?")  # as it came; the URL is normalised
    client = server.request_ip(request)
    port = server.port
    return {
        "type": "http",
        "asgi": _HTTP_VERSIONS.copy(),
        "http_version": request.http_version,
        "method": request.method.upper(),
        "scheme": request.url.scheme,
        # "Unicode string HTTP request target excluding any query string, with percent-encoded sequences and UTF-8 byte
        # sequences decoded into characters."
        # "%2F" is no slash to `routes`, which may guard what is behind: "/admin%2Fx" must not become "/admin/x" here.
        "path": unquote(re.sub("%2f", "%252F", path, flags=re.IGNORECASE)),
        # "unmodified from the bytes that were received by the web server"
        "raw_path": _bytes(path),
        "query_string": _bytes(query),
        "root_path": root_path,
        # "Header names must be lowercased. […] Order of header values must be preserved"
        "headers": [[_bytes(name.lower()), _bytes(value)] for name, value in request.headers.items()],
        "client": None if client is None else [client[0], client[2]],
        # "or [path, None] where path is that of the unix socket."
        "server": [server.url.path, None] if port is None else [server.hostname, port],
        # Of the lifespan protocol: "The server […] will pass a shallow copy to each request".
        "state": state.copy(),
        "extensions": {},
    }


class _Life:
    """The application beside one server: its lifespan, and the requests that it is kept alive for."""

    def __init__(self, app: ASGIApp, lifespan: Lifespan) -> None:
        #: What the application leaves for its requests.
        self.state: dict[str, Any] = {}
        #: Whether requests may go ahead.
        self.is_ready = lifespan == "off"
        self._app = app
        self._required = lifespan == "on"
        self._loop = asyncio.get_running_loop()
        self._elsewhere: set[asyncio.Task[None]] = set()
        self._requests = 0  # that the application has
        self._asked = 0  # how often it has asked for an event
        self._started = asyncio.Event()  # or failed
        self._failure = ""  # what it said when it failed to start
        self._stopping = False
        self._done = asyncio.Event()  # the server stops, and no request is left

    def spawn(self, server: AppHost, coroutine: Coroutine[object, object, None]) -> None:
        """Run it as a task of the server; on this loop, though `server.fetch` may be called on another."""
        if self._loop is server.loop:
            server.spawn(coroutine)
        else:
            task = self._loop.create_task(coroutine)
            self._elsewhere.add(task)
            task.add_done_callback(self._elsewhere.discard)

    async def ready(self) -> None:
        """Wait until the application has started. Raises RuntimeError if it has failed to."""
        await self._started.wait()
        if not self.is_ready:
            raise RuntimeError("the ASGI application has failed to start")

    def serve(self, exchange: _Exchange, scope: Scope) -> Coroutine[object, object, None]:
        """The application for one request, which counts from now on."""
        self._requests += 1
        return self._serve(exchange, scope)

    async def _serve(self, exchange: _Exchange, scope: Scope) -> None:
        try:
            await exchange.run(self._app, scope)
        finally:
            self._requests -= 1
            self._check_done()

    def stop(self) -> None:
        """The server stops. From its thread, which need not be that of this loop."""
        self._stopping = True
        with contextlib.suppress(RuntimeError):  # the loop is closed, and took the application along
            self._loop.call_soon_threadsafe(self._check_done)

    def _check_done(self) -> None:
        if self._stopping and not self._requests:
            self._done.set()

    # The lifespan protocol

    async def run(self) -> None:
        """Run the application for as long as the server does."""
        scope = {"type": "lifespan", "asgi": _LIFESPAN_VERSIONS.copy(), "state": self.state}
        try:
            await self._app(scope, self._receive, self._send)
            self._left(None)
        except RAISED as exc:
            if is_cancelled(exc):
                raise
            self._left(exc)
        finally:
            self._started.set()

    def _left(self, exc: BaseException | None) -> None:
        """The application has returned or raised."""
        if self.is_ready:
            if exc is not None:
                logger.error("bunws: the ASGI application raised in its lifespan", exc_info=exc)
        elif self._failure or self._required:
            said = self._failure or "it did not complete its startup"
            logger.error("bunws: the ASGI application has failed to start: %s", said, exc_info=exc)
        else:
            # "If an exception is raised when calling the application callable with a lifespan.startup message or a
            # scope of type lifespan, the server must continue but not send any lifespan events."
            logger.debug("bunws: the ASGI application knows no lifespan", exc_info=exc)
            self.is_ready = True

    async def _receive(self) -> Event:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        if self._asked == 2:
            try:
                await self._done.wait()
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self._stopping or task is None:
                    raise
                # The server waits no longer, and what requests were left are cancelled too. But it cancels only once a
                # second: that is how long there is to shut down in.
                task.uncancel()
            return {"type": "lifespan.shutdown"}
        raise RuntimeError("nothing comes behind lifespan.shutdown")

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        if kind == "lifespan.startup.complete":
            self.is_ready = not self._failure
            self._started.set()
        elif kind == "lifespan.startup.failed":
            self._failure = str(event.get("message", "")) or "it did not say why"
        elif kind == "lifespan.shutdown.failed":
            logger.error("bunws: the ASGI application has failed to shut down: %s", event.get("message", ""))
        elif kind != "lifespan.shutdown.complete":
            raise RuntimeError(f"expected an ASGI event of the lifespan, got {kind!r}")


class _Exchange:
    """One request, and the answer of the application."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._content: AsyncIterator[bytes] | None = None
        self._reading: asyncio.Task[Event | None] | None = None  # the next piece of it
        self._asking = asyncio.Lock()  # of who waits for that piece
        self._received = False  # all of it
        self._head: Response | None = None  # what is known before there is content
        self._answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._chunks: _Chunks | None = None  # what the connection streams
        self._complete = False  # the last event was sent
        self._over = asyncio.Event()  # complete, or nobody is there any more
        self._told = False  # that nobody is there any more
        self._watch: asyncio.Task[None] | None = None

    async def answer(self) -> Response:
        """The response, as soon as it is whole or has begun. Raises what the application raises before that."""
        try:
            return await self._answer
        except asyncio.CancelledError:
            self._leave()
            raise

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Run the application for this request."""
        try:
            await app(scope, self.receive, self.send)
            if not self._complete:
                raise RuntimeError("the ASGI application returned before its response was complete")
        except RAISED as exc:
            self._raised(exc)
            if is_cancelled(exc):
                raise
        except BaseException:  # such as KeyboardInterrupt, which the loop is to meet once; nobody may wait for ever
            self._raised(RuntimeError("the ASGI application was ended by what is no Exception"))
            raise
        finally:
            self._end()
            if self._watch is not None:
                self._watch.cancel()

    # What the application calls

    async def receive(self) -> Event:
        """
        The next event of the request: its content in pieces; behind that, when it comes to that, its end.

        Several may wait at once, such as one for the content and one for the end, which nobody can tell apart: each
        piece goes to one of them, in the order in which they have asked, and the end to all.
        """
        if self._request.disconnected:
            self._leave()
        async with self._asking:
            event = await self._receive_content()
        if event is not None:
            return event
        if not self._over.is_set():
            if self._watch is None:
                self._watch = asyncio.create_task(self._watch_client())
            await self._over.wait()
        # "Sent to the application if receive is called after a response has been sent or after the HTTP connection has
        # been closed."
        self._told = not self._complete
        return {"type": "http.disconnect"}

    async def _receive_content(self) -> Event | None:
        """The next piece; None: none is left, or it is over. For one at a time."""
        if self._received or self._over.is_set():
            return None
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        # Who waits may be cancelled, as Starlette does with who looks out for the end. Then the next gets what comes.
        await asyncio.wait((self._reading,))
        reading, self._reading = self._reading, None
        if reading.cancelled():
            return None
        event = reading.result()
        if event is None:
            self._leave()
        else:
            self._received = not event["more_body"]
        return event

    async def _read(self) -> Event | None:
        """The next piece, or the end of the content; None: it will not come."""
        if self._content is None:
            self._content = aiter(self._request.body)
        try:
            piece = await anext(self._content, None)
        except (ClientDisconnected, HTTPError):  # the connection tells the client, if it is there
            return None
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(self, event: Event) -> None:
        """
        The next event of the response; returns when there is room for another.

        Raises RuntimeError, TypeError or ValueError for a malformed event, and `ClientDisconnected`, which is an
        OSError, when nobody is there any more.
        """
        # "If more_body is set to False, response will be taken as complete and closed, and any further messages on the
        # channel will be ignored."
        if self._complete:
            return
        self._check_client()
        kind = event["type"]
        if self._head is None:
            if kind != "http.response.start":
                raise RuntimeError(f"expected the ASGI event 'http.response.start', got {kind!r}")
            self._head = _read_start(event)
        elif kind != "http.response.body":
            raise RuntimeError(f"expected the ASGI event 'http.response.body', got {kind!r}")
        else:
            # "The protocol server must not start sending the response to the client until it has received at least
            # one Response Body event."
            await self._send_body(self._head, _read_body(event), bool(event.get("more_body", False)))

    async def _send_body(self, head: Response, content: bytes, more: bool) -> None:
        if self._chunks is None and not more:
            self._answer_with(self._whole(head, content))
        else:
            if self._chunks is None:
                # RFC 9110, 9.3.2: to HEAD "the server MUST NOT send content in the response"; 6.4.1 has the statuses.
                is_heard = self._request.method != "HEAD" and head.status not in (204, 205, 304)
                self._chunks = _Chunks(self._leave, may_drop=0 if is_heard else MAX_UNHEARD)
                self._answer_with(Response(self._chunks, head.status, head.headers))
            await self._chunks.put(content)
            self._check_client()
            if not more:
                self._chunks.end(None)
        if not more:
            self._complete = True
            self._end()

    def _whole(self, head: Response, content: bytes) -> Response:
        length = head.headers.get("Content-Length")
        # To HEAD and with 304 it says what GET would have been answered with.
        if not content and (self._request.method == "HEAD" or head.status == 304):
            return head
        if length is not None and length != str(len(content)) and head.status != 204:
            raise ValueError(f"the response has {len(content)} bytes, and its Content-Length is {length}")
        return Response(content, head.status, head.headers)

    def _answer_with(self, response: Response) -> None:
        if not self._answer.done():
            self._answer.set_result(response)

    # Ends

    async def _watch_client(self) -> None:
        await self._request.wait_disconnected()
        self._leave()

    def _check_client(self) -> None:
        # Who answers HEAD goes on to its end, which may be more than content: an error here would have Starlette's
        # BaseHTTPMiddleware cancel the background tasks.
        is_unheard = self._chunks is not None and self._chunks.may_drop > 0
        if self._request.disconnected or (self._over.is_set() and not is_unheard):
            self._leave()
            self._told = True
            # "If send() is called on a disconnected client connection, the server should raise a server-specific
            # subclass of OSError."
            raise ClientDisconnected("the client went away before it had the whole response")

    def _end(self) -> None:
        """It is over: tell all who wait."""
        self._over.set()
        if self._reading is not None:
            self._reading.cancel()

    def _leave(self) -> None:
        """Nobody is there any more, or wants no more."""
        self._end()
        if self._chunks is not None:
            self._chunks.leave()

    def _raised(self, exc: BaseException) -> None:
        """The application has raised: tell whoever waits for it, or the log."""
        if self._complete:
            logger.error("bunws: the ASGI application raised behind its response", exc_info=exc)
        elif self._told and not self._answer.done():
            self._answer.set_exception(ClientDisconnected("the client went away before it was answered"))
        elif self._told:
            # "Servers must be prepared to catch this exception if they raised it and should not log it as an error".
            logger.debug("bunws: the ASGI application gave up, since its client is gone", exc_info=exc)
        elif not self._answer.done():
            self._answer.set_exception(exc)
        elif self._chunks is None or not self._chunks.end(exc):
            logger.error("bunws: the ASGI application raised, and nobody waits for its response", exc_info=exc)


class _Chunks:
    """The content of a response on its way from `send` to the connection: one chunk at a time."""

    def __init__(self, left: Callable[[], None], *, may_drop: int) -> None:
        self.may_drop = may_drop  # chunks that it is no news for that nobody takes them
        self._left = left  # called when the connection wants no more
        self._chunk = b""
        self._error: BaseException | None = None
        self._ended = False  # nothing comes behind the chunk
        self._is_left = False
        self._filled = asyncio.Event()  # there is something to take, or an end
        self._emptied = asyncio.Event()  # there is room, or nobody to take anything

    # The application's side

    async def put(self, chunk: bytes) -> None:
        """Wait for room. Where nobody takes it, it is dropped."""
        while self._chunk and not self._is_left:
            self._emptied.clear()
            await self._emptied.wait()
        if self._is_left:
            self.may_drop -= 1
            await asyncio.sleep(0)  # nobody slows it down, and others want their turn
        elif chunk:
            self._chunk = chunk
            self._filled.set()

    def end(self, error: BaseException | None) -> bool:
        """There is no more, because of `error`. Returns whether anybody is there to be told."""
        self._ended, self._error = True, error
        self._filled.set()
        return not self._is_left

    def leave(self) -> None:
        """Nobody takes any more."""
        self._is_left = True
        self._emptied.set()

    # The connection's side

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunk:
            if self._error is not None:
                raise self._error
            if self._ended:
                raise StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        chunk, self._chunk = self._chunk, b""
        self._emptied.set()
        return chunk

    async def aclose(self) -> None:
        self.leave()
        self._left()


# Events and their fields


def _read_start(event: Event) -> Response:
    """A response without content. Raises TypeError or ValueError for what may not be in a head."""
    fields = []
    for name, value in event.get("headers", ()):
        if not isinstance(name, bytes) or not isinstance(value, bytes):
            raise TypeError(f"headers must be pairs of bytes, got ({name!r}, {value!r})")
        fields.append((name.decode("latin-1"), value.decode("latin-1")))
    return Response(None, event["status"], fields)


def _read_body(event: Event) -> bytes:
    content = event.get("body", b"")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"body must be bytes, got {type(content).__name__}")
    return bytes(content)


def _bytes(text: str) -> bytes:
    """What a peer sent, as it came: bunws reads it as Latin-1."""
    return text.encode("latin-1")
