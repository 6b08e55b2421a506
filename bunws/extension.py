"""Extension: the first base of an extension type that has a class for another; the first may not be a class."""

from __future__ import annotations


__all__ = ["Extension"]


class Extension:
    """Nothing."""

    __slots__ = ()
