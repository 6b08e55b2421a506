"""
The targets of `fuzz/` over their corpus, and over what Hypothesis makes of it: the part of fuzzing without atheris.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from fuzz.stage import close_stages
from fuzz.targets import TARGETS, Target


@pytest.fixture(scope="module", autouse=True)
def _stages() -> Iterator[None]:
    yield
    close_stages()


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_finds_nothing(name: str) -> None:
    seeds = TARGETS[name].seeds()
    assert len(seeds) >= 5
    for seed in seeds:
        TARGETS[name].run(seed)


def mutated(target: Target) -> st.SearchStrategy[bytes]:
    """Inputs of the corpus that were cut, joined, repeated, and had words or bytes put into them."""
    word = st.one_of(st.sampled_from(target.words), st.binary(min_size=1, max_size=4))
    # Where, as a share of the length; how many bytes are taken away; and what comes in their place.
    edit = st.tuples(st.floats(0, 1), st.integers(0, 6), st.one_of(st.just(b""), word))
    seeds = st.lists(st.sampled_from(target.seeds()), min_size=1, max_size=2)
    return st.builds(_edited, seeds.map(b"".join), st.lists(edit, max_size=6))


def _edited(data: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    for place, size, word in edits:
        at = int(place * len(data))
        data = data[:at] + word + data[at + size :]
    return data


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutations_of_the_corpus_find_nothing(name: str, data: st.DataObject) -> None:
    TARGETS[name].run(data.draw(mutated(TARGETS[name])))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=50, deadline=None)
@given(noise=st.binary(max_size=300))
def test_noise_finds_nothing(name: str, noise: bytes) -> None:
    TARGETS[name].run(noise)
