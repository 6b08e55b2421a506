"""Routes: patterns against paths, requests against routes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings, strategies as st
from yarl import URL

from bunws.http.response import Response
from bunws.http.routes import METHODS, Match, Router, RouteTable


def found(patterns: list[str], path: str) -> tuple[str, dict[str, str]] | None:
    """The pattern that a path belongs to, and its parameters."""
    match = RouteTable("routes", {pattern: pattern for pattern in patterns}).match(path)
    return None if match is None else (match[0], dict(match[1]))


def handler(name: str) -> Callable[[object, object], str]:
    return lambda request, server: name


def answer(router: Router, method: str, path: str) -> object:
    """What a request gets: the name of the handler, or (status, Allow) of a response; None where it is for `fetch`."""
    match = router.match(method, path)
    if match is None:
        return None
    if isinstance(match.target, Response):
        return match.target.status, match.target.headers.get("Allow")
    return match.target(None, None)


# Patterns against paths


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        # exact
        (["/"], "/", ("/", {})),
        (["/a"], "/a", ("/a", {})),
        (["/a"], "/a/", None),
        (["/a/"], "/a", None),
        (["/a"], "//a", None),
        (["/Abc"], "/abc", None),
        (["/a"], "/a?b=/c", ("/a", {})),
        (["/a"], "/a%3Fb", None),
        (["/a:b"], "/a:b", ("/a:b", {})),
        (["/a:b"], "/axx", None),
        (["/a%2Fb", "/a/b"], "/a%2fb", ("/a%2Fb", {})),
        (["/a%2Fb", "/a/b"], "/a/b", ("/a/b", {})),
        (["/%2A"], "/*", ("/%2A", {})),
        (["/café"], "/caf%C3%A9", ("/café", {})),
        (["/café"], "/caf%c3%a9", ("/café", {})),
        (["/caf%C3%A9"], "/caf%c3%a9", ("/caf%C3%A9", {})),
        (["/a b"], "/a%20b", ("/a b", {})),
        (["/100%"], "/100%25", ("/100%", {})),
        # parameters
        (["/users/:id"], "/users/1", ("/users/:id", {"id": "1"})),
        (["/users/:id"], "/users/1?q=2", ("/users/:id", {"id": "1"})),
        (["/users/:id"], "/users/", None),
        (["/users/:id"], "/users/1/", None),
        (["/users/:id"], "/users//", None),
        (["/users/:id"], "/users/:id", ("/users/:id", {"id": ":id"})),
        (["/users/:id"], "/users/a%2Fb", ("/users/:id", {"id": "a/b"})),
        (["/users/:id"], "/users/a+b", ("/users/:id", {"id": "a+b"})),
        (["/users/:id"], "/users/%e4%bd%a0", ("/users/:id", {"id": "你"})),
        (["/users/:id"], "/users/%252F", ("/users/:id", {"id": "%2F"})),
        (["/users/:id"], "/users/%00", ("/users/:id", {"id": "\0"})),
        (["/:user-id"], "/x", ("/:user-id", {"user-id": "x"})),
        (["/:a/:b/:c"], "/1/2/3", ("/:a/:b/:c", {"a": "1", "b": "2", "c": "3"})),
        (["/:a/:b/:c"], "/1//3", None),
        # wildcards
        (["/static/*"], "/static/", ("/static/*", {"*": ""})),
        (["/static/*"], "/static", None),
        (["/static/*"], "/staticx", None),
        (["/static/*"], "/static/a/b", ("/static/*", {"*": "a/b"})),
        (["/static/*"], "/static//", ("/static/*", {"*": "/"})),
        (["/static/*"], "/static//etc", ("/static/*", {"*": "/etc"})),
        (["/static/*"], "/static/a%20b/%C3%A9", ("/static/*", {"*": "a b/é"})),
        (["/:a/*"], "/x/y/z", ("/:a/*", {"a": "x", "*": "y/z"})),
        (["/:a/*"], "/x", None),
        (["/*"], "/", ("/*", {"*": ""})),
        # exact over parameter over wildcard
        (["/a/b", "/a/:x", "/a/*", "/*"], "/a/b", ("/a/b", {})),
        (["/a/b", "/a/:x", "/a/*", "/*"], "/a/c", ("/a/:x", {"x": "c"})),
        (["/a/b", "/a/:x", "/a/*", "/*"], "/a/c/d", ("/a/*", {"*": "c/d"})),
        (["/a/b", "/a/:x", "/a/*", "/*"], "/a/", ("/a/*", {"*": ""})),
        (["/a/b", "/a/:x", "/a/*", "/*"], "/a", ("/*", {"*": "a"})),
        (["/*", "/a/*", "/a/b/*"], "/a/b/c", ("/a/b/*", {"*": "c"})),
        (["/*", "/a/*", "/a/b/*"], "/a/b", ("/a/*", {"*": "b"})),
        # and back
        (["/a/b/c", "/:x/b/d"], "/a/b/d", ("/:x/b/d", {"x": "a"})),
        (["/a/:x/c", "/:y/b/d", "/a/*"], "/a/b/d", ("/a/*", {"*": "b/d"})),
        (["/a/*", "/:x/b"], "/a/b", ("/a/*", {"*": "b"})),
        (["/:x/*", "/a/:y/z"], "/a/b/q", ("/:x/*", {"x": "a", "*": "b/q"})),
        (["/:a/x", "/:b/y"], "/1/y", ("/:b/y", {"b": "1"})),
        # what is no path
        (["/*"], "*", None),
        (["/*"], "", None),
    ],
)
def test_a_path_belongs_to_the_pattern_that_bun_would_find(
    patterns: list[str], path: str, expected: tuple[str, dict[str, str]] | None
) -> None:
    assert found(patterns, path) == expected
    assert found(patterns[::-1], path) == expected  # the order in which they were written does not count


@pytest.mark.parametrize(
    ("sent", "seen"),
    [("%zz", "%zz"), ("%", "%"), ("a%2", "a%2"), ("%ff", "\ufffd"), ("%C3", "\ufffd"), ("x%C3%A9%ffy", "xé\ufffdy")],
)
def test_a_bad_escape_stays_and_invalid_utf8_is_replaced(sent: str, seen: str) -> None:
    assert found(["/:it"], f"/{sent}") == ("/:it", {"it": seen})
    assert found(["/*"], f"/{sent}") == ("/*", {"*": seen})


@pytest.mark.parametrize("path", ["/%61dmin", "/admi%6E", "/%61%64%6d%69%6e", "/x/../admin", "/./admin", "/%2e/admin"])
def test_a_route_cannot_be_walked_around_by_another_spelling(path: str) -> None:
    assert found(["/admin", "/*", "/:x/*"], path) == ("/admin", {})


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/s/a/../b", "b"),
        ("/s/a/%2E%2e/b", "b"),
        ("/s/a/..", ""),
        ("/s/a/.", "a/"),
        ("/s/.../b", ".../b"),
        ("/s/.a", ".a"),
        # An encoded slash makes no segment, so this is one with a strange name. Whoever opens files has to know.
        ("/s/..%2F..%2Fetc", "../../etc"),
        ("/s/%252e%252e/b", "%2e%2e/b"),
    ],
)
def test_dot_segments_are_resolved_before_the_match(path: str, rest: str) -> None:
    assert found(["/s/*"], path) == ("/s/*", {"*": rest})


@pytest.mark.parametrize("path", ["/s/..", "/s/../x", "/s/%2e%2e/x", "/s/a/../../x"])
def test_dot_segments_lead_out_of_a_wildcard(path: str) -> None:
    assert found(["/s/*"], path) is None


def test_an_exact_route_has_no_parameters_and_nobody_can_give_it_some() -> None:
    match = RouteTable("routes", {"/a": 1}).match("/a")
    assert match == (1, {})
    with pytest.raises(TypeError):
        match[1]["x"] = "y"  # type: ignore[index, assignment]  # that this is refused is what is tested


def test_parameters_belong_to_one_request() -> None:
    table = RouteTable("routes", {"/:a": 1})
    first, second = table.match("/x"), table.match("/x")
    assert first == second
    assert first is not None
    assert second is not None
    assert first[1] is not second[1]


def test_matches_goes_on_to_the_less_exact_ones() -> None:
    table = RouteTable("routes", {pattern: pattern for pattern in ("/*", "/a/*", "/:x/b", "/a/:y", "/a/b")})
    assert [value for value, _ in table.matches("/a/b")] == ["/a/b", "/a/:y", "/a/*", "/:x/b", "/*"]


def test_a_table_may_hold_anything_even_what_is_false() -> None:
    table: RouteTable[object] = RouteTable("websocket", {"/chat/:room": None, "/": 0})
    assert table.match("/chat/7") == (None, {"room": "7"})
    assert table.match("/") == (0, {})
    assert RouteTable("websocket", {}).match("/") is None
    assert repr(table) == "<RouteTable 2 routes>"


# Properties

SEGMENTS = st.sampled_from(["", "a", "b", "ab", "é", "a/b", "%", "c"])
# Parameters are named by their place, so that two patterns never differ in names only.
PATTERNS = st.lists(
    st.tuples(st.lists(st.one_of(SEGMENTS, st.just(":")), min_size=1, max_size=4), st.booleans()),
    min_size=1,
    max_size=12,
    unique_by=lambda pattern: (tuple(pattern[0]), pattern[1]),
)


def write(segments: list[str], wild: bool) -> str:
    parts = [f":p{at}" if s == ":" else quote(s, safe="") for at, s in enumerate(segments)]
    return "/" + "/".join([*parts, *(["*"] if wild else [])])


def model(patterns: list[tuple[list[str], bool]], path: list[str]) -> list[tuple[str, dict[str, str]]]:
    """All that match, the best first: try every pattern, then sort by what each says about each segment."""
    matching = []
    for segments, wild in patterns:
        if len(path) < len(segments) + wild or (len(path) > len(segments) and not wild):
            continue
        if not all((p != "" if s == ":" else s == p) for s, p in zip(segments, path, strict=False)):
            continue
        params = {f"p{at}": path[at] for at, s in enumerate(segments) if s == ":"}
        if wild:
            params["*"] = "/".join(path[len(segments) :])
        ranks = [1 if s == ":" else 0 for s in segments] + ([2] if wild else [])
        matching.append((ranks, write(segments, wild), params))
    return [(pattern, params) for _, pattern, params in sorted(matching, key=lambda one: one[0])]


@given(PATTERNS, st.lists(SEGMENTS, min_size=1, max_size=5), st.data())
def test_a_table_finds_what_a_naive_search_finds(
    patterns: list[tuple[list[str], bool]], path: list[str], data: st.DataObject
) -> None:
    table = RouteTable("routes", {write(*pattern): write(*pattern) for pattern in patterns})
    sent = "/" + "/".join(spell(segment, data) for segment in path)
    expected = model(patterns, path)
    assert [(value, dict(params)) for value, params in table.matches(sent)] == expected
    assert table.match(sent) == (expected[0] if expected else None)


def spell(segment: str, data: st.DataObject) -> str:
    """A segment, percent-encoded where it has to be and somewhere else."""
    encoded = [f"%{byte:02x}" for byte in segment.encode()]
    plain = [chr(byte) if chr(byte).isalnum() and byte < 128 else None for byte in segment.encode()]
    return "".join(p if p and data.draw(st.booleans()) else e for p, e in zip(plain, encoded, strict=True))


@settings(max_examples=300)
@given(st.text("/.%2eEfFaC39:*-;", max_size=20))
def test_the_path_that_is_matched_is_the_one_that_the_url_shows(path: str) -> None:
    url = URL(f"http://localhost/{path}")
    expected = "/".join(unquote(segment) for segment in url.raw_path[1:].split("/"))
    assert found(["/*"], f"/{path}") == ("/*", {"*": expected})


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_path_and_no_pattern_raises_anything_else(pattern: str, path: str) -> None:
    try:
        table = RouteTable("routes", {pattern: 1})
    except ValueError as exc:
        assert str(exc).startswith("routes: ")  # noqa: PT017  # what is raised only sometimes cannot be expected
        return
    table.match(path)


@pytest.mark.parametrize("path", ["/a/b", "/a/b?c=d", "/caf%C3%A9"])
def test_an_exact_route_is_found_without_a_look_at_the_tree(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = RouteTable("routes", {"/a/b": 1, "/café": 1, "/:x/:y": 2})
    monkeypatch.delattr(table, "_root")
    assert table.match(path) == (1, {})
    with pytest.raises(AttributeError):
        table.match("/c/d")


def test_patterns_that_share_everything_but_the_end_do_not_blow_up() -> None:
    # Every segment can be literal or parameter: 2 ** 10 patterns, and a path that goes wrong at its very end.
    shapes = [f"{n:010b}" for n in range(1024)]
    patterns = ["/" + "/".join("a" if bit == "0" else f":p{at}" for at, bit in enumerate(shape)) for shape in shapes]
    table = RouteTable("routes", dict.fromkeys(patterns, 1))
    path = "/a" * 10 + "/end"
    begin = time.process_time()
    assert table.match(path) is None
    assert time.process_time() - begin < 0.5  # 2,047 nodes, each looked at once: 2 ms
    # What a client makes long costs it as much as us.
    assert table.match("/a" * 4000) is None


# What is wrong with a pattern


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("users", "'users' must begin with a slash; write '/users'"),
        ("", "'' must begin with a slash; write '/'"),
        ("*", "'*' must begin with a slash; write '/*'"),
        ("GET /x", "'GET /x' must begin with a slash"),
        ("/a?b", "'/a?b' must be a path only; look at request.url for what follows '?'"),
        ("/a#b", "'/a#b' must be a path only"),
        ("/:a/:a", "'/:a/:a': two parameters have the name 'a'; give each its own"),
        ("/a/*/b", "'/a/*/b': '*' must come last, it matches everything behind; write ':name' for one segment"),
        ("/*/", "'/*/': '*' must come last"),
        ("/a*", "'/a*': '*' must be a whole segment, not 'a*'"),
        ("/a/**", "'/a/**': '*' must be a whole segment, not '**'"),
        ("/a/*rest", "'*' must be a whole segment, not '*rest'; params['*'] has what it matched"),
        ("/:", "':' is no parameter: a name has letters, digits, '_' and '-'"),
        (
            "/:file.json",
            "':file.json' is no parameter: a name has letters, digits, '_' and '-', and is a whole segment",
        ),
        ("/:1a", "':1a' is no parameter"),
        ("/:id(\\d+)", "is no parameter"),
        ("/{id}", "a parameter is spelled ':id' here, not '{id}'"),
        ("/{}", "a parameter is spelled ':name' here, not '{}'"),
        ("/<int:id>", "a parameter is spelled ':id' here, not '<int:id>'"),
        ("/a/../b", "'..' is resolved before a path is matched; leave it out"),
        ("/%2e/b", "'%2e' is resolved before a path is matched; leave it out"),
    ],
)
def test_a_wrong_pattern_is_refused_with_its_name_and_the_way_to_mend_it(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        RouteTable("websocket", {"/fine": 1, pattern: 2})
    assert str(caught.value).startswith(f"websocket: {pattern!r}")


def test_a_pattern_is_a_str() -> None:
    with pytest.raises(TypeError, match=r"routes: a route must be a str such as '/users/:id', got 5"):
        Router({5: handler("x")})  # type: ignore[dict-item]  # that this is refused is what is tested


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("/:a", "/:b", "'/:a' and '/:b' differ only in the name of a parameter; keep one of them"),
        ("/x/:a/y", "/x/:b/y", "'/x/:a/y' and '/x/:b/y' differ only in the name of a parameter"),
        ("/:a/*", "/:b/*", "'/:a/*' and '/:b/*' differ only in the name of a parameter"),
        ("/é", "/%C3%A9", "'/é' and '/%C3%A9' are the same path; keep one of them"),
        ("/a%2fb", "/a%2Fb", "'/a%2fb' and '/a%2Fb' are the same path"),
    ],
)
def test_two_patterns_for_the_same_paths_are_refused(first: str, second: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"routes: {words}")):
        Router({first: handler("x"), second: handler("y")})


def test_patterns_that_differ_behind_a_parameter_may_name_it_as_they_like() -> None:
    assert found(["/:a/x", "/:b/y"], "/1/x") == ("/:a/x", {"a": "1"})


# Requests against routes


def test_a_function_is_given_every_method() -> None:
    router = Router({"/any": handler("any"), "/:id": handler("id")})
    for method in ("GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND", "FOO"):
        assert answer(router, method, "/any") == "any"
        assert answer(router, method, "/x") == "id"


def test_a_ready_response_answers_every_method_as_in_bun() -> None:
    response = Response("ok")
    router = Router({"/health": response, "/m": {"GET": response}})
    assert router.match("GET", "/health") == Match(response, {})
    assert router.match("POST", "/health") == Match(response, {})
    assert router.match("HEAD", "/m") == Match(response, {})


def test_a_match_has_the_target_and_the_parameters() -> None:
    get = handler("get")
    match = Router({"/users/:id": {"GET": get}}).match("GET", "/users/7?x=1")
    assert match == Match(get, {"id": "7"})


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("GET", "get"),
        ("HEAD", "get"),
        ("POST", "post"),
        ("DELETE", (405, "GET, HEAD, POST, OPTIONS")),
        ("get", (405, "GET, HEAD, POST, OPTIONS")),  # RFC 9110, 9.1: "The method token is case-sensitive"
        ("OPTIONS", (204, "GET, HEAD, POST, OPTIONS")),
    ],
)
@pytest.mark.parametrize("path", ["/x", "/users/1", "/files/a/b"])
def test_a_table_of_methods_answers_the_others_itself(path: str, method: str, expected: object) -> None:
    table = {"POST": handler("post"), "GET": handler("get")}
    assert answer(Router({"/x": table, "/users/:id": table, "/files/*": table}), method, path) == expected


def test_head_and_options_of_the_callers_own_come_first() -> None:
    router = Router({"/x": {"GET": handler("get"), "HEAD": handler("head"), "OPTIONS": handler("options")}})
    assert answer(router, "HEAD", "/x") == "head"
    assert answer(router, "OPTIONS", "/x") == "options"


def test_head_is_not_taken_where_get_is_not() -> None:
    assert answer(Router({"/x": {"POST": handler("post")}}), "HEAD", "/x") == (405, "POST, OPTIONS")


def test_the_answer_405_says_so_as_text() -> None:
    match = Router({"/x": {"POST": handler("post")}}).match("GET", "/x")
    assert match is not None
    assert isinstance(match.target, Response)
    assert match.target.body == b"Method Not Allowed"


def test_a_method_goes_to_the_next_best_route_that_takes_it_as_in_bun() -> None:
    router = Router({"/a/b": {"GET": handler("ab")}, "/a/:x": {"POST": handler("ax")}, "/*": handler("star")})
    assert answer(router, "GET", "/a/b") == "ab"
    assert answer(router, "POST", "/a/b") == "ax"
    assert answer(router, "PUT", "/a/b") == "star"
    match = router.match("POST", "/a/b")
    assert match is not None
    assert match.params == {"x": "b"}


def test_allow_lists_what_any_route_for_the_path_takes() -> None:
    router = Router({"/a/b": {"GET": handler("ab")}, "/a/:x": {"DELETE": handler("ax"), "POST": handler("ax")}})
    assert answer(router, "PUT", "/a/b") == (405, "GET, HEAD, POST, DELETE, OPTIONS")
    assert answer(router, "PUT", "/a/c") == (405, "POST, DELETE, OPTIONS")


def test_what_no_route_matches_is_for_fetch() -> None:
    router = Router({"/a": handler("a"), "/users/:id": handler("id")})
    assert answer(router, "GET", "/b") is None
    assert answer(router, "GET", "/users/") is None
    assert answer(router, "OPTIONS", "*") is None
    assert answer(Router({}), "GET", "/") is None


@pytest.mark.parametrize(
    ("routes", "allow"),
    [
        ({"/a": {"GET": handler("a")}, "/b": {"POST": handler("b")}, "/c": False}, "GET, HEAD, POST, OPTIONS"),
        ({"/a": {"GET": handler("a")}, "/b": handler("b")}, ", ".join(METHODS)),
        ({}, "OPTIONS"),
    ],
    ids=["methods", "any_method", "none"],
)
def test_a_server_as_a_whole_takes_what_one_of_its_routes_takes(routes: dict[str, object], allow: str) -> None:
    options = Router(routes).options
    assert (options.status, options.headers["Allow"]) == (204, allow)


def test_false_gives_a_path_back_to_fetch() -> None:
    router = Router({"/s": False, "/m": {"GET": handler("get")}, "/x/*": handler("x"), "/*": False})
    assert answer(router, "GET", "/s") is None
    assert answer(router, "PUT", "/m") is None
    assert answer(router, "PUT", "/x/y") == "x"
    assert answer(Router({"/s": False, "/*": handler("star")}), "GET", "/s") is None


def test_each_function_is_adapted_once_and_a_response_is_not() -> None:
    adapted = []

    def adapt(function: Callable[..., object]) -> Callable[..., object]:
        adapted.append(function)
        return lambda request, server: ("adapted", function(request))

    class Folder:
        def __call__(self, request: object) -> str:
            return "file"

    folder = Folder()
    router = Router({"/a/*": folder, "/m": {"GET": folder, "PUT": Response("x")}, "/r": Response("r")}, adapt)
    assert adapted == [folder, folder]
    assert answer(router, "GET", "/a/b") == ("adapted", "file")
    assert answer(router, "HEAD", "/m") == ("adapted", "file")


def test_a_router_is_read_once_and_says_how_large_it_is() -> None:
    routes: dict[str, object] = {"/a": handler("a")}
    router = Router(MappingProxyType(routes))
    routes["/b"] = handler("b")
    assert answer(router, "GET", "/b") is None
    assert repr(router) == "<Router 1 routes>"


# What is wrong with a value


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (None, TypeError, "'/x' must be a function or a Response, got NoneType"),
        (True, TypeError, "'/x' must be a function or a Response, got bool"),
        ("hi", TypeError, "'/x' must be a function or a Response, got str; write Response(...) around it"),
        ([1], TypeError, "'/x' must be a function or a Response, got list; write Response.json(...) around it"),
        ({}, ValueError, "'/x' has no methods; write {'GET': handler}, or False to ask fetch"),
        ({"GET": 5}, TypeError, "'/x': GET must be a function or a Response, got int; write Response.json(...)"),
        ({"get": print}, ValueError, "'/x': unknown method 'get'; did you mean 'GET'?"),
        ({"GTE": print}, ValueError, "'/x': unknown method 'GTE'; did you mean 'GET'?"),
        ({"PSOT": print}, ValueError, "'/x': unknown method 'PSOT'; did you mean 'POST'?"),
        ({"QQQ": print}, ValueError, "'/x': unknown method 'QQQ'; known are GET, HEAD, POST,"),
        ({"CONNECT": print}, ValueError, "'/x': CONNECT asks for a tunnel and names no path"),
        ({1: print}, TypeError, "'/x': a method must be a str such as 'GET', got 1"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_route(value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=re.escape(f"routes: {words}")):
        Router({"/fine": handler("fine"), "/x": value})


@pytest.mark.parametrize("routes", [None, [("/x", print)], "x"])
def test_routes_are_a_mapping(routes: Mapping[str, object]) -> None:
    with pytest.raises(TypeError, match="routes must be a mapping of paths to what answers them, got "):
        Router(routes)


@pytest.mark.parametrize(("value", "name"), [(print, "'/x'"), ({"GET": print}, "'/x': GET")])
def test_a_function_that_cannot_be_adapted_is_refused_with_the_name_of_its_route(value: object, name: str) -> None:
    def adapt(_: Callable[..., object]) -> Callable[..., object]:
        raise TypeError("no such parameters")

    with pytest.raises(TypeError, match=re.escape(f"routes: {name} must be a function of (request, server)")):
        Router({"/x": value}, adapt)


def test_a_response_that_can_be_sent_only_once_is_no_route() -> None:
    for value in (Response(iter(["x"])), {"GET": Response(iter(["x"]))}):
        with pytest.raises(
            TypeError, match=r"this response can be sent only once; write a function that returns a new"
        ):
            Router({"/x": value})


def test_allow_has_the_order_of_the_rfc_not_that_of_the_table() -> None:
    router = Router({"/x": dict.fromkeys(("LOCK", "TRACE", "GET", "PATCH"), handler("x"))})
    assert answer(router, "OPTIONS", "/x") == (204, "GET, HEAD, PATCH, OPTIONS, TRACE, LOCK")
