#define FM_REAL_BITS 32
#define FM_TABLE fm_kernels_avx512_f32

#include "avx512.h"

#include "../kernels/all.inc"
