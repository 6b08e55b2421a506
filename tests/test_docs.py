"""
What the pages say is so: every Python block runs, and every `$ curl` prints what stands below it.

A block that imports bunws begins a program; one that does not goes on with the program above it, or with the one that
every page takes for granted. Tests in it are run. Its server listens on a free port of this machine instead of its own,
and is asked by the console blocks below it. All of that happens in a folder that has what the pages speak of.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

import bunws
from bunws.feed import FEED_LIMIT
from bunws.handler import OPTIONS, Handler
from bunws.http.form import FormLimits
from tests.support import PATIENCE, RawClient, quiet


ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/*.md"))]

_BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What a page may take for granted.
BEFORE = """
def fetch(request, server):
    return None if server.upgrade(request) else bunws.Response("Hello world")

def message(ws, message):
    ws.send(message)
"""


class Block(NamedTuple):
    """A fenced block of a page."""

    language: str
    text: str
    line: int  # of the page, where it begins


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(found[1], found[2], text.count("\n", 0, found.start()) + 2)  # behind the fence
        for found in _BLOCK.finditer(text)
    ]


def title(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Reader:
    """Somebody who tries everything on a page, from its top to its end."""

    def __init__(self, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._page = page
        self._serve = bunws.serve
        self._open = ExitStack()
        self._served: list[tuple[str, bunws.Server]] = []  # with the port that the page says
        self._program = self._new_program()
        monkeypatch.setattr(bunws, "serve", self._serve_here)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _new_program(self) -> dict[str, object]:
        program: dict[str, object] = {"__name__": "__main__", "bunws": bunws}
        exec(BEFORE, program)
        return program

    def _serve_here(self, **options: object) -> bunws.Server:
        port = options.pop("port", None)
        if "unix" not in options:
            options |= {"hostname": "127.0.0.1", "port": 0}
        server = self._serve(**options)  # type: ignore[arg-type]  # whatever the page says
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it has a thread of its own, and nobody ends it
            self._open.enter_context(quiet(server))
        self._served.append((f"localhost:{port or 3000}", server))
        return server

    def run(self, block: Block) -> dict[str, object]:
        """Do what it says; returns the names of its program."""
        if block.language == "console":
            self._type(block)
        else:
            self._execute(block)
        return self._program

    def _execute(self, block: Block) -> None:
        text = block.text
        if _imports_bunws(text):
            self._program = self._new_program()
        if text.lstrip().startswith('"'):  # an option of a handler table
            text = f"bunws.serve(fetch=fetch, websocket={{{text}}})"
        exec(compile("\n" * (block.line - 1) + text, str(self._page), "exec"), self._program)
        for name in [name for name in self._program if name.startswith("test_")]:
            test = self._program.pop(name)
            assert callable(test)
            result = test()
            if inspect.iscoroutine(result):
                asyncio.run(result)

    def _type(self, block: Block) -> None:
        for entry in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            command, _, output = entry.partition("\n")
            where, server = self._served[-1]
            here = f"127.0.0.1:{server.port}"
            assert command.startswith("curl "), f"{title(self._page)}:{block.line}: only curl is tried, not {command}"
            assert where in command, f"{title(self._page)}:{block.line}: the server is at {where}"
            done = subprocess.run(
                [curl(), "--silent", *shlex.split(command.replace(where, here))[1:]],
                stdout=subprocess.PIPE,
                timeout=PATIENCE,
                check=True,
            )
            printed = done.stdout.decode().replace("\r\n", "\n").replace(here, where)
            assert printed.rstrip("\n") == output.rstrip("\n"), f"{title(self._page)}: {command}"


def _imports_bunws(text: str) -> bool:
    if text.lstrip().startswith('"'):
        return False
    nodes = ast.parse(text).body
    return any(isinstance(node, ast.Import) and node.names[0].name == "bunws" for node in nodes)


def curl() -> str:
    """Where curl is. Where there is none: skip, or fail if BUNWS_REQUIRE_PEERS=1."""
    found = shutil.which("curl")
    if found is None:
        if os.environ.get("BUNWS_REQUIRE_PEERS") == "1":
            pytest.fail("no curl on the PATH")
        pytest.skip("no curl on the PATH")
    return found


@pytest.fixture
def try_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], Reader]]:
    """What opens a page, in a folder that has what the pages speak of."""
    monkeypatch.chdir(tmp_path)
    access, on_hangup = logging.getLogger("bunws.access"), signal.getsignal(signal.SIGHUP)
    level = access.level
    for folder in ("public", "uploads"):
        (tmp_path / folder).mkdir()
    (tmp_path / "public" / "app.js").write_text("export const answer = 42;\n")
    (tmp_path / "public" / "index.html").write_text("<!doctype html><title>Hello</title>\n")
    (tmp_path / "report.csv").write_text("name,count\nann,1\n")
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    with ExitStack() as stack:
        yield lambda page: stack.enter_context(Reader(page, monkeypatch))
    access.setLevel(level)
    signal.signal(signal.SIGHUP, on_hangup)


@pytest.mark.parametrize("page", PAGES, ids=title)
def test_everything_on_the_page_works(page: Path, try_page: Callable[[Path], Reader]) -> None:
    reader = try_page(page)
    for block in blocks(page):
        reader.run(block)


# What a page says in words


def program(page: Path, words: str) -> list[Block]:
    """The Python blocks of a page with these words in them."""
    found = [block for block in blocks(page) if block.language == "python" and words in block.text]
    assert found
    return found


def test_each_live_feed_of_the_page_tells_what_was_posted(try_page: Callable[[Path], Reader]) -> None:
    page = ROOT / "docs" / "http.md"
    reader = try_page(page)
    feeds = program(page, "bunws.EventStream(")
    assert len(feeds) == 2
    for block in feeds:
        server = reader.run(block)["server"]
        assert isinstance(server, bunws.Server)
        assert server.port is not None
        with RawClient(server.port) as listener, RawClient(server.port) as teller:
            assert b"text/event-stream" in _events(listener.get("/news"), b"\r\n\r\n")
            assert teller.send(_post("It works")).answer().status == 204
            assert b"data: It works\n\n" in _events(listener, b"\n\n")


def test_the_feed_with_a_history_tells_who_comes_back_what_was_missed(try_page: Callable[[Path], Reader]) -> None:
    page = ROOT / "docs" / "http.md"
    (block,) = program(page, "last_event_id")
    server = try_page(page).run(block)["server"]
    assert isinstance(server, bunws.Server)
    assert server.port is not None
    with RawClient(server.port) as teller:
        for text in ("one", "two", "three"):
            teller.send(_post(text)).answer()
        with RawClient(server.port) as listener:
            _events(listener.get("/news", "Last-Event-ID: 1"), b"\r\n\r\n")
            assert b"id: 2\ndata: two\n\n" in _events(listener, b"two\n\n")
            assert b"id: 3\ndata: three\n\n" in _events(listener, b"three\n\n")
            teller.send(_post("four")).answer()
            assert b"id: 4\ndata: four\n\n" in _events(listener, b"four\n\n")


def _post(text: str) -> bytes:
    return f"POST /news HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def _events(client: RawClient, mark: bytes) -> bytes:
    """What comes next, chunks and all, up to a mark."""
    data = b""
    while not data.endswith(mark):
        byte = client.file.read(1)
        assert byte, f"the stream has ended behind {data!r}"
        data += byte
        assert b":\n\n" not in data, "the stream has been silent so long that its heart beats"
    return data


# The tables

_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)
_UNITS = {"": 1, "s": 1, "KiB": 1024, "MiB": 1024 * 1024}


def value(text: str) -> object:
    """What a cell says: "16 KiB", "1,000", "0 (any number)", "None"."""
    number = re.fullmatch(r"([\d,]+) ?(\w*)(?: \(.*\))?", text)
    return ast.literal_eval(text) if number is None else int(number[1].replace(",", "")) * _UNITS[number[2]]


def defaults() -> dict[str, dict[str, object]]:
    """The limits of the code, by the words that stand above them in a table."""
    served = inspect.signature(bunws.serve).parameters
    names = [name for name in served if name.startswith("max_") or name == "idle_timeout"]
    handler = Handler({})
    limits = FormLimits()
    return {
        "option of `serve()`": {name: served[name].default for name in names},
        "argument of `request.form()`": {name: getattr(limits, name) for name in FormLimits.__slots__},
        "key of `websocket=`": {name: getattr(handler, name) or False for name in OPTIONS if name != "publish_to_self"},
    }


@pytest.mark.parametrize("page", [ROOT / "SECURITY.md", ROOT / "docs" / "http.md"], ids=title)
def test_the_tables_have_the_defaults_of_the_code(page: Path) -> None:
    tables = page.read_text("utf-8").split("\n\n")
    found = 0
    for words, expected in defaults().items():
        for table in tables:
            if table.startswith(f"| {words} |"):
                said = {name: value(text) for name, text in _ROW.findall(table)}
                assert said.items() <= expected.items()
                assert page.name != "SECURITY.md" or said.keys() == expected.keys()
                found += 1
    assert found >= 2


def test_the_form_arguments_are_those_of_the_limits() -> None:
    arguments = inspect.signature(bunws.Request.form).parameters
    assert {name: arguments[name].default for name in arguments if name != "self"} == defaults()[
        "argument of `request.form()`"
    ]


def test_a_subscription_holds_as_much_as_the_pages_say() -> None:
    assert value("16 MiB") == FEED_LIMIT
