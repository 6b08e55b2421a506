"""
Soak: hours of everything at once, and then: is all as it was?

Rule: clients come in waves. When the last of a wave has gone, the server has as many descriptors, tasks, topics,
connections and feeds as before the first, exactly; and its memory stays within a bound of what it was after warming up.
"""

from __future__ import annotations
