"""Duty: how long a client may take over what it has to do next."""

from __future__ import annotations

import pytest

from bunws.duty import MIN_BODY_PROGRESS, Duty, Watch


ALLOWED = 3  # ticks


def ticks(watch: Watch, duty: Duty | None, *, moves: bool = False) -> int:
    """How many ticks it takes until the client is overdue; 0: it never is."""
    for number in range(1, 20):
        if watch.is_overdue(duty, ALLOWED, moves=moves):
            return number
    return 0


@pytest.mark.parametrize("duty", list(Duty))
def test_each_duty_has_all_the_ticks_that_are_allowed_and_no_more(duty: Duty) -> None:
    watch = Watch()
    assert ticks(watch, duty) == ALLOWED + 1
    assert repr(watch) == f"<Watch {duty.name} ticks={ALLOWED + 1}>"


@pytest.mark.parametrize("duty", list(Duty))
def test_another_duty_is_counted_anew(duty: Duty) -> None:
    watch = Watch()
    other = Duty.TAKE if duty is not Duty.TAKE else Duty.SEND_HEAD
    for _ in range(ALLOWED):
        assert not watch.is_overdue(other, ALLOWED, moves=False)
    assert ticks(watch, duty) == ALLOWED + 1


def test_who_waits_for_us_is_never_overdue() -> None:
    assert ticks(Watch(), None) == 0
    assert repr(Watch()) == "<Watch no duty ticks=0>"


def test_nobody_is_overdue_where_all_the_time_is_allowed() -> None:
    watch = Watch()
    assert not any(watch.is_overdue(Duty.SEND_HEAD, 0, moves=False) for _ in range(100))


def test_who_reads_anything_is_not_overdue() -> None:
    assert ticks(Watch(), Duty.TAKE, moves=True) == 0


@pytest.mark.parametrize("duty", [Duty.SEND_BODY, Duty.SEND_HEAD, Duty.SEND_REQUEST])
def test_reading_is_no_excuse_for_not_sending(duty: Duty) -> None:
    assert ticks(Watch(), duty, moves=True) == ALLOWED + 1


def test_a_body_must_bring_enough_in_each_span() -> None:
    watch = Watch()
    watch.is_overdue(Duty.SEND_BODY, ALLOWED, moves=False)
    for _ in range(3):
        watch.progress += MIN_BODY_PROGRESS
        for _ in range(ALLOWED):
            assert not watch.is_overdue(Duty.SEND_BODY, ALLOWED, moves=False)
    watch.progress += MIN_BODY_PROGRESS - 1
    assert ticks(watch, Duty.SEND_BODY) <= ALLOWED


def test_what_was_done_is_counted_anew() -> None:
    watch = Watch()
    for _ in range(10):
        assert not watch.is_overdue(Duty.SEND_REQUEST, ALLOWED, moves=False)
        watch.renew()
