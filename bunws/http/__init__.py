"""
HTTP/1.1, pure: requests, responses and the bytes between them. No sockets, no transports, no clock.

    wire        bytes to requests; the only room that imports httptools
    head        a request line and its fields, and the rules of both
    encode      responses to bytes
    request     what was asked for
    response    what is answered
    body        content while it arrives
    headers     the syntax of fields

`body` is the one room here that imports asyncio: a reader that waits needs a future of the running loop.
"""

from __future__ import annotations

from .body import Body, ClientDisconnected
from .head import RequestHead
from .headers import HeadersInit
from .request import Request
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
