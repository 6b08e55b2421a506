# What descriptor.py does, for the compiled rooms.

cdef extern from "<sys/socket.h>" nogil:
    Py_ssize_t send(int descriptor, const void *data, size_t size, int flags)


cdef inline Py_ssize_t write(int descriptor, bytes data) noexcept:
    if descriptor < 0:
        return 0
    # SIGPIPE is ignored since CPython has started.
    taken = send(descriptor, <const char *>data, len(data), 0)
    return taken if taken > 0 else 0
