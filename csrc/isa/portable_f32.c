#define FM_REAL_BITS 32
#define FM_TABLE fm_kernels_portable_f32

#include "portable.h"

#include "../kernels/all.inc"
