"""
Malformed requests, and odd ones that are valid: what a server says to each, over a real socket.

Rule 1: each line of the tables is the bytes, the answer and the clause that asks for it. A request that is refused ends
the connection, and nothing that comes behind it is answered: that is all of request smuggling.
Rule 2: each is sent whole, byte by byte, and behind and before good requests in one piece. The answer is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import pytest
from hypothesis import given, strategies as st

import bunws
from bunws.exceptions import HTTPError
from bunws.http.wire import EndOfRequest, RequestParser

from .support import RawClient, quiet


class Refused(NamedTuple):
    """The status that answers it, and the clause; then the connection ends."""

    status: int
    clause: str
    data: bytes


class Accepted(NamedTuple):
    """What the handler sees: method, URL and body."""

    seen: str
    clause: str
    data: bytes
    keeps_alive: bool = True


GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


def line(line: bytes) -> bytes:
    """A request with this request line."""
    return line + b"\r\nHost: a\r\n\r\n"


def host(value: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost:" + value + b"\r\n\r\n"


def field(field_line: bytes) -> bytes:
    return GET + field_line + b"\r\n\r\n"


def length(value: bytes, body: bytes = b"hello") -> bytes:
    return POST + b"Content-Length:" + value + b"\r\n\r\n" + body


def coding(value: bytes) -> bytes:
    return POST + b"Transfer-Encoding:" + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def chunks(data: bytes) -> bytes:
    return CHUNKED + data


MALFORMED = {
    # The request line
    "no version": Refused(400, "RFC 9112, 3", line(b"GET /")),
    "no version, the whole of HTTP/0.9": Refused(400, "RFC 9112, 3", b"GET /\r\n"),
    "no version, but its space": Refused(400, "RFC 9112, 3", line(b"GET / ")),
    "no target": Refused(400, "RFC 9112, 3", line(b"GET HTTP/1.1")),
    "target is empty": Refused(400, "RFC 9112, 3", line(b"GET  HTTP/1.1")),
    "two spaces before the target": Refused(400, "RFC 9112, 3", line(b"GET  / HTTP/1.1")),
    "two spaces before the version": Refused(400, "RFC 9112, 3", line(b"GET /  HTTP/1.1")),
    "space before the method": Refused(400, "RFC 9112, 3", line(b" GET / HTTP/1.1")),
    "space behind the version": Refused(400, "RFC 9112, 3", line(b"GET / HTTP/1.1 ")),
    "tabs for spaces": Refused(400, "RFC 9112, 3", line(b"GET\t/\tHTTP/1.1")),
    "vertical tab for a space": Refused(400, "RFC 9112, 3", line(b"GET\x0b/ HTTP/1.1")),
    "form feed for a space": Refused(400, "RFC 9112, 3", line(b"GET /\x0cHTTP/1.1")),
    "no-break space for a space": Refused(400, "RFC 9112, 3", line(b"GET\xa0/ HTTP/1.1")),
    "something behind the version": Refused(400, "RFC 9112, 3", line(b"GET / HTTP/1.1 a")),
    "line ends with LF": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\nHost: a\r\n\r\n"),
    "line ends with CR": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\rHost: a\r\n\r\n"),
    "line ends with CR CR LF": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
    "CR in the line": Refused(400, "RFC 9112, 2.2", line(b"GET /\r HTTP/1.1")),
    "all lines end with LF": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\nHost: a\n\n"),
    "LF before the request": Refused(400, "RFC 9112, 2.2", b"\n" + GOOD),
    "CR before the request": Refused(400, "RFC 9112, 2.2", b"\r" + GOOD),
    "line of a space before the request": Refused(400, "RFC 9112, 2.2", b" \r\n" + GOOD),
    # The method
    "method is no token": Refused(400, "RFC 9110, 9.1", line(b"G(T / HTTP/1.1")),
    "method is quoted": Refused(400, "RFC 9110, 9.1", line(b'"GET" / HTTP/1.1')),
    "method with a colon": Refused(400, "RFC 9110, 9.1", line(b"GET: / HTTP/1.1")),
    "method with a NUL": Refused(400, "RFC 9110, 9.1", line(b"GE\x00T / HTTP/1.1")),
    "method is not ASCII": Refused(400, "RFC 9110, 9.1", line(b"G\xc9T / HTTP/1.1")),
    "method in lower case": Refused(501, "RFC 9110, 9.1", line(b"get / HTTP/1.1")),
    "method in mixed case": Refused(501, "RFC 9110, 9.1", line(b"Get / HTTP/1.1")),
    "method is unknown": Refused(501, "RFC 9110, 9.1", line(b"FOO / HTTP/1.1")),
    "method is a token of signs": Refused(501, "RFC 9110, 9.1", line(b"!#$%&'*+-.^_`|~ / HTTP/1.1")),
    "method begins like another": Refused(501, "RFC 9110, 9.1", line(b"GETX / HTTP/1.1")),
    "method is the beginning of another": Refused(501, "RFC 9110, 9.1", line(b"GE / HTTP/1.1")),
    "method of 5,000 letters": Refused(501, "RFC 9112, 3", line(b"A" * 5000 + b" / HTTP/1.1")),
    "method of 100,000 letters": Refused(501, "RFC 9112, 3", line(b"A" * 100_000 + b" / HTTP/1.1")),
    "method without an end": Refused(501, "RFC 9112, 3", b"A" * 100_000),
    "CONNECT": Refused(501, "RFC 9110, 9.3.6", line(b"CONNECT a:80 HTTP/1.1")),
    "CONNECT with a path": Refused(501, "RFC 9110, 9.3.6", line(b"CONNECT / HTTP/1.1")),
    "TRACE": Refused(501, "RFC 9110, 9.3.8", line(b"TRACE / HTTP/1.1")),
    # The version
    "HTTP/0.9": Refused(505, "RFC 9110, 15.6.6", line(b"GET / HTTP/0.9")),
    "HTTP/2.0": Refused(505, "RFC 9110, 15.6.6", line(b"GET / HTTP/2.0")),
    "HTTP/9.9": Refused(505, "RFC 9110, 15.6.6", line(b"GET / HTTP/9.9")),
    "preface of HTTP/2": Refused(505, "RFC 9113, 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "version in lower case": Refused(400, "RFC 9112, 2.3", line(b"GET / http/1.1")),
    "version without a minor": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/1")),
    "version with an empty minor": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/1.")),
    "version with a minor of two digits": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/1.10")),
    "version with a leading zero": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/01.1")),
    "version of three numbers": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/1.1.1")),
    "version of letters": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/a.b")),
    "version with a sign": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/1.-1")),
    "version with a comma": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/1,1")),
    "version with a space": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTP/ 1.1")),
    "version of another protocol": Refused(400, "RFC 9112, 2.3", line(b"GET / HTTPS/1.1")),
    "version of RTSP": Refused(400, "RFC 9112, 2.3", line(b"OPTIONS / RTSP/1.0")),
    # The target
    "space in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /a b HTTP/1.1")),
    "fragment in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /a#b HTTP/1.1")),
    "NUL in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /\x00 HTTP/1.1")),
    "tab in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /a\tb HTTP/1.1")),
    "DEL in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /\x7f HTTP/1.1")),
    "UTF-8 in the target": Refused(400, "RFC 9112, 3.2", line("GET /é HTTP/1.1".encode())),
    "Latin-1 in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /\xe9 HTTP/1.1")),
    "overlong UTF-8 in the target": Refused(400, "RFC 9112, 3.2", line(b"GET /\xc0\xaf HTTP/1.1")),
    "backslash in the path": Refused(400, "RFC 3986, 3.3", line(b"GET /a\\..\\b HTTP/1.1")),
    "backslash for the first slash": Refused(400, "RFC 9112, 3.2.1", line(b"GET \\a HTTP/1.1")),
    "target without a slash": Refused(400, "RFC 9112, 3.2.1", line(b"GET a HTTP/1.1")),
    "target is a query": Refused(400, "RFC 9112, 3.2.1", line(b"GET ?a HTTP/1.1")),
    "target begins with a dot": Refused(400, "RFC 9112, 3.2.1", line(b"GET ../a HTTP/1.1")),
    "authority-form with GET": Refused(400, "RFC 9112, 3.2.3", line(b"GET a:80 HTTP/1.1")),
    "asterisk-form with GET": Refused(400, "RFC 9112, 3.2.4", line(b"GET * HTTP/1.1")),
    "asterisk with more behind it": Refused(400, "RFC 9112, 3.2.4", line(b"OPTIONS *a HTTP/1.1")),
    "absolute-form with userinfo": Refused(400, "RFC 9110, 4.2.4", line(b"GET http://u@a/ HTTP/1.1")),
    "absolute-form without a host": Refused(400, "RFC 9110, 4.2.1", line(b"GET http:///a HTTP/1.1")),
    "absolute-form without an authority": Refused(400, "RFC 9110, 4.2.1", line(b"GET http:a HTTP/1.1")),
    "absolute-form with a bad port": Refused(400, "RFC 9110, 4.2.1", line(b"GET http://a:b/ HTTP/1.1")),
    "absolute-form with a backslash": Refused(400, "RFC 9110, 4.2.1", line(b"GET http://a\\b/ HTTP/1.1")),
    "absolute-form with a fragment": Refused(400, "RFC 9112, 3.2", line(b"GET http://a/#b HTTP/1.1")),
    "absolute-form of FTP": Refused(400, "RFC 9112, 3.2.2", line(b"GET ftp://a/ HTTP/1.1")),
    "absolute-form of a file": Refused(400, "RFC 9112, 3.2.2", line(b"GET file:///etc/passwd HTTP/1.1")),
    # Host
    "no Host": Refused(400, "RFC 9112, 3.2", b"GET / HTTP/1.1\r\n\r\n"),
    "no Host with an absolute-form": Refused(400, "RFC 9112, 3.2", b"GET http://a/ HTTP/1.1\r\n\r\n"),
    "no Host in HTTP/1.2": Refused(400, "RFC 9112, 3.2", b"GET / HTTP/1.2\r\n\r\n"),
    "two Hosts": Refused(400, "RFC 9112, 3.2", field(b"Host: b")),
    "the same Host twice": Refused(400, "RFC 9112, 3.2", field(b"Host: a")),
    "two Hosts in different case": Refused(400, "RFC 9112, 3.2", field(b"hOST: a")),
    "two Hosts, one of them empty": Refused(400, "RFC 9112, 3.2", field(b"Host:")),
    "two Hosts in HTTP/1.0": Refused(400, "RFC 9112, 3.2", b"GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "bad Host with an absolute-form": Refused(400, "RFC 9112, 3.2", b"GET http://a/ HTTP/1.1\r\nHost: u@b\r\n\r\n"),
    "Host is empty": Refused(400, "RFC 9110, 4.2.1", host(b"")),
    "Host is white space": Refused(400, "RFC 9110, 4.2.1", host(b" \t ")),
    "Host is a port": Refused(400, "RFC 9110, 4.2.1", host(b" :80")),
    "Host with userinfo": Refused(400, "RFC 9110, 7.2", host(b" u@a")),
    "Host with a path": Refused(400, "RFC 9110, 7.2", host(b" a/b")),
    "Host with a query": Refused(400, "RFC 9110, 7.2", host(b" a?b")),
    "Host with a fragment": Refused(400, "RFC 9110, 7.2", host(b" a#b")),
    "Host with a scheme": Refused(400, "RFC 9110, 7.2", host(b" http://a")),
    "Host with a comma": Refused(400, "RFC 9110, 7.2", host(b" a,b")),
    "Host with a comma and a space": Refused(400, "RFC 9110, 7.2", host(b" a, b")),
    "Host with a space": Refused(400, "RFC 9110, 7.2", host(b" a b")),
    "Host with a backslash": Refused(400, "RFC 9110, 7.2", host(b" a\\b")),
    "Host with a NUL": Refused(400, "RFC 9110, 5.5", host(b" a\x00b")),
    "Host with UTF-8": Refused(400, "RFC 9110, 7.2", host(" é".encode())),
    "Host with a quote": Refused(400, "RFC 9110, 7.2", host(b' a"b')),
    "Host with an angle bracket": Refused(400, "RFC 9110, 7.2", host(b" a<b>")),
    "Host with a port of letters": Refused(400, "RFC 3986, 3.2.3", host(b" a:b")),
    "Host with a port of two numbers": Refused(400, "RFC 3986, 3.2.3", host(b" a:80:80")),
    "Host with a port that has a sign": Refused(400, "RFC 3986, 3.2.3", host(b" a:+80")),
    "Host with a port beyond 65535": Refused(400, "RFC 3986, 3.2.3", host(b" a:65536")),
    "Host is an IPv6 address without brackets": Refused(400, "RFC 3986, 3.2.2", host(b" ::1")),
    "Host with an open bracket": Refused(400, "RFC 3986, 3.2.2", host(b" [::1")),
    "Host with something behind the bracket": Refused(400, "RFC 3986, 3.2.2", host(b" [::1]a")),
    "Host with a name in brackets": Refused(400, "RFC 3986, 3.2.2", host(b" [a]")),
    "Host with bad punycode": Refused(400, "RFC 5890, 2.3.2.1", host(b" xn--a")),
    # Fields
    "space before the colon": Refused(400, "RFC 9112, 5.1", field(b"X : a")),
    "tab before the colon": Refused(400, "RFC 9112, 5.1", field(b"X\t: a")),
    "space before the colon of Host": Refused(400, "RFC 9112, 5.1", b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    "space before the first field": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "tab before the first field": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n"),
    "line of a space before the first field": Refused(400, "RFC 9112, 2.2", b"GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n"),
    "obs-fold with a space": Refused(400, "RFC 9112, 5.2", field(b"X: a\r\n b")),
    "obs-fold with a tab": Refused(400, "RFC 9112, 5.2", field(b"X: a\r\n\tb")),
    "obs-fold with nothing behind it": Refused(400, "RFC 9112, 5.2", field(b"X: a\r\n ")),
    "obs-fold before the value": Refused(400, "RFC 9112, 5.2", field(b"X:\r\n a")),
    "obs-fold in Transfer-Encoding": Refused(400, "RFC 9112, 5.2", coding(b"\r\n chunked")),
    "field without a colon": Refused(400, "RFC 9112, 5", field(b"X")),
    "field without a name": Refused(400, "RFC 9112, 5", field(b": a")),
    "field is a colon": Refused(400, "RFC 9112, 5", field(b":")),
    "space in a name": Refused(400, "RFC 9110, 5.1", field(b"X Y: a")),
    "bracket in a name": Refused(400, "RFC 9110, 5.1", field(b"X[]: a")),
    "quotes around a name": Refused(400, "RFC 9110, 5.1", field(b'"X": a')),
    "slash in a name": Refused(400, "RFC 9110, 5.1", field(b"X/Y: a")),
    "NUL in a name": Refused(400, "RFC 9110, 5.1", field(b"X\x00: a")),
    "control character in a name": Refused(400, "RFC 9110, 5.1", field(b"X\x0b: a")),
    "Latin-1 in a name": Refused(400, "RFC 9110, 5.1", field(b"X\xe9: a")),
    "UTF-8 in a name": Refused(400, "RFC 9110, 5.1", field("é: a".encode())),
    "NUL in a value": Refused(400, "RFC 9110, 5.5", field(b"X: a\x00b")),
    "NUL before a value": Refused(400, "RFC 9110, 5.5", field(b"X:\x00a")),
    "control character in a value": Refused(400, "RFC 9110, 5.5", field(b"X: a\x01b")),
    "backspace in a value": Refused(400, "RFC 9110, 5.5", field(b"X: a\x08b")),
    "vertical tab in a value": Refused(400, "RFC 9110, 5.5", field(b"X: a\x0bb")),
    "escape in a value": Refused(400, "RFC 9110, 5.5", field(b"X: \x1b[2J")),
    "DEL in a value": Refused(400, "RFC 9110, 5.5", field(b"X: a\x7fb")),
    "CR in a value": Refused(400, "RFC 9112, 2.2", field(b"X: a\rb")),
    "CR behind a value": Refused(400, "RFC 9112, 2.2", field(b"X: a\r")),
    "CR between two fields": Refused(400, "RFC 9112, 2.2", field(b"X: a\rContent-Length: 5")),
    "LF between two fields": Refused(400, "RFC 9112, 2.2", field(b"X: a\nY: b")),
    "LF behind the fields": Refused(400, "RFC 9112, 2.2", GET + b"\n"),
    "CR behind the fields": Refused(400, "RFC 9112, 2.2", GET + b"\rX: a\r\n\r\n"),
    "two Content-Types": Refused(400, "RFC 9110, 5.3", field(b"Content-Type: a/b\r\nContent-Type: c/d")),
    "the same Content-Type twice": Refused(400, "RFC 9110, 5.3", field(b"Content-Type: a/b\r\nContent-Type: a/b")),
    # Content-Length
    "length with a plus": Refused(400, "RFC 9110, 8.6", length(b" +5")),
    "length is negative": Refused(400, "RFC 9110, 8.6", length(b" -5")),
    "length is minus nothing": Refused(400, "RFC 9110, 8.6", length(b" -0", b"")),
    "length is hexadecimal": Refused(400, "RFC 9110, 8.6", length(b" 0x5")),
    "length is octal": Refused(400, "RFC 9110, 8.6", length(b" 0o5")),
    "length of letters": Refused(400, "RFC 9110, 8.6", length(b" five")),
    "length with a letter behind it": Refused(400, "RFC 9110, 8.6", length(b" 5a")),
    "length with a point": Refused(400, "RFC 9110, 8.6", length(b" 5.0")),
    "length with an exponent": Refused(400, "RFC 9110, 8.6", length(b" 5e0")),
    "length with an underscore": Refused(400, "RFC 9110, 8.6", length(b" 0_5")),
    "length with a space": Refused(400, "RFC 9110, 8.6", length(b" 5 5")),
    "length with a tab": Refused(400, "RFC 9110, 8.6", length(b" 5\t5")),
    "length with a semicolon": Refused(400, "RFC 9110, 8.6", length(b" 5;a")),
    "length in quotes": Refused(400, "RFC 9110, 8.6", length(b' "5"')),
    "length is empty": Refused(400, "RFC 9110, 8.6", length(b"")),
    "length is white space": Refused(400, "RFC 9110, 8.6", length(b" \t ")),
    "length in digits of another script": Refused(
        400, "RFC 9110, 8.6", length(" \N{ARABIC-INDIC DIGIT FIVE}".encode())
    ),
    "length in superscript": Refused(400, "RFC 9110, 8.6", length(b" \xb2", b"he")),
    "length of 2 to the power of 64": Refused(400, "RFC 9110, 8.6", length(b" 18446744073709551616")),
    "length of 2 to the power of 64 and 5": Refused(400, "RFC 9110, 8.6", length(b" 18446744073709551621")),
    "length of 100 digits": Refused(400, "RFC 9110, 8.6", length(b" " + b"9" * 100)),
    "length is a list": Refused(400, "RFC 9112, 6.3", length(b" 5, 5")),
    "length is a list without a space": Refused(400, "RFC 9112, 6.3", length(b" 5,5")),
    "length is a list of different ones": Refused(400, "RFC 9112, 6.3", length(b" 5, 6")),
    "length with a comma behind it": Refused(400, "RFC 9112, 6.3", length(b" 5,")),
    "length with a comma before it": Refused(400, "RFC 9112, 6.3", length(b" ,5")),
    "two lengths": Refused(400, "RFC 9112, 6.3", length(b" 5\r\nContent-Length: 6")),
    "the same length twice": Refused(400, "RFC 9112, 6.3", length(b" 5\r\nContent-Length: 5")),
    "two lengths that are nothing": Refused(400, "RFC 9112, 6.3", length(b" 0\r\nContent-Length: 0", b"")),
    "two lengths in different case": Refused(400, "RFC 9112, 6.3", length(b" 5\r\ncontent-length: 6")),
    "two lengths to GET": Refused(400, "RFC 9112, 6.3", field(b"Content-Length: 0\r\nContent-Length: 5")),
    "vertical tab before the length": Refused(400, "RFC 9110, 5.5", length(b"\x0b5")),
    "space before the colon of a length": Refused(400, "RFC 9112, 5.1", POST + b"Content-Length : 5\r\n\r\nhello"),
    # Transfer-Encoding
    "length and coding": Refused(400, "RFC 9112, 6.3", coding(b" chunked\r\nContent-Length: 5")),
    "coding and length": Refused(400, "RFC 9112, 6.3", length(b" 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
    "length of nothing and coding": Refused(400, "RFC 9112, 6.3", coding(b" chunked\r\nContent-Length: 0")),
    "length and unknown coding": Refused(400, "RFC 9112, 6.3", coding(b" gzip, chunked\r\nContent-Length: 5")),
    "length and coding that is none": Refused(400, "RFC 9112, 6.3", coding(b" identity\r\nContent-Length: 5")),
    "length and coding in HTTP/1.0": Refused(
        400,
        "RFC 9112, 6.1",
        b"POST / HTTP/1.0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "coding in HTTP/1.0": Refused(
        400, "RFC 9112, 6.1", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "coding in HTTP/1.0 that is kept alive": Refused(
        400,
        "RFC 9112, 6.1",
        b"POST / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "coding is unknown": Refused(501, "RFC 9112, 6.1", coding(b" gzip, chunked")),
    "coding is unknown, in two lines": Refused(501, "RFC 9112, 6.1", coding(b" gzip\r\nTransfer-Encoding: chunked")),
    "coding is identity and chunked": Refused(501, "RFC 9112, 7", coding(b" identity, chunked")),
    "last coding is not chunked": Refused(400, "RFC 9112, 6.3", coding(b" chunked, gzip")),
    "last coding is not chunked, in two lines": Refused(
        400, "RFC 9112, 6.3", coding(b" chunked\r\nTransfer-Encoding: identity")
    ),
    "last coding is identity": Refused(400, "RFC 9112, 6.3", coding(b" chunked, identity")),
    "coding is identity": Refused(400, "RFC 9112, 6.3", coding(b" identity")),
    "coding is gzip": Refused(400, "RFC 9112, 6.3", coding(b" gzip")),
    "coding begins like chunked": Refused(400, "RFC 9112, 6.3", coding(b" chunkedx")),
    "coding ends like chunked": Refused(400, "RFC 9112, 6.3", coding(b" xchunked")),
    "coding is chunked with a space": Refused(400, "RFC 9112, 6.3", coding(b" chun ked")),
    "coding is chunked with a line before it": Refused(400, "RFC 9112, 6.3", coding(b" \nchunked")),
    "coding is chunked behind a vertical tab": Refused(400, "RFC 9110, 5.5", coding(b" \x0bchunked")),
    "coding is chunked before a vertical tab": Refused(400, "RFC 9110, 5.5", coding(b" chunked\x0b")),
    "coding is chunked before a NUL": Refused(400, "RFC 9110, 5.5", coding(b" chunked\x00")),
    "coding is chunked behind a no-break space": Refused(400, "RFC 9112, 6.1", coding(b" \xa0chunked")),
    "coding is chunked in quotes": Refused(400, "RFC 9112, 6.1", coding(b' "chunked"')),
    "coding is chunked in single quotes": Refused(400, "RFC 9112, 6.1", coding(b" 'chunked'")),
    "coding is chunked with a parameter": Refused(400, "RFC 9112, 7.1", coding(b" chunked;q=1")),
    "coding is chunked with an empty parameter": Refused(400, "RFC 9112, 7.1", coding(b" chunked;")),
    "coding is chunked with a comma before it": Refused(400, "RFC 9112, 6.1", coding(b" ,chunked")),
    "coding is chunked with a comma behind it": Refused(400, "RFC 9112, 6.1", coding(b" chunked,")),
    "coding is chunked twice": Refused(400, "RFC 9112, 6.1", coding(b" chunked, chunked")),
    "coding is chunked twice, in two lines": Refused(
        400, "RFC 9112, 6.1", coding(b" chunked\r\nTransfer-Encoding: chunked")
    ),
    "coding is chunked twice around another": Refused(400, "RFC 9112, 6.1", coding(b" chunked, gzip, chunked")),
    "coding is empty": Refused(400, "RFC 9112, 6.1", coding(b"")),
    "coding is a comma": Refused(400, "RFC 9112, 6.1", coding(b" ,")),
    "one coding of two is empty": Refused(400, "RFC 9112, 6.1", coding(b"\r\nTransfer-Encoding: chunked")),
    "space before the colon of a coding": Refused(
        400, "RFC 9112, 5.1", POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"
    ),
    "coding that is hidden behind CR": Refused(400, "RFC 9112, 2.2", field(b"X: a\rTransfer-Encoding: chunked")),
    # Chunks
    "chunk size is negative": Refused(400, "RFC 9112, 7.1", chunks(b"-5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a plus": Refused(400, "RFC 9112, 7.1", chunks(b"+5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a prefix": Refused(400, "RFC 9112, 7.1", chunks(b"0x5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with an underscore": Refused(400, "RFC 9112, 7.1", chunks(b"0_5\r\nhello\r\n0\r\n\r\n")),
    "chunk size is no number": Refused(400, "RFC 9112, 7.1", chunks(b"xyz\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a letter behind it": Refused(400, "RFC 9112, 7.1", chunks(b"5g\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a point": Refused(400, "RFC 9112, 7.1", chunks(b"5.0\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a comma": Refused(400, "RFC 9112, 7.1", chunks(b"5,5\r\nhello\r\n0\r\n\r\n")),
    "chunk size is empty": Refused(400, "RFC 9112, 7.1", chunks(b"\r\nhello\r\n0\r\n\r\n")),
    "chunk size is an extension": Refused(400, "RFC 9112, 7.1", chunks(b";a\r\nhello\r\n0\r\n\r\n")),
    "chunk size behind a space": Refused(400, "RFC 9112, 7.1", chunks(b" 5\r\nhello\r\n0\r\n\r\n")),
    "chunk size before a space": Refused(400, "RFC 9112, 7.1", chunks(b"5 \r\nhello\r\n0\r\n\r\n")),
    "chunk size before a tab": Refused(400, "RFC 9112, 7.1", chunks(b"5\t\r\nhello\r\n0\r\n\r\n")),
    "chunk size of two numbers": Refused(400, "RFC 9112, 7.1", chunks(b"5 5\r\nhello\r\n0\r\n\r\n")),
    "chunk size with a NUL": Refused(400, "RFC 9112, 7.1", chunks(b"5\x00\r\nhello\r\n0\r\n\r\n")),
    "chunk size of 2 to the power of 64": Refused(400, "RFC 9112, 7.1", chunks(b"10000000000000000\r\nhello\r\n")),
    "chunk size of 2 to the power of 64 and 5": Refused(
        400, "RFC 9112, 7.1", chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n")
    ),
    "chunk size of 2 to the power of 32 and 5": Refused(
        413, "RFC 9112, 7.1", chunks(b"100000005\r\nhello\r\n0\r\n\r\n")
    ),
    "chunk size of 2 to the power of 64 less 1": Refused(
        413, "RFC 9112, 7.1", chunks(b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n")
    ),
    "LF behind a chunk size": Refused(400, "RFC 9112, 7.1", chunks(b"5\nhello\r\n0\r\n\r\n")),
    "CR behind a chunk size": Refused(400, "RFC 9112, 7.1", chunks(b"5\rhello\r\n0\r\n\r\n")),
    "CR CR LF behind a chunk size": Refused(400, "RFC 9112, 7.1", chunks(b"5\r\r\nhello\r\n0\r\n\r\n")),
    "LF behind a chunk": Refused(400, "RFC 9112, 7.1", chunks(b"5\r\nhello\n0\r\n\r\n")),
    "CR behind a chunk": Refused(400, "RFC 9112, 7.1", chunks(b"5\r\nhello\r0\r\n\r\n")),
    "nothing behind a chunk": Refused(400, "RFC 9112, 7.1", chunks(b"5\r\nhello0\r\n\r\n")),
    "chunk is longer than its size": Refused(400, "RFC 9112, 7.1", chunks(b"5\r\nhello!\r\n0\r\n\r\n")),
    "chunk is shorter than its size": Refused(400, "RFC 9112, 7.1", chunks(b"5\r\nhell\r\n0\r\n\r\n")),
    "LF behind the last chunk size": Refused(400, "RFC 9112, 7.1", chunks(b"0\n\r\n")),
    "LF behind the last chunk": Refused(400, "RFC 9112, 7.1", chunks(b"0\r\n\n")),
    "CR in place of the end": Refused(400, "RFC 9112, 7.1", chunks(b"0\r\n\rX: a\r\n\r\n")),
    "something behind the last chunk": Refused(400, "RFC 9112, 7.1.2", chunks(b"0\r\nhello\r\n\r\n")),
    "extension is empty": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;\r\nhello\r\n0\r\n\r\n")),
    "NUL in an extension": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;a\x00\r\nhello\r\n0\r\n\r\n")),
    "LF in an extension": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n")),
    "CR in an extension": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n")),
    "LF in the value of an extension": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;a=b\nc\r\nhello\r\n0\r\n\r\n")),
    "CR in a quoted extension": Refused(400, "RFC 9112, 7.1.1", chunks(b'5;a="\r"\r\nhello\r\n0\r\n\r\n')),
    "CR LF in a quoted extension": Refused(400, "RFC 9112, 7.1.1", chunks(b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n')),
    "open quotes in an extension": Refused(400, "RFC 9112, 7.1.1", chunks(b'5;a="b\r\nhello\r\n0\r\n\r\n')),
    "extension of 64 KiB": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;" + b"a" * 65536 + b"\r\nhello\r\n0\r\n\r\n")),
    "extension without an end": Refused(400, "RFC 9112, 7.1.1", chunks(b"5;" + b"a" * 65536)),
    "many extensions": Refused(400, "RFC 9112, 7.1.1", chunks((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 400)),
    "coding in a trailer": Refused(400, "RFC 9110, 6.5.1", chunks(b"0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "length in a trailer": Refused(400, "RFC 9110, 6.5.1", chunks(b"0\r\nContent-Length: 5\r\n\r\n")),
    "space before the colon in a trailer": Refused(400, "RFC 9112, 5.1", chunks(b"0\r\nX : a\r\n\r\n")),
    "space before a trailer": Refused(400, "RFC 9112, 5.2", chunks(b"0\r\n X: a\r\n\r\n")),
    "obs-fold in a trailer": Refused(400, "RFC 9112, 5.2", chunks(b"0\r\nX: a\r\n b\r\n\r\n")),
    "LF behind a trailer": Refused(400, "RFC 9112, 2.2", chunks(b"0\r\nX: a\n\r\n")),
    "CR in a trailer": Refused(400, "RFC 9112, 2.2", chunks(b"0\r\nX: a\rb\r\n\r\n")),
    "NUL in a trailer": Refused(400, "RFC 9110, 5.5", chunks(b"0\r\nX: \x00\r\n\r\n")),
    # Limits
    "target of 8,193 bytes": Refused(414, "RFC 9112, 3", line(b"GET /" + b"a" * 8192 + b" HTTP/1.1")),
    "target of 100,000 bytes": Refused(414, "RFC 9112, 3", line(b"GET /" + b"a" * 100_000 + b" HTTP/1.1")),
    "target without an end": Refused(414, "RFC 9112, 3", b"GET /" + b"a" * 100_000),
    "field of 20,000 bytes": Refused(431, "RFC 6585, 5", field(b"X: " + b"a" * 20_000)),
    "field without an end": Refused(431, "RFC 6585, 5", GET + b"X: " + b"a" * 20_000),
    "name of 20,000 bytes": Refused(431, "RFC 6585, 5", field(b"X" * 20_000 + b": a")),
    "value of 20,000 spaces": Refused(431, "RFC 6585, 5", field(b"X:" + b" " * 20_000)),
    "Host of 20,000 bytes": Refused(431, "RFC 6585, 5", host(b" " + b"a" * 20_000)),
    "101 fields": Refused(431, "RFC 6585, 5", GET + b"X: a\r\n" * 100 + b"\r\n"),
    "10,000 fields": Refused(431, "RFC 6585, 5", GET + b"X: a\r\n" * 10_000 + b"\r\n"),
    "10,000 empty lines": Refused(431, "RFC 6585, 5", b"\r\n" * 10_000 + GOOD),
    "trailers of 20,000 bytes": Refused(431, "RFC 6585, 5", chunks(b"0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")),
    "101 fields and trailers": Refused(431, "RFC 6585, 5", chunks(b"0\r\n" + b"X: a\r\n" * 99 + b"\r\n")),
    "length beyond the limit": Refused(413, "RFC 9110, 15.5.14", length(b" 1001")),
    "length of 2 to the power of 32 and 5": Refused(413, "RFC 9110, 15.5.14", length(b" 4294967301")),
    "length of 2 to the power of 64 less 1": Refused(413, "RFC 9110, 15.5.14", length(b" 18446744073709551615")),
    "length beyond the limit that waits": Refused(
        413, "RFC 9110, 10.1.1", length(b" 1001\r\nExpect: 100-continue", b"")
    ),
    "chunk beyond the limit": Refused(413, "RFC 9110, 15.5.14", chunks(b"3e9\r\n")),
    "chunks beyond the limit": Refused(413, "RFC 9110, 15.5.14", chunks(b"1f4\r\n" + b"a" * 500 + b"\r\n1f5\r\n")),
    # What is not implemented, and what is no HTTP
    "unknown expectation": Refused(417, "RFC 9110, 10.1.1", field(b"Expect: a")),
    "unknown expectation beside the known one": Refused(417, "RFC 9110, 10.1.1", field(b"Expect: 100-continue, a")),
    "expectation that begins like the known one": Refused(417, "RFC 9110, 10.1.1", field(b"Expect: 100-continued")),
    "ClientHello of TLS": Refused(400, "RFC 9112, 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "garbage without an end": Refused(400, "RFC 9112, 3", b"\x16" * 100_000),
    "greeting of SSH": Refused(400, "RFC 9112, 3", b"SSH-2.0-OpenSSH_9.2\r\n"),
    "command of SMTP": Refused(400, "RFC 9112, 3", b"EHLO a\r\n"),
    "frame of a WebSocket": Refused(400, "RFC 9112, 3", b"\x81\x85\x00\x00\x00\x00hello"),
    "NULs": Refused(400, "RFC 9112, 3", b"\x00" * 32),
    "bytes that are not ASCII": Refused(400, "RFC 9112, 3", bytes(range(128, 256))),
    "JSON": Refused(400, "RFC 9112, 3", b'{"a": 1}\r\n'),
    "answer of a server": Refused(400, "RFC 9112, 3", b"HTTP/1.1 200 OK\r\n\r\n"),
}

ODD = {
    # The request line
    "empty line before the request": Accepted("GET http://a/", "RFC 9112, 2.2", b"\r\n" + GET + b"\r\n"),
    "HTTP/1.0": Accepted("GET http://a/", "RFC 9112, 9.3", line(b"GET / HTTP/1.0"), keeps_alive=False),
    "HTTP/1.0 that is kept alive": Accepted(
        "GET http://a/", "RFC 9112, 9.3", b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    ),
    "HTTP/1.0 without Host": Accepted(
        "GET http://127.0.0.1/", "RFC 9112, 3.2", b"GET / HTTP/1.0\r\nX: a\r\n\r\n", keeps_alive=False
    ),
    "HTTP/1.0 with nothing but a line": Accepted(
        "GET http://127.0.0.1/", "RFC 9112, 2.1", b"GET / HTTP/1.0\r\n\r\n", keeps_alive=False
    ),
    "HTTP/1.2": Accepted("GET http://a/", "RFC 9110, 2.5", line(b"GET / HTTP/1.2")),
    "HTTP/1.9 with a body": Accepted(
        "POST http://a/ hello", "RFC 9110, 2.5", length(b" 5").replace(b"HTTP/1.1", b"HTTP/1.9")
    ),
    "asterisk-form": Accepted("OPTIONS http://a", "RFC 9112, 3.2.4", line(b"OPTIONS * HTTP/1.1")),
    "absolute-form": Accepted("GET http://b/b?c", "RFC 9112, 3.2.2", line(b"GET http://b/b?c HTTP/1.1")),
    "absolute-form in upper case": Accepted("GET http://b:81/", "RFC 9110, 4.2.3", line(b"GET HTTP://b:81/ HTTP/1.1")),
    "absolute-form without a path": Accepted("GET http://b/?c", "RFC 9110, 4.2.3", line(b"GET http://b?c HTTP/1.1")),
    "target with two slashes": Accepted("GET http://a//b/c", "RFC 9112, 3.2.1", line(b"GET //b/c HTTP/1.1")),
    "target that is percent-encoded": Accepted(
        "GET http://a/%00%0D%0A..%2F", "RFC 9112, 3.2.1", line(b"GET /%00%0d%0a%2e%2e%2f HTTP/1.1")
    ),
    "target that is badly percent-encoded": Accepted(
        "GET http://a/%25zz%25", "RFC 9112, 3.2", line(b"GET /%zz% HTTP/1.1")
    ),
    "target with a URL in its query": Accepted(
        "GET http://a/?a=http://b/", "RFC 9112, 3.2.1", line(b"GET /?a=http://b/ HTTP/1.1")
    ),
    "target as browsers send it": Accepted(
        "GET http://a/%5Ba%5D%7Cb?%7Bc%7D%7C%5C%5E%60", "WHATWG URL, 4.3", line(b"GET /[a]|b?{c}|\\^` HTTP/1.1")
    ),
    "target of 8,192 bytes": Accepted(
        "GET http://a/" + "a" * 8191, "RFC 9112, 3", line(b"GET /" + b"a" * 8191 + b" HTTP/1.1")
    ),
    # Fields
    "Host with an empty port": Accepted("GET http://a/", "RFC 3986, 3.2.3", host(b" a:")),
    "Host is an IPv6 address": Accepted("GET http://[::1]:81/", "RFC 3986, 3.2.2", host(b" [::1]:81")),
    "Host without a space before it": Accepted("GET http://a/", "RFC 9112, 5", host(b"a")),
    "Host between white space": Accepted("GET http://a/", "RFC 9112, 5.1", host(b"\t a \t")),
    "field without a value": Accepted("GET http://a/", "RFC 9112, 5", field(b"X:")),
    "field in other case": Accepted("GET http://a/", "RFC 9110, 5.1", b"GET / HTTP/1.1\r\nhOsT: a\r\n\r\n"),
    "tab in a value": Accepted("GET http://a/", "RFC 9110, 5.5", field(b"X: a\tb")),
    "obs-text in a value": Accepted("GET http://a/", "RFC 9110, 5.5", field(b"X: \xe9\xff")),
    "name of all signs": Accepted("GET http://a/", "RFC 9110, 5.6.2", field(b"!#$%&'*+-.^_`|~: a")),
    "100 fields": Accepted("GET http://a/", "RFC 6585, 5", GET + b"X: a\r\n" * 99 + b"\r\n"),
    "Proxy-Connection means nothing here": Accepted(
        "GET http://a/", "RFC 9112, C.2.2", field(b"Proxy-Connection: close")
    ),
    "name with an underscore is another": Accepted("GET http://a/", "RFC 9110, 5.1", field(b"Content_Length: 5")),
    "empty elements in a list": Accepted(
        "GET http://a/", "RFC 9110, 5.6.1.2", field(b"Connection: ,, close ,"), keeps_alive=False
    ),
    "Upgrade that is not taken": Accepted(
        "GET http://a/", "RFC 9110, 7.8", field(b"Connection: upgrade\r\nUpgrade: h2c")
    ),
    # The body
    "length in other case": Accepted("POST http://a/ hello", "RFC 9110, 5.1", POST + b"cOnTeNt-LeNgTh: 5\r\n\r\nhello"),
    "length with leading zeros": Accepted("POST http://a/ hello", "RFC 9110, 8.6", length(b" 0005")),
    "length behind a tab": Accepted("POST http://a/ hello", "RFC 9112, 5.1", length(b"\t5")),
    "length before white space": Accepted("POST http://a/ hello", "RFC 9112, 5.1", length(b" 5 \t")),
    "length of nothing": Accepted("POST http://a/", "RFC 9110, 8.6", length(b" 0", b"")),
    "POST without a length": Accepted("POST http://a/", "RFC 9112, 6.3", POST + b"\r\n"),
    "GET with a body": Accepted("GET http://a/ hello", "RFC 9110, 9.3.1", field(b"Content-Length: 5") + b"hello"),
    "length in HTTP/1.0": Accepted(
        "POST http://a/ hello", "RFC 9112, 6.3", length(b" 5").replace(b"HTTP/1.1", b"HTTP/1.0"), keeps_alive=False
    ),
    "body that looks like a request": Accepted(
        "POST http://a/ " + GOOD.decode(), "RFC 9112, 6.3", length(b" %d" % len(GOOD), GOOD)
    ),
    "body with Upgrade": Accepted(
        "POST http://a/ hello", "RFC 9110, 7.8", length(b" 5\r\nConnection: upgrade\r\nUpgrade: websocket")
    ),
    "coding in other case": Accepted("POST http://a/ hello", "RFC 9112, 7", coding(b" cHuNkEd")),
    "coding between white space": Accepted("POST http://a/ hello", "RFC 9112, 5.1", coding(b"\t chunked  ")),
    "expectation in HTTP/1.0": Accepted(
        "POST http://a/ hello",
        "RFC 9110, 10.1.1",
        length(b" 5\r\nExpect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"),
        keeps_alive=False,
    ),
    "unknown expectation in HTTP/1.0": Accepted(
        "GET http://a/", "RFC 9110, 10.1.1", b"GET / HTTP/1.0\r\nHost: a\r\nExpect: a\r\n\r\n", keeps_alive=False
    ),
    "expectation without a body": Accepted("GET http://a/", "RFC 9110, 10.1.1", field(b"Expect: 100-continue")),
    "no chunks": Accepted("POST http://a/", "RFC 9112, 7.1", chunks(b"0\r\n\r\n")),
    "last chunk of many zeros": Accepted("POST http://a/", "RFC 9112, 7.1", chunks(b"0000000000\r\n\r\n")),
    "chunk size in upper case": Accepted(
        "POST http://a/ hello world", "RFC 9112, 7.1", chunks(b"B\r\nhello world\r\n0\r\n\r\n")
    ),
    "chunk size of 20 digits": Accepted(
        "POST http://a/ hello", "RFC 9112, 7.1", chunks(b"0" * 19 + b"5\r\nhello\r\n0\r\n\r\n")
    ),
    "extensions": Accepted(
        "POST http://a/ hello", "RFC 9112, 7.1.1", chunks(b'5;a;b=c;d="e;f"\r\nhello\r\n0;g\r\n\r\n')
    ),
    "chunk that looks like the last": Accepted(
        "POST http://a/ 0\r\n\r\n", "RFC 9112, 7.1", chunks(b"5\r\n0\r\n\r\n\r\n0\r\n\r\n")
    ),
    "trailers": Accepted("POST http://a/ hello", "RFC 9112, 7.1.2", chunks(b"5\r\nhello\r\n0\r\nX: a\r\nY:\r\n\r\n")),
    "Host in a trailer changes nothing": Accepted(
        "POST http://a/", "RFC 9110, 6.5.1", chunks(b"0\r\nHost: evil.example\r\n\r\n")
    ),
    "Connection in a trailer changes nothing": Accepted(
        "POST http://a/", "RFC 9110, 6.5.1", chunks(b"0\r\nConnection: close\r\n\r\n")
    ),
}


async def tell(request: bunws.Request, server: bunws.Server) -> bunws.Response:
    """Answer with what was seen, without the port of the server, which nobody knows before."""
    url = str(request.url).replace(f"127.0.0.1:{server.port}", "127.0.0.1")
    body = (await request.bytes()).decode("latin-1")
    return bunws.Response(f"{request.method} {url} {body}".rstrip(" "))


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where a server listens, in a thread of its own, that takes 1,000 bytes of body."""
    with quiet(bunws.serve(fetch=tell, hostname="127.0.0.1", port=0, max_request_body_size=1000)) as server:
        assert server.port is not None
        yield server.port


