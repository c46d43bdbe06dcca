#define FM_REAL_BITS 64
#define FM_TABLE fm_kernels_avx2_f64

#include "avx2.h"

#include "../kernels/all.inc"
