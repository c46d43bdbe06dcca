/* What a target offers: tables of kernels that the executor calls. One table per target and precision. */
#ifndef FM_KERNELS_TABLE_H
#define FM_KERNELS_TABLE_H

#include <stddef.h>

/* n elements (a multiple of the block, 64 bytes), alpha where the activation has a parameter.
 *   forward(a, z):   a = f(z), a may be z
 *   backward(d, s):  d *= f'(.), from the output or from the input of f, as from_input says */
typedef void (*fm_activation_fn)(void *dst, const void *src, size_t n, double alpha);

typedef struct {
    const char *name; /* as in activations.py */
    int from_input;   /* backward reads z (1) or a (0) */
    fm_activation_fn forward, backward;
} fm_activation;

#endif
