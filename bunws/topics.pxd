# How the classes of topics.py look to the C compiler; topics.py is what they do, and runs without this as well.

cimport cython


@cython.final
cdef class Topic:
    cdef readonly object name
    cdef readonly set subscribers
    cdef readonly Py_ssize_t behind
    cdef readonly Py_ssize_t over
    cdef public list runs
    cdef public Py_ssize_t size


@cython.final
@cython.freelist(64)
cdef class Run:
    cdef public list pieces
    cdef readonly Topic topic
    cdef readonly object sender
    cdef readonly bint compress
    cdef readonly Py_ssize_t position
    cdef readonly object code
    cdef readonly dict forms


@cython.final
@cython.freelist(16)
cdef class Group:
    cdef readonly list runs
    cdef readonly set receivers
    cdef readonly dict partial
    cdef readonly set dropped


@cython.final
cdef class Topics:
    cdef readonly dict _topics
    cdef readonly dict _memberships
    cdef readonly dict _levels
    cdef readonly Topic apart
    cdef readonly Run open
    cdef readonly set dirty
    cdef Py_ssize_t _next_position
    cdef dict _owed
    cdef set _missed
    cdef dict _since

    @cython.locals(topic=Topic, run=Run)
    cpdef Run publish(self, object sender, object name, bint compress)

    @cython.locals(behind=Py_ssize_t, over=Py_ssize_t)
    cpdef object code(self, object sender, Topic topic)

    @cython.locals(owed=list, run=Run)
    cpdef Run own(self, object subscriber, bint compress)

    @cython.locals(since=Py_ssize_t, run=Run)
    cpdef object settle(self, object subscriber)

    @cython.locals(topic=Topic)
    cpdef tuple collect(self)

    @cython.locals(topic=Topic, run=Run)
    cdef list _groups(self, set dirty, dict since, dict owed)

    @cython.locals(run=Run)
    cdef Group _group(self, list runs, set subscribers, dict since, dict owed)


cdef object _count(Topic topic, object level, int change)

@cython.locals(run=Run)
cdef bint _has_other(list runs, object subscriber, Py_ssize_t since) except -1
