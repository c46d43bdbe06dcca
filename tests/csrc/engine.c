/* The engine with the kernels of one target and precision as a filter, for tests/compiled.py: reads a program
 * and all memory that it works on, runs it, and writes the memory back. Called with an argument, it prints what Python has
 * to know: the size of a step, and the names of operations, activations, losses and optimizers.
 *
 * Compile with csrc/run.c, csrc/names.c and the target's file, and with -DKERNELS=<that file's table> -DBITS=<32 or 64>. */
#include <stdio.h>
#include <stdlib.h>

#include "fastmlp.h"
#include "isa/runtime.h"
#include "kernels/table.h"

fm_runtime_state fm_runtime;

extern const fm_kernels KERNELS;

const fm_kernels *fm_kernels_current(int bits) {
    (void)bits;
    return &KERNELS;
}

static void print_names(void) {
    printf("%zu\n", sizeof(fm_step));
    for (int i = 0; fm_op_names[i]; ++i) printf("%s ", fm_op_names[i]);
    puts("");
    for (int i = 0; KERNELS.activations[i].name; ++i) printf("%s ", KERNELS.activations[i].name);
    puts("");
    for (int i = 0; KERNELS.losses[i].name; ++i) printf("%s ", KERNELS.losses[i].name);
    puts("");
    for (int i = 0; KERNELS.optimizers[i].name; ++i) printf("%s ", KERNELS.optimizers[i].name);
    puts("");
}

/* An array: its bytes and, before them, how many; NULL for none. */
typedef struct {
    int64_t size;
    char *data;
} array;

static array take(void) {
    array a = {0, NULL};
    if (fread(&a.size, sizeof a.size, 1, stdin) != 1) exit(2);
    if (a.size == 0) return a;
    a.data = aligned_alloc(64, ((size_t)a.size + 63) / 64 * 64);
    if (!a.data || fread(a.data, 1, (size_t)a.size, stdin) != (size_t)a.size) exit(2);
    return a;
}

static void give(array a) {
    if (fwrite(a.data, 1, (size_t)a.size, stdout) != (size_t)a.size) exit(3);
}

int main(int count, char **arguments) {
    (void)arguments;
    if (count > 1) {
        print_names();
        return 0;
    }
    /* threads, bases, rows in the order, first, last, rows of a mini-batch, scalars of a step, bytes of a row of the
     * result, whether inputs are read in place, seed, step */
    const array header = take();
    const int64_t *number = (const int64_t *)header.data;
    const array steps = take(), parts = take();
    const int64_t shares = steps.size / (int64_t)sizeof(fm_step) * number[0] * (int64_t)sizeof(fm_part);
    fm_program program = {
        .pieces = (int32_t)(shares ? parts.size / shares : 1),
        .shares = calloc((size_t)number[0], FM_SHARE),
        .n_steps = (int32_t)(steps.size / (int64_t)sizeof(fm_step)),
        .n_threads = (int32_t)number[0],
        .bits = BITS,
        .steps = (fm_step *)steps.data,
        .parts = (const fm_part *)parts.data,
    };
    if (!program.shares) return 2;
    array bases[FM_BASES];
    for (int i = 0; i < number[1]; ++i) {
        bases[i] = take();
        program.base[i] = bases[i].data;
        program.base_size[i] = bases[i].size;
    }
    if (number[8]) {
        const size_t addresses = (size_t)(number[0] * (number[5] + FM_ROWS_AHEAD));
        program.rows = calloc(addresses, sizeof *program.rows);
        if (!program.rows) return 2;
    }
    const int status = fm_bind(&program);
    if (status != FM_OK) {
        fprintf(stderr, "%s\n", fm_status_text(status));
        return 1;
    }
    fm_call call = {
        .n_rows = number[2],
        .first = number[3],
        .last = number[4],
        .batch_rows = number[5],
        .hyper_stride = number[6],
        .out_stride = number[7],
        .seed = (uint64_t)number[9],
        .step = (uint64_t)number[10],
    };
    for (int i = 0; i < FM_SOURCES; ++i) {
        const array kind = take(); /* stride of rows, stride of columns, type */
        const int64_t *of = (const int64_t *)kind.data;
        call.source[i] =
            (fm_source){.row_stride = of[0], .col_stride = of[1], .type = (int32_t)of[2], .data = take().data};
    }
    call.order32 = (const uint32_t *)take().data;
    call.hyper = (const double *)take().data;
    const array losses = take(), out = take();
    call.losses = (double *)losses.data;
    call.out = out.data;
    fm_run(&program, &call);
    for (int i = 0; i < number[1]; ++i) give(bases[i]);
    give(losses);
    give(out);
    return 0;
}
