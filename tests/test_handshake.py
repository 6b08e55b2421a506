"""Handshake: whether a request may become a WebSocket, and the 101 that says so (RFC 6455, 4.2)."""

from __future__ import annotations

import base64
import string

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict

from bunws import handshake
from bunws.exceptions import HandshakeError
from bunws.http.head import RequestHead, RequestLine
from bunws.http.request import Request


# RFC 6455, 1.3: the example.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

FIELDS = {
    "Host": "a",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def make_request(
    changes: dict[str, str | None] | None = None,
    *,
    more: list[tuple[str, str]] | None = None,
    line: bytes = b"GET /chat HTTP/1.1\r\n",
) -> Request:
    """A good request, with these changes (None: without that field) and more lines behind it."""
    fields = CIMultiDict(FIELDS)
    for name, value in (changes or {}).items():
        fields.popall(name, None)
        if value is not None:
            fields[name] = value
    pairs = [(n.encode(), v.encode("latin-1")) for n, v in [*fields.items(), *(more or [])]]
    return Request.from_head(RequestHead.make(RequestLine.parse(line), pairs), scheme="http")


def refusal(request: Request, origins: frozenset[str] | None = None) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        handshake.check(request, origins=origins)
    return caught.value


def test_accept_key_is_that_of_the_rfc() -> None:
    assert handshake.accept_key(KEY) == ACCEPT


# Checking


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"Upgrade": "WebSocket"},
        {"Upgrade": "h2c, websocket"},
        {"Connection": "keep-alive, Upgrade"},
        {"Connection": "UPGRADE"},
        {"Content-Length": "0"},
        {"Sec-WebSocket-Protocol": "chat, superchat"},
        {"Sec-WebSocket-Protocol": ", chat,,"},
    ],
)
def test_good_request_is_accepted(changes: dict[str, str | None]) -> None:
    handshake.check(make_request(changes), origins=None)


def test_upgrade_may_be_in_any_of_several_connection_lines() -> None:
    request = make_request({"Connection": "keep-alive"}, more=[("Connection", "x, upgrade")])
    handshake.check(request, origins=None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"Upgrade": "x, WEBSOCKET"}, True),
        ({"Sec-WebSocket-Key": None}, True),
        ({"Upgrade": None}, False),
        ({"Upgrade": "h2c"}, False),
        ({"Upgrade": "websocket2"}, False),
    ],
)
def test_request_asks_for_a_websocket_if_its_upgrade_says_so(changes: dict[str, str | None], expected: bool) -> None:
    assert handshake.is_websocket(make_request(changes)) is expected


BAD: dict[str, dict[str, str | None]] = {
    "no_upgrade": {"Upgrade": None},
    "upgrade_to_h2c": {"Upgrade": "h2c"},
    "no_connection": {"Connection": None},
    "connection_without_upgrade": {"Connection": "keep-alive"},
    "connection_with_a_longer_token": {"Connection": "upgraded"},
    "body": {"Content-Length": "5"},
    "chunked_body": {"Transfer-Encoding": "chunked"},
    "no_key": {"Sec-WebSocket-Key": None},
    "key_is_empty": {"Sec-WebSocket-Key": ""},
    "key_of_15_bytes": {"Sec-WebSocket-Key": base64.b64encode(b"a" * 15).decode()},
    "key_of_17_bytes": {"Sec-WebSocket-Key": base64.b64encode(b"a" * 17).decode()},
    "key_without_padding": {"Sec-WebSocket-Key": KEY[:-2]},
    "key_with_stray_bits": {"Sec-WebSocket-Key": KEY[:-3] + "R=="},
    "key_with_space": {"Sec-WebSocket-Key": KEY[:4] + " " + KEY[4:]},
    "key_for_urls": {"Sec-WebSocket-Key": "____________________" + "_w=="},
    "key_not_ascii": {"Sec-WebSocket-Key": "\xe9" * 24},
    "protocols_separated_by_space": {"Sec-WebSocket-Protocol": "chat superchat"},
    "protocol_in_quotes": {"Sec-WebSocket-Protocol": '"chat"'},
    "protocol_not_ascii": {"Sec-WebSocket-Protocol": "ch\xe4t"},
    "protocols_empty": {"Sec-WebSocket-Protocol": ""},
    "protocols_of_commas": {"Sec-WebSocket-Protocol": ", ,"},
    "protocol_twice": {"Sec-WebSocket-Protocol": "chat, superchat, chat"},
}


@pytest.mark.parametrize("name", BAD)
def test_bad_request_is_refused_with_400(name: str) -> None:
    assert refusal(make_request(BAD[name])).status == 400


@pytest.mark.parametrize("again", [KEY, base64.b64encode(b"b" * 16).decode()])
def test_two_keys_are_refused(again: str) -> None:
    assert refusal(make_request(more=[("sec-websocket-key", again)])).status == 400


def test_protocol_that_is_repeated_on_another_line_is_refused() -> None:
    request = make_request({"Sec-WebSocket-Protocol": "chat"}, more=[("Sec-WebSocket-Protocol", "chat")])
    assert refusal(request).status == 400


def test_http_1_0_is_refused() -> None:
    assert refusal(make_request(line=b"GET / HTTP/1.0\r\n")).status == 400


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"OPTIONS"])
def test_method_other_than_get_is_refused_with_405_and_allow(method: bytes) -> None:
    error = refusal(make_request(line=method + b" / HTTP/1.1\r\n"))
    assert (error.status, error.headers) == (405, (("Allow", "GET"),))


@pytest.mark.parametrize("version", [None, "", "8", "12", "14", "013", "13, 8"])
def test_version_other_than_13_is_refused_with_426_that_names_13(version: str | None) -> None:
    error = refusal(make_request({"Sec-WebSocket-Version": version}))
    assert error.status == 426
    assert dict(error.headers) == {"Sec-WebSocket-Version": "13", "Upgrade": "websocket"}


