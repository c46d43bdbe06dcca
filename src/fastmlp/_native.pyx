"""The only door to the C engine: memory, programs, dispatch. It validates, binds pointers and runs without the GIL.

What a program means is decided in `fastmlp.backends`, which lowers plans; what its steps do stands in `csrc`.
"""

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset, strlen

import os

import numpy as np

cdef object np_ndarray = np.ndarray
cdef object np_empty = np.empty


cdef extern from "fastmlp.h" nogil:
    enum: FM_BASES, FM_SOURCES, FM_HYPER, FM_ROWS_AHEAD, FM_SHARE
    enum: FM_OK, FM_F32, FM_F64, FM_F16, FM_I8, FM_U8, FM_I16, FM_U16, FM_I32, FM_U32, FM_I64, FM_U64

    ctypedef struct fm_step:
        pass
    ctypedef struct fm_part:
        pass
    ctypedef struct fm_source:
        const char *data
        int64_t row_stride
        int64_t col_stride
        int32_t type
    ctypedef struct fm_move:
        int64_t step, slot, per_row, per_chunk
    ctypedef struct fm_chunks:
        int32_t first, sums, end, count
        int64_t room
        const int64_t *starts
        int64_t n_moves
        const fm_move *moves
    ctypedef struct fm_program:
        int32_t n_steps
        int32_t n_threads
        int32_t pieces
        int32_t bits
        fm_step *steps
        const fm_part *parts
        char *shares
        char *base[16]
        int64_t base_size[16]
        fm_chunks chunks
        const char **rows
    ctypedef struct fm_call:
        fm_source source[4]
        const uint32_t *order32
        const uint64_t *order64
        int64_t n_rows
        int64_t first
        int64_t last
        int64_t batch_rows
        const fm_program *rest
        int64_t epoch_rows
        const double *hyper
        int64_t hyper_stride
        double *losses
        char *out
        int64_t out_stride
        uint64_t seed
        uint64_t step
        double *step_seconds
        double budget

    bint fm_stands(const fm_source *x, int bits)
    const char *fm_status_text(int status)
    const char *fm_isa_name(int i)
    int fm_isa_status(const char *name)
    int fm_isa_choose(const char *name)
    const char *fm_isa_current()
    int fm_bind(fm_program *program)
    int64_t fm_run(const fm_program *program, const fm_call *call)
    int fm_has_openmp()
    int fm_openmp_version()
    int fm_openmp_threads()
    int fm_thread_limit()
    void fm_set_thread_limit(int threads)
    void fm_shuffle32(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *out)
    void fm_shuffle64(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t *out)
    void fm_pack(int bits, const void *rowmajor, int64_t rows, int64_t cols, void *blocks, int64_t block_rows)
    void fm_unpack(int bits, const void *blocks, int64_t rows, int64_t cols, int64_t block_rows, void *rowmajor)
    int fm_all_finite(int bits, const void *values, int64_t n)


cdef extern from "kernels/table.h" nogil:
    ctypedef struct fm_activation:
        const char *name
    ctypedef struct fm_loss:
        const char *name
    ctypedef struct fm_optimizer:
        const char *name
    ctypedef struct fm_kernels:
        int in_place
        const fm_activation *activations
        const fm_loss *losses
        const fm_optimizer *optimizers
    const char *const *fm_op_names
    const char *const *fm_instruction_names
    enum: FM_REGISTERS


cdef extern from "fastmlp.h" nogil:
    const fm_kernels *fm_kernels_current(int bits)


# ---- memory ----

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
         int64_t block_rows):
    """Copy a row-major matrix at byte `at` into column blocks of `block_rows` rows at byte `to`."""
    _check_extents(bits, rowmajor, at, rows * cols, blocks, to, cols, block_rows)
    fm_pack(bits, rowmajor.data + at, rows, cols, blocks.data + to, block_rows)


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


# ---- dispatch ----

def isa():
    """Return the name of the instruction set in use."""
    return fm_isa_current().decode()


def isa_table():
    """Return {name: "" where this CPU can use it, or why not} of every known instruction set, the least first."""
    table = {}
    cdef int i = 0
    while fm_isa_name(i) != NULL:
        status = fm_isa_status(fm_isa_name(i))
        table[fm_isa_name(i).decode()] = "" if status == FM_OK else fm_status_text(status).decode()
        i += 1
    return table


