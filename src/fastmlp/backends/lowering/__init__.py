"""Lowering: from the mathematical steps of a plan to a program of the native engine.

A dense step takes the activation behind it, or the derivative of the activation below
it, into its epilogue; the gradient of a weight goes straight from the registers into the
optimizer's rule, so that it never exists in memory. All gradients of activations are computed
before any weight changes.

`Lowering` walks the steps of a plan and keeps the memory; how each operation is lowered is a row of
`RULES`, in the module of its kind: `reading` (the caller's arrays), `dense` (products, gradients of
weights), `updates`, `elementwise` and `losses`; `chunks` has another order of steps, for large
mini-batches. What comes out is a list of `Lowered` steps (`steps`), which
`fastmlp.backends.assembly` cuts into parts for threads.
"""

from fastmlp.backends.lowering.chunks import ChunkLowering, chunk_starts, largest_chunk
from fastmlp.backends.lowering.lowering import RULES, Lowering, column_weights
from fastmlp.backends.lowering.steps import HYPER, INPUTS, Access, Lowered, Matrix, UnsupportedStep

__all__ = [
    "HYPER",
    "INPUTS",
    "RULES",
    "Access",
    "ChunkLowering",
    "Lowered",
    "Lowering",
    "Matrix",
    "UnsupportedStep",
    "chunk_starts",
    "column_weights",
    "largest_chunk",
]
