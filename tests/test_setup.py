"""Setup: every room with a .pxd is compiled, or else none; what cannot be compiled is installed all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.support import ROOT


pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package of two rooms that are to be compiled, and bunws's own setup.py."""
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "rooms"\nversion = "1"\n')
    package = tmp_path / "bunws"
    package.mkdir()
    (package / "__init__.py").touch()
    for room in ("one", "two"):
        (package / f"{room}.py").write_text("def double(number):\n    return 2 * number\n")
        (package / f"{room}.pxd").write_text("cpdef int double(int number)\n")
    return tmp_path


def build(project: Path, *arguments: str, **environment: str) -> list[str]:
    """The rooms that were compiled, in the end."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("BUNWS_PURE", "CC")}
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", *(arguments or ("build",))],
        cwd=project,
        env={**inherited, **environment},
        check=True,
        capture_output=True,
    )
    return sorted(found.name.partition(".")[0] for found in project.rglob("*" + EXTENSION_SUFFIXES[0]))


INPLACE = ("build_ext", "--inplace")


@pytest.mark.parametrize("arguments", [(), INPLACE], ids=["for a wheel", "in place"])
def test_every_room_with_types_is_compiled(project: Path, arguments: tuple[str, ...]) -> None:
    assert set(build(project, *arguments)) == {"one", "two"}


@pytest.mark.parametrize("arguments", [(), INPLACE], ids=["for a wheel", "in place"])
def test_without_a_working_compiler_none_is_and_nothing_fails(project: Path, arguments: tuple[str, ...]) -> None:
    assert build(project, *arguments, CC="/bin/false") == []


def test_one_that_cannot_be_compiled_keeps_the_others_from_it(project: Path) -> None:
    (project / "bunws" / "two.pxd").write_text(
        'cdef extern from "there_is_no_such_header.h":\n    pass\ncpdef int double(int number)\n'
    )
    assert build(project) == []


def test_who_asks_for_plain_python_gets_it(project: Path) -> None:
    assert build(project, BUNWS_PURE="1") == []
