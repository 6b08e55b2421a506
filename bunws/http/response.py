"""
Response: what the server answers, with the Fetch standard's meaning.

Rule 1: what may not be on the wire is refused when it is written, with an error that names it.
Rule 2: sending does not change a response. One response may answer any number of requests.
Rule 3: what a response says about its own framing is written by `encode_response`, whatever the
caller wrote.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, Protocol, TypeAlias, overload

from multidict import CIMultiDict

from ..exceptions import HTTPError
from .body import decode_json, decode_text
from .headers import HeadersInit, check_field, check_text, make_headers


__all__ = ["Response", "BodyInit", "CONTINUE", "encode_response", "error_response"]


BodyInit: TypeAlias = str | bytes | bytearray | memoryview
"""What a response can be made of."""


class _MakeJSON(Protocol):
    def __call__(self, data: Any, status: int = 200, headers: HeadersInit | None = None) -> Response: ...


class _JSON:
    """Fetch has a static `Response.json` and a method of the same name; this is both."""

    @overload
    def __get__(self, response: None, owner: type[Response]) -> _MakeJSON: ...
    @overload
    def __get__(self, response: Response, owner: type[Response]) -> Callable[[], Awaitable[Any]]: ...
    def __get__(self, response: Response | None, owner: type[Response]) -> _MakeJSON | Callable[[], Awaitable[Any]]:
        return owner._make_json if response is None else response._read_json


class Response:
    """A status, headers and a body that is held in memory, so it can be read and sent often."""

    __slots__ = ("_body", "_status", "_status_text", "headers")

    def __init__(
        self,
        body: BodyInit | None = None,
        status: int = 200,
        headers: HeadersInit | None = None,
        *,
        status_text: str = "",
    ) -> None:
        """
        Make a response. `status_text` "" stands for the phrase that RFC 9110 gives the status.

        Raises `ValueError` for a status outside 200 to 599 or text that may not be on the wire,
        `TypeError` for a body of another type.
        """
        if not isinstance(status, int):
            raise TypeError(f"status must be int, not {type(status).__name__}")
        # Fetch, "initialize a response": "If init["status"] is not in the range 200 to 599,
        # inclusive, then throw a RangeError."
        if not 200 <= status <= 599:
            raise ValueError(f"status must be in the range 200 to 599, not {status}")
        check_text("status_text", status_text)
        self._status = int(status)
        self._status_text = status_text
        self._body = None if body is None else _to_bytes(body)
        self.headers: CIMultiDict[str] = make_headers(headers)
        if isinstance(body, str):
            self.headers.setdefault("Content-Type", "text/plain;charset=UTF-8")

    json = _JSON()
    """
    `Response.json(data, status=200, headers=None)` makes a response whose body is `data` as JSON.
    It raises `TypeError` or `ValueError` for what JSON cannot say, such as a set or NaN.

    `await response.json()` reads a body as JSON, and raises `json.JSONDecodeError` if it is none.
    """

    @classmethod
    def _make_json(cls, data: Any, status: int = 200, headers: HeadersInit | None = None) -> Response:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        response = cls(text.encode(), status, headers)
        response.headers.setdefault("Content-Type", "application/json")
        return response

    def __repr__(self) -> str:
        size = "no body" if self._body is None else f"{len(self._body)} bytes"
        return f"<Response {self._status} {size}>"

    @property
    def status(self) -> int:
        """The status code, 200 to 599."""
        return self._status

    @property
    def status_text(self) -> str:
        """The reason phrase the caller chose, or ""."""
        return self._status_text

    @property
    def ok(self) -> bool:
        """Whether the status is in the range 200 to 299."""
        return self._status <= 299

    @property
    def body(self) -> builtins.bytes | None:
        """The content as it is sent; None where there is none."""
        return self._body

    # Reading, in the process

    async def bytes(self) -> builtins.bytes:
        """The content; b"" where there is none. It may be read again."""
        return self._body or b""

    async def text(self) -> str:
        """`bytes()` as text: UTF-8, with U+FFFD for what is none."""
        return decode_text(await self.bytes())

    async def _read_json(self) -> Any:
        return decode_json(await self.bytes())


def _to_bytes(body: BodyInit) -> bytes:
    """A copy, so that a bytearray that changes later does not change the response."""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    fix = (
        "use Response.json(...)"
        if isinstance(body, dict | list | tuple)
        else "write str(...) around it"
        if isinstance(body, int | float)
        else "await it first"
        if isinstance(body, Awaitable)
        else "make it one of these"
    )
    raise TypeError(f"body must be str, bytes, bytearray, memoryview or None, not {type(body).__name__}: {fix}")


# To the wire

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
