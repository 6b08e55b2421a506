"""
Descriptor: a write without the transport in between.

Rule: only while the transport has nothing left, and until its connection is lost or the loop is closed (of which uvloop
tells nobody). Later the number may be another file's.

descriptor.pxd has the same for the compiled rooms, as a C function.
"""

from __future__ import annotations

import os


__all__ = ["write"]


def write(descriptor: int, data: bytes) -> int:
    """How many of these bytes the kernel takes at once. 0 may also be an error, which the transport will meet."""
    if descriptor < 0:
        return 0
    try:
        return os.write(descriptor, data)
    except OSError:
        return 0
