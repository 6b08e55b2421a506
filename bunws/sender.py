"""
Sender: one streamed answer on its way to the client.

Rule 1: the next chunk is asked for when the last has left; the first goes out with the head if it is made at once.
Rule 2: the stream is closed once, however the sending ends, and nothing disturbs it while it is being closed.
Rule 3: what has begun and cannot be finished is cut, so that no client takes a part for the whole.
Rule 4: a heartbeat has a timer, since the sweep of timeouts.py, which may come every 4 s only, would be late.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from typing import Protocol

from .errors import RAISED, is_cancelled
from .exceptions import HTTPError
from .http.body import ClientDisconnected
from .http.encode import StreamEncoder
from .http.stream import Stream
from .transport import pause_while_left


__all__ = ["Sender", "SenderConnection", "close_stream"]

logger = logging.getLogger("bunws")


class SenderConnection(Protocol):
    """What a sender asks of its connection."""

    transport: asyncio.Transport | None
    is_writable: bool  # nothing that was written is left

    def write(self, data: bytes) -> None:
        """Hand it to the transport, if there is one."""


class Sender:
    """Sends one stream. `encoder` says how; `failure` is what it broke off with, if not whole."""

    __slots__ = (
        "_connection",
        "_is_stopped",
        "_last_write",
        "_stopping_ticks",
        "_stream",
        "_task",
        "_timer",
        "_when_writable",
        "encoder",
        "failure",
    )

    def __init__(self, connection: SenderConnection, stream: Stream, encoder: StreamEncoder) -> None:
        self._connection = connection
        self._stream = stream
        self._task: asyncio.Task[object] | None = None
        self._when_writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None  # of the heartbeat
        self._last_write = 0.0
        self._is_stopped = False
        self._stopping_ticks = 0  # since the server has begun to stop
        self.encoder = encoder
        self.failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<Sender {self._stream!r}>"

    @property
    def is_unwanted(self) -> bool:
        """Whether nobody is left to send anything to: what became of the stream is no news then."""
        return (
            self._is_stopped
            or self._connection.transport is None
            or (self.failure is not None and is_cancelled(self.failure))
        )

    async def send(self) -> BaseException | None:
        """Send all of it, or note the `failure` and return it. It may be one that is for the loop: see errors.py."""
        transport = self._connection.transport
        try:
            try:
                if transport is None or self._is_stopped:
                    raise _gone()
                # Each chunk is written at once, and a transport that pauses has not taken all of it.
                pause_while_left(transport)
                self._task = asyncio.current_task()
                await self._send_chunks()
            finally:
                self._task = None
                await close_stream(self._stream)
        except BaseException as exc:
            self.failure = exc
        if self._connection.transport is not None:
            self._connection.transport.set_write_buffer_limits()
        return self.failure

    async def _send_chunks(self) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(self._send_head)
        self._last_write = loop.time()
        self._beat()
        try:
            while (chunk := await self._stream.next()) is not None:
                self._write(self.encoder.encode(chunk))
                await self._drained()
                if self._connection.transport is None:
                    raise _gone()
            self._write(self.encoder.end())
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _send_head(self) -> None:
        """The first chunk was not made at once: the head does not wait for it any longer."""
        if self._task is not None:
            self._write(self.encoder.encode_head())

    def _write(self, data: bytes) -> None:
        if data:
            self._last_write = asyncio.get_running_loop().time()
            self._connection.write(data)

    def _beat(self) -> None:
        """Break a silence that has lasted as long as the stream allows, where it says so, and look again."""
        if self._stream.heartbeat is None or self.encoder.length is not None or self._is_stopped:
            return
        seconds, data = self._stream.heartbeat
        loop = asyncio.get_running_loop()
        left = self._last_write + seconds - loop.time()
        if left < 0.001:  # which is as exact as the timers of uvloop are
            left = seconds
            if self._connection.is_writable:
                self._write(self.encoder.encode(data))
        self._timer = loop.call_later(left, self._beat)

    async def _drained(self) -> None:
        """Wait until what was written has left; in any case let others have their turn."""
        if self._connection.is_writable:
            await asyncio.sleep(0)
        else:
            self._when_writable = asyncio.get_running_loop().create_future()
            await self._when_writable

    # What the connection tells

    def resume_writing(self) -> None:
        """Nothing is left in the transport."""
        if self._when_writable is not None and not self._when_writable.done():
            self._when_writable.set_result(None)

    def stop(self) -> None:
        """Nobody listens any more: cancel what makes the stream where it waits, and close it."""
        self._is_stopped = True
        if self._task is not None:
            self._task.cancel()

    def eof_received(self) -> None:
        """
        The client has closed its half. Most that do have gone altogether, and a stream that may have no end must not
        go on for nobody; one of known length ends by itself, and so does one that is only compressed piece by piece.
        """
        if self.encoder.length is None and self._stream.is_live:
            self.stop()

    def tick(self, stopping: bool) -> None:
        """
        Stop what has a heartbeat, and so may have no end, when the server is `stopping`: it has one whole tick to come
        to one, as what hears a topic does behind all that was published before.
        """
        if not stopping or self._stream.heartbeat is None or self._task is None or self._is_stopped:
            return
        self._stopping_ticks += 1
        if self._stopping_ticks == 2:
            self.stop()

    def cut(self) -> None:
        """It broke off: end the connection so that the client sees that the answer is not whole."""
        is_told = not isinstance(self.failure, RAISED)  # by whoever gets it
        if not self.is_unwanted and not is_told and not isinstance(self.failure, ClientDisconnected | HTTPError):
            logger.error("bunws: a streamed answer broke off", exc_info=self.failure)
        transport = self._connection.transport
        if transport is None:
            return
        if self.encoder.is_ended_by_closing:
            # Only a reset can tell, which is what closing means with SO_LINGER and 0 seconds.
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def close_stream(stream: Stream) -> None:
    """Close it; what it raises then is logged."""
    try:
        await stream.close()
    except RAISED as exc:
        if is_cancelled(exc):
            raise
        logger.error("bunws: a stream raised when it was closed", exc_info=exc)


def _gone() -> ClientDisconnected:
    return ClientDisconnected("the client went away before it had the whole answer")
