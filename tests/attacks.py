"""
Attacks: which test stands against which known way to break a server, and a victim to be attacked.

Rule 1: an attack in `ATTACKS` names tests that exist; test_attacks_http.py proves it.
Rule 2: a victim is a server in a process of its own, so that its memory and its descriptors are its own.
Rule 3: what a victim is allowed to take is a bound on memory, descriptors or counts, never on time.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import bunws
from bunws.thread import new_event_loop


__all__ = [
    "ATTACKS",
    "Attack",
    "Victim",
    "counts_of",
    "hear_until",
    "LOOPS",
    "MIB",
    "BACKPRESSURE_LIMIT",
    "MAX_PAYLOAD_LENGTH",
]

MIB: Final = 1024 * 1024
ROOT: Final = Path(__file__).parent.parent

# Seconds after which a test hangs. It decides nothing.
HANG: Final = 30

LOOPS: Final[dict[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": new_event_loop,
}

#: Of every victim: bytes that a socket may be behind, and that a message may have.
BACKPRESSURE_LIMIT: Final = MIB
MAX_PAYLOAD_LENGTH: Final = 4 * MIB


# The victim, seen from its own process


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage().partition("\n")[0])


class _Application:
    """What a careless but ordinary program would serve."""

    def __init__(self) -> None:
        self.heard = 0  # messages, pings and pongs
        self.marks: list[str] = []  # messages that begin with "mark"

    def table(self) -> dict[str, object]:
        return {
            "open": self.open,
            "message": self.message,
            "ping": self.count,
            "pong": self.count,
            "backpressure_limit": BACKPRESSURE_LIMIT,
            "max_payload_length": MAX_PAYLOAD_LENGTH,
            "per_message_deflate": True,
        }

    def open(self, ws: bunws.ServerWebSocket[str]) -> None:
        if ws.data:
            ws.subscribe(ws.data)

    def message(self, ws: bunws.ServerWebSocket[str], message: str | bytes) -> None:
        self.heard += 1
        if isinstance(message, bytes):
            return
        verb, _, rest = message.partition(" ")
        if verb == "mark":
            self.marks.append(rest)
        elif verb == "join":
            ws.subscribe(rest)
        elif verb == "publish":
            ws.publish(rest, bytes(16_000))
        elif verb == "echo":
            ws.send(rest)
        elif verb == "give":
            ws.send(bytes(int(rest)))

    def count(self, ws: bunws.ServerWebSocket[str], data: bytes) -> None:
        self.heard += 1

    async def fetch(self, request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
        if server.upgrade(request, data=request.url.query_string):
            return None
        path = request.url.path
        if path == "/length":
            return bunws.Response(str(len(await request.bytes())))
        if path == "/form":
            async with await request.form() as form:
                return bunws.Response(str(len(form)))
        if path == "/events":
            return bunws.EventStream(server.subscribe("events", limit=BACKPRESSURE_LIMIT))
        if path == "/large":
            return bunws.Response(bytes(4 * MIB))
        return bunws.Response("hello")


def counts_of(server: bunws.Server) -> dict[str, int]:
    """Everything of a server that has to go back to where it was."""
    guests = server._guests
    return {
        "pending_websockets": server.pending_websockets,
        "pending_requests": server.pending_requests,
        "connections": len(guests.connections),
        "refused": len(guests._refused),
        "engines": len(guests.engines),
        "tasks": len(guests.tasks),
        "swept": len(guests.sweeper),
        "topics": len(server._turn.topics),
        "levels": len(server._turn.topics._levels),
        "feeds": len(server._feeds),
    }


def _status(name: str) -> int:
    """Bytes, of /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(name)


