/* Vector vocabulary for AVX-512 (F, DQ, BW, VL): 16 floats or 8 doubles. Meanings: vector.h.
 * Every operation rounds as its AVX2 counterpart, so that both targets give the same bits. */
#ifndef FM_ISA_AVX512_H
#define FM_ISA_AVX512_H

#include <immintrin.h>

#include "real.h"

#define VL ((int)(64 / sizeof(real)))
#define TILE_ROWS 14
#define TILE_BLOCKS 2

typedef ireal ivec __attribute__((vector_size(64)));
typedef ureal uvec __attribute__((vector_size(64)));

#if FM_REAL_BITS == 32

typedef __m512 vec;

#define V_WIDEN_8(p, type) _mm512_cvt##type##_epi32(_mm_loadu_si128((const __m128i *)(p)))
#define V_WIDEN_16(p, type) _mm512_cvt##type##_epi32(_mm256_loadu_si256((const __m256i *)(p)))
typedef __mmask16 mask;

static inline vec v_zero(void) { return _mm512_setzero_ps(); }
static inline vec v_set1(real s) { return _mm512_set1_ps(s); }
static inline vec v_load(const real *p) { return _mm512_loadu_ps(p); }
static inline void v_store(real *p, vec x) { _mm512_storeu_ps(p, x); }
static inline mask v_first_lanes(int n) { return (mask)((1u << n) - 1); }
static inline vec v_load_n(const real *p, int n) { return _mm512_maskz_loadu_ps(v_first_lanes(n), p); }
static inline void v_store_n(real *p, vec x, int n) { _mm512_mask_storeu_ps(p, v_first_lanes(n), x); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_ps(a, b, c); }
static inline vec v_sqrt(vec x) { return _mm512_sqrt_ps(x); }
static inline vec v_min(vec a, vec b) { return _mm512_min_ps(a, b); }
static inline vec v_max(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline mask v_lt(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline mask v_le(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline mask v_eq(vec a, vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline vec v_select(mask m, vec if_true, vec if_false) { return _mm512_mask_blend_ps(m, if_false, if_true); }
static inline vec v_keep(mask m, vec x) { return _mm512_maskz_mov_ps(m, x); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return v_select(_mm512_movepi32_mask((__m512i)s), if_negative, if_positive);
}

static inline real v_sum(vec x) {
    const __m256 y = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline real v_largest(vec x) {
    const __m256 y = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* Four rounds of two-register shuffles: pairs of rows, then of pairs, then 128-bit lanes at distance 4 and 8. */
static inline void v_transpose_block(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    __m512 a[16], b[16];
    for (int i = 0; i < 16; i++) a[i] = v_load(src + i * src_stride);
    for (int i = 0; i < 16; i += 2) {
        b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
    }
    /* a[4q + c]: column c of every 128-bit lane, rows 4q … 4q + 3. */
    for (int i = 0; i < 16; i += 4) {
        a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
        a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
        a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
        a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
    }
    for (int c = 0; c < 4; c++) {
        const __m512 low01 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0x44),
                     high01 = _mm512_shuffle_f32x4(a[c], a[4 + c], 0xee);
        const __m512 low23 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x44),
                     high23 = _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xee);
        v_store(dst + c * dst_stride, _mm512_shuffle_f32x4(low01, low23, 0x88));
        v_store(dst + (c + 4) * dst_stride, _mm512_shuffle_f32x4(low01, low23, 0xdd));
        v_store(dst + (c + 8) * dst_stride, _mm512_shuffle_f32x4(high01, high23, 0x88));
        v_store(dst + (c + 12) * dst_stride, _mm512_shuffle_f32x4(high01, high23, 0xdd));
    }
}

#else

typedef __m512d vec;

#define V_WIDEN_8(p, type) _mm256_cvt##type##_epi32(_mm_loadl_epi64((const __m128i *)(p)))
#define V_WIDEN_16(p, type) _mm256_cvt##type##_epi32(_mm_loadu_si128((const __m128i *)(p)))
typedef __mmask8 mask;

static inline vec v_zero(void) { return _mm512_setzero_pd(); }
static inline vec v_set1(real s) { return _mm512_set1_pd(s); }
static inline vec v_load(const real *p) { return _mm512_loadu_pd(p); }
static inline void v_store(real *p, vec x) { _mm512_storeu_pd(p, x); }
static inline mask v_first_lanes(int n) { return (mask)((1u << n) - 1); }
static inline vec v_load_n(const real *p, int n) { return _mm512_maskz_loadu_pd(v_first_lanes(n), p); }
static inline void v_store_n(real *p, vec x, int n) { _mm512_mask_storeu_pd(p, v_first_lanes(n), x); }
static inline vec v_fma(vec a, vec b, vec c) { return _mm512_fmadd_pd(a, b, c); }
static inline vec v_fnma(vec a, vec b, vec c) { return _mm512_fnmadd_pd(a, b, c); }
static inline vec v_sqrt(vec x) { return _mm512_sqrt_pd(x); }
static inline vec v_min(vec a, vec b) { return _mm512_min_pd(a, b); }
static inline vec v_max(vec a, vec b) { return _mm512_max_pd(a, b); }
static inline mask v_lt(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
static inline mask v_le(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
static inline mask v_eq(vec a, vec b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
static inline vec v_select(mask m, vec if_true, vec if_false) { return _mm512_mask_blend_pd(m, if_false, if_true); }
static inline vec v_keep(mask m, vec x) { return _mm512_maskz_mov_pd(m, x); }
static inline vec v_select_sign(vec s, vec if_negative, vec if_positive) {
    return v_select(_mm512_movepi64_mask((__m512i)s), if_negative, if_positive);
}

static inline real v_sum(vec x) {
    const __m256d y = _mm256_add_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}
static inline real v_largest(vec x) {
    const __m256d y = _mm256_max_pd(_mm512_castpd512_pd256(x), _mm512_extractf64x4_pd(x, 1));
    const __m128d s = _mm_max_pd(_mm256_castpd256_pd128(y), _mm256_extractf128_pd(y, 1));
    return _mm_cvtsd_f64(_mm_max_sd(s, _mm_unpackhi_pd(s, s)));
}

/* Three rounds: pairs of rows, then 128-bit lanes at distance 2 and 4. */
static inline void v_transpose_block(real *dst, size_t dst_stride, const real *src, size_t src_stride) {
    __m512d a[8];
    for (int i = 0; i < 8; i += 2) {
        const __m512d even = v_load(src + i * src_stride), odd = v_load(src + (i + 1) * src_stride);
        a[i] = _mm512_unpacklo_pd(even, odd);
        a[i + 1] = _mm512_unpackhi_pd(even, odd);
    }
    for (int c = 0; c < 2; c++) {
        const __m512d low01 = _mm512_shuffle_f64x2(a[c], a[2 + c], 0x44),
                      high01 = _mm512_shuffle_f64x2(a[c], a[2 + c], 0xee);
        const __m512d low23 = _mm512_shuffle_f64x2(a[4 + c], a[6 + c], 0x44),
                      high23 = _mm512_shuffle_f64x2(a[4 + c], a[6 + c], 0xee);
        v_store(dst + c * dst_stride, _mm512_shuffle_f64x2(low01, low23, 0x88));
        v_store(dst + (c + 2) * dst_stride, _mm512_shuffle_f64x2(low01, low23, 0xdd));
        v_store(dst + (c + 4) * dst_stride, _mm512_shuffle_f64x2(high01, high23, 0x88));
        v_store(dst + (c + 6) * dst_stride, _mm512_shuffle_f64x2(high01, high23, 0xdd));
    }
}

#endif

static inline vec v_product_error(vec a, vec b, vec p) { return v_fma(a, b, -p); }

#include "vector.h"

#endif
