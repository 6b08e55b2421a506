"""Timeouts: one sweep for all, and nobody is given up early."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from bunws.timeouts import LONGEST_TICK, SHORTEST_TICK, Patience, Sweeper, tick_for


TIMEOUTS = st.floats(0.01, 100_000)


class Member:
    """Counts its ticks, and does something in the first."""

    def __init__(self, sweeper: Sweeper, *, removes: list[Member] | None = None) -> None:
        self.ticks = 0
        self._sweeper = sweeper
        self._removes = removes or []
        sweeper.add(self)

    def tick(self) -> None:
        self.ticks += 1
        for member in self._removes:
            self._sweeper.discard(member)


# How long a tick is


@pytest.mark.parametrize(
    ("timeouts", "tick"),
    [
        ((), LONGEST_TICK),
        ((0.0, 0.0), LONGEST_TICK),
        ((120.0, 10.0), 2.5),
        ((120.0, 0.0), LONGEST_TICK),
        ((0.0, 1.0), 0.25),
        ((0.001,), SHORTEST_TICK),
    ],
)
def test_a_tick_is_a_quarter_of_the_shortest_timeout_within_bounds(timeouts: tuple[float, ...], tick: float) -> None:
    assert tick_for(*timeouts) == tick


@given(st.lists(TIMEOUTS | st.just(0.0), max_size=3))
def test_a_tick_is_never_longer_than_a_timeout_that_it_can_serve(timeouts: list[float]) -> None:
    tick = tick_for(*timeouts)
    assert SHORTEST_TICK <= tick <= LONGEST_TICK
    assert all(tick <= max(timeout, SHORTEST_TICK) for timeout in timeouts if timeout)


# Patience


@given(TIMEOUTS, TIMEOUTS, st.booleans(), st.floats(0, 1, exclude_max=True))
def test_nobody_is_given_up_before_his_time_and_not_two_ticks_after_it(
    idle_timeout: float, other: float, send_pings: bool, phase: float
) -> None:
    """The last sign of life comes `phase` of a tick before the next sweep."""
    tick = tick_for(idle_timeout, other)
    patience = Patience.of(idle_timeout, send_pings, tick)
    silence = (patience.close - phase) * tick
    assert silence >= idle_timeout or math.isclose(silence, idle_timeout)
    assert silence <= idle_timeout + 2 * tick


@given(TIMEOUTS, TIMEOUTS)
def test_a_ping_leaves_time_for_an_answer(idle_timeout: float, other: float) -> None:
    patience = Patience.of(idle_timeout, True, tick_for(idle_timeout, other))
    assert 1 <= patience.ping < patience.close


def test_the_ping_comes_when_bun_sends_it() -> None:
    patience = Patience.of(120, True, 4.0)
    assert (patience.ping * 4.0, patience.close * 4.0) == (104, 124)


def test_without_a_timeout_nobody_is_pinged_or_given_up() -> None:
    assert Patience.of(0, True, 4.0) == (0, 0)


def test_without_pings_there_is_only_the_end() -> None:
    assert Patience.of(120, False, 4.0) == (0, 31)


# The sweeper


def test_a_sweep_tells_every_member_once() -> None:
    sweeper = Sweeper()
    members = [Member(sweeper) for _ in range(3)]
    assert len(sweeper) == 3
    sweeper.sweep()
    sweeper.sweep()
    assert [member.ticks for member in members] == [2, 2, 2]


def test_who_has_left_is_not_told() -> None:
    sweeper = Sweeper()
    member = Member(sweeper)
    sweeper.discard(member)
    sweeper.discard(member)
    sweeper.sweep()
    assert (len(sweeper), member.ticks) == (0, 0)


def test_a_member_may_remove_itself_and_others_while_it_is_told() -> None:
    sweeper = Sweeper()
    others = [Member(sweeper) for _ in range(5)]
    first = Member(sweeper, removes=others)
    first._removes.append(first)
    sweeper.sweep()
    assert len(sweeper) == 0
    told = [member.ticks for member in others]
    sweeper.sweep()
    assert (first.ticks, [member.ticks for member in others]) == (1, told)


def test_who_is_removed_by_another_is_not_told_any_more() -> None:
    sweeper = Sweeper()
    one, other = Member(sweeper), Member(sweeper)
    one._removes.append(other)
    other._removes.append(one)
    sweeper.sweep()
    assert {one.ticks, other.ticks} == {0, 1}
