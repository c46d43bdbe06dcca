#define FM_REAL_BITS 32
#define FM_TABLE fm_kernels_avx2_f32

#include "avx2.h"

#include "../kernels/all.inc"
