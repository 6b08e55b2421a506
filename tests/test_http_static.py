"""Static: a folder whose files are sent."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from bunws.http.conditional import answer_file
from bunws.http.request import Request
from bunws.http.response import Response
from bunws.http.static import StaticFolder, static


SECRET = b"the secret"

# Of the files in the folder; each has its name as its content.
NAMES = (
    *("index.html", "app.js", "css/a.css", "css/index.html", "a b+\xe9.txt"),
    *(".env", ".hidden/a", ".well-known/a"),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with secrets beside it; nobody changes it."""
    top = tmp_path_factory.mktemp("static")
    _fill(top)
    return top / "public"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _fill(tmp_path)
    return tmp_path / "public"


def _fill(top: Path) -> None:
    for name in ("public/css", "public/.hidden", "public/.well-known", "public/no-index", "public-secret", "secret.d"):
        (top / name).mkdir(parents=True)
    for name in NAMES:
        (top / "public" / name).write_bytes(name.encode())
    for name in ("secret", "public-secret/a", "secret.d/index.html"):
        (top / name).write_bytes(SECRET)


def request(
    path: str, *, method: str = "GET", headers: Mapping[str, str] | None = None, rest: str | None = None
) -> Request:
    made = Request(f"http://localhost{path}", method=method, headers=headers)
    if rest is not None:
        made._params = {"*": rest}
    return made


async def get(app: StaticFolder, path: str, **headers: str) -> Response:
    """The answer as a server would send it."""
    asked = request(path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return answer_file(asked, app(asked))


async def body(app: StaticFolder, path: str, **headers: str) -> tuple[int, bytes]:
    response = await get(app, path, **headers)
    return response.status, await response.bytes()


NOT_FOUND = (404, b"Not Found")


# What is sent


async def test_file_is_sent_with_its_type_and_what_a_browser_must_know(folder: Path) -> None:
    response = await get(static(folder), "/app.js")
    assert (response.status, await response.bytes()) == (200, b"app.js")
    expected = {
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "public, max-age=0, must-revalidate",
        "Content-Type": "text/javascript; charset=utf-8",
        "Accept-Ranges": "bytes",
    }
    headers = dict(response.headers)
    assert headers.pop("ETag").startswith('W/"')  # it was made just now
    assert headers.pop("Last-Modified").endswith(" GMT")
    assert headers == expected


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/app.js", "app.js"),
        ("/app.js?v=1", "app.js"),
        ("/css/a.css", "css/a.css"),
        ("/", "index.html"),
        ("", "index.html"),
        ("/css/", "css/index.html"),
        ("/css/index.html", "css/index.html"),
        ("/%61pp.js", "app.js"),
        ("/a%20b+%C3%A9.txt", "a b+\xe9.txt"),
        ("/.well-known/a", ".well-known/a"),
    ],
)
async def test_path_is_the_name_of_a_file(folder: Path, path: str, name: str) -> None:
    assert await body(static(folder), path) == (200, name.encode())


async def test_name_is_what_the_wildcard_of_the_route_stands_for(folder: Path) -> None:
    app = static(folder)
    for rest, name in [("css/a.css", "css/a.css"), ("", "index.html"), ("css/", "css/index.html")]:
        response = app(request(f"/assets/{rest}", rest=rest))
        assert await response.bytes() == name.encode()


async def test_it_can_be_called_as_a_handler_is(folder: Path) -> None:
    response = static(folder)(request("/app.js"), object())
    assert await response.bytes() == b"app.js"


async def test_conditional_requests_and_ranges_are_answered(folder: Path) -> None:
    app = static(folder)
    tag = (await get(app, "/app.js")).headers["ETag"]
    not_modified = await get(app, "/app.js", If_None_Match=tag)
    assert (not_modified.status, not_modified.headers["Cache-Control"]) == (304, "public, max-age=0, must-revalidate")
    assert await body(app, "/app.js", Range="bytes=1-2") == (206, b"pp")
    assert (await get(app, "/app.js", Range="bytes=6-")).status == 416


