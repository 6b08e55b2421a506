"""
Static: a folder whose files are sent.

Rule: nothing outside the folder is ever opened, whatever a client asks for and whoever moves things at the same time.
A path is walked name by name, each looked up in the directory that is held open; links are read and walked likewise.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple, Self
from urllib.parse import quote, unquote

from multidict import CIMultiDict

from .coding import weights
from .files import File, guess_type
from .headers import HeadersInit, make_headers
from .request import Request
from .response import Response


__all__ = ["StaticFolder", "static"]


# To search a directory is enough to walk through it; where O_PATH is missing, it must be readable too.
_DIRECTORY: Final[int] = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC

# As Linux has it (path_resolution(7)).
_MAX_LINKS: Final = 40

# A path leads to nothing: no such name, one below a file, more links than there may be, one longer than names are, one
# that the file system cannot have; or to what was a file a moment ago and is a link, a directory, a pipe or a socket.
_NOT_THERE: Final = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ}
    | {errno.EMLINK, errno.EISDIR, errno.EINVAL, errno.ENXIO}
)

# Content coding by the end of a name, best first: what br makes is smallest.
_SIBLINGS: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}


def static(
    directory: str | os.PathLike[str],
    *,
    index: str | None = "index.html",
    max_age: int | None = 0,
    immutable: bool = False,
    precompressed: bool = True,
    dotfiles: bool = False,
    headers: HeadersInit | None = None,
) -> StaticFolder:
    """
    Make a handler that answers GET and HEAD with the files of `directory`.

        assets = bunws.static("public", max_age=3600)
        bunws.serve(routes={"/assets/*": assets}, ...)

    The name of the file is what the route's wildcard stands for, or without one the whole path. In `fetch`,
    `response = assets(request)` is the answer or has the status 404, so one can go on from there.

    `index` is sent for a directory; one without its slash is redirected, and None means that directories are not
    found. `max_age` is for how many seconds a file may be used unasked; 0 is always to ask, None to say nothing;
    `immutable` promises that it never changes, as names with a hash in them do. `precompressed` sends app.js.br,
    app.js.zst or app.js.gz instead of app.js to those who accept it; make them anew with the file, their age is not
    looked at. `dotfiles` also sends what has a name with a dot in front; .well-known is sent anyhow (RFC 8615).
    `headers` are added to each file.

    Links are followed as long as they stay in the folder. Where the file system takes "A" and "a" for one name, so does
    this. A file that may not be read is 403. Raises `NotADirectoryError` or `FileNotFoundError` for a `directory` that
    is none, `ValueError` for options that no header can say.
    """
    if max_age is not None and max_age < 0:
        raise ValueError(f"max_age must be 0 or more seconds, or None, not {max_age}")
    if index is not None and (index in ("", ".", "..") or "/" in index or "\0" in index):
        raise ValueError(f"index must be the name of a file, such as 'index.html', not {index!r}")
    fields = make_headers(headers)
    # Fetch, "determine nosniff": what is declared to be text is not run as a script.
    fields.setdefault("X-Content-Type-Options", "nosniff")
    if max_age is not None:
        # RFC 9111, 5.2.2.8: must-revalidate; RFC 8246: immutable.
        rest = ", immutable" if immutable else "" if max_age else ", must-revalidate"
        fields.setdefault("Cache-Control", f"public, max-age={int(max_age)}{rest}")
    return StaticFolder(os.path.abspath(directory), index, precompressed, dotfiles, fields)


class StaticFolder:
    """See `static`, which makes it and checks what it takes."""

    def __init__(
        self, path: str, index: str | None, precompressed: bool, dotfiles: bool, headers: CIMultiDict[str]
    ) -> None:
        self._path = path
        self._index = index
        self._precompressed = precompressed
        self._dotfiles = dotfiles
        self._headers = headers
        os.close(os.open(path, _DIRECTORY))  # it raises where there is no such directory

    def __repr__(self) -> str:
        return f"<StaticFolder {self._path}>"

    def __call__(self, request: Request, server: object = None) -> Response:
        """The answer: a file, a redirect, 403, 404 or 405. Raises `OSError` for what is wrong with the machine."""
        if request.method not in ("GET", "HEAD"):
            allow = {"Allow": "GET, HEAD, OPTIONS"}
            return Response(None, 204, allow) if request.method == "OPTIONS" else _refusal(405, allow)
        names = self._names(request)
        if names is None:
            return _refusal(404)
        try:
            # The folder is opened anew, and its own links are followed: a deployment may put another in its place.
            with _Walk(self._path) as walk:
                return self._answer(request, walk, names)
        except PermissionError:
            return _refusal(403)
        except OSError as exc:
            if exc.errno in _NOT_THERE:
                return _refusal(404)
            raise

    def _names(self, request: Request) -> list[str] | None:
        """The names that the path has, with "" at the end for a directory; None: there can be no such file."""
        raw_path = request.url.raw_path
        # RFC 3986, 2.2: a slash that is data is no separator. As no name has one, there is no such file; and a route
        # that guards a part of the folder cannot be passed by.
        if "%2f" in raw_path.lower():
            return None
        rest = request.params.get("*")
        path = unquote(raw_path[1:]) if rest is None else rest
        names = path.split("/")
        # RFC 3986, 5.2.4 has removed dot segments already, from what a client should send. A slash twice, or a
        # backslash where somebody takes it for one, is another path to other routes.
        if "" in names[:-1] or "." in names or ".." in names or not _is_possible(path):
            return None
        if not self._dotfiles:
            visible = names[1:] if names[0] == ".well-known" else names
            if any(name.startswith(".") for name in visible):
                return None
        return names

    def _answer(self, request: Request, walk: _Walk, names: list[str]) -> Response:
        *before, name = names
        parent = walk.find([*before, ""])
        place = walk.find([name], parent)
        if place.is_directory and self._index is not None:
            if name:
                return self._redirect(request)
            name = self._index
            place = walk.find([name], parent)
        if not stat.S_ISREG(place.mode):
            return _refusal(404)
        return self._send(request, name, place, self._siblings(walk, name, parent))

    def _redirect(self, request: Request) -> Response:
        """To the same path with a slash, so that relative links in the index lead into the directory."""
        url = request.url
        # Relative to the last segment: what is in front may be another's behind a proxy, and a path that began with two
        # slashes would be another host.
        name = quote(unquote(url.raw_path.rpartition("/")[2]), safe="")
        query = f"?{url.raw_query_string}" if url.raw_query_string else ""
        headers = self._headers.copy()
        headers.pop("Cache-Control", None)  # another deployment may put a file there
        headers["Location"] = f"./{name}/{query}"
        return _respond(None, headers, 301)

    def _siblings(self, walk: _Walk, name: str, parent: _Place) -> dict[str, _Place]:
        """Where the file is in other codings."""
        found = {}
        for coding, ending in _SIBLINGS.items() if self._precompressed else ():
            try:
                place = walk.find([name + ending], parent)
            except OSError as exc:
                if exc.errno not in _NOT_THERE:
                    raise
            else:
                if stat.S_ISREG(place.mode):
                    found[coding] = place
        return found

    def _send(self, request: Request, name: str, place: _Place, siblings: dict[str, _Place]) -> Response:
        headers = self._headers.copy()
        content_type = headers.setdefault("Content-Type", guess_type(name))
        coding = None
        if siblings:
            # RFC 9110, 12.5.5: also where the file is sent as it is, for that was chosen too.
            headers.add("Vary", "Accept-Encoding")
            coding = _best_coding(siblings, request.headers.getall("Accept-Encoding", ()))
        if coding is None:
            return _respond(place.open(content_type), headers)
        try:
            file = siblings[coding].open(content_type)
        except OSError:  # a sibling that may not be read is as good as none
            return _respond(place.open(content_type), headers)
        headers["Content-Encoding"] = coding
        # RFC 9110, 8.8.3.3: "Content codings are a property of the representation data, so a strong entity tag for a
        # content-encoded representation has to be distinct from the entity tag of an unencoded representation to
        # prevent potential conflicts during cache updates and range requests."
        headers["ETag"] = f'{file.etag[:-1]}-{coding}"'
        return _respond(file, headers)


def _is_possible(path: str) -> bool:
    """Whether a file system can have such names, and nobody takes them for others."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return "\0" not in path and "\\" not in path


