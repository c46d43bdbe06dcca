/* plan.h: a lowered program as the executor sees it.
 *
 * A program is a list of steps. A step is an opcode, sizes, operands and, for every thread, the part of its output that
 * the thread computes. A barrier stands before a step only where the assembly (src/fastmlp/backends/assembly.py) found that
 * some thread reads or overwrites what another one touched since the last barrier. Every field is filled in by Python.
 *
 * Matrices are stored in column blocks of one cache line, [ceil(cols / BL)][FM_LINES(rows)][BL] with BL = 64 bytes /
 * sizeof(real), padded with zeros: a tile of a few rows and one block is contiguous, and one layout serves activations,
 * weights and transposed weights alike (the rows of the latter two are rounded up to whole blocks instead).
 */
#ifndef FASTMLP_PLAN_H
#define FASTMLP_PLAN_H

#include <stdint.h>

enum { FM_OPERANDS = 12, FM_ARGS = 8, FM_NUMBERS = 8, FM_BASES = 16, FM_SOURCES = 4, FM_HYPER = 8 };

/* Lines from one column block to the next. Odd, so that a row's blocks never share a set of L1; and not near a multiple of
 * 512, where the same rows of 16 blocks, which a product has in L2 together, would share an eighth of its sets. */
#define FM_LINES(rows) (((rows) | 1) + ((rows) >= 480 && ((rows) + 32) % 512 < 64 ? 64 : 0))

/* Places of the order beyond a mini-batch whose rows are known as well, so that they can be fetched ahead. */
enum { FM_ROWS_AHEAD = 16 };

/* One step. `at` holds operands: before fm_bind each is (base << 48 | byte offset) or -1 for none, after it an address
 * (0 for none). The same layout is the NumPy structured dtype STEP of backends/assembly.py. */
typedef struct fm_step {
    int32_t op;      /* index into fm_kernels.kernels */
    int32_t barrier; /* 1: all threads meet before this step */
    int64_t rows;    /* rows of the result */
    int64_t cols;    /* columns of the result */
    int64_t depth;   /* length of the sum behind each element, where there is one */
    int64_t at[FM_OPERANDS];
    int64_t arg[FM_ARGS];
    double num[FM_NUMBERS];
} fm_step;

/* A part of a step's result, which one thread computes: rows r0..r1-1 of column blocks c0..c1-1. */
typedef struct fm_part {
    int32_t r0, r1, c0, c1;
} fm_part;

/* An array of the caller, read row by row: any element type, any strides. */
typedef struct fm_source {
    const char *data;
    int64_t row_stride; /* bytes */
    int64_t col_stride; /* bytes */
    int32_t type;       /* enum fm_type */
    int32_t reserved;
} fm_source;

enum fm_type { FM_F32, FM_F64, FM_F16, FM_I8, FM_U8, FM_I16, FM_U16, FM_I32, FM_U32, FM_I64, FM_U64, FM_TYPES };

/* Whether a source's rows can be read where they stand: contiguous, aligned, of this precision. */
static inline int fm_stands(const fm_source *x, int bits) {
    const int64_t size = bits / 8;
    return x->type == (bits == 32 ? FM_F32 : FM_F64) && x->col_stride == size && x->row_stride % size == 0 &&
           (uintptr_t)x->data % (uintptr_t)size == 0;
}

/* Rows of the next mini-batch that are still to be fetched from memory: op_gather leaves them, and the products, which
 * have time to spare for it, fetch a few lines with every tile. */
typedef struct fm_fetch {
    int64_t at, end; /* places in the order */
    int64_t skip;    /* bytes of a row before the part that this thread reads */
    int32_t line, lines;
    const char *row;
} fm_fetch;

