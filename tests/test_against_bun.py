"""Bun and bunws side by side: the same bytes and the same calls, and the answers compared as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import pytest

from tests import test_deflate_sockets
from tests.against_bun import closings, deflated, handshakes, idle, messages, offers, options, peers, pressure, topics
from tests.against_bun.peers import Peer
from tests.against_bun.play import Scenario, negotiate, play
from tests.support import ROOT


T = TypeVar("T")

# The peers may have to be installed first.
pytestmark = pytest.mark.timeout(300)

SCENARIOS: Final[list[Scenario]] = [
    scenario
    for room in (handshakes, messages, deflated, topics, pressure, closings, options, idle)
    for scenario in room.SCENARIOS
]

PAGE: Final = (ROOT / "docs" / "differences-from-bun.md").read_text(encoding="utf-8")

# Bun comes with the clients that compression is tried with: one installation for both.
modules = test_deflate_sockets.modules


class Both(NamedTuple):
    """The two servers, which work at the same time."""

    bun: Peer
    bunws: Peer
    pool: ThreadPoolExecutor

    def do(self, what: Callable[[Peer], T]) -> tuple[T, T]:
        bun, bunws = self.pool.map(what, (self.bun, self.bunws))
        return bun, bunws


@pytest.fixture(scope="module")
def both(modules: Path) -> Iterator[Both]:
    program = modules / test_deflate_sockets._bun_package() / "bin" / "bun"
    with peers.bun(program) as bun, peers.bunws() as bunws, ThreadPoolExecutor(2) as pool:
        yield Both(bun, bunws, pool)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_bunws_answers_as_bun_does_but_for_the_differences_that_are_named(scenario: Scenario, both: Both) -> None:
    bun, bunws = both.do(lambda peer: play(peer, scenario))
    for differs in scenario.differs:
        for place in differs.places:
            assert bun.get(place) != bunws.get(place), f"{differs.name} is no difference any more"
            assert (place, bun.pop(place, None)) == (place, differs.bun.get(place))
            assert (place, bunws.pop(place, None)) == (place, differs.bunws.get(place))
    assert bunws == bun


@pytest.mark.parametrize("offer", offers.OFFERS)
def test_bunws_negotiates_compression_as_bun_does_but_for_the_differences_that_are_named(
    offer: str, both: Both
) -> None:
    def answers(peer: Peer) -> dict[str, str]:
        return {
            name: negotiate(peer, {"perMessageDeflate": preset}, offers.OFFERS[offer])
            for name, preset in offers.PRESETS.items()
        }

    bun, bunws = both.do(answers)
    _, presets = offers.DIFFERS.get(offer, ("", set()))
    assert {
        preset: (bun[preset], bunws[preset]) for preset in bun if (bun[preset] != bunws[preset]) != (preset in presets)
    } == {}


# The page


def test_the_page_has_one_entry_for_each_difference() -> None:
    entries = re.findall(r"^### .*\(`([a-z0-9-]+)`\)$", PAGE, re.MULTILINE)
    named = {differs.name for scenario in SCENARIOS for differs in scenario.differs}
    named |= {name for name, _ in offers.DIFFERS.values()}
    assert len(set(entries)) == len(entries)
    assert set(entries) == named


def test_each_entry_says_what_either_does_and_why() -> None:
    for entry in PAGE.split("\n### ")[1:]:
        assert re.findall(r"^\* \*\*(\w+)\*\*", entry, re.MULTILINE) == ["Bun", "bunws", "Why"], entry


def test_no_two_scenarios_have_one_name() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
