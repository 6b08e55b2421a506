"""
The turn: what handlers send and publish in one pass of the event loop, and the one flush that writes it.

Rule 1: nothing is written to a socket but by `flush`, and it writes to each socket once.
Rule 2: one message is encoded at most once per wire form, however many hear it.
Rule 3: while `flush` walks receivers no user code runs and no membership changes. `deliver` may change how far
behind its own receiver is, and nothing else.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Hashable
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import Final, Protocol

from .frames import OPCODE_BITS, RSV1, TEXT_HEADERS, Message, Opcode, header, parts
from .late import Late
from .topics import BACKPRESSURE, DROPPED, Group, Run, Topic, Topics


__all__ = [
    "Receiver",
    "Turn",
    "TOPIC_LIMIT",
    "TURN_LIMIT",
    "LARGE_MESSAGE",
    "LATE_MESSAGE",
    "check_topic",
]

logger = logging.getLogger("bunws")

# A turn that has collected this many bytes for one topic, or for single sockets, or in all, is flushed at once, and so
# is a message of LARGE_MESSAGE bytes (uWebSockets corks 16 KiB): memory stays bounded and the return codes honest.
TOPIC_LIMIT: Final = 64 * 1024
TURN_LIMIT: Final = 256 * 1024
LARGE_MESSAGE: Final = 16 * 1024

# Where this is compiled, these are C integers.
_topic_limit, _turn_limit, _large_message = TOPIC_LIMIT, TURN_LIMIT, LARGE_MESSAGE

# Bytes of a message that is deflated beside the loop, and delivered late (late.py): 1 MiB takes 19 ms, and nobody else
# would be served meanwhile. Not below LARGE_MESSAGE, so that such a message is the last of its turn.
LATE_MESSAGE: Final = 256 * 1024

# How often a turn that published looks once more at what has arrived, as long as each look finds something.
MAX_LOOKS: Final = 4

SMALL: Final = 8 * 1024  # bytes that may be copied twice

_position = attrgetter("position")


class MessageDeflater(Protocol):
    """What makes the compressed form of messages (RFC 7692); receivers with the same one share their bytes."""

    context_takeover: bool  # it belongs to one receiver, and must see all that this receiver is sent, in order

    jobs: int  # that are under way for it beside the loop; kept by `Turn`, where it has a context

    def deflate(self, payload: bytes) -> bytes | None:
        """The compressed payload; None: send it plain."""

    def aside(self) -> MessageDeflater:
        """The one to be used beside the loop: itself if it has a context, else a twin."""


class Receiver(Hashable, Protocol):
    """Who hears topics; to fit is the business of the room above."""

    deflater: MessageDeflater | None  # None: its peer takes plain messages only

    def deliver(self, data: bytes) -> None:
        """Take these bytes behind all bytes taken before; never refuses. Runs no user code."""

    def deliver_late(self, late: Late) -> None:
        """The same for bytes that are still being made."""

    def deliver_own(self, data: bytes) -> None:
        """Both of `delivered_own` and `deliver`; `data` may be empty."""

    def delivered_own(self) -> None:
        """Its own list was delivered: it has none until it asks for one again. Runs no user code."""

    def dropped(self) -> None:
        """It was over its limit, and missed what its topics had for it. Runs no user code."""

    def broken(self) -> None:
        """`deliver` raised: whatever it has may be half written. Runs no user code."""


class Correspondent(Receiver, Protocol):
    """A receiver that is sent messages of its own. While nothing is published it keeps them: nobody shares them."""

    def deliver_private(self) -> None:
        """Deliver what it keeps. Runs no user code."""

    def mingle_private(self) -> None:
        """Move what it keeps to its own list (`Topics.own`)."""


class Aside(Protocol):
    """Does a job beside the loop, in the order of the calls, and hands its result back in the loop."""

    def __call__(self, job: Callable[[], bytes], done: Callable[[bytes], None], /) -> None: ...


class Turn:
    """The current turn of one server."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], object], aside: Aside) -> None:
        self.topics = Topics()
        #: Whether any receiver may have a deflater; without, `compress=True` means nothing.
        self.deflates = False
        self._call_soon = call_soon
        self._aside = aside
        self._scheduled = False
        self._looks = 0  # that this turn has taken at what has arrived meanwhile
        self._seen = 0  # its size at the last of them
        self._size = 0  # bytes of frames, all topics and receivers together
        self._private: list[Correspondent] = []  # who keeps what it was sent
        self._afterwards: list[Callable[[], None]] = []

    def publish(self, sender: Receiver | None, name: str, message: Message, compress: bool, /) -> int:
        """
        Send to everybody who hears `name`, but for `sender`. O(1) in their number.

        Returns the bytes of the payload, -1 when somebody is behind, 0 when somebody misses it or nobody listens.
        """
        if type(message) is str:
            text = message
            payload = text.encode()
            size = len(payload)
            head = TEXT_HEADERS[size] if size < 126 else header(Opcode.TEXT, size)
        else:
            head, payload = parts(message)
            size = len(payload)
        if compress:
            if not self.deflates:
                compress = False
            elif size >= LATE_MESSAGE:
                self.flush()  # so that it is alone in its turn
        run = self.topics.open
        if run is None or run.sender is not sender or run.compress is not compress or run.topic.name != name:
            if self._private:
                self.mingle()
            run = self.topics.publish(sender, name, compress)
            if run is None:
                check_topic(name)
                return DROPPED
            if not self._scheduled:
                self.schedule()
        run.pieces.append(head)
        run.pieces.append(payload)
        code = run.code
        if self._is_full(run.topic, size):
            self.flush()
            if code is None and self.topics.code(sender, run.topic) is not None:
                code = BACKPRESSURE  # nobody missed it: all were flowing before, and the limit is soft
        return size if code is None else code

    def keep_private(self, receiver: Correspondent) -> None:
        """From now on `receiver` keeps what it is sent; to be called while nothing is published."""
        self.schedule()
        self._private.append(receiver)

    def mingle(self) -> None:
        """Nobody keeps anything: from now on what one is sent has its place among what is published."""
        while self._private:
            self._private[-1].mingle_private()
            self._private.pop()  # not before: who raises, such as a MemoryError, is asked again

    def count(self, size: int) -> None:
        """A message of `size` bytes was sent to one receiver."""
        if self._is_full(self.topics.apart, size):
            self.flush()

    def _is_full(self, topic: Topic, size: int) -> bool:
        """Count a message of `size` bytes to this topic; whether the turn is to be flushed now."""
        topic.size += 2 + size  # a frame is never shorter, so empty messages count too
        self._size += 2 + size
        return topic.size >= _topic_limit or self._size >= _turn_limit or size >= _large_message

    def schedule(self) -> None:
        """See to it that the turn ends in a flush; to be called by whoever adds the first thing to it."""
        if not self._scheduled:
            self._call_soon(self._end)
            self._scheduled = True

    def afterwards(self, callback: Callable[[], None]) -> None:
        """Call back once all that was sent so far has been handed to the transports."""
        self._afterwards.append(callback)
        self.schedule()

    def _end(self) -> None:
        if self.topics.dirty and self._looks < MAX_LOOKS and self._size != self._seen:
            # One more look at what has arrived meanwhile, so that a copy of that joins the same write.
            self._looks += 1
            self._seen = self._size
            self._call_soon(self._end)
            return
        self._looks = self._seen = 0
        self._scheduled = False
        self._flush()
        while self._afterwards:
            callbacks, self._afterwards = self._afterwards, []
            for callback in callbacks:
                try:
                    callback()
                except Exception:
                    logger.exception("bunws: what was to happen after a turn failed")

    def flush(self) -> None:
        """
        Write what the turn has collected. Safe to call in the middle of a turn: order is kept.

        Raises what `call_soon` raises when the loop is closed: uvloop has closed the descriptors then, and told nobody.
        """
        self._call_soon(_nothing)
        self._flush()

    def _flush(self) -> None:
        groups, owed = self.topics.collect()
        self._size = 0
        if self._private:
            receivers, self._private = self._private, []
            for correspondent in receivers:
                try:
                    correspondent.deliver_private()
                except Exception as exc:
                    self._broken(correspondent, exc)
        for group in groups:
            if self.deflates and any([run.compress for run in group.runs]):
                self._flush_deflated(group, owed)
                continue
            try:
                shared = _Buffer(group.runs, None)
            except Exception as exc:  # such as a MemoryError
                for receiver in {*group.receivers, *group.partial}:
                    owed.pop(receiver, None)
                    self._broken(receiver, exc)
                continue
            whole, apart = shared.whole, group.partial
            for receiver in group.receivers:
                if receiver in apart:
                    continue
                try:
                    receiver.deliver(whole)
                except Exception as exc:
                    self._broken(receiver, exc)
            for receiver, since in apart.items():
                try:
                    data = shared.without(receiver, since)
                    if receiver in owed:
                        self._deliver(receiver, owed.pop(receiver), data)
                    elif data:
                        receiver.deliver(data)
                except Exception as exc:
                    self._broken(receiver, exc)
            for receiver in group.dropped:
                receiver.dropped()
        for receiver, runs in owed.items():
            if receiver.deflater is not None:
                self._deliver(receiver, runs, b"")
                continue
            try:
                receiver.deliver_own(_encode(runs, None))
            except Exception as exc:
                self._broken(receiver, exc)

    def _flush_deflated(self, group: Group, owed: dict[Receiver, list[Run]]) -> None:
        """The same for a group in which something is to be compressed: one buffer per wire form."""
        buffers: dict[MessageDeflater | None, _Buffer] = {}
        lates: dict[MessageDeflater, Late] = {}
        is_late = _is_late(group.runs)  # then there is but one run, of one message
        everybody = dict.fromkeys(group.receivers, 0)
        for receiver, since in (everybody | group.partial).items():
            deflater = receiver.deflater
            own = owed.pop(receiver, None)
            try:
                if deflater is not None and (deflater.context_takeover or is_late):
                    runs = [run for run in group.runs if run.position >= since and run.sender is not receiver]
                    if deflater.context_takeover:
                        # Its stream has to see its messages in their order: its own list first.
                        self._deliver(receiver, (own or []) + runs, b"")
                        continue
                    if runs and deflater not in lates:
                        lates[deflater] = self._late(runs, deflater)
                    self._deliver(receiver, own, lates[deflater] if runs else b"")
                    continue
                buffer = buffers.get(deflater)
                if buffer is None:
                    buffer = buffers[deflater] = _Buffer(group.runs, deflater)
                data = buffer.without(receiver, since) if receiver in group.partial else buffer.whole
                self._deliver(receiver, own, data)
            except Exception as exc:
                self._broken(receiver, exc)
        for receiver in group.dropped:
            receiver.dropped()

    def _deliver(self, receiver: Receiver, own: list[Run] | None, shared: bytes | Late) -> None:
        """Its own list, then its share."""
        data: bytes | Late = b""
        try:
            if own is not None:
                receiver.delivered_own()
                deflater = receiver.deflater
                if deflater is not None and (deflater.jobs or _is_late(own)) and any([run.compress for run in own]):
                    data = self._late(own, deflater)
                else:
                    data = _encode(own, deflater)
            if isinstance(data, bytes) and isinstance(shared, bytes):
                if whole := data + shared if data else shared:
                    receiver.deliver(whole)
                return
            for piece in (data, shared):
                if isinstance(piece, Late):
                    receiver.deliver_late(piece)
                elif piece:
                    receiver.deliver(piece)
        except Exception as exc:
            self._broken(receiver, exc)

    def _late(self, runs: list[Run], deflater: MessageDeflater) -> Late:
        """Have these runs encoded beside the loop."""
        late = Late(sum([sum(map(len, run.pieces)) for run in runs]), partial(_encode_aside, runs, deflater.aside()))
        deflater.jobs += deflater.context_takeover

        def done(data: bytes) -> None:
            deflater.jobs -= deflater.context_takeover
            late.ready(data)

        self._aside(late.make, done)
        return late

    def _broken(self, receiver: Receiver, exc: Exception) -> None:
        # One broken socket must not disturb the others of its group.
        logger.error("bunws: a socket could not be written to", exc_info=exc)
        receiver.broken()


