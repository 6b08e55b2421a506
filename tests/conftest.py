"""Conftest: on which event loops the tests run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest


def pytest_asyncio_loop_factories(item: pytest.Function) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """A test module that sets `LOOP_FACTORIES` has its async tests run on each of them; see clients.EACH_LOOP."""
    return getattr(item.module, "LOOP_FACTORIES", {"asyncio": asyncio.new_event_loop})
