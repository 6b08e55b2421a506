"""
Pure: BUNWS_PURE=1 runs every room as the Python that it is written in, also where some of them were compiled.

Rule: this is imported before any other room, for it decides in which form the others are found.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, SourceFileLoader
from typing import Final


__all__ = ["FOLDERS", "is_asked_for", "prefer_source"]

(_here,) = sys.modules[__package__].__path__

#: Where rooms are, in the spelling of their packages' `__path__`.
FOLDERS: Final = (_here, os.path.join(_here, "http"))


def is_asked_for() -> bool:
    """Whether the environment asks for plain Python."""
    return os.environ.get("BUNWS_PURE", "") not in ("", "0")


def prefer_source() -> None:
    """Have modules of bunws that are imported from now on found as source only."""
    for folder in FOLDERS:
        sys.path_importer_cache[folder] = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES))


if is_asked_for():
    prefer_source()
