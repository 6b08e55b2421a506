"""
Cookies: read as servers do, written to the letter (RFC 6265bis).

Rule 1: nothing that a client sends raises here; what is no pair of a name and a value is passed over.
Rule 2: what a browser would drop without a word is refused with an error that names it.
Rule 3: a value may be any text without CR, LF or NUL. It is percent-encoded as Bun and `encodeURIComponent` do, and
decoded when it comes back. A name is never decoded: "%5F_Host-id" must not become "__Host-id".
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Final, Literal, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from .headers import is_token


__all__ = ["SameSite", "parse_cookies", "set_cookie_header", "delete_cookie_header"]


SameSite: TypeAlias = Literal["Strict", "Lax", "None", "strict", "lax", "none"]
"""Whether a cookie goes with requests that other sites cause: never, when a link is followed, always."""

_SAME_SITE: Final = {"strict": "Strict", "lax": "Lax", "none": "None"}

# What encodeURIComponent leaves alone besides what `quote` does. Each is a cookie-octet (RFC 6265bis, 4.1.1).
_SAFE: Final = "!~*'()"

# RFC 6265bis, 4.1.1: "path-value = *av-octet", "av-octet = %x20-3A / %x3C-7E".
_PATH: Final = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")

# RFC 6265bis, 4.1.1: "domain-value = <subdomain> ; see details below".
_DOMAIN: Final = re.compile(r"[0-9A-Za-z_\-]+(?:\.[0-9A-Za-z_\-]+)*")

# Octets. RFC 6265bis, 5.6: "If the sum of the lengths of the name string and the value string is more than 4096
# octets, abort these steps and ignore the set-cookie-string entirely." Attributes over 1024 are ignored likewise.
_MAX_PAIR: Final = 4096
_MAX_ATTRIBUTE: Final = 1024

# RFC 6265bis, 5.1.1: a browser fails to parse a date where "the year-value is less than 1601"; Python's ends in 9999.
_YEARS: Final = range(1602, 9999)

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


# Reading


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """
    The cookies of all `Cookie` fields of a request, by name.

    RFC 6265bis, 5.8.3: "Cookies with longer paths are listed before cookies with shorter paths". So where a name
    comes twice, its first and most specific value counts, as in Bun.
    """
    cookies: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, equals, text = pair.partition("=")
            # Space and tab, and no other white space: a name that `str.strip` would make "__Host-id" is another one.
            name = _decode(name.strip(" \t"))
            if equals and name and name not in cookies:
                text = text.strip(" \t")
                cookies[name] = _decode(text) if "%" not in text else _unquote(text)
    return cookies


def _decode(text: str) -> str:
    """A head holds bytes as Latin-1; what is beyond ASCII in them is UTF-8 today."""
    return text if text.isascii() else text.encode("latin-1", "replace").decode("utf-8", "replace")


def _unquote(text: str) -> str:
    """Undo percent-encoding. What only looks like it, such as "100%", is left as it is."""
    return unquote_to_bytes(text.encode("latin-1", "replace")).decode("utf-8", "replace")


# Writing


def set_cookie_header(
    name: str,
    value: str,
    *,
    max_age: int | None = None,
    expires: datetime | None = None,
    path: str = "/",
    domain: str | None = None,
    secure: bool = True,
    http_only: bool = True,
    same_site: SameSite = "Lax",
    partitioned: bool = False,
) -> str:
    """
    The value of a `Set-Cookie` field.

    max_age: seconds that the cookie lives; without it and `expires`, until the browser is closed.
    expires: when it ends; aware of its time zone. A browser goes by `max_age` where both are there.
    domain: None, the safe choice, is this host and no other; a name is that host and all below it.
    secure: sent over TLS only. Chromium and Firefox count http://localhost as such; a cookie for another host that
        is served in the clear needs `secure=False`.
    http_only: hidden from scripts.
    same_site: "None" needs `secure`.
    partitioned: kept apart for each site that embeds this one; needs `secure`.

    Raises `TypeError` or `ValueError`, naming the part, for what may not be on the wire or a browser would ignore.
    """
    attributes: list[str] = []
    _check_name(name)
    pair = f"{name}={_encode(name, value)}"
    if len(pair) - 1 > _MAX_PAIR:
        raise ValueError(f"cookie {name!r}: name and value are longer than {_MAX_PAIR} bytes, so browsers ignore it")
    same_site_value = _SAME_SITE.get(same_site.lower()) if isinstance(same_site, str) else None
    if same_site_value is None:
        raise ValueError(f"cookie {name!r}: same_site must be 'Strict', 'Lax' or 'None', not {same_site!r}")
    if domain is not None:
        attributes.append(f"Domain={_checked_domain(name, domain)}")
    attributes.append(f"Path={_checked_path(name, path)}")
    if expires is not None:
        attributes.append(f"Expires={_format_expires(name, expires)}")
    if max_age is not None:
        attributes.append(f"Max-Age={_checked_max_age(name, max_age)}")
    if secure:
        attributes.append("Secure")
    if http_only:
        attributes.append("HttpOnly")
    if partitioned:
        attributes.append("Partitioned")
    attributes.append(f"SameSite={same_site_value}")
    _check_together(name, path, domain, secure=secure, none=same_site_value == "None", partitioned=partitioned)
    return "; ".join([pair, *attributes])


def delete_cookie_header(
    name: str,
    *,
    path: str = "/",
    domain: str | None = None,
    same_site: SameSite = "Lax",
    partitioned: bool = False,
) -> str:
    """
    The value of a `Set-Cookie` field that makes a browser forget a cookie.

    `path`, `domain` and `partitioned` must be those with which it was set: with others it is another cookie. A page
    that is embedded in another site must also repeat `same_site="None"`.

    Raises as `set_cookie_header` does.
    """
    # Secure only where the cookie cannot be without: a site in the clear could not delete its own otherwise, while
    # over TLS a line without it deletes either kind (RFC 6265bis, 5.7).
    prefixed = isinstance(name, str) and name.lower().startswith(("__secure-", "__host-"))
    secure = prefixed or partitioned or same_site in ("None", "none")
    # RFC 6265bis, 3.1: "the server returns a Set-Cookie header field with an expiration date in the past".
    return set_cookie_header(
        name,
        "",
        expires=_LONG_AGO,
        path=path,
        domain=domain,
        secure=secure,
        same_site=same_site,
        partitioned=partitioned,
    )


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"cookie {name!r}: the name must be str, not {type(name).__name__}")
    # RFC 6265bis, 4.1.1: "cookie-name = token"
    if not is_token(name):
        raise ValueError(f"cookie {name!r}: the name is not a token (RFC 9110, 5.6.2)")


def _encode(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"cookie {name!r}: the value must be str, not {type(value).__name__}")
    # Encoded they would do no harm here, but what comes back may be put where they do.
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"cookie {name!r}: the value holds CR, LF or NUL: {value!r}")
    try:
        return quote(value, safe=_SAFE)
    except UnicodeEncodeError:
        raise ValueError(f"cookie {name!r}: the value holds half a surrogate pair: {value!r}") from None


def _checked_domain(name: str, domain: str) -> str:
    if not isinstance(domain, str):
        raise TypeError(f"cookie {name!r}: domain must be str or None, not {type(domain).__name__}")
    # RFC 6265bis, 4.1.2.3: a leading "." "is not permitted"; it means what its absence means.
    if not _DOMAIN.fullmatch(domain) or len(domain) > _MAX_ATTRIBUTE:
        raise ValueError(f"cookie {name!r}: domain must be such as 'example.com', not {domain!r}")
    return domain


def _checked_path(name: str, path: str) -> str:
    if not isinstance(path, str):
        raise TypeError(f"cookie {name!r}: path must be str, not {type(path).__name__}")
    # RFC 6265bis, 5.6.4: "If the attribute-value is empty or if the first character of the attribute-value is not
    # %x2F ("/"): Let cookie-path be the default-path." Nobody who writes a path wants that.
    if not _PATH.fullmatch(path) or len(path) > _MAX_ATTRIBUTE:
        raise ValueError(f"cookie {name!r}: path must begin with '/' and be ASCII without ';', not {path!r}")
    return path


def _format_expires(name: str, expires: datetime) -> str:
    if not isinstance(expires, datetime):
        raise TypeError(f"cookie {name!r}: expires must be datetime, not {type(expires).__name__}")
    if expires.tzinfo is None:
        raise ValueError(f"cookie {name!r}: expires needs a time zone, such as datetime.now(UTC) has")
    if expires.year not in _YEARS:
        raise ValueError(f"cookie {name!r}: expires must be in the years {_YEARS[0]} to {_YEARS[-1]}, not {expires}")
    return format_datetime(expires.astimezone(UTC), usegmt=True)


def _checked_max_age(name: str, max_age: int) -> int:
    if not isinstance(max_age, int) or isinstance(max_age, bool):
        raise TypeError(f"cookie {name!r}: max_age must be int, in seconds, not {type(max_age).__name__}")
    # RFC 6265bis, 4.1.1: 'max-age-av = "Max-Age=" non-zero-digit *DIGIT'
    if max_age <= 0:
        raise ValueError(f"cookie {name!r}: max_age must be at least 1, not {max_age}; use delete_cookie to delete it")
    return max_age


def _check_together(name: str, path: str, domain: str | None, *, secure: bool, none: bool, partitioned: bool) -> None:
    lowered = name.lower()  # RFC 6265bis, 5.7: "a case-insensitive match for the string"
    # RFC 6265bis, 4.1.3.2: "with a Secure attribute, a Path attribute with a value of /, and no Domain attribute".
    if lowered.startswith("__host-") and (not secure or path != "/" or domain is not None):
        raise ValueError(f"cookie {name!r}: the prefix needs secure=True, path='/' and no domain")
    # RFC 6265bis, 4.1.3.1: "then the cookie will have been set with a Secure attribute".
    if lowered.startswith("__secure-") and not secure:
        raise ValueError(f"cookie {name!r}: the prefix needs secure=True")
    if none and not secure:
        raise ValueError(f"cookie {name!r}: same_site='None' needs secure=True, or browsers ignore it")
    if partitioned and not secure:
        raise ValueError(f"cookie {name!r}: partitioned=True needs secure=True, or browsers ignore it")
