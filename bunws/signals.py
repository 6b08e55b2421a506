"""
Signals: Ctrl-C and SIGTERM stop the servers of the process gracefully.

Rule 1: handlers are set in the main thread only; where somebody has set his own, they stay.
Rule 2: a program that only waits for its servers just ends, with exit code 0. One that does more is told: Ctrl-C
raises KeyboardInterrupt as ever, SIGTERM raises SystemExit(0).
Rule 3: a second signal ends the servers at once. A third does what it would do without them.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, MethodType
from typing import Any, Final, Protocol


__all__ = ["Stoppable", "install", "uninstall", "interrupt"]

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """A server that runs."""

    def stop_on_signal(self, signum: int, at_once: bool) -> bool:
        """Begin to stop. Returns whether the server will call `interrupt` itself, once it has stopped."""


_servers: Final[list[Stoppable]] = []
_told: Final[list[Stoppable]] = []  # of the servers, those that a signal has reached
_previous: Final[dict[int, Any]] = {}


def install(server: Stoppable) -> None:
    """Let the signals stop this server too. Does nothing off the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in SIGNALS:
        previous = signal.getsignal(signum)
        if _is_default(signum, previous):
            _previous[signum] = previous
            signal.signal(signum, _handle)
    _servers.append(server)


def uninstall(server: Stoppable) -> None:
    """The server has stopped. May be called from any thread, more than once, and without `install`."""
    for servers in (_servers, _told):
        if server in servers:
            servers.remove(server)
    if not _servers and threading.current_thread() is threading.main_thread():
        _restore()


def interrupt(signum: int) -> None:
    """Do to the program what the signal would have done; to be called in the main thread."""
    _restore()
    if signum == signal.SIGTERM:
        raise SystemExit(0)
    signal.raise_signal(signum)


def _handle(signum: int, frame: FrameType | None) -> None:
    servers = tuple(_servers)
    if not servers:  # they stopped, but not in the main thread
        _restore()
        if not _script_has_ended(frame):
            signal.raise_signal(signum)
        return  # else it came while the process was ending anyway
    later = again = False
    for server in servers:
        at_once = server in _told
        if at_once:
            again = True
        else:
            _told.append(server)
        later |= server.stop_on_signal(signum, at_once)
    if again:
        _restore()  # a handler may block the loop itself: then the third signal has to do without it
    if not later and not _script_has_ended(frame):
        interrupt(signum)


def _script_has_ended(frame: FrameType | None) -> bool:
    """Whether the main thread has nothing more to do, and the interpreter waits for the others, in `threading`."""
    while frame is not None:
        if frame.f_code.co_name == "_shutdown" and frame.f_globals.get("__name__") == threading.__name__:
            return True
        frame = frame.f_back
    return not threading.main_thread().is_alive()


def _restore() -> None:
    while _previous:
        signum, previous = _previous.popitem()
        if signal.getsignal(signum) is _handle:
            signal.signal(signum, previous)


def _is_default(signum: int, previous: object) -> bool:
    if signum == signal.SIGTERM:
        return previous is signal.SIG_DFL
    if previous is signal.default_int_handler:
        return True
    # asyncio.run() sets a handler that cancels the main task.
    func = getattr(previous, "func", None)
    return isinstance(func, MethodType) and type(func.__self__).__name__ == "Runner"
