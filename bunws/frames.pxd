# How the functions of frames.py look to the C compiler; see topics.pxd.

cpdef bytes header(int opcode, Py_ssize_t size, int flags=*)
