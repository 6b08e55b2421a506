"""
Files: a regular file as something that can be sent.

Rule 1: what is open is what was asked about. Size, times and bytes come from one descriptor, never from a path twice.
Rule 2: nothing here waits for a disk on the loop's thread, except for the metadata (open, fstat).
Rule 3: a descriptor is closed once, when the last `File` that uses it is closed or forgotten and no thread reads it.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import stat
import threading
import time
from functools import cache
from typing import Final, Self


__all__ = ["File", "guess_type", "CHUNK_SIZE"]


# Bytes that are read, and asked to be written, at once. What a GiB took to read from the page cache and to send to a
# reader on the same machine, in CPU seconds, user and system (uvloop, 2 cores; medians), idle beside it and busy:
#
#     read in a thread, one chunk ahead     256 KiB 0.41 · 0.90    128 KiB busy 1.11    512 KiB busy 0.68
#     read on the loop, if it is cached     256 KiB 0.52 · 0.47    128 KiB busy 0.41
#     os.sendfile to the same socket        256 KiB 0.23 · 0.44
#     os.sendfile in a thread               256 KiB 0.62           1 MiB 0.37
#
# So the page cache is asked first, which also spares a small file the way to a thread and back; a thread reads only
# what it has not. sendfile saves up to half beyond that, but it cannot be told not to wait for the disk, TLS has no use
# for it, and it would have to go round uvloop's transport.
CHUNK_SIZE: Final = 256 * 1024

# Linux: read what is in the page cache and fail instead of waiting for the disk. Elsewhere threads read everything.
_NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)

# What says "not without waiting", or that this file system cannot tell.
_WOULD_WAIT: Final = frozenset({errno.EAGAIN, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})

# O_NONBLOCK: opening a FIFO would wait for its writer otherwise. Neither flag changes anything for a regular file.
_READ: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY

# Nanoseconds. Two writes within a tick of a file system's clock can leave the same time; a tick is 2 s at worst (FAT).
_SETTLING: Final = 2_000_000_000

# Reproducible archives and read-only stores (Nix, OCI layers, ZIP) date everything 1970-01-01 or 1980-01-01. That is no
# time of a modification; what is older than this is taken for one of those. In nanoseconds: 1980-01-03.
_NO_TIME: Final = 315_705_600 * 1_000_000_000


class File:
    """
    An open regular file, or a part of one, as the body of a `Response`: a stream that can be sent once.

    `size` is in bytes. `last_modified` is in seconds since 1970, rounded down, or None where the file system keeps no
    time. Where the file grows while it is sent, `size` bytes of it are sent; where it shrinks, `EOFError` is raised.
    """

    __slots__ = (
        "_ahead",
        "_at",
        "_begun",
        "_handle",
        "_stop",
        "_tag",
        "_weak",
        "content_type",
        "last_modified",
        "size",
    )

    def __init__(self, path: str | os.PathLike[str], *, content_type: str | None = None) -> None:
        """
        Open `path` and follow links. For paths that a client has chosen there is `static()`.

        `content_type` is guessed from the name if it is None. Raises `OSError`: `FileNotFoundError`, `PermissionError`,
        `IsADirectoryError`, or with `errno.EINVAL` for a pipe, a socket or a device.
        """
        # Looked at before it is opened: to open a device may already do something.
        _check_regular(os.stat(path), path)
        self._open(os.open(path, _READ), path, content_type)

    @classmethod
    def open_at(cls, directory: int, name: str, *, content_type: str | None = None) -> Self:
        """Open `name` in the directory of a descriptor, where it is no link. Raises `OSError` as `File` does."""
        _check_regular(os.stat(name, dir_fd=directory, follow_symlinks=False), name)
        file = cls.__new__(cls)
        file._open(os.open(name, _READ | os.O_NOFOLLOW, dir_fd=directory), name, content_type)
        return file

    def _open(self, descriptor: int, path: str | os.PathLike[str], content_type: str | None) -> None:
        self._handle: _Handle | None = _Handle(descriptor)
        status = os.fstat(descriptor)
        _check_regular(status, path)
        self.size = status.st_size
        self.content_type = guess_type(path) if content_type is None else content_type
        dated = status.st_mtime_ns >= _NO_TIME
        now = time.time_ns()
        # RFC 9110, 8.8.2.1: "An origin server with a clock MUST NOT generate a Last-Modified date that is later than
        # the server's time of message origination (Date, Section 6.6.1)."
        self.last_modified: int | None = min(status.st_mtime_ns, now) // 1_000_000_000 if dated else None
        self._tag = f"{status.st_mtime_ns if dated else status.st_ctime_ns:x}-{self.size:x}"
        # RFC 9110, 8.8.1: "A strong validator is representation metadata that changes value whenever a change occurs to
        # the representation data that would be observable in the content of a 200 (OK) response to GET." A time does so
        # only from when its clock has ticked on; until then the same tag is weak. The time of the inode is asked as
        # well: a copy that keeps its date may have come just now. (It is not part of the tag: replicas of one folder
        # would disagree about every file.)
        self._weak = max(status.st_mtime_ns, status.st_ctime_ns) > now - _SETTLING
        self._at = 0
        self._stop = self.size
        self._begun = False
        self._ahead: asyncio.Future[bytes] | None = None

    def __repr__(self) -> str:
        return f"<File {self.size} bytes {self.content_type}{' closed' if self.closed else ''}>"

    @property
    def etag(self) -> str:
        """The entity tag, with its quotes; weak (`W/"…"`) for two seconds after the file was changed."""
        return f'W/"{self._tag}"' if self._weak else f'"{self._tag}"'

    @property
    def closed(self) -> bool:
        """Whether it was closed, or sent to its end."""
        return self._handle is None

    def slice(self, start: int, stop: int) -> File:
        """
        The bytes from `start` up to `stop`, as a `File` with a tag of its own. Both can be sent, in any order, and each
        is closed for itself. Raises `ValueError` unless 0 <= start <= stop <= size, and where this one was sent.
        """
        handle = self._fresh()
        if not 0 <= start <= stop <= self.size:
            raise ValueError(f"slice({start}, {stop}) is not within 0 and {self.size}")
        part = File.__new__(File)
        part.size = stop - start
        part.content_type = self.content_type
        part.last_modified = self.last_modified
        part._tag = self._tag if part.size == self.size else f"{self._tag}-{start:x}-{stop:x}"
        part._weak = self._weak
        part._at = self._at + start
        part._stop = self._at + stop
        part._begun = False
        part._ahead = None
        part._handle = handle.share()
        return part

    def __aiter__(self) -> Self:
        self._fresh()
        self._begun = True
        return self

    def _fresh(self) -> _Handle:
        if self._handle is None or self._begun:
            raise ValueError("this file was sent or closed: a file can be sent once, so make one for each response")
        return self._handle

    async def __anext__(self) -> bytes:
        """The next 1 to `CHUNK_SIZE` bytes; it does not suspend where the page cache has them."""
        handle = self._handle
        left = self._stop - self._at
        if handle is None or not left:
            self.close()
            raise StopAsyncIteration
        chunk: bytes | None
        if self._ahead is None:
            chunk = handle.read_cached(self._at, min(left, CHUNK_SIZE))
            wait = chunk is None
            if chunk is None:
                chunk = await self._read(handle, self._at)
        else:
            ahead, self._ahead = self._ahead, None
            wait = not ahead.done()
            chunk = await ahead
        if self._handle is None:
            raise ValueError("the file was closed while it was read")
        if not chunk:
            raise EOFError(f"the file became shorter while it was sent: {left} bytes are missing")
        self._at += len(chunk)
        # The disk is the slower one: let it work while the client takes this chunk.
        if wait and self._at < self._stop:
            self._ahead = self._read(handle, self._at)
        return chunk

    def _read(self, handle: _Handle, at: int) -> asyncio.Future[bytes]:
        size = min(self._stop - at, CHUNK_SIZE)
        return asyncio.get_running_loop().run_in_executor(None, handle.read, at, size)

    def close(self) -> None:
        """Let go of the file. It may be called again."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        handle.release()
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            ahead.cancel()  # where it is done, asyncio is told that nobody will look at it


