/* fastmlp.h: the C interface of the engine. No Python and no allocation anywhere below it.
 *
 * A caller (src/fastmlp/_native.pyx) lowers a plan into an array of steps, binds it to memory that it owns, and runs
 * spans of mini-batches. Whatever can be wrong is found when a program is bound; a run cannot fail.
 */
#ifndef FASTMLP_H
#define FASTMLP_H

#include <stddef.h>
#include <stdint.h>

#include "plan.h"

/* Of a library without symbols, what profilers find all the same. */
#if defined(_WIN32)
#define FM_VISIBLE
#else
#define FM_VISIBLE __attribute__((visibility("default")))
#endif

/* Status codes; fm_status_text gives the sentence for each. */
enum {
    FM_OK = 0,
    FM_UNKNOWN_ISA,
    FM_ISA_NOT_BUILT,
    FM_ISA_NOT_SUPPORTED,
    FM_BAD_OPCODE,
    FM_BAD_OPERAND,
    FM_BAD_PART,
    FM_BAD_ALIGNMENT,
};

const char *fm_status_text(int status);

/* ---- dispatch (isa/dispatch.c) ---- */

/* The name of target number i in the order of isa/targets.def, or NULL past the end. */
const char *fm_isa_name(int i);
/* FM_OK, FM_ISA_NOT_BUILT or FM_ISA_NOT_SUPPORTED for a target by name. */
int fm_isa_status(const char *name);
/* Chooses the target for programs bound from now on; NULL or "" means the best that this CPU has. */
int fm_isa_choose(const char *name);
/* The chosen target's name. */
const char *fm_isa_current(void);
/* The chosen target's kernels for a precision of 32 or 64 bits. */
const struct fm_kernels *fm_kernels_current(int bits);

/* ---- programs (run.c) ---- */

/* Checks a program and turns the operands of its steps into addresses. */
int fm_bind(fm_program *program);
/* Runs mini-batches call->first ... call->last - 1, or as many as the budget allows (at least one); returns the one to go
 * on with. */
FM_VISIBLE int64_t fm_run(const fm_program *program, const fm_call *call);
/* Seconds on a monotonic clock. */
double fm_seconds(void);
/* 1 where the library was built with OpenMP. */
int fm_has_openmp(void);
/* The OpenMP specification date of the runtime (201511, ...), or 0 without it. */
int fm_openmp_version(void);
/* The user's thread limit, 0 for none. The engine only keeps it: how many threads a program has was decided before. */
int fm_thread_limit(void);
void fm_set_thread_limit(int threads);
/* What OpenMP would use by itself (OMP_NUM_THREADS, threadpoolctl, affinity). */
int fm_openmp_threads(void);

/* ---- shuffling (shuffle.c) ---- */

/* Fills out[0..n-1] with the permutation that belongs to (seed, epoch). */
void fm_shuffle32(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *out);
void fm_shuffle64(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t *out);

/* ---- layouts: copies between row-major and column blocks (pack.c) ---- */

/* What the matrix leaves of its blocks becomes `padding`. */
void fm_pack(int bits, const void *rowmajor, int64_t rows, int64_t cols, void *blocks, int64_t block_rows,
             double padding);
void fm_unpack(int bits, const void *blocks, int64_t rows, int64_t cols, int64_t block_rows, void *rowmajor);

/* Whether n numbers of so many bits are neither NaN nor infinite. */
int fm_all_finite(int bits, const void *values, int64_t n);

#endif
