"""
socketify: uWebSockets behind cffi, its own topics. `__init__.py` says what is served.

Its publish() reaches the sender as well, so it serves what wants that, and echo.
"""

from __future__ import annotations

import sys
from typing import Any

from socketify import App, AppListenOptions, CompressOptions, OpCode


# socketify has no types.


def upgrade(res: Any, req: Any, context: Any) -> None:
    res.upgrade(
        req.get_header("sec-websocket-key"),
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        context,
        {"name": req.get_query("name")},
    )


def join(ws: Any) -> None:
    ws.subscribe("room")


def tell_everybody(ws: Any, message: str, _opcode: int) -> None:
    name = ws.get_user_data()["name"]
    ws.publish("room", f"{name}: {message}", OpCode.TEXT)


def tell_it_back(ws: Any, message: str, _opcode: int) -> None:
    ws.send(message, OpCode.TEXT)


HANDLERS: dict[str, dict[str, Any]] = {
    "bun-chat": {"upgrade": upgrade, "open": join, "message": tell_everybody},
    "echo": {"message": tell_it_back},
}


def main(served: str) -> None:
    app = App()
    app.ws(
        "/*",
        {
            "compression": CompressOptions.DISABLED,
            "max_payload_length": 2**24,
            "idle_timeout": 0,
            "max_backpressure": 2**30,  # bytes; the load counts every copy, so none may be dropped
            **HANDLERS[served],
        },
    )
    app.listen(AppListenOptions(port=0, host="127.0.0.1"), lambda config: print(f"LISTENING {config.port}", flush=True))
    app.run()


if __name__ == "__main__":
    main(sys.argv[1])
