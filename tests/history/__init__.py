"""
Histories: what many clients did and saw, held against a promise that was written down before (as Jepsen does it).

Rule: `promise` says what is promised, and judges; `clients` makes a history with a real server. It knows no server.
"""

from __future__ import annotations
