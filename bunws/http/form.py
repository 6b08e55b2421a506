"""
Form: the fields and files that a client sends as HTML forms do (WHATWG URL, RFC 7578).

Rule 1: a body is parsed while it arrives. Text stays in memory within limits; of a file no more than `spool_size` does.
Rule 2: the disk is touched in other threads only, never in the event loop's.
Rule 3: whatever ends a form ends its files, and a file has no name on the disk that could outlive it.
Rule 4: what a client did wrong is an `HTTPError`: 413 for a limit, 400 for what is malformed, 415 for no form at all.
Rule 5: where Fetch, "package data" says how a part is read, it is read so: every text is UTF-8, whatever it says it is.
"""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
import unicodedata
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from os import PathLike
from threading import Lock
from typing import IO, Final, Self, TypeVar
from urllib.parse import unquote_to_bytes

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_content_disposition,
    parse_options_header,
)

from ..exceptions import HTTPError


__all__ = ["FormData", "UploadFile", "FormLimits", "read_form"]


_T = TypeVar("_T")

# Bytes that are gathered before a thread is asked to write them. So an upload of 128 MiB takes half as long as with
# 1 MiB, or with every chunk of 64 KiB written by itself (CPython 3.11, two cores: 0.16 s, 0.33 s, 0.34 s).
_WRITE_SIZE: Final = 256 * 1024

# Bytes of each chunk of `UploadFile.chunks()`.
_CHUNK_SIZE: Final = 64 * 1024

# RFC 7578, 4.8: a part has Content-Disposition, and may have Content-Type and the deprecated
# Content-Transfer-Encoding; some clients add Content-Length.
_MAX_HEADERS: Final = 8

# RFC 2046, 5.1.1: "boundary := 0*69<bchars> bcharsnospace"
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]")

# The names of the parameters of a field such as Content-Disposition. A quoted value ends where it can end first, as
# RFC 9110, 5.6.4 has it, and where it has no end it counts as empty.
_PARAMETER: Final = re.compile(r';[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)[ \t]*=[ \t]*(?:"(?:\\.|[^"\\])*")?')

# RFC 9110, 5.5: what may not be in a field. The parser ends a line at CRLF only, so a bare CR or LF would stay in it.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

_URLENCODED: Final = "application/x-www-form-urlencoded"
_MULTIPART: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class FormLimits:
    """What a form may be. Sizes are in bytes; None: as much as the server lets through (`max_request_body_size`)."""

    max_fields: int = 1000
    max_files: int = 100
    # One field's value.
    max_field_size: int = 1024 * 1024
    # All fields together, names and all: so much memory a form can take, besides `spool_size` for each file.
    max_fields_size: int = 2 * 1024 * 1024
    max_file_size: int | None = None
    # The header lines of one part.
    max_header_size: int = 8 * 1024
    # The whole body.
    max_size: int | None = None
    # So much of each file stays in memory; a longer one goes to the disk.
    spool_size: int = _WRITE_SIZE

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name in ("max_file_size", "max_size"):
                continue
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field.name} must be int, not {type(value).__name__}")
            if value < 0:
                raise ValueError(f"{field.name} must not be negative: {value}")


# What a form is


class FormData(MultiDictProxy["str | UploadFile"]):
    """
    The entries of a form, in the order in which they came; a name may come more than once.

    `form["name"]` is the first value of a name, `form.getall("name")` are all: `str`, or `UploadFile` for a file.
    The files are closed with the form: by `async with`, by `close()`, or when the request ends.
    """

    def __init__(self, entries: Iterable[tuple[str, str | UploadFile]] = ()) -> None:
        """Make a form, for tests; `Request.form()` makes those that clients send."""
        super().__init__(MultiDict(entries))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def text(self, name: str) -> str | None:
        """The first value of `name` that is text; None where there is none, such as when a client sends a file."""
        return next((value for value in self.getall(name, ()) if isinstance(value, str)), None)

    def file(self, name: str) -> UploadFile | None:
        """
        The first value of `name` that is a file; None where there is none. Where a user chose no file, browsers send
        an empty one whose `filename` is "".
        """
        return next((value for value in self.getall(name, ()) if isinstance(value, UploadFile)), None)

    async def close(self) -> None:
        """Close all files. They cannot be read any more, and their place on the disk is free."""
        for upload in self._uploads():
            await upload.close()

    def _release(self) -> None:
        """`close()` for who cannot wait for it."""
        for upload in self._uploads():
            upload._spool.release()

    def _uploads(self) -> Iterator[UploadFile]:
        return (value for value in self.values() if isinstance(value, UploadFile))


