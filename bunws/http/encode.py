"""
Encode: a response to its bytes.

Rule: what a response says about its own framing is written here, whatever the caller wrote.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from ..exceptions import HTTPError
from .headers import check_field
from .response import Response


__all__ = ["CONTINUE", "encode_response", "error_response"]

# RFC 9110, 15.2.1: "the initial part of a request has been received and has not yet been rejected".
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# RFC 9110 has other words for these than Python before 3.13.
_REASONS: Final = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}

# RFC 9112, 4: "A server MUST send the space that separates the status-code from the reason-phrase
# even when the reason-phrase is absent".
_STATUS_LINES: Final = {status: f"HTTP/1.1 {status} {_REASONS.get(status, '')}\r\n" for status in range(200, 600)}

# What only this room says: RFC 9112, 6 and 9; RFC 9110, 7.6.1.
_FRAMING: Final = frozenset({"content-length", "transfer-encoding", "connection", "keep-alive"})

# By (keep alive, HTTP/1.0, sends Upgrade). RFC 9112, 9.3: HTTP/1.1 persists unsaid, HTTP/1.0 not.
# RFC 9110, 7.8: "A sender of Upgrade MUST also send an "Upgrade" connection option".
_CONNECTION: Final = {
    (True, False, False): "",
    (True, False, True): "Connection: Upgrade\r\n",
    (True, True, False): "Connection: keep-alive\r\n",
    (True, True, True): "Connection: keep-alive, Upgrade\r\n",
    (False, False, False): "Connection: close\r\n",
    (False, False, True): "Connection: close, Upgrade\r\n",
    (False, True, False): "Connection: close\r\n",
    (False, True, True): "Connection: close, Upgrade\r\n",
}


def encode_response(response: Response, *, method: str, http_version: str, keep_alive: bool, date: bytes) -> bytes:
    """
    The head and the body, ready to write; `date` is the value of Date, unless the caller set one.

    Raises `TypeError` or `ValueError` for a header that was set after the response was made and
    may not be on the wire.
    """
    status = response.status
    text = response.status_text
    head = f"HTTP/1.1 {status} {text}\r\n" if text else _STATUS_LINES[status]
    headers = response.headers
    for name, value in headers.items():
        check_field(name, value)
        if name.lower() not in _FRAMING:
            head += f"{name}: {value}\r\n"
    if "Date" not in headers:
        head += f"Date: {date.decode('latin-1')}\r\n"
    length = _content_length(response, method)
    if length is not None:
        head += f"Content-Length: {length}\r\n"
    head += _CONNECTION[keep_alive, http_version == "1.0", "Upgrade" in headers]
    start = f"{head}\r\n".encode("latin-1")
    # RFC 9110, 6.4.1: "Responses to the HEAD request method never include content"; "All 1xx
    # (Informational), 204 (No Content), and 304 (Not Modified) responses do not include content."
    # 15.3.6: "a server MUST NOT generate content in a 205 response".
    if not response.body or method == "HEAD" or status in (204, 205, 304):
        return start
    return start + response.body


def _content_length(response: Response, method: str) -> int | None:
    """RFC 9110, 8.6."""
    status, body = response.status, response.body
    # "A server MUST NOT send a Content-Length header field in any response with a status code of
    # 1xx (Informational) or 204 (No Content)."
    if status == 204:
        return None
    if status == 205:
        return 0
    # To HEAD and with 304 it tells what a GET would have been answered with. Where there is no
    # body to measure, only the caller can know.
    if body is None and (method == "HEAD" or status == 304):
        told = response.headers.get("Content-Length", "")
        if told.isascii() and told.isdigit():
            return int(told)
    return None if status == 304 else len(body or b"")


def error_response(error: HTTPError, date: bytes, *, method: str = "GET") -> bytes:
    """The answer to a peer that broke HTTP: its phrase as text, and the connection closes."""
    response = Response(error.phrase, error.status, error.headers)
    return encode_response(response, method=method, http_version="1.1", keep_alive=False, date=date)
