"""The pure parts of the benchmarks: what ranks, what a median is of, what the page and the README's table say."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from benchmarks import install, load, micro, readme, results, runner
from benchmarks.machine import BenchmarkError
from benchmarks.results import Results, Table
from benchmarks.runs import Column, Row, Run, flaw, lag_flaw, percentile, ratio


SPEED = Column("speed", "copies/s", "more")
COST = Column("cost", "CPU ns/copy", "less")
FACTS = {"machine": "m", "kernel": "k", "python": "p", "commit": "c", "command": "x", "date": "2026-11-20"}


def row(peer: str, *speeds: float, flawed: str = "") -> Row:
    return Row(peer, "1.0", [Run({"speed": speed, "cost": 1e9 / speed}, flawed) for speed in speeds])


def table(*rows: Row, columns: tuple[Column, ...] = (SPEED, COST)) -> Table:
    return Table("chat", "chat, 16 x 100", columns, rows)


# Ranking


def test_a_run_in_which_the_server_was_busy_and_the_load_was_not_ranks() -> None:
    assert flaw(server_busy=0.97, load_busy=0.6, others=0.02) == ""


@pytest.mark.parametrize(
    ("server", "clients", "others", "word"),
    [(0.7, 0.5, 0.0, "server"), (0.9, 0.93, 0.0, "load"), (0.96, 0.99, 0.0, "load"), (0.99, 0.5, 0.2, "others")],
)
def test_a_run_that_measured_something_else_is_marked(server: float, clients: float, others: float, word: str) -> None:
    assert word in flaw(server_busy=server, load_busy=clients, others=others)


def test_a_server_that_never_waited_ranks_however_busy_the_load_was() -> None:
    assert flaw(server_busy=0.99, load_busy=0.95, others=None) == ""


def test_an_open_loop_ranks_unless_its_load_was_late_itself() -> None:
    assert lag_flaw(lag=10, latency=100, others=0.0) == ""
    assert "late" in lag_flaw(lag=30, latency=100, others=0.0)
    assert "others" in lag_flaw(lag=10, latency=100, others=0.5)


# Medians, ratios, percentiles


def test_a_median_leaves_out_what_is_not_ranked() -> None:
    runs = [Run({"speed": 100.0}), Run({"speed": 1_000.0}, "the load's core was busy"), Run({"speed": 300.0})]
    assert Row("bunws", "1", runs).median("speed") == 200
    assert Row("bunws", "1", runs[1:2]).median("speed") == 1_000  # it is shown, and marked
    assert Row("bunws", "1").median("speed") is None


def test_a_ratio_says_how_many_times_better_whatever_is_better() -> None:
    fast, slow = row("bunws", 300), row("bun", 100)
    assert ratio(fast, slow, SPEED) == pytest.approx(3)
    assert ratio(fast, slow, COST) == pytest.approx(3)
    assert ratio(slow, fast, COST) == pytest.approx(1 / 3)


def test_a_run_that_is_not_ranked_takes_part_in_no_ratio() -> None:
    assert ratio(row("bunws", 300, flawed="x"), row("bun", 100), SPEED) is None
    assert ratio(row("bunws", 300), row("bun", 100, flawed="x"), SPEED) is None
    assert ratio(row("bunws", 300), row("bun", 100), Column("speed", "no merit")) is None


@given(st.lists(st.integers(0, 1000), min_size=1), st.floats(0, 1))
def test_a_percentile_has_its_share_of_the_values_at_or_below_it(values: list[int], share: float) -> None:
    buckets = [(float(value), values.count(value)) for value in sorted(set(values))]
    found = percentile(buckets, share)
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6
    assert sum(value < found for value in values) <= share * len(values)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


# The open loop


class StallingEcho(threading.Thread):
    """A WebSocket server for one client: it echoes, and does nothing for `stall` seconds before its 100th message."""

    def __init__(self, stall: float) -> None:
        super().__init__(daemon=True)
        self._stall = stall
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        protocol, messages = ServerProtocol(), 0
        client = self._listener.accept()[0]
        # The load leaves without waiting for the answer to its Close frame.
        with self._listener, client, contextlib.suppress(ConnectionError):
            while data := client.recv(65536):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        protocol.send_response(protocol.accept(event))
                    elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                        messages += 1
                        if messages == 100:
                            time.sleep(self._stall)  # no wait for anything: it is what is measured
                        protocol.send_text(bytes(event.data))
                client.sendall(b"".join(protocol.data_to_send()))


@pytest.mark.skipif(shutil.which("cc") is None, reason="the load is C and needs a compiler")
def test_a_stall_is_felt_by_every_message_that_was_due_in_it() -> None:
    server = StallingEcho(0.4)
    server.start()
    options = ["--mode", "echo", "--clients", "1", "--rate", "500", "--warmup", "0", "--seconds", "0.8"]
    with load.running(server.port, options, core=None, seconds=2) as clients:
        clients.wait_for("OPEN")
        clients.wait_for("START")
        clients.go_on()
        clients.wait_for("END")
        clients.go_on()
        tally = clients.finish()
    assert tally.received == tally.sent > 400
    assert sum(count for _, count in tally.latency) == tally.received
    # 200 were due while the server did nothing. Counted from the sending in a closed loop, there would be one.
    assert sum(count for nanoseconds, count in tally.latency if nanoseconds > 50e6) > 150
    assert percentile(tally.latency, 1) > 0.39e9
    server.join(5)
    assert not server.is_alive()


# The page and the README's table


def test_the_record_gives_back_what_was_measured(tmp_path: Path) -> None:
    found = Results(FACTS, [table(row("bunws", 300, 310), row("bun", 100))], {"deno": "npm has no deno"})
    page = results.free_path(tmp_path, "2026-11-20-m")
    results.write(page, found, ["2026-11-20-m/chat.svg"])
    assert json.dumps(dataclasses.asdict(results.read(page))) == json.dumps(dataclasses.asdict(found))
    assert results.free_path(tmp_path, "2026-11-20-m").name == "2026-11-20-m-2.md"


def test_the_page_names_who_is_missing_who_failed_and_what_is_not_ranked() -> None:
    failed = Row("ws", "8", failure="it does not listen")
    one = table(row("bunws", 300), row("bun", 100), failed, row("aiohttp", 50, flawed="others took 20% of a core"))
    page = results.markdown(Results(FACTS, [one], {"deno": "npm has no deno"}), ["p/chat.svg"])
    assert "* **deno**: npm has no deno" in page
    assert "* ws: not measured: it does not listen" in page
    assert "* aiohttp: not ranked: others took 20% of a core" in page
    assert "| **bunws** | 1.0 | 300 | 3.00 |" in page
    assert "| *aiohttp* | 1.0 | *50* |  |" in page
    assert "![chat](p/chat.svg)" in page


def test_the_readme_has_ours_bun_node_and_the_best_python_peer() -> None:
    one = table(row("bunws", 300), row("bun", 100), row("ws", 10), row("websockets", 20), row("picows", 30))
    assert "| chat, 16 x 100, copies/s | **300** | 100 | 10 | 30 (picows) | 3.00 | 30.00 | 10.00 |" in readme.table(
        Results(FACTS, [one])
    )


def test_what_is_not_ranked_stands_in_italics_without_a_ratio() -> None:
    one = table(row("bunws", 300, flawed="x"), row("bun", 100), row("ws", 10))
    assert "| chat, 16 x 100, copies/s | *300* | 100 | 10 |  |  |  |  |" in readme.table(Results(FACTS, [one]))


def test_the_best_of_what_should_be_little_is_the_least() -> None:
    one = table(row("bunws", 300), row("websockets", 20), row("picows", 30), columns=(COST,))
    assert "(picows)" in readme.table(Results(FACTS, [one]))


def test_the_table_comes_between_the_markers_and_again(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    results.write(page, Results(FACTS, [table(row("bunws", 300))]), [])
    target = tmp_path / "README.md"
    target.write_text(f"before\n{readme.BEGIN}\nold\n{readme.END}\nafter\n")
    readme.update(target, page)
    once = target.read_text()
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert "[all tables and plots](page.md)" in once
    readme.update(target, page)
    assert target.read_text() == once


@pytest.mark.parametrize("text", ["", readme.BEGIN, f"{readme.END} {readme.BEGIN}", readme.BEGIN + 2 * readme.END])
def test_a_readme_without_its_markers_is_left_alone(text: str) -> None:
    with pytest.raises(BenchmarkError, match="needs one line"):
        readme.replace_between(text, "table")


def test_a_reason_tells_no_addresses_and_no_paths() -> None:
    said = install.without_places("ERROR: no x at https://registry.example/simple/x in /srv/somebody/file.py")
    assert said == "ERROR: no x at … in file.py"


# Micro-benchmarks


def test_a_slower_machine_is_not_a_slower_room() -> None:
    before = {micro.YARDSTICK: 1e-6, "flush": 10e-6, "gone": 1e-6}
    slower_machine = {micro.YARDSTICK: 2e-6, "flush": 20e-6, "new": 1e-6}
    lines, slow = micro.compare(before, slower_machine)
    assert slow == []
    assert any("gone" in line and line.endswith("gone") for line in lines)
    assert micro.compare(before, {micro.YARDSTICK: 1e-6, "flush": 20e-6})[1] == ["flush"]


# Progress


def test_where_there_is_no_terminal_only_what_is_said_is_written() -> None:
    stream = io.StringIO()
    progress = runner.Progress(2, stream)
    progress.show("chat · bunws")
    progress.step()
    progress.say("chat: bunws 300 copies/s")
    progress.close()
    assert stream.getvalue() == "chat: bunws 300 copies/s\n"


def test_a_terminal_sees_a_bar_that_gives_way_to_what_is_said() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    progress = runner.Progress(2, stream)
    progress.step()
    progress.show("chat")
    progress.say("done")
    assert "[############............] 1/2" in stream.getvalue()
    assert stream.getvalue().count("\rdone\n") == 1
