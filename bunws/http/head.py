"""
Head: a request line and its fields, and what they say together.

Rule: `RequestLine` and `RequestHead` are checked when they are made; who reads them may trust them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, final

from multidict import CIMultiDict, CIMultiDictProxy

from ..exceptions import HTTPError
from .headers import is_authority, is_token, tokens


__all__ = ["RequestHead", "RequestLine", "MAX_TARGET_SIZE"]


# Bytes. RFC 9112, 3: "It is RECOMMENDED that all HTTP senders and recipients support, at a
# minimum, request-line lengths of 8000 octets."
MAX_TARGET_SIZE: Final = 8 * 1024
_LINE_OVERHEAD: Final = 64  # bytes of a request line beside its target: method, version, spaces, CRLF


class RequestLine(NamedTuple):
    """RFC 9112, 3: "request-line = method SP request-target SP HTTP-version"."""

    method: str
    # Path and query as sent, or "*". Of an absolute-form: what follows its authority.
    target: str
    # "1.1" or "1.0"; of a later 1.x: "1.1".
    http_version: str
    # Host and port of an absolute-form, else "".
    authority: str

    @classmethod
    def parse(cls, line: bytes) -> RequestLine:
        """Read a line with its CRLF. Raises `HTTPError`."""
        text = line.decode("latin-1")
        parts = text[:-2].split(" ")
        if len(parts) != 3 or text[-2:] != "\r\n" or not text.isascii():
            raise HTTPError(400, "Malformed request line")
        method, target, version = parts
        if not is_token(method) or not target or not target.isprintable():
            raise HTTPError(400, "Malformed request line")
        if len(target) > MAX_TARGET_SIZE:
            raise HTTPError(414, "The request target is too long")
        if version not in ("HTTP/1.1", "HTTP/1.0"):
            version = _spoken_version(version)
        # RFC 9110, 9.3.6: "most origin servers do not implement CONNECT". And 9.3.8: what TRACE sends back may be what
        # another was to keep secret, so Fetch forbids both.
        if method in ("CONNECT", "TRACE"):
            raise HTTPError(501, f"{method} is not implemented")
        # RFC 9112, 3.2.4: 'The "asterisk-form" of request-target is only used for a server-wide OPTIONS request'.
        # And none of the forms has a fragment.
        if (target == "*" and method != "OPTIONS") or "#" in target:
            raise HTTPError(400, "Malformed request target")
        # RFC 3986, 3.3: no path has a backslash. Browsers take it for a slash, so its segments are open to dispute.
        if "\\" in target.partition("?")[0]:
            raise HTTPError(400, "Malformed request target")
        authority = ""
        if target[0] != "/" and target != "*":
            authority, target = _split_absolute(target)
        return cls(method, target, version[5:], authority)

    @classmethod
    def check_size(cls, line: bytes | bytearray) -> None:
        """Raise `HTTPError` for a line, or the beginning of one, that is too long."""
        if len(line) <= MAX_TARGET_SIZE + _LINE_OVERHEAD:
            return
        cls.check_beginning(line)
        # RFC 9112, 3: "A server that receives a method longer than any that it implements SHOULD respond with a 501
        # (Not Implemented) status code. A server that receives a request-target longer than any URI it wishes to parse
        # MUST respond with a 414 (URI Too Long) status code".
        if b" " not in line[:_LINE_OVERHEAD]:
            raise HTTPError(501, "Unknown method")
        raise HTTPError(414, "The request line is too long")

    @staticmethod
    def check_beginning(line: bytes | bytearray) -> None:
        """Raise `HTTPError` for the beginning of what can never be a request line."""
        if line[:1] != b"\r" and not is_token(chr(line[0])):
            raise HTTPError(400, "Malformed request line")


def _spoken_version(version: str) -> str:
    """The version that a request in another one is answered in. Raises `HTTPError`."""
    # RFC 9112, 2.3: 'HTTP-version = HTTP-name "/" DIGIT "." DIGIT'
    major, minor = version[5:6], version[7:]
    if len(version) != 8 or version != f"HTTP/{major}.{minor}" or not (major + minor).isdigit():
        raise HTTPError(400, "Malformed HTTP version")
    # RFC 9110, 15.6.6: 505 is for a server that "does not support, or refuses to support, the major version".
    if major != "1":
        raise HTTPError(505, "HTTP/1.1 is spoken here")
    # RFC 9110, 2.5: "A recipient that receives a message with a major version number that it implements and a minor
    # version number higher than what it implements SHOULD process the message as if it were in the highest minor
    # version within that major version to which the recipient is conformant."
    return "HTTP/1.1"


def _split_absolute(target: str) -> tuple[str, str]:
    """RFC 9112, 3.2.2: "a server MUST accept the absolute-form in requests"."""
    scheme, separator, rest = target.partition("://")
    path_at = min(at for at in (rest.find("/"), rest.find("?"), len(rest)) if at >= 0)
    authority, path = rest[:path_at], rest[path_at:]
    if not separator or scheme.lower() not in ("http", "https") or not is_authority(authority):
        raise HTTPError(400, "Malformed request target")
    return authority, path if path[:1] == "/" else "/" + path


# No NamedTuple: its fields take three times as long to read, 0.1 µs for each request (CPython 3.11).
@final
@dataclass(slots=True)
class RequestHead:
    """A request line and its fields, and what they say together (RFC 9112, 3, 6 and 9.3)."""

    method: str
    target: str
    http_version: str
    headers: CIMultiDictProxy[str]
    # Host and port from an absolute-form, else from Host; "" where HTTP/1.0 named none.
    authority: str
    # Whether the connection can carry another request.
    keep_alive: bool
    # Bytes of body to come; None: chunked, so nobody knows.
    body_length: int | None
    # Whether the client waits for "100 Continue" before it sends the body.
    expects_continue: bool
    # Whether it asks for a WebSocket and has no body; the parser waits for the decision.
    wants_upgrade: bool

    @classmethod
    def make(cls, line: RequestLine, fields: list[tuple[bytes, bytes]]) -> RequestHead:
        """Put together what llhttp has found sound. Raises `HTTPError`."""
        is_1_1 = line.http_version == "1.1"
        # RFC 9112, 5: "field-line = field-name ":" OWS field-value OWS"; llhttp leaves the second.
        headers = CIMultiDict(
            [(name.decode("latin-1"), value.strip(b" \t").decode("latin-1")) for name, value in fields]
        )
        host = _host(headers, is_1_1)
        length = _body_length(headers, is_1_1)
        # RFC 9110, 5.3: a field that is no list comes once. Two readers may take another each.
        if len(headers.getall("Content-Type", ())) > 1:
            raise HTTPError(400, "More than one Content-Type")
        options = tokens(headers.getall("Connection", ()))
        return cls(
            line.method,
            line.target,
            line.http_version,
            CIMultiDictProxy(headers),
            # RFC 9112, 3.2.2: "When an origin server receives a request with an absolute-form of
            # request-target, the origin server MUST ignore the received Host header field (if any)
            # and instead use the host information of the request-target."
            line.authority or host,
            # RFC 9112, 9.3: "close" first, then the version, then "keep-alive".
            "close" not in options and (is_1_1 or "keep-alive" in options),
            length,
            _expects_continue(headers, is_1_1) and length != 0,
            is_1_1 and length == 0 and "upgrade" in options and "websocket" in tokens(headers.getall("Upgrade", ())),
        )

    def with_target(self, target: str) -> RequestHead:
        """The same for another target, which is no absolute-form."""
        return RequestHead(
            self.method,
            target,
            self.http_version,
            self.headers,
            self.authority,
            self.keep_alive,
            self.body_length,
            self.expects_continue,
            self.wants_upgrade,
        )


def _host(headers: CIMultiDict[str], is_1_1: bool) -> str:
    # RFC 9112, 3.2: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1
    # request message that lacks a Host header field and to any request message that contains more
    # than one Host header field line or a Host header field with an invalid field value."
    hosts = headers.getall("Host", ())
    if not hosts and not is_1_1:
        return ""
    if len(hosts) != 1 or not is_authority(hosts[0]):
        raise HTTPError(400, "Exactly one valid Host is needed")
    return hosts[0]


def _body_length(headers: CIMultiDict[str], is_1_1: bool) -> int | None:
    """RFC 9112, 6.3. llhttp has refused a Content-Length that is no number or comes twice."""
    codings = headers.getall("Transfer-Encoding", ())
    if not codings:
        return int(headers.get("Content-Length", 0))
    # RFC 9112, 6.1: "A server or client that receives an HTTP/1.0 message containing a
    # Transfer-Encoding header field MUST treat the message as if the framing is faulty".
    if not is_1_1:
        raise HTTPError(400, "Transfer-Encoding in HTTP/1.0")
    if [coding.lower() for coding in codings] == ["chunked"]:
        return None
    # RFC 9112, 6.1: "A server that receives a request message with a transfer coding it does not
    # understand SHOULD respond with 501 (Not Implemented)." But where the last is not chunked
    # (6.3), or chunked comes twice (7.1), nobody can tell where the body ends.
    names = tokens(codings)
    if len(names) > 1 and names[-1] == "chunked" and names.count("chunked") == 1:
        raise HTTPError(501, "Unknown transfer coding")
    raise HTTPError(400, "Malformed Transfer-Encoding")


def _expects_continue(headers: CIMultiDict[str], is_1_1: bool) -> bool:
    expectations = tokens(headers.getall("Expect", ()))
    # RFC 9110, 10.1.1: "A server that receives a 100-continue expectation in an HTTP/1.0 request
    # MUST ignore that expectation."
    if not expectations or not is_1_1:
        return False
    # "A server that receives an Expect field value containing a member other than 100-continue
    # MAY respond with a 417 (Expectation Failed) status code".
    if any(expectation != "100-continue" for expectation in expectations):
        raise HTTPError(417, "Unknown expectation")
    return True