def choose_isa(name=None):
    """Choose the instruction set of programs bound from now on; None or "" means the best.

    Raises
    ------
    ValueError
        If the name is not known, or this build or this CPU lacks it.
    """
    cdef bytes text = os.fsencode(name or "")
    status = fm_isa_choose(text)
    if status != FM_OK:
        usable = [known for known, trouble in isa_table().items() if not trouble]
        raise ValueError(
            f"FASTMLP_ISA is {name!r}: {fm_status_text(status).decode()}; allowed here: {', '.join(usable)}"
        )


def openmp():
    """Return (built with OpenMP, version of its specification as a date, threads it would use)."""
    return bool(fm_has_openmp()), fm_openmp_version(), fm_openmp_threads()


def thread_limit():
    """Return what `set_thread_limit` set, 0 for no limit."""
    return fm_thread_limit()


def set_thread_limit(int threads):
    """Set the most threads that a call takes by itself; 0 for no limit."""
    fm_set_thread_limit(threads)


def opcodes():
    """Return {name: number} of the engine's opcodes."""
    cdef int i = 0
    table = {}
    while fm_op_names[i] != NULL:
        table[fm_op_names[i].decode()] = i
        i += 1
    return table


def instructions():
    """Return {name: number} of the instructions of element-wise programs, and how many registers
    a program may have."""
    cdef int i = 0
    table = {}
    while fm_instruction_names[i] != NULL:
        table[fm_instruction_names[i].decode()] = i
        i += 1
    return table, FM_REGISTERS


def registries():
    """Return {name: number} of the activations, losses and optimizers that have kernels."""
    k = fm_kernels_current(32)
    activations, losses, optimizers = {}, {}, {}
    cdef int i = 0
    while k.activations[i].name != NULL:
        activations[k.activations[i].name.decode()] = i
        i += 1
    i = 0
    while k.losses[i].name != NULL:
        losses[k.losses[i].name.decode()] = i
        i += 1
    i = 0
    while k.optimizers[i].name != NULL:
        optimizers[k.optimizers[i].name.decode()] = i
        i += 1
    return activations, losses, optimizers


# ---- shuffling ----

def shuffle(uint64_t seed, uint64_t epoch, Py_ssize_t n):
    """Return the permutation of 0..n-1 that belongs to (seed, epoch), an array of uint32 (uint64 above 2**32)."""
    cdef Buffer out
    if n <= 0xFFFFFFFF:
        out = Buffer(4 * n)
        with nogil:
            fm_shuffle32(seed, epoch, <uint32_t>n, <uint32_t *>out.data)
    else:
        out = Buffer(8 * n)
        with nogil:
            fm_shuffle64(seed, epoch, <uint64_t>n, <uint64_t *>out.data)
    return np.frombuffer(out, np.uint32 if n <= 0xFFFFFFFF else np.uint64)


# ---- programs ----

cdef int _element_type(const char *format, Py_ssize_t itemsize) noexcept:
    """The engine's code of a native-order element, -1 for anything else."""
    if format == NULL:
        return FM_U8
    if format[0] == b"@" or format[0] == b"=" or format[0] == b"<":
        format += 1
    if strlen(format) != 1:
        return -1
    cdef char f = format[0]
    if f == b"f":
        return FM_F32
    if f == b"d":
        return FM_F64
    if f == b"e":
        return FM_F16
    if f == b"?":
        return FM_U8
    if f in (b"b", b"h", b"i", b"l", b"q"):
        return FM_I8 if itemsize == 1 else FM_I16 if itemsize == 2 else FM_I32 if itemsize == 4 else FM_I64
    if f in (b"B", b"H", b"I", b"L", b"Q"):
        return FM_U8 if itemsize == 1 else FM_U16 if itemsize == 2 else FM_U32 if itemsize == 4 else FM_U64
    return -1


cdef bint _opened(x, Py_buffer *view) except -1:
    """Open an array's buffer, or say that its dtype (dates, strings) has none."""
    try:
        PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_STRIDES)
    except (BufferError, ValueError):
        return False
    return True


def reads_in_place(x, int bits):
    """Return whether a program can read the rows of a two-dimensional array where they stand."""
    cdef Py_buffer view
    cdef fm_source source
    PyObject_GetBuffer(x, &view, PyBUF_FORMAT | PyBUF_STRIDES)
    source.data, source.type = <const char *>view.buf, _element_type(view.format, view.itemsize)
    source.row_stride = view.strides[0] if view.ndim == 2 else 0
    source.col_stride = view.strides[1] if view.ndim == 2 else 0
    PyBuffer_Release(&view)
    return fm_kernels_current(bits).in_place and fm_stands(&source, bits)


