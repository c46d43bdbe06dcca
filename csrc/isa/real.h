/* Scalar types of one translation unit: FM_REAL_BITS (32 or 64) chooses the precision. */
#ifndef FM_ISA_REAL_H
#define FM_ISA_REAL_H

#include <stddef.h>
#include <stdint.h>

#if FM_REAL_BITS == 32
typedef float real;
typedef int32_t ireal;
typedef uint32_t ureal;
#define REAL_MANTISSA_BITS 23
#define REAL_EXPONENT_BIAS 127
#elif FM_REAL_BITS == 64
typedef double real;
typedef int64_t ireal;
typedef uint64_t ureal;
#define REAL_MANTISSA_BITS 52
#define REAL_EXPONENT_BIAS 1023
#else
#error "FM_REAL_BITS must be 32 or 64"
#endif

/* Vectors are passed in registers only if every layer is inlined. */
#define INLINE static inline __attribute__((always_inline))

/* Lanes of a block: one cache line, the column width of every stored matrix, whatever the vector width. */
#define BL ((int)(64 / sizeof(real)))

#endif
