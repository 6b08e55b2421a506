"""
Access: one line for each answer, and for each client that did not wait for it.

Rule: what a peer has sent is quoted, so that it can forge no line and no field of one (CWE-117).
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

from .exchange import Exchange, Refusal
from .http.head import RequestHead


__all__ = ["AccessLog", "AccessRecord", "Log", "access_log"]

logger = logging.getLogger("bunws")
_lines = logging.getLogger("bunws.access")

# What needs no quotes in a line of `key=value`.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:+\-]+")


class AccessRecord(NamedTuple):
    """What is known of a request once it was answered. As text, it is one line."""

    client: str  # IP address; "" on a Unix socket
    method: str
    target: str  # path and query as sent
    http_version: str
    # 101 for a WebSocket; 499 (as in nginx) for a client that left before it was answered; 0 for one whose connection
    # was cut without an answer, such as by the end of the server.
    status: int
    bytes_sent: int  # head and body
    seconds: float  # from the head of the request to the last byte of the answer; 0 where a whole head never came
    referer: str
    user_agent: str

    def __str__(self) -> str:
        """`client=192.0.2.1 method=GET target=/ … user_agent="curl/8.0"`."""
        return " ".join([f"{name}={_field(value)}" for name, value in self._asdict().items()])


#: What `access_log=` takes: whether to log, or a function to tell.
AccessLog: TypeAlias = bool | Callable[[AccessRecord], object]

#: What a connection calls: with the exchange, the status, the bytes sent and the seconds that it took.
Log: TypeAlias = Callable[[Exchange | Refusal, int, int, float], None]


def access_log(option: AccessLog) -> Log | None:
    """
    What to call for each answer; None for nothing. Raises TypeError that names the option.

    True is the logger "bunws.access", at level INFO; where logging was not set up, its lines go to the standard output.
    """
    if option is False:
        return None
    if option is True:
        _set_up()
        tell: Callable[[AccessRecord], object] = _write
    elif callable(option):
        tell = option
    else:
        raise TypeError(f"access_log must be True, False or a function, got {type(option).__name__}")

    def log(exchange: Exchange | Refusal, status: int, bytes_sent: int, seconds: float) -> None:
        try:
            tell(_record(exchange, status, bytes_sent, seconds))
        except Exception:
            logger.exception("bunws: the access log failed")

    return log


def _write(record: AccessRecord) -> None:
    _lines.info("%s", record, extra={"access": record._asdict()})


def _set_up() -> None:
    if _lines.level == logging.NOTSET:
        _lines.setLevel(logging.INFO)
    if not _lines.hasHandlers():
        _lines.addHandler(logging.StreamHandler(sys.stdout))


def _record(exchange: Exchange | Refusal, status: int, bytes_sent: int, seconds: float) -> AccessRecord:
    head = exchange.head
    headers: Mapping[str, str] = head.headers if isinstance(head, RequestHead) else {}
    peer = exchange.begun.peer if exchange.begun is not None else None
    return AccessRecord(
        client=peer.address if peer is not None else "",
        method=head.method if head is not None else "",
        target=head.target if head is not None else "",
        http_version=head.http_version if head is not None else "",
        status=status,
        bytes_sent=bytes_sent,
        seconds=round(seconds, 6),
        referer=headers.get("Referer", ""),
        user_agent=headers.get("User-Agent", ""),
    )


def _field(value: object) -> str:
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
