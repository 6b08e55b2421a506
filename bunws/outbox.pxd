# How the classes of outbox.py look to the C compiler; see topics.pxd.

cimport cython

from . cimport descriptor
from .topics cimport Run
from .turn cimport Turn


cdef Py_ssize_t _huge_message


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
    cdef public list _private
    cdef public int _descriptor

    @cython.locals(text=str, payload=bytes, size=Py_ssize_t, head=bytes)
    cpdef object send(self, object message, bint compress=*)

    @cython.locals(pieces=list, size=Py_ssize_t)
    cdef object _put(self, bytes head, bytes payload, bint compress)

    @cython.locals(turn=Turn, run=Run)
    cdef list _pieces(self, bint compress)

    @cython.locals(taken=Py_ssize_t)
    cpdef object deliver(self, bytes data)

    @cython.locals(pieces=list, last=bytes)
    cpdef object deliver_private(self)

    @cython.locals(run=Run)
    cpdef object mingle_private(self)

    cdef bint _refuses(self) except -1
