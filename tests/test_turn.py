"""The turn: one write per receiver, the same bytes for all who hear the same."""

from __future__ import annotations

import logging

import pytest

from bunws.frames import Opcode, header
from bunws.late import Late
from bunws.topics import Level
from bunws.turn import LARGE_MESSAGE, TOPIC_LIMIT, TURN_LIMIT, MessageDeflater, Turn
from tests.fakes import FakeLoop, frames


class FakeReceiver:
    """Keeps what it is delivered; may be broken."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.deflater: MessageDeflater | None = None
        self.writes: list[bytes] = []
        self.told: list[str] = []
        self.fails = False

    def __repr__(self) -> str:
        return self.name

    def deliver(self, data: bytes) -> None:
        if self.fails:
            raise OSError("half written")
        self.writes.append(data)

    def deliver_late(self, late: Late) -> None:
        raise AssertionError("nothing here is deflated")

    def deliver_own(self, data: bytes) -> None:
        self.told.append("own")
        if data:
            self.deliver(data)

    def delivered_own(self) -> None:
        self.told.append("own")

    def dropped(self) -> None:
        self.told.append("dropped")

    def broken(self) -> None:
        self.told.append("broken")

    @property
    def heard(self) -> list[str]:
        return [payload.decode() for _, payload in frames(b"".join(self.writes))]


class Stage:
    """A turn with three receivers of the topic "news"."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.turn = Turn(self.loop.call_soon, self.loop.aside)
        self.ann, self.ben, self.cat = self.all = [FakeReceiver(name) for name in ("ann", "ben", "cat")]
        for receiver in self.all:
            self.turn.topics.subscribe(receiver, "news")

    def publish(self, message: str | bytes, sender: FakeReceiver | None = None, name: str = "news") -> int:
        return self.turn.publish(sender, name, message, False)

    def send(self, receiver: FakeReceiver, message: str) -> None:
        run = self.turn.topics.own(receiver, False)
        payload = message.encode()
        run.pieces += [header(Opcode.TEXT, len(payload)), payload]
        self.turn.schedule()

    @property
    def heard(self) -> list[list[str]]:
        return [receiver.heard for receiver in self.all]


@pytest.fixture
def stage() -> Stage:
    return Stage()


# One write


def test_nothing_is_written_before_the_turn_ends(stage: Stage) -> None:
    stage.publish("one")
    stage.publish("two")
    assert stage.heard == [[], [], []]
    stage.loop.end_turn()
    assert stage.heard == [["one", "two"]] * 3


def test_all_who_hear_the_same_are_given_the_same_bytes_object_once(stage: Stage) -> None:
    for number in range(10):
        stage.publish(str(number))
        stage.publish(str(number), stage.cat, "nobody hears this")
    stage.loop.end_turn()
    (one,), (two,), (three,) = (receiver.writes for receiver in stage.all)
    assert one is two is three


def test_the_sender_is_given_the_rest_in_one_write(stage: Stage) -> None:
    for message, sender in (("1", None), ("2", stage.ann), ("3", stage.ben), ("4", stage.ann), ("5", None)):
        stage.publish(message, sender)
    stage.loop.end_turn()
    assert stage.heard == [["1", "3", "5"], ["1", "2", "4", "5"], ["1", "2", "3", "4", "5"]]
    assert [len(receiver.writes) for receiver in stage.all] == [1, 1, 1]


@pytest.mark.parametrize("size", [1, 5000], ids=["small", "large"])
@pytest.mark.parametrize("senders", ["a", "ab", "ba", "aab", "aba", "bab", "baab", "abab"])
def test_a_senders_own_are_cut_out_wherever_they_stand(stage: Stage, senders: str, size: int) -> None:
    for number, sender in enumerate(senders):
        stage.publish(str(number) * size, stage.ann if sender == "a" else stage.ben)
    stage.loop.end_turn()
    for receiver, letter in ((stage.ann, "a"), (stage.ben, "b")):
        assert receiver.heard == [str(number) * size for number, sender in enumerate(senders) if sender != letter]
    assert stage.cat.heard == [str(number) * size for number, _ in enumerate(senders)]


def test_who_would_be_given_nothing_is_not_written_to(stage: Stage) -> None:
    stage.publish("hello", stage.ann)
    stage.loop.end_turn()
    assert stage.ann.writes == []


def test_what_one_is_sent_alone_is_in_the_same_write(stage: Stage) -> None:
    stage.publish("1")
    stage.send(stage.ann, "for ann")
    stage.publish("2")
    stage.loop.end_turn()
    assert stage.heard == [["1", "for ann", "2"], ["1", "2"], ["1", "2"]]
    assert len(stage.ann.writes) == 1
    assert stage.ann.told == ["own"]


def test_a_turn_without_anything_writes_nothing(stage: Stage) -> None:
    stage.turn.flush()
    stage.loop.end_turn()
    assert stage.heard == [[], [], []]


# Bounds


def test_a_large_message_leaves_at_once_behind_what_was_said_before(stage: Stage) -> None:
    stage.publish("small")
    stage.publish("x" * LARGE_MESSAGE)
    assert [list(map(len, receiver.heard)) for receiver in stage.all] == [[5, LARGE_MESSAGE]] * 3
    stage.publish("after")
    stage.loop.end_turn()
    assert stage.ann.heard[2:] == ["after"]


def test_a_turn_never_holds_more_than_its_limit_for_one_topic(stage: Stage) -> None:
    message = "x" * 1000
    published = 0
    while not stage.ann.writes:
        stage.publish(message)
        published += 1
        assert published <= TOPIC_LIMIT / len(message) + 1
    assert published >= TOPIC_LIMIT / len(message)
    assert len(stage.ann.heard) == published


