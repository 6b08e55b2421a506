# How the classes of turn.py look to the C compiler; see topics.pxd.

cimport cython

from .topics cimport Group, Run, Topic, Topics


cdef Py_ssize_t _topic_limit
cdef Py_ssize_t _turn_limit
cdef Py_ssize_t _large_message


@cython.final
cdef class Turn:
    cdef object __weakref__
    cdef readonly Topics topics
    cdef public bint deflates
    cdef object _call_soon
    cdef object _aside
    cdef readonly bint _scheduled
    cdef int _looks
    cdef Py_ssize_t _seen
    cdef Py_ssize_t _size
    cdef list _private
    cdef list _afterwards

    @cython.locals(text=str, payload=bytes, size=Py_ssize_t, head=bytes, run=Run)
    cpdef object publish(self, object sender, object name, object message, bint compress)

    cpdef object keep_private(self, object receiver)

    cpdef object count(self, Py_ssize_t size)

    cdef bint _is_full(self, Topic topic, Py_ssize_t size)

    cpdef object schedule(self)

    cpdef object _end(self)

    cpdef object flush(self)

    @cython.locals(group=Group, run=Run, shared=_Buffer, whole=bytes, apart=dict, data=bytes, receivers=list)
    cdef object _flush(self)


@cython.final
cdef class _Buffer:
    cdef dict _own
    cdef list _runs
    cdef list _starts
    cdef readonly bytes whole

    @cython.locals(run=Run, starts=list)
    cpdef bytes without(self, object receiver, Py_ssize_t since)

    @cython.locals(run=Run)
    cdef dict _index(self)


@cython.locals(run=Run)
cdef bytes _encode(list runs, object deflater)

cdef bytes _encode_run(Run run, object deflater)
