"""
Listener: the sockets that listen, and the TLS in front of them.

Rule: all that can go wrong (a taken port, an unknown name, a missing certificate) goes wrong here, in `serve()`, before
anything runs.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
import stat
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from yarl import URL


if TYPE_CHECKING:
    import asyncio


__all__ = ["BACKLOG", "Listener", "TLS", "listen", "listen_unix", "tls_context"]

logger = logging.getLogger("bunws")

# Connections that the kernel may hold until they are accepted; it caps this at net.core.somaxconn.
BACKLOG: Final = 4096

# Seconds that TLS may take for its goodbye, behind all that is still to be sent. The loops allow 30, however much that
# is and whether or not the client takes it; so the sweep, which can tell, ends it instead, and this is no limit.
SHUTDOWN_TIMEOUT: Final = 24 * 60 * 60.0

# This machine has no such address, or does not speak its family.
_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

Paths: TypeAlias = str | os.PathLike[str]

#: What `tls=` takes: a context, the paths of certificate chain and key, or a mapping with "cert" and "key".
TLS: TypeAlias = ssl.SSLContext | tuple[Paths, Paths] | Mapping[str, Paths]


class Listener:
    """The sockets of one server, and the address that they have."""

    def __init__(self, sockets: list[socket.socket], hostname: str | None, unix: str | None, scheme: str) -> None:
        self._sockets = sockets
        self._unix = unix
        self._servers: list[asyncio.AbstractServer] = []
        self._closed = False
        self.scheme = scheme
        #: None on a Unix socket.
        self.hostname = hostname
        self.port: int | None = None if unix is not None else sockets[0].getsockname()[1]
        if unix is None:
            assert hostname is not None
            self.url = URL.build(scheme=scheme, host=hostname, port=self.port, path="/")
        else:
            self.url = URL(f"unix:{unix[1:]}") if unix.startswith("\0") else URL(f"unix://{unix}")
        #: Host and port of a request whose client has named none.
        self.authority = self.url.raw_authority if unix is None else "localhost"

    @classmethod
    def tcp(cls, hostname: str | None, port: int, reuse_port: bool, scheme: str) -> Listener:
        """See `listen`."""
        return cls(listen(hostname, port, reuse_port), hostname or "localhost", None, scheme)

    @classmethod
    def unix(cls, path: str, scheme: str) -> Listener:
        """See `listen_unix`."""
        return cls([listen_unix(path)], None, path, scheme)

    async def open(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol_factory: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        handshake_timeout: float,
    ) -> None:
        """Accept connections; `handshake_timeout` is TLS's, in seconds, and 0 stands for the loop's own."""
        create = loop.create_server if self._unix is None else loop.create_unix_server
        try:
            while self._sockets:
                sock = self._sockets[0]
                # asyncio accepts as many at once as this says, and without descriptors complains, and sets a timer, as
                # often: 4096 lines a second. What the kernel may hold is said below.
                options: dict[str, Any] = {"sock": sock, "backlog": 1, "ssl": context}
                if context is not None:
                    options["ssl_handshake_timeout"] = handshake_timeout or None
                    options["ssl_shutdown_timeout"] = SHUTDOWN_TIMEOUT
                # In two steps: between them the socket changes hands, and nothing is awaited.
                server = await create(protocol_factory, **options, start_serving=False)
                self._servers.append(server)
                del self._sockets[0]
                await server.start_serving()
                if not self._closed:
                    sock.listen(BACKLOG)
        finally:
            if self._closed:
                self._close_servers()

    def close(self) -> None:
        """Listen no more; a socket file is removed. May be called before `open` has ended, and more than once."""
        if self._closed:
            return
        self._closed = True
        if self._unix is not None and not self._unix.startswith("\0"):
            try:
                os.unlink(self._unix)  # before `close`, which does it as well since Python 3.13
            except FileNotFoundError:
                logger.warning("bunws: the socket file %s was gone already", self._unix)
        self._close_servers()

    def _close_servers(self) -> None:
        for server in self._servers:
            try:
                server.close()
            except RuntimeError:
                logger.debug("bunws: the event loop was closed before the server", exc_info=True)
        for sock in self._sockets:  # those that no server has; the others belong to the loop
            sock.close()
        self._servers = []
        self._sockets = []


def listen(hostname: str | None, port: int, reuse_port: bool) -> list[socket.socket]:
    """
    Bind and listen; None means all interfaces, and port 0 picks a free one, the same for every address.

    Raises OSError when the port is taken, or the name is not known or not of this machine.
    """
    if hostname in (None, ""):
        try:
            return [_bind(socket.AF_INET6, ("::", port), reuse_port, dual=True)]
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
        return [_bind(socket.AF_INET, ("0.0.0.0", port), reuse_port)]

    flags = socket.AI_PASSIVE | socket.AI_NUMERICSERV
    try:
        found = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:
        raise type(error)(error.errno, f"hostname {hostname!r}: {error.strerror}") from None
    sockets: list[socket.socket] = []
    try:
        for family, _, _, _, address in dict.fromkeys(found):
            chosen = sockets[0].getsockname()[1] if sockets else port
            try:
                sockets.append(_bind(family, (address[0], chosen, *address[2:]), reuse_port))
            except OSError as error:
                # A name may have an address of a family that this machine does not speak.
                if error.errno not in _NOT_HERE:
                    raise
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    if not sockets:
        raise OSError(errno.EADDRNOTAVAIL, f"hostname {hostname!r} has no address of this machine")
    return sockets


def _bind(
    family: socket.AddressFamily | int, address: tuple[object, ...], reuse_port: bool, *, dual: bool = False
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise OSError(errno.EADDRINUSE, f"port {address[1]} is in use; choose another, or port=0 for any") from None
        raise
    except BaseException:
        sock.close()
        raise
    return sock


def listen_unix(path: str) -> socket.socket:
    """
    Bind and listen on a Unix socket; a path that begins with NUL is an abstract name (Linux).

    A socket file that a dead server left behind is replaced. Raises OSError when somebody listens there, or when the
    file is something else.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.startswith("\0"):
            _remove_stale(path)
        sock.setblocking(False)
        sock.bind(path)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _remove_stale(path: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "unix: the file exists and is no socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        else:
            raise OSError(errno.EADDRINUSE, "unix: somebody listens on this socket", path)


def tls_context(tls: TLS) -> ssl.SSLContext:
    """The context of `tls=`. Raises TypeError, or what `load_cert_chain` raises, with the option's name."""
    if isinstance(tls, ssl.SSLContext):
        return tls
    if isinstance(tls, Mapping):
        unknown = set(tls) - {"cert", "key"}
        if unknown or set(tls) != {"cert", "key"}:
            raise TypeError(f'tls must have the paths "cert" and "key", got {sorted(map(str, tls))}')
        cert, key = tls["cert"], tls["key"]
    elif isinstance(tls, tuple) and len(tls) == 2:
        cert, key = tls
    else:
        raise TypeError(
            'tls must be an ssl.SSLContext, (cert_path, key_path), or {"cert": path, "key": path}, '
            f"got {type(tls).__name__}"
        )
    for name, path in (("cert", cert), ("key", key)):
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"tls {name} must be a path, got {type(path).__name__}")
        if not os.path.exists(path):
            raise FileNotFoundError(errno.ENOENT, f"tls {name}: no such file", os.fspath(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a handshake costs us ten times what it costs the peer
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, password=_refuse_password)
    except ssl.SSLError as error:
        raise ssl.SSLError(error.errno, f"tls: cannot use cert {cert} with key {key}: {error.strerror}") from None
    return context


def _refuse_password() -> str:
    # OpenSSL would ask for it on the terminal, and the program would hang where there is none.
    raise ValueError("tls: the key is encrypted; load it into an ssl.SSLContext of your own and pass that")
