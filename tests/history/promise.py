"""
The promise of publish and subscribe, and a judge of histories.

1. **Order.** What one publisher publishes to one topic is received in that order.
2. **Exactly once.** A subscriber that stays connected and within its limit receives every message that was published
   to its topic while it was subscribed, once. One that disconnects has received them up to some point, without a gap.
   One that went past its limit misses only what was answered with 0.
3. **Nothing uninvited.** A message is received only by those who were subscribed when it was published, not by who
   published it, and not behind the answer that `unsubscribe` has returned.
4. **True answers.** `publish` answers 0 only if somebody missed the message or nobody listened; -1 only if somebody was
   behind, and then nobody missed it; else the bytes of the payload, and everybody receives it.

A history is what the callers and the receivers have noted. The time is a counter that all of them draw from before and
after each call, so a call lies somewhere between two moments. Where these leave it open whether somebody was subscribed
when something was published, both is right. The judge is pure.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple, TypeAlias


__all__ = ["History", "Left", "Membership", "Message", "Moment", "Publish", "Receiver", "judge"]

Moment: TypeAlias = float
"""A reading of the counter; `math.inf` is after all of them."""

_NEVER: Final = math.inf


class Message(NamedTuple):
    """What was received: the number is the publisher's, and counts up in each topic."""

    publisher: str
    topic: str
    number: int


class Left(NamedTuple):
    """The receiver read, among its messages, that it hears this topic no more."""

    topic: str


@dataclass(frozen=True)
class Publish:
    """One call of publish."""

    message: Message
    size: int  # bytes of the payload
    began: Moment
    returned: Moment
    code: int


@dataclass
class Membership:
    """One stay of one receiver in one topic. A call of subscribe began it, and one of unsubscribe may have ended it."""

    topic: str
    join_began: Moment
    join_returned: Moment
    leave_began: Moment = _NEVER
    leave_returned: Moment = _NEVER

    def surely_heard(self, publish: Publish) -> bool:
        return self.join_returned < publish.began and publish.returned < self.leave_began

    def may_have_heard(self, publish: Publish) -> bool:
        return self.join_began < publish.returned and publish.began < self.leave_returned


@dataclass
class Receiver:
    """One connection, or one subscription in process, from its beginning to its end."""

    name: str
    memberships: list[Membership] = field(default_factory=list)
    received: list[Message | Left] = field(default_factory=list)
    #: Whether it read until it had left all its topics in good order, and knew so.
    stayed: bool = False
    #: When it was told that it is behind no more.
    drains: list[Moment] = field(default_factory=list)

    def surely_heard(self, publish: Publish) -> bool:
        return self.name != publish.message.publisher and any(
            stay.topic == publish.message.topic and stay.surely_heard(publish) for stay in self.memberships
        )

    def may_have_heard(self, publish: Publish) -> bool:
        return self.name != publish.message.publisher and any(
            stay.topic == publish.message.topic and stay.may_have_heard(publish) for stay in self.memberships
        )

    def may_have_been_behind(self, publish: Publish) -> bool:
        """Whoever is behind is told later that it is not any more, unless its connection ends before."""
        return not self.stayed or any(drain > publish.began for drain in self.drains)


@dataclass
class History:
    """All that was noted."""

    publishes: list[Publish] = field(default_factory=list)
    receivers: list[Receiver] = field(default_factory=list)

    @property
    def missed(self) -> int:
        """How many messages were missed by who stayed, as their publishers were told."""
        return sum(
            publish.message not in receiver.received
            for receiver in self.receivers
            if receiver.stayed
            for publish in self.publishes
            if publish.code == 0 and receiver.surely_heard(publish)
        )


def judge(history: History) -> list[str]:
    """What in a history breaks the promise; empty: nothing."""
    return [
        *(complaint for receiver in history.receivers for complaint in _judge_receiver(receiver, history)),
        *(complaint for publish in history.publishes for complaint in _judge_answer(publish, history)),
    ]


def _judge_receiver(receiver: Receiver, history: History) -> Iterator[str]:
    messages = [item for item in receiver.received if isinstance(item, Message)]
    for message, times in Counter(messages).items():
        if times > 1:
            yield f"duplicated: {receiver.name} received {message} {times} times"
    yield from _judge_order(receiver, messages)
    yield from _judge_invitations(receiver, messages, history)
    yield from _judge_leaving(receiver)
    yield from _judge_completeness(receiver, messages, history)


def _judge_order(receiver: Receiver, messages: list[Message]) -> Iterator[str]:
    last: dict[tuple[str, str], int] = {}
    for publisher, topic, number in messages:
        before = last.get((publisher, topic), -1)
        if number < before:
            yield f"reordered: {receiver.name} received {number} of {publisher} in {topic} behind {before}"
        last[publisher, topic] = max(number, before)


def _judge_invitations(receiver: Receiver, messages: list[Message], history: History) -> Iterator[str]:
    published = {publish.message: publish for publish in history.publishes}
    for message in messages:
        publish = published.get(message)
        if publish is None:
            yield f"invented: {receiver.name} received {message}, which nobody published"
        elif not receiver.may_have_heard(publish):
            yield f"uninvited: {receiver.name} received {message}, but had not subscribed, or had left"


def _judge_leaving(receiver: Receiver) -> Iterator[str]:
    """
    In what it received, a topic that was left stays silent until it is joined again.

    It is told of each leaving, so with as many of these behind it as it has stays in a topic, it is in none.
    """
    stays = Counter(stay.topic for stay in receiver.memberships)
    left: Counter[str] = Counter()
    for item in receiver.received:
        if isinstance(item, Left):
            left[item.topic] += 1
        elif left[item.topic] >= stays[item.topic] > 0:
            yield f"late: {receiver.name} received {item} behind its leaving"


def _judge_completeness(receiver: Receiver, messages: list[Message], history: History) -> Iterator[str]:
    received = set(messages)
    newest: dict[tuple[str, str], int] = defaultdict(lambda: -1)
    for publisher, topic, number in messages:
        newest[publisher, topic] = max(newest[publisher, topic], number)
    for publish in history.publishes:
        if publish.message in received or not receiver.surely_heard(publish):
            continue
        if publish.code == 0 and receiver.may_have_been_behind(publish):
            continue  # it was over its limit; whoever was not has no excuse
        publisher, topic, number = publish.message
        if receiver.stayed:
            yield f"lost: {receiver.name} stayed and never received {publish.message}, answered {publish.code}"
        elif newest[publisher, topic] > number:
            yield f"lost: {receiver.name} received {newest[publisher, topic]} but not {publish.message}"


def _judge_answer(publish: Publish, history: History) -> Iterator[str]:
    candidates = [receiver for receiver in history.receivers if receiver.may_have_heard(publish)]
    if publish.code == 0:
        if candidates and all(
            receiver.stayed and publish.message in receiver.received and receiver.surely_heard(publish)
            for receiver in candidates
        ):
            yield f"lying: {publish.message} was answered 0, but everybody who listened received it"
    elif publish.code == -1:
        if not any(receiver.may_have_been_behind(publish) for receiver in candidates):
            yield f"lying: {publish.message} was answered -1, but nobody who listened was behind"
    elif publish.code != publish.size:
        yield f"lying: {publish.message} has {publish.size} bytes, and was answered {publish.code}"
    elif not candidates:
        yield f"lying: {publish.message} was answered {publish.code}, but nobody listened"
