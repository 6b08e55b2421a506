"""Guests: what the operator is told when there are many."""

from __future__ import annotations

import resource

import pytest

import bunws
from tests.support import RawClient


def test_operator_is_told_before_the_descriptors_are_gone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (3, 3))
    with bunws.serve(fetch=lambda request: bunws.Response("hello"), hostname="127.0.0.1", port=0) as server:
        assert server.port is not None
        clients = [RawClient(server.port) for _ in range(5)]
        assert [client.get().answer().status for client in clients] == [200] * 5
        for client in clients:
            client.close()
    (line,) = [record.getMessage() for record in caplog.records]
    assert "90% of the 3 file descriptors" in line
    assert "ulimit -n" in line
