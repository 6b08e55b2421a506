# How the classes of exchange.py look to the C compiler; see topics.pxd.

from .http.request cimport Request


cdef class Exchange:
    cdef readonly object connection
    cdef readonly object head
    cdef readonly Request request
    cdef readonly object body
    cdef public object refusal
    cdef public bint upgraded
    cdef public bint failed
    cdef public int answered
    cdef public bint expects_continue
    cdef public object begun