def send_whole(client: RawClient, data: bytes) -> None:
    client.send(data)


def send_byte_by_byte(client: RawClient, data: bytes) -> None:
    """A packet for each byte; of what is long, for a thousandth."""
    size = len(data) // 1000 + 1
    for at in range(0, len(data), size):
        client.send(data[at : at + size])


SENDERS = {"whole": send_whole, "byte_by_byte": send_byte_by_byte}


def test_there_are_enough_of_them() -> None:
    assert len(MALFORMED) >= 250
    assert len(ODD) >= 50


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_request_is_refused_and_ends_the_connection(port: int, name: str, sender: str) -> None:
    refused = MALFORMED[name]
    with RawClient(port) as client:
        SENDERS[sender](client, refused.data)
        answer = client.answer()
        assert (answer.status, answer.headers["Connection"]) == (refused.status, "close"), refused.clause
        assert client.rest() == b""


@pytest.mark.parametrize("name", MALFORMED)
def test_good_request_before_a_malformed_one_is_answered_and_one_behind_it_is_not(port: int, name: str) -> None:
    refused = MALFORMED[name]
    with RawClient(port) as client:
        client.send(GOOD + refused.data + GOOD)
        assert client.answer().body == b"GET http://a/good"
        answer = client.answer()
        assert (answer.status, answer.headers["Connection"]) == (refused.status, "close"), refused.clause
        assert client.rest() == b""


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("name", ODD)
def test_odd_request_is_answered(port: int, name: str, sender: str) -> None:
    accepted = ODD[name]
    with RawClient(port) as client:
        SENDERS[sender](client, accepted.data)
        answer = client.answer()
        assert (answer.status, answer.body.decode("latin-1")) == (200, accepted.seen), accepted.clause
        if accepted.keeps_alive:
            client.half_close()
        assert client.rest() == b""


