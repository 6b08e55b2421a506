"""
Install: the peers, from npm and PyPI, into benchmarks/.peers.

Rule 1: exact versions only: peers/package.json for npm, and the requirements that `python` is given.
Rule 2: what cannot be installed raises BenchmarkError with the reason, told without addresses or paths of this machine.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from benchmarks.machine import ROOT, BenchmarkError


__all__ = ["MODULES", "SCRIPTS", "node", "node_version", "npm_version", "platform_package", "python", "without_places"]

SCRIPTS: Final = ROOT / "benchmarks" / "peers"
INSTALLED: Final = ROOT / "benchmarks" / ".peers"
MODULES: Final = INSTALLED / "node_modules"

# Seconds that npm or pip may take.
TIMEOUT: Final = 600


# npm


def npm_version(package: str) -> str:
    """The version of an npm package, installed if need be. Raises BenchmarkError when it cannot be had."""
    _npm_install()
    facts = MODULES / package / "package.json"
    if not facts.exists():
        raise BenchmarkError(f"npm has no {package} for this machine")
    version: str = json.loads(facts.read_text())["version"]
    return version


def node() -> str:
    """The `node` in PATH. Raises BenchmarkError without one."""
    program = shutil.which("node")
    if program is None:
        raise BenchmarkError("there is no `node` in PATH")
    return program


def node_version() -> str:
    """As `node --version` has it, without the v."""
    done = subprocess.run([node(), "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("v")


def platform_package(pattern: str) -> str:
    """The name of a package that npm has once per machine: `{system}` and `{machine}` filled in as npm's names do."""
    machine = {"x86_64": "x64", "AMD64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return pattern.format(system=sys.platform, machine=machine)


def _npm_install() -> None:
    """Once for each content of peers/package.json."""
    wanted = (SCRIPTS / "package.json").read_text()
    stamp = INSTALLED / "installed.json"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise BenchmarkError("there is no `npm` in PATH to install it with")
    _say("installing Bun, Deno and ws from npm, once")
    INSTALLED.mkdir(exist_ok=True)
    (INSTALLED / "package.json").write_text(wanted)
    _run([npm, "install", "--no-package-lock", "--no-audit", "--no-fund"], "npm could not install it")
    stamp.write_text(wanted)


# PyPI


def python(interpreter: str, requirements: tuple[str, ...]) -> str:
    """
    An interpreter that has these requirements ("name==version"): that of a virtual environment of `interpreter`.

    Raises BenchmarkError when one cannot be installed.
    """
    place = INSTALLED / f"python-{_tag(interpreter)}"
    program = place / "bin" / "python"
    if not program.exists():
        _say(f"making {place.relative_to(ROOT)}, once")
        _run([interpreter, "-m", "venv", str(place)], "its virtual environment could not be made")
    installed = place / "installed.txt"
    have = set(installed.read_text().split()) if installed.exists() else set()
    missing = [requirement for requirement in requirements if requirement not in have]
    if missing:
        _say(f"installing {' '.join(missing)} from PyPI, once")
        pip = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, *missing], "pip could not install it")
        installed.write_text("\n".join(sorted(have | set(missing))) + "\n")
    return str(program)


def _tag(interpreter: str) -> str:
    question = "import sys; print(f'{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}')"
    return subprocess.run([interpreter, "-c", question], capture_output=True, text=True, check=True).stdout.strip()


# Both


def without_places(text: str) -> str:
    """`text` without addresses and absolute paths: a results page tells what failed, not where."""
    text = re.sub(r"\w+://\S+", "…", text)
    text = text.replace(f"{ROOT}/", "").replace(str(Path.home()), "~")
    return re.sub(r"(?<![\w.~])/(?:[\w.+-]+/)+", "", text)


def _run(command: list[str], failure: str) -> None:
    INSTALLED.mkdir(exist_ok=True)
    try:
        done = subprocess.run(
            command,
            cwd=INSTALLED,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise BenchmarkError(f"{failure} in {TIMEOUT} s") from None
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if re.match(r"(ERROR|error|npm err)", line, re.IGNORECASE)]
        reason = lines[-1] if lines else done.stderr.strip().rpartition("\n")[2]
        raise BenchmarkError(f"{failure}: {without_places(reason)}")


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
