#define FM_REAL_BITS 64
#define FM_TABLE fm_kernels_neon_f64

#include "neon.h"

#include "../kernels/all.inc"
