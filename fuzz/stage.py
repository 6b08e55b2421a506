"""
Stage: a server that stands ready in this process, for one conversation after the other.

Rule: between conversations the loop stands still, so that an input means the same each time it comes.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import bunws

from .conversation import Outcome, converse, hears_no_complaint


__all__ = ["Stage", "MAX_PAYLOAD", "close_stages", "plain_stage", "splits"]

#: Bytes in one message, small enough for a fuzzer to go past it.
MAX_PAYLOAD: Final = 4096

_SHORT: Final = 400  # bytes that are also sent one at a time


class Stage:
    """A server and its loop."""

    def __init__(self, **options: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self.server = self.loop.run_until_complete(_serve(options))

    def converse(self, chunks: Sequence[bytes], *, reset: bool = False) -> Outcome:
        """One client, who is gone afterwards; raises AssertionError where anything is left of it, or was logged."""
        with hears_no_complaint():
            return self.loop.run_until_complete(converse(self.server, chunks, reset=reset))

    def close(self) -> None:
        self.loop.run_until_complete(self.server.stop(close_active_connections=True))
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


async def _serve(options: dict[str, Any]) -> bunws.Server:
    return bunws.serve(hostname="127.0.0.1", port=0, **options)


async def _answer(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    """Upgrade who asks for it; look at all that a request has, as applications do, and tell what was seen."""
    if server.upgrade(request):
        return None
    cookies, url = dict(request.cookies), request.url
    assert all(name for name in cookies)
    body = await request.bytes()
    return bunws.Response(body, headers={"X-Seen": f"{request.method} {url.raw_path_qs}"})


@cache
def plain_stage() -> Stage:
    """Echoes bodies and messages; compresses both where a client asks for it, but messages it only takes compressed."""

    def message(ws: bunws.ServerWebSocket[Any], message: str | bytes) -> None:
        ws.send(message)

    return Stage(
        fetch=_answer,
        websocket={
            "message": message,
            "max_payload_length": MAX_PAYLOAD,
            "per_message_deflate": {"compress": "disable", "decompress": "dedicated"},
        },
        max_request_body_size=64 * 1024,
        compression=True,
    )


def close_stages() -> None:
    """For who goes on in this process."""
    if plain_stage.cache_info().currsize:
        plain_stage().close()
        plain_stage.cache_clear()


def splits(data: bytes) -> list[list[bytes]]:
    """Ways to split an input, the same each time it comes: none, some cuts, and every byte by itself if it is short."""
    dice = random.Random(zlib.crc32(data))
    cuts = sorted({0, len(data), *(dice.randrange(len(data) + 1) for _ in range(dice.randrange(1, 6)))})
    ways = [[data], [data[begin:end] for begin, end in itertools.pairwise(cuts)]]
    if len(data) <= _SHORT:
        ways.append([data[at : at + 1] for at in range(len(data))])
    return ways
