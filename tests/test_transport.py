"""What transports do not say: what a client has still to take. Over TLS see test_connection_tls.py."""

from __future__ import annotations

import asyncio

import bunws
from bunws.transport import bytes_left, is_tls
from tests.clients import EACH_LOOP, connection, serving, until


LOOP_FACTORIES = EACH_LOOP

GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
WHOLE = bytes(16 * 1024 * 1024)


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
