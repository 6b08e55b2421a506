"""
Transport: what transports say differently over TLS, or do not say at all.

Rule: asyncio's and uvloop's are told apart by nothing that is private to them, and treated alike.
"""

from __future__ import annotations

import enum
import fcntl
import select
import socket
import sys
import termios
from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    import asyncio


__all__ = ["Departure", "bytes_left", "departure_of", "descriptor_of", "is_tls", "pause_while_left"]

# macOS, getsockopt(2): "SO_NWRITE get number of bytes currently in send socket buffer". Python has no name for it.
_SO_NWRITE: Final = 0x1024

# Linux: "Stream socket peer closed connection, or shut down writing half of connection". Elsewhere POLLHUP says it.
_POLLRDHUP: Final = getattr(select, "POLLRDHUP", 0)


def is_tls(transport: asyncio.Transport) -> bool:
    """Whether it encrypts. Such a one cannot close one half."""
    return not transport.can_write_eof()


def descriptor_of(transport: asyncio.Transport) -> int:
    """The descriptor that it writes to just what it is given; -1 when there is none, as over TLS."""
    sock = transport.get_extra_info("socket")
    return -1 if sock is None or is_tls(transport) else int(sock.fileno())


def pause_while_left(transport: asyncio.Transport) -> None:
    """
    From now on `pause_writing` means "something is left", and `resume_writing` "nothing is".

    Over TLS the transport below keeps up to 64 KiB, by its own limits, of which nobody is told.
    """
    # uvloop's low-water mark is 16 bytes otherwise. Over TLS they compare with "at least" where others say "more than":
    # 0 would pause on whatever is written, and never resume.
    transport.set_write_buffer_limits(high=1 if is_tls(transport) else 0)


def bytes_left(transport: asyncio.Transport) -> int:
    """
    Bytes that wait for the client to take what came before them; 0: none do. They change as it takes some.

    What the kernel holds counts as long as it takes no more: a client has to read megabytes of that, which may last
    longer than any timeout, before a byte of ours moves. And over TLS nobody tells what the transport below holds, but
    only that is where it can be: it is empty while the kernel takes more.
    """
    left = transport.get_write_buffer_size()
    if not left and not is_tls(transport):
        return 0  # the common case
    sock = transport.get_extra_info("socket")
    try:
        return left + _queued(sock) if left or not _polled(sock, select.POLLOUT) else 0
    except (OSError, ValueError):  # it is closed, or the kernel does not tell
        return left


class Departure(enum.Enum):
    """How a client has left."""

    HALF = "it sends no more; what it has sent can be read"
    WHOLE = "the connection is broken"


def departure_of(transport: asyncio.Transport) -> Departure | None:
    """
    How the client has left, if it has; for a transport whose reading is paused.

    That tells neither FIN nor RST, for it does not look: the kernel is asked.
    """
    try:
        found = _polled(transport.get_extra_info("socket"), _POLLRDHUP)
    except (OSError, ValueError):  # it is closed
        return None
    if found & (select.POLLERR | select.POLLNVAL):
        return Departure.WHOLE
    return Departure.HALF if found else None


def _polled(sock: socket.socket, events: int) -> int:
    """Which of these events have come about; errors always count."""
    poll = select.poll()
    poll.register(sock.fileno(), events)
    return next((found for _, found in poll.poll(0)), 0)


def _queued(sock: socket.socket) -> int:
    """Bytes that the kernel holds until the peer has acknowledged them."""
    if sys.platform == "darwin":
        return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
    return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
