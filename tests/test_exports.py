"""The public names: they exist, say what they are, and have types that a caller can rely on."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from types import ModuleType

import pytest

import bunws
from tests.support import ROOT


MODULES = ["bunws", *sorted(module.name for module in pkgutil.walk_packages(bunws.__path__, "bunws."))]
# Public within the package only; the Protocol of whoever calls it (connection.Site, engine.Host, turn.Receiver) says
# what it is for.
INTERNAL = {
    "answer",
    "answer_error",
    "broken",
    "connection_gone",
    "connection_made",
    "date",
    "dropped",
    "engine_gone",
    "spawn",
    "stop_on_signal",
}

MEMBERS = [
    pytest.param(member, id=f"{owner.__name__}.{name}")
    for owner in (bunws.Server, bunws.ServerWebSocket, bunws.Request, bunws.Response)
    for name, member in vars(owner).items()
    if not (name.startswith("_") or name in INTERNAL)
    and (callable(member) or isinstance(member, property | classmethod))
]


@pytest.mark.parametrize("name", bunws.__all__)
def test_a_public_name_exists_and_has_a_docstring(name: str) -> None:
    value = getattr(bunws, name)
    assert value.__doc__
    assert value.__doc__.strip()


def test_a_public_name_is_listed_once() -> None:
    assert len(set(bunws.__all__)) == len(bunws.__all__)


@pytest.mark.parametrize("member", MEMBERS)
def test_a_public_member_has_a_docstring(member: object) -> None:
    assert member.__doc__
    assert member.__doc__.strip()


@pytest.mark.parametrize("module", [importlib.import_module(name) for name in MODULES], ids=MODULES)
def test_a_module_says_its_rule_and_lists_names_that_exist(module: ModuleType) -> None:
    assert module.__doc__
    assert module.__all__
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_exceptions_can_be_caught_by_the_base() -> None:
    for error in (bunws.ProtocolError, bunws.HTTPError, bunws.HandshakeError):
        assert issubclass(error, bunws.BunwsError)


def test_the_package_says_that_it_has_types() -> None:
    assert (ROOT / "bunws" / "py.typed").is_file()


def test_the_intended_use_passes_a_strict_type_check() -> None:
    path = ROOT / "tests" / "typing_api.py"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "--follow-imports=silent", str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
