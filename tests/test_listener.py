"""Listener: sockets that listen, and what can go wrong before they do."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from bunws.listener import listen, listen_unix, tls_context


@contextmanager
def listening(hostname: str | None, port: int = 0, reuse_port: bool = False) -> Iterator[list[socket.socket]]:
    sockets = listen(hostname, port, reuse_port)
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def connect(family: int, address: object) -> None:
    with socket.socket(family) as client:
        client.settimeout(20)
        client.connect(address)  # type: ignore[arg-type]  # of any family


def test_a_socket_listens_when_it_is_returned_and_does_not_block() -> None:
    with listening("127.0.0.1") as (sock,):
        assert not sock.getblocking()
        connect(socket.AF_INET, sock.getsockname())
        connection, _ = sock.accept()
        connection.close()


def test_one_socket_hears_both_families_of_all_interfaces() -> None:
    with listening(None) as (sock,):
        port = sock.getsockname()[1]
        connect(socket.AF_INET, ("127.0.0.1", port))
        connect(socket.AF_INET6, ("::1", port))


def test_a_machine_without_ipv6_hears_all_interfaces_of_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *args: int, **options: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *args, **options)

    monkeypatch.setattr(socket, "socket", without_ipv6)
    sockets = listen(None, 0, False)
    monkeypatch.undo()
    (sock,) = sockets
    with sock:
        assert sock.family == socket.AF_INET
        connect(socket.AF_INET, ("127.0.0.1", sock.getsockname()[1]))


def test_a_name_with_two_addresses_has_the_same_port_on_both(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in TWO]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both * 2)  # some resolvers name an address twice
    with listening("two.example") as sockets:
        assert [sock.family for sock in sockets] == [socket.AF_INET6, socket.AF_INET]
        assert len({sock.getsockname()[1] for sock in sockets}) == 1


TWO = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]


def test_an_address_that_the_machine_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with listening("two.example") as (sock,):
        assert sock.getsockname()[0] == "127.0.0.1"


def test_a_name_without_an_address_of_this_machine_is_named() -> None:
    with pytest.raises(OSError, match=r"hostname '192\.0\.2\.1' has no address of this machine") as caught:
        listen("192.0.2.1", 0, False)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_a_name_that_is_not_known_is_named() -> None:
    with pytest.raises(socket.gaierror, match=r"hostname 'no-such-name\.invalid': "):
        listen("no-such-name.invalid", 0, False)


def test_a_taken_port_is_named_and_no_socket_is_left_open(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening("127.0.0.1") as (taken,):
        port = taken.getsockname()[1]
        found = [(family, socket.SOCK_STREAM, 6, "", (*address[:1], port)) for family, address in TWO]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match=rf"port {port} is in use; choose another, or port=0 for any"):
            listen("two.example", port, False)
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_port_whose_connections_have_just_ended_is_free() -> None:
    with listening("127.0.0.1") as (sock,):
        address = sock.getsockname()
        with socket.create_connection(address):
            connection, _ = sock.accept()
            connection.close()  # this side ends first, so it is the one in TIME_WAIT
    with listening("127.0.0.1", address[1]):
        pass


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="this system has no SO_REUSEPORT")
def test_a_port_is_shared_only_among_those_that_say_so() -> None:
    with listening("127.0.0.1", reuse_port=True) as (sock,):
        port = sock.getsockname()[1]
        with listening("127.0.0.1", port, reuse_port=True):
            pass
        with pytest.raises(OSError, match="is in use"):
            listen("127.0.0.1", port, False)


# Unix sockets


def test_a_path_is_bound_and_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with listen_unix(path) as sock:
        assert not sock.getblocking()
        connect(socket.AF_UNIX, path)


def test_a_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    listen_unix(path).close()
    with listen_unix(path):
        connect(socket.AF_UNIX, path)


def test_a_file_that_somebody_listens_on_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "a.sock")
    with listen_unix(path):
        with pytest.raises(OSError, match="somebody listens on this socket") as caught:
            listen_unix(path)
        assert (caught.value.errno, caught.value.filename) == (errno.EADDRINUSE, path)
        connect(socket.AF_UNIX, path)


def test_a_directory_and_a_file_are_never_removed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(FileExistsError):
            listen_unix(str(path))
        assert path.exists()


# TLS


def test_a_context_is_taken_as_it_is() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert tls_context(context) is context


def test_a_context_that_is_made_here_speaks_http_1_1_over_tls_1_2_or_later(tmp_path: Path) -> None:
    issued = trustme.CA().issue_cert("localhost")
    pem = tmp_path / "both.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    context = tls_context((pem, pem))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_NONE  # nobody asks the clients for certificates
