/* dispatch.c: which targets this build has, which of them this CPU can run, and which one is chosen. */
#include <string.h>
#if !defined(_WIN32)
#include <pthread.h>
#endif

#include "../fastmlp.h"
#include "../kernels/table.h"
#include "runtime.h"

fm_runtime_state fm_runtime = {.target = -1};

/* The build defines FM_HAVE_<target> for every target whose files it compiled. */
#ifdef FM_HAVE_portable
extern const fm_kernels fm_kernels_portable_f32, fm_kernels_portable_f64;
#endif
#ifdef FM_HAVE_avx2
extern const fm_kernels fm_kernels_avx2_f32, fm_kernels_avx2_f64;
#endif
#ifdef FM_HAVE_avx512
extern const fm_kernels fm_kernels_avx512_f32, fm_kernels_avx512_f64;
#endif
#ifdef FM_HAVE_neon
extern const fm_kernels fm_kernels_neon_f32, fm_kernels_neon_f64;
#endif

static int always(void) { return 1; }
#if defined(__x86_64__) || defined(_M_X64)
/* __builtin_cpu_supports also asks the operating system whether it saves the wide registers. */
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif

typedef struct target {
    const char *name;
    int (*supported)(void);
    const fm_kernels *kernels[2];
} target;

/* From the least to the most wanted. */
static const target targets[] = {
#ifdef FM_HAVE_portable
    {"portable", always, {&fm_kernels_portable_f32, &fm_kernels_portable_f64}},
#else
    {"portable", always, {NULL, NULL}},
#endif
#ifdef FM_HAVE_neon
    {"neon", always, {&fm_kernels_neon_f32, &fm_kernels_neon_f64}},
#else
    {"neon", always, {NULL, NULL}},
#endif
#ifdef FM_HAVE_avx2
    {"avx2", has_avx2, {&fm_kernels_avx2_f32, &fm_kernels_avx2_f64}},
#else
    {"avx2", always, {NULL, NULL}},
#endif
#ifdef FM_HAVE_avx512
    {"avx512", has_avx512, {&fm_kernels_avx512_f32, &fm_kernels_avx512_f64}},
#else
    {"avx512", always, {NULL, NULL}},
#endif
};
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

static int status_of(const target *t) {
    if (!t->kernels[0]) return FM_ISA_NOT_BUILT;
    return t->supported() ? FM_OK : FM_ISA_NOT_SUPPORTED;
}

static int find(const char *name) {
    for (int i = 0; i < N_TARGETS; ++i)
        if (!strcmp(targets[i].name, name)) return i;
    return -1;
}

const char *fm_isa_name(int i) { return i >= 0 && i < N_TARGETS ? targets[i].name : NULL; }

int fm_isa_status(const char *name) {
    const int i = find(name);
    return i < 0 ? FM_UNKNOWN_ISA : status_of(&targets[i]);
}

#if !defined(_WIN32)
static void after_fork_in_child(void) { fm_runtime.forked = 1; }
#endif

int fm_isa_choose(const char *name) {
    int chosen = -1;
    if (name && *name) {
        const int status = fm_isa_status(name);
        if (status != FM_OK) return status;
        chosen = find(name);
    } else {
        for (int i = 0; i < N_TARGETS; ++i)
            if (status_of(&targets[i]) == FM_OK) chosen = i;
    }
#if !defined(_WIN32)
    if (fm_runtime.target < 0) pthread_atfork(NULL, NULL, after_fork_in_child);
#endif
    fm_runtime.target = chosen;
    fm_runtime.kernels[0] = targets[chosen].kernels[0];
    fm_runtime.kernels[1] = targets[chosen].kernels[1];
    return FM_OK;
}

const char *fm_isa_current(void) { return targets[fm_runtime.target].name; }

const fm_kernels *fm_kernels_current(int bits) { return fm_runtime.kernels[bits == 64]; }

int fm_thread_limit(void) { return fm_runtime.thread_limit; }

void fm_set_thread_limit(int threads) { fm_runtime.thread_limit = threads; }
