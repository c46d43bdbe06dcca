/* names.c: opcode names, for lowering and profiling. */
#include "kernels/table.h"

const char *const fm_op_names[] = {
#define X(name) #name,
    FM_OPCODES(X)
#undef X
        NULL,
};
