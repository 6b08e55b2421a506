"""
Tags: the entity tag of a response that is compressed, and back (RFC 9110, 8.8.3).

Rule: each content coding has a tag of its own, so nobody is told to use what is coded otherwise than it accepts.
"""

from __future__ import annotations

import re
from typing import Final


__all__ = ["coded_tag", "with_plain_tags"]


# RFC 9110, 8.8.3: 'etagc = %x21 / %x23-7E / obs-text'.
_ETAGC: Final = r"[\x21\x23-\x7e\x80-\xff]"
_TAG: Final = re.compile(rf'(?:W/)?("{_ETAGC}*)"')


def coded_tag(etag: str, coding: str) -> str:
    """The tag of what becomes of a response with this `etag` in a content coding; "" where that is no tag."""
    # RFC 9110, 8.8.3.3: "Content codings are a property of the representation data, so a strong entity tag for a
    # content-encoded representation has to be distinct from the entity tag of an unencoded representation". It is weak,
    # as another version of the coding makes other bytes of the same.
    #
    # Weak tags may be shared: 8.8.1 knows one that is that of gzip and of no coding. But it "SHOULD change whenever the
    # origin server considers prior representations to be unacceptable as a substitute for the current representation",
    # and gzip is no substitute to a client that does not accept it: a cache that has gzip asks for that client with the
    # tag of what it has (RFC 9111, 4.3.1), and takes 304 for the leave to send it.
    match = _TAG.fullmatch(etag)
    return f'W/{match[1]}-{coding}"' if match else ""


def with_plain_tags(field: str, coding: str) -> str:
    """A list of tags where each that is one of this coding is followed by the (weak) tag of what was coded."""
    return re.sub(rf'(W/"{_ETAGC}*)-{coding}"', r'\g<0>, \1"', field) if f'-{coding}"' in field else field
