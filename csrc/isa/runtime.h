/* runtime.h: the engine's one global, and who may change it.
 *
 * `thread_limit` is the user's (0: none), `target` and `kernels` are set by fm_isa_choose (at import, from FASTMLP_ISA),
 * `forked` by the handler that runs in a forked child: OpenMP's team does not survive a fork, so a child computes all parts
 * on its one thread.
 */
#ifndef FASTMLP_RUNTIME_H
#define FASTMLP_RUNTIME_H

struct fm_kernels;

typedef struct fm_runtime_state {
    int target;                          /* index into isa/targets.def */
    const struct fm_kernels *kernels[2]; /* 32 and 64 bits */
    int forked;
    int thread_limit;
} fm_runtime_state;

extern fm_runtime_state fm_runtime;

#endif
