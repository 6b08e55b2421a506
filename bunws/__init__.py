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

from .exceptions import BunwsError, HandshakeError, HTTPError, ProtocolError
from .frames import CloseCode
from .http import ClientDisconnected, Request, Response
from .options import WebSocketTable
from .server import Server, SocketAddress, serve
from .websocket import ReadyState, ServerWebSocket


__all__ = [
    "serve",
    "Server",
    "ServerWebSocket",
    "Request",
    "Response",
    "WebSocketTable",
    "CloseCode",
    "ReadyState",
    "SocketAddress",
    "BunwsError",
    "ProtocolError",
    "HTTPError",
    "HandshakeError",
    "ClientDisconnected",
]