def test_head_is_answered_like_get(folder: Path) -> None:
    app = static(folder)
    got, head = (app(request("/app.js", method=method)) for method in ("GET", "HEAD"))
    assert (head.status, dict(head.headers)) == (got.status, dict(got.headers))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_other_methods_are_refused(folder: Path, method: str) -> None:
    response = static(folder)(request("/app.js", method=method))
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_options_are_told(folder: Path) -> None:
    response = static(folder)(request("/app.js", method="OPTIONS"))
    assert (response.status, response.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


# Directories


@pytest.mark.parametrize(
    ("path", "location"),
    [("/css", "./css/"), ("/css?a=b%20c&d", "./css/?a=b%20c&d"), ("/a:b", "./a%3Ab/"), ("/%C3%A9", "./%C3%A9/")],
)
def test_directory_without_its_slash_is_redirected(folder: Path, path: str, location: str) -> None:
    for name in ("a:b", "\xe9"):
        (folder / name).mkdir()
    response = static(folder)(request(path))
    assert (response.status, response.headers["Location"]) == (301, location)


def test_redirect_leads_to_no_other_host(folder: Path) -> None:
    (folder / "evil.com").mkdir()
    app = static(folder)
    for path in ("//evil.com", "//evil.com/css/..", "/%5Cevil.com", "/%2Fevil.com"):
        assert app(request(path)).status in (404, 301)
        assert app(request(path)).headers.get("Location", "./").startswith("./")


@pytest.mark.parametrize("path", ["/no-index/", "/app.js/", "/app.js/a", "/css/a.css/", "/missing", "/css/missing/"])
async def test_what_is_not_there_is_not_found(folder: Path, path: str) -> None:
    assert await body(static(folder), path) == NOT_FOUND


async def test_index_has_the_name_that_was_chosen_or_there_is_none(folder: Path) -> None:
    assert await body(static(folder, index="app.js"), "/") == (200, b"app.js")
    for path in ("/", "/css", "/css/"):
        assert await body(static(folder, index=None), path) == NOT_FOUND


def test_index_that_is_a_directory_is_not_found(folder: Path) -> None:
    assert static(folder, index="css")(request("/")).status == 404


# Options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_age": 0}, "public, max-age=0, must-revalidate"),
        ({"max_age": 3600}, "public, max-age=3600"),
        ({"max_age": 31_536_000, "immutable": True}, "public, max-age=31536000, immutable"),
        ({"max_age": None}, None),
        ({"headers": {"cache-control": "private"}}, "private"),
    ],
)
def test_cache_control_is_an_option(folder: Path, options: dict[str, object], expected: str | None) -> None:
    response = static(folder, **options)(request("/app.js"))  # type: ignore[arg-type]  # one of many
    assert response.headers.get("Cache-Control") == expected


def test_headers_of_the_caller_are_on_each_file(folder: Path) -> None:
    app = static(folder, headers={"X-A": "b", "content-type": "a/b", "X-Content-Type-Options": "x"})
    for _ in range(2):
        headers = app(request("/app.js")).headers
        assert (headers["X-A"], headers.getall("Content-Type")) == ("b", ["a/b"])
        assert headers.getall("X-Content-Type-Options") == ["x"]


