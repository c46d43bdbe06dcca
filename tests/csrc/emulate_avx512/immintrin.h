/* immintrin.h in front of the compiler's own: the AVX-512 intrinsics that csrc/isa/avx512.h uses, made of AVX2 ones.
 *
 * Every operation is done on the two 256-bit halves of a register by the AVX2 instruction of the same meaning, so results
 * have the bits that AVX-512 gives. With this folder first on the include path, the AVX-512 target compiles with the flags
 * of AVX2 and runs on a CPU without AVX-512. For tests only. */
#ifndef FM_EMULATE_AVX512_IMMINTRIN_H
#define FM_EMULATE_AVX512_IMMINTRIN_H

#include_next <immintrin.h>

#include <string.h>

#if defined(__AVX512F__)
#error "emulation is for compilers that have AVX-512 switched off"
#endif

#define EMULATED static inline __attribute__((always_inline))

typedef union {
    __m512 whole;
    __m256 half[2];
} emulated_ps;

typedef union {
    __m512d whole;
    __m256d half[2];
} emulated_pd;

/* zmm = f(zmm), f(zmm, zmm) and f(zmm, zmm, zmm), half by half. */
#define EMULATE_1(name, s, type)                                                                                       \
    EMULATED type emulated_##name##_##s(type a) {                                                                      \
        emulated_##s x = {a}, r;                                                                                       \
        for (int i = 0; i < 2; i++) r.half[i] = _mm256_##name##_##s(x.half[i]);                                        \
        return r.whole;                                                                                                \
    }
#define EMULATE_2(name, s, type)                                                                                       \
    EMULATED type emulated_##name##_##s(type a, type b) {                                                              \
        emulated_##s x = {a}, y = {b}, r;                                                                              \
        for (int i = 0; i < 2; i++) r.half[i] = _mm256_##name##_##s(x.half[i], y.half[i]);                             \
        return r.whole;                                                                                                \
    }
#define EMULATE_3(name, s, type)                                                                                       \
    EMULATED type emulated_##name##_##s(type a, type b, type c) {                                                      \
        emulated_##s x = {a}, y = {b}, z = {c}, r;                                                                     \
        for (int i = 0; i < 2; i++) r.half[i] = _mm256_##name##_##s(x.half[i], y.half[i], z.half[i]);                  \
        return r.whole;                                                                                                \
    }
#define EMULATE_BOTH(what, name) what(name, ps, __m512) what(name, pd, __m512d)
EMULATE_BOTH(EMULATE_1, sqrt)
EMULATE_BOTH(EMULATE_2, min)
EMULATE_BOTH(EMULATE_2, max)
EMULATE_BOTH(EMULATE_2, unpacklo)
EMULATE_BOTH(EMULATE_2, unpackhi)
EMULATE_BOTH(EMULATE_3, fmadd)
EMULATE_BOTH(EMULATE_3, fnmadd)

/* What has lanes, masks or memory: type, lanes, element, mask. */
#define EMULATE_LANES(s, type, lanes, element, maskn)                                                                  \
    EMULATED type emulated_set1_##s(element a) {                                                                       \
        emulated_##s r;                                                                                                \
        for (int i = 0; i < 2; i++) r.half[i] = _mm256_set1_##s(a);                                                    \
        return r.whole;                                                                                                \
    }                                                                                                                  \
    EMULATED type emulated_loadu_##s(const void *p) {                                                                  \
        type r;                                                                                                        \
        memcpy(&r, p, sizeof r);                                                                                       \
        return r;                                                                                                      \
    }                                                                                                                  \
    EMULATED void emulated_storeu_##s(void *p, type a) { memcpy(p, &a, sizeof a); }                                    \
    EMULATED type emulated_maskz_loadu_##s(maskn m, const void *p) {                                                   \
        type r = {0};                                                                                                  \
        for (int i = 0; i < lanes; i++)                                                                                \
            if (m >> i & 1) r[i] = ((const element *)p)[i];                                                            \
        return r;                                                                                                      \
    }                                                                                                                  \
    EMULATED void emulated_mask_storeu_##s(void *p, maskn m, type a) {                                                 \
        for (int i = 0; i < lanes; i++)                                                                                \
            if (m >> i & 1) ((element *)p)[i] = a[i];                                                                  \
    }                                                                                                                  \
    EMULATED maskn emulated_sign_mask_##s(type a) {                                                                    \
        emulated_##s x = {a};                                                                                          \
        return (maskn)(_mm256_movemask_##s(x.half[0]) | _mm256_movemask_##s(x.half[1]) << (lanes / 2));                \
    }                                                                                                                  \
    EMULATED type emulated_mask_blend_##s(maskn m, type if_clear, type if_set) {                                       \
        for (int i = 0; i < lanes; i++) if_clear[i] = m >> i & 1 ? if_set[i] : if_clear[i];                            \
        return if_clear;                                                                                               \
    }                                                                                                                  \
    EMULATED type emulated_maskz_mov_##s(maskn m, type a) { return emulated_mask_blend_##s(m, (type){0}, a); }
EMULATE_LANES(ps, __m512, 16, float, __mmask16)
EMULATE_LANES(pd, __m512d, 8, double, __mmask8)

/* Predicates and selectors have to be constants where the instruction is made, so these are macros. */
#define EMULATED_COMPARE(s, maskn, lanes, a, b, predicate)                                                             \
    ({                                                                                                                 \
        const emulated_##s x_ = {a}, y_ = {b};                                                                         \
        const int low_ = _mm256_movemask_##s(_mm256_cmp_##s(x_.half[0], y_.half[0], predicate));                       \
        const int high_ = _mm256_movemask_##s(_mm256_cmp_##s(x_.half[1], y_.half[1], predicate));                      \
        (maskn)(low_ | high_ << (lanes) / 2);                                                                          \
    })
