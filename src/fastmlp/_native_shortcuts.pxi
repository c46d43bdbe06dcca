# The cheapest calls: what is done for one row or one step thousands of times a second. Each looks at what could have
# changed since it was made, and returns None where the general way (fastmlp.backends.native) has to be gone.

from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from libc.float cimport DBL_MAX
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int8_t, int16_t, uint8_t, uint16_t
from libc.string cimport memset

cdef object np_ndarray = np.ndarray
cdef object np_empty = np.empty

# Above so many multiply-adds (tens of microseconds) a call lets other Python threads run, or uses several itself.
cdef double _HOLD_THE_LOCK = 1e6


cdef bint _opened(x, Py_buffer *view, int flags=0) except -1:
    """Open an array's buffer, or say that its dtype (dates, strings) has none, or that it is read-only."""
    try:
        PyObject_GetBuffer(x, view, PyBUF_FORMAT | PyBUF_STRIDES | flags)
    except (BufferError, ValueError):
        return False
    return True


cdef void _find_ends(const Py_buffer *view, const char **low, const char **high) noexcept:
    """Find where the memory of a matrix begins and ends."""
    cdef int axis
    cdef Py_ssize_t reach
    low[0] = high[0] = <const char *>view.buf
    for axis in range(2):
        reach = (view.shape[axis] - 1) * view.strides[axis]
        low[0] += min(reach, 0)
        high[0] += max(reach, 0)
    high[0] += view.itemsize


