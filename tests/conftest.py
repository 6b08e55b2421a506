"""Conftest: on which event loops the tests run, and in which form the rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.support import COMPILED, stale_rooms


def pytest_configure() -> None:
    if COMPILED and (stale := stale_rooms()):
        raise pytest.UsageError(f"changed since it was compiled: {', '.join(stale)}; `make build`, or BUNWS_PURE=1")


def pytest_report_header() -> str:
    return f"bunws: {'compiled' if COMPILED else 'pure'}"


def pytest_asyncio_loop_factories(item: pytest.Function) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A test module that sets `LOOP_FACTORIES` has its async tests run on each of them; see clients.EACH_LOOP."""
    return getattr(item.module, "LOOP_FACTORIES", {"asyncio": asyncio.new_event_loop})
