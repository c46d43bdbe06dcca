#define FM_REAL_BITS 64
#define FM_TABLE fm_kernels_portable_f64

#include "portable.h"

#include "../kernels/all.inc"
