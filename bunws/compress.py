"""
Compress: what the two ends agree on before the first message (RFC 7692, 7.1), and the option that says what we want.

Rule 1: an offer is taken to the letter or declined. Nothing that a peer writes raises.
Rule 2: this room knows words, not streams; `deflate` does what is agreed on here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias


__all__ = [
    "DeflateOptions",
    "DeflateParams",
    "COMPRESSORS",
    "DECOMPRESSORS",
    "MAX_OFFERS_LENGTH",
    "parse_options",
    "negotiate",
]

# What a preset means, from Bun 1.4.5. The names of the small ones are the nominal cost in zlib's own terms,
# 2 ** (window_bits + 2) + 2 ** (mem_level + 9) bytes; `deflate` has what a socket really costs.
COMPRESSORS: Final = {  # name: window bits, memory level
    "shared": (15, 8),
    "dedicated": (15, 8),
    "3KB": (9, 1),
    "4KB": (9, 2),
    "8KB": (10, 3),
    "16KB": (11, 4),
    "32KB": (12, 5),
    "64KB": (13, 6),
    "128KB": (14, 7),
    "256KB": (15, 8),
}
DECOMPRESSORS: Final = {  # name: window bits
    "shared": 15,
    "dedicated": 15,
    "3KB": 11,
    "4KB": 12,
    "8KB": 13,
    "16KB": 14,
    "32KB": 15,
    "64KB": 15,
    "128KB": 15,
    "256KB": 15,
}

_PRESETS: Final = ("disable", *COMPRESSORS)
_BOOLEANS: Final = {True: "shared", False: "disable"}
_OPTION: Final = "websocket.per_message_deflate"
_KEYS: Final = ("compress", "decompress", "threshold")


@dataclass(frozen=True, slots=True)
class DeflateOptions:
    """What `per_message_deflate` asks for; made by `parse_options`."""

    #: The preset for what the server sends: a name in COMPRESSORS, or "disable".
    compress: str
    #: The preset for what it receives: a name in DECOMPRESSORS, or "disable".
    decompress: str
    #: A message of fewer bytes is sent plain. None: as measured, see `deflate`.
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class DeflateParams:
    """What one handshake has agreed on, in the words of RFC 7692, 7.1. Bits are base-2 logarithms of bytes."""

    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    server_max_window_bits: int = 15
    client_max_window_bits: int = 15


# The option


def parse_options(per_message_deflate: object) -> DeflateOptions | None:
    """
    The options behind a value of `per_message_deflate`; None means: do not negotiate at all.

    A boolean, or a mapping of "compress" and "decompress" to a preset or a boolean and of "threshold" to a number of
    bytes. True is "shared" both ways. A direction that is left out is "shared" if the other one is on; an empty
    mapping is False, as in Bun. Raises TypeError or ValueError, to be shown to the caller of `serve`.
    """
    if per_message_deflate is None or isinstance(per_message_deflate, bool):
        return DeflateOptions("shared", "shared") if per_message_deflate else None
    if not isinstance(per_message_deflate, Mapping):
        raise TypeError(f"{_OPTION} must be a boolean or a mapping, not {type(per_message_deflate).__name__}")
    for key in per_message_deflate:
        if key not in _KEYS:
            raise TypeError(f"{_OPTION} has no key {key!r}; it has {_listed(_KEYS)}")

    compress = _preset(per_message_deflate, "compress")
    decompress = _preset(per_message_deflate, "decompress")
    threshold = _threshold(per_message_deflate)
    if compress is None and decompress is None and threshold is not None:
        raise ValueError(f'{_OPTION}["threshold"] needs "compress" or "decompress" beside it')
    if compress in (None, "disable") and decompress in (None, "disable"):
        return None
    return DeflateOptions(compress or "shared", decompress or "shared", threshold)


def _preset(mapping: Mapping[str, object], key: str) -> str | None:
    value = mapping.get(key)
    if value is None:
        return None
    if isinstance(value, bool):
        return _BOOLEANS[value]
    if not isinstance(value, str):
        raise TypeError(
            f'{_OPTION}["{key}"] must be a boolean or one of {_listed(_PRESETS)}, not {type(value).__name__}'
        )
    if value not in _PRESETS:
        raise ValueError(f'{_OPTION}["{key}"] must be a boolean or one of {_listed(_PRESETS)}, not {value!r}')
    return value


def _threshold(mapping: Mapping[str, object]) -> int | None:
    value = mapping.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f'{_OPTION}["threshold"] must be a number of bytes, not {type(value).__name__}')
    if value < 0:
        raise ValueError(f'{_OPTION}["threshold"] must not be negative, not {value}')
    return value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


# The negotiation

# Characters of Sec-WebSocket-Extensions, all lines together, that are looked at. Browsers need 42; thirty offers
# with every parameter fit.
MAX_OFFERS_LENGTH: Final = 4096

# RFC 9110, 5.6.2 (RFC 2616, 2.2 in RFC 6455): token = 1*tchar.
_TCHARS: Final = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

# RFC 7692, 7.1.2.1: "a decimal integer value without leading zeroes between 8 to 15, inclusive".
_BITS: Final[Mapping[str | None, int]] = {str(bits): bits for bits in range(8, 16)}

# What each parameter may be in an offer, and what it then means to us. RFC 7692, 7.1.1: the two flags have no value.
# 7.1.2.2: "This parameter has no value or a decimal integer value"; without one, any window is fine.
_NO_VALUE: Final[Mapping[str | None, int]] = {None: True}
_PARAMETERS: Final = {
    "server_no_context_takeover": _NO_VALUE,
    "client_no_context_takeover": _NO_VALUE,
    "server_max_window_bits": _BITS,
    "client_max_window_bits": {None: 15, **_BITS},
}

_Parameters: TypeAlias = list[tuple[str, str | None]]


def negotiate(offers: Sequence[str], options: DeflateOptions) -> tuple[str, DeflateParams] | None:
    """
    Choose among a client's offers: all its Sec-WebSocket-Extensions headers, in order.

    Returns the value of the response's header and what it says; None means: send no such header, do not compress.
    """
    # RFC 7692, 5: "The order of elements is important as it specifies the client's preference."
    for name, parameters in _parse_extensions(offers):
        if name == "permessage-deflate":
            offer = _read_offer(parameters)
            accepted = None if offer is None else _accept(offer, options)
            if accepted is not None:
                return accepted
    return None


def _read_offer(parameters: _Parameters) -> dict[str, int] | None:
    """The parameters by name; None means: decline."""
    # RFC 7692, 7: "A server MUST decline an extension negotiation offer for this extension if any of the following
    # conditions are met": a parameter "not defined for use in an offer", one "with an invalid value", or "multiple
    # extension parameters with the same name".
    offer: dict[str, int] = {}
    for name, text in parameters:
        value = _PARAMETERS.get(name, {}).get(text)
        if value is None or name in offer:
            return None
        offer[name] = value
    return offer


def _accept(offer: Mapping[str, int], options: DeflateOptions) -> tuple[str, DeflateParams] | None:
    """The response to an offer, as parameters and as text; None means: decline."""
    response = ["permessage-deflate"]

    # What the client may do. RFC 7692, 7.1.1.2: the server may answer "client_no_context_takeover" to any offer,
    # and a shared inflater needs it; but 7.1.2.2: "client_max_window_bits" in the response only if it was offered.
    client_window_bits = DECOMPRESSORS.get(options.decompress, 15)
    client_no_context_takeover = (
        options.decompress in ("shared", "disable")  # no response can forbid the client to compress
        or "client_no_context_takeover" in offer
        or (client_window_bits < 15 and "client_max_window_bits" not in offer)
    )
    if client_no_context_takeover:
        client_window_bits = 15  # the window ends with the message and costs nothing between messages
        response.append("client_no_context_takeover")
    else:
        # 7.1.2.2: "a value equal to or smaller than the received value".
        client_window_bits = min(client_window_bits, offer.get("client_max_window_bits", 15))
        if client_window_bits < 15:
            response.append(f"client_max_window_bits={client_window_bits}")

    # What we may do.
    server_no_context_takeover = (
        options.compress in ("shared", "disable")  # who never compresses spares the client a window
        or "server_no_context_takeover" in offer
    )
    if server_no_context_takeover:
        response.append("server_no_context_takeover")
    preset_window_bits, _ = COMPRESSORS.get(options.compress, (15, 0))
    asked_window_bits = offer.get("server_max_window_bits")
    server_window_bits = min(preset_window_bits, asked_window_bits or 15)
    # 7.1.2.1: the response has "the same or smaller value as the offer", and zlib has no raw window of 8 bits.
    if server_window_bits < 9:
        return None
    if server_window_bits < 15 or asked_window_bits:
        response.append(f"server_max_window_bits={server_window_bits}")

    return "; ".join(response), DeflateParams(
        server_no_context_takeover,
        client_no_context_takeover,
        server_window_bits,
        client_window_bits,
    )


# The grammar of RFC 6455, 9.1


def _parse_extensions(lines: Sequence[str]) -> list[tuple[str, _Parameters]]:
    """
    The elements of Sec-WebSocket-Extensions, none if any of it is malformed.

    One pass and no search: where a value is quoted, "the value after quoted-string unescaping MUST conform to the
    'token' ABNF", so no valid value hides a comma, a semicolon or an equals sign, and to split is to parse.
    """
    # 9.1: "this header field MAY be split or combined across multiple lines".
    text = ",".join(lines)
    if len(text) > MAX_OFFERS_LENGTH:
        return []
    extensions: list[tuple[str, _Parameters]] = []
    for element in text.split(","):
        if not element.strip(" \t"):
            continue  # RFC 2616, 2.1: "null elements are allowed"
        name, *rest = (part.strip(" \t") for part in element.split(";"))
        if not _is_token(name):
            return []
        parameters: _Parameters = []
        for part in rest:
            parameter = _parse_parameter(part)
            if parameter is None:
                return []
            parameters.append(parameter)
        extensions.append((name, parameters))
    return extensions


def _parse_parameter(text: str) -> tuple[str, str | None] | None:
    """`token [ "=" ( token | quoted-string ) ]`; None means: malformed."""
    name, equals, value = text.partition("=")
    name, value = name.rstrip(" \t"), value.lstrip(" \t")
    if not _is_token(name):
        return None
    if not equals:
        return name, None
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = value[1:-1]
        if value.endswith("\\") or "\\\\" in value:
            return None  # unescaped, neither is a token
        value = value.replace("\\", "")
    return (name, value) if _is_token(value) else None


def _is_token(text: str) -> bool:
    return bool(text) and _TCHARS.issuperset(text)
