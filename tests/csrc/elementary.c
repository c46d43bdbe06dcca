/* elementary.c: the vector functions of one target and precision as a filter, for tests/test_elementary.py.
 *
 *   elementary FUNCTION [ALPHA] < numbers > results
 *
 * FUNCTION is one of exp, exp_nonpositive, …; or forward:NAME or backward:NAME of an activation; or transpose, which turns
 * rows of BL + 1 numbers into rows of BL + 3, padding left alone; or lanes, which gives, for n = 0 … VL, a row of sum,
 * largest, a vector of n numbers loaded, and a row of sevens into which they were stored; or names, which lists the
 * activations. A leading "flush:" switches subnormal numbers off, as threads of the engine do.
 * Compile with -DFM_REAL_BITS=32|64 -DTARGET_HEADER='"isa/<isa>.h"' and csrc on the include path. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include TARGET_HEADER

#include "kernels/table.h"

#include "kernels/elementary.inc"

#include "kernels/activations.inc"

#define FUNCTIONS(X) X(exp) X(exp_nonpositive) X(tanh) X(sigmoid) X(log) X(log1p) X(softplus)

#define OVER_ARRAY(name)                                                                                               \
    static void over_##name(real *y, const real *x, size_t n) {                                                        \
        for (size_t i = 0; i < n; i += (size_t)VL) v_store(y + i, v_##name(v_load(x + i)));                            \
    }
FUNCTIONS(OVER_ARRAY)

#define ROW(name) {#name, over_##name},
static const struct {
    const char *name;
    void (*call)(real *, const real *, size_t);
} functions[] = {FUNCTIONS(ROW)};

static const fm_activation *find_activation(const char *name) {
    for (const fm_activation *row = fm_activations; row->name; row++) {
        if (strcmp(name, row->name) == 0) return row;
    }
    fprintf(stderr, "no activation %s\n", name);
    exit(1);
}

static void switch_subnormals_off(void) {
#if defined(__SSE__)
    __builtin_ia32_ldmxcsr(__builtin_ia32_stmxcsr() | 0x8040);
#elif defined(__aarch64__)
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (uint64_t)1 << 24));
#endif
}

/* All of stdin, followed by a block of ones, so that loops over whole vectors stay inside. */
static real *read_numbers(size_t *n) {
    size_t capacity = 1 << 16, used = 0, got;
    char *data = malloc(capacity);
    while (data && (got = fread(data + used, 1, capacity - used - 64, stdin)) > 0) {
        used += got;
        if (capacity - used < capacity / 2) data = realloc(data, capacity *= 2);
    }
    if (!data) exit(1);
    *n = used / sizeof(real);
    for (int i = 0; i < BL; i++) ((real *)data)[*n + i] = 1;
    return (real *)data;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    const double alpha = argc > 2 ? atof(argv[2]) : 0;
    if (strcmp(what, "names") == 0) {
        for (const fm_activation *row = fm_activations; row->name; row++) printf("%s %d\n", row->name, row->from_input);
        return 0;
    }
    const int flush = strncmp(what, "flush:", 6) == 0;
    if (flush) what += 6;
    size_t n;
    real *x = read_numbers(&n);
    const size_t whole = (n + BL - 1) / BL * BL;
    real *y = calloc(whole + (BL + 3) * BL, sizeof(real));
    if (!y) return 1;
    if (flush) switch_subnormals_off();
    if (strncmp(what, "forward:", 8) == 0) {
        /* In place, as the engine may do it. */
        find_activation(what + 8)->forward(x, x, whole, alpha);
        memcpy(y, x, n * sizeof(real));
    } else if (strncmp(what, "backward:", 9) == 0) {
        for (size_t i = 0; i < whole; i++) y[i] = 2;
        find_activation(what + 9)->backward(y, x, whole, alpha);
    } else if (strcmp(what, "transpose") == 0) {
        v_transpose_block(y, BL + 3, x, BL + 1);
        n = (BL + 3) * BL;
    } else if (strcmp(what, "lanes") == 0) {
        const size_t width = 2 + VL + 2 * BL;
        free(y);
        n = (VL + 1) * width;
        y = malloc(n * sizeof(real));
        if (!y) return 1;
        for (int k = 0; k <= VL; k++) {
            real *row = y + (size_t)k * width;
            const vec part = v_load_n(x + k, k);
            row[0] = v_sum(part);
            row[1] = v_largest(part);
            v_store(row + 2, part);
            for (int i = 0; i < 2 * BL; i++) row[2 + VL + i] = 7;
            v_store_n(row + 2 + VL + 1, part, k);
        }
    } else {
        size_t i = 0;
        while (i < sizeof functions / sizeof *functions && strcmp(what, functions[i].name)) i++;
        if (i == sizeof functions / sizeof *functions) {
            fprintf(stderr, "no function %s\n", what);
            return 1;
        }
        functions[i].call(y, x, whole);
    }
    const int done = fwrite(y, sizeof(real), n, stdout) == n;
    free(x);
    free(y);
    return !done;
}
