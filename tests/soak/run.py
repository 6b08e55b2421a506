"""
Run: waves of clients against a server in a child process, what is measured between them, and the verdict.

Rule: the verdict counts, and takes no time: a slow machine makes fewer waves, not other results.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from .mix import Facts, Mix, ask


__all__ = ["MEMORY_BOUND", "WARM_UP", "Sample", "soak", "verdict"]

#: Waves until all caches and buffers have the size that they keep.
WARM_UP: Final = 20

#: Bytes that the resident memory may be above what it was after warming up. One wave moves it by a few MiB up and
#: down, as the allocator pleases.
MEMORY_BOUND: Final = 16 * 1024 * 1024

_ROOT: Final = Path(__file__).parent.parent.parent


class Sample(NamedTuple):
    """What was measured when the last client of a wave had gone."""

    seconds: float  # since the beginning
    facts: Facts
    messages: int  # since the sample before
    answers: int
    elapsed: float  # seconds since the sample before


@contextlib.contextmanager
def _server() -> Iterator[int]:
    """Its port."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.soak.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=_ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
    assert process.returncode == 0, f"the server ended with {process.returncode}"


def soak(
    go_on: Callable[[int], bool],
    *,
    clients: int = 40,
    rest: float = 0.0,
    seed: int = 0,
    tell: Callable[[Sample], None] = lambda sample: None,
) -> list[Sample]:
    """
    Send waves of clients as long as `go_on`, which is told how many there were, says so. Returns a sample for before
    the first and behind each; the last is of a wave that left something behind, if one did.

    rest: seconds between two waves.
    """
    with _server() as port:
        return asyncio.run(_waves(port, go_on, clients, rest, seed, tell))


async def _waves(
    port: int, go_on: Callable[[int], bool], clients: int, rest: float, seed: int, tell: Callable[[Sample], None]
) -> list[Sample]:
    mix = Mix(port, seed)
    began = last = time.monotonic()
    first = await ask(port)
    samples = [Sample(0.0, first, 0, 0, 0.0)]
    messages = answers = 0
    while go_on(len(samples) - 1):
        async with asyncio.timeout(120):  # a wave that hangs
            await mix.wave(clients)
        facts = await _at_rest(port, first)
        now = time.monotonic()
        samples.append(Sample(now - began, facts, mix.messages - messages, mix.answers - answers, now - last))
        messages, answers, last = mix.messages, mix.answers, now
        tell(samples[-1])
        if facts.held != first.held:
            break
        await asyncio.sleep(rest)
    return samples


async def _at_rest(port: int, first: Facts) -> Facts:
    """What it holds when it holds as much as in the beginning; or in the end, where it never does."""
    for _ in range(500):
        facts = await ask(port)
        if facts.held == first.held:
            break
        await asyncio.sleep(0.01)  # connections that were closed on one side end on the other
    return facts


def verdict(samples: list[Sample]) -> list[str]:
    """What is not as it was; empty: nothing."""
    first = samples[0].facts
    complaints = [
        f"wave {number}: {name} were {first.held[name]} and are {sample.facts.held[name]}"
        for number, sample in enumerate(samples)
        for name in first.held
        if sample.facts.held[name] != first.held[name]
    ]
    if len(samples) > WARM_UP + 1:
        warm, last = samples[WARM_UP].facts.memory, min(sample.facts.memory for sample in samples[-3:])
        if last > warm + MEMORY_BOUND:
            complaints.append(f"memory was {warm:,} bytes when warm, and is {last:,}")
    return complaints
