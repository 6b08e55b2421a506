"""
The library, the level and the thresholds of bunws/deflate.py, measured.

    pytest benchmarks/test_micro_deflate.py --benchmark-enable --benchmark-disable-gc -p no:randomly -s

Rule: what is timed is one message deflated (or inflated): what a publish costs once, and a dedicated socket each time.
No message comes twice within 32 KiB, for a dedicated stream would find it whole. `-s` shows the bytes that come out.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import pytest
from zlib_ng import zlib_ng

from bunws.compress import DeflateOptions, DeflateParams
from bunws.deflate import Deflaters, Inflater


if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


COMMON: Final = (
    "the a room hello what where is bun python meaning of life fast server socket message to for and you me it that "
    "was on are as with his they at be this from have or by one had not but all were when we there can an your which"
)
WORDS: Final = COMMON.split()


def chat(size: int, chance: random.Random) -> bytes:
    """A line as people write it, of `size` bytes."""
    return ("ann: " + " ".join(chance.choices(WORDS, k=size // 3 + 2)))[:size].encode()


def record(size: int, chance: random.Random) -> bytes:
    """The JSON that a chat server sends, of `size` bytes: one long message, or as many short ones as it takes."""

    def message(words: int) -> dict[str, object]:
        return {
            "user": chance.choice(["ann", "bob", "cyd"]),
            "at": 1_700_000_000 + chance.randrange(1_000_000),
            "text": " ".join(chance.choices(WORDS, k=words)),
        }

    if size < 512:
        return json.dumps(message(size // 3)).encode()[:size]
    return json.dumps([message(8) for _ in range(size // 60)]).encode()[:size]


def corpus(make: Callable[[int, random.Random], bytes], size: int) -> list[bytes]:
    chance = random.Random(7692)
    return [make(size, chance) for _ in range(max(1, 48 * 1024 // size))]


CORPORA: Final = {
    "chat line of 48 bytes": corpus(chat, 48),
    "JSON of 1 KB": corpus(record, 1024),
    "JSON of 200 KB": corpus(record, 200_000),
}


class Stream(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int, /) -> bytes: ...


def start(library: str, level: int, window_bits: int = 15, mem_level: int = 8) -> Stream:
    if library == "isal":
        isal_zlib = pytest.importorskip("isal.isal_zlib")
        stream: Stream = isal_zlib.compressobj(level, isal_zlib.DEFLATED, -window_bits, mem_level)
        return stream
    if library == "zlib":
        return zlib.compressobj(level, zlib.DEFLATED, -window_bits, mem_level)
    return zlib_ng.compressobj(level, zlib.DEFLATED, -window_bits, mem_level)


def measure(benchmark: BenchmarkFixture, messages: Sequence[bytes], deflate: Callable[[bytes], bytes | None]) -> None:
    """Time one message, averaged over all of `messages`; note the mean size of what comes out."""
    sizes = [len(deflate(message) or message) for message in messages]
    benchmark.extra_info["bytes"] = round(sum(sizes) / len(sizes))

    def all_of_them() -> None:
        for message in messages:
            deflate(message)

    benchmark.pedantic(all_of_them, rounds=15, warmup_rounds=2)  # type: ignore[no-untyped-call]  # it has no types
    if benchmark.stats is None:  # the suite runs each once, untimed
        return
    microseconds = benchmark.stats.stats.median / len(messages) * 1e6
    benchmark.extra_info["microseconds"] = round(microseconds, 1)
    print(f"{benchmark.extra_info['bytes']:7} bytes {microseconds:9.1f} µs  {benchmark.name}")


@pytest.mark.parametrize("name", CORPORA)
@pytest.mark.parametrize(
    ("library", "level"),
    [(library, level) for library in ("zlib_ng", "zlib") for level in range(1, 10)]
    + [("isal", level) for level in range(4)],
)
def test_level_of_a_shared_stream(benchmark: BenchmarkFixture, library: str, level: int, name: str) -> None:
    stream = start(library, level)
    measure(benchmark, CORPORA[name], lambda data: (stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH))[:-4])


@pytest.mark.parametrize("name", ["chat line of 48 bytes", "JSON of 1 KB"])
@pytest.mark.parametrize(("window_bits", "mem_level"), [(9, 1), (12, 5), (15, 8)])
@pytest.mark.parametrize(
    ("library", "level"), [(library, level) for library in ("zlib_ng", "zlib") for level in range(1, 10)]
)
def test_level_of_a_dedicated_stream(
    benchmark: BenchmarkFixture, library: str, level: int, window_bits: int, mem_level: int, name: str
) -> None:
    stream = start(library, level, window_bits, mem_level)
    measure(benchmark, CORPORA[name], lambda data: (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4])


@pytest.mark.parametrize("name", CORPORA)
def test_shared_stream_that_is_fully_flushed(benchmark: BenchmarkFixture, name: str) -> None:
    stream = start("zlib_ng", 5)
    measure(benchmark, CORPORA[name], lambda data: (stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH))[:-4])


@pytest.mark.parametrize("name", CORPORA)
def test_shared_stream_that_is_made_anew(benchmark: BenchmarkFixture, name: str) -> None:
    def deflate(data: bytes) -> bytes:
        stream = start("zlib_ng", 5)
        return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]

    measure(benchmark, CORPORA[name], deflate)


@pytest.mark.parametrize("name", CORPORA)
def test_shared_stream_that_is_copied(benchmark: BenchmarkFixture, name: str) -> None:
    pristine = zlib_ng.compressobj(5, zlib.DEFLATED, -15, 8)

    def deflate(data: bytes) -> bytes:
        stream: Stream = pristine.copy()  # type: ignore[attr-defined]  # missing in the stub
        return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]

    measure(benchmark, CORPORA[name], deflate)


@pytest.mark.parametrize("size", [16, 32, 48, 64, 96, 128, 192, 256, 512])
@pytest.mark.parametrize("make", [chat, record])
@pytest.mark.parametrize("preset", ["shared", "dedicated", "3KB"])
def test_threshold(
    benchmark: BenchmarkFixture, preset: str, make: Callable[[int, random.Random], bytes], size: int
) -> None:
    window_bits = 9 if preset == "3KB" else 15
    deflaters = Deflaters(DeflateOptions(preset, "shared", threshold=0))
    deflater = deflaters.deflater(DeflateParams(preset == "shared", True, window_bits))
    assert deflater is not None
    measure(benchmark, corpus(make, size), deflater.deflate)


@pytest.mark.parametrize("size", [64, 128, 1024, 200_000])
@pytest.mark.parametrize("context_takeover", [False, True])
def test_inflater(benchmark: BenchmarkFixture, context_takeover: bool, size: int) -> None:
    inflater = Inflater(DeflateParams(client_no_context_takeover=not context_takeover))
    stream = start("zlib", 6)
    deflated = [(stream.compress(data) + stream.flush(zlib.Z_FULL_FLUSH))[:-4] for data in corpus(record, size)]
    measure(benchmark, deflated, lambda data: inflater.inflate(data, True, 1 << 24))
