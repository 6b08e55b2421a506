# How the class of extension.py looks to the C compiler; see topics.pxd.


cdef class Extension:
    pass
