"""
Errors: what counts as "the handler raised".

Rule 1: what is not `RAISED`, such as KeyboardInterrupt, is for the loop. Who meets it on the way ends what it would
leave behind, such as a connection that nobody is going to answer, and lets it pass.
Rule 2: a CancelledError that a handler got from something it awaited is an error of the handler like any other. Only
when its own task is being cancelled (the server has stopped and waited long enough) is it none.
"""

from __future__ import annotations

import asyncio
from typing import Final


__all__ = ["RAISED", "is_cancelled"]

RAISED: Final = (Exception, asyncio.CancelledError)


def is_cancelled(exc: BaseException) -> bool:
    """Whether `exc` means that the current task is to end."""
    if not isinstance(exc, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
