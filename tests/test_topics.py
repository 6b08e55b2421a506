"""
Topics: who hears what, and what the turn owes to whom. Subscribers are names here, messages are bytes.

What every subscriber receives, in which order, is compared with a model in test_turn_machine.py.
"""

from __future__ import annotations

import enum

import pytest

from bunws.topics import BACKPRESSURE, DROPPED, Level, Run, Topics


def publish(topics: Topics, sender: str | None, name: str, message: str) -> Run | None:
    """As the turn does it: append to the open run, if it will do."""
    run = topics.open
    if run is None or run.sender != sender or run.topic.name != name:
        run = topics.publish(sender, name, False)
    if run is not None:
        run.pieces.append(message.encode())
    return run


def collect(topics: Topics) -> dict[str, str]:
    """End the turn: what every subscriber gets, in its order."""
    groups, owed = topics.collect()
    got: dict[str, str] = {}

    def give(subscriber: str, runs: list[Run]) -> None:
        assert subscriber not in got, "written to twice"
        got[subscriber] = b" ".join(message for run in runs for message in run.pieces).decode()

    for group in groups:
        for subscriber in group.receivers - group.partial.keys():
            give(subscriber, group.runs)
        for subscriber, since in group.partial.items():
            share = [run for run in group.runs if run.sender != subscriber and run.position >= since]
            give(subscriber, owed.pop(subscriber, []) + share)
    for subscriber, runs in owed.items():
        give(subscriber, runs)
    return {subscriber: messages for subscriber, messages in got.items() if messages}


def pieces(owed: dict[str, list[Run]]) -> dict[str, list[list[bytes]]]:
    return {subscriber: [run.pieces for run in runs] for subscriber, runs in owed.items()}


def everybody_in(name: str, *subscribers: str) -> Topics:
    topics = Topics()
    for subscriber in subscribers:
        topics.subscribe(subscriber, name)
    return topics


# Membership


def test_a_subscriber_is_counted_until_it_leaves() -> None:
    topics = everybody_in("news", "ann", "ben")
    assert (topics.count("news"), topics.count("else")) == (2, 0)
    assert topics.is_subscribed("ann", "news")
    assert topics.unsubscribe("ann", "news")
    assert not topics.is_subscribed("ann", "news")
    assert topics.count("news") == 1


def test_to_subscribe_twice_is_to_subscribe_once() -> None:
    topics = everybody_in("news", "ann", "ann")
    assert topics.count("news") == 1
    assert topics.unsubscribe("ann", "news")
    assert not topics.unsubscribe("ann", "news")


class Room(enum.StrEnum):
    HALL = "hall"


def test_a_name_may_be_of_a_class_of_str() -> None:
    topics = Topics()
    topics.subscribe("ann", Room.HALL)
    topics.subscribe("ben", "hall")
    publish(topics, "ann", "hall", "1")
    assert (topics.count("hall"), topics.count(Room.HALL)) == (2, 2)
    assert collect(topics) == {"ben": "1"}


def test_nobody_can_leave_what_he_is_not_in() -> None:
    topics = everybody_in("news", "ann")
    assert not topics.unsubscribe("ben", "news")
    assert not topics.unsubscribe("ann", "sport")


def test_the_topics_of_a_subscriber_are_sorted() -> None:
    topics = Topics()
    for name in ("news", "art", "zoo", "chess"):
        topics.subscribe("ann", name)
    assert topics.topics_of("ann") == ["art", "chess", "news", "zoo"]
    assert topics.topics_of("ben") == []


def test_a_topic_that_nobody_hears_is_forgotten() -> None:
    topics = Topics()
    for number in range(100):
        topics.subscribe("ann", str(number))
    assert len(topics) == 100
    topics.unsubscribe("ann", "0")
    assert len(topics) == 99
    topics.unsubscribe_all("ann")
    assert len(topics) == 0
    topics.subscribe("ann", "1")
    topics.forget("ann")
    assert len(topics) == 0
    assert not topics._memberships


def test_a_name_is_a_name_and_no_pattern() -> None:
    topics = everybody_in("a/+", "ann")
    assert publish(topics, None, "a/b", "x") is None


# Publishing


def test_everybody_shares_one_list_of_runs() -> None:
    topics = everybody_in("news", "ann", "ben", "cat")
    publish(topics, None, "news", "one")
    publish(topics, None, "news", "two")
    (group,), owed = topics.collect()
    assert group.receivers == {"ann", "ben", "cat"}
    assert (group.partial, group.dropped, owed) == ({}, set(), {})
    assert [run.pieces for run in group.runs] == [[b"one", b"two"]]  # of one sender, with nothing in between


def test_to_nobody_is_to_nobody() -> None:
    topics = everybody_in("news", "ann")
    assert publish(topics, None, "sport", "x") is None
    assert publish(topics, "ann", "news", "only she herself would hear it") is None
    assert collect(topics) == {}