def test_options_are_checked_at_once(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        static(folder / "missing")
    with pytest.raises(NotADirectoryError, match=r"app\.js"):
        static(folder / "app.js")
    with pytest.raises(ValueError, match="max_age"):
        static(folder, max_age=-1)
    for index in ("", "..", "a/b", "a\0"):
        with pytest.raises(ValueError, match="index"):
            static(folder, index=index)
    with pytest.raises(ValueError, match="X-A"):
        static(folder, headers={"X-A": "a\nb"})


async def test_folder_is_the_one_of_the_working_directory_when_it_was_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    app = static("public")
    monkeypatch.chdir("/")
    assert await body(app, "/app.js") == (200, b"app.js")
    assert str(folder) in repr(app)


async def test_folder_that_is_put_in_the_place_of_the_old_one_is_sent(folder: Path) -> None:
    (folder.parent / "now").symlink_to("public")
    app = static(folder.parent / "now")
    assert await body(app, "/app.js") == (200, b"app.js")
    (folder.parent / "then").mkdir()
    (folder.parent / "then" / "app.js").write_bytes(b"new")
    (folder.parent / "next").symlink_to("then")
    (folder.parent / "next").replace(folder.parent / "now")
    assert await body(app, "/app.js") == (200, b"new")


@pytest.mark.parametrize("path", ["/.env", "/.hidden/a", "/.hidden/", "/.hidden", "/css/.a", "/.well-known/.a", "/..."])
async def test_dotfiles_are_sent_only_if_asked_for(folder: Path, path: str) -> None:
    for name in ("css/.a", ".well-known/.a", "...", ".hidden/index.html"):
        (folder / name).write_bytes(b"dot")
    assert await body(static(folder), path) == NOT_FOUND
    assert (await get(static(folder, dotfiles=True), path)).status in (200, 301)


# No way out


@pytest.mark.parametrize(
    "rest",
    [
        *("../secret", "css/../../secret", "css/../app.js", "./app.js", "..", ".", "css/..", "/secret", "//etc/passwd"),
        *(
            "/etc/passwd",
            "css//a.css",
            "..\\secret",
            "css\\a.css",
            "app.js\0",
            "\0",
            "app.js\0.html",
            "../public/app.js",
        ),
        *(
            "../public-secret/a",
            "css/../../public-secret/a",
            "\ud800",
            "\udcff",
            "\uff0e\uff0e/secret",
            "..\u2215secret",
        ),
        *("C:\\secret", "C:/secret", "file:///etc/passwd", "%2e%2e/secret", "app.js/../../secret", "~/secret"),
        *("a" * 256, "a" * 5000, "a/" * 4000, "css/" * 4000, "css/" + "." * 300),
    ],
)
@pytest.mark.parametrize("dotfiles", [True, False])
async def test_name_that_would_lead_out_is_not_found(shared: Path, rest: str, dotfiles: bool) -> None:
    response = static(shared, dotfiles=dotfiles)(request("/x", rest=rest))
    assert (response.status, await response.bytes()) == NOT_FOUND


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/..%5csecret",
            "/%5c..%5csecret",
            "/%c0%ae%c0%ae/secret",
        ),
        *(
            "/css%2fa.css",
            "/css%2Fa.css",
            "/css/..%2f..%2fsecret",
            "/%252e%252e/secret",
            "/%00",
            "/app.js%00",
            "//app.js",
        ),
        *("/%u002e%u002e/secret", "/....//secret", "/..;/secret", "/css/%2e%2e/%2e%2e/secret", "/../public-secret/a"),
    ],
)
async def test_encoded_path_that_would_lead_out_is_not_found(shared: Path, path: str) -> None:
    assert await body(static(shared), path) == NOT_FOUND


PIECES = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "//",
        "\\",
        "secret",
        "css",
        "a.css",
        "public",
        "public-secret",
        "secret.d",
        "index.html",
        "\0",
        "%2e",
        "~",
        "",
    ]
)


@settings(max_examples=300)
@given(st.text(max_size=30) | st.lists(PIECES, max_size=8).map("".join) | st.lists(PIECES, max_size=8).map("/".join))
@example("../secret")
@example("css/../../secret")
async def test_no_name_leaves_the_folder(shared: Path, rest: str) -> None:
    for dotfiles in (True, False):
        response = static(shared, dotfiles=dotfiles)(request("/x", rest=rest))
        assert response.status in (200, 301, 404)
        content = await response.bytes()
        assert content != SECRET
        if response.status == 200:
            assert content.decode() in NAMES


@settings(max_examples=300)
@given(st.binary(max_size=12).map(lambda data: "".join(f"%{byte:02x}" for byte in data)) | st.text(max_size=20))
async def test_no_path_leaves_the_folder(shared: Path, path: str) -> None:
    try:
        asked = request("/" + path)
    except ValueError:
        return  # it is no URL
    response = static(shared, dotfiles=True)(asked)
    assert response.status in (200, 301, 404)
    assert await response.bytes() != SECRET


# Links


