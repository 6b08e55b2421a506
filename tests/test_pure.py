"""Pure: which form of the rooms is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import bunws
from bunws import pure
from tests.support import COMPILED, ROOT


ROOMS = sorted(Path(bunws.__file__).parent.rglob("*.pxd"))
INLINE = {"descriptor"}  # as in setup.py: its .pxd goes into its callers


def files_of_rooms(asked: str) -> list[str]:
    """Where an interpreter with BUNWS_PURE in its environment finds the rooms that have a .pxd."""
    names = [".".join(room.relative_to(ROOT).with_suffix("").parts) for room in ROOMS]
    script = f"import bunws, importlib\nfor n in {names}: print(importlib.import_module(n).__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "BUNWS_PURE": asked},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_who_asks_for_plain_python_gets_it() -> None:
    assert files_of_rooms("1") == [str(room.with_suffix(".py")) for room in ROOMS]


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled here, or it was asked for plain Python")
@pytest.mark.parametrize("asked", ["", "0"])
def test_else_what_was_compiled_is_loaded(asked: str) -> None:
    plain = [Path(file) for file in files_of_rooms(asked) if not file.endswith(tuple(EXTENSION_SUFFIXES))]
    assert {file.stem for file in plain} == INLINE


def test_every_folder_with_rooms_is_looked_at() -> None:
    assert {str(room.parent) for room in ROOMS} <= set(pure.FOLDERS)


def test_every_types_file_has_its_room_beside_it() -> None:
    assert [room for room in ROOMS if not room.with_suffix(".py").exists()] == []
