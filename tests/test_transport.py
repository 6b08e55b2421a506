"""What transports do not say: what a client has still to take, and that it has left while nothing is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

import bunws
from bunws.transport import bytes_left, departure_of, is_tls
from tests.clients import EACH_LOOP, Client, connection, serving, until


LOOP_FACTORIES = EACH_LOOP

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WHOLE = bytes(16 * 1024 * 1024)


async def settle() -> None:
    """Let the loop do all that it can do by itself."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_client_that_takes_what_the_kernel_holds_is_seen_to_move() -> None:
    async with (
        serving(fetch=lambda request: bunws.Response(WHOLE)) as server,
        connection(server, receive_buffer=10_000) as client,
    ):
        await client.send(GET)
        await until(lambda: any(bytes_left(each.transport) for each in server._guests.connections if each.transport))
        (guest,) = server._guests.connections
        assert guest.transport is not None
        assert not is_tls(guest.transport)
        ours = guest.transport.get_write_buffer_size()
        for _ in range(3 * server._site.http_ticks):
            for _ in range(4):
                await asyncio.get_running_loop().sock_recv(client.socket, 10_000)
            server._guests.sweeper.sweep()
        assert guest.transport.get_write_buffer_size() == ours  # it is only the kernel that has less
        assert not guest.transport.is_closing()
        assert server.pending_requests == 0


async def test_nothing_is_left_where_the_client_has_it_all() -> None:
    async with serving(fetch=lambda request: bunws.Response(WHOLE)) as server, connection(server) as client:
        await client.send(GET)
        assert (await client.receive_answer()).body == WHOLE
        (guest,) = server._guests.connections
        assert guest.transport is not None
        assert bytes_left(guest.transport) == 0


# Clients that leave while nothing is read


class Visit:
    """A handler that waits for its client in each way that there is, or streams to it."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[str] = []

    async def __call__(self, request: bunws.Request) -> bunws.Response:
        self.begun += 1
        match request.url.path:
            case "/cancelled":
                request.cancel_on_disconnect()
                try:
                    await asyncio.get_running_loop().create_future()
                finally:
                    self.ended.append("cancelled")
            case "/told":
                await request.wait_disconnected()
                self.ended.append("told")
            case "/stream":
                return bunws.Response(self)
            case "/late-stream":
                await request.wait_disconnected()
                return bunws.Response(self)
        return bunws.Response()

    def __aiter__(self) -> Visit:
        return self

    async def __anext__(self) -> str:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]  # it never returns

    async def aclose(self) -> None:
        self.ended.append("closed")


# More than is read ahead, of a body and of requests, but no more than the kernel takes: FIN comes behind that.
UPLOAD = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n" + bytes(70_000)
PIPELINE = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" + GET * (70_000 // len(GET))

KINDS = {"/cancelled": "cancelled", "/told": "told", "/stream": "closed", "/late-stream": "closed"}


@pytest.mark.parametrize("request_", [UPLOAD, PIPELINE])
@pytest.mark.parametrize("how", [Client.end, Client.reset])
@pytest.mark.parametrize("path", KINDS)
async def test_client_that_leaves_while_nothing_is_read_is_noticed_at_the_next_tick(
    path: str, request_: bytes, how: Callable[[Client], None]
) -> None:
    visit = Visit()
    async with serving(fetch=visit) as server, connection(server) as client:
        await client.send(request_.replace(b"%b", path.encode(), 1))
        await until(lambda: any(not each._reading for each in server._guests.connections))
        (guest,) = server._guests.connections
        server._guests.sweeper.sweep()
        await settle()
        assert (visit.begun, visit.ended) == (1, [])
        how(client)
        await until(lambda: guest.transport is None or departure_of(guest.transport))
        server._guests.sweeper.sweep()
        await until(lambda: visit.ended)
        assert visit.ended == [KINDS[path]]
        client.socket.close()
        await until(lambda: not server._guests.connections)


async def test_upload_of_a_client_that_has_closed_its_half_is_read_to_its_end() -> None:
    go_on = asyncio.Event()

    async def fetch(request: bunws.Request) -> bunws.Response:
        await go_on.wait()
        return bunws.Response(str(sum([len(chunk) async for chunk in request.body])))

    async with serving(fetch=fetch) as server, connection(server) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 120000\r\n\r\n" + bytes(70_000))
        await until(lambda: any(not each._reading for each in server._guests.connections))
        await client.send(bytes(50_000))
        client.end()
        (guest,) = server._guests.connections
        assert guest.transport is not None
        await until(lambda: guest.transport and departure_of(guest.transport))
        assert guest.current is not None
        request = guest.current.request
        for _ in range(3):
            server._guests.sweeper.sweep()
        assert request.disconnected
        go_on.set()
        assert (await client.receive_answer()).body == b"120000"
        assert await client.has_ended()
