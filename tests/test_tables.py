"""Tables: which handler table a socket gets, and what a reload changes."""

from __future__ import annotations

from typing import Any

import pytest

import bunws
from bunws.http.request import Request
from bunws.tables import Tables


def ignore(*_: object) -> None: ...


def test_one_table_is_for_every_path() -> None:
    tables = Tables({"message": ignore})
    (table,) = tables
    assert tables.find("/") is tables.find("/any/path?x=1") is table


def test_tables_by_route_are_found_by_the_path_of_the_request() -> None:
    tables = Tables({"/chat/:room": {"idle_timeout": 1}, "/feed": {"idle_timeout": 2}})

    def timeout(path: str) -> float | None:
        table = tables.find(path)
        return table.handler.idle_timeout if table is not None else None

    assert [timeout(path) for path in ("/chat/a", "/chat/b?x", "/feed", "/", "/chat")] == [1, 1, 2, None, None]


@pytest.mark.parametrize(
    ("websocket", "error", "words", "note"),
    [
        ({"/chat": {"message": ignore}, "open": ignore}, TypeError, "'/chat' is a route", ""),
        ({"/chat": {"mesage": ignore}}, TypeError, "mesage", "in websocket['/chat']"),
        ({"/chat": {"idle_timeout": -1}}, ValueError, "websocket.idle_timeout", "in websocket['/chat']"),
        ({"/a/:x": {}, "/a/:y": {}}, ValueError, "websocket: '/a/:x' and '/a/:y'", ""),
        ({"/a*": {}}, ValueError, "websocket: '/a*'", ""),
    ],
)
def test_wrong_tables_are_refused_with_their_route(
    websocket: object, error: type[Exception], words: str, note: str
) -> None:
    with pytest.raises(error) as caught:
        Tables(websocket)
    assert words in str(caught.value)
    assert note in "".join(getattr(caught.value, "__notes__", []))


def test_update_changes_the_tables_that_open_sockets_have_and_leaves_the_others_as_they_were() -> None:
    tables = Tables({"/a": {"idle_timeout": 1}, "/b": {"idle_timeout": 2}})
    a, b = tables.find("/a"), tables.find("/b")
    assert a is not None
    assert b is not None
    tables.update(Tables({"/a": {"idle_timeout": 10}, "/c": {"idle_timeout": 3}}))
    assert tables.find("/a") is a
    assert (a.handler.idle_timeout, b.handler.idle_timeout) == (10, 2)
    assert tables.find("/b") is None
    c = tables.find("/c")
    assert c is not None
    assert c.handler.idle_timeout == 3


def test_each_table_agrees_on_compression_for_itself() -> None:
    tables = Tables({"/a": {"per_message_deflate": True}, "/b": {}})
    request = Request("http://localhost/", headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
    a, b = tables.find("/a"), tables.find("/b")
    assert a is not None
    assert b is not None
    assert (a.agree(request).answer or "").startswith("permessage-deflate")
    assert b.agree(request) == (None, None, None)


async def test_one_server_carries_several_kinds_of_sockets() -> None:
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus

    def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        return None if server.upgrade(request) else bunws.Response("no sockets here", 404)

    def shout(ws: bunws.ServerWebSocket[Any], message: str) -> None:
        ws.send(message.upper())

    def whisper(ws: bunws.ServerWebSocket[Any], message: str) -> None:
        ws.send(message.lower())

    server = bunws.serve(
        fetch=fetch,
        websocket={"/shout": {"message": shout}, "/whisper/:who": {"message": whisper, "max_payload_length": 10}},
        hostname="127.0.0.1",
        port=0,
    )
    async with server:
        origin = f"ws://127.0.0.1:{server.port}"
        async with connect(f"{origin}/shout") as one, connect(f"{origin}/whisper/me") as other:
            await one.send("Hello")
            await other.send("Hello")
            assert [await one.recv(), await other.recv()] == ["HELLO", "hello"]
            await one.send("much longer than ten bytes")
            assert await one.recv() == "MUCH LONGER THAN TEN BYTES"
            await other.send("much longer than ten bytes")
            await other.wait_closed()
            assert other.close_code == 1009
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"{origin}/elsewhere")
        assert caught.value.response.status_code == 404