cdef class FastPredict:
    """Predicts a few rows with programs on one thread, or returns None: then the general way has to be gone.

    Parameters
    ----------
    program : Program
        Of one row.
    in_place : Program or None
        The same for rows that can be read where they stand.
    most_rows : int
        Up to so many rows these two are used, row by row; above, those that are kept.
    kept : dict
        The plans of `fastmlp.backends.native.Executor` that are not in use, whose `alone` is such a program, by rows,
        whether without the last activation, and whether rows are read where they stand.
    chunk : int
        The most rows of a plan there.
    multiply_adds : float
        Of one row.
    vectors, panels : tuple
        Flat vectors, whose `touched` says that their panels may be out of date, and these.
    columns : int
        Of the result.
    dtype : numpy.dtype
    """

    cdef Program program, in_place
    cdef dict kept
    cdef double multiply_adds
    cdef tuple vectors, panels
    cdef int64_t columns, most_rows, chunk
    cdef object dtype
    cdef int bits

    def __init__(
        self, Program program, Program in_place, int64_t most_rows, dict kept, int64_t chunk, double multiply_adds,
        tuple vectors, tuple panels, int64_t columns, dtype,
    ):
        self.program, self.in_place, self.most_rows = program, in_place, most_rows
        self.kept, self.chunk, self.multiply_adds = kept, chunk, multiply_adds
        self.vectors, self.panels = vectors, panels
        self.columns, self.dtype, self.bits = columns, dtype, program.program.bits

    def __call__(self, x, out=None):
        cdef Py_buffer view, result
        if type(x) is not np_ndarray or not (out is None or type(out) is np_ndarray):
            return None
        for vector in self.vectors:
            if vector.touched and not self._refreshed():
                return None
        if not _opened(x, &view):
            return None
        cdef int kind = _element_type(view.format, view.itemsize)
        cdef int64_t rows = view.shape[0] if view.ndim == 2 else 0
        if kind < 0 or rows < 1 or view.shape[1] != self.program.columns[0]:
            PyBuffer_Release(&view)
            return None
        cdef fm_call call
        memset(&call, 0, sizeof(call))
        call.source[0].data, call.source[0].type = <const char *>view.buf, kind
        call.source[0].row_stride, call.source[0].col_stride = view.strides[0], view.strides[1]
        cdef Program whole, rest
        cdef int64_t batch = 1
        try:
            whole = rest = None
            if rows <= self.most_rows:
                whole = self.program if self.in_place is None or not self._stands(&call) else self.in_place
            elif rows * self.multiply_adds > _HOLD_THE_LOCK:
                return None
            else:
                batch = self.chunk
                if rows >= batch and (whole := self._find(batch, &call)) is None:
                    return None
                if rows % batch and (rest := self._find(rows % batch, &call)) is None:
                    return None
            made = np_empty((rows, self.columns), self.dtype) if out is None else out
            if not _opened(made, &result, PyBUF_WRITABLE):
                return None
            if out is not None and not self._fits(&result, rows, &view):
                PyBuffer_Release(&result)
                return None
            call.out, call.out_stride = <char *>result.buf, self.columns * result.itemsize
            if whole is not None:
                self._run(whole, &call, batch, rows // batch)
            if rest is not None:
                self._run(rest, &call, rows % batch, 1)
            PyBuffer_Release(&result)
        finally:
            PyBuffer_Release(&view)
        return made

    cdef bint _refreshed(self) except -1:
        """Bring the panels up to date, if the vectors still have these."""
        for vector, panels in zip(self.vectors, self.panels):
            if vector.touched:
                if vector.resident is not panels:
                    return False
                panels.refresh()
        return True

    cdef bint _stands(self, const fm_call *call) noexcept:
        """Whether the rows can be read where they stand."""
        return fm_kernels_current(self.bits).in_place and fm_stands(&call.source[0], self.bits)

    cdef Program _find(self, int64_t rows, const fm_call *call):
        plan = self.kept.get((rows, False, bool(self._stands(call))))
        return None if plan is None else plan.alone

    cdef void _run(self, Program program, fm_call *call, int64_t batch, int64_t count) noexcept:
        """Run a program on the next rows, `count` times `batch`."""
        call.last, call.batch_rows, call.n_rows = count, batch, count * batch
        fm_run(&program.program, call)
        call.source[0].data += count * batch * call.source[0].row_stride
        call.out += count * batch * call.out_stride

    cdef bint _fits(self, const Py_buffer *result, int64_t rows, const Py_buffer *x) noexcept:
        """Whether the caller's array is as the result has to be, and no part of it is read."""
        cdef const char *begin
        cdef const char *end
        cdef const char *x_begin
        cdef const char *x_end
        if result.ndim != 2 or result.shape[0] != rows or result.shape[1] != self.columns:
            return False
        if result.strides[1] != result.itemsize or result.strides[0] != self.columns * result.itemsize:
            return False
        _find_ends(result, &begin, &end)
        _find_ends(x, &x_begin, &x_end)
        return (
            _element_type(result.format, result.itemsize) == (FM_F32 if self.bits == 32 else FM_F64)
            and (end <= x_begin or x_end <= begin)
        )


cdef double _element(const char *at, int kind) noexcept:
    """One element of an array as a float64; NaN for those of half precision."""
    if kind == FM_F32:
        return (<const float *>at)[0]
    if kind == FM_F64:
        return (<const double *>at)[0]
    if kind == FM_I64:
        return <double>(<const int64_t *>at)[0]
    if kind == FM_I32:
        return (<const int32_t *>at)[0]
    if kind == FM_U8:
        return (<const uint8_t *>at)[0]
    if kind == FM_U64:
        return <double>(<const uint64_t *>at)[0]
    if kind == FM_U32:
        return (<const uint32_t *>at)[0]
    if kind == FM_I8:
        return (<const int8_t *>at)[0]
    if kind == FM_I16:
        return (<const int16_t *>at)[0]
    if kind == FM_U16:
        return (<const uint16_t *>at)[0]
    return NAN


cdef bint _between(const Py_buffer *view, int kind, double low, double high, double *largest) noexcept:
    """Whether all elements of a vector or matrix are between two numbers; finds the largest."""
    cdef Py_ssize_t i, j, columns = view.shape[1] if view.ndim == 2 else 1
    cdef double value
    largest[0] = low
    for i in range(view.shape[0]):
        for j in range(columns):
            value = _element(<const char *>view.buf + i * view.strides[0]
                             + (j * view.strides[1] if view.ndim == 2 else 0), kind)
            if not (low <= value <= high):
                return False
            largest[0] = max(largest[0], value)
    return True


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
    renew : callable
        Brings the panels up to date.
    optimizer, state
        The step is right as long as the optimizer's version and the state's moving average are those seen now, and so
        is the user's thread limit.
    hyper : float64 array (steps, scalars)
        Of the steps from `first_step` on.
    first_step, seed : int
    multiply_adds : float
    classes : int
        Targets are so many class indices; 0 where they are values.
    low, high : float
        Between which targets that are values have to be.
    check : callable or None
        Raises if the loss cannot take them for another reason.
    """

    cdef readonly Program program
    cdef tuple vectors, panels
    cdef object model, revision, optimizer, state, average, version, hyper, transposes, renew
    cdef Py_buffer rows
    cdef int64_t first_step
    cdef uint64_t seed
    cdef readonly int limit
    cdef int64_t classes
    cdef double low, high
    cdef object check
    cdef bint release

    def __init__(self, Program program, model, tuple vectors, tuple panels, renew, optimizer, state, hyper,
                 int64_t first_step, uint64_t seed, double multiply_adds, int64_t classes, double low, double high,
                 check):
        self.program, self.vectors, self.panels, self.renew = program, vectors, panels, renew
        self.model, self.revision = model, model.revision
        self.optimizer, self.version = optimizer, optimizer.version
        self.state, self.average = state, state.average
        self.transposes = panels[0].valid_transposes
        self.first_step = first_step
        self.seed = seed
        self.limit = fm_thread_limit()
        self.classes, self.low, self.high, self.check = classes, low, high, check
        self.release = multiply_adds > _HOLD_THE_LOCK
        PyObject_GetBuffer(hyper, &self.rows, PyBUF_FORMAT | PyBUF_STRIDES)
        self.hyper = hyper

    def __dealloc__(self):
        if self.hyper is not None:
            PyBuffer_Release(&self.rows)

    def __call__(self, x, y, sample_weight=None):
        cdef fm_call call
        cdef Py_buffer views[3]
        cdef double loss = 0.0
        cdef int64_t ahead = self.state.step + 1 - self.first_step
        cdef int n_views = 0, i
        if (type(x) is not np_ndarray or type(y) is not np_ndarray or ahead < 0 or ahead >= self.rows.shape[0]
                or (sample_weight is None) != (self.program.columns[2] < 0)
                or not (sample_weight is None or type(sample_weight) is np_ndarray)
                or self.optimizer.version != self.version or self.model.revision != self.revision
                or self.model.seed != self.seed or self.state.average is not self.average
                or fm_thread_limit() != self.limit or not self._renewed()):
            return None
        memset(&call, 0, sizeof(call))
        try:
            for i in range(2 if sample_weight is None else 3):
                if not _opened(x if i == 0 else y if i == 1 else sample_weight, &views[i]):
                    return None
                n_views += 1
                if not self._fits(i, &views[i], &call.source[i]):
                    return None
            if self.check is not None and self.classes == 0:
                self.check(y if views[1].ndim == 2 else y[:, None])
            if self.program.program.rows != NULL and not fm_stands(&call.source[0], self.program.program.bits):
                return None
            call.last, call.batch_rows, call.n_rows = 1, self.program.rows, self.program.rows
            call.hyper = <const double *>self.rows.buf + ahead * (self.rows.strides[0] // 8)
            call.losses = &loss
            call.seed, call.step = self.seed, self.state.step
            for panels in self.panels:
                panels.changing = True
            if self.release:
                with nogil:
                    fm_run(&self.program.program, &call)
            else:
                fm_run(&self.program.program, &call)
        finally:
            for i in range(n_views):
                PyBuffer_Release(&views[i])
        self.state.step += 1
        for panels in self.panels:
            panels.newer = True
        try:
            for vector, panels in zip(self.vectors, self.panels):
                if vector.touched:  # the user has arrays that look into it
                    panels.wrote(self.transposes)
        finally:
            for panels in self.panels:
                panels.changing = False
        return loss

    cdef bint _renewed(self) except -1:
        """Whether the panels are up to date, or could be brought so."""
        cdef bint stale = self.panels[0].valid_transposes != self.transposes
        for vector in self.vectors:
            stale = stale or vector.touched
        if not stale:
            return True
        self.renew()
        for vector, panels in zip(self.vectors, self.panels):
            if vector.resident is not panels:
                return False
        return self.panels[0].valid_transposes == self.transposes

    cdef bint _fits(self, int i, const Py_buffer *view, fm_source *source) noexcept:
        """Whether an array is what the program reads as source i; describes it."""
        cdef int kind = _element_type(view.format, view.itemsize)
        cdef int64_t columns = self.program.columns[i]
        cdef double largest
        if kind < 0 or view.ndim < 1 or view.ndim > 2 or view.shape[0] != self.program.rows:
            return False
        if view.ndim == 2 and view.shape[1] != columns:
            return False
        if view.ndim == 1 and columns != 0 and (i != 1 or columns != 1):
            return False
        source.data, source.type = <const char *>view.buf, kind
        source.row_stride, source.col_stride = view.strides[0], view.strides[1] if view.ndim == 2 else 0
        if i == 0:
            return True
        if i == 2:
            return _between(view, kind, 0.0, DBL_MAX, &largest) and largest > 0.0
        if self.classes > 0:
            whole = kind != FM_F32 and kind != FM_F64 and view.format != NULL and view.format[0] != b"?"
            return whole and _between(view, kind, 0.0, <double>(self.classes - 1), &largest)
        return (self.low == -INFINITY and self.high == INFINITY) or _between(view, kind, self.low, self.high, &largest)
