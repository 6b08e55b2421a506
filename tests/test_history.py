"""
Histories of many clients at once are held against the promise in `tests/history/promise.py`; and the judge is tried
itself, with histories that were forged.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable

import pytest

from .history.clients import Plan, make_history
from .history.promise import History, Left, Membership, Message, Publish, Receiver, judge


# A history that keeps the promise, to be spoiled


def good_history() -> History:
    """
    "ann" publishes 0 to 4 to "t". "bob" stays; "cat" leaves behind 2; "dan" dies behind 1; "eve" is slow and misses 3.
    """
    messages = [Message("ann", "t", number) for number in range(5)]
    codes = [10, 10, -1, 0, 10]
    publishes = [
        Publish(message, 10, 10 * number + 10, 10 * number + 11, code)
        for number, (message, code) in enumerate(zip(messages, codes, strict=True))
    ]
    bob = Receiver("bob", [Membership("t", 1, 2, 90, 91)], [*messages, Left("t")], stayed=True)
    cat = Receiver("cat", [Membership("t", 1, 2, 35, 36)], [*messages[:3], Left("t")], stayed=True)
    dan = Receiver("dan", [Membership("t", 1, 2)], [*messages[:2]])
    eve_got = [message for message in messages if message.number != 3]
    eve = Receiver("eve", [Membership("t", 1, 2, 90, 91)], [*eve_got, Left("t")], stayed=True, drains=[45])
    return History(publishes, [bob, cat, dan, eve])


def test_a_good_history_is_not_complained_about() -> None:
    assert judge(good_history()) == []


def lost(history: History) -> None:
    del history.receivers[0].received[1]


def lost_in_the_middle_by_one_who_died_later(history: History) -> None:
    del history.receivers[2].received[0]


def lost_at_the_end(history: History) -> None:
    del history.receivers[0].received[4]


def lost_by_one_while_another_was_over_its_limit(history: History) -> None:
    del history.receivers[0].received[3]


def duplicated(history: History) -> None:
    received = history.receivers[0].received
    received.insert(2, received[1])


def reordered(history: History) -> None:
    received = history.receivers[0].received
    received[1], received[2] = received[2], received[1]


def late_behind_the_answer_of_unsubscribe(history: History) -> None:
    received = history.receivers[1].received
    received.append(received.pop(2))


def uninvited_after_unsubscribe(history: History) -> None:
    history.receivers[1].received.insert(3, Message("ann", "t", 4))


def uninvited_before_subscribe(history: History) -> None:
    history.receivers[3].memberships[0].join_began = 12
    history.receivers[3].memberships[0].join_returned = 13


def uninvited_by_its_own_publisher(history: History) -> None:
    history.receivers.append(Receiver("ann", [Membership("t", 1, 2)], [Message("ann", "t", 0)]))


def invented(history: History) -> None:
    history.receivers[2].received.append(Message("ann", "t", 9))


def lying_with_0(history: History) -> None:
    history.receivers[3].received.insert(3, Message("ann", "t", 3))
    del history.receivers[2]  # who died may have missed it


def lying_with_minus_1(history: History) -> None:
    history.receivers[3].drains = [15]
    del history.receivers[2]  # who died may have been behind


def lying_with_the_wrong_size(history: History) -> None:
    publish = history.publishes[0]
    history.publishes[0] = Publish(publish.message, 11, publish.began, publish.returned, 10)


def lying_to_nobody(history: History) -> None:
    history.publishes.append(Publish(Message("ann", "empty", 0), 10, 60, 61, 10))


@pytest.mark.parametrize(
    "forge",
    [
        lost,
        lost_in_the_middle_by_one_who_died_later,
        lost_at_the_end,
        lost_by_one_while_another_was_over_its_limit,
        duplicated,
        reordered,
        late_behind_the_answer_of_unsubscribe,
        uninvited_after_unsubscribe,
        uninvited_before_subscribe,
        uninvited_by_its_own_publisher,
        invented,
        lying_with_0,
        lying_with_minus_1,
        lying_with_the_wrong_size,
        lying_to_nobody,
    ],
    ids=lambda forge: forge.__name__,
)
def test_a_forged_history_is_found_out(forge: Callable[[History], None]) -> None:
    history = good_history()
    forge(history)
    complaints = judge(history)
    assert [complaint for complaint in complaints if complaint.startswith(forge.__name__.partition("_")[0])], complaints


@pytest.mark.parametrize("end", [slice(5), slice(3), slice(0)])
def test_who_died_may_have_received_less_but_not_with_a_gap(end: slice) -> None:
    history = good_history()
    history.receivers[2].received[:] = [Message("ann", "t", number) for number in range(5)][end]
    assert judge(history) == []


def test_a_publish_beside_a_subscribe_may_be_heard_or_not() -> None:
    for heard in (True, False):
        message = Message("ann", "t", 0)
        receiver = Receiver("bob", [Membership("t", 1, 5)], [message] if heard else [], stayed=True)
        assert judge(History([Publish(message, 3, 2, 4, 3)], [receiver])) == []


def test_zero_is_true_where_nobody_listens() -> None:
    assert judge(History([Publish(Message("ann", "t", 0), 3, 1, 2, 0)], [])) == []


# Histories of a real server


def check(plan: Plan) -> None:
    history = make_history(plan)
    assert judge(history) == []
    # It was a history worth judging: everything has happened in it.
    codes = Counter(min(publish.code, 1) for publish in history.publishes)
    assert set(codes) == {-1, 0, 1}, codes
    assert history.missed
    assert sum(not receiver.stayed for receiver in history.receivers) > plan.clients // 10
    assert sum(len(receiver.received) for receiver in history.receivers) > 10 * plan.clients


def test_two_hundred_clients_see_what_was_promised() -> None:
    check(Plan())


@pytest.mark.stress
@pytest.mark.timeout(3600)
def test_it_holds_in_the_long_run() -> None:
    for seed in range(int(os.environ.get("BUNWS_HISTORIES", "20"))):
        check(Plan(steps=40, thread_steps=400, seed=seed))
