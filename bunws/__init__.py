"""
bunws: WebSocket pub/sub for Python in the shape of `Bun.serve`.

    import bunws

    def fetch(request, server):
        if server.upgrade(request):
            return None
        return bunws.Response("Hello world")

    def message(ws, message):
        ws.publish("chat", message)

    bunws.serve(fetch=fetch, websocket={"open": lambda ws: ws.subscribe("chat"), "message": message})
"""

from __future__ import annotations

from . import pure  # noqa: F401  # first: it decides in which form the others are found
from .access import AccessRecord
from .address import SocketAddress
from .asgi import asgi
from .exceptions import BodyError, BunwsError, HandshakeError, HTTPError, ProtocolError
from .feed import FeedOverflow, Subscription
from .frames import CloseCode
from .http import ClientDisconnected, Event, EventStream, FormData, Request, Response, UploadFile, static
from .options import WebSocketTable
from .server import Server, serve
from .websocket import ReadyState, ServerWebSocket


__all__ = [
    "serve",
    "Server",
    "ServerWebSocket",
    "Request",
    "Response",
    "static",
    "asgi",
    "Event",
    "EventStream",
    "FormData",
    "UploadFile",
    "Subscription",
    "WebSocketTable",
    "CloseCode",
    "ReadyState",
    "SocketAddress",
    "AccessRecord",
    "BunwsError",
    "FeedOverflow",
    "ProtocolError",
    "HTTPError",
    "BodyError",
    "HandshakeError",
    "ClientDisconnected",
]