class _Host:
    """Answers the questions of the test, one JSON line each."""

    def __init__(self, application: _Application, server: bunws.Server, complaints: _Complaints) -> None:
        self._application = application
        self._server = server
        self._complaints = complaints
        self._held: list[int] = []
        self._limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    def do(self, command: str, *args: Any) -> object:
        return getattr(self, f"do_{command}")(*args)

    def do_facts(self) -> dict[str, object]:
        return {
            **self.do_counts(),
            "memory": _status("VmRSS"),
            "peak": _status("VmHWM"),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }

    def do_counts(self) -> dict[str, object]:
        """The facts that can be had without a descriptor."""
        return {
            **counts_of(self._server),
            "heard": self._application.heard,
            "marks": self._application.marks,
            "complaints": self._complaints.lines,
            "timers": len(getattr(self._server.loop, "_scheduled", ())),
            "time": self._server.loop.time(),
        }

    def do_begin(self) -> dict[str, object]:
        """From here on `peak` counts anew."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self._complaints.lines.clear()
        return self.do_facts()

    def do_sweep(self, ticks: int) -> None:
        for _ in range(ticks):
            self._server._guests.sweeper.sweep()

    def do_publish(self, topic: str, size: int) -> int:
        return self._server.publish(topic, "x" * size)

    def do_exhaust(self, spare: int) -> None:
        """Take all descriptors but so many."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir("/proc/self/fd")))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + spare + 1, hard))
        with contextlib.suppress(OSError):
            while True:
                self._held.append(os.dup(0))
        for _ in range(spare):
            os.close(self._held.pop())

    def do_relieve(self) -> None:
        """Give them back."""
        resource.setrlimit(resource.RLIMIT_NOFILE, self._limits)
        while self._held:
            os.close(self._held.pop())


async def _be_attacked(options: dict[str, Any]) -> None:
    complaints = _Complaints()
    logging.getLogger().addHandler(complaints)
    application = _Application()
    async with bunws.serve(
        fetch=application.fetch, websocket=application.table(), hostname="127.0.0.1", port=0, **options
    ) as server:
        host = _Host(application, server, complaints)
        print(json.dumps(server.port), flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(host.do(*json.loads(line))), flush=True)
        await server.stop(close_active_connections=True)


# The victim, seen from the test


