"""
The side of bunws in the chat and echo benchmarks.

The text that came in goes out to everybody else (chat; deflate: the same, compressed) or back (echo)::

    python -m benchmarks.peers.chat_bunws chat|deflate|echo
"""

from __future__ import annotations

import sys

import bunws


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    if server.upgrade(request):
        return None
    return bunws.Response("this speaks WebSocket only", status=426)


def join(ws: bunws.ServerWebSocket[None]) -> None:
    ws.subscribe("room")


def tell_the_others(ws: bunws.ServerWebSocket[None], message: str) -> None:
    ws.publish("room", message)


def tell_the_others_compressed(ws: bunws.ServerWebSocket[None], message: str) -> None:
    ws.publish("room", message, compress=True)


def tell_it_back(ws: bunws.ServerWebSocket[None], message: str) -> None:
    ws.send(message)


HANDLERS: dict[str, dict[str, object]] = {
    "chat": {"open": join, "message": tell_the_others},
    # Without a threshold, since Bun has none: with the default one a chat line of 60 bytes would go out plain.
    "deflate": {
        "open": join,
        "message": tell_the_others_compressed,
        "per_message_deflate": {"compress": "shared", "decompress": "shared", "threshold": 0},
    },
    "echo": {"message": tell_it_back},
}


if __name__ == "__main__":
    websocket = {
        "per_message_deflate": False,
        "publish_to_self": False,
        "backpressure_limit": 1024**3,  # bytes; the load counts every copy, so none may be dropped
        **HANDLERS[sys.argv[1]],
    }
    server = bunws.serve(fetch=fetch, websocket=websocket, hostname="127.0.0.1", port=0)
    print(f"LISTENING {server.port}", flush=True)
