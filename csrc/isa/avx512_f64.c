#define FM_REAL_BITS 64
#define FM_TABLE fm_kernels_avx512_f64

#include "avx512.h"

#include "../kernels/all.inc"
