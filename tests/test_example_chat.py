"""The chat example, as people meet it: the real server in its own process, real tabs of a real browser."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from yarl import URL

from tests.browser import Complaints, Proxy, launch_chromium


pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOT = Path(__file__).parents[1]
SERVER = ROOT / "examples" / "chat" / "server.py"

# Chromium logs each WebSocket that does not come about. Where a test takes the server away, that is no fault.
NO_SERVER = "WebSocket connection to"

expect.set_options(timeout=15_000)  # milliseconds; the machine may be busy
rooms = (URL().with_fragment(f"room-{number}") for number in itertools.count(1))


class OpenTab(Protocol):
    async def __call__(
        self, url: URL, name: str, *, viewport: tuple[int, int] = (1280, 800), script: str = ""
    ) -> Page: ...


# The server and the browser


@asynccontextmanager
async def running_server(port: int = 0) -> AsyncIterator[URL]:
    """Run server.py in its own process; at the end, SIGTERM must stop it with exit code 0."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SERVER),
        str(port),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        found = re.fullmatch(r"Listening on (http://localhost:\d+)/?\n", line)
        assert found, f"the server printed {line!r}"
        yield URL(found[1])
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[URL]:
    async with running_server() as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with launch_chromium() as browser:
        yield browser


@pytest.fixture
def complaints() -> Complaints:
    return Complaints()


@pytest_asyncio.fixture(loop_scope="module")
async def open_tab(browser: Browser, complaints: Complaints) -> AsyncIterator[OpenTab]:
    """Open tabs, each in a window of its own, that come in with a name. A tab that complains fails the test."""
    windows = []

    async def open_tab(url: URL, name: str, *, viewport: tuple[int, int] = (1280, 800), script: str = "") -> Page:
        width, height = viewport
        # In one window all tabs but one are in the background, where Chromium neither paints nor scrolls.
        window = await browser.new_context(viewport={"width": width, "height": height})
        windows.append(window)
        tab = await window.new_page()
        complaints.listen_to(tab, url)
        await tab.add_init_script(script)
        await tab.goto(str(url))
        await tab.get_by_label("Your name").fill(name)
        await tab.get_by_role("button", name="Come in").click()
        await expect(state(tab)).to_have_text("Connected")
        return tab

    yield open_tab
    for window in windows:
        await window.close()
    assert complaints.heard == []


def in_room(url: URL) -> URL:
    """The address of a room that no other test uses."""
    return url.join(next(rooms))


# What is on the page


def state(tab: Page) -> Locator:
    return tab.get_by_role("status")


def message(tab: Page, text: str) -> Locator:
    return tab.get_by_role("article").filter(has=tab.get_by_text(text, exact=True))


def line(tab: Page, text: str) -> Locator:
    return tab.get_by_role("log").locator(".note", has_text=text)


def people(tab: Page) -> Locator:
    return tab.locator("#people-list bdi")


async def say(tab: Page, text: str) -> None:
    field = tab.get_by_label("Message", exact=True)
    await field.fill(text)
    await field.press("Enter")


async def scrolls_sideways(tab: Page) -> bool:
    return bool(
        await tab.evaluate(
            "[document.documentElement, document.body, document.querySelector('#log')]"
            ".some(element => element.scrollWidth > element.clientWidth)"
        )
    )


# Talking


