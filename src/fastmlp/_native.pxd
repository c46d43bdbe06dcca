# What the extension uses of the engine: of csrc/fastmlp.h, csrc/plan.h and csrc/kernels/table.h.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


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
    const fm_kernels *fm_kernels_current(int bits)
    int fm_bind(fm_program *program)
    int64_t fm_run(const fm_program *program, const fm_call *call)
    int fm_has_openmp()
    int fm_openmp_version()
    int fm_openmp_threads()
    int fm_thread_limit()
    void fm_set_thread_limit(int threads)
    void fm_shuffle32(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *out)
    void fm_shuffle64(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t *out)
    void fm_pack(int bits, const void *rowmajor, int64_t rows, int64_t cols, void *blocks, int64_t block_rows,
                 double padding)
    void fm_unpack(int bits, const void *blocks, int64_t rows, int64_t cols, int64_t block_rows, void *rowmajor)
    int fm_all_finite(int bits, const void *values, int64_t n)
