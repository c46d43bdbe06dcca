"""The only door to the C engine; see `_native.pyx`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer as SupportsBuffer

class Buffer:
    nbytes: int
    exports: int
    def __init__(self, nbytes: int) -> None: ...
    @property
    def address(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

def pack(
    bits: int,
    rowmajor: Buffer,
    at: int,
    rows: int,
    cols: int,
    blocks: Buffer,
    to: int,
    block_rows: int,
    padding: float = 0.0,
) -> None: ...
def unpack(
    bits: int,
    blocks: Buffer,
    to: int,
    rows: int,
    cols: int,
    block_rows: int,
    rowmajor: Buffer,
    at: int,
) -> None: ...
def isa() -> str: ...
def isa_table() -> dict[str, str]: ...
def choose_isa(name: str | None = None) -> None: ...
def openmp() -> tuple[bool, int, int]: ...
def thread_limit() -> int: ...
def set_thread_limit(threads: int) -> None: ...
def opcodes() -> dict[str, int]: ...
def instructions() -> tuple[dict[str, int], int]: ...
def registries() -> tuple[dict[str, int], dict[str, int], dict[str, int]]: ...
def all_finite(bits: int, values: Buffer) -> bool: ...
def shuffle(seed: int, epoch: int, n: int) -> NDArray[np.unsignedinteger]: ...
def reads_in_place(x: np.ndarray, bits: int) -> bool: ...

class Program:
    def __init__(
        self,
        bits: int,
        threads: int,
        steps: SupportsBuffer,
        parts: SupportsBuffer,
        bases: Sequence[Buffer],
        columns: Sequence[int],
        result_columns: int,
        rows: int,
        in_place: bool = False,
        chunks: tuple[int, int, int, SupportsBuffer, SupportsBuffer] | None = None,
    ) -> None: ...
    @property
    def threads(self) -> int: ...
    @property
    def steps(self) -> int: ...
    def run(
        self,
        sources: Sequence[np.ndarray | None],
        *,
        order: np.ndarray | None = None,
        first: int = 0,
        last: int = 1,
        hyper: np.ndarray | None = None,
        losses: np.ndarray | None = None,
        out: np.ndarray | None = None,
        rest: Program | None = None,
        epoch_rows: int = 0,
        seed: int = 0,
        step: int = 0,
        seconds: np.ndarray | None = None,
        budget: float = 0.0,
    ) -> int: ...

class FastPredict:
    def __init__(
        self,
        program: Program,
        in_place: Program | None,
        most_rows: int,
        kept: dict[Any, Any],
        chunk: int,
        multiply_adds: float,
        vectors: tuple[Any, ...],
        panels: tuple[Any, ...],
        columns: int,
        dtype: np.dtype,
    ) -> None: ...
    def __call__(self, x: object, out: object = None) -> np.ndarray | None: ...

class FastStep:
    program: Program
    limit: int

    def __init__(
        self,
        program: Program,
        model: Any,
        vectors: tuple[Any, ...],
        panels: tuple[Any, ...],
        renew: Callable[[], None],
        optimizer: Any,
        state: Any,
        hyper: np.ndarray,
        first_step: int,
        seed: int,
        multiply_adds: float,
        classes: int,
        low: float,
        high: float,
        check: Callable[[np.ndarray], None] | None,
    ) -> None: ...
    def __call__(self, x: object, y: object, sample_weight: object = None) -> float | None: ...
