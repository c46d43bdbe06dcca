/* The engine with the kernels of one target and precision, as a library of its own, for tests/test_instruction_sets.py.
 * Compile it with csrc/run.c and the target's file, and with -DKERNELS=<that file's table>. */
#include "fastmlp.h"
#include "isa/runtime.h"
#include "kernels/table.h"

fm_runtime_state fm_runtime;

extern const fm_kernels KERNELS;

const fm_kernels *fm_kernels_current(int bits) {
    (void)bits;
    return &KERNELS;
}

/* Bytes of a step, and the names that Python knows the numbers of: operations, activations, losses, optimizers. A table
 * ends with NULL. */
size_t engine_step_size(void) { return sizeof(fm_step); }
const char *engine_name(int table, int i) {
    switch (table) {
    case 0:
        return fm_op_names[i];
    case 1:
        return KERNELS.activations[i].name;
    case 2:
        return KERNELS.losses[i].name;
    default:
        return KERNELS.optimizers[i].name;
    }
}

/* Binds and runs. `addresses` are (bytes, address) of every base; `sources` are (address, row stride, column stride, type)
 * of every source. Returns a status. */
int engine_run(int32_t n_steps, int32_t n_threads, fm_step *steps, const fm_part *parts, int32_t n_bases,
               const int64_t (*addresses)[2], const int64_t (*sources)[4], const uint32_t *order, int64_t n_rows,
               int64_t first, int64_t last, int64_t batch_rows, const double *hyper, int64_t hyper_stride,
               double *losses, char *out, int64_t out_stride) {
    fm_program program = {
        .n_steps = n_steps, .n_threads = n_threads, .bits = KERNELS.bits, .steps = steps, .parts = parts};
    for (int i = 0; i < n_bases; ++i) {
        program.base_size[i] = addresses[i][0];
        program.base[i] = (char *)(intptr_t)addresses[i][1];
    }
    const int status = fm_bind(&program);
    if (status != FM_OK) return status;
    fm_call call = {
        .order32 = order,
        .n_rows = n_rows,
        .first = first,
        .last = last,
        .batch_rows = batch_rows,
        .hyper = hyper,
        .hyper_stride = hyper_stride,
        .losses = losses,
        .out = out,
        .out_stride = out_stride,
    };
    for (int i = 0; i < FM_SOURCES; ++i) {
        call.source[i] = (fm_source){
            .data = (const char *)(intptr_t)sources[i][0],
            .row_stride = sources[i][1],
            .col_stride = sources[i][2],
            .type = (int32_t)sources[i][3],
        };
    }
    fm_run(&program, &call);
    return FM_OK;
}
