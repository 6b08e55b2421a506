# How the classes of request.py look to the C compiler; see ../topics.pxd.

cimport cython


cdef class Request:
    cdef public object method
    cdef public object headers
    cdef public object http_version
    cdef public object _scheme
    cdef public object _authority
    cdef public object _target
    cdef public object _context
    cdef public object _params
    cdef public object _url
    cdef public object _body
    cdef public bint _body_used
    cdef public object _cookies
    cdef public object _form
    cdef public object _client
    cdef public object _watchers

    cpdef object _release(self)
