"""
Benchmarks: bunws beside Bun, Node and the Python servers, in one run, on one machine. README.md says what they mean.

Rooms, top to bottom; each imports only rooms below it::

    __main__                    the command line
    runner      readme  micro   peers in turn, with a progress bar · the README's table · the hot rooms alone
    plots                       what was measured, as SVG
    results                     the same as JSON and Markdown
    workloads                   what is measured: the cases, and how each is
    runs                        one measurement, whether it ranks, medians, percentiles: pure
    servers     load            the other two processes: a peer's server · the programs of native/
    install                     npm and PyPI
    machine                     cores, clocks, memory, limits: what differs between Linux and macOS

`native/` has what is written in C (the load, the transfer of large bodies, the floor), `peers/` a server for each peer.
"""