class UploadFile:
    """
    A file that came with a form.

    What it says about itself is the client's word. `filename` may be "../../etc/passwd": where a name on the disk is
    needed use `safe_name`, or better one of your own.
    """

    __slots__ = ("__weakref__", "_spool", "content_type", "filename", "headers")

    def __init__(self, filename: str, content_type: str, headers: CIMultiDictProxy[str], spool: _Spool) -> None:
        #: As the client sent it; "" where the user chose no file.
        self.filename = filename
        #: As the client sent it; RFC 7578, 4.4: "text/plain" where it sent none.
        self.content_type = content_type
        #: The header lines of its part.
        self.headers = headers
        self._spool = spool

    def __repr__(self) -> str:
        where = "closed" if self._spool.closed else "on disk" if self._spool.on_disk else "in memory"
        return f"<UploadFile {self.filename!r} {self.content_type!r} size={self.size} {where}>"

    @property
    def size(self) -> int:
        """Bytes."""
        return self._spool.size

    @property
    def file(self) -> IO[bytes]:
        """
        The file itself, for a library that wants one. It stands where it was left, at first at the beginning; its
        methods may wait for the disk, so call them in another thread. Raises `ValueError` once it is closed.
        """
        return self._spool.file

    @property
    def safe_name(self) -> str:
        """
        `filename` made fit for a name in a folder: no folders, no dot in front, no control characters, none that a
        file system, a URL or a careless shell script takes for something else, 255 bytes at most; "file" where nothing
        is left. It may be that of another upload, and its suffix may lie about its content.
        """
        return _safe_name(self.filename)

    async def read(self, size: int = -1) -> bytes:
        """Read on from where it stands: `size` bytes, fewer at the end, b"" behind it; all the rest where negative."""
        return await self._spool.run(self.file.read, size)

    async def seek(self, offset: int) -> int:
        """Stand `offset` bytes from the beginning."""
        return await self._spool.run(self.file.seek, offset)

    async def chunks(self, size: int = _CHUNK_SIZE) -> AsyncIterator[bytes]:
        """The whole content, from the beginning, in chunks of `size` bytes; the last may be shorter."""
        if size < 1:
            raise ValueError(f"size must be at least 1, not {size}")
        offset = 0
        while chunk := await self._spool.run(self._spool.read_at, offset, size):
            yield chunk
            offset += len(chunk)

    async def save(self, path: str | PathLike[str]) -> None:
        """
        Write the whole content to `path`, over what is there.

        Raises `OSError` as `open` does. Do not make the path of `filename`; see `safe_name`.
        """
        await asyncio.to_thread(self._spool.copy_to, path)

    async def close(self) -> None:
        """Close it. It cannot be read any more, and its place on the disk is free. Closing twice is no mistake."""
        await self._spool.run(self._spool.close)