def test_a_sender_does_not_hear_itself_but_all_others() -> None:
    topics = everybody_in("news", "ann", "ben", "cat")
    publish(topics, "ann", "news", "a1")
    publish(topics, "ben", "news", "b1")
    publish(topics, "ann", "news", "a2")
    assert collect(topics) == {"ann": "b1", "ben": "a1 a2", "cat": "a1 b1 a2"}


def test_a_sender_need_not_be_a_member() -> None:
    topics = everybody_in("news", "ann")
    publish(topics, "guest", "news", "hello")
    assert collect(topics) == {"ann": "hello"}


def test_two_topics_are_merged_in_the_order_of_the_calls() -> None:
    topics = everybody_in("a", "ann", "ben")
    topics.subscribe("ann", "b")
    topics.subscribe("cat", "b")
    for name, message in (("a", "1"), ("b", "2"), ("a", "3"), ("b", "4")):
        publish(topics, None, name, message)
    assert collect(topics) == {"ann": "1 2 3 4", "ben": "1 3", "cat": "2 4"}


def test_who_hears_the_same_topics_shares_the_merged_list() -> None:
    topics = everybody_in("a", "ann", "ben", "cat", "dan")
    for subscriber in ("ann", "ben"):
        topics.subscribe(subscriber, "b")
    publish(topics, None, "a", "1")
    publish(topics, None, "b", "2")
    groups, owed = topics.collect()
    assert sorted(sorted(group.receivers) for group in groups) == [["ann", "ben"], ["cat", "dan"]]
    assert not owed


def test_who_shares_with_nobody_has_it_all_in_its_own_list() -> None:
    topics = everybody_in("a", "ann", "ben", "cat")
    topics.subscribe("ann", "b")
    publish(topics, None, "a", "1")
    publish(topics, "ann", "a", "2")
    publish(topics, "ben", "b", "3")
    (group,), owed = topics.collect()
    assert group.receivers | set(group.partial) == {"ben", "cat"}
    assert [b"".join(run.pieces) for run in owed["ann"]] == [b"1", b"3"]
    publish(topics, None, "a", "4")
    assert collect(topics) == {"ann": "4", "ben": "4", "cat": "4"}


def test_a_topic_nobody_published_to_in_this_turn_is_in_no_group() -> None:
    topics = everybody_in("a", "ann")
    for name in ("b", "c", "d"):
        topics.subscribe("ann", name)
    publish(topics, None, "b", "1")
    (group,), _ = topics.collect()
    assert [run.topic.name for run in group.runs] == ["b"]


def test_a_turn_begins_empty() -> None:
    topics = everybody_in("a", "ann")
    publish(topics, None, "a", "1")
    assert collect(topics) == {"ann": "1"}
    assert collect(topics) == {}
    assert not topics.dirty
    publish(topics, None, "a", "2")
    assert collect(topics) == {"ann": "2"}


# Changes within a turn


def test_who_joins_does_not_hear_what_was_said_before() -> None:
    topics = everybody_in("news", "ann")
    publish(topics, None, "news", "before")
    topics.subscribe("ben", "news")
    publish(topics, None, "news", "after")
    assert collect(topics) == {"ann": "before after", "ben": "after"}


def test_who_leaves_still_hears_what_was_said_before() -> None:
    topics = everybody_in("news", "ann", "ben")
    publish(topics, None, "news", "before")
    topics.unsubscribe("ben", "news")
    publish(topics, None, "news", "after")
    assert collect(topics) == {"ann": "before after", "ben": "before"}


def test_the_last_to_leave_still_hears_what_was_said_before() -> None:
    topics = everybody_in("news", "ann")
    publish(topics, None, "news", "before")
    topics.unsubscribe("ann", "news")
    assert publish(topics, None, "news", "after") is None
    assert collect(topics) == {"ann": "before"}


def test_who_leaves_and_comes_back_misses_what_was_said_meanwhile() -> None:
    topics = everybody_in("news", "ann", "ben")
    publish(topics, None, "news", "1")
    topics.unsubscribe("ann", "news")
    publish(topics, None, "news", "2")
    topics.subscribe("ann", "news")
    publish(topics, None, "news", "3")
    assert collect(topics) == {"ann": "1 3", "ben": "1 2 3"}


def test_who_leaves_everything_still_hears_what_was_said_before() -> None:
    topics = everybody_in("a", "ann", "ben")
    topics.subscribe("ann", "b")
    publish(topics, None, "b", "1")
    publish(topics, None, "a", "2")
    topics.unsubscribe_all("ann")
    publish(topics, None, "a", "3")
    assert collect(topics) == {"ann": "1 2", "ben": "2 3"}


def test_who_is_gone_is_owed_nothing() -> None:
    topics = everybody_in("news", "ann", "ben")
    publish(topics, None, "news", "1")
    topics.own("ann", False).pieces.append(b"yours")
    topics.forget("ann")
    assert collect(topics) == {"ben": "1"}


