"""A page that leaves before it is finished. Run `python server.py [port]`, open the address it prints."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from html import escape
from pathlib import Path
from secrets import token_urlsafe
from string import Template

import bunws


# Has a placeholder for each part. It has no end, for the parts come behind it: HTML does not ask for </body>.
SHELL = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
POLICY = "default-src 'none'; img-src data:; style-src 'nonce-{0}'; script-src 'nonce-{0}'; base-uri 'none'"


class Database:
    """Slow on purpose. The tests have one that answers when they say so."""

    async def price(self, book: str) -> str:
        await asyncio.sleep(2)
        return "£ 8.99"

    async def reviews(self, book: str) -> list[str]:
        await asyncio.sleep(1)
        return ["I <3 this book.", "It could do with <b>more</b> whales."]

    async def similar(self, book: str) -> list[str]:
        await asyncio.sleep(3)
        return ["Twenty Thousand Leagues Under the Seas", "Pride & Prejudice"]


# The parts. What comes from elsewhere is escaped where it becomes HTML.


async def price(database: Database, book: str) -> str:
    return f"<h2>Price</h2><p>{escape(await database.price(book))}</p>"


async def reviews(database: Database, book: str) -> str:
    return f"<h2>Reviews</h2>{bullets(await database.reviews(book))}"


async def similar(database: Database, book: str) -> str:
    return f"<h2>Similar books</h2>{bullets(await database.similar(book))}"


def bullets(texts: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(text)}</li>" for text in texts) + "</ul>"


PARTS = {"price": price, "reviews": reviews, "similar": similar}


# The page


async def page(database: Database, book: str, nonce: str) -> AsyncIterator[str]:
    """The shell at once; then each part when it is ready, whichever is first."""
    tasks = [asyncio.create_task(finished(name, database, book, nonce)) for name in PARTS]
    try:
        yield SHELL.substitute(book=escape(book), nonce=nonce)
        for ready in asyncio.as_completed(tasks):
            yield await ready
    finally:  # the client may have left: bunws closes the generator, and nobody needs the rest
        for task in tasks:
            task.cancel()


async def finished(name: str, database: Database, book: str, nonce: str) -> str:
    """A part, hidden, and the script that puts it in the place of its placeholder."""
    try:
        html = await PARTS[name](database, book)
    except Exception:  # 200 has been said long ago, and the other parts are fine
        logging.exception("The part %r failed", name)
        html = f"<h2>{name.capitalize()}</h2><p>Sorry, not just now.</p>"
    return f'<section hidden id="{name}-ready">{html}</section><script nonce="{nonce}">put("{name}")</script>\n'


def routes(database: Database) -> dict[str, bunws.Response | Callable[[bunws.Request], bunws.Response]]:
    def show_book(request: bunws.Request) -> bunws.Response:
        nonce = token_urlsafe()  # new for each answer, so what somebody has smuggled in cannot know it
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": POLICY.format(nonce),
            "Cache-Control": "no-store",  # or the nonce would be used again
            "X-Accel-Buffering": "no",  # nginx would wait for the end
        }
        return bunws.Response(page(database, request.params["book"], nonce), headers=headers)

    return {"/": bunws.Response.redirect("/books/Moby%20Dick"), "/books/:book": show_book}


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else None  # None: the environment's PORT, else 3000
    server = bunws.serve(routes=routes(Database()), hostname="localhost", port=port)
    print(f"Listening on {server.url}")