_PHRASES: Final = {403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}


def _refusal(status: int, headers: HeadersInit | None = None) -> Response:
    return Response(_PHRASES[status], status, headers)


def _respond(file: File | None, headers: CIMultiDict[str], status: int = 200) -> Response:
    """A response with headers that are known to be sound."""
    response = Response(file, status)
    response.headers = headers
    return response


# Walking


class _Place(NamedTuple):
    """What a path leads to: the directories on the way, and a name in the last of them, or "" for that itself."""

    directories: tuple[int, ...]
    name: str
    mode: int

    @property
    def is_directory(self) -> bool:
        return not self.name

    def open(self, content_type: str) -> File:
        return File.open_at(self.directories[-1], self.name, content_type=content_type)


class _Walk:
    """Walks through one folder, and holds open what it has passed until it ends."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._opened = [os.open(path, _DIRECTORY)]
        self._top = _Place((self._opened[0],), "", stat.S_IFDIR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

    def find(self, names: Iterable[str], start: _Place | None = None) -> _Place:
        """
        Where `names` lead from the directory `start`, or from the top of the folder. What stands before "" must be a
        directory, as what stands before a slash.

        Raises `FileNotFoundError` also where a link leaves the folder.
        """
        directories = list((start or self._top).directories)
        to_go = list(names)[::-1]
        links = 0
        while to_go:
            name = to_go.pop()
            if name in ("", "."):
                continue
            # Only a link has these. The way back is the one that was come: ".." on the disk may have been moved.
            if name == "..":
                directories.pop()
                if not directories:
                    raise _no_such_file(name)
                continue
            mode = os.stat(name, dir_fd=directories[-1], follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode):
                directories.append(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directories[-1]))
                self._opened.append(directories[-1])
            elif stat.S_ISLNK(mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
                target = os.readlink(name, dir_fd=directories[-1])
                if target.startswith("/"):
                    target = self._relative(target)
                    del directories[1:]
                to_go += target.split("/")[::-1]
            elif to_go:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
            else:
                return _Place(tuple(directories), name, mode)
        return _Place(tuple(directories), "", stat.S_IFDIR)

    def _relative(self, target: str) -> str:
        """The target of a link that begins at the root, seen from the folder."""
        for top in (self._path, os.path.realpath(self._path)):
            if target == top or target.startswith(top.rstrip("/") + "/"):
                return target[len(top) :]
        raise _no_such_file(target)


def _no_such_file(path: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "It leads out of the folder", path)


# Content codings


def _best_coding(available: Iterable[str], values: Iterable[str]) -> str | None:
    """Which of `available`, best first, a client wants most; None: the file as it is."""
    wanted = weights(values)
    # RFC 9110, 12.5.3: 'The asterisk "*" symbol in an Accept-Encoding field matches any available content coding not
    # explicitly listed in the field.' What is not named at all is wanted less than what is.
    other = wanted.get("*", 0.0)
    best: str | None = None
    best_weight = wanted.get("identity", other)
    for coding in available:
        weight = wanted.get(coding, other)
        # "the acceptable content coding with the highest non-zero qvalue is preferred."
        if weight and (weight > best_weight or (best is None and weight == best_weight)):
            best, best_weight = coding, weight
    return best
