# How the classes of engine.py look to the C compiler; see topics.pxd.

cimport picows.picows

from .extension cimport Extension

cdef Py_ssize_t _small_read
cdef int _TEXT
cdef int _BINARY


cdef class _Reader(Extension):
    cdef Engine _engine
    cdef object _get_buffer
    cdef readonly object _parser
    cdef object _buffer_updated
    cdef object _empty


cdef class Engine(picows.picows.WSListener):
    cdef public object ws
    cdef readonly object _handler
    cdef readonly object _transport
    cdef public int _silent_ticks
    cdef object _assembler
    cdef bint _busy
    cdef object _deferred
    cdef object _failure
    cdef int _finishing_ticks
    cdef object _holds
    cdef object _host
    cdef Py_ssize_t _inflated
    cdef object _inflater
    cdef Py_ssize_t _last_left
    cdef bint _is_grown
    cdef bint _is_grown_used
    cdef readonly Py_ssize_t _tail
    cdef bint _quick
    cdef bint _renew
    cdef int _stalled_ticks

    cpdef on_ws_frame(self, picows.picows.WSTransport transport, picows.picows.WSFrame frame)
