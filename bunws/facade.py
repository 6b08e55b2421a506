"""
Facade: what picows is given in place of a transport, a socket and a logger. It lets nothing through.

engine.py says why.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final


__all__ = ["Facade", "SILENCE"]

_CLOSE_HEADER: Final = 0x88


class _Silence(logging.LoggerAdapter[logging.Logger]):
    """picows is handed an adapter: for a plain logger it makes a child logger per connection."""

    def isEnabledFor(self, level: int) -> bool:
        return False


SILENCE: Final = _Silence(logging.getLogger("bunws.engine"), {})


class _NoSocket:
    """What picows may set options on."""

    def setsockopt(self, *_: object) -> None: ...

    def getsockopt(self, *_: object) -> int:
        return 0

    def fileno(self) -> int:
        return -1


_NO_SOCKET: Final = _NoSocket()


class Facade:
    """What stands in for the transport. `note_close` is told each Close frame that picows wanted to send."""

    __slots__ = ("_note_close",)

    def __init__(self, note_close: Callable[[bytes], None]) -> None:
        self._note_close = note_close

    def get_extra_info(self, name: str) -> object:
        return _NO_SOCKET if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return 1  # never empty, so picows never writes to the descriptor itself

    def write(self, data: bytes) -> None:
        if data[0] == _CLOSE_HEADER:
            self._note_close(bytes(data))

    def close(self) -> None: ...

    def abort(self) -> None: ...
