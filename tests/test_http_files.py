"""Files: a regular file as something that can be sent."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from bunws.http import files
from bunws.http.files import CHUNK_SIZE, File, guess_type

from .support import PATIENCE, until


CONTENT = bytes(range(256)) * 16
HOUR = 3600 * 10**9


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["cached", "threads"])
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways that bytes are read."""
    if request.param == "threads":
        monkeypatch.setattr(files, "_NOWAIT", 0)
    elif not files._NOWAIT:
        pytest.skip("this system cannot read without waiting")
    return str(request.param)


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns() + HOUR
    monkeypatch.setattr(time, "time_ns", lambda: now)


def descriptor_of(file: File) -> int:
    assert file._handle is not None
    return file._handle._descriptor


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


async def chunks(file: File) -> list[bytes]:
    return [chunk async for chunk in file]


async def chunks_of(file: File, count: int) -> list[bytes]:
    """The next ones of a file that is being sent."""
    return [await anext(file) for _ in range(count)]


# Bytes


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE + 5])
async def test_file_is_sent_in_chunks_none_of_them_empty(tmp_path: Path, reading: str, size: int) -> None:
    content = (CONTENT * (size // len(CONTENT) + 1))[:size]
    (tmp_path / "a").write_bytes(content)
    file = File(tmp_path / "a")
    assert file.size == size
    sent = await chunks(file)
    assert b"".join(sent) == content
    assert all(0 < len(chunk) <= CHUNK_SIZE for chunk in sent)
    assert file.closed


async def test_what_the_page_cache_has_is_there_without_waiting(path: Path) -> None:
    if not files._NOWAIT:
        pytest.skip("this system cannot read without waiting")
    file = File(path)  # it was written just now
    with pytest.raises(StopIteration) as caught:
        file.__anext__().send(None)
    assert caught.value.value == CONTENT
    file.close()


async def test_file_that_becomes_shorter_while_it_is_sent_is_an_error(tmp_path: Path, reading: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(bytes(4 * CHUNK_SIZE))
    file = File(path)
    await anext(aiter(file))
    os.truncate(path, CHUNK_SIZE)
    with pytest.raises(EOFError, match="became shorter"):  # the next, or the one behind it: that was read ahead
        await chunks_of(file, 2)
    file.close()


async def test_file_that_grows_while_it_is_sent_is_sent_as_long_as_it_was(path: Path, reading: str) -> None:
    file = File(path)
    with path.open("ab") as more:
        more.write(b"more")
    assert b"".join(await chunks(file)) == CONTENT


async def test_file_that_is_replaced_while_it_is_sent_is_sent_as_it_was(tmp_path: Path, path: Path) -> None:
    file = File(path)
    (tmp_path / "b").write_bytes(b"other")
    (tmp_path / "b").replace(path)
    assert b"".join(await chunks(file)) == CONTENT


async def test_next_chunk_is_read_while_the_client_takes_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(bytes(3 * CHUNK_SIZE))
    monkeypatch.setattr(files, "_NOWAIT", 0)
    asked: list[int] = []
    pread = os.pread

    def noting(descriptor: int, size: int, at: int) -> bytes:
        asked.append(at)
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", noting)
    file = File(tmp_path / "a")
    await anext(aiter(file))
    await until(lambda: asked == [0, CHUNK_SIZE])
    file.close()


async def test_file_system_that_cannot_read_without_waiting_is_read_by_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*arguments: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "not here")

    monkeypatch.setattr(os, "preadv", unsupported)
    monkeypatch.setattr(files, "_NOWAIT", 8)
    assert b"".join(await chunks(File(path))) == CONTENT


async def test_error_of_the_disk_is_raised(path: Path, reading: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> int:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "preadv", broken, raising=False)
    monkeypatch.setattr(os, "pread", broken)
    file = File(path)
    with pytest.raises(OSError, match="broken"):
        await anext(aiter(file))
    file.close()


async def test_error_of_a_disk_that_was_read_ahead_for_nothing_is_not_told_to_anybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(bytes(3 * CHUNK_SIZE))
    monkeypatch.setattr(files, "_NOWAIT", 0)
    pread = os.pread

    def broken_behind(descriptor: int, size: int, at: int) -> bytes:
        if at:
            raise OSError(errno.EIO, "broken")
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", broken_behind)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    file = File(tmp_path / "a")
    await anext(aiter(file))
    ahead = file._ahead
    assert ahead is not None
    await until(ahead.done)
    file.close()
    del file, ahead
    gc.collect()
    assert complaints == []


# Parts


@given(st.data())
async def test_slice_of_a_slice_is_what_it_is_of_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "sliced"
    path.write_bytes(CONTENT)
    file, content = File(path), CONTENT
    for _ in range(2):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, len(content)))
        whole, file, content = file, file.slice(start, stop), content[start:stop]
        whole.close()
        assert file.size == len(content)
    assert b"".join(await chunks(file)) == content