@pytest.mark.parametrize("name", ODD)
def test_good_requests_around_an_odd_one_are_answered(port: int, name: str) -> None:
    accepted = ODD[name]
    with RawClient(port) as client:
        client.send(GOOD + accepted.data + GOOD)
        assert client.answer().body == b"GET http://a/good"
        assert client.answer().body.decode("latin-1") == accepted.seen, accepted.clause
        if accepted.keeps_alive:
            assert client.answer().body == b"GET http://a/good"
            client.half_close()
        # RFC 9112, 9.6: a server told to close "MUST NOT process any further requests received on that connection."
        assert client.rest() == b""


# The parser alone, fed in all ways


def facts(pieces: Iterable[bytes]) -> list[object]:
    """What the parser finds: bodies whole, errors as their status. Of a body that is refused nothing is told."""
    parser = RequestParser(max_body_size=1000)
    found: list[object] = []
    body = b""
    for piece in pieces:
        events = parser.feed(piece)
        while events:
            for event in events:
                if isinstance(event, bytes):
                    body += event
                elif isinstance(event, HTTPError):
                    found.append(event.status)
                elif isinstance(event, EndOfRequest):
                    found.append(body)
                    body = b""
                else:
                    found.append(event)
            events = parser.resume() if isinstance(events[-1], EndOfRequest) else []
    return found


