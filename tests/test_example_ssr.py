"""The page of the SSR example: what comes when, and what a browser makes of it. The test decides what is ready."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

import bunws
from examples.ssr.server import PARTS, Database, routes
from tests.browser import Complaints, launch_chromium
from tests.support import PATIENCE, until


pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "examples" / "ssr" / "server.py"

T = TypeVar("T")

expect.set_options(timeout=15_000)  # milliseconds; the machine may be busy


class Answers(Database):
    """A database that answers when it is told what."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.given_up: list[str] = []
        loop = asyncio.get_running_loop()
        self._price: asyncio.Future[str] = loop.create_future()
        self._reviews: asyncio.Future[list[str]] = loop.create_future()
        self._similar: asyncio.Future[list[str]] = loop.create_future()

    async def price(self, book: str) -> str:
        return await self._wait_for("price", self._price)

    async def reviews(self, book: str) -> list[str]:
        return await self._wait_for("reviews", self._reviews)

    async def similar(self, book: str) -> list[str]:
        return await self._wait_for("similar", self._similar)

    async def _wait_for(self, name: str, answer: asyncio.Future[T]) -> T:
        self.asked.append(name)
        try:
            return await answer
        except asyncio.CancelledError:
            self.given_up.append(name)
            raise

    def tell_price(self, price: str) -> None:
        self._price.set_result(price)

    def tell_reviews(self, *reviews: str) -> None:
        self._reviews.set_result(list(reviews))

    def tell_similar(self, *books: str) -> None:
        self._similar.set_result(list(books))

    def fail_price(self, exc: Exception) -> None:
        self._price.set_exception(exc)


@pytest_asyncio.fixture(loop_scope="module")
async def database() -> Answers:
    return Answers()


@pytest_asyncio.fixture(loop_scope="module")
async def server(database: Answers) -> AsyncIterator[bunws.Server]:
    async with bunws.serve(routes=routes(database), hostname="127.0.0.1", port=0) as server:
        yield server


# Over a raw socket


