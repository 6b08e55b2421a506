"""
Chat: one room, everybody hears everybody else. How many copies a second, and at what CPU time per copy?

Twice: batched, where each client writes many messages at once, and single, where it has one message in flight::

    python -m benchmarks.bench_chat [--peers bunws,bun,ws] [--seconds 3] [--repeat 3]
                                    [--clients 16] [--messages 100] [--size 32] [--python PATH]
"""

from __future__ import annotations

from benchmarks import harness, machine, report
from benchmarks.harness import Workload


__all__ = ["main"]


def main() -> None:
    parser = harness.argument_parser("Chat in one room: copies a second and CPU per copy.", repeat=3)
    parser.add_argument("--seconds", type=float, default=3.0, help="counted seconds of a run")
    parser.add_argument("--clients", type=harness.positive, default=16, help="in the room")
    parser.add_argument("--messages", type=harness.positive, default=100, help="in a batch")
    parser.add_argument("--size", type=harness.positive, default=32, help="bytes of a message, 8 up")
    options = parser.parse_args()

    workloads = [
        _chat("batched", options.clients, options.messages, options.size, options.seconds),
        _chat("single", options.clients, 1, options.size, options.seconds),
    ]
    peers = harness.find_peers(options.peers, options.python)
    print(machine.description(options.python))
    for workload, rows in harness.compare(peers, workloads, repeat=options.repeat):
        print(f"\n{workload.title}\n{report.rates(rows)}", flush=True)


def _chat(name: str, clients: int, messages: int, size: int, seconds: float) -> Workload:
    return Workload(
        title=f"chat, {name}: {clients} clients x {messages} x {size} B",
        serve="chat",
        load=(
            *("--mode", "chat"),
            *("--clients", str(clients)),
            *("--messages", str(messages)),
            *("--size", str(size)),
        ),
        seconds=seconds,
    )


if __name__ == "__main__":
    harness.run_benchmark(main)