def _nothing() -> None: ...


def check_topic(name: object) -> None:
    """Raise TypeError or ValueError for what can be no topic's name."""
    if not isinstance(name, str):
        raise TypeError(f"topic must be a str, got {type(name).__name__}")
    if not name:
        raise ValueError("topic must not be empty")


def _encode(runs: list[Run], deflater: MessageDeflater | None) -> bytes:
    """The wire form of some runs."""
    if len(runs) == 1:
        return _encode_run(runs[0], deflater)
    return b"".join([_encode_run(run, deflater) for run in runs])


def _is_late(runs: list[Run]) -> bool:
    # A message of that size is the last of its run, since it ends the turn.
    return any([run.compress and run.pieces and len(run.pieces[-1]) >= LATE_MESSAGE for run in runs])


def _encode_aside(runs: list[Run], deflater: MessageDeflater) -> bytes:
    try:
        return _encode(runs, deflater)
    except Exception:  # such as a MemoryError
        logger.exception("bunws: messages are sent plain, since they could not be deflated")
        return _encode(runs, None)


def _encode_run(run: Run, deflater: MessageDeflater | None) -> bytes:
    if deflater is None or not run.compress:
        return b"".join(run.pieces)
    if deflater.context_takeover:
        return _deflate(run, deflater)
    # Receivers of several groups may share it: those who hear this topic alone, and those who hear others too.
    data = run.forms.get(deflater)
    if data is None:
        data = run.forms[deflater] = _deflate(run, deflater)
    return data


