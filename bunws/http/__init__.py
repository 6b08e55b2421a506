"""
HTTP/1.1: requests, responses and the bytes between them. No sockets, no transports.

    wire        bytes to requests; the only room that imports httptools
    head        a request line and its fields, and the rules of both
    encode      responses to bytes
    request     what was asked for
    form        forms and uploaded files
    cookies     what is read from Cookie, and written to Set-Cookie
    response    what is answered
    stream      a body that is made while it is sent
    events      server-sent events
    files       a file as a body, with ranges and conditional
    static      a folder of files
    routes      which of many patterns a path belongs to, and who answers there
    coding      answers compressed for those who ask
    body        content while it arrives
    headers     the syntax of fields
"""

from __future__ import annotations

from .body import Body, ClientDisconnected
from .events import Event, EventStream
from .form import FormData, UploadFile
from .head import RequestHead
from .headers import HeadersInit
from .request import Request
from .response import BodyInit, Response
from .static import static


__all__ = [
    "Request",
    "RequestHead",
    "Response",
    "EventStream",
    "Event",
    "static",
    "FormData",
    "UploadFile",
    "Body",
    "BodyInit",
    "HeadersInit",
    "ClientDisconnected",
]
