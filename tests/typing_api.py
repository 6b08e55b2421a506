"""The intended use, for the type checker: `mypy --strict` must accept every line. It is not run."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import assert_type

from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

import bunws


@dataclass
class Visitor:
    name: str


Socket = bunws.ServerWebSocket[Visitor]


# Handlers, plain and async


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    assert_type(request.method, str)
    assert_type(request.url, URL)
    assert_type(request.headers, CIMultiDictProxy[str])
    assert_type(server.request_ip(request), bunws.SocketAddress | None)
    server.timeout(request, 30)
    if server.upgrade(request, headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], data=Visitor("ann")):
        return None
    return bunws.Response.json({"hello": [1, 2, 3]}, status=400, headers={"X-Reason": "no upgrade"})


async def fetch_async(request: bunws.Request, server: bunws.Server) -> bunws.Response:
    assert_type(await request.text(), str)
    assert_type(await request.bytes(), bytes)
    return bunws.Response(b"bytes", 201)


def fetch_without_server(request: bunws.Request) -> bunws.Response:
    return bunws.Response("text")


def on_error(exc: Exception) -> bunws.Response:
    return bunws.Response("sorry", status=500)


def open(ws: Socket) -> None:
    assert_type(ws.data, Visitor)
    assert_type(ws.ready_state, bunws.ReadyState)
    assert_type(ws.remote_address, str)
    assert_type(ws.protocol, str)
    assert_type(ws.subscribe("room"), bool)
    assert_type(ws.subscriptions, list[str])
    assert_type(ws.publish("room", f"{ws.data.name} is here"), int)


def message(ws: Socket, message: str | bytes) -> None:
    assert_type(ws.send(message, compress=True), int)
    assert_type(ws.send_text("text") + ws.send_binary(b"bytes"), int)
    assert_type(ws.publish_text("room", "text") + ws.publish_binary("room", b"bytes"), int)
    assert_type(ws.cork(lambda ws: ws.data.name), str)
    assert_type(ws.ping() + ws.pong(b"data"), int)
    if ws.buffered_amount > 1000:
        ws.pause()
    if ws.is_paused:
        ws.resume()


async def message_async(ws: Socket, message: str | bytes) -> None:
    await asyncio.sleep(0)


def drain(ws: Socket) -> None:
    assert_type(ws.unsubscribe("room"), bool)
    assert_type(ws.is_subscribed("room"), bool)


def close(ws: Socket, code: int, reason: str) -> None:
    ws.publish("room", f"{ws.data.name} has left: {code == bunws.CloseCode.GOING_AWAY} {reason}")


def error(ws: Socket, exc: Exception) -> None:
    ws.close(bunws.CloseCode.INTERNAL_ERROR, "sorry")
    ws.terminate()


def heard(ws: Socket, data: bytes) -> None: ...


# Tables


TABLE: bunws.WebSocketTable[Visitor] = {
    "open": open,
    "message": message,
    "drain": drain,
    "close": close,
    "error": error,
    "ping": heard,
    "pong": heard,
    "max_payload_length": 1024,
    "backpressure_limit": 1024,
    "close_on_backpressure_limit": True,
    "idle_timeout": 30,
    "send_pings": False,
    "publish_to_self": True,
    "per_message_deflate": {"compress": "shared", "decompress": False},
}


class Chat:
    """Any object with such attributes will do."""

    max_payload_length = 1024

    async def message(self, ws: Socket, message: str | bytes) -> None:
        ws.send(message)


# Serving


def in_a_script(context: ssl.SSLContext) -> None:
    server = bunws.serve(fetch=fetch, websocket=TABLE, port=3000, hostname="localhost", tls=context)
    assert_type(server, bunws.Server)
    assert_type(server.url, URL)
    assert_type(server.port, int | None)
    assert_type(server.hostname, str | None)
    assert_type(server.publish("room", b"from any thread", compress=False), int)
    assert_type(server.subscriber_count("room"), int)
    assert_type(server.pending_requests + server.pending_websockets, int)
    assert_type(server.reload(fetch=fetch_without_server, websocket=Chat(), error=on_error), bunws.Server)
    server.stop()
    server.stop(close_active_connections=True)
    server.stop(timeout=1.5)
    with bunws.serve(
        fetch=fetch_async,
        websocket={"message": message_async},
        unix=Path("chat.sock"),
        tls=(Path("cert.pem"), "key.pem"),
        error=on_error,
        origins=["https://example.com"],
        idle_timeout=10,
        max_request_body_size=1024,
        max_connections=1000,
    ) as other:
        assert_type(other, bunws.Server)
    bunws.serve(fetch=lambda request, server: bunws.Response("hello"), tls={"cert": "a", "key": "b"}, reuse_port=True)


async def in_a_coroutine() -> None:
    async with bunws.serve(fetch=fetch, websocket=Chat()) as server:
        assert_type(server, bunws.Server)
        response = await server.fetch("/path")
        assert_type(response, bunws.Response)
        assert_type(response.status, int)
        assert_type(response.headers, CIMultiDict[str])
        assert_type(await response.text(), str)
        await server.fetch(bunws.Request("http://localhost/", method="POST", body="text", headers={"X-A": "1"}))
        await server.wait_closed()
        await server.stop()


def errors() -> None:
    try:
        in_a_script(ssl.create_default_context())
    except bunws.ProtocolError as exc:
        assert_type(exc.close_code, int)
    except bunws.HTTPError as exc:
        assert_type(exc.status, int)
    except bunws.ClientDisconnected:
        raise
