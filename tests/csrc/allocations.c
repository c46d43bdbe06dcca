/* Counts allocations inside fm_run, for tests/test_spans.py: linked with engine.c and -Wl,--wrap=fm_run, it makes every
 * run twice, the first time for what OpenMP allocates once, and ends the program if the second one allocates. A program's
 * own malloc takes the place of the C library's in all libraries that it loads, OpenMP's among them.
 *
 * With ALLOCATE in the environment the run allocates, which shows that it would be seen. */
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastmlp.h"

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static atomic_int inside, counted;

static void count(void) {
    if (atomic_load(&inside)) atomic_fetch_add(&counted, 1);
}

void *malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
    count();
    return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size) {
    count();
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
    count();
    *result = __libc_memalign(alignment, size);
    return *result == NULL;
}

int64_t __real_fm_run(const fm_program *program, const fm_call *call);
int64_t __wrap_fm_run(const fm_program *program, const fm_call *call);

int64_t __wrap_fm_run(const fm_program *program, const fm_call *call) {
    const char *allocate = getenv("ALLOCATE");
    __real_fm_run(program, call);
    atomic_store(&inside, 1);
    const int64_t last = __real_fm_run(program, call);
    if (allocate) {
        void *volatile taken = malloc(1); /* volatile, for a compiler leaves out what nobody uses */
        free(taken);
    }
    atomic_store(&inside, 0);
    if (atomic_load(&counted) == 0) return last;
    fprintf(stderr, "%d allocations in a run\n", atomic_load(&counted));
    exit(9);
}
