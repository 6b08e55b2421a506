"""
Conditional: what of a file a request is answered with: all of it, parts, or nothing (RFC 9110, 13).

Rule: preconditions are evaluated in the order of RFC 9110, 13.2.2, and nothing else decides about the status.
"""

from __future__ import annotations

import re
import time
from calendar import timegm
from collections.abc import Iterable, Iterator
from datetime import datetime
from email.utils import formatdate
from typing import Final

from multidict import CIMultiDict, CIMultiDictProxy

from .files import File
from .ranges import ByteRanges, parse_range
from .request import Request
from .response import Response


__all__ = ["answer_file", "check_preconditions", "check_if_range", "format_date", "parse_date"]


# RFC 9110, 8.8.3: 'opaque-tag = DQUOTE *etagc DQUOTE', 'etagc = %x21 / %x23-7E / obs-text'. So a comma may be inside.
_TAG: Final = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?=,|$)')

_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH: Final = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"

# RFC 9110, 5.6.7: "A recipient that parses a timestamp value in an HTTP field MUST accept all three HTTP-date formats."
# IMF-fixdate, rfc850-date and asctime-date.
_DATES: Final = (
    re.compile(rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ \d]\d) {_TIME} (?P<year>\d{{4}})", re.ASCII),
)

# RFC 9110, 15.4.5: "The server generating a 304 response MUST generate any of the following header fields that would
# have been sent in a 200 (OK) response to the same request: Content-Location, Date, ETag, and Vary; Cache-Control and
# Expires". And of the other metadata of the representation it "SHOULD NOT generate" any.
_NOT_WITH_304: Final = (
    "Accept-Ranges",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Type",
    "Last-Modified",
)

# A refusal is not the representation, and is not to be kept as long as that.
_NOT_WITH_ERROR: Final = (*_NOT_WITH_304, "Cache-Control", "Content-Location", "ETag", "Expires")


def answer_file(request: Request, response: Response) -> Response:
    """
    What a response whose body is a `File` becomes for this request: 200, 206, 304, 412 or 416, with ETag, Last-Modified
    and Accept-Ranges. Those that the response has already are kept, and its ETag decides; with "Accept-Ranges: none" no
    ranges are sent. The given response is not changed, but its file belongs to the answer.
    """
    file = response.body
    # RFC 9110, 13.2.1: "a server MUST ignore all received preconditions if its response to the same request without
    # those conditions, prior to processing the request content, would have been a status code other than a 2xx
    # (Successful) or 412 (Precondition Failed)." A 206 is an answer already; and what POST answers with is no
    # representation of its target.
    if not isinstance(file, File) or response.status != 200 or request.method not in ("GET", "HEAD"):
        return response
    headers = response.headers.copy()
    headers.setdefault("Content-Type", file.content_type)
    etag = headers.setdefault("ETag", file.etag)
    modified = file.last_modified if "Last-Modified" not in headers else parse_date(headers["Last-Modified"])
    if modified is not None:
        headers.setdefault("Last-Modified", format_date(modified))
    accepts_ranges = headers.setdefault("Accept-Ranges", "bytes").lower() != "none"

    status = check_preconditions(request.method, request.headers, etag, modified)
    if status != 200:
        file.close()
        return _respond(None, status, _without(headers, _NOT_WITH_304 if status == 304 else _NOT_WITH_ERROR))
    # RFC 9110, 14.2: "A server MUST ignore a Range header field received with a request method that is unrecognized or
    # for which range handling is not defined. For this specification, GET is the only method for which range handling
    # is defined."
    ranges = None
    if accepts_ranges and request.method == "GET" and check_if_range(request.headers, etag, modified):
        ranges = parse_range(request.headers.getall("Range", ()), file.size)
    if ranges is None:
        return _respond(file, 200, headers, response.status_text)
    if not ranges:
        size = file.size
        file.close()
        # RFC 9110, 15.5.17: "A server that generates a 416 response to a byte-range request SHOULD generate a
        # Content-Range header field specifying the current length of the selected representation".
        headers = _without(headers, _NOT_WITH_ERROR)
        headers["Content-Range"] = f"bytes */{size}"
        return _respond(None, 416, headers)
    parts = [(part, file.slice(part.start, part.stop)) for part in ranges]
    size, content_type = file.size, headers["Content-Type"]
    file.close()  # the parts have it now
    if len(parts) == 1:
        # RFC 9110, 15.3.7.2: "A server MUST NOT generate a multipart response to a request for a single range".
        byte_range, part = parts[0]
        headers["Content-Range"] = byte_range.content_range(size)
        return _respond(part, 206, headers)
    body = ByteRanges(parts, size, content_type)
    # "To avoid confusion with single-part responses, a server MUST NOT generate a Content-Range header field in the
    # HTTP header section of a multiple part response".
    headers["Content-Type"] = body.content_type
    return _respond(body, 206, headers)


def _respond(body: File | ByteRanges | None, status: int, headers: CIMultiDict[str], status_text: str = "") -> Response:
    """A response with headers that are its own already."""
    response = Response(body, status, status_text=status_text)
    response.headers = headers
    return response