class Reader:
    """Reads one answer as it arrives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def until(self, mark: str) -> str:
        """What has come since the last call, up to a mark."""
        async with asyncio.timeout(PATIENCE):
            return (await self._reader.readuntil(mark.encode())).decode()

    async def to_the_end(self) -> str:
        async with asyncio.timeout(PATIENCE):
            return (await self._reader.read()).decode()

    def leave(self) -> None:
        self._writer.transport.abort()


@asynccontextmanager
async def asking(server: bunws.Server, path: str = "/books/Emma") -> AsyncIterator[Reader]:
    reader, writer = await asyncio.open_connection(server.hostname, server.port)
    # HTTP/1.0, so nothing of chunks comes between what the page says.
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    try:
        yield Reader(reader, writer)
    finally:
        writer.transport.abort()


async def test_the_shell_comes_first_and_each_part_when_it_is_ready(server: bunws.Server, database: Answers) -> None:
    async with asking(server) as answer:
        shell = await answer.until("</main>\n")
        assert [f'id="{name}" aria-busy="true"' in shell for name in PARTS] == [True] * 3
        assert "-ready" not in shell.partition("<body>")[2]

        database.tell_similar("Persuasion")  # the last on the page
        assert "<li>Persuasion</li>" in await answer.until('put("similar")</script>\n')
        database.tell_price("£ 4")
        assert "<p>£ 4</p>" in await answer.until('put("price")</script>\n')
        database.tell_reviews("Good.")
        last = await answer.to_the_end()
    assert "<li>Good.</li>" in last
    assert last.endswith('put("reviews")</script>\n')


async def test_all_parts_are_asked_for_before_one_has_answered(server: bunws.Server, database: Answers) -> None:
    async with asking(server) as answer:
        await answer.until("</main>\n")
        await until(lambda: len(database.asked) == 3)
        assert set(database.asked) == {"price", "reviews", "similar"}


async def test_a_reader_who_leaves_cancels_the_parts_that_are_still_being_made(
    server: bunws.Server, database: Answers
) -> None:
    async with asking(server) as answer:
        database.tell_reviews("Good.")
        await answer.until('put("reviews")</script>\n')
        assert database.given_up == []

        answer.leave()
        await until(lambda: len(database.given_up) == 2)
    assert set(database.given_up) == {"price", "similar"}


async def test_a_part_that_fails_is_an_apology_in_its_place(
    server: bunws.Server, database: Answers, caplog: pytest.LogCaptureFixture
) -> None:
    database.fail_price(ConnectionError("password of the database: 12345"))
    database.tell_reviews("Good.")
    database.tell_similar()
    async with asking(server) as answer:
        page = await answer.to_the_end()
    assert "Sorry, not just now." in page
    assert "<li>Good.</li>" in page
    assert "12345" not in page
    assert "The part 'price' failed" in caplog.text


async def test_what_others_write_stays_text(server: bunws.Server, database: Answers) -> None:
    hostile = "</section><script>alert(1)</script>\"'&amp;"
    database.tell_price(hostile)
    database.tell_reviews(hostile)
    database.tell_similar(hostile)
    async with asking(server, f"/books/{quote(hostile, safe='')}") as answer:
        page = await answer.to_the_end()
    assert "alert" in page
    assert "<script>" not in page
    assert page.count("</section>") == 6
    assert page.count("&amp;amp;") == 5  # in title and heading, and in each of the parts


async def test_every_script_and_style_carries_a_nonce_of_this_answer(server: bunws.Server, database: Answers) -> None:
    database.tell_price("1")
    database.tell_reviews()
    database.tell_similar()
    nonces = set()
    for _ in range(2):
        async with asking(server) as answer:
            head = await answer.until("\r\n\r\n")
            page = await answer.to_the_end()
        policy = re.search(r"Content-Security-Policy: (.*)\r\n", head)
        assert policy is not None
        found = set(re.findall(r"'nonce-(.+?)'", policy[1]))
        assert found == set(re.findall(r'nonce="(.+?)"', page))
        assert len(found) == 1
        assert len(re.findall("<(?:script|style)", page)) == page.count("nonce=")
        assert "Cache-Control: no-store\r\n" in head
        nonces |= found
    assert len(nonces) == 2


async def test_the_front_page_leads_to_a_book(server: bunws.Server) -> None:
    answer = await server.fetch("/")
    assert (answer.status, answer.headers["Location"]) == (302, "/books/Moby%20Dick")


# In a browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch_chromium() as browser:
        yield browser


@asynccontextmanager
async def open_page(browser: Browser, server: bunws.Server, *, scripts: bool = True) -> AsyncIterator[Page]:
    """A tab that shows the shell. One that complains, such as of the Content-Security-Policy, fails the test."""
    complaints = Complaints()
    window = await browser.new_context(java_script_enabled=scripts)
    tab = await window.new_page()
    complaints.listen_to(tab, server.url)
    await tab.goto(str(server.url / "books/Emma"), wait_until="commit")
    try:
        yield tab
    finally:
        await window.close()
    assert complaints.heard == []


async def test_a_browser_shows_placeholders_then_each_part_in_its_place(
    server: bunws.Server, browser: Browser, database: Answers
) -> None:
    async with open_page(browser, server) as tab:
        sections = tab.locator("main > section:visible")
        await expect(sections).to_have_text([re.compile("Looking"), re.compile("Fetching"), re.compile("Thinking")])
        await expect(tab.get_by_role("heading", level=1)).to_have_text("Emma")

        database.tell_similar("Persuasion")
        await expect(sections).to_have_text([re.compile("Looking"), re.compile("Fetching"), "Similar booksPersuasion"])

        database.tell_price("£ 4")
        database.tell_reviews("I <3 it.", "<b>Long.</b>")
        await expect(sections).to_have_text(["Price£ 4", "ReviewsI <3 it.<b>Long.</b>", "Similar booksPersuasion"])
        await expect(tab.locator("section")).to_have_count(3)
        await expect(tab.locator("[aria-busy]")).to_have_count(0)


async def test_without_scripts_the_parts_stand_in_the_order_in_which_they_came(
    server: bunws.Server, browser: Browser, database: Answers
) -> None:
    async with open_page(browser, server, scripts=False) as tab:
        sections = tab.locator("section:visible")
        database.tell_similar("Persuasion")
        await expect(sections).to_have_text(["Similar booksPersuasion"])
        database.tell_price("£ 4")
        await expect(sections).to_have_text(["Similar booksPersuasion", "Price£ 4"])
        database.tell_reviews("Good.")
        await expect(sections).to_have_text(["Similar booksPersuasion", "Price£ 4", "ReviewsGood."])


# As a program


async def test_it_runs_as_a_program_and_sigterm_ends_it() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SERVER),
        "0",
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.fullmatch(r"Listening on http://localhost:(\d+)/\n", line)
        assert found, f"the server printed {line!r}"
        reader, writer = await asyncio.open_connection("localhost", int(found[1]))
        writer.write(b"GET /books/Moby%20Dick HTTP/1.0\r\n\r\n")
        assert b"<h1>Moby Dick</h1>" in await reader.readuntil(b"</main>")
        writer.transport.abort()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
