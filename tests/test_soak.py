"""A slice of the soak, and its verdict tried with samples that leak."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from .soak.mix import CLIENTS, Facts
from .soak.run import MEMORY_BOUND, WARM_UP, Sample, soak, verdict


def sample(**changes: int) -> Sample:
    facts = Facts(memory=30_000_000, descriptors=14, tasks=1, topics=0, websockets=0, connections=1, feeds=0)
    return Sample(1.0, facts._replace(**changes), 100, 10, 1.0)


def test_what_stays_as_it_was_is_not_complained_about() -> None:
    assert verdict([sample()] * (WARM_UP + 10)) == []


@pytest.mark.parametrize("name", Facts._fields[1:])
def test_one_more_of_anything_is_found_out(name: str) -> None:
    one_more = sample(**{name: sample().facts._asdict()[name] + 1})
    (complaint,) = verdict([sample(), sample(), one_more])
    assert name in complaint


def test_memory_that_grows_past_its_bound_is_found_out() -> None:
    warm = [sample()] * (WARM_UP + 1)
    grown = sample(memory=30_000_000 + MEMORY_BOUND + 1)
    assert verdict([*warm, grown, grown, grown])
    assert not verdict([*warm, grown, grown, sample()])  # one peak is not a leak


def test_when_the_last_client_has_gone_the_server_is_as_it_was() -> None:
    samples = soak(lambda waves: waves < WARM_UP + 10, clients=len(CLIENTS) * 3, seed=1)
    assert verdict(samples) == []
    assert all(sample.messages and sample.answers for sample in samples[1:])


def test_the_picture_has_both_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="it is in the extra `bench`")
    from .soak.plot import plot

    plot([sample()] * 30, tmp_path / "soak.svg")
    picture = ET.parse(tmp_path / "soak.svg")
    texts = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"resident memory, MB", "seconds"} <= texts
