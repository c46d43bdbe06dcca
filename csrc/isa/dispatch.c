/* dispatch.c: which targets this build has, which of them this CPU can run, and which one is chosen. */
#include <string.h>
#if !defined(_WIN32)
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>
#endif

#include "../fastmlp.h"
#include "../kernels/table.h"
#include "runtime.h"

fm_runtime_state fm_runtime = {.target = -1};

/* Whether the CPU can run a target, asked only where that was built. */
static int runs_portable(void) { return 1; }
static int runs_neon(void) { return 1; }
#if defined(__x86_64__) || defined(_M_X64)
/* __builtin_cpu_supports also asks the operating system whether it saves the wide registers. Many compilers do not know
 * F16C by that name. */
static int has_f16c(void) {
    unsigned eax, ebx, ecx, edx;
    return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}
static int runs_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
static int runs_avx512(void) {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#else
static int runs_avx2(void) { return 0; }
static int runs_avx512(void) { return 0; }
#endif

typedef struct target {
    const char *name;
    int (*runs)(void);
    const fm_kernels *kernels[2]; /* NULL where it was not built */
} target;

#define FM_TARGET(name, architecture, flags) extern const fm_kernels fm_kernels_##name##_f32, fm_kernels_##name##_f64;
#include "targets.def"
#undef FM_TARGET

/* The build defines FM_HAVE_<target> as 1 for every target whose files it compiles, as 0 for all others. */
#define TABLES_1(name) {&fm_kernels_##name##_f32, &fm_kernels_##name##_f64}
#define TABLES_0(name) {NULL, NULL}
#define TABLES_(have, name) TABLES_##have(name)
#define TABLES(have, name) TABLES_(have, name)
#define FM_TARGET(name, architecture, flags) {#name, runs_##name, TABLES(FM_HAVE_##name, name)},
static const target targets[] = {
#include "targets.def"
};
#undef FM_TARGET
enum { N_TARGETS = sizeof targets / sizeof targets[0] };

static int status_of(const target *t) {
    if (!t->kernels[0]) return FM_ISA_NOT_BUILT;
    return t->runs() ? FM_OK : FM_ISA_NOT_SUPPORTED;
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
