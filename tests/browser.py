"""
A real browser for tests: headless Chromium, driven by Playwright, and what may go wrong between it and a server.

Rule: a page that complains has failed its test, whether it logs an error, throws, opens an alert or asks another
origin for anything. What a test provokes on purpose it names in `Complaints.expected`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest
from playwright.async_api import Browser, Dialog, Page, async_playwright
from yarl import URL


__all__ = ["launch_chromium", "Complaints", "Proxy"]

_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@asynccontextmanager
async def launch_chromium() -> AsyncIterator[Browser]:
    """Launch the Chromium of this machine. Where there is none: skip, or fail if BUNWS_REQUIRE_PEERS=1."""
    chromium = next(filter(None, map(shutil.which, _NAMES)), None)
    if chromium is None:
        reason = f"no browser: none of {', '.join(_NAMES)} is on the PATH"
        if os.environ.get("BUNWS_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Complaints:
    """Everything that pages complained about, but for lines that start with one of `expected`."""

    expected: list[str] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)

    def listen_to(self, page: Page, url: URL) -> None:
        """Note what goes wrong in `page`, which has no business outside the origin of `url`."""

        def note_request(request_url: URL) -> None:
            if request_url.scheme != "data" and request_url.origin() != url.origin():
                self._note(f"asked another origin: {request_url}")

        async def note_dialog(dialog: Dialog) -> None:
            self._note(f"opened a dialog: {dialog.message}")
            await dialog.dismiss()

        page.on("request", lambda request: note_request(URL(request.url)))
        page.on("dialog", note_dialog)
        page.on("pageerror", lambda error: self._note(f"threw: {error}"))
        page.on(
            "console",
            lambda line: self._note(line.text) if line.type in ("error", "warning") else None,
        )

    def _note(self, complaint: str) -> None:
        if not complaint.startswith(tuple(self.expected)):
            self.heard.append(complaint)


class Proxy:
    """A cable between a browser and a server that can be cut and mended, or held so that nothing reaches the server."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._relays)
            await server.wait_closed()

    def hold(self) -> None:
        """Let nothing more through to the server, as a network does that has just died."""
        self._flowing.clear()

    def cut(self) -> None:
        """Reset every connection, and each new one at once; what was held is lost."""
        self._cut = True
        for writer in self._writers:
            writer.transport.abort()
        self._flowing.set()

    def mend(self) -> None:
        """Accept connections again."""
        self._cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._relays.add(task)
        task.add_done_callback(self._relays.discard)
        server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
        both = {writer, server_writer}
        self._writers |= both
        await asyncio.gather(
            self._relay(reader, server_writer, self._flowing),
            self._relay(server_reader, writer, None),
        )
        self._writers -= both

    @staticmethod
    async def _relay(
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        flowing: asyncio.Event | None,
    ) -> None:
        try:
            while data := await source.read(65536):
                if flowing is not None:
                    await flowing.wait()
                sink.write(data)
                await sink.drain()
            sink.close()
        except ConnectionError:
            sink.transport.abort()  # one half was reset, so is the other