class _Spool:
    """
    Bytes in memory, up to a size; from then on in a file that has no name.

    The lock is for a thread that still writes when the task that waited for it was cancelled, and closes.
    """

    __slots__ = ("_file", "_limit", "_lock", "_pending", "closed", "on_disk", "size")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = Lock()
        self._pending = bytearray()  # not in the file yet
        self._file: IO[bytes] | None = None
        self.on_disk = False
        self.closed = False
        self.size = 0

    def __del__(self) -> None:
        self.close()  # or Python would warn of a file that is open and that nobody has

    # Filling

    async def write(self, data: bytes) -> None:
        """Add `data`."""
        self._pending += data
        self.size += len(data)
        if len(self._pending) > self._limit:
            self._limit = min(self._limit, _WRITE_SIZE)
            self.on_disk = True
            await asyncio.to_thread(self._flush)

    async def finish(self) -> None:
        """All is written. Only now can it be read."""
        if self.on_disk:
            await asyncio.to_thread(self._flush, rewind=True)
        else:
            self._file = io.BytesIO(self._pending)
            self._pending = bytearray()

    def _flush(self, *, rewind: bool = False) -> None:
        with self._lock:
            if self.closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  # `close` closes it
            self._file.write(self._pending)
            self._pending.clear()
            if rewind:
                self._file.seek(0)

    # Reading

    @property
    def file(self) -> IO[bytes]:
        if self._file is None:
            raise ValueError("the form is closed, and its files with it")
        return self._file

    async def run(self, function: Callable[..., _T], *args: object) -> _T:
        """Call it where it may take its time: here if all is in memory, otherwise in another thread."""
        return await asyncio.to_thread(function, *args) if self.on_disk else function(*args)

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset` on; where the file stands does not change."""
        with self._lock:
            file = self.file
            stands = file.tell()
            file.seek(offset)
            data = file.read(size)
            file.seek(stands)
            return data

    def copy_to(self, path: str | PathLike[str]) -> None:
        """Write all to `path`."""
        with open(path, "wb") as target:
            offset = 0
            while data := self.read_at(offset, _WRITE_SIZE):
                target.write(data)
                offset += len(data)

    # Ending

    def close(self) -> None:
        """Give everything back. May wait for the disk."""
        with self._lock:
            self.closed = True
            self._pending.clear()
            if self._file is not None:
                self._file.close()
                self._file = None

    def release(self) -> None:
        """`close()`, without waiting for the disk where that can be."""
        if not self.on_disk or self.closed:
            self.close()
            return
        try:
            asyncio.get_running_loop().run_in_executor(None, self.close)
        except RuntimeError:  # no loop runs here, or it is about to end
            self.close()


# Names of files

# What is a quote, a wildcard, a stream, an escape or a redirection to some file system, URL or shell.
_UNSAFE: Final = re.compile(r'[<>:"|?*;&$`\'!#%{}~^]')

# Windows: these are devices, whatever suffix they have.
_DEVICE: Final = re.compile(
    r"(?:con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])(?: *\.|$)", re.I
)

_MAX_NAME: Final = 255  # bytes, on most file systems


def _safe_name(filename: str) -> str:
    # RFC 7578, 4.2: "do not use the file name blindly, check and possibly change to match local file system
    # conventions if applicable, and do not use directory path information that may be present."
    name = unicodedata.normalize("NFKC", filename)  # first: it makes "/" and "." of some of their likes
    name = re.split(r"[/\\]", name)[-1]
    # Control, format (such as those that turn the direction of writing), surrogates, private use, unassigned.
    name = "".join(character for character in name if unicodedata.category(character)[0] != "C")
    name = _UNSAFE.sub("_", name)
    # A dot in front hides it or means a folder, a minus is an option; Windows drops dots and spaces at the end.
    name = " ".join(name.split()).lstrip(". -").rstrip(". ")
    if _DEVICE.match(name):
        name = f"_{name}"
    return _shortened(name) or "file"


def _shortened(name: str) -> str:
    """What fits, with its suffix."""
    if len(name.encode()) <= _MAX_NAME:
        return name
    stem, dot, suffix = name.rpartition(".")
    tail = (dot + suffix).encode()
    if not stem or len(tail) > _MAX_NAME // 4:  # no suffix that means anything
        stem, tail = name, b""
    stem = stem.encode()[: _MAX_NAME - len(tail)].decode("utf-8", "ignore")
    return stem.rstrip(". ") + tail.decode()


