# How the classes of wire.py look to the C compiler; see ../topics.pxd.

cimport cython


cdef class _Findings:
    cdef public list fields
    cdef public list pieces
    cdef public bint complete


@cython.final
cdef class RequestParser:
    cdef object _max_head_size
    cdef object _max_headers
    cdef object _max_body_size
    cdef _Findings _findings
    cdef object _llhttp
    cdef object _state
    cdef bint _stopped
    cdef list _events
    cdef object _partial
    cdef bytes _tail
    cdef Py_ssize_t _tail_at
    cdef object _request_line
    cdef readonly bytes _known_lines
    cdef readonly bytes _known_fields
    cdef object _known_head
    cdef bint _is_at_rest
    cdef bint _keep_alive
    cdef bint _llhttp_strays
    cdef Py_ssize_t _head_size
    cdef object _body_size  # like all that a peer may say: a number of any size
    cdef Py_ssize_t _chunk_excess
    cdef object _remaining

    cpdef list feed(self, data)
    cpdef list resume(self)
