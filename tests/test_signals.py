"""Signals: Ctrl-C and SIGTERM, seen from outside the process."""

from __future__ import annotations

import signal

import httpx
import pytest
from websockets.sync.client import connect

from tests.support import RawClient, RawWebSocket, Script, eventually


SERVE = """
import bunws, os, signal, sys, threading, time, asyncio
def fetch(request, server):
    return None if server.upgrade(request) else bunws.Response(str(main_thread_has_ended()))
def main_thread_has_ended():
    frame = sys._current_frames()[threading.main_thread().ident]
    while frame is not None and frame.f_code.co_name != "_shutdown":
        frame = frame.f_back
    return frame is not None
def serve(**options):
    server = bunws.serve(fetch=options.pop("fetch", fetch), websocket=options.pop("websocket", {}),
                         port=0, hostname="127.0.0.1", **options)
    print(server.port)
    return server
"""


def wait_for_the_end_of_the_script(port: int) -> None:
    """Before that, a signal would interrupt the script."""
    with RawClient(port) as client:
        eventually(lambda: client.get().answer().body == b"True")


BOTH = pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])


# A script that ends, and leaves its server running


@BOTH
def test_a_script_that_has_ended_stays_alive_until_a_signal_and_exits_with_0(signum: signal.Signals) -> None:
    with Script(SERVE + "serve(); print('the end')") as script:
        port = int(script.line())
        assert script.line() == "the end"
        wait_for_the_end_of_the_script(port)
        assert script.process.poll() is None
        script.signal(signum)
        assert script.end() == (0, "", "")


@BOTH
def test_a_signal_tells_the_peers_goodbye(signum: signal.Signals) -> None:
    code = "serve(websocket={'close': lambda ws, code, reason: print(code, reason)})"
    with Script(SERVE + code) as script, RawWebSocket(port := int(script.line())) as ws:
        wait_for_the_end_of_the_script(port)
        script.signal(signum)
        assert ws.hear_close() == (1001, "Server closed")
        ws.say_close(1001)
        assert ws.rest() == b""
        ws.close()
        assert script.end() == (0, "1001 Server closed\n", "")


def test_a_second_signal_does_not_wait_for_a_peer_that_is_silent() -> None:
    code = "serve(websocket={'close': lambda ws, code, reason: print('told')})"
    with Script(SERVE + code) as script, RawWebSocket(port := int(script.line())) as ws:
        wait_for_the_end_of_the_script(port)
        script.signal(signal.SIGINT)
        assert ws.hear_close()[0] == 1001
        assert script.line() == "told"
        eventually(script.is_asleep)
        script.signal(signal.SIGINT)
        assert script.end() == (0, "", "")


def test_a_second_signal_does_not_wait_for_a_handler_that_waits() -> None:
    code = """
async def wait(request, server):
    if request.url.path != "/wait":
        return fetch(request, server)
    print("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        print("cancelled")
serve(fetch=wait)
"""
    with Script(SERVE + code) as script, RawClient(port := int(script.line())) as client, RawWebSocket(port) as ws:
        wait_for_the_end_of_the_script(port)
        client.get("/wait")
        assert script.line() == "waiting"
        script.signal(signal.SIGTERM)
        assert ws.hear_close()[0] == 1001
        ws.say_close().close()
        eventually(script.is_asleep)
        script.signal(signal.SIGTERM)
        assert script.end() == (0, "cancelled\n", "")


@BOTH
def test_a_handler_that_blocks_the_loop_cannot_withstand_a_third_signal(signum: signal.Signals) -> None:
    code = """
def block(request, server):
    if request.url.path != "/block":
        return fetch(request, server)
    print("blocking")
    time.sleep(3600)
serve(fetch=block)
"""
    with Script(SERVE + code) as script, RawClient(port := int(script.line())) as client:
        wait_for_the_end_of_the_script(port)
        client.get("/block")
        assert script.line() == "blocking"

        def ended() -> bool:
            script.signal(signum)  # one that is pending swallows the next, so it may take more than three
            return script.process.poll() is not None

        eventually(ended)


def test_one_signal_stops_all_servers_of_the_process() -> None:
    with Script(SERVE + "serve(); serve()") as script:
        ports = int(script.line()), int(script.line())
        assert ports[0] != ports[1]
        wait_for_the_end_of_the_script(ports[0])
        script.signal(signal.SIGINT)
        assert script.end() == (0, "", "")


# A script that does something else meanwhile


def test_ctrl_c_reaches_a_main_thread_that_does_something_else() -> None:
    code = """
serve()
try:
    print("ready")
    threading.Event().wait()
except KeyboardInterrupt:
    print("interrupted")
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.line() == "ready"
        script.signal(signal.SIGINT)
        assert script.end() == (0, "interrupted\n", "")


def test_sigterm_ends_a_main_thread_that_does_something_else_with_exit_code_0() -> None:
    code = """
serve()
try:
    print("ready")
    threading.Event().wait()
finally:
    print("cleaned up")
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.line() == "ready"
        script.signal(signal.SIGTERM)
        assert script.end() == (0, "cleaned up\n", "")


