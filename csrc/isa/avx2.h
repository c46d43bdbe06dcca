/* Vector vocabulary for AVX2 with fma: 8 floats or 4 doubles. Meanings: vector.h. */
#ifndef FM_ISA_AVX2_H
#define FM_ISA_AVX2_H

#include <immintrin.h>

#include "real.h"

#define VL ((int)(32 / sizeof(real)))
#define TILE_ROWS 6
#define TILE_BLOCKS 1

typedef ireal ivec __attribute__((vector_size(32)));
typedef ureal uvec __attribute__((vector_size(32)));
typedef ivec mask;

#if FM_REAL_BITS == 32

typedef __m256 vec;

#define V_WIDEN_8(p, type) _mm256_cvt##type##_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define V_WIDEN_16(p, type) _mm256_cvt##type##_epi32(_mm_loadu_si128((const __m128i *)(p)))

static inline vec v_zero(void) { return _mm256_setzero_ps(); }
static inline vec v_set1(real s) { return _mm256_set1_ps(s); }
static inline vec v_load(const real *p) { return _mm256_loadu_ps(p); }
static inline void v_store(real *p, vec x) { _mm256_storeu_ps(p, x); }
static inline __m256i v_first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec v_load_n(const real *p, int n) { return _mm256_maskload_ps(p, v_first_lanes(n)); }
static inline void v_store_n(real *p, vec x, int n) { _mm256_maskstore_ps(p, v_first_lanes(n), x); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_ps(a, b, c); }
static inline vec v_sqrt(vec x) { return _mm256_sqrt_ps(x); }
static inline vec v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vec v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline mask v_lt(vec a, vec b) { return (mask)_mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline mask v_le(vec a, vec b) { return (mask)_mm256_cmp_ps(a, b, _CMP_LE_OQ); }
static inline mask v_eq(vec a, vec b) { return (mask)_mm256_cmp_ps(a, b, _CMP_EQ_OQ); }
static inline vec v_select(mask m, vec if_true, vec if_false) { return _mm256_blendv_ps(if_false, if_true, (vec)m); }
static inline vec v_keep(mask m, vec x) { return (vec)(m & (ivec)x); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return _mm256_blendv_ps(if_positive, if_negative, s);
}

static inline real v_sum(vec x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline real v_largest(vec x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* 8 x 8: both 4 x 8 halves of a column pair meet in one register by load and insert, so that two rounds of shuffles do. */
static inline void v_transpose_8x8(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    for (int half = 0; half < 2; half++) {
        const real *s = src + 4 * half;
        real *d = dst + 4 * half * dst_stride;
        __m256 row[4];
        for (int i = 0; i < 4; i++) {
            row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(s + i * src_stride)),
                                          _mm_loadu_ps(s + (i + 4) * src_stride), 1);
        }
        const __m256 a = _mm256_unpacklo_ps(row[0], row[1]), b = _mm256_unpackhi_ps(row[0], row[1]);
        const __m256 c = _mm256_unpacklo_ps(row[2], row[3]), e = _mm256_unpackhi_ps(row[2], row[3]);
        v_store(d, _mm256_shuffle_ps(a, c, 0x44));
        v_store(d + dst_stride, _mm256_shuffle_ps(a, c, 0xee));
        v_store(d + 2 * dst_stride, _mm256_shuffle_ps(b, e, 0x44));
        v_store(d + 3 * dst_stride, _mm256_shuffle_ps(b, e, 0xee));
    }
}
static inline void v_transpose_block(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    v_transpose_8x8(dst, dst_stride, src, src_stride);
    v_transpose_8x8(dst + 8, dst_stride, src + 8 * src_stride, src_stride);
    v_transpose_8x8(dst + 8 * dst_stride, dst_stride, src + 8, src_stride);
    v_transpose_8x8(dst + 8 * dst_stride + 8, dst_stride, src + 8 * src_stride + 8, src_stride);
}

#else

typedef __m256d vec;

#define V_WIDEN_8(p, type) _mm_cvt##type##_epi32(_mm_loadu_si32(p))
#define V_WIDEN_16(p, type) _mm_cvt##type##_epi32(_mm_loadl_epi64((const __m128i *)(p)))

static inline vec v_zero(void) { return _mm256_setzero_pd(); }
static inline vec v_set1(real s) { return _mm256_set1_pd(s); }
static inline vec v_load(const real *p) { return _mm256_loadu_pd(p); }
static inline void v_store(real *p, vec x) { _mm256_storeu_pd(p, x); }
static inline __m256i v_first_lanes(int n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline vec v_load_n(const real *p, int n) { return _mm256_maskload_pd(p, v_first_lanes(n)); }
static inline void v_store_n(real *p, vec x, int n) { _mm256_maskstore_pd(p, v_first_lanes(n), x); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm256_fmadd_pd(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm256_fnmadd_pd(a, b, c); }
static inline vec v_sqrt(vec x) { return _mm256_sqrt_pd(x); }
static inline vec v_min(vec a, vec b) { return _mm256_min_pd(a, b); }
static inline vec v_max(vec a, vec b) { return _mm256_max_pd(a, b); }
static inline mask v_lt(vec a, vec b) { return (mask)_mm256_cmp_pd(a, b, _CMP_LT_OQ); }
static inline mask v_le(vec a, vec b) { return (mask)_mm256_cmp_pd(a, b, _CMP_LE_OQ); }
static inline mask v_eq(vec a, vec b) { return (mask)_mm256_cmp_pd(a, b, _CMP_EQ_OQ); }
static inline vec v_select(mask m, vec if_true, vec if_false) { return _mm256_blendv_pd(if_false, if_true, (vec)m); }
static inline vec v_keep(mask m, vec x) { return (vec)(m & (ivec)x); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return _mm256_blendv_pd(if_positive, if_negative, s);
}

static inline real v_sum(vec x) {
    __m128d s = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
static inline real v_largest(vec x) {
    __m128d s = _mm_max_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
    return _mm_cvtsd_f64(_mm_max_sd(s, _mm_unpackhi_pd(s, s)));
}

static inline void v_transpose_4x4(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    for (int half = 0; half < 2; half++) {
        const real *s = src + 2 * half;
        real *d = dst + 2 * half * dst_stride;
        __m256d row[2];
        for (int i = 0; i < 2; i++) {
            row[i] = _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(s + i * src_stride)),
                                          _mm_loadu_pd(s + (i + 2) * src_stride), 1);
        }
        v_store(d, _mm256_unpacklo_pd(row[0], row[1]));
        v_store(d + dst_stride, _mm256_unpackhi_pd(row[0], row[1]));
    }
}
static inline void v_transpose_block(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    v_transpose_4x4(dst, dst_stride, src, src_stride);
    v_transpose_4x4(dst + 4, dst_stride, src + 4 * src_stride, src_stride);
    v_transpose_4x4(dst + 4 * dst_stride, dst_stride, src + 4, src_stride);
    v_transpose_4x4(dst + 4 * dst_stride + 4, dst_stride, src + 4 * src_stride + 4, src_stride);
}

#endif

static inline vec v_product_error(vec a, vec b, vec p) { return v_fma(a, b, -p); }

#include "vector.h"

#endif
