"""Notice: a flood makes one line a second."""

from __future__ import annotations

import pytest

from bunws.notice import Notice


def test_a_flood_is_told_once_a_second_with_its_size(caplog: pytest.LogCaptureFixture) -> None:
    now = 100.0
    notice = Notice("something happened", lambda: now)
    for _ in range(1000):
        notice.tell()
    now = 101.0
    notice.tell()
    now = 103.0
    notice.tell()
    assert [record.getMessage() for record in caplog.records] == [
        "bunws: something happened",
        "bunws: something happened (999 more since the last notice)",
        "bunws: something happened",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
