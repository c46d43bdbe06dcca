/* pack.c: copies between row-major matrices (what users and files see) and column blocks (what kernels see), and whether
 * all of such memory is finite. */
#include <string.h>

#include "fastmlp.h"

enum { LINE = 64 };

void fm_pack(int bits, const void *rowmajor, int64_t rows, int64_t cols, void *blocks, int64_t block_rows,
             double padding) {
    const int64_t size = bits / 8, block = LINE / size;
    const float narrow = (float)padding;
    const void *unused = bits == 32 ? (const void *)&narrow : (const void *)&padding;
    for (int64_t c = 0; c < cols; c += block) {
        const int64_t used = (cols - c < block ? cols - c : block) * size;
        char *to = (char *)blocks + (c / block) * block_rows * LINE;
        for (int64_t r = 0; r < block_rows; ++r, to += LINE) {
            const int64_t n = r < rows ? used : 0;
            if (n) memcpy(to, (const char *)rowmajor + (r * cols + c) * size, (size_t)n);
            for (int64_t at = n; at < LINE; at += size) memcpy(to + at, unused, (size_t)size);
        }
    }
}

void fm_unpack(int bits, const void *blocks, int64_t rows, int64_t cols, int64_t block_rows, void *rowmajor) {
    const int64_t size = bits / 8, block = LINE / size;
    for (int64_t c = 0; c < cols; c += block) {
        const size_t n = (size_t)((cols - c < block ? cols - c : block) * size);
        const char *from = (const char *)blocks + (c / block) * block_rows * LINE;
        char *to = (char *)rowmajor + c * size;
        for (int64_t r = 0; r < rows; ++r) memcpy(to + r * cols * size, from + r * LINE, n);
    }
}

/* Infinity and NaN have all bits of the exponent. */
#define ALL_FINITE(bits, exponent)                                                                                     \
    static int all_finite_##bits(const char *values, int64_t n) {                                                      \
        uint##bits##_t found = 0, value;                                                                               \
        for (int64_t i = 0; i < n; ++i) {                                                                              \
            memcpy(&value, values + i * (bits / 8), sizeof value);                                                     \
            found |= (value & exponent) == exponent;                                                                   \
        }                                                                                                              \
        return !found;                                                                                                 \
    }
ALL_FINITE(32, UINT32_C(0x7f800000))
ALL_FINITE(64, UINT64_C(0x7ff0000000000000))

int fm_all_finite(int bits, const void *values, int64_t n) {
    return bits == 32 ? all_finite_32(values, n) : all_finite_64(values, n);
}
