"""
Site: what a server answers to requests, and what it asks of its HTTP connections.

Rule: a route comes before `fetch`; what neither answers is not found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any

from .access import Log
from .connection import Connection
from .http.coding import ContentCoder
from .http.conditional import answer_file
from .http.files import File
from .http.request import Request
from .http.response import Response
from .http.routes import Router
from .life import Life
from .listener import Listener
from .options import Fetch, HTTPOptions


__all__ = ["Site"]


class Site:
    """connection.Site"""

    def __init__(self, server: object, life: Life, options: HTTPOptions, listener: Listener, log: Log | None) -> None:
        """`server` is what handlers are given beside the request."""
        self._server = server
        self._loop = life.loop
        self._guests = life.guests
        self._date = b""
        self._dated = 0  # seconds of the clock
        self._coder = ContentCoder(options.compression) if options.compression is not None else None
        self._fetch: Fetch | None = None
        self._router: Router | None = None
        self._error: Callable[[Any], object] | None = None

        self.scheme = listener.scheme
        self.host = listener.authority
        self.max_request_body_size = options.max_request_body_size
        self.max_head_size = options.max_head_size
        self.max_headers = options.max_headers
        self.max_requests = options.max_requests
        self.http_ticks = 0
        self.close_ticks = 0
        self.stopping = False
        life.at_stop(self._stop)
        self.log = log

    def take(self, fetch: Fetch | None, router: Router | None, error: Callable[[Any], object] | None) -> None:
        """Who answers from now on; None: who did so far."""
        self._fetch = fetch or self._fetch
        self._router = router or self._router
        self._error = error or self._error

    def _stop(self) -> None:
        self.stopping = True

    # connection.Site

    def connection_made(self, connection: Connection) -> bool:
        return self._guests.enter(connection)

    def connection_gone(self, connection: Connection) -> None:
        self._guests.leave(connection)

    def answer(self, request: Request) -> object:
        if self._coder is not None and "If-None-Match" in request.headers:
            request.headers = self._coder.recognise(request.headers)
        if self._router is not None:
            match = self._router.match(request.method, request._target)
            if match is not None:
                request._params = match.params
                target = match.target
                return target if isinstance(target, Response) else target(request, self._server)
        if self._fetch is None:
            if request._target == "*" and self._router is not None:
                return self._router.options
            return Response("Not Found", 404)
        return self._fetch(request, self._server)

    def answer_error(self, exc: BaseException) -> object | None:
        return self._error(exc) if self._error is not None else None

    def prepare(self, request: Request, response: Response) -> Response:
        whole = response
        if response._is_stream and isinstance(response._body, File):
            response = answer_file(request, whole)
        if self._coder is not None:
            response = self._coder.encode(request.headers, request.method, response, whole)
        return response

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        self._guests.spawn(self._loop, coroutine)

    def date(self) -> bytes:
        now = int(time.time())
        if now != self._dated:
            self._dated = now
            self._date = formatdate(now, usegmt=True).encode()
        return self._date
