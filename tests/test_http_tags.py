"""Entity tags: that of a response that is compressed, and back to that of what it was made of."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from bunws.http.conditional import check_preconditions
from bunws.http.tags import coded_tag, with_plain_tags
from tests.test_http_conditional import fields


@pytest.mark.parametrize(
    ("etag", "expected"),
    [
        ('"x"', 'W/"x-gzip"'),
        ('W/"x"', 'W/"x-gzip"'),
        ('""', 'W/"-gzip"'),
        ('"x, y"', ""),
        ('"x,y"', 'W/"x,y-gzip"'),
        ('"\xe9"', 'W/"\xe9-gzip"'),
        ("x", ""),
        ('w/"x"', ""),
        ('"x', ""),
        ("", ""),
    ],
)
def test_what_is_compressed_has_a_weak_tag_of_its_own(etag: str, expected: str) -> None:
    assert coded_tag(etag, "gzip") == expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ('W/"x-gzip"', 'W/"x-gzip", W/"x"'),
        ('"a" ,W/"x-gzip", W/"y-gzip"', '"a" ,W/"x-gzip", W/"x", W/"y-gzip", W/"y"'),
        ('W/"x-gzip-gzip"', 'W/"x-gzip-gzip", W/"x-gzip"'),
        ('W/"-gzip"', 'W/"-gzip", W/""'),
        # of another coding, or not made here
        *((same, same) for same in ('W/"x-br"', '"x-gzip"', 'W/"x"', "*", "", 'W/"x-gzip', 'W/"x -gzip"')),
    ],
)
def test_the_tag_of_what_was_compressed_comes_behind_each_tag_of_the_coding(known: str, expected: str) -> None:
    assert with_plain_tags(known, "gzip") == expected


@given(st.from_regex(r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"', fullmatch=True), st.sampled_from(["zstd", "br", "gzip"]))
def test_a_handler_finds_its_own_tag_again_and_only_for_the_same_coding(etag: str, coding: str) -> None:
    known = coded_tag(etag, coding)
    for other in ("zstd", "br", "gzip"):
        status = check_preconditions("GET", fields(f"If-None-Match: {with_plain_tags(known, other)}"), etag, None)
        assert status == (304 if other == coding else 200)
