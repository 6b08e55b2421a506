"""
The server that is soaked, in a process of its own: `python -m tests.soak.server` prints its port.

Rule: it has one of everything that holds something for a client, and tells at /facts what it holds now.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import bunws


__all__ = ["main"]

FILE_SIZE: Final = 600_000


def message(ws: bunws.ServerWebSocket[Any], line: str | bytes) -> None:
    if isinstance(line, bytes):
        ws.send(line)
        return
    verb, topic, number = line.split()
    if verb == "join":
        ws.subscribe(topic)
    elif verb == "leave":
        ws.unsubscribe(topic)
    elif verb == "publish":
        ws.publish(topic, f"{topic} {'.' * int(number)}", True)
    else:
        ws.send(f"done {number}")


async def message_later(ws: bunws.ServerWebSocket[Any], line: str | bytes) -> None:
    await asyncio.sleep(0)
    message(ws, line)


def table(handler: object) -> dict[str, Any]:
    return {
        "message": handler,
        "per_message_deflate": {"compress": "shared", "decompress": "dedicated"},
        "max_payload_length": 64 * 1024,
        "backpressure_limit": 256 * 1024,
    }


class Site:
    """The routes."""

    def __init__(self) -> None:
        self._reloads = 0

    async def echo(self, request: bunws.Request, server: bunws.Server) -> bunws.Response:
        return bunws.Response(await request.bytes())

    async def form(self, request: bunws.Request, server: bunws.Server) -> bunws.Response:
        async with await request.form(spool_size=1024) as form:
            upload = form.file("file")
            return bunws.Response(str(upload.size if upload else 0))

    def stream(self, request: bunws.Request, server: bunws.Server) -> bunws.Response:
        async def chunks() -> AsyncIterator[str]:
            for _ in range(50):
                yield "chunk " * 200
                await asyncio.sleep(0)

        return bunws.Response(chunks())

    def feed(self, request: bunws.Request, server: bunws.Server) -> bunws.Response:
        """A topic as a stream, until the client goes."""
        feed = server.subscribe(request.params["topic"])

        async def messages() -> AsyncIterator[str]:
            async with feed:
                async for message in feed:
                    yield f"{message!s}\n"

        return bunws.Response(messages())

    def reload(self, request: bunws.Request, server: bunws.Server) -> bunws.Response:
        self._reloads += 1
        server.reload(websocket=table(message_later if self._reloads % 2 else message))
        return bunws.Response("reloaded")

    def facts(self, request: bunws.Request, server: bunws.Server) -> bunws.Response:
        gc.collect()
        status = Path("/proc/self/status").read_text()
        memory = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
        facts = {
            "memory": int(memory) * 1024,
            "descriptors": len(os.listdir("/proc/self/fd")),
            "tasks": len(asyncio.all_tasks()),
            "topics": len(server._turn.topics),
            "websockets": len(server._guests.engines),
            "connections": len(server._guests.connections),
            "feeds": len(server._feeds),
        }
        return bunws.Response(json.dumps(facts), headers={"Content-Type": "application/json"})


def upgrade(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    return None if server.upgrade(request) else bunws.Response("no websocket", status=400)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "file.bin").write_bytes(bytes(FILE_SIZE))
        site = Site()
        with bunws.serve(
            fetch=upgrade,
            routes={
                "/echo": site.echo,
                "/form": site.form,
                "/stream": site.stream,
                "/feed/:topic": site.feed,
                "/reload": site.reload,
                "/facts": site.facts,
                "/files/*": bunws.static(folder),
            },
            websocket=table(message),
            compression=True,
            hostname="127.0.0.1",
            port=0,
        ) as server:
            print(server.port, flush=True)
            try:
                input()  # until it is told to end, or its parent has gone
            except EOFError:
                return


if __name__ == "__main__":
    main()