cdef class Program:
    """A lowered plan, bound to memory.

    Parameters
    ----------
    bits : int
        32 or 64, the precision.
    threads : int
    steps : buffer of the structured dtype `fastmlp.backends.assembly.STEP`
        Copied; operands are (base << 48) | byte offset, or -1.
    parts : int32 buffer of shape (steps, threads · pieces, 4)
        Copied.
    bases : sequence of Buffer
        Kept alive.
    columns : sequence of int
        For each source: its number of columns, 0 for a vector, -1 where the program reads none.
    result_columns : int
        Columns of the row-major result, 0 where there is none.
    rows : int
        Rows of a mini-batch.
    in_place : bool
        Whether the inputs are read where they stand, which `reads_in_place` must allow.
    chunks : tuple of (first, sums, end, starts, moves), optional
        A stretch of steps that is repeated for each chunk of rows, see fm_chunks in csrc/plan.h:
        `starts` an int64 buffer, `moves` one of shape (n, 4). Behind `steps` stand each thread's
        copies of them, which have no parts.
    """

    cdef fm_program program
    cdef Buffer step_memory
    cdef Buffer part_memory
    cdef Buffer share_memory
    cdef Buffer row_memory
    cdef Buffer start_memory
    cdef Buffer move_memory
    cdef tuple bases
    cdef int64_t columns[4]
    cdef int64_t result_columns
    cdef int64_t rows

    def __init__(self, int bits, int threads, steps, parts, bases, columns, int64_t result_columns, int64_t rows,
                 bint in_place=False, chunks=None):
        step_bytes = memoryview(steps).cast("B")
        part_bytes = memoryview(parts).cast("B")
        n_steps = step_bytes.nbytes // sizeof(fm_step)
        if step_bytes.nbytes != n_steps * sizeof(fm_step):
            raise ValueError("steps have the wrong size")
        if chunks is not None:
            n_steps -= threads * (chunks[2] - chunks[0])
        pieces = part_bytes.nbytes // max(n_steps * threads * sizeof(fm_part), 1)
        if part_bytes.nbytes != n_steps * threads * pieces * sizeof(fm_part) or n_steps and not 1 <= pieces < 1 << 16:
            raise ValueError("parts have the wrong size")
        if len(bases) > FM_BASES or len(columns) > FM_SOURCES:
            raise ValueError("too many bases or sources")
        self.step_memory = Buffer(step_bytes.nbytes)
        memoryview(self.step_memory)[:] = step_bytes
        self.part_memory = Buffer(part_bytes.nbytes)
        memoryview(self.part_memory)[:] = part_bytes
        self.bases = tuple(bases)
        memset(&self.program, 0, sizeof(self.program))
        self.program.n_steps = <int32_t>n_steps
        self.program.n_threads = threads
        self.program.pieces = <int32_t>max(pieces, 1)
        self.share_memory = Buffer(threads * FM_SHARE)
        self.program.shares = self.share_memory.data
        self.program.bits = bits
        self.program.steps = <fm_step *>self.step_memory.data
        self.program.parts = <fm_part *>self.part_memory.data
        cdef Buffer base
        for i, base in enumerate(self.bases):
            self.program.base[i] = base.data
            self.program.base_size[i] = base.nbytes
        for i in range(4):
            self.columns[i] = columns[i] if i < len(columns) else -1
        self.result_columns = result_columns
        self.rows = rows
        if chunks is not None:
            first, sums, end, starts, moves = chunks
            self._set_chunks(first, sums, end, starts, moves)
        room = self.program.chunks.room if chunks is not None else rows
        if in_place:
            self.row_memory = Buffer(threads * (room + FM_ROWS_AHEAD) * <int64_t>sizeof(char *))
            self.program.rows = <const char **>self.row_memory.data
        status = fm_bind(&self.program)
        if status != FM_OK:
            raise ValueError(fm_status_text(status).decode())

    cdef int _set_chunks(self, int first, int sums, int end, starts, moves) except -1:
        cdef fm_chunks *chunks = &self.program.chunks
        start_bytes, move_bytes = memoryview(starts).cast("B"), memoryview(moves).cast("B")
        self.start_memory, self.move_memory = Buffer(start_bytes.nbytes), Buffer(max(move_bytes.nbytes, 1))
        memoryview(self.start_memory)[:] = start_bytes
        memoryview(self.move_memory)[:move_bytes.nbytes] = move_bytes
        chunks.first, chunks.sums, chunks.end = first, sums, end
        chunks.count = <int32_t>(start_bytes.nbytes // sizeof(int64_t) - 1)
        chunks.starts = <const int64_t *>self.start_memory.data
        chunks.n_moves = move_bytes.nbytes // sizeof(fm_move)
        chunks.moves = <const fm_move *>self.move_memory.data
        for i in range(chunks.count):
            chunks.room = max(chunks.room, chunks.starts[i + 1] - chunks.starts[i])
        return 0

    @property
    def threads(self):
        return self.program.n_threads

    @property
    def steps(self):
        return self.program.n_steps

    cdef int fill(self, fm_call *call, int i, array, Py_buffer *view, int64_t needed) except -1:
        """Point source i at an array, which stays exported in `view`; False where the program reads no source i."""
        cdef int64_t columns = self.columns[i]
        if columns < 0:
            return 0
        PyObject_GetBuffer(array, view, PyBUF_FORMAT | PyBUF_STRIDES)
        cdef int kind = _element_type(view.format, view.itemsize)
        if (kind < 0 or view.ndim != (1 if columns == 0 else 2) or view.shape[0] < needed
                or (columns > 0 and view.shape[1] != columns)):
            PyBuffer_Release(view)
            raise ValueError("a source has the wrong shape or element type for its program")
        call.source[i].data = <const char *>view.buf
        call.source[i].type = kind
        call.source[i].row_stride = view.strides[0]
        call.source[i].col_stride = view.strides[1] if columns > 0 else 0
        cdef bint in_place = self.program.rows != NULL or (call.rest != NULL and call.rest.rows != NULL)
        if i == 0 and in_place and not fm_stands(&call.source[0], self.program.bits):
            PyBuffer_Release(view)
            raise ValueError("the inputs cannot be read in place")
        return 1

    def run(self, sources, *, order=None, int64_t first=0, int64_t last=1, hyper=None, losses=None, out=None,
            Program rest=None, int64_t epoch_rows=0, uint64_t seed=0, uint64_t step=0, seconds=None,
            double budget=0.0):
        """Run mini-batches first … last - 1, the GIL released.

        Parameters
        ----------
        sources : sequence of array or None
            Inputs, targets, sample weights, incoming gradient: as many as the program reads.
        order : buffer of uint32 or uint64, optional
            Rows in visiting order; its values must lie inside the sources (they are not checked).
        first, last : int
            Mini-batch b takes rows b·rows … (b + 1)·rows - 1 of the order.
        hyper : float64 array (mini-batches, scalars), optional
        losses : float64 array, optional
            losses[b] is written for each mini-batch.
        out : array (last · rows, columns), optional
            C-contiguous rows of the program's precision.
        rest : Program, optional
            Runs the last mini-batch of each epoch, of what is left of `epoch_rows`; reads the same sources on as many
            threads.
        epoch_rows : int
            Rows of an epoch, where there is a rest; epochs follow each other in the order.
        seed, step : int
            Of random numbers: seed, and number of the first step.
        seconds : float64 array (steps of the program), optional
            Seconds are added to each step's.
        budget : float
            Seconds after which no further mini-batch is begun; 0 for no end.

        Returns
        -------
        int
            The mini-batch to go on with: `last`, unless the time was up.
        """
        cdef fm_call call
        cdef Py_buffer views[9]
        cdef int n_views = 0, i
        cdef int64_t needed = last * self.rows, full, reached
        memset(&call, 0, sizeof(call))
        if rest is not None:
            full = epoch_rows // self.rows
            if (rest.rows != epoch_rows - full * self.rows or rest.program.n_threads != self.program.n_threads
                    or rest.program.bits != self.program.bits or self.result_columns > 0
                    or any([rest.columns[i] != self.columns[i] for i in range(4)]) or seconds is not None):
                raise ValueError("the program of the rest does not go with the other one")
            needed = last // (full + 1) * epoch_rows + last % (full + 1) * self.rows
            call.rest, call.epoch_rows = &rest.program, epoch_rows
        call.first, call.last, call.batch_rows = first, last, self.rows
        call.seed, call.step = seed, step
        call.n_rows = needed
        if not 0 <= first <= last:
            raise ValueError("first and last are not a range")
        try:
            if order is not None:
                PyObject_GetBuffer(order, &views[n_views], PyBUF_FORMAT | PyBUF_STRIDES)
                n_views += 1
                if views[0].len // views[0].itemsize < needed or views[0].strides[0] != views[0].itemsize:
                    raise ValueError("the order is shorter than the mini-batches, or not contiguous")
                call.n_rows = views[0].len // views[0].itemsize
                if views[0].itemsize == 4:
                    call.order32 = <const uint32_t *>views[0].buf
                elif views[0].itemsize == 8:
                    call.order64 = <const uint64_t *>views[0].buf
                else:
                    raise ValueError("the order must be uint32 or uint64")
            for i in range(4):
                if self.columns[i] >= 0:
                    if i >= len(sources):
                        raise ValueError("the program reads more sources than there are")
                    n_views += self.fill(&call, i, sources[i], &views[n_views], 0 if order is not None else needed)
            if hyper is not None:
                PyObject_GetBuffer(hyper, &views[n_views], PyBUF_FORMAT | PyBUF_STRIDES)
                n_views += 1
                call.hyper = <const double *>views[n_views - 1].buf
                call.hyper_stride = views[n_views - 1].strides[0] // 8
                if (views[n_views - 1].ndim != 2 or views[n_views - 1].shape[0] < last - first
                        or views[n_views - 1].shape[1] < FM_HYPER or views[n_views - 1].itemsize != 8):
                    raise ValueError("hyper is too small")
            if losses is not None:
                PyObject_GetBuffer(losses, &views[n_views], PyBUF_FORMAT | PyBUF_STRIDES | PyBUF_WRITABLE)
                n_views += 1
                call.losses = <double *>views[n_views - 1].buf
                if (views[n_views - 1].len < last * 8 or views[n_views - 1].itemsize != 8
                        or views[n_views - 1].strides[0] != 8):
                    raise ValueError("losses is too small")
            if self.result_columns > 0:
                PyObject_GetBuffer(out, &views[n_views], PyBUF_FORMAT | PyBUF_STRIDES | PyBUF_WRITABLE)
                n_views += 1
                call.out = <char *>views[n_views - 1].buf
                call.out_stride = views[n_views - 1].strides[0]
                if (views[n_views - 1].ndim != 2 or views[n_views - 1].shape[0] < needed
                        or views[n_views - 1].shape[1] != self.result_columns
                        or views[n_views - 1].itemsize != self.program.bits // 8
                        or views[n_views - 1].strides[1] != views[n_views - 1].itemsize):
                    raise ValueError("out is too small, or has another precision")
            if seconds is not None:
                PyObject_GetBuffer(seconds, &views[n_views], PyBUF_FORMAT | PyBUF_STRIDES | PyBUF_WRITABLE)
                n_views += 1
                call.step_seconds = <double *>views[n_views - 1].buf
                if views[n_views - 1].len < self.program.n_steps * 8:
                    raise ValueError("seconds is too small")
            call.budget = budget
            with nogil:
                reached = fm_run(&self.program, &call)
        finally:
            for i in range(n_views):
                PyBuffer_Release(&views[i])
        return reached


# ---- the cheapest calls ----

# Above so many multiply-adds (tens of microseconds) a call lets other Python threads run.
cdef double _HOLD_THE_LOCK = 1e6


cdef class FastPredict:
    """Predicts a row or a few with one bound program, or returns None: then the general way has to be gone.

    Parameters
    ----------
    program : Program
        Of one row, on one thread.
    in_place : Program or None
        The same for rows that can be read where they stand.
    vectors : tuple
        Flat vectors whose `touched` says that the panels may be out of date.
    columns : int
        Of the result.
    dtype : numpy.dtype
    most_rows : int
    """

    cdef Program program, in_place
    cdef tuple vectors
    cdef int64_t columns
    cdef object dtype
    cdef int64_t most_rows

    def __init__(self, Program program, Program in_place, tuple vectors, int64_t columns, dtype, int64_t most_rows):
        self.program, self.in_place, self.vectors = program, in_place, vectors
        self.columns, self.dtype, self.most_rows = columns, dtype, most_rows

    def __call__(self, x):
        cdef fm_call call
        cdef Py_buffer view, result
        if type(x) is not np_ndarray:
            return None
        for vector in self.vectors:
            if vector.touched:
                return None
        if not _opened(x, &view):
            return None
        cdef int kind = _element_type(view.format, view.itemsize)
        cdef int64_t rows = view.shape[0] if view.ndim == 2 else 0
        if kind < 0 or rows < 1 or rows > self.most_rows or view.shape[1] != self.program.columns[0]:
            PyBuffer_Release(&view)
            return None
        try:
            out = np_empty((rows, self.columns), self.dtype)
            PyObject_GetBuffer(out, &result, PyBUF_STRIDES | PyBUF_WRITABLE)
            memset(&call, 0, sizeof(call))
            call.source[0].data = <const char *>view.buf
            call.source[0].type = kind
            call.source[0].row_stride, call.source[0].col_stride = view.strides[0], view.strides[1]
            call.last, call.batch_rows, call.n_rows = rows, 1, rows
            call.out, call.out_stride = <char *>result.buf, result.strides[0]
            if self.in_place is not None and fm_stands(&call.source[0], self.program.program.bits):
                fm_run(&self.in_place.program, &call)
            else:
                fm_run(&self.program.program, &call)
            PyBuffer_Release(&result)
        finally:
            PyBuffer_Release(&view)
        return out


cdef class FastStep:
    """Makes one training step with a bound program, or returns None: then the general way has to be gone.

    Parameters
    ----------
    program : Program
    model : Sequential
        The step is right as long as its revision is the one seen now.
    vectors : tuple of FlatVector
        Parameters, slots and states; `touched` says that the panels may be out of date.
    panels : tuple
        Their panels, whose `newer` is set after a step.
    optimizer, state
        The step is right as long as the optimizer's version is the one seen now, and so is the user's thread limit.
    hyper : float64 array (steps, scalars)
        Of the steps from `first_step` on.
    first_step, seed : int
    multiply_adds : float
    """

    cdef Program program
    cdef tuple vectors, panels
    cdef object model, revision, optimizer, state, version, hyper, transposes
    cdef Py_buffer rows
    cdef int64_t first_step
    cdef uint64_t seed
    cdef int limit
    cdef bint release

    def __init__(self, Program program, model, tuple vectors, tuple panels, optimizer, state, hyper,
                 int64_t first_step, uint64_t seed, double multiply_adds):
        self.program, self.vectors, self.panels = program, vectors, panels
        self.model, self.revision = model, model.revision
        self.optimizer, self.state, self.version = optimizer, state, optimizer.version
        self.transposes = panels[0].valid_transposes
        self.first_step = first_step
        self.seed = seed
        self.limit = fm_thread_limit()
        self.release = multiply_adds > _HOLD_THE_LOCK
        PyObject_GetBuffer(hyper, &self.rows, PyBUF_FORMAT | PyBUF_STRIDES)
        self.hyper = hyper

    def __dealloc__(self):
        if self.hyper is not None:
            PyBuffer_Release(&self.rows)

    def __call__(self, x, y):
        cdef fm_call call
        cdef Py_buffer views[2]
        cdef double loss = 0.0
        cdef int64_t ahead = self.state.step + 1 - self.first_step
        cdef int n_views = 0, i
        if (type(x) is not np_ndarray or type(y) is not np_ndarray or ahead < 0 or ahead >= self.rows.shape[0]
                or self.optimizer.version != self.version or self.model.revision != self.revision
                or self.panels[0].valid_transposes is not self.transposes or fm_thread_limit() != self.limit):
            return None
        for vector in self.vectors:
            if vector.touched:
                return None
        memset(&call, 0, sizeof(call))
        try:
            for i in range(2):
                if not _opened(x if i == 0 else y, &views[i]):
                    return None
                n_views += 1
                kind = _element_type(views[i].format, views[i].itemsize)
                if kind < 0 or views[i].ndim < 1 or views[i].ndim > 2 or views[i].shape[0] != self.program.rows:
                    return None
                if views[i].ndim == 1:
                    if i == 0 or self.program.columns[1] != 1:
                        return None
                elif views[i].shape[1] != self.program.columns[i]:
                    return None
                call.source[i].data = <const char *>views[i].buf
                call.source[i].type = kind
                call.source[i].row_stride = views[i].strides[0]
                call.source[i].col_stride = views[i].strides[1] if views[i].ndim == 2 else 0
            if self.program.program.rows != NULL and not fm_stands(&call.source[0], self.program.program.bits):
                return None
            call.last, call.batch_rows, call.n_rows = 1, self.program.rows, self.program.rows
            call.hyper = <const double *>self.rows.buf + ahead * (self.rows.strides[0] // 8)
            call.losses = &loss
            call.seed, call.step = self.seed, self.state.step
            if self.release:
                with nogil:
                    fm_run(&self.program.program, &call)
            else:
                fm_run(&self.program.program, &call)
        finally:
            for i in range(n_views):
                PyBuffer_Release(&views[i])
        self.state.step += 1
        for panel in self.panels:
            panel.newer = True
        return loss


choose_isa(os.environ.get("FASTMLP_ISA"))
