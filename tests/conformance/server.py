"""
Server: the echo that the suite talks to.

Rule: it does nothing but echo, with the settings that README.md names. It lives as long as its standard input: when
the runner has done, or has died, that ends.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

import bunws


__all__ = ["SETTINGS", "main"]

#: Options of `websocket=`. Cases 9.1.6 and 9.2.6 send 16 MiB, which is where the limits end by default; no limit is to
#: be tested here.
SETTINGS: Final = {
    "per_message_deflate": True,
    "max_payload_length": 64 * 1024 * 1024,
    "backpressure_limit": 64 * 1024 * 1024,
}


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    return None if server.upgrade(request) else bunws.Response("a WebSocket is expected here", status=400)


def message(ws: bunws.ServerWebSocket[Any], message: str | bytes) -> None:
    ws.send(message, True)  # compressed, if that was negotiated


def main() -> None:
    parser = argparse.ArgumentParser(description="The echo server of the conformance run, on a free port.")
    parser.add_argument("--pem", help="serve TLS with the key and the certificates in this file")
    pem = parser.parse_args().pem
    tls = None if pem is None else (pem, pem)
    websocket = {"message": message, **SETTINGS}
    with bunws.serve(fetch=fetch, websocket=websocket, hostname="127.0.0.1", port=0, tls=tls) as server:
        print(f"LISTENING {server.port}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
