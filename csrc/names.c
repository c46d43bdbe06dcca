/* names.c: opcode names, and names of instructions, for lowering and profiling. */
#include "kernels/table.h"

const char *const fm_op_names[] = {
#define X(name) #name,
    FM_OPCODES(X)
#undef X
        NULL,
};

const char *const fm_instruction_names[] = {
#define X(name) #name,
    FM_INSTRUCTIONS(X)
#undef X
        NULL,
};
