/* The part of the vector vocabulary that is the same on every target: plain C on GNU vectors, bit patterns included.
 *
 * Included at the end of a target's header, which has defined vec, mask, VL and the operations that need an instruction
 * of their own:
 *
 *   v_zero()  v_set1(s)  v_load(p)  v_store(p, x)          any alignment
 *   v_load_n(p, n)  v_store_n(p, x, n)                     first n lanes, 0 <= n <= VL; other lanes load as zero, memory
 *                                                          beyond n is neither read nor written
 *   v_fma(a, b, c) = a*b + c    v_fnma(a, b, c) = c - a*b  one rounding (portable: two)
 *   v_product_error(a, b, p) = a*b - p for p = a*b rounded, exactly
 *   v_sqrt(x)
 *   v_min(a, b) = a < b ? a : b    v_max(a, b) = a > b ? a : b
 *                                                          so b is the result when either is NaN, or both are zero: put the
 *                                                          value that may be NaN second to let NaN through
 *   v_lt(a, b)  v_le(a, b)  v_eq(a, b)                     mask; false where either is NaN. Masks combine with & | ~
 *   v_select(m, if_true, if_false)  v_keep(m, x)           v_keep: zero where m is false
 *   v_select_sign(s, if_negative, if_positive)             by the sign bit of s
 *   v_sum(x)  v_largest(x)                                 over the lanes, folded in halves: lane i with lane i + VL/2, …
 *   v_widen_u8(p)  v_widen_i8(p)  v_widen_u16(p)  v_widen_i16(p)
 *                                                          VL integers from anywhere as int_lanes: by V_WIDEN_8 and
 *                                                          V_WIDEN_16, or, where a target lacks them, element by element
 *   v_transpose_block(dst, dst_stride, src, src_stride)    BL x BL tile, strides in elements, dst and src apart
 *   TILE_ROWS  TILE_BLOCKS                                 register tile of the dense kernels: rows x blocks of BL columns
 *
 * + - * / and unary - work on vec directly, also with a scalar on one side. */
#ifndef FM_ISA_VECTOR_H
#define FM_ISA_VECTOR_H

#include <string.h>

/* Vectors in a block. */
#define VPB (BL / VL)

static inline ivec v_bits(vec x) { return (ivec)x; }
static inline vec v_from_bits(ivec i) { return (vec)i; }

#define REAL_SIGN_BIT ((ireal)((ureal)1 << (FM_REAL_BITS - 1)))

static inline vec v_abs(vec x) { return v_from_bits(v_bits(x) & ~REAL_SIGN_BIT); }
/* -|x| */
static inline vec v_negative_abs(vec x) { return v_from_bits(v_bits(x) | REAL_SIGN_BIT); }
/* |magnitude| with the sign of sign. */
static inline vec v_copysign(vec magnitude, vec sign) {
    return v_from_bits((v_bits(magnitude) & ~REAL_SIGN_BIT) | (v_bits(sign) & REAL_SIGN_BIT));
}

/* As many 32-bit integers, and floats, as vec has lanes. */
typedef int32_t int_lanes __attribute__((vector_size(4 * VL)));
typedef uint32_t uint_lanes __attribute__((vector_size(4 * VL)));
typedef float float_lanes __attribute__((vector_size(4 * VL)));

#ifndef V_WIDEN_8
#define WIDEN(name, type)                                                                                              \
    static inline int_lanes v_widen_##name(const void *p) {                                                            \
        type narrow __attribute__((vector_size(sizeof(type) * VL)));                                                   \
        memcpy(&narrow, p, sizeof narrow);                                                                             \
        return __builtin_convertvector(narrow, int_lanes);                                                             \
    }
WIDEN(u8, uint8_t)
WIDEN(i8, int8_t)
WIDEN(u16, uint16_t)
WIDEN(i16, int16_t)
#undef WIDEN
#else
static inline int_lanes v_widen_u8(const void *p) { return (int_lanes)V_WIDEN_8(p, epu8); }
static inline int_lanes v_widen_i8(const void *p) { return (int_lanes)V_WIDEN_8(p, epi8); }
static inline int_lanes v_widen_u16(const void *p) { return (int_lanes)V_WIDEN_16(p, epu16); }
static inline int_lanes v_widen_i16(const void *p) { return (int_lanes)V_WIDEN_16(p, epi16); }
#endif

/* Adding V_POW2_MAGIC rounds a small x to the integer n nearest (ties to even) and leaves n + bias in the lowest bits, where
 * one shift turns it into 2^n:
 *     t = x + V_POW2_MAGIC;  n = t - V_POW2_MAGIC;  v_pow2_shifted(t) = 2^n
 * for -bias <= n <= bias + 1; the ends give 0 and infinity. A NaN gives some number, so multiply it by what is NaN too. */
#define V_POW2_MAGIC ((real)(((ureal)3 << (REAL_MANTISSA_BITS - 1)) + REAL_EXPONENT_BIAS))
static inline vec v_pow2_shifted(vec t) { return v_from_bits((ivec)((uvec)t << REAL_MANTISSA_BITS)); }
/* 2^n for integral n, -bias <= n <= bias + 1. */
static inline vec v_pow2(vec n) { return v_pow2_shifted(n + V_POW2_MAGIC); }

#endif
