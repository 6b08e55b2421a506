"""
Peers: the two servers, each in a process of its own, and the line of JSON on which they are told what to do.

Rule: every wait ends, with an error, after `PATIENCE` seconds.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final

from tests.support import PATIENCE, ROOT


__all__ = ["Peer", "bun", "bunws"]

HERE: Final = Path(__file__).parent


class Peer:
    """One of the two. A server is made for each set of options, once."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], complaints: IO[str]) -> None:
        self.name = name
        self.events: list[list[Any]] = []  # what the handlers were called with, in order; whoever reads, removes
        self._process = process
        self._complaints = complaints
        self._ports: dict[str, int] = {}
        self._ids = itertools.count()
        self._unread = b""

    def port(self, options: Mapping[str, object], *, own: bool = False) -> int:
        """Where it serves with these options, in Bun's words; `own`: a server that nobody else is given."""
        key = json.dumps(options)
        if own or key not in self._ports:
            port = self._ask("serve", options)
            assert isinstance(port, int), (self.name, options, port)
            if own:
                return port
            self._ports[key] = port
        return self._ports[key]

    def accepts(self, options: Mapping[str, object]) -> bool:
        """Whether it serves with these options at all."""
        return isinstance(self._ask("serve", options), int)

    def do(self, port: int, calls: Sequence[object]) -> list[Any]:
        """Make these calls in one turn of its event loop. Returns their answers."""
        answers = self._ask("do", port, calls)
        assert isinstance(answers, list), (self.name, calls, answers)
        return answers

    def wait_for(self, name: str, kind: str, times: int = 1) -> None:
        """Wait until the handler of this kind was called so often for the socket of this name."""
        deadline = time.monotonic() + PATIENCE
        while sum(event[:2] == [name, kind] for event in self.events) < times:
            self._read(deadline)

    def _ask(self, command: str, *args: object) -> Any:
        identity = next(self._ids)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, identity, *args]).encode() + b"\n")
        self._process.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while (fact := self._read(deadline)).get("id") != identity:
            pass
        return fact["answer"]

    def _read(self, deadline: float) -> dict[str, Any]:
        """The next fact; the events among them are kept as well."""
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            ready = left > 0 and select.select([self._process.stdout], [], [], left)[0]
            data = os.read(self._process.stdout.fileno(), 65_536) if ready else b""
            if not data:
                self._complaints.seek(0)
                raise AssertionError(f"{self.name} says nothing more, but: {self._complaints.read()[-2000:]}")
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        fact: dict[str, Any] = json.loads(line)
        if "event" in fact:
            self.events.append(fact["event"])
        return fact


def bun(program: Path) -> AbstractContextManager[Peer]:
    """Bun, inside this block; `program` is its binary."""
    return _running("Bun", str(program), str(HERE / "server.js"))


def bunws() -> AbstractContextManager[Peer]:
    """bunws, inside this block."""
    return _running("bunws", sys.executable, "-m", "tests.against_bun.server")


@contextmanager
def _running(name: str, *command: str) -> Iterator[Peer]:
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints
        ) as process,
    ):
        assert process.stdin is not None
        try:
            yield Peer(name, process, complaints)
        finally:
            process.stdin.close()  # the end of its commands is its end
            try:
                process.wait(PATIENCE)
            finally:
                process.kill()