async def test_a_message_appears_once_in_every_tab_of_the_room(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    ann = await open_tab(room, "Ann")
    bob = await open_tab(room, "Bob")

    await say(ann, "Is anybody there?")
    await expect(message(bob, "Is anybody there?")).to_have_count(1)
    await say(bob, "I am.")

    # Behind Bob's answer there is no second copy on its way: the server keeps the order.
    for tab in (ann, bob):
        await expect(message(tab, "I am.")).to_have_count(1)
        await expect(message(tab, "Is anybody there?")).to_have_count(1)
        await expect(tab.locator(".sending")).to_have_count(0)
    await expect(ann.locator(".message.own")).to_have_count(1)
    await expect(message(bob, "Is anybody there?")).to_contain_text("Ann")
    await expect(message(bob, "Is anybody there?").locator("time")).to_have_text(re.compile(r"^\d{1,2}:\d\d"))


async def test_another_room_hears_nothing(server: URL, open_tab: OpenTab) -> None:
    room, elsewhere = in_room(server), in_room(server)
    ann = await open_tab(room, "Ann")
    bob = await open_tab(room, "Bob")
    cy = await open_tab(elsewhere, "Cy")
    dee = await open_tab(elsewhere, "Dee")

    await say(ann, "For this room only.")
    await expect(message(bob, "For this room only.")).to_have_count(1)
    await say(dee, "Said later, over here.")

    await expect(message(cy, "Said later, over here.")).to_have_count(1)
    await expect(cy.get_by_role("article")).to_have_count(1)
    await expect(message(bob, "Said later, over here.")).to_have_count(0)


async def test_who_joins_and_leaves_is_told_and_listed(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    ann = await open_tab(room, "Ann")
    await expect(ann.get_by_text("It is quiet in here")).to_be_visible()

    bob = await open_tab(room, "Bob")
    await expect(line(ann, "Bob joined")).to_have_count(1)
    await expect(people(ann)).to_have_text(["Ann", "Bob"])
    await expect(people(bob)).to_have_text(["Ann", "Bob"])
    await expect(ann.get_by_text("It is quiet in here")).to_be_hidden()
    await expect(line(bob, "joined")).to_have_count(0)

    await bob.close()
    await expect(line(ann, "Bob left")).to_have_count(1)
    await expect(people(ann)).to_have_text(["Ann"])


async def test_two_people_of_one_name_are_two_people(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    ann = await open_tab(room, "Ann")
    first = await open_tab(room, "Kim")
    second = await open_tab(room, "Kim")
    await expect(people(ann)).to_have_text(["Ann", "Kim", "Kim"])

    await say(first, "I was here first.")
    await expect(message(second, "I was here first.")).to_have_count(1)
    await expect(second.locator(".message.own")).to_have_count(0)

    await first.close()
    await expect(people(ann)).to_have_text(["Ann", "Kim"])
    await expect(people(second)).to_have_text(["Ann", "Kim"])

    await open_tab(room, "Kim")
    await expect(people(ann)).to_have_text(["Ann", "Kim", "Kim"])


async def test_html_in_a_message_or_a_name_is_shown_as_text(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    ann = await open_tab(room, "Ann")
    name, text = "<img src=x onerror=alert(1)>", "<script>alert(2)</script><b>bold</b> &amp;"
    mallory = await open_tab(room, name)

    await say(mallory, text)

    for tab in (ann, mallory):
        await expect(message(tab, text)).to_have_count(1)
        await expect(message(tab, text).locator("bdi")).to_have_text(name)
        await expect(people(tab)).to_have_text(["Ann", name])
        await expect(tab.locator("img, b, body script")).to_have_count(0)
    await expect(line(ann, f"{name} joined")).to_have_count(1)


async def test_another_fragment_is_another_room_without_a_reload(server: URL, open_tab: OpenTab) -> None:
    room, elsewhere = in_room(server), in_room(server)
    ann = await open_tab(room, "Ann")
    bob = await open_tab(elsewhere, "Bob")
    await say(ann, "In the first room.")
    await expect(message(ann, "In the first room.")).to_have_count(1)
    await ann.evaluate("window.notReloaded = true")

    await ann.evaluate("fragment => { location.hash = fragment; }", elsewhere.fragment)

    await expect(line(bob, "Ann joined")).to_have_count(1)
    await expect(ann.get_by_role("heading", level=1)).to_contain_text(elsewhere.fragment)
    await expect(people(ann)).to_have_text(["Bob", "Ann"])
    await expect(message(ann, "In the first room.")).to_have_count(0)
    await say(ann, "Hello over here.")
    await expect(message(bob, "Hello over here.")).to_have_count(1)
    assert await ann.evaluate("window.notReloaded") is True


async def test_room_and_name_can_be_changed_at_the_door(server: URL, open_tab: OpenTab) -> None:
    room, elsewhere = in_room(server), in_room(server)
    ann = await open_tab(room, "Ann")
    bob = await open_tab(elsewhere, "Bob")

    await ann.get_by_role("button", name=room.fragment).click()
    await ann.get_by_label("Your name").fill("Anna")
    await ann.get_by_label("Room", exact=True).fill(elsewhere.fragment)
    await ann.get_by_role("button", name="Change", exact=True).click()

    await expect(people(bob)).to_have_text(["Bob", "Anna"])
    assert URL(ann.url).fragment == elsewhere.fragment
    await ann.reload()  # the tab remembers its name
    await expect(line(bob, "Anna joined")).to_have_count(2)


# Losing the connection


async def test_a_dropped_connection_comes_back_and_says_so(
    server: URL, open_tab: OpenTab, complaints: Complaints
) -> None:
    complaints.expected.append(NO_SERVER)
    room = in_room(server)
    assert server.host is not None
    assert server.port is not None
    async with Proxy(server.host, server.port).listening() as cable:
        ann = await open_tab(room, "Ann")
        bob = await open_tab(room.with_port(cable.port), "Bob")
        await expect(people(ann)).to_have_text(["Ann", "Bob"])

        cable.cut()
        await expect(state(bob)).to_have_text("Reconnecting")
        await expect(bob.locator("#state")).to_have_text(re.compile(r"Reconnecting\s+in \d+ s"))
        await expect(bob.get_by_label("Message", exact=True)).to_be_disabled()
        await expect(people(ann)).to_have_text(["Ann"])
        await expect(line(ann, "Bob left")).to_have_count(1)

        cable.mend()
        await expect(state(bob)).to_have_text("Connected")
        await expect(line(bob, "Connected again")).to_have_count(1)
        await expect(people(ann)).to_have_text(["Ann", "Bob"])
        await say(bob, "I am back.")
        await expect(message(ann, "I am back.")).to_have_count(1)
        await say(ann, "Welcome back.")
        await expect(message(bob, "Welcome back.")).to_have_count(1)


async def test_a_message_that_nobody_confirmed_is_marked_and_not_sent_again(
    server: URL, open_tab: OpenTab, complaints: Complaints
) -> None:
    complaints.expected.append(NO_SERVER)
    room = in_room(server)
    assert server.host is not None
    assert server.port is not None
    async with Proxy(server.host, server.port).listening() as cable:
        ann = await open_tab(room, "Ann")
        bob = await open_tab(room.with_port(cable.port), "Bob")

        cable.hold()
        await say(bob, "Into the void.")
        await expect(bob.locator(".message.sending")).to_contain_text("Into the void.")
        cable.cut()
        await expect(message(bob, "Into the void.")).to_contain_text("May not have arrived")
        cable.mend()
        await expect(state(bob)).to_have_text("Connected")

        await say(bob, "Second try.")
        await expect(message(ann, "Second try.")).to_have_count(1)
        await expect(message(ann, "Into the void.")).to_have_count(0)
        await expect(bob.locator(".message.lost")).to_have_count(1)
        await expect(bob.locator(".message.sending")).to_have_count(0)


async def test_an_open_tab_survives_a_restart_of_the_server(open_tab: OpenTab, complaints: Complaints) -> None:
    complaints.expected.append(NO_SERVER)
    async with running_server() as url:
        assert url.port is not None
        room = in_room(url)
        ann = await open_tab(room, "Ann")
        bob = await open_tab(room, "Bob")
        draft = ann.get_by_label("Message", exact=True)
        await draft.fill("Half a sent")

    await expect(state(ann)).to_have_text("Reconnecting")
    await expect(draft).to_be_disabled()

    async with running_server(url.port) as same:
        assert same == url
        for tab in (ann, bob):
            await expect(state(tab)).to_have_text("Connected")
            await expect(people(tab)).to_have_count(2)
        await expect(draft).to_have_value("Half a sent")
        await say(ann, "Half a sentence, whole now.")
        await expect(message(bob, "Half a sentence, whole now.")).to_have_count(1)
        await ann.close()
        await expect(people(bob)).to_have_text(["Bob"])
        await bob.close()


# The page


async def test_a_phone_shows_everything_without_scrolling_sideways(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    phone = await open_tab(room, "Ann", viewport=(390, 844))
    bob = await open_tab(room, "B" * 32)
    assert not await scrolls_sideways(phone)

    await say(bob, "w" * 500)
    await say(phone, "Short, but " + "l" * 300 + "ng.")
    await expect(phone.get_by_role("article")).to_have_count(2)
    await expect(bob.get_by_role("article")).to_have_count(2)
    assert not await scrolls_sideways(phone)

    await expect(phone.get_by_role("heading", name="Here now")).to_be_hidden()
    await phone.get_by_role("button", name="2 here").click()
    await expect(people(phone)).to_have_text(["Ann", "B" * 32])
    await expect(phone.get_by_role("heading", name="Here now")).to_be_visible()
    assert not await scrolls_sideways(phone)
    await phone.keyboard.press("Escape")
    await expect(phone.get_by_role("heading", name="Here now")).to_be_hidden()


async def test_the_log_follows_only_a_reader_who_is_at_its_end(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    ann = await open_tab(room, "Ann", viewport=(390, 500))
    bob = await open_tab(room, "Bob")
    for number in range(12):
        await say(bob, f"Line {number}\nand another.")
    await expect(ann.get_by_text("Line 11")).to_be_in_viewport()

    log = ann.get_by_role("log")
    await log.focus()
    await ann.keyboard.press("Home")
    await expect(ann.get_by_text("You are in")).to_be_in_viewport()
    await say(bob, "Do not jump.")
    await expect(ann.get_by_role("button", name="1 new message")).to_be_visible()
    await expect(ann.get_by_text("You are in")).to_be_in_viewport()

    await ann.get_by_role("button", name="1 new message").click()
    await expect(ann.get_by_text("Do not jump.")).to_be_in_viewport()
    await expect(ann.get_by_role("button", name="new message")).to_be_hidden()


async def test_the_title_of_a_hidden_tab_counts_what_was_missed(server: URL, open_tab: OpenTab) -> None:
    room = in_room(server)
    hideable = (
        "let hidden = false; Object.defineProperty(document, 'hidden', { get: () => hidden });"
        "window.hide = (value) => { hidden = value; document.dispatchEvent(new Event('visibilitychange')); };"
    )
    ann = await open_tab(room, "Ann", script=hideable)
    bob = await open_tab(room, "Bob")
    await expect(ann).to_have_title(f"#{room.fragment} · bunws chat")

    await ann.evaluate("hide(true)")
    await say(bob, "One.")
    await say(bob, "Two.")
    await expect(ann).to_have_title(f"(2) #{room.fragment} · bunws chat")

    await ann.evaluate("hide(false)")
    await expect(ann).to_have_title(f"#{room.fragment} · bunws chat")


# What the server does not take from a page, in case it is not our page


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"name": "Ann"},
        {"room": "r"},
        {"name": "", "room": "r"},
        {"name": "n" * 33, "room": "r"},
        {"name": "n", "room": "r" * 65},
    ],
)
async def test_a_name_or_room_out_of_bounds_gets_no_socket(server: URL, query: dict[str, str]) -> None:
    url = (server / "chat").with_scheme("ws").with_query(query)
    with pytest.raises(InvalidStatus) as refused:
        await connect(str(url))
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize("message", ["", "x" * 2001, b"bytes"])
async def test_a_message_out_of_bounds_costs_the_connection(server: URL, message: str | bytes) -> None:
    url = (server / "chat").with_scheme("ws").with_query(name="n", room=in_room(server).fragment)
    async with connect(str(url)) as websocket:
        await websocket.recv()
        await websocket.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


async def test_the_page_comes_with_a_strict_content_security_policy(server: URL, browser: Browser) -> None:
    async with await browser.new_page() as page:
        answer = await page.goto(str(server))
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["content-type"].startswith("text/html")
