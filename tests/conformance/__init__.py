"""Conformance: bunws before Autobahn|Testsuite. `python -m tests.conformance` runs it; README.md tells the rest."""

from __future__ import annotations
