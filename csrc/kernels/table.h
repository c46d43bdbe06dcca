/* table.h: what one target and precision offers: a kernel for every opcode, and the registries of element-wise functions.
 *
 * Kernels are serial and take ranges. Opcodes and registries are looked up by name when a plan is lowered, so their
 * numbers are nobody's business.
 */
#ifndef FASTMLP_TABLE_H
#define FASTMLP_TABLE_H

#include <stddef.h>

#include "../plan.h"

/* clang-format off */
#define FM_OPCODES(X)                                                           \
    X(gather)            /* rows of a source, converted, into blocks */         \
    X(gather_column)     /* one column of a source into a contiguous vector */  \
    X(gather_labels)     /* integer labels into one-hot blocks */               \
    X(gather_shares)     /* weights of a mini-batch, divided by their sum */    \
    X(scatter)           /* blocks into the caller's row-major rows */          \
    X(scatter_column)    /* a contiguous vector into the caller's rows */       \
    X(dense)             /* product with a panel, then activation, derivative */\
    X(dense_column)      /* product with one column of weights */               \
    X(outer_column)      /* gradient of a one-output layer's input */           \
    X(grad)              /* gradient of weights and bias, and their update */   \
    X(grad_column)       /* the same for a layer of one output */               \
    X(transpose)         /* weight panel into transposed panel */               \
    X(activate)          /* activation of a whole matrix */                     \
    X(activate_backward) /* gradient times derivative of a whole matrix */      \
    X(softmax)                                                                  \
    X(softmax_backward)                                                         \
    X(affine)            /* (x - mean) / scale by column */                     \
    X(affine_backward)                                                          \
    X(add)                                                                      \
    X(loss)              /* value of each row, and gradient */                  \
    X(loss_column)       /* the same for one output */                          \
    X(loss_program)      /* loss by an element-wise program */                  \
    X(loss_program_column)                                                      \
    X(activate_program)  /* activation of a whole matrix by a program */        \
    X(activate_program_backward)                                                \
    X(dropout)           /* elements set to zero at random */                   \
    X(noise)             /* normal numbers added */                             \
    X(batch_norm)                                                               \
    X(batch_norm_backward)                                                      \
    X(normalize)         /* batch norm by running statistics */                 \
    X(layer_norm)                                                               \
    X(layer_norm_backward_input)                                                \
    X(scale)             /* x w + b by column */                                \
    X(scale_backward_params)                                                    \
    X(max_norm)          /* columns of a weight scaled down to a norm */        \
    X(max_norm_column)                                                          \
    X(columns)           /* some columns from one matrix to another */          \
    X(embedding)         /* a code replaced by a row of a table */              \
    X(embedding_backward_input)                                                 \
    X(embedding_backward_params)                                                \
    X(reduce_loss)       /* mean over the rows of a mini-batch */               \
    X(square_sums)       /* of a stretch of gradients, chunk by chunk */        \
    X(update)            /* optimizer over a stretch of parameters */           \
    X(average)           /* moving average of a stretch of parameters */        \
    X(fma_peak)          /* fused multiply-adds in registers: the peak */        \
    X(clock)             /* dependent additions: cycles a second */

/* Instructions of element-wise programs, as in src/fastmlp/graph/program.py. */
#define FM_INSTRUCTIONS(X)                                                      \
    X(add) X(sub) X(mul) X(div) X(neg) X(abs) X(sqrt) X(exp) X(log) X(tanh)     \
    X(sigmoid) X(max) X(min) X(select_lt) X(select_le) X(select_eq) X(pow)
/* clang-format on */

enum {
#define X(name) FM_OP_##name,
    FM_OPCODES(X)
#undef X
        FM_OPS
};

enum {
#define X(name) FM_DO_##name,
    FM_INSTRUCTIONS(X)
#undef X
        FM_REGISTERS = 64 /* of a program, at most */
};

/* Names of opcodes and instructions, in order, NULL at the end (names.c). */
extern const char *const fm_op_names[], *const fm_instruction_names[];

/* ---- element-wise registries; each ends with a row whose name is NULL ---- */

/* n elements (a multiple of the vector), alpha where the activation has a parameter.
 *   forward(a, z):   a = f(z), a may be z
 *   backward(d, s):  d *= f'(.), from the output or from the input of f, as from_input says */
typedef void (*fm_activation_fn)(void *dst, const void *src, size_t n, double alpha);

typedef struct {
    const char *name; /* as in activations.py */
    int from_input;   /* backward reads z (1) or a (0) */
    fm_activation_fn forward, backward;
} fm_activation;

/* Value of each row and gradient: of a matrix in blocks, and of a single column. */
typedef struct {
    const char *name;
    fm_kernel blocks, column;
} fm_loss;

/* Names only: the rules are inlined into the kernels that use them. */
typedef struct {
    const char *name;
} fm_optimizer;

typedef struct fm_kernels {
    int in_place; /* whether the first layer can read the caller's rows where they stand */
    fm_kernel kernels[FM_OPS];
    const fm_activation *activations;
    const fm_loss *losses;
    const fm_optimizer *optimizers;
} fm_kernels;

#endif
