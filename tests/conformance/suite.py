"""
Suite: Autobahn|Testsuite, which runs on Python 2.7 only, in an environment of its own.

Rule 1: what is installed is named here with its exact version, and comes from PyPI by name.
Rule 2: what is started ends with the block that started it, also on Ctrl-C, and by its own process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tests.conformance.results import Result, natural_order, read


__all__ = [
    "AGENT",
    "SUITE",
    "EnvironmentFailed",
    "PythonMissing",
    "ServerFailed",
    "find_python27",
    "list_cases",
    "prepare",
    "run_cases",
    "serving",
]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent

SUITE: Final = "autobahntestsuite==25.10.1"
# Later ones make no environment for Python 2.7.
VIRTUALENV: Final = "virtualenv==20.21"
ENVIRONMENT: Final = HERE / ".env"

# The name of the server in the reports.
AGENT: Final = "bunws"

# Seconds.
INSTALL_TIMEOUT: Final = 240.0  # for each of the steps
START_TIMEOUT: Final = 20.0
STOP_TIMEOUT: Final = 10.0
CASE_TIMEOUT: Final = 500.0  # the suite itself gives up a case after at most 480

# Run by the suite's interpreter.
_LIST: Final = """
import json
from autobahntestsuite.case import Cases
print(json.dumps([case.__name__[len("Case"):].replace("_", ".") for case in Cases]))
"""
# The suite would idle for ever if we were killed: no stdin, no suite.
_WSTEST: Final = """
import os, sys, threading
def wait():
    sys.stdin.read()
    os._exit(1)
