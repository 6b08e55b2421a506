"""
Topics: who hears what, and what the turn owes to whom.

Rule 1: this room knows nothing of sockets, frames or compression. A subscriber is any hashable object, a message is
whatever its publisher appends to a run.
Rule 2: `publish` touches no subscriber. It appends to a *run*: messages of one sender to one topic with nothing else
in between. Runs are numbered in the order of the calls, and that order is what every subscriber gets.
Rule 3: what a subscriber is owed is decided by its memberships at the time of the call. So before anything about one
subscriber changes (it joins, leaves, is sent something of its own), it is *settled*: the runs that it is owed so far
move to its own list. All who were not settled share what their topics collected.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Collection
from operator import attrgetter
from typing import Any, Final, TypeAlias


__all__ = ["BACKPRESSURE", "DROPPED", "Group", "Level", "Run", "Topic", "Topics"]

# Any hashable object. It is no type parameter, since extension types (topics.pxd) cannot be generic.
Subscriber: TypeAlias = Any

# The own lists of those who were settled, or sent something of their own.
Owed: TypeAlias = "dict[Subscriber, list[Run]]"


class Level(enum.IntEnum):
    """How far behind a subscriber is."""

    FLOWING = 0  # takes everything at once
    BEHIND = 1  # what it is sent waits in its backlog
    OVER = 2  # its backlog is over the limit: what is published now is dropped for it


# What `publish` answers for a run, in Bun's numbers; None stands for "the bytes of the message".
BACKPRESSURE: Final = -1
DROPPED: Final = 0

_position = attrgetter("position")


class Run:
    """Messages of one sender to one topic (or of the server to one subscriber) that follow each other directly."""

    # Made once per message in the worst case, and filled in by `Topics`: an `__init__` would cost half as much again.
    __slots__ = ("code", "compress", "forms", "pieces", "position", "sender", "topic")

    pieces: list[bytes]  # header, payload, header, payload, …
    topic: Topic
    sender: Subscriber | None
    compress: bool
    position: int  # among all runs of the turn
    code: int | None  # what `publish` answers in place of the bytes
    forms: dict[object, bytes]  # if `compress`: other wire forms of it, for the room that makes them


class Topic:
    """One topic: its subscribers, and what was published to it in this turn."""

    __slots__ = ("behind", "name", "over", "runs", "size", "subscribers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.subscribers: set[Subscriber] = set()
        self.behind = 0  # of the subscribers, those at BEHIND or OVER
        self.over = 0  # of the subscribers, those at OVER
        self.runs: list[Run] = []
        self.size = 0  # bytes in the runs, as far as who appends to them counts


class Group:
    """Subscribers that hear the same topics of this turn, by what they get of the runs."""

    __slots__ = ("dropped", "partial", "receivers", "runs")

    def __init__(
        self, runs: list[Run], receivers: set[Subscriber], partial: dict[Subscriber, int], dropped: set[Subscriber]
    ) -> None:
        self.runs = runs
        self.receivers = receivers  # all of them, but for those in `partial`
        self.partial = partial  # all but their own, from the position on that stands here
        self.dropped = dropped  # none, since they are over their limit


class Topics:
    """The memberships of one server, and the runs of its current turn."""

    def __init__(self) -> None:
        self._topics: dict[str, Topic] = {}
        self._memberships: dict[Subscriber, set[Topic]] = {}
        self._levels: dict[Subscriber, Level] = {}  # of those that are not FLOWING
        # The turn.
        self.apart = Topic("")  # the topic of runs that only one subscriber is owed
        self.open: Run | None = None  # the run that a publisher may append to
        self.dirty: set[Topic] = set()  # topics with runs
        self._next_position = 0
        self._owed: Owed = {}  # the own lists of those that were settled
        self._missed: set[Subscriber] = set()  # who was over the limit when it was settled, and missed something
        self._since: dict[Subscriber, int] = {}  # … and the position from which on they share again

    # Membership

    def subscribe(self, subscriber: Subscriber, name: str) -> None:
        """From now on `subscriber` hears `name`; nothing happens when it does already."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name)
        elif subscriber in topic.subscribers:
            return
        elif topic.runs:
            self.settle(subscriber)
        self.open = None
        topic.subscribers.add(subscriber)
        self._memberships.setdefault(subscriber, set()).add(topic)
        _count(topic, self._levels.get(subscriber, Level.FLOWING), +1)

    def unsubscribe(self, subscriber: Subscriber, name: str) -> bool:
        """It still gets what was published before. Returns whether it was subscribed."""
        topic = self._topics.get(name)
        if topic is None or subscriber not in topic.subscribers:
            return False
        if topic.runs:
            self.settle(subscriber)
        topics = self._memberships[subscriber]
        topics.remove(topic)
        if not topics:
            del self._memberships[subscriber]
        self._leave(subscriber, topic)
        return True

    def unsubscribe_all(self, subscriber: Subscriber) -> None:
        """Leave every topic; what was published before is still owed."""
        if self.dirty:
            self.settle(subscriber)
        for topic in self._memberships.pop(subscriber, ()):
            self._leave(subscriber, topic)

    def forget(self, subscriber: Subscriber) -> None:
        """The subscriber is gone: it leaves every topic and is owed nothing."""
        for topic in self._memberships.pop(subscriber, ()):
            self._leave(subscriber, topic)
        self._levels.pop(subscriber, None)
        self._owed.pop(subscriber, None)
        self._since.pop(subscriber, None)
        self._missed.discard(subscriber)

    def is_subscribed(self, subscriber: Subscriber, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and subscriber in topic.subscribers

    def topics_of(self, subscriber: Subscriber) -> list[str]:
        """The names of its topics, sorted."""
        return sorted(topic.name for topic in self._memberships.get(subscriber, ()))

    def size_of(self, subscriber: Subscriber) -> int:
        """How many topics it hears."""
        return len(self._memberships.get(subscriber, ()))

    def count(self, name: str) -> int:
        """How many subscribers hear `name`."""
        topic = self._topics.get(name)
        return len(topic.subscribers) if topic is not None else 0

    def __len__(self) -> int:
        """How many topics have a subscriber (or, within a turn, had one)."""
        return len(self._topics)

    def set_level(self, subscriber: Subscriber, level: Level) -> None:
        """How far behind `subscriber` is from now on; this is what the answers of `publish` are made of."""
        old = self._levels.get(subscriber, Level.FLOWING)
        if level is old:
            return
        if self.dirty and Level.OVER in (old, level):
            self.settle(subscriber)  # what was dropped for it stays dropped, and what was accepted accepted
        self.open = None
        for topic in self._memberships.get(subscriber, ()):
            _count(topic, old, -1)
            _count(topic, level, +1)
        if level is Level.FLOWING:
            del self._levels[subscriber]
        else:
            self._levels[subscriber] = level

    # The turn

    def publish(self, sender: Subscriber | None, name: str, compress: bool) -> Run | None:
        """
        The run to append a message to: everybody who hears `name` now, but for `sender`, is owed it.

        None means that nobody listens. The run's `code` is what `publish` answers in place of the bytes. A caller
        may append to `open` without asking again while it stays the same run.
        """
        topic = self._topics.get(name)
        if topic is None:
            return None
        subscribers = topic.subscribers
        if len(subscribers) == 1 and sender in subscribers:
            return None
        run = Run.__new__(Run)
        run.pieces = []
        run.topic = topic
        run.sender = sender
        run.compress = compress
        run.position = self._next_position
        run.code = self.code(sender, topic) if topic.behind else None
        if compress:
            run.forms = {}
        self._next_position += 1
        if not topic.runs:
            self.dirty.add(topic)
        topic.runs.append(run)
        self.open = run
        return run

    def code(self, sender: Subscriber | None, topic: Topic) -> int | None:
        """What `publish` answers now: the worst that happens to anybody; None when all take it at once."""
        behind, over = topic.behind, topic.over
        if behind and sender is not None and sender in self._levels and sender in topic.subscribers:
            behind -= 1
            over -= self._levels[sender] is Level.OVER
        return DROPPED if over else BACKPRESSURE if behind else None

    def own(self, subscriber: Subscriber, compress: bool) -> Run:
        """The run for what only `subscriber` is sent: it comes behind all that it is owed so far."""
        if self.dirty:
            self.settle(subscriber)
        owed = self._owed.get(subscriber)
        if owed is None:
            owed = self._owed[subscriber] = []
        elif owed and owed[-1].topic is self.apart and owed[-1].compress is compress:
            return owed[-1]
        run = Run.__new__(Run)
        run.pieces = []
        run.topic = self.apart
        run.sender = None
        run.compress = compress
        if compress:
            run.forms = {}
        owed.append(run)
        return run

    def size_of_own(self, subscriber: Subscriber) -> int:
        """The bytes in the runs that only `subscriber` is sent, in this turn so far."""
        owed = self._owed.get(subscriber, ())
        return sum([sum(map(len, run.pieces)) for run in owed if run.topic is self.apart])

    def settle(self, subscriber: Subscriber) -> None:
        """Move the runs that `subscriber` is owed so far to its own list."""
        owed = self._owed.setdefault(subscriber, [])
        since = self._since.get(subscriber, 0)
        self._since[subscriber] = self._next_position
        self.open = None
        topics = self._memberships.get(subscriber)
        if not topics or since == self._next_position:
            return
        heard = [run for run in _merge(topics & self.dirty, since) if run.sender is not subscriber]
        if self._levels.get(subscriber) is not Level.OVER:
            owed += heard
        elif heard:
            self._missed.add(subscriber)

    def collect(self) -> tuple[list[Group], Owed]:
        """
        End the turn: the groups that share, and the own lists, which come first for those that have both.

        Nothing may subscribe, unsubscribe or publish until the groups were walked: they hold the live sets.
        """
        dirty, since, owed = self.dirty, self._since, self._owed
        self.open = None
        self._next_position = 0
        self.apart.size = 0
        if owed or dirty:
            self._owed, self._since = {}, {}
        if not dirty:
            return [], owed
        groups = self._groups(dirty, since, owed)
        if self._missed:
            groups.append(Group([], set(), {}, self._missed))
            self._missed = set()
        for topic in dirty:
            topic.runs = []
            topic.size = 0
        self.dirty = set()
        return groups, owed

    # Private

    def _groups(self, dirty: set[Topic], since: dict[Subscriber, int], owed: Owed) -> list[Group]:
        if len(dirty) == 1:
            (topic,) = dirty
            return [self._group(topic.runs, topic.subscribers, since, owed)]
        everybody: set[Subscriber] = set().union(*[topic.subscribers for topic in dirty])
        if len(everybody) == sum([len(topic.subscribers) for topic in dirty]):
            # Nobody hears two of them.
            return [self._group(topic.runs, topic.subscribers, since, owed) for topic in dirty]
        sharing: dict[frozenset[Topic], set[Subscriber]] = {}
        memberships = self._memberships
        for subscriber in everybody:
            sharing.setdefault(frozenset(memberships[subscriber] & dirty), set()).add(subscriber)
        groups = []
        for topics, subscribers in sharing.items():
            if len(subscribers) == 1:
                (one,) = subscribers
                if one not in self._levels:
                    # It shares with nobody: what it is owed is its own list, as if it had been settled.
                    runs = [run for run in _merge(topics, since.get(one, 0)) if run.sender is not one]
                    owed.setdefault(one, []).extend(runs)
                    continue
            groups.append(self._group(_merge(topics, 0), subscribers, since, owed))
        return groups

    def _group(self, runs: list[Run], subscribers: set[Subscriber], since: dict[Subscriber, int], owed: Owed) -> Group:
        apart = {run.sender for run in runs if run.sender is not None} & subscribers
        if owed:
            apart |= owed.keys() & subscribers
        over: set[Subscriber] = set()
        if self._levels and any([run.topic.over for run in runs]):
            over = {one for one in self._levels.keys() & subscribers if self._levels[one] is Level.OVER}
            apart -= over
        if not apart and not over:
            return Group(runs, subscribers, {}, over)
        receivers = subscribers - over if over else subscribers
        if len(apart) == len(receivers):
            receivers = set()
        partial = {one: since.get(one, 0) for one in apart} if since else dict.fromkeys(apart, 0)
        # Whoever went over the limit in this turn has what came before in its own list.
        dropped = {one for one in over if _has_other(runs, one, since.get(one, 0))}
        return Group(runs, receivers, partial, dropped)

    def _leave(self, subscriber: Subscriber, topic: Topic) -> None:
        self.open = None
        topic.subscribers.remove(subscriber)
        _count(topic, self._levels.get(subscriber, Level.FLOWING), -1)
        if not topic.subscribers:
            # An empty topic goes at once, so that nobody can fill the memory with names.
            del self._topics[topic.name]


def _count(topic: Topic, level: Level, change: int) -> None:
    """One subscriber more or less, of this level."""
    if level is not Level.FLOWING:
        topic.behind += change
        if level is Level.OVER:
            topic.over += change


def _has_other(runs: list[Run], subscriber: Subscriber, since: int) -> bool:
    """Whether any of these runs, from a position on, is not of `subscriber` itself."""
    return any([run.sender is not subscriber for run in runs if run.position >= since])


def _merge(topics: Collection[Topic], since: int) -> list[Run]:
    """The runs of these topics from a position on, in the order of the calls."""
    runs: list[Run] = []
    for topic in topics:
        runs += topic.runs[bisect_left(topic.runs, since, key=_position) :] if since else topic.runs
    if len(topics) > 1:
        runs.sort(key=_position)
    return runs
