"""
Tables: `websocket=`, one handler table for all sockets or one for each route.

Rule: a socket keeps the table it was opened with; `reload` changes what that table says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from .compress import negotiate
from .deflate import Deflater, Deflaters, Inflater
from .handler import Handler
from .http.request import Request
from .http.routes import RouteTable


__all__ = ["Agreement", "Table", "Tables"]

# The route of a table that is given alone.
_EVERYWHERE: Final = ""


class Agreement(NamedTuple):
    """What a client and a table have agreed on for compression."""

    answer: str | None  # the value of Sec-WebSocket-Extensions
    inflater: Inflater | None
    deflater: Deflater | None


_NONE: Final = Agreement(None, None, None)


class Table:
    """The handlers and options of some sockets, and the deflaters that they share."""

    def __init__(self, options: object) -> None:
        """Raises TypeError or ValueError, like `Handler`."""
        self.handler = Handler(options)
        self._deflaters = _deflaters(self.handler)

    def update(self, other: Table) -> None:
        """Become `other`, for the sockets that are open too; those keep the compression that they have agreed on."""
        self.handler.update(other.handler)
        self._deflaters = other._deflaters

    def agree(self, request: Request) -> Agreement:
        """Answer the client's offers of compression."""
        options = self.handler.per_message_deflate
        if options is None or self._deflaters is None:
            return _NONE
        agreed = negotiate(request.headers.getall("Sec-WebSocket-Extensions", []), options)
        if agreed is None:
            return _NONE
        answer, params = agreed
        return Agreement(answer, Inflater(params), self._deflaters.deflater(params))


class Tables:
    """The tables of one server."""

    def __init__(self, websocket: object) -> None:
        """
        `websocket` is one table, or a mapping of route to table.

        Raises TypeError or ValueError that names the option, and the route.
        """
        self._tables = {route: _table(route, options) for route, options in _by_route(websocket).items()}
        self._routes: RouteTable[Table]
        self._index()

    def __iter__(self) -> Iterator[Table]:
        return iter(self._tables.values())

    def find(self, path: str) -> Table | None:
        """The table for a request to `path`, percent-encoded as it was sent; None: no sockets there."""
        alone = self._tables.get(_EVERYWHERE)
        if alone is not None:
            return alone
        found = self._routes.match(path)
        return found[0] if found is not None else None

    def update(self, other: Tables) -> None:
        """Take the tables of `other`. A socket whose route is not among them keeps the table that it has."""
        tables: dict[str, Table] = {}
        for route, new in other._tables.items():
            old = self._tables.get(route)
            if old is not None:
                old.update(new)
            tables[route] = old or new
        self._tables = tables
        self._index()

    def _index(self) -> None:
        self._routes = RouteTable("websocket", {route: table for route, table in self._tables.items() if route})


def _by_route(websocket: object) -> Mapping[str, object]:
    if isinstance(websocket, Mapping) and websocket:
        routes = [key for key in websocket if isinstance(key, str) and key.startswith("/")]
        if len(routes) == len(websocket):
            return websocket
        if routes:
            raise TypeError(
                f"websocket: {routes[0]!r} is a route; write all handlers under routes, or none, as in "
                '{"/chat": {"message": ...}, "/feed": {"message": ...}}'
            )
    return {_EVERYWHERE: websocket}


def _table(route: str, options: object) -> Table:
    try:
        return Table(options)
    except (TypeError, ValueError) as error:
        if route:
            error.add_note(f"in websocket[{route!r}]")
        raise


def _deflaters(handler: Handler) -> Deflaters | None:
    return Deflaters(handler.per_message_deflate) if handler.per_message_deflate is not None else None
