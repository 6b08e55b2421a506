"""Cookies: what was set comes back, whatever a client sends is read, and what a browser would drop is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from bunws.http.cookies import delete_cookie_header, parse_cookies, set_cookie_header
from bunws.http.headers import check_text


NAMES = st.text(st.sampled_from("!#$%&'*+-.^_`|~09azAZ"), min_size=1, max_size=20)
# All that can be encoded and need not be refused.
VALUES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=100)


# Reading


@pytest.mark.parametrize(
    ("sent", "cookies"),
    [
        (["a=b; c=d"], {"a": "b", "c": "d"}),
        (["a=b", "c=d"], {"a": "b", "c": "d"}),
        (["a=b;c=d;;  ; \te\t=\tf\t"], {"a": "b", "c": "d", "e": "f"}),
        (["a=b=c"], {"a": "b=c"}),
        (["a="], {"a": ""}),
        (["a=first; a=second", "a=third"], {"a": "first"}),
        (["A=1; a=2"], {"A": "1", "a": "2"}),
        (['a="b c"'], {"a": '"b c"'}),
        (["a=b,c=d"], {"a": "b,c=d"}),
        (["a=%20%C3%A9%3B"], {"a": " é;"}),
        (["a=1+1"], {"a": "1+1"}),
        (["a=100%; b=%zz; c=%4; d=%"], {"a": "100%", "b": "%zz", "c": "%4", "d": "%"}),
        (["a=%ff"], {"a": "\ufffd"}),
        (["a=\xc3\xa9; \xc3\xa9=%c3%a9\xc3\xa9"], {"a": "é", "é": "éé"}),
        (["a=\xff"], {"a": "\ufffd"}),
        (["$Version=1; a=b; $Path=/"], {"$Version": "1", "a": "b", "$Path": "/"}),
        (["no pair", "=nameless", "", ";", "="], {}),
        ([], {}),
    ],
)
def test_cookies_are_read_as_servers_do(sent: list[str], cookies: dict[str, str]) -> None:
    assert parse_cookies(sent) == cookies


@pytest.mark.parametrize("name", ["%5F_Host-id", "\xa0__Host-id", "\x85__Host-id", "\x1f__Host-id", "__host-id"])
def test_no_other_name_becomes_one_that_only_this_host_can_set(name: str) -> None:
    assert "__Host-id" not in parse_cookies([f"{name}=evil"])
    assert parse_cookies([f"{name}=evil; __Host-id=good"])["__Host-id"] == "good"


@given(st.lists(st.text(), max_size=3))
def test_whatever_a_client_sends_is_read_without_an_error(sent: list[str]) -> None:
    assert all(isinstance(text, str) for pair in parse_cookies(sent).items() for text in pair)


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_what_was_set_comes_back(cookies: dict[str, str]) -> None:
    pairs = [set_cookie_header(name, value).partition(";")[0] for name, value in cookies.items() if _is_plain(name)]
    assert parse_cookies(["; ".join(pairs)]) == {name: value for name, value in cookies.items() if _is_plain(name)}


def _is_plain(name: str) -> bool:
    return not name.lower().startswith(("__host-", "__secure-"))


# Writing


def test_cookie_has_safe_defaults() -> None:
    assert set_cookie_header("a", "b") == "a=b; Path=/; Secure; HttpOnly; SameSite=Lax"


def test_cookie_has_every_attribute_that_is_asked_for() -> None:
    line = set_cookie_header(
        "a",
        "b",
        max_age=60,
        expires=datetime(2030, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
        path="/x",
        domain="example.com",
        http_only=False,
        same_site="none",
        partitioned=True,
    )
    assert line == (
        "a=b; Domain=example.com; Path=/x; Expires=Wed, 02 Jan 2030 02:04:05 GMT; Max-Age=60; Secure; Partitioned; "
        "SameSite=None"
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('b c;,"\\é', "b%20c%3B%2C%22%5C%C3%A9"),
        ("100%", "100%25"),
        ("\t\x7f", "%09%7F"),
        ("A-Za-z0-9-_.!~*'()", "A-Za-z0-9-_.!~*'()"),
    ],
)
def test_value_is_encoded_as_encode_uri_component_does(value: str, written: str) -> None:
    assert set_cookie_header("a", value).partition(";")[0] == f"a={written}"


@given(NAMES.filter(_is_plain), VALUES)
def test_what_is_written_may_be_on_the_wire(name: str, value: str) -> None:
    line = set_cookie_header(name, value)
    check_text("Set-Cookie", line)
    assert line.isascii()
    assert line.count(";") == 4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *[({"name": name}, ValueError, "token") for name in ("", "a b", "a=b", "a;b", "a\r\nb", "é", "a\0")],
        *[({"value": value}, ValueError, "CR, LF or NUL") for value in ("a\rb", "a\nb", "a\0b", "\r\nSet-Cookie: x=y")],
        ({"value": "\ud800"}, ValueError, "surrogate"),
        ({"value": "x" * 4096}, ValueError, "4096 bytes"),
        ({"value": "é" * 683}, ValueError, "4096 bytes"),
        ({"name": 1}, TypeError, "name must be str"),
        ({"value": 1}, TypeError, "value must be str"),
        *[
            ({"path": path}, ValueError, "path must begin")
            for path in ("", "x", "/a;b", "/a\r\nb", "/\0", "/é", "/" + "x" * 1024)
        ],
        ({"path": None}, TypeError, "path must be str"),
        *[
            ({"domain": domain}, ValueError, "domain must be such as")
            for domain in ("", ".example.com", "example.com.", "a b", "a;b", "a\nb", "a:80", "bücher.de", "x" * 1025)
        ],
        ({"domain": 1}, TypeError, "domain must be str"),
        ({"max_age": 0}, ValueError, "delete_cookie"),
        ({"max_age": -1}, ValueError, "delete_cookie"),
        ({"max_age": 1.5}, TypeError, "seconds"),
        ({"max_age": True}, TypeError, "seconds"),
        ({"expires": datetime(2030, 1, 1)}, ValueError, "time zone"),
        ({"expires": datetime(1601, 1, 1, tzinfo=UTC)}, ValueError, "years 1602 to 9998"),
        ({"expires": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5)))}, ValueError, "9998"),
        ({"expires": 0}, TypeError, "datetime"),
        ({"same_site": "Loose"}, ValueError, "same_site"),
        ({"same_site": None}, ValueError, "same_site"),
        ({"same_site": "None", "secure": False}, ValueError, "needs secure=True"),
        ({"partitioned": True, "secure": False}, ValueError, "needs secure=True"),
        ({"name": "__Secure-a", "secure": False}, ValueError, "prefix needs secure"),
        *[
            ({"name": "__HOST-a", **attribute}, ValueError, "prefix needs")
            for attribute in ({"secure": False}, {"path": "/a"}, {"domain": "example.com"})
        ],
    ],
)
def test_what_a_browser_would_ignore_is_refused(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        set_cookie_header(**{"name": "a", "value": "b", **arguments})  # type: ignore[arg-type]  # wrong types are tested


def test_longest_pair_that_browsers_take_is_written() -> None:
    assert set_cookie_header("a", "x" * 4095).startswith("a=x")


# Deleting


def test_deleting_works_where_the_cookie_was_set_in_the_clear() -> None:
    line = delete_cookie_header("a", path="/x", domain="example.com")
    expected = "a=; Domain=example.com; Path=/x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax"
    assert line == expected


@pytest.mark.parametrize(
    "line",
    [
        delete_cookie_header("__Host-a"),
        delete_cookie_header("__secure-a"),
        delete_cookie_header("a", same_site="None"),
        delete_cookie_header("a", partitioned=True),
    ],
)
def test_deleting_is_secure_where_the_cookie_cannot_be_without(line: str) -> None:
    assert "; Secure; " in line


def test_deleting_what_cannot_have_been_set_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix needs"):
        delete_cookie_header("__Host-a", path="/x")
    with pytest.raises(ValueError, match="token"):
        delete_cookie_header("a b")
    with pytest.raises(TypeError, match="must be str"):
        delete_cookie_header(1)  # type: ignore[arg-type]  # that is what is tested