# Reading a form


async def read_form(content_type: str, body: AsyncIterable[bytes], limits: FormLimits) -> FormData:
    """
    Read the form that `body` is, according to the value of its Content-Type.

    Raises `HTTPError` for what a client did wrong, and whatever reading the body raises.
    """
    essence, parameters = parse_options_header(content_type)
    if essence == _URLENCODED:
        return await _read_urlencoded(body, limits)
    if essence != _MULTIPART:
        # RFC 9110, 15.5.16: "the Accept header field can be used to indicate which media types would have been
        # accepted in the request".
        raise HTTPError(415, "The body is not a form", (("Accept", f"{_URLENCODED}, {_MULTIPART}"),))
    boundary = parameters.get("boundary", "")
    # Two boundaries: a filter in front of this server may have gone by the other.
    if not _BOUNDARY.fullmatch(boundary) or _repeats_a_parameter(content_type):
        raise HTTPError(400, "Malformed boundary")
    return await _MultipartReader(boundary, limits).read(body)


async def _read_urlencoded(body: AsyncIterable[bytes], limits: FormLimits) -> FormData:
    """WHATWG URL, "application/x-www-form-urlencoded parsing"."""
    data = bytearray()
    allowed = limits.max_fields_size if limits.max_size is None else min(limits.max_fields_size, limits.max_size)
    async for chunk in body:
        data += chunk
        if len(data) > allowed:
            raise _too("large")
    # Percent-encoding takes Python 0.1 s per MiB and more to undo, in which the loop should not stand still.
    if len(data) > _CHUNK_SIZE:
        return FormData(await asyncio.to_thread(_parse_urlencoded, bytes(data), limits))
    return FormData(_parse_urlencoded(bytes(data), limits))


def _parse_urlencoded(data: bytes, limits: FormLimits) -> list[tuple[str, str | UploadFile]]:
    pairs: list[tuple[str, str | UploadFile]] = []
    # "Let sequences be the result of splitting input on 0x26 (&)." A semicolon is no separator.
    sequences = data.split(b"&", limits.max_fields)
    if data and len(sequences) > limits.max_fields:
        raise _too("many fields")
    for sequence in sequences:
        # "If bytes is the empty byte sequence, then continue."
        if sequence:
            # "Replace any 0x2B (+) in name and value with 0x20 (SP)."
            name, _, value = sequence.replace(b"+", b" ").partition(b"=")
            value = unquote_to_bytes(value)
            if len(value) > limits.max_field_size:
                raise _too("large a field")
            pairs.append((_text(unquote_to_bytes(name)), _text(value)))
    return pairs


