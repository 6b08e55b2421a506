"""
Duty: what the client of an HTTP connection has to do next, and for how long it has not.

Rule: a client has one duty at a time, or none while it waits for us, and as long as the idle timeout to do it. This
room counts ticks; it has no clock.
"""

from __future__ import annotations

import enum
from typing import Final


__all__ = ["Duty", "Watch", "MIN_BODY_PROGRESS"]

# Bytes that a body must bring in each span of the idle timeout; with its default of 10 s 240 bytes a second, which is
# Kestrel's MinRequestBodyDataRate. Only what the server was ready to read counts against a client.
MIN_BODY_PROGRESS: Final = 2400


class Duty(enum.Enum):
    """What a client has to do next."""

    TAKE = "read what was written to it: any progress will do"
    SEND_BODY = "send the body of its request, at no less than MIN_BODY_PROGRESS"
    SEND_HEAD = "complete the head that it has begun, however fast it sends"
    SEND_REQUEST = "send another request"


class Watch:
    """Counts the ticks that a client has been at its duty."""

    __slots__ = ("_duty", "_ticks", "progress")

    def __init__(self) -> None:
        self._duty: Duty | None = None
        self._ticks = 0
        #: Bytes of a body that have arrived since the count began; whoever gets them adds them.
        self.progress = 0

    def __repr__(self) -> str:
        return f"<Watch {self._duty.name if self._duty else 'no duty'} ticks={self._ticks}>"

    def renew(self) -> None:
        """The client has done its duty: count anew."""
        self._ticks = self.progress = 0

    def is_overdue(self, duty: Duty | None, allowed_ticks: int, *, moves: bool) -> bool:
        """
        One tick has passed. Whether the client was given enough of them; never where `allowed_ticks` is 0.

        `moves` tells whether it has read something since the last tick.
        """
        if duty is not self._duty or (duty is Duty.TAKE and moves):
            self._duty = duty
            self.renew()
        self._ticks += 1
        if duty is None or not allowed_ticks or self._ticks <= allowed_ticks:
            return False
        if duty is Duty.SEND_BODY and self.progress >= MIN_BODY_PROGRESS:
            self._ticks, self.progress = 1, 0
            return False
        return True