#define EMULATED_SHUFFLE_PS(a, b, selector)                                                                            \
    ({                                                                                                                 \
        const emulated_ps x_ = {a}, y_ = {b};                                                                          \
        emulated_ps r_;                                                                                                \
        for (int i_ = 0; i_ < 2; i_++) r_.half[i_] = _mm256_shuffle_ps(x_.half[i_], y_.half[i_], selector);            \
        r_.whole;                                                                                                      \
    })

/* 128-bit lanes: two of a, then two of b. */
EMULATED __m512d emulated_shuffle_lanes(__m512d a, __m512d b, int selector) {
    __m512d r;
    for (int i = 0; i < 4; i++) {
        const int lane = selector >> 2 * i & 3;
        for (int j = 0; j < 2; j++) r[2 * i + j] = i < 2 ? a[2 * lane + j] : b[2 * lane + j];
    }
    return r;
}
EMULATED __m256 emulated_half_ps(__m512 a, int i) { return ((emulated_ps){a}).half[i]; }
EMULATED __m256d emulated_half_pd(__m512d a, int i) { return ((emulated_pd){a}).half[i]; }

/* Sixteen integers of 8 or 16 bits, in an xmm or a ymm, to 32 bits. */
#define EMULATE_WIDEN(from)                                                                                            \
    EMULATED __m512i emulated_widen_8_##from(__m128i a) {                                                              \
        const __m256i halves[2] = {_mm256_cvt##from##8_epi32(a), _mm256_cvt##from##8_epi32(_mm_srli_si128(a, 8))};     \
        __m512i r;                                                                                                     \
        memcpy(&r, halves, sizeof r);                                                                                  \
        return r;                                                                                                      \
    }                                                                                                                  \
    EMULATED __m512i emulated_widen_16_##from(__m256i a) {                                                             \
        const __m256i halves[2] = {_mm256_cvt##from##16_epi32(_mm256_castsi256_si128(a)),                              \
                                   _mm256_cvt##from##16_epi32(_mm256_extracti128_si256(a, 1))};                        \
        __m512i r;                                                                                                     \
        memcpy(&r, halves, sizeof r);                                                                                  \
        return r;                                                                                                      \
    }
EMULATE_WIDEN(epu)
EMULATE_WIDEN(epi)

#define _mm512_setzero_ps() ((__m512){0})
#define _mm512_setzero_pd() ((__m512d){0})
#define _mm512_set1_ps emulated_set1_ps
#define _mm512_set1_pd emulated_set1_pd
#define _mm512_loadu_ps emulated_loadu_ps
#define _mm512_loadu_pd emulated_loadu_pd
#define _mm512_storeu_ps emulated_storeu_ps
#define _mm512_storeu_pd emulated_storeu_pd
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_maskz_loadu_pd emulated_maskz_loadu_pd
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
#define _mm512_mask_storeu_pd emulated_mask_storeu_pd
#define _mm512_fmadd_ps emulated_fmadd_ps
#define _mm512_fmadd_pd emulated_fmadd_pd
#define _mm512_fnmadd_ps emulated_fnmadd_ps
#define _mm512_fnmadd_pd emulated_fnmadd_pd
#define _mm512_sqrt_ps emulated_sqrt_ps
#define _mm512_sqrt_pd emulated_sqrt_pd
#define _mm512_min_ps emulated_min_ps
#define _mm512_min_pd emulated_min_pd
#define _mm512_max_ps emulated_max_ps
#define _mm512_max_pd emulated_max_pd
#undef _mm512_cmp_ps_mask
#undef _mm512_cmp_pd_mask
#define _mm512_cmp_ps_mask(a, b, predicate) EMULATED_COMPARE(ps, __mmask16, 16, a, b, predicate)
#define _mm512_cmp_pd_mask(a, b, predicate) EMULATED_COMPARE(pd, __mmask8, 8, a, b, predicate)
#define _mm512_mask_blend_ps emulated_mask_blend_ps
#define _mm512_mask_blend_pd emulated_mask_blend_pd
#define _mm512_maskz_mov_ps emulated_maskz_mov_ps
#define _mm512_maskz_mov_pd emulated_maskz_mov_pd
#define _mm512_movepi32_mask(a) emulated_sign_mask_ps((__m512)(a))
#define _mm512_movepi64_mask(a) emulated_sign_mask_pd((__m512d)(a))
#define _mm512_castps512_ps256(a) emulated_half_ps(a, 0)
#define _mm512_castpd512_pd256(a) emulated_half_pd(a, 0)
#undef _mm512_extractf32x8_ps
#undef _mm512_extractf64x4_pd
#define _mm512_extractf32x8_ps emulated_half_ps
#define _mm512_extractf64x4_pd emulated_half_pd
#define _mm512_unpacklo_ps emulated_unpacklo_ps
#define _mm512_unpacklo_pd emulated_unpacklo_pd
#define _mm512_unpackhi_ps emulated_unpackhi_ps
#define _mm512_unpackhi_pd emulated_unpackhi_pd
#undef _mm512_shuffle_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_f64x2
#define _mm512_shuffle_ps EMULATED_SHUFFLE_PS
#define _mm512_shuffle_f32x4(a, b, selector) ((__m512)emulated_shuffle_lanes((__m512d)(a), (__m512d)(b), selector))
#define _mm512_shuffle_f64x2 emulated_shuffle_lanes
#define _mm512_cvtepu8_epi32 emulated_widen_8_epu
#define _mm512_cvtepi8_epi32 emulated_widen_8_epi
#define _mm512_cvtepu16_epi32 emulated_widen_16_epu
#define _mm512_cvtepi16_epi32 emulated_widen_16_epi

#endif
