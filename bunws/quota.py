"""
Quota: how many connections each address has.

Rule: of IPv6 the first 64 bits count as one address, for that is what a single customer is given (RFC 6177, 2).
"""

from __future__ import annotations

from ipaddress import IPv6Address


__all__ = ["Quota"]


class Quota:
    """At most so many of each address."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: dict[object, str] = {}  # whose place is counted for which address
        self._counts: dict[str, int] = {}

    def take(self, guest: object, address: str) -> bool:
        """A place for a guest; False: all of its address are taken."""
        place = _network(address)
        count = self._counts.get(place, 0)
        if count >= self._most:
            return False
        self._counts[place] = count + 1
        self._places[guest] = place
        return True

    def pass_on(self, guest: object, heir: object) -> None:
        """The place of one guest, if it has one, is another's from now on."""
        place = self._places.pop(guest, None)
        if place is not None:
            self._places[heir] = place

    def give_back(self, guest: object) -> None:
        """The guest is gone; it need not have had a place."""
        place = self._places.pop(guest, None)
        if place is None:
            return
        self._counts[place] -= 1
        if not self._counts[place]:
            del self._counts[place]

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self._places)


def _network(address: str) -> str:
    if ":" not in address:
        return address
    return IPv6Address(address.partition("%")[0]).exploded[:19]