def test_two_versions_are_refused_with_426() -> None:
    assert refusal(make_request(more=[("Sec-WebSocket-Version", "13")])).status == 426


ORIGINS = frozenset({"https://example.com", "null"})


@pytest.mark.parametrize("origin", sorted(ORIGINS))
def test_origin_that_is_listed_may_connect(origin: str) -> None:
    handshake.check(make_request({"Origin": origin}), origins=ORIGINS)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        "",
        "http://example.com",
        "https://example.com:443",
        "https://example.com/",
        "https://EXAMPLE.com",
        "https://example.com.evil",
        "https://example.com, https://example.com",
    ],
)
def test_origin_that_is_not_listed_is_refused_with_403(origin: str | None) -> None:
    assert refusal(make_request({"Origin": origin}), ORIGINS).status == 403


def test_several_origins_are_refused_with_403() -> None:
    request = make_request({"Origin": "https://example.com"}, more=[("Origin", "https://example.com")])
    assert refusal(request, ORIGINS).status == 403
    handshake.check(request, origins=None)


def test_nobody_may_connect_where_no_origin_is_listed() -> None:
    assert refusal(make_request({"Origin": "https://example.com"}), frozenset()).status == 403


def test_subprotocols_are_the_offer_of_all_lines_in_order() -> None:
    request = make_request({"Sec-WebSocket-Protocol": "b, a,"}, more=[("Sec-WebSocket-Protocol", "C")])
    assert handshake.subprotocols(request) == ["b", "a", "C"]
    assert handshake.subprotocols(make_request()) == []


# RFC 9110, 5.6.2
TCHAR = set("!#$%&'*+-.^_`|~" + string.ascii_letters + string.digits)

_lists = st.text(st.characters(max_codepoint=0xFF), max_size=12) | st.text(st.sampled_from('ab, \t"('), max_size=12)


@given(_lists)
def test_any_list_of_subprotocols_is_read_or_refused(value: str) -> None:
    request = make_request({"Sec-WebSocket-Protocol": value})
    names = [name for part in value.split(",") if (name := part.strip(" \t"))]
    if names and len(set(names)) == len(names) and all(set(name) <= TCHAR for name in names):
        assert handshake.subprotocols(request) == names
    else:
        assert refusal(request).status == 400


@given(st.binary(max_size=20), st.integers(0, 23), st.characters(max_codepoint=0xFF))
def test_key_is_accepted_if_and_only_if_it_is_16_bytes_in_base64(nonce: bytes, at: int, char: str) -> None:
    key = base64.b64encode(nonce).decode()
    broken = key[:at] + char + key[at + 1 :]
    for text in (key, broken):
        request = make_request({"Sec-WebSocket-Key": text})
        if len(text) == 24 and any(text == base64.b64encode(made).decode() for made in _decodings(text)):
            handshake.check(request, origins=None)
        else:
            assert refusal(request).status == 400


def _decodings(text: str) -> list[bytes]:
    try:
        return [made for made in [base64.b64decode(text, validate=True)] if len(made) == 16]
    except ValueError:
        return []


# Accepting


def test_answer_is_a_complete_101() -> None:
    assert handshake.accept(make_request()) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + ACCEPT.encode() + b"\r\n\r\n",
        "",
    )


def test_answer_has_the_callers_headers_and_the_extensions() -> None:
    data, _ = handshake.accept(
        make_request(), [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], "permessage-deflate; server_max_window_bits=10"
    )
    assert data.endswith(
        b"\r\nSec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n"
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"
    )


def test_subprotocol_is_named_only_if_it_was_chosen() -> None:
    request = make_request({"Sec-WebSocket-Protocol": "chat, superchat"})
    data, protocol = handshake.accept(request)
    assert (b"Protocol:" in data, protocol) == (False, "")
    data, protocol = handshake.accept(request, {"sec-websocket-protocol": "superchat"})
    assert (data.count(b"superchat"), protocol) == (1, "superchat")


@pytest.mark.parametrize("chosen", ["other", "Chat", "chat, superchat", ""])
def test_subprotocol_that_was_not_offered_is_refused(chosen: str) -> None:
    request = make_request({"Sec-WebSocket-Protocol": "chat, superchat"})
    with pytest.raises(ValueError, match=r"Sec-WebSocket-Protocol.*'chat', 'superchat'"):
        handshake.accept(request, {"Sec-WebSocket-Protocol": chosen})


def test_two_subprotocols_are_refused() -> None:
    request = make_request({"Sec-WebSocket-Protocol": "a, b"})
    with pytest.raises(ValueError, match="Sec-WebSocket-Protocol"):
        handshake.accept(request, [("Sec-WebSocket-Protocol", "a"), ("Sec-WebSocket-Protocol", "b")])


@pytest.mark.parametrize(
    "name",
    [
        "Upgrade",
        "Connection",
        "Sec-WebSocket-Accept",
        "Sec-WebSocket-Extensions",
        "Content-Length",
        "Transfer-Encoding",
    ],
)
def test_header_that_belongs_to_the_handshake_is_refused_and_named(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        handshake.accept(make_request(), {name.lower(): "x"})


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\n", "\0", "\x1b", "\x7f"])
def test_control_character_is_refused_and_its_header_named(bad: str) -> None:
    with pytest.raises(ValueError, match="Set-Cookie"):
        handshake.accept(make_request(), {"Set-Cookie": f"a{bad}b"})
    with pytest.raises(ValueError, match="extensions"):
        handshake.accept(make_request(), None, f"a{bad}b")