class Victim:
    """A server in a process of its own."""

    def __init__(self, loop: str, **options: object) -> None:
        """`options` are those of `serve`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks", loop, json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        self.loop = loop
        self.port: int = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        process = self._process
        try:
            _, errors = process.communicate(timeout=HANG)  # the end of its input ends it
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        assert (process.returncode, errors.strip()) == (0, "")

    def ask(self, command: str, *args: object) -> Any:
        """What a method of `_Host` answers, which may be anything that JSON can say."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *args]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def facts(self) -> dict[str, Any]:
        """How it is."""
        found: dict[str, Any] = self.ask("facts")
        return found

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Ask until it is so."""
        for _ in range(HANG * 1000):
            facts = self.facts()
            if condition(facts):
                return facts
            select.select([], [], [], 0.001)
        raise AssertionError(f"it did not come about: {facts}")

    @contextlib.contextmanager
    def growing_at_most(self, size: int) -> Iterator[None]:
        """Its memory never grows by more than `size` bytes within the block."""
        before = self.ask("begin")["memory"]
        yield
        grown = self.facts()["peak"] - before
        assert grown <= size, f"it grew by {grown / MIB:.1f} MiB"

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the victim has died"
        return json.loads(line)


def hear_until(hear: Callable[[], tuple[int, bytes]], message: str) -> int:
    """Hear frames until this text comes; how many there were before."""
    count = 0
    while hear() != (1, message.encode()):
        count += 1
    return count


# The table


class Attack(NamedTuple):
    """One row of the threat model: what is tried, what it cannot get past, and the tests that show it."""

    name: str
    bound: str
    tests: tuple[str, ...]  # module::function, without the prefix "test_"


ATTACKS: Final[tuple[Attack, ...]] = (
    # Frames and messages
    Attack(
        "broken frames",
        "the code of RFC 6455, nothing is delivered",
        (
            "engine::broken_frame_fails_the_connection_with_its_code_and_phrase",
            "engine::good_message_before_a_broken_frame_is_answered_first",
        ),
    ),
    Attack("unmasked frames", "1002 once", ("attacks_websocket::flood_of_unmasked_frames_is_one_mistake",)),
    Attack(
        "length of 2^63",
        "1002 or 1009 from the header, 2 MiB",
        (
            "attacks_websocket::length_that_nobody_can_mean_is_refused_from_the_header",
            "engine::oversize_frame_is_refused_from_its_header_and_nothing_is_allocated",
        ),
    ),
    Attack(
        "length that is announced only",
        "16 KiB a peer",
        ("attacks_websocket::length_that_is_announced_is_not_allocated",),
    ),
    Attack(
        "endless fragmentation",
        "1009 at the limit, three times its bytes",
        (
            "attacks_websocket::message_without_an_end_is_refused_at_the_limit",
            "messages::a_message_fails_if_and_only_if_it_is_longer_than_the_limit",
        ),
    ),
    Attack(
        "fragments of one byte, and empty ones",
        "5 MiB for 200,000",
        ("attacks_websocket::flood_of_fragments_costs_their_bytes_and_no_more",),
    ),
    Attack(
        "floods of small messages",
        "4 MiB, and turns for the others",
        (
            "attacks_websocket::flood_of_a_peer_that_does_not_read_takes_no_more_memory_than_its_limit",
            "attacks_websocket::flood_leaves_the_others_their_turns",
        ),
    ),
    Attack(
        "pings of a peer that does not read",
        "backpressure_limit and 4 MiB; ten pass",
        (
            "attacks_websocket::flood_of_a_peer_that_does_not_read_takes_no_more_memory_than_its_limit",
            "backpressure::pongs_of_a_peer_that_does_not_read_are_bounded",
            "attacks_websocket::peer_that_does_read_loses_no_pong",
            "engine::ten_pings_in_one_packet_get_ten_pongs_in_order",
        ),
    ),
    Attack(
        "pongs", "4 MiB", ("attacks_websocket::flood_of_a_peer_that_does_not_read_takes_no_more_memory_than_its_limit",)
    ),
    Attack(
        "invalid UTF-8",
        "1007 at the first bad byte",
        ("messages::text_is_checked_as_it_comes", "messages::a_text_that_ends_within_a_character_fails"),
    ),
    Attack(
        "two Close frames, data behind a Close",
        "read and forgotten",
        (
            "engine::second_close_in_the_same_packet_is_ignored",
            "engine::data_behind_a_close_is_ignored",
            "attacks_websocket::flood_behind_the_last_frame_is_read_and_forgotten",
        ),
    ),
    Attack(
        "one byte per segment",
        "the same result",
        ("engine::broken_frame_that_comes_byte_by_byte_is_seen_all_the_same", "engine::frames_may_be_split_anywhere"),
    ),
    # Compression
    Attack(
        "deflate bomb",
        "max_payload_length and 3 MiB",
        ("deflate_sockets::bomb_takes_no_more_memory_than_the_limit_and_others_are_served",),
    ),
    Attack(
        "deflate bomb in fragments, in each mode",
        "three times max_payload_length",
        ("attacks_websocket::bomb_in_fragments_is_defused_in_either_mode",),
    ),
    Attack(
        "deflate bombs of many peers",
        "max_payload_length each",
        ("attacks_websocket::bombs_of_many_peers_at_once_cost_the_limit_of_each_at_most",),
    ),
    Attack(
        "empty compressed fragments",
        "5 MiB",
        (
            "attacks_websocket::flood_of_empty_compressed_fragments_takes_no_memory",
            "deflate_sockets::flood_of_empty_compressed_messages_is_spread_over_turns",
        ),
    ),
    Attack(
        "garbage deflate, misplaced RSV1",
        "1002 or 1007",
        ("deflate_sockets::misuse_fails_the_connection_and_good_messages_before_it_are_answered",),
    ),
    Attack(
        "bad extension offers",
        "declined",
        (
            "compress::nothing_that_a_client_writes_raises",
            "compress::an_offer_longer_than_the_limit_is_not_looked_at",
            "compress::a_header_that_is_one_thing_over_and_over_is_declined",
        ),
    ),
    Attack(
        "inflating for ever in one turn",
        "1 MiB a turn",
        ("deflate_sockets::others_are_answered_in_between_where_one_packet_becomes_many_megabytes",),
    ),
    # The handshake
    Attack(
        "bad handshake",
        "400, 405 or 426",
        (
            "handshake::bad_request_is_refused_with_400",
            "websocket::bad_handshake_is_refused_whatever_the_handler_returns_and_opens_nothing",
        ),
    ),
    Attack(
        "cross-origin upgrade",
        "403",
        ("handshake::origin_that_is_not_listed_is_refused_with_403", "websocket::only_listed_origins_may_connect"),
    ),
    Attack(
        "CRLF in the headers of an upgrade",
        "ValueError before the first byte",
        (
            "handshake::control_character_is_refused_and_its_header_named",
            "websocket::headers_that_may_not_be_sent_raise_in_upgrade_and_the_client_gets_500",
        ),
    ),
    Attack("odd bytes in a subprotocol", "400", ("handshake::any_list_of_subprotocols_is_read_or_refused",)),
    Attack(
        "leaving before the refusal",
        "nothing is left",
        ("websocket::client_that_leaves_before_it_is_refused_disturbs_nobody",),
    ),
    # HTTP
    Attack(
        "many or large headers",
        "431",
        (
            "http_wire::one_field_more_than_the_limit_is_refused",
            "http_wire::head_of_exactly_the_limit_is_accepted_and_of_one_byte_more_refused",
        ),
    ),
    Attack("what has no end", "3 MiB, and its status", ("attacks_http::what_has_no_end_is_refused_and_forgotten",)),
    Attack(
        "smuggling: duplicate and conflicting lengths",
        "400 and the end",
        (
            "http_malformed::malformed_request_is_refused_and_ends_the_connection",
            "http_malformed::good_request_before_a_malformed_one_is_answered_and_one_behind_it_is_not",
        ),
    ),
    Attack(
        "odd targets",
        "400",
        (
            "http_head::target_that_has_no_form_is_refused",
            "http_malformed::malformed_request_is_refused_and_ends_the_connection",
        ),
    ),
    Attack(
        "two hosts, Host that is none",
        "400",
        (
            "attacks_http::host_that_is_none_is_refused_before_a_folder_is_asked",
            "http_headers::nothing_else_is_an_authority",
        ),
    ),
    Attack(
        "headers that collide",
        "20 times the work of others",
        ("attacks_http::names_that_collide_cost_no_more_than_others",),
    ),
    Attack(
        "fields that are slow to parse",
        "work that grows with the size",
        (
            "attacks_http::work_grows_with_the_size_and_not_with_its_square",
            "attacks_http::field_that_fills_its_head_costs_what_its_size_says",
        ),
    ),
    Attack(
        "pipelining without end",
        "16 MiB, and turns for the others",
        (
            "attacks_http::pipelined_requests_whose_answers_are_not_read_are_not_answered_without_end",
            "connection_streams::pipelined_requests_wait_as_bytes_and_past_a_bound_nothing_more_is_read",
            "attacks_http::pipeline_leaves_the_others_their_turns",
        ),
    ),
    Attack(
        "pipeline and a reset",
        "one request or two, and no line of the log",
        ("attacks_http::pipeline_of_a_client_that_has_gone_is_not_answered",),
    ),
    Attack(
        "CRLF in a response",
        "500, or an exception that names the header",
        (
            "http_response::text_that_may_not_be_on_the_wire_is_refused_and_named",
            "connection::a_header_that_may_not_be_on_the_wire_is_answered_with_500_and_logged",
            "http_cookies::what_a_browser_would_ignore_is_refused",
        ),
    ),
    Attack("injection into the log", "one line for each record", ("access::no_value_can_end_its_line_or_its_quotes",)),
    Attack(
        "chunks of one byte",
        "8 MiB for 200,000, and one piece for each read",
        (
            "attacks_http::chunks_of_one_byte_cost_what_they_say",
            "http_wire::small_chunks_that_come_together_are_one_piece",
            "http_wire::long_chunk_extensions_are_refused",
        ),
    ),
    Attack(
        "large bodies",
        "413",
        (
            "connection::a_body_past_the_limit_is_answered_with_413",
            "http_wire::chunked_body_over_the_limit_is_refused_where_it_is_announced",
        ),
    ),
    Attack(
        "bodies that are announced only", "16 KiB a client", ("attacks_http::body_that_is_announced_is_not_allocated",)
    ),
    Attack(
        "compressed request bodies",
        "never inflated",
        (
            "attacks_http::compressed_request_is_not_inflated",
            "http_head::coding_is_not_implemented_where_the_end_is_known_and_malformed_elsewhere",
        ),
    ),
    Attack(
        "form bombs",
        "12 MiB, 400 or 413, no file left",
        (
            "attacks_http::form_that_is_a_bomb_is_refused_within_its_limits",
            "http_form::hostile_form_is_refused_whole_and_byte_by_byte",
            "http_form::refused_form_leaves_no_files",
        ),
    ),
    Attack(
        "range bombs",
        "no more than the file",
        ("attacks_http::range_that_is_a_bomb_gets_no_more_than_the_file", "http_ranges::number_of_ranges_is_bounded"),
    ),
    Attack(
        "leaving a folder",
        "400 or 404",
        (
            "attacks_http::no_target_and_no_host_leads_out_of_a_folder",
            "http_static::no_path_leaves_the_folder",
            "http_static::directory_that_becomes_a_link_while_it_is_walked_does_not_lead_out",
        ),
    ),
    Attack(
        "redirects to another host",
        "none",
        ("attacks_http::redirect_to_a_folder_never_names_another_host", "http_static::redirect_leads_to_no_other_host"),
    ),
    Attack(
        "names for routes",
        "one match for each path",
        (
            "http_routes::a_route_cannot_be_walked_around_by_another_spelling",
            "http_routes::patterns_that_share_everything_but_the_end_do_not_blow_up",
        ),
    ),
    Attack(
        "ASGI applications that misbehave",
        "500 or a cut",
        (
            "asgi::a_malformed_response_is_an_error_of_the_application",
            "asgi::a_streamed_response_without_an_end_is_cut",
            "asgi::an_application_that_writes_faster_than_its_client_reads_waits_for_it",
            "asgi::an_application_that_never_shuts_down_is_cancelled_at_the_deadline",
        ),
    ),
    # Time and resources
    Attack(
        "slow head",
        "408 at the idle timeout",
        (
            "attacks_http::many_slow_heads_are_ended_however_they_trickle",
            "connection::a_head_that_takes_too_long_is_answered_with_408",
        ),
    ),
    Attack(
        "slow body",
        "408 below 240 bytes a second",
        (
            "attacks_http::slow_bodies_do_not_hold_their_handlers_for_ever",
            "connection::a_body_that_trickles_is_answered_with_408",
            "duty::a_body_must_bring_enough_in_each_span",
        ),
    ),
    Attack(
        "slow reader",
        "given up at the idle timeout",
        (
            "attacks_http::readers_that_do_not_read_are_given_up",
            "connection_streams::a_client_that_does_not_read_stops_the_generator_and_gets_everything_in_the_end",
            "backpressure::slow_reader_delays_nobody_else_and_publish_tells_the_worst",
        ),
    ),
    Attack(
        "clients that leave while nothing of them is read",
        "noticed at the next tick",
        (
            "transport::client_that_leaves_while_nothing_is_read_is_noticed_at_the_next_tick",
            "connection_tls::a_client_that_leaves_while_nothing_is_read_is_noticed_over_tls",
        ),
    ),
    Attack(
        "subscribers that do not read",
        "one copy for all",
        (
            "attacks_websocket::subscribers_that_do_not_read_share_what_waits_and_miss_the_rest",
            "backpressure::slow_readers_of_one_feed_hold_the_same_bytes",
        ),
    ),
    Attack(
        "events that nobody reads",
        "the limit of a feed, then the idle timeout",
        (
            "attacks_http::readers_of_events_that_do_not_read_cost_their_limit_and_are_given_up",
            "feed::a_reader_that_is_too_slow_gets_what_had_room_and_then_an_error_and_then_the_end",
        ),
    ),
    Attack(
        "half-open peers",
        "pinged, then dropped",
        (
            "backpressure::silent_peer_is_pinged_and_then_dropped_though_the_server_keeps_sending",
            "engine::peer_that_never_answers_a_close_is_dropped_after_the_deadline",
            "connection::a_client_that_was_told_goodbye_and_stays_is_dropped",
        ),
    ),
    Attack(
        "connections that never speak",
        "16 KiB each, gone at the idle timeout",
        ("attacks_http::thousands_of_connections_that_never_speak_are_cheap_and_sent_away",),
    ),
    Attack(
        "too many connections",
        "503 for 100 at a time, one line a second",
        (
            "attacks_http::connections_over_the_limit_are_told_so_and_cost_nothing",
            "server::connections_of_one_address_are_limited_and_counted_through_upgrades",
            "quota::no_address_has_more_places_than_it_may_and_none_is_lost",
        ),
    ),
    Attack(
        "descriptors that run out",
        "others served, one line a second, accepts again",
        ("attacks_http::server_without_descriptors_serves_those_it_has_and_accepts_again",),
    ),
    Attack(
        "handshakes of TLS that never end",
        "the idle timeout",
        (
            "faults::handshake_of_tls_that_never_ends_is_ended_by_the_idle_timeout",
            "server::a_client_that_speaks_plain_text_to_tls_is_dropped",
        ),
    ),
    # Topics and handlers
    Attack(
        "subscriptions without end",
        "max_subscriptions, one line a second",
        (
            "attacks_websocket::flood_of_subscriptions_is_bounded_and_leaves_nothing_behind",
            "websocket::a_socket_hears_so_many_topics_and_no_more",
        ),
    ),
    Attack(
        "unique topics",
        "gone with their last subscriber",
        (
            "attacks_websocket::flood_of_publishes_to_topics_that_nobody_hears_leaves_nothing_behind",
            "attacks_websocket::peers_that_come_join_and_die_leave_no_topic",
            "topics::a_topic_that_nobody_hears_is_forgotten",
        ),
    ),
    Attack(
        "handler that raises every time",
        "1011 for that socket",
        (
            "attacks_websocket::handler_that_raises_every_time_ends_its_own_socket_only",
            "connection::a_handler_that_raises_is_answered_with_500_without_its_words_and_logged",
        ),
    ),
    Attack(
        "handler that blocks",
        "nobody loses a connection by it",
        ("attacks_websocket::handler_that_blocks_the_loop_costs_nobody_else_the_connection",),
    ),
    Attack(
        "async handler that lags",
        "64 events or 256 KiB wait",
        (
            "websocket::flood_meets_tcp_while_an_async_handler_lags_and_nothing_is_lost",
            "deflate_sockets::async_handler_that_lags_makes_the_rest_wait_uninflated",
        ),
    ),
    Attack(
        "leaving within a callback",
        "close is told once",
        (
            "attacks_websocket::peer_that_leaves_within_a_callback_is_told_once_and_forgotten",
            "attacks_websocket::peer_that_leaves_while_drain_is_told_is_forgotten",
            "attacks_websocket::handler_that_sends_until_it_is_told_to_stop_is_told_when_the_peer_has_gone",
        ),
    ),
    Attack(
        "reload and stop while messages fly",
        "none lost, 1001 once",
        (
            "attacks_websocket::reload_while_messages_fly_loses_none_and_keeps_their_order",
            "attacks_websocket::stop_while_messages_fly_tells_everybody_once_and_leaves_nothing",
            "server::stop_while_two_hundred_clients_publish",
        ),
    ),
    # Faults
    Attack(
        "kill -9 within a frame",
        "every count as before",
        ("faults::client_that_is_killed_in_the_middle_of_a_frame_leaves_nothing",),
    ),
    Attack(
        "RST in place of FIN",
        "every count as before",
        (
            "faults::those_that_die_in_a_group_do_not_disturb_it",
            "faults::churn_of_every_kind_of_end_leaves_nothing",
            "faults::client_that_goes_within_an_answer_leaves_nothing",
        ),
    ),
    Attack(
        "EPIPE within a flush",
        "the others hear all",
        (
            "faults::socket_that_breaks_within_a_flush_is_dropped_and_the_others_hear_all",
            "turn::a_broken_receiver_does_not_disturb_the_others",
        ),
    ),
    Attack(
        "exception within a flush",
        "who missed something is dropped, the others hear all",
        ("faults::exception_in_the_middle_of_a_flush_costs_those_it_concerns",),
    ),
    Attack(
        "no memory while reading",
        "1011 or the end, and a line in the log",
        (
            "faults::message_for_which_there_is_no_memory_is_not_lost_without_a_word",
            "faults::request_for_which_there_is_no_memory_ends_its_connection_only",
            "faults::handler_without_memory_is_answered_with_500",
        ),
    ),
    Attack("TLS that is cut", "its connection only", ("faults::tls_that_is_cut_ends_its_connection_only",)),
    Attack(
        "a stop that does not wait",
        "close is told all the same",
        ("faults::async_close_handlers_are_told_however_the_server_ends",),
    ),
)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=LOOPS[sys.argv[1]]) as runner:
        runner.run(_be_attacked(json.loads(sys.argv[2])))