class _Handle:
    """A descriptor and the number of those who use it, in any thread."""

    __slots__ = ("_descriptor", "_lock", "_users")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._users = 1
        self._lock = threading.Lock()

    def share(self) -> Self:
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._close()

    def _close(self) -> None:
        # The number may be another file's from here on.
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            self._close()

    def read(self, at: int, size: int) -> bytes:
        """In a thread: wait for the disk. b"" behind the end."""
        with self._lock:
            if not self._users:
                return b""  # it was closed while this waited for a thread; nobody looks at the answer
            self._users += 1
        try:
            return os.pread(self._descriptor, size, at)
        finally:
            self.release()

    def read_cached(self, at: int, size: int) -> bytes | None:
        """What is in memory, perhaps less than `size`; empty behind the end; None: it would have to wait."""
        if not _NOWAIT:
            return None
        buffer = _scratch.buffer[:size]
        try:
            length = os.preadv(self._descriptor, [buffer], at, _NOWAIT)
        except OSError as exc:
            if exc.errno in _WOULD_WAIT:
                return None
            raise
        return bytes(buffer[:length])


class _Scratch(threading.local):
    """Where a thread's loop reads to before it knows how many bytes there are."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(CHUNK_SIZE))


_scratch: Final = _Scratch()


def _check_regular(status: os.stat_result, path: str | os.PathLike[str]) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", path)


# Content types

# What the web is made of, whatever this version of Python knows.
_WEB_TYPES: Final = {
    ".apng": "image/apng",
    ".atom": "application/atom+xml",
    ".avif": "image/avif",
    ".br": "application/octet-stream",
    ".css": "text/css",
    ".csv": "text/csv",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".ics": "text/calendar",
    ".js": "text/javascript",  # RFC 9239, 6
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".jxl": "image/jxl",
    ".m3u8": "application/vnd.apple.mpegurl",
    ".m4a": "audio/mp4",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".mp4": "video/mp4",
    ".ndjson": "application/x-ndjson",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".otf": "font/otf",
    ".rss": "application/rss+xml",
    ".svg": "image/svg+xml",
    ".toml": "application/toml",
    ".ttf": "font/ttf",
    ".txt": "text/plain",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "video/webm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".xhtml": "application/xhtml+xml",
    ".xml": "application/xml",
    ".yaml": "application/yaml",  # RFC 9512, 2.1
    ".yml": "application/yaml",
    ".zip": "application/zip",
    ".zst": "application/zstd",
}


@cache
def _types() -> dict[str, str]:
    # Not the tables of the machine (/etc/mime.types and the like): a site should not change with its host.
    return mimetypes.MimeTypes().types_map[1] | _WEB_TYPES


def guess_type(path: str | os.PathLike[str]) -> str:
    """The value of Content-Type for a file of this name; text is taken to be UTF-8."""
    extension = os.path.splitext(os.fspath(path))[1].lower()
    content_type = _types().get(extension, "application/octet-stream")
    return f"{content_type}; charset=utf-8" if content_type.startswith("text/") else content_type
