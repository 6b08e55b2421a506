# How the classes of response.py look to the C compiler; see ../topics.pxd.


cdef class Response:
    cdef public object _body
    cdef public bint _body_used
    cdef public object _content_type
    cdef public object _encoded
    cdef public object _headers
    cdef public bint _is_stream
    cdef readonly int _status
    cdef readonly object _status_text
