"""
Setup: which rooms are compiled. Everything else about the package is in pyproject.toml.

A room with a .pxd beside it is compiled by Cython, from the same .py that runs without it. BUNWS_PURE=1 leaves all of
them as they are, and so does a machine without a C compiler; some alone would not fit the others. INLINE rooms are not
compiled: their .pxd holds what their callers get in their place.
"""

from __future__ import annotations

import os
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CompileError, LinkError


INLINE = {"descriptor"}


def extensions() -> list[Extension]:
    """One for each room that has a .pxd."""
    if os.environ.get("BUNWS_PURE", "") not in ("", "0"):
        return []
    from Cython.Build import cythonize

    rooms = [path.with_suffix(".py") for path in sorted(Path("bunws").rglob("*.pxd")) if path.stem not in INLINE]
    compiled: list[Extension] = cythonize(
        [Extension(".".join(room.with_suffix("").parts), [str(room)]) for room in rooms],
        language_level=3,
        build_dir="build/cython",
        compiler_directives={
            # Types of arguments are for readers and mypy: what a caller gets wrong is told by our own checks.
            "annotation_typing": False,
            # An AttributeError, and no segmentation fault, in what somebody has made without its __init__.
            "nonecheck": True,
        },
    )
    return compiled


class BuildAllOrNone(build_ext):
    """Compile every room, or else none."""

    def run(self) -> None:
        try:
            super().run()
        except (BaseError, CompileError, LinkError) as error:  # of newer setuptools these two are none of the first
            self.warn(f"bunws runs as plain Python, since it could not be compiled: {error}")
            for output in (*self.get_outputs(), *self.get_output_mapping().values()):
                Path(output).unlink(missing_ok=True)
            self.extensions = []


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildAllOrNone})
