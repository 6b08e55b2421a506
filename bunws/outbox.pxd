# How the classes of outbox.py look to the C compiler; see topics.pxd.

cimport cython

from .topics cimport Run
from .turn cimport Turn


cdef class Outbox:
    cdef readonly object deflater
    cdef readonly Turn _turn
    cdef public object _transport
    cdef readonly object _handler
    cdef public bint _open
    cdef bint _stuck
    cdef readonly object _backlog
    cdef Py_ssize_t _backlog_size
    cdef readonly object _level
    cdef readonly bint _behind
    cdef public bint _hurdle
    cdef public Run _run

    @cython.locals(text=str, payload=bytes, size=Py_ssize_t, head=bytes)
    cpdef object send(self, object message, bint compress=*)

    @cython.locals(run=Run, size=Py_ssize_t)
    cdef object _put(self, bytes head, bytes payload, bint compress)

    @cython.locals(run=Run)
    cdef Run _open_run(self, bint compress)

    cdef bint _refuses(self) except -1
