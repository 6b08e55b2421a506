"""
Harness: one target under libFuzzer; run by `python -m fuzz`, in a process of its own.

Rule: the rooms of bunws are instrumented, and what is made to judge them is not.
"""

from __future__ import annotations

import sys
from typing import Any

import atheris  # type: ignore[import-not-found, unused-ignore]  # it has no wheel for every Python


__all__ = ["main"]


def main() -> None:
    """The first argument is the name of a target, the rest are libFuzzer's."""
    with atheris.instrument_imports(include=["bunws", "multipart"]):
        from .targets import TARGETS
    name = sys.argv.pop(1)
    setup: Any = atheris.Setup  # Any: where atheris is missing, mypy takes it for that anyway
    setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
