"""
The servers: who is compared, how each is started and stopped.

Rule 1: a peer is a row of `PEERS`: its version, and the command, which takes the name of what is to be served.
Rule 2: a server binds to 127.0.0.1, prints `LISTENING <port>`, and is ended by its own pid whatever happens.
Rule 3: a peer that cannot be had is named, with the reason, and left out.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

from benchmarks import install, load
from benchmarks.install import MODULES, SCRIPTS
from benchmarks.machine import ROOT, BenchmarkError, pinned


if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


__all__ = ["PEERS", "SERVES", "Peer", "Server", "find", "running"]

START_TIMEOUT: Final = 30  # seconds until a server must listen
STOP_TIMEOUT: Final = 5  # seconds between SIGTERM and SIGKILL

SERVED: Final = "{served}"

# uvloop for everybody who runs on asyncio, in the version that bunws gets.
UVLOOP: Final = "uvloop==0.23.0"

# JSON for those whose framework leaves the choice: bunws (by its extra `bench`) and uvicorn.
ORJSON: Final = "orjson==3.13.0"

# What there is to serve.
SOCKETS: Final = frozenset({"chat", "rooms", "bun-chat", "echo"})
HTTP: Final = frozenset({"http", "file"})

# Who serves what.
SERVES: Final[Mapping[str, frozenset[str]]] = {
    "bunws": SOCKETS | HTTP | {"deflate"},
    "bun": SOCKETS | HTTP | {"deflate"},
    "deno": SOCKETS | HTTP,
    "ws": SOCKETS | {"deflate"},
    "node": HTTP,
    "socketify": frozenset({"bun-chat", "echo"}),  # its publish() reaches the sender as well
    "picows": SOCKETS,
    "websockets": SOCKETS,
    "aiohttp": SOCKETS,
    "uvicorn": SOCKETS | HTTP,
    "floor": frozenset({"chat", "echo"}),
}


@dataclass(frozen=True, slots=True)
class Peer:
    """One server to compare, found and ready to start."""

    name: str
    version: str
    command: tuple[str, ...]  # the name of what is served comes in the place of SERVED

    def serve(self, served: str) -> list[str]:
        return [served if word == SERVED else word for word in self.command]


@dataclass(frozen=True, slots=True)
class Server:
    """One server that runs."""

    pid: int
    port: int


# Finding


def find(name: str, python: str) -> Peer:
    """
    The peer of this name, installed if need be. `python` is the interpreter for the peers written in Python.

    Raises BenchmarkError with the reason when it cannot be had.
    """
    return PEERS[name](python)


def _bunws(python: str) -> Peer:
    question = (
        "import importlib.metadata, platform\n"
        "import bunws, bunws.topics\n"
        "kind = 'pure' if bunws.topics.__file__.endswith('.py') else 'compiled'\n"
        "try: version = importlib.metadata.version('bunws')\n"
        "except importlib.metadata.PackageNotFoundError: version = 'checkout'\n"
        "bunws.serve\n"
        "print(version, kind, platform.python_implementation(), platform.python_version())\n"
    )
    asked = subprocess.run([python, "-c", question], cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode != 0:
        reason = asked.stderr.strip().rpartition("\n")[2]
        raise BenchmarkError(f"the interpreter cannot import it: {reason}")
    return Peer("bunws", asked.stdout.strip(), (python, "-m", "benchmarks.peers.bunws_server", SERVED))


def _bun(_python: str) -> Peer:
    package = install.platform_package("@oven/bun-{system}-{machine}").replace("arm64", "aarch64")
    version = install.npm_version(package)
    return Peer("bun", version, (str(MODULES / package / "bin" / "bun"), str(SCRIPTS / "bun_server.js"), SERVED))


def _deno(_python: str) -> Peer:
    version = install.npm_version("deno")
    package = install.platform_package("@deno/{system}-{machine}" + ("-glibc" if sys.platform == "linux" else ""))
    install.npm_version(package)  # npm takes the one that fits the machine
    command = (str(MODULES / package / "deno"), "run", "--allow-net", "--allow-read", "--quiet", "--no-config")
    return Peer("deno", version, (*command, str(SCRIPTS / "deno_server.js"), SERVED))


def _ws(_python: str) -> Peer:
    # ws's README: bufferutil does the masking in C; ws finds it by itself.
    install.npm_version("ws")
    extra = "bufferutil" if (MODULES / "bufferutil").exists() else "without bufferutil"
    version = f"{install.npm_version('ws')} {extra}, Node {install.node_version()}"
    return Peer("ws", version, (install.node(), str(SCRIPTS / "ws_server.mjs"), SERVED, str(MODULES)))


def _node(_python: str) -> Peer:
    return Peer(
        "node", f"node:http {install.node_version()}", (install.node(), str(SCRIPTS / "node_server.mjs"), SERVED)
    )


def _from_pypi(name: str, *requirements: str) -> Callable[[str], Peer]:
    """A peer whose server is peers/<name>_server.py; the first requirement is the peer itself."""

    def find(python: str) -> Peer:
        program = install.python(python, requirements)
        version = requirements[0].partition("==")[2]
        beside = ", ".join(requirement.replace("==", " ") for requirement in requirements[1:])
        version = f"{version}, {beside}" if beside else version
        return Peer(name, version, (program, "-m", f"benchmarks.peers.{name}_server", SERVED))

    return find


def _floor(_python: str) -> Peer:
    if sys.platform != "linux":
        raise BenchmarkError("floor.c needs epoll")
    return Peer("floor", "C, writes only", (str(load.compiled("floor")), SERVED))


# Every peer, in the order of the tables.
PEERS: Final[Mapping[str, Callable[[str], Peer]]] = {
    "bunws": _bunws,
    "bun": _bun,
    "deno": _deno,
    "ws": _ws,
    "node": _node,
    "socketify": _from_pypi("socketify", "socketify==0.0.31"),
    "picows": _from_pypi("picows", "picows==2.3.1", UVLOOP),
    "websockets": _from_pypi("websockets", "websockets==17.4", UVLOOP),
    "aiohttp": _from_pypi("aiohttp", "aiohttp==3.14.5", UVLOOP),
    "uvicorn": _from_pypi(
        "uvicorn",
        *("uvicorn==0.54.0", "starlette==1.10.0", "httptools==0.9.0", "websockets==17.4", ORJSON, UVLOOP),
    ),
    "floor": _floor,
}


# Running


@contextlib.contextmanager
def running(peer: Peer, served: str, *, core: int | None) -> Iterator[Server]:
    """
    A server of `peer` that listens, inside this block.

    Raises BenchmarkError when it does not listen in time; with what it said on stderr.
    """
    with tempfile.TemporaryFile("w+") as complaints:
        with pinned(core):
            process = subprocess.Popen(
                peer.serve(served),
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
            raise BenchmarkError(f"{error}{said and f'; it said: {said}'}") from None
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
            raise BenchmarkError("it does not listen")
        said += more
    word, _, port = said.decode().strip().rpartition("\n")[2].partition(" ")
    if word != "LISTENING":
        raise BenchmarkError(f"{peer.name} printed {said!r} instead of its port")
    return int(port)


def _tail(complaints: IO[str]) -> str:
    complaints.seek(0)
    return install.without_places(complaints.read().strip().rpartition("\n")[2])


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
