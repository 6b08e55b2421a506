"""
The servers: who is compared, how each is installed, started and stopped.

Rule 1: a peer is a row of `PEERS`: how to ask its version, and the command that serves a workload. A workload is a name
        that every server script takes as its argument.
Rule 2: a server binds to 127.0.0.1, prints `LISTENING <port>`, and is ended by its own pid whatever happens.
Rule 3: a peer that cannot be had is named, with the reason, and left out.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from benchmarks.machine import ROOT, BenchmarkError, pinned


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


__all__ = ["PEERS", "Peer", "Server", "find", "running"]

SCRIPTS: Final = ROOT / "benchmarks" / "peers"
INSTALLED: Final = ROOT / "benchmarks" / ".peers"
MODULES: Final = INSTALLED / "node_modules"

START_TIMEOUT: Final = 20  # seconds until a server must listen
STOP_TIMEOUT: Final = 5  # seconds between SIGTERM and SIGKILL


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare, found and ready to start."""

    name: str
    version: str
    command: tuple[str, ...]  # the workload's name comes in the place of WORKLOAD

    def serve(self, workload: str) -> list[str]:
        return [workload if word == WORKLOAD else word for word in self.command]


@dataclass(frozen=True, slots=True)
class Server:
    """One server that runs."""

    pid: int
    port: int


WORKLOAD: Final = "{workload}"


# Finding


def find(name: str, python: str) -> Peer:
    """
    The peer of this name, installed if need be. `python` is the interpreter for the peers written in Python.

    Raises BenchmarkError with the reason when it cannot be had.
    """
    return PEERS[name](python)


def _bunws(python: str) -> Peer:
    question = (
        "import importlib.metadata\n"
        "import bunws, bunws.topics\n"
        "kind = 'pure' if bunws.topics.__file__.endswith('.py') else 'compiled'\n"
        "try: version = importlib.metadata.version('bunws')\n"
        "except importlib.metadata.PackageNotFoundError: version = 'checkout'\n"
        "bunws.serve\n"
        "print(version, kind)\n"
    )
    asked = subprocess.run([python, "-c", question], cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        reason = asked.stderr.strip().rpartition("\n")[2]
        raise BenchmarkError(f"{python} cannot import it: {reason}")
    command = (python, "-m", "benchmarks.peers.chat_bunws", WORKLOAD)
    return Peer("bunws", asked.stdout.strip(), command)


def _bun(_python: str) -> Peer:
    _install()
    machine = {"x86_64": "x64", "AMD64": "x64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    package = f"@oven/bun-{sys.platform}-{machine}"
    program = MODULES / package / "bin" / "bun"
    if not program.exists():
        raise BenchmarkError(f"npm has no {package} for this machine")
    return Peer("bun", _version(package), (str(program), str(SCRIPTS / "chat_bun.js"), WORKLOAD))


def _ws(_python: str) -> Peer:
    _install()
    node = shutil.which("node")
    if node is None:
        raise BenchmarkError("there is no `node` in PATH")
    if not (MODULES / "ws").exists():
        raise BenchmarkError("npm did not install it")
    node_version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
    # ws's README: bufferutil does the masking in C; ws finds it by itself.
    extra = "bufferutil" if (MODULES / "bufferutil").exists() else "without bufferutil"
    version = f"{_version('ws')} {extra}, Node {node_version.stdout.strip().removeprefix('v')}"
    return Peer("ws", version, (node, str(SCRIPTS / "chat_ws.mjs"), WORKLOAD, str(MODULES)))


# Every peer, in the order of the tables.
PEERS: Final[Mapping[str, Callable[[str], Peer]]] = {"bunws": _bunws, "bun": _bun, "ws": _ws}


def _version(package: str) -> str:
    facts: dict[str, str] = json.loads((MODULES / package / "package.json").read_text())
    return facts["version"]


def _install() -> None:
    """Install the peers from npm, once for each content of peers/package.json."""
    wanted = (SCRIPTS / "package.json").read_text()
    stamp = INSTALLED / "installed.json"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise BenchmarkError("there is no `npm` in PATH to install it with")
    print(f"installing Bun and ws from npm into {INSTALLED.relative_to(ROOT)}, once", file=sys.stderr)
    INSTALLED.mkdir(exist_ok=True)
    (INSTALLED / "package.json").write_text(wanted)
    done = subprocess.run(
        [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"],
        cwd=INSTALLED,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchmarkError(f"npm could not install it:\n{done.stderr.strip()}")
    stamp.write_text(wanted)


# Running


@contextlib.contextmanager
def running(peer: Peer, workload: str, *, core: int | None) -> Iterator[Server]:
    """
    A server of `peer` that listens, inside this block.

    Raises BenchmarkError when it does not listen in time; with what it said on stderr.
    """
    with tempfile.TemporaryFile("w+") as complaints:
        with pinned(core):
            process = subprocess.Popen(
                peer.serve(workload),
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                start_new_session=True,  # Ctrl-C is for us; we end it below, by its pid
            )
        try:
            yield Server(process.pid, _listening_port(process, peer, complaints))
        except BenchmarkError as error:
            said = _tail(complaints)
            raise BenchmarkError(f"{error}{said and f'; {peer.name} said: {said}'}") from None
        finally:
            _stop(process)


def _listening_port(process: subprocess.Popen[bytes], peer: Peer, complaints: IO[str]) -> int:
    assert process.stdout is not None
    deadline = time.monotonic() + START_TIMEOUT
    said = b""
    while not said.endswith(b"\n"):
        left = deadline - time.monotonic()
        ready = left > 0 and select.select([process.stdout], [], [], left)[0]
        more = os.read(process.stdout.fileno(), 4096) if ready else b""
        if not more:
            raise BenchmarkError(f"{peer.name} does not listen")
        said += more
    word, _, port = said.decode().strip().partition(" ")
    if word != "LISTENING":
        raise BenchmarkError(f"{peer.name} printed {said!r} instead of its port")
    return int(port)


def _tail(complaints: IO[str]) -> str:
    complaints.seek(0)
    return "\n".join(complaints.read().strip().splitlines()[-15:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
