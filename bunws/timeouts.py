"""
Timeouts: one sweep for all connections, never a timer or a task for each.

Rule: this room counts ticks; who calls `sweep` once a tick, and how long a tick is, is decided above. uSockets sweeps
every 4 s; a server with a shorter timeout sweeps more often.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple, Protocol


__all__ = ["Sweeper", "Ticking", "Patience", "tick_for", "LONGEST_TICK"]

LONGEST_TICK: Final = 4.0  # seconds, as in uSockets
SHORTEST_TICK: Final = 0.05  # seconds


def tick_for(*timeouts: float) -> float:
    """A tick in seconds that is fine enough for the shortest of these timeouts; 0 stands for none."""
    shortest = min((timeout for timeout in timeouts if timeout > 0), default=math.inf)
    return min(LONGEST_TICK, max(SHORTEST_TICK, shortest / 4))


class Patience(NamedTuple):
    """How many silent ticks until a ping is sent, and until the socket is given up; 0 means never."""

    ping: int
    close: int

    @classmethod
    def of(cls, idle_timeout: float, send_pings: bool, tick: float) -> Patience:
        """
        For a timeout in seconds. It never ends early: a tick may have begun just before the last sign of life.

        The ping leaves the peer a margin to answer in: a quarter of the timeout, at most 16 s (as Bun has it).
        """
        if not idle_timeout:
            return cls(0, 0)
        close = math.ceil(idle_timeout / tick) + 1
        margin = max(1, math.ceil(min(16.0, idle_timeout / 4) / tick))
        return cls(max(1, close - 1 - margin) if send_pings else 0, close)


class Ticking(Protocol):
    """A connection that is swept."""

    def tick(self) -> None:
        """One tick has passed. May remove this or any other member."""


class Sweeper:
    """The connections of one server."""

    def __init__(self) -> None:
        self._members: set[Ticking] = set()

    def add(self, member: Ticking) -> None:
        self._members.add(member)

    def discard(self, member: Ticking) -> None:
        self._members.discard(member)

    def __len__(self) -> int:
        return len(self._members)

    def sweep(self) -> None:
        """Tell every member that one tick has passed."""
        for member in tuple(self._members):
            if member in self._members:
                member.tick()
