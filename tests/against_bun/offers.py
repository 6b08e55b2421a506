"""Offers: what clients may put into Sec-WebSocket-Extensions, and the presets that a server may answer them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final


__all__ = ["DIFFERS", "OFFERS", "PRESETS"]

PMD: Final = "permessage-deflate"

#: By a name: the lines of the field.
OFFERS: Final[dict[str, list[str]]] = {
    offer: [offer]
    for offer in (
        # What clients send: Chrome and Node, Firefox, Safari, curl
        PMD,
        f"{PMD}; client_max_window_bits",
        f"{PMD}; client_no_context_takeover",
        f"{PMD}; server_no_context_takeover",
        f"{PMD}; client_no_context_takeover; server_no_context_takeover",
        f"{PMD}; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
        "x-webkit-deflate-frame",
        f"{PMD}, x-webkit-deflate-frame",
        f"x-webkit-deflate-frame, {PMD}",
        "deflate-frame",
        # The client's window
        *(f"{PMD}; client_max_window_bits={bits}" for bits in range(8, 16)),
        f"{PMD}; client_max_window_bits=12; client_no_context_takeover",
        f"{PMD}; client_max_window_bits; client_no_context_takeover",
        # The server's window
        *(f"{PMD}; server_max_window_bits={bits}" for bits in range(8, 16)),
        f"{PMD}; server_max_window_bits=12; server_no_context_takeover",
        f"{PMD}; server_max_window_bits=15; server_no_context_takeover",
        f"{PMD}; server_max_window_bits=10; client_max_window_bits=10",
        f"{PMD}; client_max_window_bits=10; server_max_window_bits=10",
        f"{PMD}; server_max_window_bits=15; client_max_window_bits=15",
        (
            f"{PMD}; server_no_context_takeover; client_no_context_takeover; "
            "server_max_window_bits=11; client_max_window_bits=11"
        ),
        # Values that are none
        *(f"{PMD}; server_max_window_bits={bits}" for bits in ("7", "16", "0", "-9", "010", "9.0", "1e1", "x", "")),
        f"{PMD}; server_max_window_bits",
        *(f"{PMD}; client_max_window_bits={bits}" for bits in ("7", "16", "0", "08", "+9", "99999999999", "x", "")),
        f"{PMD}; server_no_context_takeover=1",
        f"{PMD}; server_no_context_takeover=true",
        f"{PMD}; client_no_context_takeover=",
        # Parameters that are none, or come twice
        f"{PMD}; foo",
        f"{PMD}; foo=1",
        f"{PMD}; __proto__=1",
        f"{PMD}; max_window_bits=10",
        f"{PMD}; server_no_context_takeover; server_no_context_takeover",
        f"{PMD}; client_max_window_bits; client_max_window_bits=10",
        f"{PMD}; server_max_window_bits=10; server_max_window_bits=10",
        # Several offers: the first that will do
        f"{PMD}; foo, {PMD}",
        f"{PMD}; server_max_window_bits=7, {PMD}; server_max_window_bits=10",
        f"{PMD}; server_max_window_bits=10, {PMD}",
        f"{PMD}, {PMD}; client_no_context_takeover",
        f"x-unknown; q=1, {PMD}; client_max_window_bits",
        f"{PMD}-2, {PMD}",
        "x-unknown",
        # How it is written
        PMD.upper(),
        f"{PMD}; SERVER_NO_CONTEXT_TAKEOVER",
        f"{PMD};server_no_context_takeover",
        f"{PMD} ; server_no_context_takeover",
        f"{PMD}; client_max_window_bits = 10",
        f'{PMD}; client_max_window_bits="10"',
        f'{PMD}; client_max_window_bits="1\\0"',
        f'{PMD}; client_max_window_bits="10',
        f"{PMD};",
        f"{PMD};; client_max_window_bits",
        f"; {PMD}",
        f", , {PMD}",
        f"{PMD}, ",
        f"={PMD}",
        f"{PMD}=1",
        f"{PMD} x",
        f"{PMD}\t;\tclient_no_context_takeover",
        "",
        ",",
        ";",
    )
}
OFFERS["two lines, the second will do"] = [f"{PMD}; foo", PMD]
OFFERS["two lines, both will do"] = [f"{PMD}; server_no_context_takeover", PMD]
OFFERS["a hundred offers before the one that will do"] = [", ".join([f"{PMD}; foo"] * 100 + [PMD])]

SIZES: Final = ("3KB", "4KB", "8KB", "16KB", "32KB", "64KB", "128KB", "256KB")

#: Values of perMessageDeflate.
PRESETS: Final[dict[str, bool | Mapping[str, object]]] = {
    "false": False,
    "{}": {},
    "true": True,
    "dedicated": {"compress": "dedicated", "decompress": "dedicated"},
    **{size: {"compress": size, "decompress": size} for size in SIZES},
    "compress dedicated": {"compress": "dedicated"},
    "compress 8KB": {"compress": "8KB"},
    "compress 3KB, decompress dedicated": {"compress": "3KB", "decompress": "dedicated"},
    "decompress dedicated": {"decompress": "dedicated"},
    "decompress 8KB": {"decompress": "8KB"},
    "compress disable": {"compress": "disable", "decompress": "dedicated"},
    "compress false": {"compress": False, "decompress": True},
    "decompress disable": {"compress": "shared", "decompress": "disable"},
    "decompress false, compress dedicated": {"compress": "dedicated", "decompress": False},
    "disable": {"compress": "disable", "decompress": "disable"},
}


# Where they differ

OFF: Final = {"false", "{}", "disable"}
ON: Final = PRESETS.keys() - OFF
#: What the server sends is deflated in one stream for all, without context.
SHARED: Final = {"true", "decompress dedicated", "decompress 8KB", "compress disable", "compress false"} | {
    "decompress disable"
}
#: It has a stream for each socket, and that a window of less than 15 bits.
WINDOWED: Final = {*SIZES} - {"256KB"} | {"compress 8KB", "compress 3KB, decompress dedicated"}

#: By an offer's name: the name of the difference, and the presets with which there is one.
DIFFERS: Final[dict[str, tuple[str, set[str]]]] = {
    **dict.fromkeys(
        (
            *(f"{PMD}; server_max_window_bits={bits}" for bits in range(9, 15)),
            f"{PMD}; server_max_window_bits=10; client_max_window_bits=10",
            f"{PMD}; client_max_window_bits=10; server_max_window_bits=10",
            f"{PMD}; server_max_window_bits=7, {PMD}; server_max_window_bits=10",
            f"{PMD}; server_max_window_bits=10, {PMD}",
        ),
        ("window-without-context", SHARED),
    ),
    **dict.fromkeys(
        (
            f"{PMD}; server_no_context_takeover",
            f"{PMD}; client_no_context_takeover; server_no_context_takeover",
            f"{PMD}; server_no_context_takeover; client_no_context_takeover; client_max_window_bits",
            f"{PMD}; server_max_window_bits=15; server_no_context_takeover",
            f"{PMD};server_no_context_takeover",
            f"{PMD} ; server_no_context_takeover",
            "two lines, both will do",
        ),
        ("window-without-context", WINDOWED),
    ),
    **dict.fromkeys(
        (
            f"{PMD}; server_max_window_bits=12; server_no_context_takeover",
            (
                f"{PMD}; server_no_context_takeover; client_no_context_takeover; "
                "server_max_window_bits=11; client_max_window_bits=11"
            ),
        ),
        ("window-without-context", {*ON}),
    ),
    f"{PMD}; server_max_window_bits=8": ("window-of-8-bits", {*ON} - SHARED),
    f"{PMD}; client_max_window_bits = 10": ("grammar-of-offers", {*ON}),
    f'{PMD}; client_max_window_bits="1\\0"': ("grammar-of-offers", {*ON}),
}
