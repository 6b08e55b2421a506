"""
Notice: a line in the log for what peers can make happen as often as they like.

Rule: at most one line a second; the next one says how often it has happened meanwhile.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final


__all__ = ["Notice"]

logger = logging.getLogger("bunws")

INTERVAL: Final = 1.0  # seconds


class Notice:
    """A warning that tells the operator which limit is at work."""

    def __init__(self, text: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`text` is one line; `clock` tells seconds."""
        self._text = text
        self._clock = clock
        self._next = -1.0
        self._untold = 0

    def tell(self) -> None:
        """It has happened again."""
        now = self._clock()
        if now < self._next:
            self._untold += 1
            return
        more = f" ({self._untold} more since the last notice)" if self._untold else ""
        logger.warning("bunws: %s%s", self._text, more)
        self._next, self._untold = now + INTERVAL, 0