class _MultipartReader:
    """The parts of one form, while they arrive."""

    def __init__(self, boundary: str, limits: FormLimits) -> None:
        self._limits = limits
        self._delimiter = b"--" + boundary.encode()
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=limits.max_header_size,
            max_header_count=_MAX_HEADERS,
        )
        self._entries: list[tuple[str, str | UploadFile]] = []
        self._fields = self._files = 0
        self._fields_size = 0
        # The part that arrives: its name, and either its value or its file.
        self._name = ""
        self._value = bytearray()
        self._upload: UploadFile | None = None

    async def read(self, body: AsyncIterable[bytes]) -> FormData:
        """Take it all. What arrived is closed where it does not end well."""
        try:
            async for chunk in self._from_delimiter(body):
                for event in self._parser.parse(chunk):
                    if event is None:
                        await self._end()
                    elif isinstance(event, MultipartSegment):
                        self._begin(event)
                    else:
                        await self._add(event)
            self._parser.close()
        except BaseException as exc:
            self._release()
            if isinstance(exc, ParserLimitReached):
                raise _too("large a header of a part") from exc
            if isinstance(exc, MultipartError):
                raise HTTPError(400, "Malformed multipart/form-data") from exc
            raise
        return FormData(self._entries)

    async def _from_delimiter(self, body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """
        The body, within its limit.

        RFC 2046, 5.1.1 lets text stand before the first delimiter, and no client sends any. The parser would pass
        over some of it, depending on where it was cut into chunks, so none is let through but a line break.
        """
        beginning: bytes | None = b""
        size = 0
        async for chunk in body:
            size += len(chunk)
            if self._limits.max_size is not None and size > self._limits.max_size:
                raise _too("large")
            if beginning is not None:
                chunk = beginning + chunk
                beginning = None
                if len(chunk) < len(self._delimiter) + 2:
                    beginning = chunk
                    continue
                if not chunk.removeprefix(b"\r\n").startswith(self._delimiter):
                    raise HTTPError(400, "Malformed multipart/form-data")
            yield chunk

    def _begin(self, segment: MultipartSegment) -> None:
        """The header lines of a part have arrived."""
        headers: CIMultiDict[str] = CIMultiDict(segment.headerlist)
        self._check_headers(headers)
        disposition, name, filename = parse_content_disposition(headers["Content-Disposition"])
        # RFC 7578, 4.2: "each part MUST contain a Content-Disposition header field where the disposition type is
        # "form-data". The Content-Disposition header field MUST also contain an additional parameter of "name"".
        if disposition != "form-data" or name is None:
            raise HTTPError(400, "Malformed Content-Disposition")
        self._name = name
        # RFC 7578, 4.2: filename* "MUST NOT be used". It does not make a file of a part, nor name one.
        if filename is None:
            self._fields += 1
            if self._fields > self._limits.max_fields:
                raise _too("many fields")
            self._count_text(len(name.encode()))
            return
        self._files += 1
        if self._files > self._limits.max_files:
            raise _too("many files")
        content_type = headers.get("Content-Type", "text/plain")
        spool = _Spool(self._limits.spool_size)
        self._upload = UploadFile(filename, content_type, CIMultiDictProxy(headers), spool)

    def _check_headers(self, headers: CIMultiDict[str]) -> None:
        size = 0
        for name, value in headers.items():
            size += len(name) + len(value.encode())
            # Two readers may take one each.
            if _CONTROL.search(value) or len(headers.getall(name)) > 1:
                raise HTTPError(400, "Malformed header of a part")
        if size > self._limits.max_header_size:
            raise _too("large a header of a part")
        # RFC 6266, 4.1: "values with multiple instances of the same parameter name are invalid".
        if _repeats_a_parameter(headers["Content-Disposition"]):
            raise HTTPError(400, "Malformed Content-Disposition")

    async def _add(self, data: bytes) -> None:
        """A piece of the part's content."""
        if self._upload is None:
            self._value += data
            if len(self._value) > self._limits.max_field_size:
                raise _too("large a field")
            self._count_text(len(data))
            return
        allowed = self._limits.max_file_size
        if allowed is not None and self._upload.size + len(data) > allowed:
            raise _too("large a file")
        await self._upload._spool.write(data)

    async def _end(self) -> None:
        """The part is complete."""
        if self._upload is None:
            self._entries.append((self._name, _text(self._value)))
            self._value = bytearray()
            return
        await self._upload._spool.finish()
        self._entries.append((self._name, self._upload))
        self._upload = None

    def _count_text(self, size: int) -> None:
        self._fields_size += size
        if self._fields_size > self._limits.max_fields_size:
            raise _too("large, all fields together")

    def _release(self) -> None:
        if self._upload is not None:
            self._upload._spool.release()
        FormData(self._entries)._release()


def _repeats_a_parameter(value: str) -> bool:
    names = [name.lower() for name in _PARAMETER.findall(value)]
    return len(set(names)) < len(names)


def _text(data: bytes | bytearray) -> str:
    """WHATWG Encoding, "UTF-8 decode without BOM": a mark stays, what is no UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def _too(what: str) -> HTTPError:
    return HTTPError(413, f"The form is too {what}" if what == "large" else f"The form has too {what}")
