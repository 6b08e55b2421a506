"""
Targets: what can be fuzzed, by name, each with the words of its language and a small corpus.

Rule: a target is a function of bytes. It returns, or raises because it has found something.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from . import http, websocket


__all__ = ["TARGETS", "Target"]


class Target(NamedTuple):
    """What is called with an input, and what inputs are made of."""

    run: Callable[[bytes], None]
    words: tuple[bytes, ...]

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def corpus(self) -> Path:
        """The folder of its committed inputs."""
        return Path(__file__).parent / "corpus" / self.name

    def seeds(self) -> list[bytes]:
        """The committed inputs."""
        return [path.read_bytes() for path in sorted(self.corpus.iterdir())]


_HTTP_WORDS: Final = (
    *(b"GET ", b"POST ", b"HEAD ", b"OPTIONS * ", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"\r\n\r\n"),
    *(
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"0\r\n\r\n",
    ),
    *(
        b"Expect: 100-continue\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"5\r\nhello\r\n",
        b";a=b",
        b"\0",
    ),
    *(
        b"http://a:1/",
        b"%2e%2e/",
        b"[::1]",
        b"xn--",
        b"\r",
        b"\n",
        b" ",
        b"\t",
        b"Cookie: a=b\r\n",
        b"GET / HTTP/1.1\r\n",
    ),
)
_FRAME_WORDS: Final = (
    *(
        b"\x81\x80",
        b"\x01\x80",
        b"\x80\x80",
        b"\x00\x80",
        b"\x82\x80",
        b"\x88\x80",
        b"\x89\x80",
        b"\x8a\x80",
        b"\xc1\x80",
    ),
    *(b"\xfe\x00\x7e", b"\xfe\x10\x01", b"\xff\x00\x00\x00\x00\x00\x01\x00\x00", b"\xff\x80", b"\x00\x00\x00\x00"),
    *(
        b"\x03\xe8",
        b"\x03\xed",
        b"\x13\x88",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
        b"\xf4\x90",
        b"\x00\x00\xff\xff",
        b"\x03\x00",
    ),
)
_OFFER_WORDS: Final = (
    *(b"permessage-deflate", b"; ", b", ", b"server_no_context_takeover", b"client_no_context_takeover", b'"15"'),
    *(b"server_max_window_bits", b"client_max_window_bits", b"=8", b"=9", b"=15", b"=16", b"x-webkit-deflate-frame"),
)
_HANDSHAKE_WORDS: Final = (
    *(b"Upgrade: websocket\r\n", b"Connection: Upgrade\r\n", b"Sec-WebSocket-Version: 13\r\n", b"\r\nOrigin: "),
    *(
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        b"Sec-WebSocket-Protocol: chat, superchat\r\n",
        b"keep-alive, ",
    ),
)
_FORM_WORDS: Final = (
    *(
        b"application/x-www-form-urlencoded\n",
        b"multipart/form-data; boundary=",
        b"--b\r\n",
        b"\r\n--b--\r\n",
        b"\r\n\r\n",
    ),
    *(
        b'Content-Disposition: form-data; name="a"',
        b'; filename="f.txt"',
        b"\r\nContent-Type: text/plain",
        b"; filename*=",
    ),
    *(b"a=1&b=2", b"%41", b"+", b"../", b"\xff", b"UTF-8''%e2%82%ac"),
)
_CONDITION_WORDS: Final = (
    *(
        b"If-None-Match: ",
        b"If-Match: ",
        b"If-Modified-Since: ",
        b"If-Unmodified-Since: ",
        b"If-Range: ",
        b"Range: bytes=",
    ),
    *(
        b'"a"',
        b'W/"a"',
        b"*",
        b", ",
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"0-0",
        b"-1",
    ),
    b"Sun Nov  6 08:49:37 1994",
)

TARGETS: Final = {
    target.name: target
    for target in (
        Target(http.requests, _HTTP_WORDS),
        Target(http.conversation, _HTTP_WORDS + _HANDSHAKE_WORDS),
        Target(websocket.handshake, _HANDSHAKE_WORDS),
        Target(websocket.frames, _FRAME_WORDS),
        Target(websocket.negotiation, _OFFER_WORDS),
        Target(http.cookies, (b"; ", b"=", b"%", b"%3D", b'"', b"__Host-", b"\xc3\xa9", b"\n", b"/path")),
        Target(http.forms, _FORM_WORDS),
        Target(http.ranges, (b"bytes=", b"0-0", b"-1", b",", b"0-", b"999999999999999999999", b" ", b"\t", b"\n")),
        Target(http.conditional, _CONDITION_WORDS),
        Target(http.routes, (b"/a", b"/b", b"/..", b"/.", b"/%2e", b"%2F", b"/:x", b"/*", b"?", b"//", b"http://a")),
        Target(
            http.codings, (b"gzip", b"br", b"zstd", b"identity", b"*", b";q=0", b";q=0.5", b";q=1.0", b", ", b"x-gzip")
        ),
    )
}