@pytest.fixture
def linked(folder: Path) -> Path:
    """The folder with links, some of which leave it."""
    links = {
        "in": "app.js",
        "in-d": "css",
        "in-absolute": str(folder / "css" / "a.css"),
        "in-up": "css/../app.js",
        "in-twice": "in-d/up",
        "css/up": "../app.js",
        "css/self": ".",
        "itself": str(folder),
        "hidden": ".hidden/a",
        "out": "../secret",
        "out-d": "../secret.d",
        "out-absolute": str(folder.parent / "secret"),
        "out-prefix": str(folder.parent / "public-secret" / "a"),
        "out-and-in": "../public/app.js",
        "out-by-link": "in-d/../../secret",
        "out-absolute-dots": str(folder / ".." / "secret"),
        "css/out": "../../secret",
        "css/in-absolute": str(folder / "app.js"),
        "loop": "loop",
        "loop-a": "loop-b",
        "loop-b": "loop-a",
        "dangling": "nothing",
        "file-as-directory": "app.js/",
        "chain-0": "app.js",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    for at in range(1, 50):
        (folder / f"chain-{at}").symlink_to(f"chain-{at - 1}")
    return folder


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/in", "app.js"),
        ("/in-d/a.css", "css/a.css"),
        ("/in-d/", "css/index.html"),
        ("/in-absolute", "css/a.css"),
        ("/in-up", "app.js"),
        ("/in-twice", "app.js"),
        ("/css/up", "app.js"),
        ("/css/in-absolute", "app.js"),
        ("/css/self/self/a.css", "css/a.css"),
        ("/itself/", "index.html"),
        ("/itself/app.js", "app.js"),
        ("/hidden", ".hidden/a"),
        ("/chain-39", "app.js"),
    ],
)
async def test_link_that_stays_in_the_folder_is_followed(linked: Path, path: str, name: str) -> None:
    assert await body(static(linked), path) == (200, name.encode())


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/out",
            "/out-d/",
            "/out-d/index.html",
            "/out-d",
            "/out-absolute",
            "/out-prefix",
            "/out-and-in",
            "/out-by-link",
        ),
        *(
            "/out-absolute-dots",
            "/css/out",
            "/loop",
            "/loop-a",
            "/dangling",
            "/file-as-directory",
            "/chain-40",
            "/chain-49",
        ),
        "/css/" + "self/" * 41 + "a.css",
    ],
)
async def test_link_that_leaves_the_folder_or_leads_nowhere_is_not_found(linked: Path, path: str) -> None:
    assert await body(static(linked), path) == NOT_FOUND


async def test_link_to_the_folder_by_another_name_of_it_is_followed(linked: Path) -> None:
    (linked.parent / "alias").symlink_to(linked)
    (linked / "by-alias").symlink_to(linked.parent / "alias" / "app.js")
    (linked / "by-name").symlink_to(linked / "app.js")
    app = static(linked.parent / "alias")
    assert await body(app, "/by-alias") == (200, b"app.js")
    assert await body(app, "/by-name") == (200, b"app.js")


async def test_link_to_a_folder_whose_name_only_begins_like_this_one_is_not_found(linked: Path) -> None:
    (linked / "-secret").mkdir()
    (linked / "-secret" / "a").write_bytes(b"what is left of the name")
    assert await body(static(linked), "/out-prefix") == NOT_FOUND


async def test_name_with_a_backslash_is_not_found_even_if_there_is_one(folder: Path) -> None:
    (folder / "css\\a.css").write_bytes(b"here it is no separator, elsewhere it is")
    assert await body(static(folder), "/css%5Ca.css") == NOT_FOUND


@pytest.mark.parametrize("moment", ["stat", "open"])
async def test_directory_that_becomes_a_link_while_it_is_walked_does_not_lead_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    (folder.parent / "secret.d" / "a.css").write_bytes(SECRET)
    app = static(folder)
    real = getattr(os, moment)

    def replace_behind(path: str, *arguments: object, **options: object) -> object:
        result = real(path, *arguments, **options)
        if path == "css":
            (folder / "css").rename(folder / "gone")
            (folder / "css").symlink_to("../secret.d")
        return result

    monkeypatch.setattr(os, moment, replace_behind)
    status, content = await body(app, "/css/a.css")
    # What was opened is what was walked through, whatever its name has become.
    assert (status, content) == ((200, b"css/a.css") if moment == "open" else NOT_FOUND)


