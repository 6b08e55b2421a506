"""
Answers: what a client is told when a handler has raised, or returned what is no answer.

Rule: the log is told what happened, the client never is. The peer's own mistakes are the exception: they are no fault
of the handler that met them, so nobody but the client is told.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable

from .errors import RAISED, is_cancelled
from .exceptions import HTTPError
from .http.body import ClientDisconnected
from .http.response import Response


__all__ = ["answer_to", "failed_again", "not_an_answer", "settled"]

logger = logging.getLogger("bunws")


def _internal_server_error() -> Response:
    """The answer that tells nothing."""
    return Response("Internal Server Error", status=500)


def answer_to(
    exc: BaseException, answer_error: Callable[[BaseException], object | None], problem: str = "fetch raised"
) -> object:
    """
    What to answer in place of a handler that raised `exc`; may have to be awaited.

    `answer_error` is the `error` handler; it returns None where there is none, and the log is told the `problem`.
    """
    if isinstance(exc, ClientDisconnected):
        return Response("The request is incomplete", status=400)
    if isinstance(exc, HTTPError):
        # Such as a form that is none: what found it says what it is answered.
        try:
            return Response(exc.phrase, exc.status, exc.headers)
        except (TypeError, ValueError):
            logger.exception("bunws: an HTTPError was raised that cannot be sent")
            return _internal_server_error()
    try:
        response = answer_error(exc)
    except RAISED:
        logger.exception("bunws: the error handler raised")
        return _internal_server_error()
    if response is None:
        logger.error("bunws: %s", problem, exc_info=exc)
        return _internal_server_error()
    return response


def failed_again(exc: BaseException) -> Response:
    """What to answer where an answer has failed, and then what stood in for it, with `exc`."""
    logger.error("bunws: what stood in for an answer failed as well", exc_info=exc)
    return _internal_server_error()


async def settled(response: object) -> object:
    """Wait for what `answer_to` returned, where that is needed."""
    try:
        return await response if inspect.isawaitable(response) else response
    except RAISED as exc:
        if is_cancelled(exc):
            raise
        logger.exception("bunws: the error handler raised")
        return _internal_server_error()


def not_an_answer(response: object) -> Response:
    """What to answer in place of what a handler returned."""
    if isinstance(response, Response):
        problem = "returned a response whose stream was sent already; make a new one for each request:"
    else:
        problem = "must return a bunws.Response (or None after server.upgrade() returned True), got"
    logger.error("bunws: fetch %s %r", problem, response)
    return _internal_server_error()
