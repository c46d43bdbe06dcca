/* shuffle.c: the permutation of an epoch, keyed on (seed, epoch).
 *
 * Fisher-Yates from the last place down, on SplitMix64 with bounded draws by multiplication (Lemire: Fast random integer
 * generation in an interval, ACM TOMACS 2019, without the rejection: the bias is below n / 2^32 of a place for 32 bits,
 * n / 2^64 for 64).
 */
#include "fastmlp.h"
#include "mix.h"

void fm_shuffle32(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *out) {
    uint64_t state = fm_mix_start(seed, epoch);
    for (uint32_t i = 0; i < n; ++i) out[i] = i;
    for (uint32_t i = n; i > 1; --i) {
        const uint64_t draw = fm_mix(state += FM_GOLDEN) >> 32;
        const uint32_t j = (uint32_t)((draw * i) >> 32), last = out[i - 1];
        out[i - 1] = out[j];
        out[j] = last;
    }
}

void fm_shuffle64(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t *out) {
    uint64_t state = fm_mix_start(seed, epoch);
    for (uint64_t i = 0; i < n; ++i) out[i] = i;
    for (uint64_t i = n; i > 1; --i) {
        const uint64_t j = (uint64_t)(((unsigned __int128)fm_mix(state += FM_GOLDEN) * i) >> 64), last = out[i - 1];
        out[i - 1] = out[j];
        out[j] = last;
    }
}
