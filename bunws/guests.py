"""
Guests: who is connected to one server, and what runs for them.

Rule: the server may end when nobody is left; `when_empty` is called each time that this may have come true.
"""

from __future__ import annotations

import asyncio
import logging
import math
import resource
from collections.abc import Callable, Coroutine
from typing import Final, NamedTuple

from .address import SocketAddress
from .connection import Connection
from .engine import Engine
from .notice import Notice
from .quota import Quota
from .timeouts import Sweeper


__all__ = ["GuestLimits", "Guests"]

logger = logging.getLogger("bunws")

# Connections over a limit that are being told 503 at one time; past that they are dropped without a word.
MAX_REFUSED: Final = 100

# Of the descriptors that the process may have, the share that connections may take without a word to the operator. Past
# all of them libuv accepts and closes, and says nothing.
SHARE_OF_DESCRIPTORS: Final = 0.9


class GuestLimits(NamedTuple):
    """How many connections there may be; None: any number."""

    max_connections: int | None
    max_connections_per_ip: int | None


class Guests:
    """HTTP connections, WebSockets and tasks; all but the tasks are swept."""

    def __init__(self, limits: GuestLimits, when_empty: Callable[[], None]) -> None:
        self.connections: set[Connection] = set()
        self.engines: set[Engine] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.sweeper = Sweeper()
        self._refused: set[Connection] = set()
        self._most = limits.max_connections
        self._quota = Quota(limits.max_connections_per_ip) if limits.max_connections_per_ip is not None else None
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._many = math.inf if descriptors == resource.RLIM_INFINITY else descriptors * SHARE_OF_DESCRIPTORS
        self._many_notice = Notice(
            f"connections take {SHARE_OF_DESCRIPTORS:.0%} of the {descriptors} file descriptors there may be, and are "
            "dropped where none is left; raise `ulimit -n`, or set max_connections"
        )
        self._notices = {
            name: Notice(f"connections over {name}={most} are answered with 503")
            for name, most in limits._asdict().items()
        }
        self._when_empty = when_empty

    def __bool__(self) -> bool:
        """Whether anybody is left."""
        return bool(self.connections or self._refused or self.engines or self.tasks)

    def enter(self, connection: Connection) -> bool:
        """A connection has come. False: there are too many."""
        self.sweeper.add(connection)
        if self._has_room(connection):
            self.connections.add(connection)
            return True
        self._refused.add(connection)
        if len(self._refused) > MAX_REFUSED:
            connection.stop(abrupt=True)
        return False

    def _has_room(self, connection: Connection) -> bool:
        count = len(self.connections) + len(self.engines)
        if count >= self._many:
            self._many_notice.tell()
        if self._most is not None and count >= self._most:
            self._notices["max_connections"].tell()
            return False
        if self._quota is None or connection.transport is None:
            return True
        peer = SocketAddress.of_peer(connection.transport)
        if peer is None or self._quota.take(connection, peer.address):
            return True
        self._notices["max_connections_per_ip"].tell()
        return False

    def leave(self, connection: Connection) -> None:
        """Its TCP connection is gone, or a WebSocket's from now on."""
        self.connections.discard(connection)
        self._refused.discard(connection)
        self.sweeper.discard(connection)
        if self._quota is not None:
            self._quota.give_back(connection)
        self._when_empty()

    def become(self, connection: object, engine: Engine) -> None:
        """A connection is a WebSocket's from now on; `leave` comes as well."""
        self.engines.add(engine)
        self.sweeper.add(engine)
        if self._quota is not None:
            self._quota.pass_on(connection, engine)

    def leave_engine(self, engine: Engine) -> None:
        """A WebSocket's connection is gone."""
        self.engines.discard(engine)
        self.sweeper.discard(engine)
        if self._quota is not None:
            self._quota.give_back(engine)
        self._when_empty()

    def spawn(self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[object, object, None]) -> None:
        """Run it as a task."""
        task = loop.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self._task_done)

    def drop_all(self) -> None:
        """Nobody is waited for any longer."""
        for connection in (*self.connections, *self._refused):
            connection.stop(abrupt=True)
        for engine in tuple(self.engines):
            engine.drop()
        for task in tuple(self.tasks):
            # Not at once: one that has not begun yet would never run, nor tell `close`.
            task.get_loop().call_soon(task.cancel)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            logger.error("bunws: a task of the server failed", exc_info=exc)
        self._when_empty()
