"""
HTTP/1.1, pure: requests, responses and the bytes between them. No sockets, no transports, no clock.

    wire        bytes to requests; the only room that imports httptools
    request     what was asked for, and the rules of a head
    response    what is answered, and its bytes
    body        content while it arrives
    headers     the syntax of fields

`body` is the one room here that imports asyncio: a reader that waits needs a future of the running loop.
"""

from __future__ import annotations

from .body import Body, ClientDisconnected
from .headers import HeadersInit
from .request import Request, RequestHead
from .response import BodyInit, Response


__all__ = [
    "Request",
    "RequestHead",
    "Response",
    "Body",
    "BodyInit",
    "HeadersInit",
    "ClientDisconnected",
]
