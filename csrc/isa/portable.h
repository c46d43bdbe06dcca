/* Vector vocabulary in plain C on 16-byte GNU vectors, for any CPU: 4 floats or 2 doubles. Meanings: vector.h.
 * v_fma rounds twice, so results may differ from the other targets in the last bits. */
#ifndef FM_ISA_PORTABLE_H
#define FM_ISA_PORTABLE_H

#include <string.h>

#include "real.h"

#define VL ((int)(16 / sizeof(real)))
#define TILE_ROWS 2
#define TILE_BLOCKS 1

typedef real vec __attribute__((vector_size(16)));
typedef ireal ivec __attribute__((vector_size(16)));
typedef ureal uvec __attribute__((vector_size(16)));
typedef ivec mask;

static inline vec v_zero(void) { return (vec){0}; }
static inline vec v_set1(real s) { return s - (vec){0}; }
static inline vec v_load(const real *p) {
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void v_store(real *p, vec x) { memcpy(p, &x, sizeof x); }
static inline vec v_load_n(const real *p, int n) {
    vec x = {0};
    for (int i = 0; i < n; i++) x[i] = p[i];
    return x;
}
static inline void v_store_n(real *p, vec x, int n) {
    for (int i = 0; i < n; i++) p[i] = x[i];
}
static inline vec v_fma(vec a, vec b, vec c) { return a * b + c; }
static inline vec v_fnma(vec a, vec b, vec c) { return c - a * b; }
/* T. J. Dekker, A floating-point technique for extending the available precision (1971): halves multiply exactly. */
static inline vec v_product_error(vec a, vec b, vec p) {
    const real split = (real)((ureal)1 << (REAL_MANTISSA_BITS + 2) / 2) + 1;
    const vec a_high = split * a - (split * a - a), b_high = split * b - (split * b - b);
    const vec a_low = a - a_high, b_low = b - b_high;
    return a_high * b_high - p + a_high * b_low + a_low * b_high + a_low * b_low;
}
static inline vec v_sqrt(vec x) {
    for (int i = 0; i < VL; i++) x[i] = FM_REAL_BITS == 32 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
    return x;
}
static inline mask v_lt(vec a, vec b) { return a < b; }
static inline mask v_le(vec a, vec b) { return a <= b; }
static inline mask v_eq(vec a, vec b) { return a == b; }
static inline vec v_select(mask m, vec if_true, vec if_false) {
    return (vec)((m & (ivec)if_true) | (~m & (ivec)if_false));
}
static inline vec v_keep(mask m, vec x) { return (vec)(m & (ivec)x); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return v_select((ivec)s < 0, if_negative, if_positive);
}
static inline vec v_min(vec a, vec b) { return v_select(a < b, a, b); }
static inline vec v_max(vec a, vec b) { return v_select(a > b, a, b); }

static inline real v_sum(vec x) {
    for (int half = VL / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) x[i] += x[i + half];
    }
    return x[0];
}
static inline real v_largest(vec x) {
    for (int half = VL / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) x[i] = x[i] > x[i + half] ? x[i] : x[i + half];
    }
    return x[0];
}

static inline void v_transpose_block(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    for (int i = 0; i < BL; i++) {
        for (int j = 0; j < BL; j++) dst[j * dst_stride + i] = src[i * src_stride + j];
    }
}

#include "vector.h"

#endif
