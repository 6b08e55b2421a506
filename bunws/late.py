"""
Late: bytes that are still being made, and who waits for them.

Rule: it has its place among the other bytes of each receiver from the moment that it is delivered; what comes behind it
waits.
"""

from __future__ import annotations

from typing import Protocol


__all__ = ["Late", "Waiting"]


class Waiting(Protocol):
    """Who was delivered something late."""

    def late_ready(self) -> None:
        """Some of what it waits for has its bytes now. May run user code."""


class Late:
    """`data` is None until `ready`."""

    __slots__ = ("_waiting", "data", "size")

    def __init__(self, size: int) -> None:
        self.data: bytes | None = None
        self.size = size  # bytes that it counts for, whatever it becomes
        self._waiting: list[Waiting] = []

    def wait(self, receiver: Waiting) -> None:
        """Tell `receiver` when the bytes are there."""
        self._waiting.append(receiver)

    def ready(self, data: bytes) -> None:
        """Here are the bytes."""
        self.data = data
        waiting, self._waiting = self._waiting, []
        for receiver in waiting:
            receiver.late_ready()
