"""The only door to the C engine: it validates, binds pointers and runs without the GIL.

Here stand the choice of an instruction set, limits, and tables of what the engine can do; memory, programs and the
cheapest calls have files of their own, which are parts of this one extension. `_native.pxd` declares what they use of
the engine. What a program means is decided in `fastmlp.backends`, which lowers plans; what its steps do stands in `csrc`.
"""

import os

import numpy as np

include "_native_buffers.pxi"
include "_native_programs.pxi"
include "_native_shortcuts.pxi"


# ---- instruction sets and threads ----

def isa():
    """Return the name of the instruction set in use."""
    return fm_isa_current().decode()


def isa_table():
    """Return {name: "" where this CPU can use it, or why not} of every known instruction set, the least first."""
    table = {}
    cdef int i = 0
    while fm_isa_name(i) != NULL:
        status = fm_isa_status(fm_isa_name(i))
        table[fm_isa_name(i).decode()] = "" if status == FM_OK else fm_status_text(status).decode()
        i += 1
    return table


def choose_isa(name=None):
    """Choose the instruction set of programs bound from now on; None or "" means the best.

    Raises
    ------
    ValueError
        If the name is not known, or this build or this CPU lacks it.
    """
    cdef bytes text = os.fsencode(name or "")
    status = fm_isa_choose(text)
    if status != FM_OK:
        usable = [known for known, trouble in isa_table().items() if not trouble]
        raise ValueError(
            f"FASTMLP_ISA is {name!r}: {fm_status_text(status).decode()}; allowed here: {', '.join(usable)}"
        )


def openmp():
    """Return (built with OpenMP, version of its specification as a date, threads it would use)."""
    return bool(fm_has_openmp()), fm_openmp_version(), fm_openmp_threads()


def thread_limit():
    """Return what `set_thread_limit` set, 0 for no limit."""
    return fm_thread_limit()


def set_thread_limit(int threads):
    """Set the most threads that a call takes by itself; 0 for no limit."""
    fm_set_thread_limit(threads)


# ---- tables of what the engine can do ----

cdef dict _numbered(const char *const *names):
    cdef int i = 0
    table = {}
    while names[i] != NULL:
        table[names[i].decode()] = i
        i += 1
    return table


def opcodes():
    """Return {name: number} of the engine's opcodes."""
    return _numbered(fm_op_names)


def instructions():
    """Return {name: number} of the instructions of element-wise programs, and how many registers
    a program may have."""
    return _numbered(fm_instruction_names), FM_REGISTERS


def registries():
    """Return {name: number} of the activations, losses and optimizers that have kernels."""
    k = fm_kernels_current(32)
    activations, losses, optimizers = {}, {}, {}
    cdef int i = 0
    while k.activations[i].name != NULL:
        activations[k.activations[i].name.decode()] = i
        i += 1
    i = 0
    while k.losses[i].name != NULL:
        losses[k.losses[i].name.decode()] = i
        i += 1
    i = 0
    while k.optimizers[i].name != NULL:
        optimizers[k.optimizers[i].name.decode()] = i
        i += 1
    return activations, losses, optimizers


# ---- shuffling ----

def shuffle(uint64_t seed, uint64_t epoch, Py_ssize_t n):
    """Return the permutation of 0..n-1 that belongs to (seed, epoch), an array of uint32 (uint64 above 2**32)."""
    cdef Buffer out
    if n <= 0xFFFFFFFF:
        out = Buffer(4 * n)
        with nogil:
            fm_shuffle32(seed, epoch, <uint32_t>n, <uint32_t *>out.data)
    else:
        out = Buffer(8 * n)
        with nogil:
            fm_shuffle64(seed, epoch, <uint64_t>n, <uint64_t *>out.data)
    return np.frombuffer(out, np.uint32 if n <= 0xFFFFFFFF else np.uint64)


choose_isa(os.environ.get("FASTMLP_ISA"))
