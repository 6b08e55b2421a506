"""bunws: plain functions in a plain script, as its README shows them. `__init__.py` says what is served."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import bunws


Socket: TypeAlias = bunws.ServerWebSocket[list[str]]

HERE: Final = Path(__file__).resolve().parent
FILE: Final = HERE.parent / ".build" / "file"
ANSWER: Final = json.loads((HERE / "answer.json").read_text())


# Sockets. `data` is the names of the rooms, or the name of who talks.


def upgrade(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    query = request.url.query
    data = query["rooms"].split(",") if "rooms" in query else [query.get("name", "somebody")]
    if server.upgrade(request, data=data):
        return None
    return bunws.Response("this speaks WebSocket only", status=426)


def join(ws: Socket) -> None:
    ws.subscribe("room")


def join_rooms(ws: Socket) -> None:
    for room in ws.data:
        ws.subscribe(room)


def tell_the_others(ws: Socket, message: str) -> None:
    ws.publish("room", message)


def tell_the_room(ws: Socket, message: str) -> None:
    ws.publish(ws.data[0], message)


def tell_everybody(ws: Socket, message: str) -> None:
    ws.publish("room", f"{ws.data[0]}: {message}")


def tell_the_others_compressed(ws: Socket, message: str) -> None:
    ws.publish("room", message, compress=True)


def tell_it_back(ws: Socket, message: str) -> None:
    ws.send(message)


SOCKETS: Final[dict[str, dict[str, object]]] = {
    "chat": {"open": join, "message": tell_the_others},
    "rooms": {"open": join_rooms, "message": tell_the_room},
    "bun-chat": {"open": join, "message": tell_everybody, "publish_to_self": True},
    # Without a threshold, since Bun has none: with the default one a chat line of 60 bytes would go out plain.
    "deflate": {
        "open": join,
        "message": tell_the_others_compressed,
        "per_message_deflate": {"compress": "shared", "decompress": "shared", "threshold": 0},
    },
    "echo": {"message": tell_it_back},
}


# HTTP


def make_answer() -> Callable[[bunws.Request], bunws.Response]:
    import orjson  # what docs/http.md advises for speed; only this workload needs it

    dumps = orjson.dumps

    def answer(request: bunws.Request) -> bunws.Response:
        if request.url.path == "/json":
            return bunws.Response.json(ANSWER, dumps=dumps)
        return bunws.Response("Hello, World!")

    return answer


async def transfer(request: bunws.Request) -> bunws.Response:
    if request.method == "GET":
        return bunws.Response.file(FILE)
    size = 0
    async for chunk in request.body:
        size += len(chunk)
    return bunws.Response(str(size))


def serve(served: str) -> bunws.Server:
    if served == "http":
        return bunws.serve(fetch=make_answer(), hostname="127.0.0.1", port=0)
    if served == "file":
        return bunws.serve(fetch=transfer, hostname="127.0.0.1", port=0, max_request_body_size=1024**4)
    websocket = {
        "backpressure_limit": 1024**3,  # bytes; the load counts every copy, so none may be dropped
        **SOCKETS[served],
    }
    return bunws.serve(fetch=upgrade, websocket=websocket, hostname="127.0.0.1", port=0)


if __name__ == "__main__":
    server = serve(sys.argv[1])
    print(f"LISTENING {server.port}", flush=True)
