"""The map in ARCHITECTURE.md, compared with the imports."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT


PACKAGE = ROOT / "bunws"
TEXT = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")

# What may only be imported in one room.
ONE_ROOM = {"picows": "engine", "httptools": "http.wire", "multipart": "http.form", "uvloop": "thread"}


def read_layers() -> list[list[str]]:
    """
    The rooms of each line of the map, from top to bottom.

    It is the first fenced block below "## The rooms". Two spaces or more stand between the names of rooms, and between
    these and the words that describe them.
    """
    section = TEXT.partition("\n## The rooms\n")[2]
    block = section.partition("```")[2].partition("```")[0]
    return [re.split(r"\s{2,}", line.strip())[:-1] for line in block.splitlines()[1:] if line.strip()]


def room(path: Path) -> str:
    """bunws/http/wire.py is http.wire, and bunws/http/__init__.py is http."""
    name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {room(path): path for path in sorted(PACKAGE.rglob("*.py"))}
LAYERS = read_layers()
LEVELS = {name: level for level, layer in enumerate(LAYERS) for name in layer}


def imports_of(name: str, *, for_types: bool = True) -> Iterator[str]:
    """The absolute names of the modules that a room imports; without `for_types`, only those of the running program."""
    path = MODULES[name]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set() if for_types else {id(node) for block in _type_checking(tree) for node in ast.walk(block)}
    package = ["bunws", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                submodule = f"{module}.{alias.name}".removeprefix("bunws.")
                yield f"bunws.{submodule}" if submodule in MODULES else module


def _type_checking(tree: ast.Module) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield node


def rooms_below(name: str) -> set[str]:
    """The rooms that a room imports."""
    names = {module.removeprefix("bunws").removeprefix(".") for module in imports_of(name) if _is_ours(module)}
    return names - {""}


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] == "bunws"


def test_every_room_is_on_the_map_once() -> None:
    assert sorted(name for layer in LAYERS for name in layer) == sorted(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_room_imports_only_rooms_on_lines_below_its_own(name: str) -> None:
    assert {other for other in rooms_below(name) if LEVELS[other] <= LEVELS[name]} == set()


def test_nobody_imports_the_package_as_a_whole() -> None:
    assert [name for name in MODULES if "bunws" in set(imports_of(name))] == []


@pytest.mark.parametrize("library", sorted(ONE_ROOM))
def test_a_library_has_one_room(library: str) -> None:
    users = {name for name in MODULES if any(module.split(".")[0] == library for module in imports_of(name))}
    assert users == {ONE_ROOM[library]}


def test_asyncio_is_imported_where_the_text_says() -> None:
    found = re.search(r"asyncio is imported in:\s*([\w.]+(?:,\s+[\w.]+)*)\.\s", TEXT)
    assert found, "ARCHITECTURE.md has no sentence 'asyncio is imported in: …'"
    users = {name for name in MODULES if "asyncio" in set(imports_of(name, for_types=False))}
    assert set(re.split(r",\s+", found[1])) == users


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_room_has_at_most_600_lines(name: str) -> None:
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= 600


def test_the_walk_sees_imports_for_types_and_those_within_functions() -> None:
    assert "asyncio" in set(imports_of("listener"))
    assert "asyncio" not in set(imports_of("listener", for_types=False))
    assert "uvloop" in set(imports_of("thread"))
