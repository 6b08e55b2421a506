"""
Response: what the server answers, with the Fetch standard's meaning.

Rule 1: what may not be on the wire is refused when it is written, with an error that names it.
Rule 2: sending does not change a response. One response may answer any number of requests.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeAlias, overload

from multidict import CIMultiDict

from .body import decode_json, decode_text
from .headers import HeadersInit, check_text, make_headers


__all__ = ["Response", "BodyInit"]


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
