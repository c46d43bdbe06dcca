#define FM_REAL_BITS 32
#define FM_TABLE fm_kernels_neon_f32

#include "neon.h"

#include "../kernels/all.inc"
