/* Vector vocabulary for 64-bit ARM: 4 floats or 2 doubles. Meanings: vector.h.
 * v_min and v_max are comparisons, because the instructions treat NaN and signed zeros otherwise. */
#ifndef FM_ISA_NEON_H
#define FM_ISA_NEON_H

#include <arm_neon.h>

#include "real.h"

#define VL ((int)(16 / sizeof(real)))
#define TILE_ROWS 6
#define TILE_BLOCKS 1

typedef ireal ivec __attribute__((vector_size(16)));
typedef ureal uvec __attribute__((vector_size(16)));
typedef uvec mask;

#if FM_REAL_BITS == 32

typedef float32x4_t vec;

static inline vec v_set1(real s) { return vdupq_n_f32(s); }
static inline vec v_load(const real *p) { return vld1q_f32(p); }
static inline void v_store(real *p, vec x) { vst1q_f32(p, x); }
static inline vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec v_fnma(vec a, vec b, vec c) { return vfmsq_f32(c, a, b); }
static inline vec v_sqrt(vec x) { return vsqrtq_f32(x); }
static inline mask v_lt(vec a, vec b) { return (mask)vcltq_f32(a, b); }
static inline mask v_le(vec a, vec b) { return (mask)vcleq_f32(a, b); }
static inline mask v_eq(vec a, vec b) { return (mask)vceqq_f32(a, b); }
static inline vec v_select(mask m, vec if_true, vec if_false) { return vbslq_f32((uint32x4_t)m, if_true, if_false); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return v_select((mask)vcltzq_s32((int32x4_t)s), if_negative, if_positive);
}
static inline real v_sum(vec x) {
    const float32x2_t s = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(s, 0) + vget_lane_f32(s, 1);
}

#else

typedef float64x2_t vec;

static inline vec v_set1(real s) { return vdupq_n_f64(s); }
static inline vec v_load(const real *p) { return vld1q_f64(p); }
static inline void v_store(real *p, vec x) { vst1q_f64(p, x); }
static inline vec v_fma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
static inline vec v_fnma(vec a, vec b, vec c) { return vfmsq_f64(c, a, b); }
static inline vec v_sqrt(vec x) { return vsqrtq_f64(x); }
static inline mask v_lt(vec a, vec b) { return (mask)vcltq_f64(a, b); }
static inline mask v_le(vec a, vec b) { return (mask)vcleq_f64(a, b); }
static inline mask v_eq(vec a, vec b) { return (mask)vceqq_f64(a, b); }
static inline vec v_select(mask m, vec if_true, vec if_false) { return vbslq_f64((uint64x2_t)m, if_true, if_false); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return v_select((mask)vcltzq_s64((int64x2_t)s), if_negative, if_positive);
}
static inline real v_sum(vec x) { return vgetq_lane_f64(x, 0) + vgetq_lane_f64(x, 1); }

#endif

static inline vec v_zero(void) { return v_set1(0); }
static inline vec v_load_n(const real *p, int n) {
    vec x = v_zero();
    for (int i = 0; i < n; i++) x[i] = p[i];
    return x;
}
static inline void v_store_n(real *p, vec x, int n) {
    for (int i = 0; i < n; i++) p[i] = x[i];
}
static inline vec v_keep(mask m, vec x) { return (vec)(m & (uvec)x); }
static inline vec v_product_error(vec a, vec b, vec p) { return v_fma(a, b, -p); }
static inline vec v_min(vec a, vec b) { return v_select(v_lt(a, b), a, b); }
static inline vec v_max(vec a, vec b) { return v_select(v_lt(b, a), a, b); }
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
