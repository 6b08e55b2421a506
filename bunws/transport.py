"""
Transport: what transports say differently over TLS, or do not say at all.

Rule: asyncio's and uvloop's are told apart by nothing that is private to them, and treated alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    import asyncio


__all__ = ["is_tls", "pause_while_left"]


def is_tls(transport: asyncio.Transport) -> bool:
    """Whether it encrypts. Such a one cannot close one half."""
    return not transport.can_write_eof()


def pause_while_left(transport: asyncio.Transport) -> None:
    """
    From now on `pause_writing` means "something is left", and `resume_writing` "nothing is".

    Over TLS the transport below keeps up to 64 KiB, by its own limits, of which nobody is told.
    """
    # uvloop's low-water mark is 16 bytes otherwise. Over TLS they compare with "at least" where others say "more than":
    # 0 would pause on whatever is written, and never resume.
    transport.set_write_buffer_limits(high=1 if is_tls(transport) else 0)