def test_nor_more_than_another_in_all_however_many_topics(stage: Stage) -> None:
    message = "x" * 1000
    published = 0
    while not stage.ann.writes:
        name = f"room {published % 100}"
        stage.turn.topics.subscribe(stage.ann, name)
        stage.publish(message, name=name)
        published += 1
        assert published <= TURN_LIMIT / len(message) + 1
    assert published >= TURN_LIMIT / (2 + len(message))
    stage.loop.end_turn()
    assert len(stage.ann.heard) == published


def test_a_turn_counts_anew_behind_a_flush(stage: Stage) -> None:
    for _ in range(3):
        size = 0
        while size + 1002 < TOPIC_LIMIT:
            size += 2 + stage.publish("x" * 1000)
        assert stage.ann.writes == []
        stage.loop.end_turn()
        assert len(stage.ann.writes) == 1
        stage.ann.writes.clear()


# Answers


def test_the_answer_is_the_bytes_of_the_payload(stage: Stage) -> None:
    assert stage.publish("grüße") == 7
    assert stage.publish(b"abc") == 3
    assert stage.publish("") == 0


def test_the_answer_is_0_where_nobody_listens(stage: Stage) -> None:
    assert stage.publish("hello", name="elsewhere") == 0


def test_the_answer_tells_of_those_that_are_behind_or_miss_it(stage: Stage) -> None:
    stage.turn.topics.set_level(stage.ben, Level.BEHIND)
    assert stage.publish("hello") == -1
    assert stage.publish("hello", stage.ben) == 5
    stage.turn.topics.set_level(stage.ben, Level.OVER)
    assert stage.publish("hello") == 0
    stage.loop.end_turn()
    assert stage.ben.told == ["dropped", "own"]
    assert stage.heard == [["hello", "hello", "hello"], ["hello"], ["hello", "hello", "hello"]]


@pytest.mark.parametrize("topic", ["news", "elsewhere"])
@pytest.mark.parametrize("message", [None, 5, ["a"]])
def test_what_is_no_message_is_refused_and_nothing_is_sent(stage: Stage, topic: str, message: str) -> None:
    stage.publish("before")
    with pytest.raises(TypeError, match="a message is a str"):
        stage.publish(message, name=topic)
    stage.loop.end_turn()
    assert stage.heard == [["before"]] * 3


@pytest.mark.parametrize(
    ("topic", "error"), [("", ValueError), (None, TypeError), (5, TypeError), (b"news", TypeError)]
)
def test_what_is_no_topic_is_refused(stage: Stage, topic: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="topic must"):
        stage.publish("hello", name=topic)


# Broken receivers


def test_a_broken_receiver_does_not_disturb_the_others(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.ben.fails = True
    stage.publish("1")
    stage.publish("2", stage.cat)
    stage.send(stage.ben, "for ben")
    stage.loop.end_turn()
    assert stage.heard == [["1", "2"], [], ["1"]]
    assert stage.ben.told == ["own", "broken"]
    assert stage.ann.told == stage.cat.told == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "half written" in caplog.text


@pytest.mark.parametrize("who", ["ann", "ben", "cat"])
def test_whoever_it_is(stage: Stage, who: str) -> None:
    (broken,) = [receiver for receiver in stage.all if receiver.name == who]
    broken.fails = True
    for _ in range(3):
        stage.publish("hello")
        stage.loop.end_turn()
    assert [receiver.heard for receiver in stage.all if receiver is not broken] == [["hello"] * 3] * 2
    assert broken.told == ["broken"] * 3


# Afterwards


def test_what_is_to_happen_afterwards_happens_once_behind_the_writes(stage: Stage) -> None:
    seen: list[list[str]] = []
    stage.publish("1")
    stage.turn.afterwards(lambda: seen.append(list(stage.ann.heard)))
    stage.loop.end_turn()
    stage.loop.end_turn()
    assert seen == [["1"]]


def test_it_happens_in_a_turn_in_which_nothing_was_sent(stage: Stage) -> None:
    seen: list[str] = []
    stage.turn.afterwards(lambda: seen.append("done"))
    assert seen == []
    stage.loop.end_turn()
    assert seen == ["done"]


def test_a_flush_in_the_middle_of_a_turn_does_not_bring_it_forward(stage: Stage) -> None:
    seen: list[str] = []
    stage.turn.afterwards(lambda: seen.append("done"))
    stage.publish("x" * LARGE_MESSAGE)
    assert seen == []
    stage.loop.end_turn()
    assert seen == ["done"]


def test_what_it_publishes_and_puts_off_itself_is_not_forgotten(stage: Stage) -> None:
    seen: list[str] = []

    def first() -> None:
        stage.publish("from afterwards")
        stage.turn.afterwards(lambda: seen.append("second"))

    stage.turn.afterwards(first)
    stage.loop.end_turn()
    assert seen == ["second"]
    assert stage.heard == [["from afterwards"]] * 3


def test_one_that_raises_does_not_disturb_the_others(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ValueError("broken")

    seen: list[str] = []
    stage.turn.afterwards(lambda: seen.append("before"))
    stage.turn.afterwards(broken)
    stage.turn.afterwards(lambda: seen.append("behind"))
    stage.loop.end_turn()
    assert seen == ["before", "behind"]
    assert "ValueError: broken" in caplog.text
    stage.publish("still")
    stage.loop.end_turn()
    assert stage.heard == [["still"]] * 3