waiting = threading.Thread(target=wait)
waiting.daemon = True
waiting.start()
from autobahntestsuite.wstest import run
run()
"""

# What it prints when a case begins.
_BEGINS: Final = re.compile(r"Running test case ID (\S+) ")


class PythonMissing(Exception):
    """There is no Python 2.7; no package manager offers one any more."""


class EnvironmentFailed(Exception):
    """The suite could not be installed; the text says what the installer said."""


class ServerFailed(Exception):
    """The echo server does not listen; the text says where its log is."""


# Its environment


def find_python27(environ: Mapping[str, str]) -> str:
    """The path of a Python 2.7 that works: on PATH, or one of pyenv's versions. Raises PythonMissing."""
    question = "import sys; sys.version_info[:2] == (2, 7) or sys.exit(1); print(sys.executable)"
    for candidate in _candidates(environ):
        try:
            done = subprocess.run([candidate, "-E", "-c", question], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            continue  # the next may work
        if done.returncode == 0:  # it is something else for a shim of pyenv's whose version is not chosen
            return done.stdout.strip()
    raise PythonMissing(
        "Autobahn|Testsuite runs on Python 2.7 only, and there is no working python2.7 on PATH or under pyenv's "
        "versions (PYENV_ROOT, else ~/.pyenv). `pyenv install 2.7.18` builds one."
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[Path]:
    for folder in environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder) / "python2.7"
    pyenv = Path(environ.get("PYENV_ROOT") or Path(environ.get("HOME", "~")).expanduser() / ".pyenv")
    yield from sorted(pyenv.glob("versions/2.7*/bin/python2.7"), reverse=True)


async def prepare(python27: str) -> str:
    """The interpreter of the suite's environment, which is made at the first call. Raises EnvironmentFailed."""
    virtualenv, suite = ENVIRONMENT / "virtualenv", ENVIRONMENT / "suite"
    stamp = ENVIRONMENT / "made-of"
    made_of = f"{python27}\n{VIRTUALENV}\n{SUITE}\n"
    if not stamp.is_file() or stamp.read_text() != made_of:
        print(f"installing {SUITE} into {ENVIRONMENT.relative_to(ROOT)}, once", file=sys.stderr)
        if ENVIRONMENT.exists():
            shutil.rmtree(ENVIRONMENT)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        await _install(sys.executable, "-m", "venv", str(virtualenv))
        await _install(str(virtualenv / "bin" / "python"), *pip, VIRTUALENV)
        await _install(str(virtualenv / "bin" / "python"), "-m", "virtualenv", "--python", python27, str(suite))
        await _install(str(suite / "bin" / "python"), *pip, SUITE)
        stamp.write_text(made_of)
    return str(suite / "bin" / "python")


async def _install(*command: str) -> None:
    async with _running(*command, stderr=subprocess.STDOUT) as process:
        try:
            async with asyncio.timeout(INSTALL_TIMEOUT):
                said, _ = await process.communicate()
        except TimeoutError:
            raise EnvironmentFailed(f"{' '.join(command)}: not done after {INSTALL_TIMEOUT:.0f} seconds") from None
    if process.returncode:
        end = "\n".join(said.decode(errors="replace").strip().splitlines()[-15:])
        raise EnvironmentFailed(f"{' '.join(command)}: exit code {process.returncode}\n{end}")


# What is run


async def list_cases(python: str) -> list[str]:
    """The numbers of all cases that the suite has, in order."""
    async with _running(python, "-c", _LIST) as process:
        said, _ = await process.communicate()
    if process.returncode:
        raise EnvironmentFailed(f"the suite cannot say its cases; remove {ENVIRONMENT.relative_to(ROOT)} and try again")
    return sorted(json.loads(said), key=natural_order)


@contextlib.asynccontextmanager
async def serving(pem: Path | None, log: Path) -> AsyncIterator[str]:
    """
    The echo server in a process of its own, over TLS if there is a `pem`; gives its URL.

    What it complains of goes to `log`. Raises ServerFailed when it does not listen.
    """
    command = [sys.executable, "-m", "tests.conformance.server", *(("--pem", str(pem)) if pem else ())]
    with log.open("wb") as stderr:
        async with _running(*command, stdin=subprocess.PIPE, stderr=stderr, env=os.environ) as process:
            assert process.stdout is not None
            try:
                async with asyncio.timeout(START_TIMEOUT):
                    word, _, port = (await process.stdout.readline()).decode().partition(" ")
            except TimeoutError:
                word = port = ""
            if word != "LISTENING":
                raise ServerFailed(f"the echo server does not listen; see {log}")
            yield f"{'wss' if pem else 'ws'}://127.0.0.1:{int(port)}"


async def run_cases(
    python: str, url: str, cases: Sequence[str], reports: Path, on_case: Callable[[str], None]
) -> dict[str, Result]:
    """
    Run these cases in one go against the server at `url`, and call `on_case` as each begins.

    Returns the results that there are: none if the suite stopped or had to be stopped, and none behind a case at which
    the server was gone. Everything that the suite says stays in `reports`.
    """
    spec = _write_spec(url, cases, reports)
    command = [python, "-u", "-c", _WSTEST, "--mode", "fuzzingclient", "--spec", str(spec)]
    with (reports / "wstest.log").open("w") as log:
        async with _running(*command, stdin=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            await _follow(process.stdout, log, on_case)
    return read(reports / "index.json", AGENT)


def _write_spec(url: str, cases: Sequence[str], reports: Path) -> Path:
    reports.mkdir(parents=True)
    path = reports / "spec.json"
    # There is nothing about TLS in it: the suite verifies no certificate.
    spec = {
        "outdir": str(reports),
        "servers": [{"agent": AGENT, "url": url}],
        "cases": list(cases),
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    path.write_text(json.dumps(spec))
    return path


async def _follow(stdout: asyncio.StreamReader, log: IO[str], on_case: Callable[[str], None]) -> None:
    """Read to the end, or until nothing was said for too long."""
    try:
        while True:
            async with asyncio.timeout(CASE_TIMEOUT):
                line = (await stdout.readline()).decode(errors="replace")
            if not line:
                return
            log.write(line)
            if begins := _BEGINS.match(line):
                on_case(begins[1])
    except TimeoutError:
        log.write(f"stopped: nothing was said for {CASE_TIMEOUT:.0f} seconds\n")


@contextlib.asynccontextmanager
async def _running(
    *command: str,
    stdin: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process until the end of the block; `env`: by default ours, without what would mislead another Python."""
    if env is None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=stderr,
        cwd=ROOT,
        env=env,
        limit=1 << 20,  # bytes of a line
        start_new_session=True,  # Ctrl-C is for us, who then end it
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(TimeoutError):
                _signal(process, signal.SIGTERM)
                async with asyncio.timeout(STOP_TIMEOUT):
                    await process.wait()
        if process.returncode is None:
            _signal(process, signal.SIGKILL)
            await process.wait()


def _signal(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    """Also to what it has started, such as a compiler."""
    with contextlib.suppress(ProcessLookupError):  # it has ended in this moment
        os.killpg(process.pid, signum)
