"""
Setup: which rooms are compiled. Everything else about the package is in pyproject.toml.

A room with a .pxd beside it is compiled by Cython, from the same .py that runs without it. BUNWS_PURE=1 leaves it as it
is, and so does a machine without a C compiler.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup


def extensions() -> list[Extension]:
    """One for each room that has a .pxd."""
    if os.environ.get("BUNWS_PURE", "") not in ("", "0"):
        return []
    from Cython.Build import cythonize

    rooms = [path.with_suffix(".py") for path in sorted(Path("bunws").rglob("*.pxd"))]
    compiled: list[Extension] = cythonize(
        [Extension(".".join(room.with_suffix("").parts), [str(room)], optional=True) for room in rooms],
        language_level=3,
        # Types of arguments are for readers and mypy: what a caller gets wrong is told by our own checks.
        compiler_directives={"annotation_typing": False},
    )
    return compiled


setup(ext_modules=extensions())
