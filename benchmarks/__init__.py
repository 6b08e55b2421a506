"""
Benchmarks: bunws beside Bun and Node's `ws`, in one run, on one machine. README.md says what the numbers mean.

Rooms, top to bottom; each imports only rooms below it::

    bench_chat  bench_memory    one question each: what to run, and its table
    harness                     the command line, one measurement, repeats interleaved peer by peer, medians
    servers     load            the other two processes: a peer's server · load.c, the clients
    machine                     cores, clocks, memory, limits: what differs between Linux and macOS
"""
