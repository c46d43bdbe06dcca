"""Where the native engine keeps parameters: the flat row-major vector in column blocks, and back.

Users and files see one flat row-major vector; kernels want column blocks of one cache line, with
rows and columns rounded up to whole blocks (see csrc/plan.h). `Panels` holds such a copy of a
`FlatVector`, knows which of the two is newer, and copies only when somebody looks: while nobody
holds an array of the flat vector, training touches the panels alone. Other Python threads may look
at the vector, and predict, while a program changes the panels: then nothing is taken over from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native

if TYPE_CHECKING:
    from collections.abc import Iterable, Set

    from fastmlp.parameters import FlatVector, ParameterSpec

LINE = 64


@dataclass(frozen=True, slots=True)
class Place:
    """Where one parameter stands.

    Attributes
    ----------
    flat : int
        Byte offset in the flat vector.
    panel : int
        Byte offset in the panels.
    rows, cols : int
        Of the row-major matrix as it is packed: a single column is packed as one row.
    block_rows : int
        Rows of a column block.
    transposed : int or None
        Byte offset of the transposed panel, for weights that have one.
    """

    flat: int
    panel: int
    rows: int
    cols: int
    block_rows: int
    transposed: int | None


def lines_of(rows: int) -> int:
    """Return the cache lines of a column block of a matrix: FM_LINES of csrc/plan.h."""
    return (rows | 1) + (64 if rows >= 480 and (rows + 32) % 512 < 64 else 0)


class Layout:
    """The places of all parameters of a model.

    Parameters
    ----------
    specs : iterable of ParameterSpec
    dtype : numpy.dtype
    columns : set of str
        Names of weights with one output that are kept as a contiguous column.
    """

    def __init__(self, specs: Iterable[ParameterSpec], dtype: np.dtype, columns: set[str]):
        self.bits = dtype.itemsize * 8
        self.block = LINE // dtype.itemsize
        self.places: dict[str, Place] = {}
        size = transposed = 0
        for spec in specs:
            rows, cols = spec.matrix_shape
            matrix = len(spec.shape) == 2 and spec.name not in columns
            if spec.name in columns:
                rows, cols = 1, rows
            block_rows = self.rounded(rows) if matrix else rows
            self.places[spec.name] = Place(
                spec.offset * dtype.itemsize,
                size,
                rows,
                cols,
                block_rows,
                transposed if matrix else None,
            )
            size += self.rounded(cols) * block_rows * dtype.itemsize
            if matrix:
                transposed += self.rounded(rows) * self.rounded(cols) * dtype.itemsize
        self.nbytes = size
        self.transposed_nbytes = transposed

    def panel_bytes(self, place: Place) -> int:
        """Return the size of the panel of a parameter, padding included."""
        return self.rounded(place.cols) * place.block_rows * self.bits // 8

    def rounded(self, n: int) -> int:
        """Return n rounded up to whole blocks."""
        return -(-n // self.block) * self.block

    def elements(self, name: str) -> slice:
        """Return which elements of the panels one parameter has, its padding counted."""
        place = self.places[name]
        start = place.panel * 8 // self.bits
        return slice(start, start + self.rounded(place.cols) * place.block_rows)


class Panels:
    """A copy of a flat vector in the engine's layout; the `resident` of that vector.

    Parameters
    ----------
    vector : FlatVector
        Gets these panels as its resident.
    layout : Layout
    padding : float
        What the padding holds: zero, or one for divisors.

    Attributes
    ----------
    buffer, transposed : Buffer
        The panels, and the transposed panels of weights.
    valid_transposes : frozenset of str
        Weights whose transposed panels are in step.
    newer : bool
        Whether the panels hold newer values than the flat vector.
    changing : bool
        Whether a program is changing the panels just now.
    """

    def __init__(self, vector: FlatVector, layout: Layout, padding: float = 0.0):
        import weakref

        self.layout = layout
        self.buffer = _native.Buffer(max(layout.nbytes, LINE))
        self.transposed = _native.Buffer(max(layout.transposed_nbytes, LINE))
        self.valid_transposes: frozenset[str] = frozenset()
        self._vector = weakref.ref(vector)
        self._copying = vector.lock
        self.newer = False
        self.changing = False
        self._padding = padding
        vector.resident = self
        vector.touched = True

    def pull(self) -> None:
        """Bring the flat vector up to date."""
        vector = self._vector()
        if not self.newer or vector is None:
            return
        with self._copying:
            if not self.newer:  # another thread has done it
                return
            for place in self.layout.places.values():
                _native.unpack(
                    self.layout.bits,
                    self.buffer,
                    place.panel,
                    place.rows,
                    place.cols,
                    place.block_rows,
                    vector.buffer,
                    place.flat,
                )
            self.newer = False

    def refresh(self) -> None:
        """Take over what may have been written into the flat vector, before panels are read.

        Padding becomes what it was, which has become NaN where a gradient was.
        """
        vector = self._vector()
        if vector is None or not vector.touched:
            return
        with self._copying:
            for place in self.layout.places.values():
                if self.newer or self.changing:  # which another thread may just have begun
                    return
                _native.pack(
                    self.layout.bits,
                    vector.buffer,
                    place.flat,
                    place.rows,
                    place.cols,
                    self.buffer,
                    place.panel,
                    place.block_rows,
                    self._padding,
                )
            self.valid_transposes = frozenset()
            vector.touched = vector.exports > 0

    def wrote(self, maintained: Set[str] = frozenset()) -> None:
        """Note that a program changed the panels, and kept the transposed `maintained` in step."""
        vector = self._vector()
        with self._copying:
            self.newer = True
            self.valid_transposes &= maintained
            if vector is not None and vector.touched:  # also if nobody holds an array any more
                self.pull()

    def copy_into(self, copy: np.ndarray) -> None:
        """Copy the panels out, for `restore`."""
        np.copyto(copy, np.frombuffer(self.buffer, np.uint8))

    def restore(self, copy: np.ndarray | int) -> None:
        """Put back what `copy_into` copied, or zeros."""
        with self._copying:
            np.copyto(np.frombuffer(self.buffer, np.uint8), copy)
            self.wrote()


def panels_of(vector: FlatVector, layout: Layout, padding: float = 0.0) -> Panels:
    """Return the panels of a vector in a layout, made where there are none or others."""
    resident = vector.resident
    if isinstance(resident, Panels) and resident.layout is layout:
        return resident
    if resident is not None:
        resident.pull()
    return Panels(vector, layout, padding)