async def test_file_that_becomes_a_link_does_not_lead_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = static(folder, precompressed=False)
    looks = os.stat
    seen: list[object] = []

    def replace_behind(path: str, **options: object) -> os.stat_result:
        result = looks(path, **options)  # type: ignore[arg-type]  # as they were
        if path == "app.js":
            seen.append(path)
            if len(seen) == 2:  # before it is opened
                (folder / "app.js").unlink()
                (folder / "app.js").symlink_to("../secret")
        return result

    monkeypatch.setattr(os, "stat", replace_behind)
    assert await body(app, "/app.js") == NOT_FOUND
    assert len(seen) == 2


async def test_directory_that_is_moved_out_while_it_is_walked_leads_back_into_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "css" / "up").symlink_to("../secret")
    app = static(folder)
    opens = os.open

    def move_behind(path: str, *arguments: object, **options: object) -> int:
        result = opens(path, *arguments, **options)  # type: ignore[arg-type]  # as they were
        if path == "css":
            (folder / "css").rename(folder.parent / "css")  # beside it is the secret now
        return result

    monkeypatch.setattr(os, "open", move_behind)
    assert await body(app, "/css/up") == NOT_FOUND


# What cannot be sent


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a device"])
async def test_only_regular_files_are_sent_and_nothing_is_waited_for(folder: Path, kind: str) -> None:
    path = folder / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    else:
        path.symlink_to("/dev/null")
    assert await body(static(folder), "/a") == NOT_FOUND


@pytest.mark.parametrize("refused", ["stat", "open"])
async def test_file_that_may_not_be_read_is_forbidden(
    folder: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    app = static(folder)
    real = getattr(os, refused)

    def refuse(path: str, *arguments: object, **options: object) -> object:
        if path == "app.js":
            raise PermissionError(errno.EACCES, "no", path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, refused, refuse)
    assert await body(app, "/app.js") == (403, b"Forbidden")


def test_trouble_of_the_machine_is_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = static(folder)

    def refuse(*arguments: object, **options: object) -> int:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(OSError, match="too many"):
        app(request("/app.js"))


@pytest.fixture
def descriptors() -> Iterator[list[int]]:
    """Those that were opened, and all of them are closed in the end."""
    opened: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        opens, closes = os.open, os.close

        def note(*arguments: object, **options: object) -> int:
            descriptor = opens(*arguments, **options)  # type: ignore[arg-type]  # as they were
            opened.append(descriptor)
            return descriptor

        def forget(descriptor: int) -> None:
            opened.remove(descriptor)
            closes(descriptor)

        patch.setattr(os, "open", note)
        patch.setattr(os, "close", forget)
        yield opened


@pytest.mark.parametrize(
    "path", ["/app.js", "/css/a.css", "/in-d/a.css", "/css", "/missing", "/out", "/css/out", "/loop", "/", "/app.js/"]
)
async def test_no_descriptor_is_left_open(linked: Path, descriptors: list[int], path: str) -> None:
    app = static(linked)
    for headers in (
        {},
        {"If-None-Match": "*"},
        {"If-Match": '"x"'},
        {"Range": "bytes=0-1,400-"},
        {"Range": "bytes=900-"},
    ):
        asked = request(path, headers=headers)
        await answer_file(asked, app(asked)).bytes()
        assert descriptors == []


# Precompressed


@pytest.fixture
def compressed(folder: Path) -> Path:
    for ending in (".br", ".gz", ".zst"):
        (folder / f"app.js{ending}").write_bytes(ending.encode())
    (folder / "css" / "a.css.gz").write_bytes(b"css")
    (folder / "index.html.br").write_bytes(b"index")
    return folder


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, None),
        ("", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("zstd, gzip", "zstd"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("br;q=0.001", "br"),
        ("*", "br"),
        ("*, br;q=0", "zstd"),
        ("*;q=0.5, gzip", "gzip"),
        ("BR", "br"),
        ("x-gzip", "gzip"),
        ("br ; Q=1.000 , gzip", "br"),
        ("identity", None),
        ("identity;q=1, *;q=0", None),
        ("identity;q=1, br;q=0.9", None),
        ("identity;q=0.5, br;q=0.5", "br"),
        ("identity;q=0, br;q=0, *;q=0", None),
        ("br;q=0", None),
        ("br;q=2", None),
        ("br;q=1.5, gzip;q=0.1234, zstd;q", None),
        ("brr, gz", None),
    ],
)
async def test_sibling_is_chosen_by_what_the_client_accepts(
    compressed: Path, accepted: str | None, coding: str | None
) -> None:
    headers = {} if accepted is None else {"Accept-Encoding": accepted}
    response = await get(static(compressed), "/app.js", **headers)
    expected = {None: b"app.js", "br": b".br", "gzip": b".gz", "zstd": b".zst"}
    assert response.headers.get("Content-Encoding") == coding
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert await response.bytes() == expected[coding]


