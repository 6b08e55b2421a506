"""Group chat: every room is a topic. Run `python server.py [port]`, open the address it prints."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from secrets import token_hex

import bunws


TYPES = {"index.html": "text/html", "chat.css": "text/css", "chat.js": "text/javascript"}
FILES = {name: Path(__file__).with_name(name).read_bytes() for name in TYPES}
POLICY = "default-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
Socket = bunws.ServerWebSocket[dict[str, str]]  # its data: id, name and room of a person
here: dict[str, dict[str, str]] = {}  # room → id → name, since two people may share a name


def fetch(request: bunws.Request, server: bunws.Server) -> bunws.Response | None:
    file = request.url.path.removeprefix("/") or "index.html"
    if file in FILES:
        headers = {"content-type": TYPES[file], "content-security-policy": POLICY}
        return bunws.Response(FILES[file], headers=headers)
    name, room = (request.url.query.get(key, "") for key in ("name", "room"))
    fits = request.url.path == "/chat" and 0 < len(name) <= 32 and 0 < len(room) <= 64
    if fits and server.upgrade(request, data={"id": token_hex(8), "name": name, "room": room}):
        return None
    return bunws.Response("Neither a page nor a WebSocket with a name and a room", status=404)


class Chat:
    publish_to_self = True  # the echo tells the sender that the room has heard it
    idle_timeout = 30  # seconds until a phone in a tunnel counts as gone
    max_payload_length = 16 * 1024

    def open(self, ws: Socket) -> None:
        people = here.setdefault(ws.data["room"], {})
        people[ws.data["id"]] = ws.data["name"]
        ws.publish(ws.data["room"], json.dumps({"type": "joined", **ws.data}))
        ws.subscribe(ws.data["room"])
        ws.send(json.dumps({"type": "welcome", **ws.data, "people": people}))

    def message(self, ws: Socket, text: str | bytes) -> None:
        if isinstance(text, bytes) or not 0 < len(text) <= 2000:
            return ws.close(1008, "A message is text of 1 to 2,000 characters")
        ws.publish(ws.data["room"], json.dumps({"type": "message", **ws.data, "text": text}))

    def close(self, ws: Socket, code: int, reason: str) -> None:
        people = here[ws.data["room"]]
        del people[ws.data["id"]]
        if not people:
            del here[ws.data["room"]]
        ws.publish(ws.data["room"], json.dumps({"type": "left", **ws.data}))


port = int(sys.argv[1]) if len(sys.argv) > 1 else None  # None: the environment's PORT, else 3000
server = bunws.serve(fetch=fetch, websocket=Chat(), hostname="localhost", port=port)
print(f"Listening on {server.url}")
