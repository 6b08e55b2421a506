"""What is negotiated, judged by a table, by the RFC's own rules, and by the client of `websockets`."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate
from websockets.headers import parse_extension

from bunws.compress import (
    COMPRESSORS,
    DECOMPRESSORS,
    MAX_OFFERS_LENGTH,
    DeflateOptions,
    DeflateParams,
    negotiate,
    parse_options,
)


PRESETS: Final = ["disable", "shared", "dedicated", "3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB"]
SHARED: Final = DeflateOptions("shared", "shared")


def answer(compress: str, decompress: str, *lines: str) -> str | None:
    accepted = negotiate(lines, DeflateOptions(compress, decompress))
    return accepted and accepted[0]


# The option


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (True, SHARED),
        (False, None),
        (None, None),
        ({}, None),
        ({"compress": None, "decompress": None, "threshold": None}, None),
        ({"compress": True, "decompress": "shared"}, SHARED),
        ({"compress": True}, SHARED),
        ({"decompress": True}, SHARED),
        ({"compress": "dedicated"}, DeflateOptions("dedicated", "shared")),
        ({"decompress": "16KB"}, DeflateOptions("shared", "16KB")),
        ({"compress": "disable"}, None),
        ({"decompress": False}, None),
        ({"compress": False, "decompress": "disable"}, None),
        ({"compress": "shared", "decompress": "disable"}, DeflateOptions("shared", "disable")),
        ({"compress": False, "decompress": "3KB"}, DeflateOptions("disable", "3KB")),
        ({"compress": "shared", "threshold": 0}, DeflateOptions("shared", "shared", 0)),
        ({"decompress": "shared", "threshold": 4096}, DeflateOptions("shared", "shared", 4096)),
    ],
)
def test_per_message_deflate_is_a_boolean_or_a_mapping(value: object, options: DeflateOptions | None) -> None:
    assert parse_options(value) == options


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_known_both_ways(preset: str) -> None:
    assert parse_options({"compress": preset, "decompress": "256KB"}) == DeflateOptions(preset, "256KB")
    assert parse_options({"compress": "256KB", "decompress": preset}) == DeflateOptions("256KB", preset)


@pytest.mark.parametrize("key", ["compress", "decompress"])
def test_a_wrong_preset_is_an_error_that_lists_the_names(key: str) -> None:
    with pytest.raises(ValueError, match="per_message_deflate") as caught:
        parse_options({key: "5KB"})
    assert key in str(caught.value)
    assert all(f'"{preset}"' in str(caught.value) for preset in PRESETS)


@pytest.mark.parametrize("value", [1, "shared", 3.5, ["compress"], object()])
def test_any_other_type_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="per_message_deflate must be a boolean or a mapping"):
        parse_options(value)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        ({"compress": 9}, TypeError, r'per_message_deflate\["compress"\] .* not int'),
        ({"decompress": b"shared"}, TypeError, r'per_message_deflate\["decompress"\] .* not bytes'),
        ({"compression": True}, TypeError, "per_message_deflate has no key 'compression'"),
        ({3: True}, TypeError, "per_message_deflate has no key 3"),
        ({"compress": "SHARED"}, ValueError, "not 'SHARED'"),
        ({"compress": True, "threshold": True}, TypeError, r'per_message_deflate\["threshold"\]'),
        ({"compress": True, "threshold": 1.5}, TypeError, r'per_message_deflate\["threshold"\]'),
        ({"compress": True, "threshold": -1}, ValueError, r'per_message_deflate\["threshold"\]'),
        ({"threshold": 64}, ValueError, r'per_message_deflate\["threshold"\] needs'),
    ],
)
def test_an_error_names_the_option_and_the_key(value: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        parse_options(value)


# The negotiation: one table. Where "shared" stands alone it is meant both ways.

NCT: Final = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"

TABLE: Final[list[tuple[str, str, tuple[str, ...], str | None]]] = [
    # What clients send: Chromium and `ws`; Firefox and Safari; Safari 15; `websockets`; Bun; Java; Autobahn.
    ("shared", "shared", ("permessage-deflate; client_max_window_bits",), NCT),
    ("shared", "shared", ("permessage-deflate",), NCT),
    ("shared", "shared", ("x-webkit-deflate-frame, permessage-deflate",), NCT),
    ("shared", "shared", ("x-webkit-deflate-frame",), None),
    (
        "shared",
        "shared",
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",),
        NCT + "; server_max_window_bits=12",
    ),
    (
        "shared",
        "shared",
        ("permessage-deflate; client_no_context_takeover; server_no_context_takeover",),
        NCT,
    ),
    (
        "shared",
        "shared",
        ("permessage-deflate; client_max_window_bits=15; server_max_window_bits=15",),
        NCT + "; server_max_window_bits=15",
    ),
    (
        "dedicated",
        "dedicated",
        ("permessage-deflate; client_max_window_bits",),
        "permessage-deflate",
    ),
    ("dedicated", "dedicated", ("permessage-deflate",), "permessage-deflate"),
    (
        "dedicated",
        "dedicated",
        ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",),
        "permessage-deflate; client_max_window_bits=12; server_max_window_bits=12",
    ),
    # What each preset announces for what the server sends.
    ("disable", "shared", ("permessage-deflate",), NCT),
    (
        "3KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
    ),
    (
        "4KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=9",
    ),
    (
        "8KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=10",
    ),
    (
        "16KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=11",
    ),
    (
        "32KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=12",
    ),
    (
        "64KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=13",
    ),
    (
        "128KB",
        "shared",
        ("permessage-deflate",),
        "permessage-deflate; client_no_context_takeover; server_max_window_bits=14",
    ),
    ("256KB", "shared", ("permessage-deflate",), "permessage-deflate; client_no_context_takeover"),
    ("dedicated", "shared", ("permessage-deflate",), "permessage-deflate; client_no_context_takeover"),
    ("dedicated", "disable", ("permessage-deflate",), "permessage-deflate; client_no_context_takeover"),
    # … and for what it receives, where the client has offered to be told a window …
    ("256KB", "3KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate; client_max_window_bits=11"),
    ("256KB", "4KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate; client_max_window_bits=12"),
    ("256KB", "8KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate; client_max_window_bits=13"),
    ("256KB", "16KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate; client_max_window_bits=14"),
    ("256KB", "32KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate"),
    ("256KB", "64KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate"),
    ("256KB", "128KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate"),
    ("256KB", "256KB", ("permessage-deflate; client_max_window_bits",), "permessage-deflate"),
    # … or not.
    ("256KB", "3KB", ("permessage-deflate",), "permessage-deflate; client_no_context_takeover"),
    ("256KB", "16KB", ("permessage-deflate",), "permessage-deflate; client_no_context_takeover"),
    ("256KB", "32KB", ("permessage-deflate",), "permessage-deflate"),
    # client_max_window_bits: the smaller of the two, and never without being offered.
    (
        "256KB",
        "4KB",
        ("permessage-deflate; client_max_window_bits=15",),
        "permessage-deflate; client_max_window_bits=12",
    ),
    (
        "256KB",
        "4KB",
        ("permessage-deflate; client_max_window_bits=12",),
        "permessage-deflate; client_max_window_bits=12",
    ),
    (
        "256KB",
        "4KB",
        ("permessage-deflate; client_max_window_bits=10",),
        "permessage-deflate; client_max_window_bits=10",
    ),
    ("256KB", "4KB", ("permessage-deflate; client_max_window_bits=8",), "permessage-deflate; client_max_window_bits=8"),
    ("256KB", "256KB", ("permessage-deflate; client_max_window_bits=15",), "permessage-deflate"),
    (
        "256KB",
        "256KB",
        ("permessage-deflate; client_max_window_bits=14",),
        "permessage-deflate; client_max_window_bits=14",
    ),
    (
        "256KB",
        "256KB",
        ("permessage-deflate; client_max_window_bits=9",),
        "permessage-deflate; client_max_window_bits=9",
    ),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=8",), NCT),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=9",), NCT),
    # client_no_context_takeover: taken up, and then no window is needed.
    (
        "256KB",
        "256KB",
        ("permessage-deflate; client_no_context_takeover",),
        "permessage-deflate; client_no_context_takeover",
    ),
    (
        "256KB",
        "4KB",
        ("permessage-deflate; client_no_context_takeover; client_max_window_bits=10",),
        "permessage-deflate; client_no_context_takeover",
    ),
    # server_max_window_bits: the smaller of the two, a shared stream gets another window, 8 bits are declined.
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=15",), NCT + "; server_max_window_bits=15"),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=14",), NCT + "; server_max_window_bits=14"),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=10",), NCT + "; server_max_window_bits=10"),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=9",), NCT + "; server_max_window_bits=9"),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=8",), None),
    ("dedicated", "shared", ("permessage-deflate; server_max_window_bits=8",), None),
    ("3KB", "shared", ("permessage-deflate; server_max_window_bits=8",), None),
    ("disable", "shared", ("permessage-deflate; server_max_window_bits=8",), None),
    ("disable", "shared", ("permessage-deflate; server_max_window_bits=9",), NCT + "; server_max_window_bits=9"),
    (
        "dedicated",
        "dedicated",
        ("permessage-deflate; server_max_window_bits=15",),
        "permessage-deflate; server_max_window_bits=15",
    ),
    (
        "dedicated",
        "dedicated",
        ("permessage-deflate; server_max_window_bits=9",),
        "permessage-deflate; server_max_window_bits=9",
    ),
    (
        "16KB",
        "dedicated",
        ("permessage-deflate; server_max_window_bits=15",),
        "permessage-deflate; server_max_window_bits=11",
    ),
    (
        "16KB",
        "dedicated",
        ("permessage-deflate; server_max_window_bits=11",),
        "permessage-deflate; server_max_window_bits=11",
    ),
    (
        "16KB",
        "dedicated",
        ("permessage-deflate; server_max_window_bits=10",),
        "permessage-deflate; server_max_window_bits=10",
    ),
    # server_no_context_takeover: echoed.
    (
        "dedicated",
        "dedicated",
        ("permessage-deflate; server_no_context_takeover",),
        "permessage-deflate; server_no_context_takeover",
    ),
    (
        "3KB",
        "dedicated",
        ("permessage-deflate; server_no_context_takeover",),
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
    ),
    # Offers in order, with fallbacks; over several headers.
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=8, permessage-deflate",), NCT),
    (
        "shared",
        "shared",
        ("permessage-deflate; server_max_window_bits=9, permessage-deflate",),
        NCT + "; server_max_window_bits=9",
    ),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=8", "permessage-deflate"), NCT),
    (
        "shared",
        "shared",
        ("permessage-deflate; foo, permessage-deflate; server_max_window_bits=10",),
        NCT + "; server_max_window_bits=10",
    ),
    ("shared", "shared", ("foo; bar=1; bar=1; baz", "permessage-deflate"), NCT),
    (
        "shared",
        "shared",
        ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=8",),
        None,
    ),
    ("shared", "shared", ("permessage-bzip2, permessage-snappy",), None),
    ("shared", "shared", (), None),
    ("shared", "shared", ("",), None),
    # Parameters that decline their offer: unknown, twice, or with a wrong value.
    ("shared", "shared", ("permessage-deflate; foo",), None),
    ("shared", "shared", ("permessage-deflate; foo=1",), None),
    ("shared", "shared", ("permessage-deflate; __proto__=1",), None),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits; client_max_window_bits",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",), None),
    ("shared", "shared", ("permessage-deflate; server_no_context_takeover; server_no_context_takeover",), None),
    ("shared", "shared", ("permessage-deflate; client_no_context_takeover; client_no_context_takeover",), None),
    ("shared", "shared", ("permessage-deflate; server_no_context_takeover=1",), None),
    ("shared", "shared", ("permessage-deflate; client_no_context_takeover=true",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=7",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=16",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=99",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=0",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=-9",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=+9",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=09",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=1e1",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits=10.0",), None),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=7",), None),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=16",), None),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=015",), None),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=x",), None),
    # Names are compared as they are written.
    ("shared", "shared", ("Permessage-Deflate",), None),
    ("shared", "shared", ("permessage-deflate; Server_Max_Window_Bits=10",), None),
    # The grammar: quoted values, white space, empty elements.
    ("shared", "shared", ('permessage-deflate; server_max_window_bits="10"',), NCT + "; server_max_window_bits=10"),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits="1\\0"',), NCT + "; server_max_window_bits=10"),
    ("shared", "shared", (" permessage-deflate ;\tserver_max_window_bits = 10 ",), NCT + "; server_max_window_bits=10"),
    ("shared", "shared", ("permessage-deflate;server_max_window_bits=10",), NCT + "; server_max_window_bits=10"),
    ("shared", "shared", (" , ,permessage-deflate, ,",), NCT),
    # What breaks the grammar declines everything.
    ("shared", "shared", ("permessage-deflate;",), None),
    ("shared", "shared", ("permessage-deflate; ; client_max_window_bits",), None),
    ("shared", "shared", ("permessage-deflate client_max_window_bits",), None),
    ("shared", "shared", ("permessage-deflate; client_max_window_bits=",), None),
    ("shared", "shared", ("permessage-deflate; =10",), None),
    ("shared", "shared", ("permessage-deflate; server_max_window_bits==10",), None),
    ("shared", "shared", ("permessage-deflate=1",), None),
    ("shared", "shared", ("; client_max_window_bits",), None),
    ("shared", "shared", ('"permessage-deflate"',), None),
    ("shared", "shared", ('permessage-deflate; "client_max_window_bits"',), None),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits="10',), None),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits=10"',), None),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits="',), None),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits=""',), None),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits="10\\"',), None),
    ("shared", "shared", ('permessage-deflate; server_max_window_bits="1\\\\0"',), None),
    ("shared", "shared", ('permessage-deflate, foo; bar="a,b"',), None),
    ("shared", "shared", ("permessage-deflate, @",), None),
    ("shared", "shared", ("permessage-deflate", "foo bar"), None),
    ("shared", "shared", ("permessage-deflate\x00",), None),
    ("shared", "shared", ("permessage-deflate\r\n",), None),
    ("shared", "shared", ("pérmessage-deflate, permessage-deflate",), None),
]


@pytest.mark.parametrize(("compress", "decompress", "lines", "response"), TABLE)
def test_an_offer_has_its_answer(compress: str, decompress: str, lines: tuple[str, ...], response: str | None) -> None:
    assert answer(compress, decompress, *lines) == response


# Autobahn 12 and 13: what its clients ask of the server, with and without what they accept on top. 12.* and 13.1 ask
# for nothing, 13.7 falls back.
ASKED: Final = {
    "13.1": ["permessage-deflate"],
    "13.2": ["permessage-deflate; server_no_context_takeover"],
    "13.3": ["permessage-deflate; server_max_window_bits=9"],
    "13.4": ["permessage-deflate; server_max_window_bits=15"],
    "13.5": ["permessage-deflate; server_no_context_takeover; server_max_window_bits=9"],
    "13.6": ["permessage-deflate; server_no_context_takeover; server_max_window_bits=15"],
    "13.7": [
        "permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate",
    ],
}


@pytest.mark.parametrize("case", ASKED)
@pytest.mark.parametrize("extra", ["", "; client_no_context_takeover; client_max_window_bits"])
@pytest.mark.parametrize("preset", [preset for preset in PRESETS if preset != "disable"])
def test_every_parameter_set_of_autobahn_is_negotiated_at_its_first_offer(preset: str, extra: str, case: str) -> None:
    accepted = negotiate([", ".join(offer + extra for offer in ASKED[case])], DeflateOptions(preset, preset))
    assert accepted is not None
    response, params = accepted
    if "server_max_window_bits=9" in ASKED[case][0]:
        assert params.server_max_window_bits == 9
        assert "server_max_window_bits=9" in response
    if "server_no_context_takeover" in ASKED[case][0]:
        assert params.server_no_context_takeover
        assert "server_no_context_takeover" in response


# Properties

bits = st.none() | st.integers(8, 15)
options = st.builds(DeflateOptions, st.sampled_from(PRESETS), st.sampled_from(PRESETS))


@st.composite
def offer_lines(draw: st.DrawFn) -> list[str]:
    """Headers that are nearly right."""
    word = st.sampled_from(["permessage-deflate", "server_max_window_bits", "client_max_window_bits", "foo", "", " "])
    flag = st.sampled_from(["server_no_context_takeover", "client_no_context_takeover"])
    value = st.integers(7, 16).map(str) | st.sampled_from(["", '"9"', '"', "\\", "x"])
    parameter = flag | st.builds("{}={}".format, word, value) | word | st.text(max_size=4)
    offer = st.builds("{}; {}".format, word, st.lists(parameter, max_size=4).map("; ".join)) | st.just(
        "permessage-deflate"
    )
    return draw(st.lists(st.lists(offer, max_size=3).map(", ".join), max_size=3))


@given(offer_lines() | st.lists(st.text(max_size=200)), options)
def test_nothing_that_a_client_writes_raises(lines: list[str], options: DeflateOptions) -> None:
    accepted = negotiate(lines, options)
    if accepted is not None:
        name, *parameters = accepted[0].split("; ")
        assert name == "permessage-deflate"
        assert len({parameter.partition("=")[0] for parameter in parameters}) == len(parameters)


@given(st.booleans(), st.booleans(), bits, st.sampled_from([None, True, *range(9, 16)]), options)
def test_the_client_of_websockets_understands_every_answer_as_we_do(
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: int | None,
    client_max_window_bits: int | bool | None,
    options: DeflateOptions,
) -> None:
    factory = ClientPerMessageDeflateFactory(
        server_no_context_takeover, client_no_context_takeover, server_max_window_bits, client_max_window_bits
    )
    offer = "; ".join(
        [
            "permessage-deflate",
            *(name if value is None else f"{name}={value}" for name, value in factory.get_request_params()),
        ]
    )
    accepted = negotiate([offer], options)
    if server_max_window_bits == 8:
        assert accepted is None
        return
    assert accepted is not None
    response, params = accepted
    [(_, parameters)] = parse_extension(response)
    client = factory.process_response_params(parameters, [])
    assert isinstance(client, PerMessageDeflate)
    assert (
        DeflateParams(
            client.remote_no_context_takeover,
            client.local_no_context_takeover,
            client.remote_max_window_bits,
            15 if params.client_no_context_takeover else client.local_max_window_bits,
        )
        == params
    )
    # No wider than either end wants.
    preset_bits, _ = COMPRESSORS.get(options.compress, (15, 8))
    assert params.server_max_window_bits <= min(preset_bits, server_max_window_bits or 15)
    if not params.client_no_context_takeover:
        assert params.client_max_window_bits <= DECOMPRESSORS[options.decompress]


def test_an_offer_longer_than_the_limit_is_not_looked_at() -> None:
    fits = "permessage-deflate".ljust(MAX_OFFERS_LENGTH)
    assert negotiate([fits], SHARED) is not None
    assert negotiate([fits + " "], SHARED) is None
    assert negotiate([fits, ""], SHARED) is None


@pytest.mark.parametrize("piece", [",", ";", "=", '"', "\\", " ", "a;", "a=,", '"\\', "permessage-deflate;x,"])
def test_a_header_that_is_one_thing_over_and_over_is_declined(piece: str) -> None:
    assert negotiate([piece * (MAX_OFFERS_LENGTH // len(piece))], SHARED) is None