def test_what_one_is_sent_alone_keeps_its_place_among_what_all_are_sent() -> None:
    topics = everybody_in("news", "ann", "ben")
    topics.own("ann", False).pieces.append(b"first")
    publish(topics, None, "news", "1")
    topics.own("ann", False).pieces.append(b"between")
    publish(topics, None, "news", "2")
    publish(topics, "ann", "news", "her own")
    topics.own("ann", False).pieces.append(b"last")
    assert collect(topics) == {"ann": "first 1 between 2 last", "ben": "1 2 her own"}


def test_what_one_is_sent_in_a_row_is_one_run() -> None:
    topics = Topics()
    assert topics.own("ann", False) is topics.own("ann", False)
    assert topics.own("ann", True) is not topics.own("ann", False)


# How far behind somebody is


def code(topics: Topics, name: str = "news", sender: str | None = None) -> int | None:
    run = topics.publish(sender, name, False)
    assert run is not None
    return run.code


def test_the_answer_is_the_worst_that_happens_to_anybody() -> None:
    topics = everybody_in("news", "ann", "ben", "cat")
    assert code(topics) is None
    topics.set_level("ann", Level.BEHIND)
    assert code(topics) == BACKPRESSURE
    topics.set_level("ben", Level.OVER)
    assert code(topics) == DROPPED
    topics.set_level("ben", Level.FLOWING)
    assert code(topics) == BACKPRESSURE
    topics.set_level("ann", Level.FLOWING)
    assert code(topics) is None


@pytest.mark.parametrize("level", [Level.BEHIND, Level.OVER])
def test_a_sender_that_is_behind_itself_does_not_count(level: Level) -> None:
    topics = everybody_in("news", "ann", "ben")
    topics.set_level("ann", level)
    assert code(topics, sender="ann") is None
    assert code(topics, sender="ben") == (BACKPRESSURE if level is Level.BEHIND else DROPPED)
    assert code(topics, sender="guest") == (BACKPRESSURE if level is Level.BEHIND else DROPPED)


def test_a_guest_that_is_behind_does_not_hide_a_member_that_is() -> None:
    topics = everybody_in("news", "ann")
    topics.subscribe("guest", "elsewhere")
    topics.set_level("ann", Level.BEHIND)
    topics.set_level("guest", Level.BEHIND)
    assert code(topics, sender="guest") == BACKPRESSURE


def test_a_level_goes_with_its_subscriber() -> None:
    topics = everybody_in("news", "ann", "ben")
    topics.set_level("ann", Level.OVER)
    topics.subscribe("ann", "sport")
    topics.subscribe("ben", "sport")
    assert code(topics, "sport") == DROPPED
    topics.unsubscribe("ann", "sport")
    assert code(topics, "sport") is None
    topics.forget("ann")
    assert code(topics, "news") is None
    topics.subscribe("ann", "news")  # another of that name
    assert code(topics, "news") is None


def test_who_is_over_the_limit_misses_what_is_said_until_it_is_not() -> None:
    topics = everybody_in("news", "ann", "ben")
    publish(topics, None, "news", "1")
    topics.set_level("ann", Level.OVER)
    publish(topics, None, "news", "2")
    groups, owed = topics.collect()
    assert [group.dropped for group in groups] == [{"ann"}]
    assert pieces(owed) == {"ann": [[b"1"]]}
    topics.set_level("ann", Level.BEHIND)
    publish(topics, None, "news", "3")
    assert collect(topics) == {"ann": "3", "ben": "3"}


def test_who_goes_over_the_limit_behind_all_that_was_said_misses_nothing() -> None:
    topics = everybody_in("news", "ann", "ben")
    publish(topics, None, "news", "1")
    topics.set_level("ann", Level.OVER)
    groups, owed = topics.collect()
    assert [group.dropped for group in groups] == [set()]
    assert pieces(owed) == {"ann": [[b"1"]]}


def test_who_is_settled_while_over_the_limit_is_told_that_it_missed_something() -> None:
    topics = everybody_in("news", "ann", "ben")
    topics.set_level("ann", Level.OVER)
    publish(topics, None, "news", "1")
    topics.set_level("ann", Level.FLOWING)
    topics.unsubscribe("ann", "news")
    groups, owed = topics.collect()
    assert [group.dropped for group in groups if group.dropped] == [{"ann"}]
    assert owed == {"ann": []}


def test_what_was_dropped_stays_dropped_when_there_is_room_again_within_the_turn() -> None:
    topics = everybody_in("news", "ann", "ben")
    topics.set_level("ann", Level.OVER)
    publish(topics, None, "news", "1")
    topics.set_level("ann", Level.FLOWING)
    publish(topics, None, "news", "2")
    assert collect(topics) == {"ann": "2", "ben": "1 2"}


def test_a_run_that_was_opened_before_a_level_changed_is_not_appended_to() -> None:
    topics = everybody_in("news", "ann")
    publish(topics, None, "news", "1")
    topics.set_level("ann", Level.BEHIND)
    assert topics.open is None