/* What one mini-batch sees of the call. */
typedef struct fm_frame {
    const fm_source *source; /* inputs, targets, sample weights, incoming gradient */
    const uint32_t *order32; /* row numbers in visiting order; both NULL: as they stand */
    const uint64_t *order64;
    int64_t first_row;       /* position of this mini-batch, or of the chunk at hand, in the order */
    int64_t row0, rows_here; /* in a stretch that is repeated: rows before the chunk, and its own; else 0 */
    int64_t n_rows;          /* rows of the sources, for prefetching ahead */
    const double *hyper;     /* this step's scalars, FM_HYPER per parameter group */
    double *loss;            /* where this mini-batch's loss goes, or NULL */
    char *out;               /* row-major result (prediction, input gradient), or NULL */
    int64_t out_stride;      /* bytes between its rows */
    uint64_t seed;           /* of the training's random numbers */
    uint64_t step;           /* number of this step, their counter */
    fm_fetch *fetch;         /* this thread's */
    const char **rows; /* where each input row of this mini-batch stands, and FM_ROWS_AHEAD more; see fm_program */
} fm_frame;

typedef void (*fm_kernel)(const fm_step *step, const fm_frame *frame, const fm_part *part);

/* A span of mini-batches. */
typedef struct fm_call {
    fm_source source[FM_SOURCES];
    const uint32_t *order32;
    const uint64_t *order64;
    int64_t n_rows;
    int64_t first, last; /* mini-batches to run; mini-batch b begins at row b * batch_rows of the order */
    int64_t batch_rows;
    /* Where the last mini-batch of each epoch has fewer rows, this program runs it, on as many threads as the other one.
     * Epochs follow each other in the order, epoch_rows each. NULL: all mini-batches are of one size. */
    const struct fm_program *rest;
    int64_t epoch_rows;
    const double *hyper; /* one row of hyper_stride doubles for each mini-batch of the span, or NULL */
    int64_t hyper_stride;
    double *losses; /* losses[b] for mini-batch b, or NULL */
    char *out;
    int64_t out_stride;
    uint64_t seed;        /* of random numbers */
    uint64_t step;        /* number of the first step */
    double *step_seconds; /* profiling: seconds of every step as thread 0 saw it, n_steps values; or NULL */
    double budget;        /* seconds after which no further mini-batch is begun; 0: no end */
} fm_call;

/* Operand `slot` of a step stands `per_row` bytes further for each row before the chunk at hand, and `per_chunk` for each
 * chunk: what is kept of every chunk, while all else is overwritten by the next one. */
typedef struct fm_move {
    int64_t step, slot, per_row, per_chunk;
} fm_move;

/* A stretch of steps that is repeated for each chunk of a mini-batch, whoever is free taking the next one, without a
 * barrier. A worker has its own copies of these steps, whose operands are its own room for one chunk. */
typedef struct fm_chunks {
    int32_t first, sums, end; /* steps first..sums-1 compute rows, as many as the chunk has; sums..end-1 add them up */
    int32_t count;            /* 0: there is no such stretch */
    int64_t room;             /* rows of the largest chunk */
    const int64_t *starts;    /* where each chunk begins, and where the last one ends */
    int64_t n_moves;
    const fm_move *moves;
} fm_chunks;

/* Bytes of what run.c keeps of one thread's share: a pair of lines, as they are fetched. */
enum { FM_SHARE = 128 };

typedef struct fm_program {
    int32_t n_steps;
    int32_t n_threads;
    int32_t bits; /* 32 or 64 */
    /* Parts of each thread's share of a step. If more than one, whoever has done its own takes what others have left: cores
     * are not equally fast, nor is each as fast from one millisecond to the next. Then the first step has a barrier. */
    int32_t pieces;
    fm_step *steps;       /* n_steps, then each thread's copies of those that are repeated */
    const fm_part *parts; /* [n_steps][n_threads][pieces] */
    char *shares;         /* [n_threads][FM_SHARE] */
    char *base[FM_BASES];
    int64_t base_size[FM_BASES];
    fm_chunks chunks;
    /* Room for the addresses of the input rows, [n_threads][rows at a time + FM_ROWS_AHEAD], where the first layer reads them
     * in place (rows of the program's own precision, contiguous); NULL where a step gathers them. */
    const char **rows;
    const struct fm_kernels *kernels; /* set by fm_bind */
} fm_program;

#endif
