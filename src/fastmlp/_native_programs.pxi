# Programs: lowered plans bound to memory, and their run over the caller's arrays.

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.string cimport memset, strlen


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


cdef Py_buffer *_opened_next(x, Py_buffer *views, int *count, int flags) except NULL:
    """Open an array's buffer as the next one of some views."""
    cdef Py_buffer *view = &views[count[0]]
    PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_STRIDES | flags)
    count[0] += 1
    return view


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
        for i in range(FM_SOURCES):
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
        cdef Py_buffer *view
        cdef int n_views = 0, i
        cdef int64_t needed = last * self.rows, full, reached
        memset(&call, 0, sizeof(call))
        if rest is not None:
            full = epoch_rows // self.rows
            if (rest.rows != epoch_rows - full * self.rows or rest.program.n_threads != self.program.n_threads
                    or rest.program.bits != self.program.bits or self.result_columns > 0
                    or any([rest.columns[i] != self.columns[i] for i in range(FM_SOURCES)]) or seconds is not None):
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
                view = _opened_next(order, views, &n_views, 0)
                if view.len // view.itemsize < needed or view.strides[0] != view.itemsize:
                    raise ValueError("the order is shorter than the mini-batches, or not contiguous")
                call.n_rows = view.len // view.itemsize
                if view.itemsize == 4:
                    call.order32 = <const uint32_t *>view.buf
                elif view.itemsize == 8:
                    call.order64 = <const uint64_t *>view.buf
                else:
                    raise ValueError("the order must be uint32 or uint64")
            for i in range(FM_SOURCES):
                if self.columns[i] >= 0:
                    if i >= len(sources):
                        raise ValueError("the program reads more sources than there are")
                    n_views += self.fill(&call, i, sources[i], &views[n_views], 0 if order is not None else needed)
            if hyper is not None:
                view = _opened_next(hyper, views, &n_views, 0)
                if (view.ndim != 2 or view.shape[0] < last - first or view.shape[1] < FM_HYPER
                        or view.itemsize != 8):
                    raise ValueError("hyper is too small")
                call.hyper, call.hyper_stride = <const double *>view.buf, view.strides[0] // 8
            if losses is not None:
                view = _opened_next(losses, views, &n_views, PyBUF_WRITABLE)
                if view.len < last * 8 or view.itemsize != 8 or view.strides[0] != 8:
                    raise ValueError("losses is too small")
                call.losses = <double *>view.buf
            if self.result_columns > 0:
                view = _opened_next(out, views, &n_views, PyBUF_WRITABLE)
                if (view.ndim != 2 or view.shape[0] < needed or view.shape[1] != self.result_columns
                        or view.itemsize != self.program.bits // 8 or view.strides[1] != view.itemsize):
                    raise ValueError("out is too small, or has another precision")
                call.out, call.out_stride = <char *>view.buf, view.strides[0]
            if seconds is not None:
                view = _opened_next(seconds, views, &n_views, PyBUF_WRITABLE)
                if view.len < self.program.n_steps * 8:
                    raise ValueError("seconds is too small")
                call.step_seconds = <double *>view.buf
            call.budget = budget
            with nogil:
                reached = fm_run(&self.program, &call)
        finally:
            for i in range(n_views):
                PyBuffer_Release(&views[i])
        return reached
