"""
Headers: the syntax of fields, the same for requests, responses and the handshake.

Rule 1: what a peer sent is asked about (`is_token`, `is_authority`); what the caller wrote is refused with an error
that names the field (`check_field`, `make_headers`).
Rule 2: everything is one linear scan. No regular expression here repeats anything but a single set of characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv6Address
from typing import Final, TypeAlias

from multidict import CIMultiDict
from yarl import URL


__all__ = ["HeadersInit", "make_headers", "check_field", "check_text", "is_token", "tokens", "is_authority"]


HeadersInit: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers as a caller may write them: a mapping, or pairs where a name may come more than once."""

# RFC 9110, 5.6.2: "token = 1*tchar"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

# RFC 9110, 5.5: "field-vchar = VCHAR / obs-text". And: "Field values containing CR, LF, or NUL
# characters are invalid and dangerous"; the other control characters "are also invalid".
_NOT_IN_VALUE: Final = re.compile(r"[^\t\x20-\x7e\x80-\xff]")

# A reg-name of RFC 3986, 3.2.2, less its sub-delims and percent-encoding, which no name in the DNS has. A comma or "@"
# there is how two readers of one Host come to different hosts.
_HOST: Final = re.compile(r"[0-9A-Za-z._~\-]+")

# What nearly all clients send: such a name, and perhaps a port whose number cannot be too large.
_PLAIN_AUTHORITY: Final = re.compile(r"[0-9A-Za-z._~\-]+(?::[0-9]{1,4})?")


# What the caller wrote


def make_headers(headers: HeadersInit | None) -> CIMultiDict[str]:
    """
    Copy `headers` into a new multidict.

    Raises `TypeError` for anything but a mapping or pairs of strings, `ValueError` for a name or a
    value that may not be on the wire.
    """
    made: CIMultiDict[str] = CIMultiDict()
    if headers is None:
        return made
    # Most are a dict, and to ask whether something is a Mapping takes 0.2 µs.
    pairs = headers.items() if type(headers) is dict or isinstance(headers, Mapping) else headers
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"headers must be a mapping or pairs of (name, value), not {pair!r}")
        name, value = pair
        check_field(name, value)
        made.add(name, value)
    return made


def check_field(name: str, value: str) -> None:
    """Raise `TypeError` or `ValueError`, naming the header, unless the field may be on the wire."""
    if not isinstance(name, str):
        raise TypeError(f"header {name!r}: the name must be str, not {type(name).__name__}")
    if not is_token(name):
        raise ValueError(f"header {name!r}: the name is not a token (RFC 9110, 5.6.2)")
    # Nearly every value is this. To ask first halves what a field takes: 0.2 µs instead of 0.3.
    if not (type(value) is str and value.isascii() and value.isprintable()):
        check_text(f"header {name!r}", value)


def check_text(what: str, text: str) -> None:
    """Raise `TypeError` or `ValueError`, naming `what`, unless `text` may be in a head."""
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str, not {type(text).__name__}")
    if _NOT_IN_VALUE.search(text):
        raise ValueError(f"{what} holds a control character or one beyond Latin-1: {text!r}")


# What a peer sent


def is_token(text: str) -> bool:
    """RFC 9110, 5.6.2: a method, a field name, a subprotocol."""
    return _TOKEN.fullmatch(text) is not None


def tokens(values: Iterable[str]) -> list[str]:
    """
    The elements of a comma-separated list, in lower case, from all lines of one field.

    RFC 9110, 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list
    elements"; the limit on the head makes the number reasonable.
    """
    if not values:
        return []
    elements = (element.strip(" \t").lower() for value in values for element in value.split(","))
    return [element for element in elements if element]


def is_authority(text: str) -> bool:
    """RFC 9110, 7.2: "Host = uri-host [ ":" port ]", without userinfo; the host is not empty."""
    if _PLAIN_AUTHORITY.fullmatch(text) and "--" not in text:
        return True
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket or not _is_ipv6(address) or (port and port[0] != ":"):
            return False
        return _is_port(port[1:])
    host, _, port = text.partition(":")
    return _HOST.fullmatch(host) is not None and _is_port(port) and _is_idna(host)


def _is_ipv6(text: str) -> bool:
    try:
        # A zone ("%eth0", RFC 6874) means something on the client's machine only.
        return IPv6Address(text).scope_id is None
    except AddressValueError:
        return False


def _is_port(text: str) -> bool:
    # RFC 3986, 3.2.3: "port = *DIGIT". So "host:" is valid and names the default port.
    return not text or (len(text) <= 5 and text.isascii() and text.isdigit() and int(text) < 65536)


def _is_idna(host: str) -> bool:
    """Whether yarl can show the host to a human: it decodes what looks like punycode."""
    host = host.lower()  # as `Request.url` has it
    if "xn--" not in host:
        return True
    try:
        return bool(URL(f"http://{host}", encoded=True).host)
    except UnicodeError:
        return False
