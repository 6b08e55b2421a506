"""
Address: where a peer is.

Rule: an IPv4 peer of a socket for both families is shown as IPv4, not as ::ffff:192.0.2.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self


if TYPE_CHECKING:
    import asyncio


__all__ = ["SocketAddress"]


class SocketAddress(NamedTuple):
    """Where a request came from."""

    address: str
    family: str
    port: int

    @classmethod
    def of_peer(cls, transport: asyncio.BaseTransport) -> Self | None:
        """The peer of a transport; None on a Unix socket."""
        peer = transport.get_extra_info("peername")
        if not isinstance(peer, tuple):
            return None
        address = peer[0].removeprefix("::ffff:") if "." in peer[0] else peer[0]
        return cls(address, "IPv6" if ":" in address else "IPv4", peer[1])
