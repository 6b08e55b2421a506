# How the classes of connection.py look to the C compiler; see topics.pxd.

cimport cython

from .exchange cimport Exchange
from .extension cimport Extension
from .http.request cimport Request
from .http.response cimport Response
from .http.wire cimport RequestParser


cdef class Connection(Extension):
    cdef object __weakref__
    cdef readonly Py_ssize_t _discarded
    cdef readonly int _ending_ticks
    cdef readonly bint _eof
    cdef readonly RequestParser _parser
    cdef readonly bint _reading
    cdef readonly Exchange _receiving
    cdef readonly Py_ssize_t _requests
    cdef readonly object _sender
    cdef readonly object _site
    cdef readonly Py_ssize_t _taken
    cdef readonly object _watch
    cdef readonly Py_ssize_t _written
    cdef public object allowed_ticks
    cdef readonly Exchange current
    cdef readonly bint is_writable
    cdef readonly object transport

    @cython.locals(begun=Exchange)
    cdef object _take(self, list events)

    @cython.locals(request=Request, exchange=Exchange)
    cdef Exchange _begin(self, object head)

    @cython.locals(events=list)
    cdef object _go_on(self)

    @cython.locals(receiving=Exchange)
    cdef object _flow(self)

    cdef object _handle(self, Exchange exchange)

    @cython.locals(answer=Response)
    cdef object _respond(self, Exchange exchange, object response)

    cdef bint _is_kept_alive(self, Exchange exchange) except -1

    cdef object _finish(self, Exchange exchange, bint keep_alive)