def each_byte(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 1] for at in range(len(data)))


@pytest.mark.parametrize("name", MALFORMED)
def test_parser_refuses_the_same_byte_by_byte(name: str) -> None:
    data = MALFORMED[name].data
    found = facts([data])
    assert found[-1] == MALFORMED[name].status
    assert not any(isinstance(fact, bytes) for fact in found), "it was taken for complete"
    assert facts(each_byte(data)) == found


_ALL: Final = [GOOD, *[case.data for case in MALFORMED.values()], *[case.data for case in ODD.values()]]
_SHORT: Final = [data for data in _ALL if len(data) < 300]

_PIECES: Final = [
    *(b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\x00", b"\xff", b":", b";", b",", b"0", b"5", b"f"),
    *(b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Upgrade: websocket\r\n"),
    *(b"Connection: close\r\n", b"Connection: upgrade\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"0\r\n\r\n"),
]


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Some of the requests above behind each other, some of their bytes gone, repeated or replaced."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(_SHORT), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        to = min(len(data), at + draw(st.integers(0, 8)))
        data[at:to] = draw(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=3), st.just(bytes(data[at:to]) * 2)))
    return bytes(data)


@given(st.one_of(broken(), st.binary(max_size=64)), st.data())
def test_parser_never_raises_and_finds_the_same_however_the_bytes_were_split(data: bytes, draw: st.DataObject) -> None:
    found = facts([data])
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=6)))
    assert facts(data[a:b] for a, b in pairwise([0, *cuts, len(data)])) == found
    assert facts(each_byte(data)) == found


@given(broken())
def test_nothing_comes_behind_a_refusal(data: bytes) -> None:
    found = facts([data, GOOD, GOOD])
    refusals = [at for at, fact in enumerate(found) if isinstance(fact, int)]
    assert refusals in ([], [len(found) - 1])