@pytest.mark.parametrize(("start", "stop"), [(-1, 1), (2, 1), (0, len(CONTENT) + 1)])
def test_slice_outside_of_the_file_is_refused(path: Path, start: int, stop: int) -> None:
    file = File(path)
    with pytest.raises(ValueError, match="not within"):
        file.slice(start, stop)
    file.close()


async def test_slices_are_sent_beside_each_other(path: Path, reading: str) -> None:
    file = File(path)
    first, second = file.slice(0, 1000), file.slice(500, 4000)
    file.close()
    sent = await asyncio.gather(chunks(first), chunks(second))
    assert [b"".join(part) for part in sent] == [CONTENT[:1000], CONTENT[500:4000]]


def test_slice_has_a_tag_of_its_own_unless_it_is_the_whole(path: Path) -> None:
    file = File(path)
    slices = [file.slice(0, file.size), file.slice(0, 1), file.slice(1, 2), file.slice(1, 3)]
    assert slices[0].etag == file.etag
    assert len({part.etag for part in slices}) == 4
    for part in (file, *slices):
        part.close()


# Closing


async def test_file_can_be_sent_once(path: Path) -> None:
    file = File(path)
    assert file.closed is False
    await chunks(file)
    assert file.closed is True
    with pytest.raises(ValueError, match="sent once"):
        aiter(file)
    with pytest.raises(ValueError, match="sent once"):
        file.slice(0, 1)


async def test_file_that_is_being_sent_cannot_be_sent_again(path: Path) -> None:
    file = File(path)
    aiter(file)
    with pytest.raises(ValueError, match="sent once"):
        aiter(file)
    file.close()


def test_descriptor_is_closed_once(path: Path) -> None:
    file = File(path)
    descriptor = descriptor_of(file)
    file.close()
    assert not is_open(descriptor)
    other = os.open(path, os.O_RDONLY)  # it has the same number now
    file.close()
    assert other == descriptor
    assert is_open(other)
    os.close(other)


def test_descriptor_is_closed_with_the_last_of_the_slices(path: Path) -> None:
    file = File(path)
    descriptor = descriptor_of(file)
    part = file.slice(0, 1)
    file.close()
    file.close()
    assert is_open(descriptor)
    part.close()
    assert not is_open(descriptor)


def test_file_that_is_forgotten_is_closed(path: Path) -> None:
    file = File(path)
    descriptor = descriptor_of(file)
    part = file.slice(0, 1)
    del file, part
    gc.collect()
    assert not is_open(descriptor)


async def test_descriptor_stays_open_until_the_thread_that_reads_it_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_NOWAIT", 0)
    pread, entered, leave = os.pread, threading.Event(), threading.Event()

    def slow(descriptor: int, size: int, at: int) -> bytes:
        entered.set()
        assert leave.wait(PATIENCE)
        return pread(descriptor, size, at)

    monkeypatch.setattr(os, "pread", slow)
    file = File(path)
    descriptor = descriptor_of(file)
    task = asyncio.ensure_future(chunks(file))
    await until(entered.is_set)
    file.close()
    assert is_open(descriptor)
    leave.set()
    with pytest.raises(ValueError, match="closed while it was read"):
        await task
    assert not is_open(descriptor)


@pytest.mark.parametrize("cancel", [True, False])
async def test_file_that_is_closed_before_a_thread_was_free_is_not_read(
    path: Path, monkeypatch: pytest.MonkeyPatch, cancel: bool
) -> None:
    monkeypatch.setattr(files, "_NOWAIT", 0)
    waiting: list[Callable[[], bytes]] = []
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def run_in_executor(executor: object, function: Callable[..., bytes], *arguments: int) -> asyncio.Future[bytes]:
        waiting.append(lambda: function(*arguments))
        return answer

    monkeypatch.setattr(loop, "run_in_executor", run_in_executor)
    file = File(path)
    task = asyncio.ensure_future(chunks(file))
    await until(lambda: waiting)
    if cancel:
        task.cancel()
    file.close()
    read = waiting[0]()
    assert read == b""
    if cancel:
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        answer.set_result(read)
        with pytest.raises(ValueError, match="closed while it was read"):
            await task


# What is refused


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "directory"])
def test_only_a_regular_file_is_opened_and_nothing_is_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    elif kind == "device":
        path = Path("/dev/null")
    else:
        path.mkdir()
    expected = IsADirectoryError if kind == "directory" else OSError
    with pytest.raises(expected, match=r"regular file|directory"):
        File(path)
    directory = os.open(path.parent, os.O_RDONLY)
    with pytest.raises(expected, match=r"regular file|directory"):
        File.open_at(directory, path.name)
    os.close(directory)


