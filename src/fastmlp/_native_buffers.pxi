# Memory that Python owns and the engine works in.

from cpython.buffer cimport PyBUF_FORMAT, PyBUF_STRIDES
from libc.stdint cimport uintptr_t
from libc.stdlib cimport calloc, free

cdef char *_BYTES = b"B"


cdef class Buffer:
    """Zeroed memory, aligned to 64 bytes, that counts how often it is exported.

    Parameters
    ----------
    nbytes : int
        Size. A size of zero is allowed.

    Attributes
    ----------
    nbytes : int
    address : int
    exports : int
        How many arrays and memoryviews of this memory are alive.
    """

    cdef char *data
    cdef void *raw
    cdef readonly Py_ssize_t nbytes
    cdef readonly Py_ssize_t exports
    cdef Py_ssize_t shape[1]

    def __cinit__(self, Py_ssize_t nbytes):
        if nbytes < 0:
            raise ValueError(f"nbytes is {nbytes}, but must be at least 0")
        self.raw = calloc(1, <size_t>nbytes + 128)
        if self.raw == NULL:
            raise MemoryError(f"no memory for {nbytes} bytes")
        self.data = <char *>((<uintptr_t>self.raw + 63) & ~<uintptr_t>63)
        self.nbytes = nbytes
        self.shape[0] = nbytes

    def __dealloc__(self):
        free(self.raw)

    @property
    def address(self):
        return <uintptr_t>self.data

    def __getbuffer__(self, Py_buffer *view, int flags):
        view.buf = self.data
        view.obj = self
        view.len = self.nbytes
        view.itemsize = 1
        view.readonly = 0
        view.ndim = 1
        view.format = _BYTES if flags & PyBUF_FORMAT else NULL
        view.shape = self.shape
        view.strides = &view.itemsize if flags & PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *view):
        self.exports -= 1


def pack(int bits, Buffer rowmajor, int64_t at, int64_t rows, int64_t cols, Buffer blocks, int64_t to,
         int64_t block_rows, double padding=0.0):
    """Copy a row-major matrix at byte `at` into column blocks of `block_rows` rows at byte `to`; fill what is left."""
    _check_extents(bits, rowmajor, at, rows * cols, blocks, to, cols, block_rows)
    fm_pack(bits, rowmajor.data + at, rows, cols, blocks.data + to, block_rows, padding)


def unpack(int bits, Buffer blocks, int64_t to, int64_t rows, int64_t cols, int64_t block_rows, Buffer rowmajor,
           int64_t at):
    """Copy column blocks of `block_rows` rows at byte `to` into a row-major matrix at byte `at`."""
    _check_extents(bits, rowmajor, at, rows * cols, blocks, to, cols, block_rows)
    fm_unpack(bits, blocks.data + to, rows, cols, block_rows, rowmajor.data + at)


def all_finite(int bits, Buffer values):
    """Return whether all numbers in a buffer are finite."""
    cdef bint finite
    with nogil:
        finite = fm_all_finite(bits, values.data, values.nbytes * 8 // bits)
    return finite


cdef _check_extents(int bits, Buffer rowmajor, int64_t at, int64_t n, Buffer blocks, int64_t to, int64_t cols,
                    int64_t block_rows):
    cdef int64_t size = bits // 8
    cdef int64_t n_blocks = (cols * size + 63) // 64
    if at < 0 or at + n * size > rowmajor.nbytes:
        raise ValueError("the row-major matrix lies outside its buffer")
    if to < 0 or to + n_blocks * block_rows * 64 > blocks.nbytes:
        raise ValueError("the blocks lie outside their buffer")