@BOTH
def test_a_with_block_stops_its_server_when_a_signal_ends_the_block(signum: signal.Signals) -> None:
    code = """
try:
    with serve() as server:
        print("ready")
        threading.Event().wait()
except BaseException as exc:
    print(type(exc).__name__, repr(server).split()[2])
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.line() == "ready"
        script.signal(signum)
        name = "KeyboardInterrupt" if signum == signal.SIGINT else "SystemExit"
        assert script.end() == (0, f"{name} closed\n", "")


def test_a_program_whose_servers_have_stopped_has_its_signals_back() -> None:
    code = """
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
with serve() as server:
    print((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before)
print((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before)
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.end() == (0, "False\nTrue\n", "")


@BOTH
def test_a_signal_after_the_servers_have_stopped_does_what_it_does_without_them(signum: signal.Signals) -> None:
    code = """
server = serve()
asyncio.run(asyncio.wait_for(server.stop(), 20))
print("stopped")
while not threading.Event().wait(0.05):  # CPython may sleep through a signal that comes just before a wait without end
    pass
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.line() == "stopped"
        script.signal(signum)
        assert script.end()[0] == -signum


# A program with an event loop of its own

MAIN = """
async def main():
    async with serve() as server:
        await server.wait_closed()
    print("the end")
"""


@BOTH
@pytest.mark.parametrize("run", ["asyncio.run(main())", "import uvloop; uvloop.run(main())"], ids=["asyncio", "uvloop"])
def test_a_coroutine_that_waits_for_its_server_ends_with_exit_code_0(run: str, signum: signal.Signals) -> None:
    with Script(SERVE + MAIN + run) as script:
        with RawClient(int(script.line())) as client:
            assert client.get().answer().body == b"False"
        script.signal(signum)
        assert script.end() == (0, "the end\n", "")


def test_a_second_signal_ends_a_coroutine_that_waits_for_its_server_at_once() -> None:
    with Script(SERVE + MAIN + "asyncio.run(main())") as script, RawWebSocket(int(script.line())) as ws:
        script.signal(signal.SIGINT)
        assert ws.hear_close()[0] == 1001
        eventually(script.is_asleep)
        script.signal(signal.SIGINT)
        assert script.end() == (0, "the end\n", "")


@pytest.mark.parametrize("run", ["asyncio.run(main())", "import uvloop; uvloop.run(main())"], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize(
    ("signum", "name"),
    [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGTERM, "SystemExit")],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_coroutine_that_waits_for_something_else_is_told(run: str, signum: signal.Signals, name: str) -> None:
    code = f"""
async def main():
    async with serve() as server:
        print("ready")
        await asyncio.Event().wait()
try:
    {run}
except BaseException as exc:
    print(type(exc).__name__)
"""
    with Script(SERVE + code) as script, RawWebSocket(int(script.line())) as ws:
        assert script.line() == "ready"
        script.signal(signum)
        assert ws.hear_close() == (1001, "Server closed")  # told first
        ws.say_close(1001).close()
        assert script.end() == (0, f"{name}\n", "")


# What bunws leaves alone


def test_a_handler_that_the_program_has_set_stays() -> None:
    code = """
stopped = threading.Event()
signal.signal(signal.SIGINT, lambda *_: (print("mine"), stopped.set()))
mine = signal.getsignal(signal.SIGINT)
with serve() as server:
    print(signal.getsignal(signal.SIGINT) is mine)
    stopped.wait()
    print(repr(server).split()[2])
print(signal.getsignal(signal.SIGINT) is mine)
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.line() == "True"
        script.signal(signal.SIGINT)
        assert script.end() == (0, "mine\nlistening\nTrue\n", "")


def test_serve_off_the_main_thread_leaves_signals_alone() -> None:
    code = """
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
def work():
    with serve():
        print((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.end() == (0, "True\n", "")


def test_a_signal_that_somebody_ignores_stays_ignored() -> None:
    code = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
with serve():
    print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.end() == (0, "True\n", "")


def test_a_signal_in_the_middle_of_a_publish_does_not_lock_the_program_up() -> None:
    code = """
class Loop:
    def __getattr__(self, name):
        return getattr(loop, name)
    def call_soon_threadsafe(self, *args):
        server._life.loop = loop
        signal.raise_signal(signal.SIGINT)
        loop.call_soon_threadsafe(*args)
with serve() as server:
    loop, server._life.loop = server._life.loop, Loop()
    try:
        server.publish("news", "hello")
    except KeyboardInterrupt:
        print("interrupted")
"""
    with Script(SERVE + code) as script:
        script.line()
        assert script.end() == (0, "interrupted\n", "")


def test_threads_can_still_be_asked_when_the_script_has_ended() -> None:
    code = """
def work():
    return "worked"
async def ask(request, server):
    return fetch(request, server) if request.url.path == "/" else bunws.Response(await asyncio.to_thread(work))
def large(ws, message):
    ws.send(message * 300_000, compress=True)
serve(fetch=ask, websocket={"message": large, "per_message_deflate": True}, compression=True,
      routes={"/ws": fetch, "/large": lambda request: bunws.Response("large " * 100_000)})
"""
    with Script(SERVE + code) as script:
        port = int(script.line())
        wait_for_the_end_of_the_script(port)
        with RawClient(port) as client:
            assert client.get("/thread").answer().body == b"worked"
        answer = httpx.get(f"http://127.0.0.1:{port}/large", headers={"Accept-Encoding": "gzip"})
        assert (answer.status_code, answer.headers["Content-Encoding"]) == (200, "gzip")
        assert answer.text == "large " * 100_000
        with connect(f"ws://127.0.0.1:{port}/ws", max_size=None) as ws:
            ws.send("x")
            assert ws.recv() == "x" * 300_000
        script.signal(signal.SIGTERM)
        assert script.end() == (0, "", "")
