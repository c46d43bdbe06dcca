/* pack.c: copies between row-major matrices (what users and files see) and column blocks (what kernels see). */
#include <string.h>

#include "fastmlp.h"

enum { LINE = 64 };

void fm_pack(int bits, const void *rowmajor, int64_t rows, int64_t cols, void *blocks, int64_t block_rows) {
    const int64_t size = bits / 8, block = LINE / size;
    for (int64_t c = 0; c < cols; c += block) {
        const size_t n = (size_t)((cols - c < block ? cols - c : block) * size);
        const char *from = (const char *)rowmajor + c * size;
        char *to = (char *)blocks + (c / block) * block_rows * LINE;
        for (int64_t r = 0; r < rows; ++r) memcpy(to + r * LINE, from + r * cols * size, n);
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
