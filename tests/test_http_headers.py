"""Headers: the syntax of fields, the same for requests, responses and the handshake."""

from __future__ import annotations

import string
from ipaddress import IPv6Address

import pytest
from hypothesis import given, strategies as st
from multidict import CIMultiDict
from yarl import URL

from bunws.http.headers import check_field, check_text, is_authority, is_token, make_headers, tokens


# What the caller wrote


def test_headers_are_made_of_nothing_a_mapping_or_pairs() -> None:
    assert list(make_headers(None).items()) == []
    assert make_headers({"A": "1"})["a"] == "1"
    assert make_headers([("B", "1"), ("b", "2")]).getall("B") == ["1", "2"]
    assert make_headers(CIMultiDict([("C", "1"), ("C", "2")])).getall("c") == ["1", "2"]


def test_headers_are_a_copy() -> None:
    given = CIMultiDict({"A": "1"})
    made = make_headers(given)
    given["A"] = "2"
    assert made["A"] == "1"


@pytest.mark.parametrize("headers", [["ab"], [("a",)], [("a", "b", "c")], [1]])
def test_headers_that_are_no_pairs_are_a_mistake(headers: object) -> None:
    with pytest.raises(TypeError, match="pairs"):
        make_headers(headers)  # type: ignore[arg-type]  # wrong types are what is tested


@pytest.mark.parametrize("name", ["", " ", "X ", " X", "X:", "X\n", "X\r\nY", "X\x00", "X[", "é", "X,Y"])
def test_name_that_is_no_token_is_a_mistake(name: str) -> None:
    with pytest.raises(ValueError, match="not a token"):
        check_field(name, "a")


@pytest.mark.parametrize(
    "value", ["a\r\nSet-Cookie: b", "a\n", "\ra", "\x00", "a\x0bb", "\x1b[2J", "\x7f", "\u0100", "€"]
)
def test_value_that_may_not_be_on_the_wire_is_a_mistake_that_names_its_field(value: str) -> None:
    with pytest.raises(ValueError, match="'X-A'"):
        check_field("X-A", value)
    with pytest.raises(ValueError, match="the status text"):
        check_text("the status text", value)


@pytest.mark.parametrize(("name", "value"), [(b"X", "a"), (1, "a"), ("X", b"a"), ("X", 1), ("X", None)])
def test_field_that_is_no_text_is_a_mistake(name: object, value: object) -> None:
    with pytest.raises(TypeError, match="must be str"):
        check_field(name, value)  # type: ignore[arg-type]  # wrong types are what is tested


@pytest.mark.parametrize("value", ["", " ", "a", "a\tb", "caf\xe9", '"quoted, text"; q=1'])
def test_value_that_may_be_on_the_wire_is_let_through(value: str) -> None:
    check_field("X", value)


@given(st.text())
def test_field_that_is_let_through_stays_on_its_line(text: str) -> None:
    try:
        check_field("X", text)
    except ValueError:
        return
    assert len(f"X: {text}".encode("latin-1").splitlines()) == 1
    assert "\x00" not in text


# What a peer sent


def test_token_is_of_letters_digits_and_fifteen_signs() -> None:
    legal = {chr(code) for code in range(256) if is_token(chr(code))}
    assert legal == {*string.ascii_letters, *string.digits, *"!#$%&'*+-.^_`|~"}
    assert not is_token("")
    assert not is_token("GET\n")
    assert is_token("X-A")


@given(st.lists(st.text(st.sampled_from(", \tab"), max_size=12), max_size=3))
def test_tokens_are_the_elements_of_all_lines_without_the_empty_ones(values: list[str]) -> None:
    assert tokens(values) == [part for part in (piece.strip(" \t") for piece in ",".join(values).split(",")) if part]


def test_tokens_are_in_lower_case_and_only_ascii_white_space_is_around_them() -> None:
    assert tokens(["Keep-Alive,\tUPGRADE ", "x\xa0"]) == ["keep-alive", "upgrade", "x\xa0"]


VALID = [
    *[
        "a",
        "a.b:80",
        "a:",
        "127.0.0.1:0",
        "[::1]",
        "[::1]:80",
        "[::1]:",
        "my_host",
        "a.",
        "xn--bcher-kva.de",
        "a:65535",
    ],
    *["[::ffff:127.0.0.1]", "1.2.3", "~"],
]
PUNYCODE = ["xn--", "XN--", "a.xN--", "xn--bcher-kva", "XN--BCHER-KVA.xn--"]
INVALID = [
    *["", ":", ":80", "[::1", "::1]", "[::1]80", "[::1]a:80", "[]", "[a]", "[v1.a]", "[fe80::1%eth0]", "[::1]:-1"],
    *[
        "a:-1",
        "a:+1",
        "a:٣",
        "a:²",
        "a: 80",
        "a:8 0",
        "a:65536",
        "a:123456",
        "a:80:80",
        "::1",
        "u@a",
        "u:p@a",
        "é",
        "xn--a",
        "XN--a:80",
    ],
    *[
        "a,b",
        "a/b",
        "a b",
        "a\tb",
        "a?b",
        "a#b",
        "a\\b",
        "a;b",
        "a%20b",
        "a%00",
        "a\x00",
        "a\n",
        "http://a",
        "a|b",
        '"a"',
    ],
]


@pytest.mark.parametrize("text", VALID)
def test_authority_is_a_host_and_a_port(text: str) -> None:
    assert is_authority(text)


@pytest.mark.parametrize("text", INVALID)
def test_nothing_else_is_an_authority(text: str) -> None:
    assert not is_authority(text)


@given(
    st.one_of(
        st.text(st.characters(max_codepoint=0xFF), max_size=12),
        st.text(st.sampled_from("aA0.-_~:@/[]xn%"), max_size=12),
        st.text(st.sampled_from("aA-."), max_size=4).flatmap(
            lambda end: st.sampled_from([f"{x}{end}" for x in PUNYCODE])
        ),
        st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    )
)
def test_authority_makes_a_url_with_that_host_and_nothing_more(text: str) -> None:
    if not is_authority(text):
        return
    url = URL(f"http://{text}/path")
    assert (url.raw_path, url.user, url.query_string, url.fragment) == ("/path", None, "", "")
    assert url.host
    host = text.rpartition("]")[0].removeprefix("[") if text.startswith("[") else text.partition(":")[0]
    if text.startswith("["):
        assert IPv6Address(url.host) == IPv6Address(host)
    elif "xn--" not in text.lower():
        assert url.raw_host == host.lower()
