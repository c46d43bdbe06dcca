/* mix.h: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014), behind everything
 * that is drawn: all randomness is a function of a seed and counters. */
#ifndef FASTMLP_MIX_H
#define FASTMLP_MIX_H

#include <stdint.h>

#define FM_GOLDEN UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t fm_mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Where the numbers of a seed and a counter (an epoch, a step) begin. */
static inline uint64_t fm_mix_start(uint64_t seed, uint64_t counter) {
    return fm_mix(fm_mix(seed + FM_GOLDEN) + counter * FM_GOLDEN);
}

#endif