def _without(headers: CIMultiDict[str], names: Iterable[str]) -> CIMultiDict[str]:
    for name in names:
        headers.popall(name, None)
    return headers


# Preconditions


def check_preconditions(method: str, headers: CIMultiDictProxy[str], etag: str, last_modified: int | None) -> int:
    """
    Evaluate If-Match, If-Unmodified-Since, If-None-Match and If-Modified-Since against the validators of what exists.

    Returns 200: go on with the method, 304 or 412. `last_modified` is in seconds since 1970; None: not known.
    """
    # RFC 9110, 13.2.2, 1: "When recipient is the origin server and If-Match is present, evaluate the If-Match
    # precondition: if true, continue to step 3; if false, respond 412 (Precondition Failed)". 13.1.1: "An origin server
    # MUST use the strong comparison function when comparing entity tags for If-Match".
    if "If-Match" in headers:
        tags = list(_tags(headers.getall("If-Match")))
        if tags != ["*"] and not (_is_strong(etag) and etag in tags):
            return 412
    # 2: "When recipient is the origin server, If-Match is not present, and If-Unmodified-Since is present, evaluate".
    # 13.1.4: "A recipient MUST ignore the If-Unmodified-Since header field if the received field value is not a valid
    # HTTP-date"; "if the resource does not have a modification date available".
    else:
        since = _date(headers, "If-Unmodified-Since")
        if since is not None and last_modified is not None and last_modified > since:
            return 412
    # 3: "When If-None-Match is present, evaluate the If-None-Match precondition: if true, continue to step 5; if false
    # for GET/HEAD, respond 304 (Not Modified); if false for other methods, respond 412". 13.1.2: "A recipient MUST use
    # the weak comparison function when comparing entity tags for If-None-Match".
    if "If-None-Match" in headers:
        opaque = etag.removeprefix("W/")
        for tag in _tags(headers.getall("If-None-Match")):
            if tag == "*" or tag.removeprefix("W/") == opaque:
                return 304 if method in ("GET", "HEAD") else 412
    # 4: "When the method is GET or HEAD, If-None-Match is not present, and If-Modified-Since is present, evaluate the
    # If-Modified-Since precondition: if true, continue to step 5; if false, respond 304 (Not Modified)".
    elif method in ("GET", "HEAD"):
        since = _date(headers, "If-Modified-Since")
        if since is not None and last_modified is not None and last_modified <= since:
            return 304
    return 200


def check_if_range(headers: CIMultiDictProxy[str], etag: str, last_modified: int | None) -> bool:
    """RFC 9110, 13.2.2, 5: whether Range may be heeded, as If-Range is absent or holds."""
    values = headers.getall("If-Range", ())
    if not values:
        return True
    # A validator that is weak now does not say which of two states the client has half of; nor does the date beside it.
    # 13.1.5: "a recipient of an If-Range header field MUST ignore the Range header field if the If-Range condition
    # evaluates as false. Otherwise, the recipient SHOULD process the Range header field as requested."
    if len(values) != 1 or not _is_strong(etag):
        return False
    value = values[0]
    # "if the entity-tag validator provided exactly matches the ETag field value for the selected representation using
    # the strong comparison function … the condition is true".
    if '"' in value:
        return value == etag
    # "If the HTTP-date validator provided exactly matches the Last-Modified field value for the selected
    # representation, the condition is true."
    return last_modified is not None and parse_date(value) == last_modified


def _is_strong(etag: str) -> bool:
    return not etag.startswith("W/")


def _tags(values: Iterable[str]) -> Iterator[str]:
    """The entity tags of a field, or "*". What is malformed ends it, and is like no tag."""
    field = ", ".join(values).strip(" \t")
    if field == "*":
        yield "*"
    at = 0
    while match := _TAG.match(field, at):
        yield match[1]
        at = match.end()


# Dates (RFC 9110, 5.6.7)


def _date(headers: CIMultiDictProxy[str], name: str) -> int | None:
    values = headers.getall(name, ())
    return parse_date(values[0]) if len(values) == 1 else None


def format_date(seconds: int) -> str:
    """An HTTP-date, of seconds since 1970."""
    return formatdate(seconds, usegmt=True)


def parse_date(text: str) -> int | None:
    """Seconds since 1970 of an HTTP-date; None: it is none."""
    for pattern in _DATES:
        if match := pattern.fullmatch(text):
            break
    else:
        return None
    year, month = int(match["year"]), _MONTHS.index(match["month"]) + 1
    if len(match["year"]) == 2:
        # "Recipients of a timestamp value in rfc850-date format, which uses a two-digit year, MUST interpret a
        # timestamp that appears to be more than 50 years in the future as representing the most recent year in the
        # past that had the same last two digits."
        this_year = time.gmtime().tm_year
        year += this_year // 100 * 100
        if year > this_year + 50:
            year -= 100
    try:
        # 5.6.7 has "60 = leap second"; POSIX has none.
        second = 59 if match["second"] == "60" else int(match["second"])
        moment = datetime(year, month, int(match["day"]), int(match["hour"]), int(match["minute"]), second)
    except ValueError:
        return None
    return timegm(moment.timetuple())