@pytest.mark.parametrize("late", ["pipe", "link"])
def test_what_takes_the_place_of_a_file_between_two_calls_is_refused(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    directory = os.open(tmp_path, os.O_RDONLY)
    looks = os.stat

    def look_and_replace(*arguments: object, **options: object) -> os.stat_result:
        monkeypatch.setattr(os, "stat", looks)
        result = looks(path)
        path.unlink()
        if late == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to("/etc/hostname")
        return result

    monkeypatch.setattr(os, "stat", look_and_replace)
    with pytest.raises(OSError, match=r"regular|symbolic"):
        File.open_at(directory, path.name)
    os.close(directory)


def test_missing_file_is_what_open_says(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        File(tmp_path / "missing")
    with pytest.raises(ValueError, match="null"):
        File("a\0b")


def test_file_follows_a_link_and_open_at_does_not(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    File(tmp_path / "link").close()
    directory = os.open(tmp_path, os.O_RDONLY)
    File.open_at(directory, path.name).close()
    with pytest.raises(OSError, match="regular"):
        File.open_at(directory, "link")
    os.close(directory)


def test_descriptor_is_not_inherited(path: Path) -> None:
    file = File(path)
    assert not os.get_inheritable(descriptor_of(file))
    file.close()


# Validators


@pytest.fixture
def dated(path: Path) -> Callable[[int], File]:
    """The file as it is with a date in nanoseconds."""

    def make(nanoseconds: int) -> File:
        os.utime(path, ns=(nanoseconds, nanoseconds))
        return File(path)

    return make


def test_tag_is_weak_as_long_as_the_clock_of_the_file_may_stand_still(path: Path) -> None:
    file = File(path)
    assert file.etag.startswith('W/"')
    file.close()


@pytest.mark.usefixtures("an_hour_later")
def test_tag_is_strong_when_the_file_was_left_alone(path: Path) -> None:
    file = File(path)
    assert file.etag == f'"{path.stat().st_mtime_ns:x}-{len(CONTENT):x}"'
    file.close()


def test_tag_is_weak_for_a_file_that_has_just_come_with_its_old_date(dated: Callable[[int], File]) -> None:
    file = dated(1_500_000_000 * 10**9)
    assert file.etag.startswith('W/"')
    file.close()


@pytest.mark.usefixtures("an_hour_later")
def test_tag_changes_with_the_time_and_with_the_size(path: Path, dated: Callable[[int], File]) -> None:
    made = [dated(1_500_000_000 * 10**9), dated(1_500_000_000 * 10**9 + 1)]
    path.write_bytes(b"shorter")
    made.append(dated(1_500_000_000 * 10**9))
    assert len({file.etag for file in made}) == 3
    for file in made:
        file.close()


def test_last_modified_is_in_whole_seconds(dated: Callable[[int], File]) -> None:
    file = dated(1_500_000_000_999_999_999)
    assert file.last_modified == 1_500_000_000
    file.close()


def test_last_modified_is_not_later_than_now(dated: Callable[[int], File]) -> None:
    before = int(time.time())
    file = dated(time.time_ns() + HOUR)
    assert file.last_modified is not None
    assert before <= file.last_modified <= time.time()
    assert file.etag.startswith("W/")
    file.close()


@pytest.mark.usefixtures("an_hour_later")
@pytest.mark.parametrize("seconds", [0, 1, 315_532_800])
def test_date_of_a_reproducible_archive_is_no_date(dated: Callable[[int], File], path: Path, seconds: int) -> None:
    file = dated(seconds * 10**9)
    assert file.last_modified is None
    assert file.etag == f'"{path.stat().st_ctime_ns:x}-{len(CONTENT):x}"'
    file.close()


# Content types


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("APP.JS", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"),
        ("a.json", "application/json"),
        ("a.wasm", "application/wasm"),
        ("a.webp", "image/webp"),
        ("a.woff2", "font/woff2"),
        ("a.svg", "image/svg+xml"),
        ("a.png", "image/png"),
        ("a.pdf", "application/pdf"),
        ("a.tar.gz", "application/gzip"),
        ("a.js.br", "application/octet-stream"),
        ("Makefile", "application/octet-stream"),
        (".html", "application/octet-stream"),
        ("a.html/b", "application/octet-stream"),
    ],
)
def test_content_type_is_guessed_by_the_name(name: str, content_type: str) -> None:
    assert guess_type(name) == content_type
    assert guess_type(Path(name)) == content_type


def test_content_type_of_the_caller_wins(path: Path) -> None:
    file = File(path, content_type="a/b")
    assert file.content_type == "a/b"
    assert "a/b" in repr(file)
    file.close()
    assert repr(file).endswith("closed>")
