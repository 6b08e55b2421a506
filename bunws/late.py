"""
Late: bytes that are still being made, and who waits for them.

Rule 1: it has its place among the other bytes of each receiver from the moment that it is delivered; what comes behind
it waits.
Rule 2: what nobody waits for any more is not made, and what it would be made of is let go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


__all__ = ["Late", "Waiting"]


class Waiting(Protocol):
    """Who was delivered something late."""

    def late_ready(self) -> None:
        """Some of what it waits for has its bytes now. May run user code."""


class Late:
    """`data` is None until `ready`."""

    __slots__ = ("_make", "_waiting", "data", "size")

    def __init__(self, size: int, make: Callable[[], bytes]) -> None:
        self.data: bytes | None = None
        self.size = size  # bytes that it counts for, whatever it becomes
        self._make: Callable[[], bytes] | None = make
        self._waiting: dict[Waiting, None] = {}

    def wait(self, receiver: Waiting) -> None:
        """Tell `receiver` when the bytes are there."""
        self._waiting[receiver] = None

    def forget(self, receiver: Waiting) -> None:
        """`receiver` is gone."""
        self._waiting.pop(receiver, None)
        if not self._waiting:
            self._make = None

    def make(self) -> bytes:
        """Make the bytes, in whatever thread; none where nobody waits."""
        make = self._make
        return make() if make is not None else b""

    def ready(self, data: bytes) -> None:
        """Here are the bytes."""
        self.data = data
        self._make = None
        waiting, self._waiting = self._waiting, {}
        for receiver in waiting:
            receiver.late_ready()
