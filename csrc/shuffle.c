/* shuffle.c: the permutation of an epoch, keyed on (seed, epoch).
 *
 * Fisher-Yates from the last place down, on SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number
 * generators, OOPSLA 2014) with bounded draws by multiplication (Lemire: Fast random integer generation in an interval,
 * ACM TOMACS 2019, without the rejection: the bias is below n / 2^32 of a place for 32 bits, n / 2^64 for 64).
 */
#include "fastmlp.h"

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static const uint64_t golden = UINT64_C(0x9e3779b97f4a7c15);

static uint64_t start_state(uint64_t seed, uint64_t epoch) { return mix(mix(seed + golden) + epoch * golden); }

void fm_shuffle32(uint64_t seed, uint64_t epoch, uint32_t n, uint32_t *out) {
    uint64_t state = start_state(seed, epoch);
    for (uint32_t i = 0; i < n; ++i) out[i] = i;
    for (uint32_t i = n; i > 1; --i) {
        const uint64_t draw = mix(state += golden) >> 32;
        const uint32_t j = (uint32_t)((draw * i) >> 32), last = out[i - 1];
        out[i - 1] = out[j];
        out[j] = last;
    }
}

void fm_shuffle64(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t *out) {
    uint64_t state = start_state(seed, epoch);
    for (uint64_t i = 0; i < n; ++i) out[i] = i;
    for (uint64_t i = n; i > 1; --i) {
        const uint64_t j = (uint64_t)(((unsigned __int128)mix(state += golden) * i) >> 64), last = out[i - 1];
        out[i - 1] = out[j];
        out[j] = last;
    }
}