async def test_sibling_is_chosen_also_for_an_index_and_behind_a_link(compressed: Path) -> None:
    (compressed / "linked").symlink_to("css")
    (compressed / "css" / "index.html.gz").symlink_to("a.css.gz")
    assert await body(static(compressed), "/", Accept_Encoding="br") == (200, b"index")
    assert await body(static(compressed), "/linked/a.css", Accept_Encoding="gzip") == (200, b"css")
    assert await body(static(compressed), "/css/", Accept_Encoding="gzip") == (200, b"css")


@pytest.mark.parametrize("precompressed", [True, False])
async def test_file_without_siblings_does_not_vary(compressed: Path, precompressed: bool) -> None:
    path = "/css/index.html" if precompressed else "/app.js"
    response = await get(static(compressed, precompressed=precompressed), path, Accept_Encoding="br, gzip")
    assert "Vary" not in response.headers
    assert "Content-Encoding" not in response.headers
    await response.bytes()


async def test_each_coding_has_its_own_tag(compressed: Path) -> None:
    for ending in ("", ".br", ".gz", ".zst"):
        path = compressed / f"app.js{ending}"
        path.write_bytes(b"same")
        os.utime(path, ns=(10**18, 10**18))
    app = static(compressed)
    tags = [
        (await get(app, "/app.js", Accept_Encoding=accepted)).headers["ETag"] for accepted in ("", "br", "gzip", "zstd")
    ]
    assert len({tag.removeprefix("W/") for tag in tags}) == 4
    response = await get(app, "/app.js", Accept_Encoding="br", If_None_Match=tags[1])
    assert (response.status, response.headers["Vary"]) == (304, "Accept-Encoding")
    assert (await get(app, "/app.js", Accept_Encoding="gzip", If_None_Match=tags[1])).status == 200


async def test_sibling_outside_of_the_folder_or_of_another_kind_is_none(folder: Path) -> None:
    (folder / "app.js.br").symlink_to("../secret")
    (folder / "app.js.gz").mkdir()
    os.mkfifo(folder / "app.js.zst")
    response = await get(static(folder), "/app.js", Accept_Encoding="br, gzip, zstd")
    assert ("Content-Encoding" in response.headers, await response.bytes()) == (False, b"app.js")


async def test_name_that_is_too_long_with_its_ending_has_no_sibling(folder: Path) -> None:
    name = "a" * 255
    (folder / name).write_bytes(b"long")
    assert await body(static(folder), f"/{name}", Accept_Encoding="br") == (200, b"long")


async def test_vary_of_the_caller_is_kept(compressed: Path) -> None:
    response = await get(static(compressed, headers={"Vary": "Origin"}), "/app.js")
    assert response.headers.getall("Vary") == ["Origin", "Accept-Encoding"]
    await response.bytes()


async def test_sibling_can_be_asked_for_by_its_own_name(compressed: Path) -> None:
    response = await get(static(compressed), "/app.js.gz", Accept_Encoding="gzip")
    assert response.headers["Content-Type"] == "application/gzip"
    assert ("Content-Encoding" in response.headers, await response.bytes()) == (False, b".gz")