def _deflate(run: Run, deflater: MessageDeflater) -> bytes:
    pieces: list[bytes] = []
    for index in range(0, len(run.pieces), 2):
        head, payload = run.pieces[index], run.pieces[index + 1]
        compressed = deflater.deflate(payload)
        if compressed is not None:
            # RFC 7692, 6.1: the "Per-Message Compressed" bit is RSV1 of the first, here the only, frame.
            head, payload = header(head[0] & OPCODE_BITS, len(compressed), RSV1), compressed
        pieces += (head, payload)
    return b"".join(pieces)


class _Buffer:
    """The bytes of some runs, and where each run begins, so that a receiver's own runs can be cut out."""

    __slots__ = ("_own", "_runs", "_starts", "whole")

    def __init__(self, runs: list[Run], deflater: MessageDeflater | None) -> None:
        self._runs = runs
        self._own: dict[object, int | list[int]] | None = None
        if len(runs) == 1:
            self.whole = _encode_run(runs[0], deflater)
            self._starts = [0, len(self.whole)]
        else:
            pieces = [_encode_run(run, deflater) for run in runs]
            self.whole = b"".join(pieces)
            self._starts = [0, *accumulate(map(len, pieces))]

    def without(self, receiver: Hashable, since: int) -> bytes:
        """The bytes from position `since` on, less what `receiver` sent itself."""
        if len(self._runs) == 1:
            run = self._runs[0]
            return b"" if run.sender is receiver or run.position < since else self.whole
        own = (self._own or self._index()).get(receiver, ())
        starts = self._starts
        if own.__class__ is int and not since and len(self.whole) < SMALL:
            # Two slices and a sum instead of a view and a join: 0.2 against 0.6 us for 512 bytes (CPython 3.13).
            return self.whole[: starts[own]] + self.whole[starts[own + 1] :]
        begin = starts[bisect_left(self._runs, since, key=_position)] if since else 0
        view = memoryview(self.whole)
        pieces = []
        for index in (own,) if isinstance(own, int) else own:
            if starts[index] > begin:
                pieces.append(view[begin : starts[index]])
            begin = max(begin, starts[index + 1])
        pieces.append(view[begin:])
        return b"".join(pieces)

    def _index(self) -> dict[object, int | list[int]]:
        """Which runs each sender has: nearly always one, so that needs no list."""
        own: dict[object, int | list[int]] = {}
        for index, run in enumerate(self._runs):
            before = own.get(run.sender)
            if before is None:
                own[run.sender] = index
            elif isinstance(before, int):
                own[run.sender] = [before, index]
            else:
                before.append(index)
        self._own = own
        return own
