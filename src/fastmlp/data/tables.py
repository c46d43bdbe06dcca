"""Tables of one's own: CSV, NPZ, NPY and IDX files as samples and targets."""

from __future__ import annotations

import csv
import math
import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.data.idx import load_idx

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

SUFFIXES = (".csv", ".npz")
# What stands in a table where a value is missing, as pandas has it, and "?" of the UCI repository.
MISSING = frozenset(
    ("", "?", "#N/A", "#NA", "<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)


def load_table(
    path: str | os.PathLike[str], target: str | int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read samples and targets from a CSV or an NPZ file.

    A CSV file has one sample a row, values separated by commas (RFC 4180, UTF-8). A first row in
    which a feature is neither a number nor missing is a header with the names of the columns.
    Missing values are refused: nothing, ``?`` and what else pandas takes for one, as ``NA``, but
    not where it may be the name of a class. An NPZ file (as ``numpy.savez`` writes it) holds the
    arrays ``x`` and ``y``; nothing in it is unpickled.

    Parameters
    ----------
    path : str or path
        A file whose name ends in .csv or .npz.
    target : str or int, optional
        Of a CSV file, the column to be predicted: its index (negative from the end), or its name
        in the header. By default the last.

    Returns
    -------
    x : ndarray
        Samples: float64 of shape (n, columns − 1) from CSV; as stored from NPZ.
    y : ndarray
        Targets. From CSV, shape (n,): int64 where all are integers, else float64 where all are
        numbers, else strings. From NPZ, as stored.

    Raises
    ------
    ValueError
        If the file is not of these formats, rows differ in length, a value is missing, a feature
        is not a finite number, or there is no such target.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path must end in {' or '.join(SUFFIXES)}; got {str(path)!r}")
    if suffix == ".csv":
        return split_csv(read_csv(path), target)
    if target is not None:
        raise ValueError(f"target names a column of a CSV file; {path} has its targets in 'y'")
    return _read_npz(path)


def load_features(path: str | os.PathLike[str], drop: str | int | None = None) -> np.ndarray:
    """Read samples alone, to be predicted, from a CSV, NPY, NPZ or IDX file.

    Parameters
    ----------
    path : str or path
        A CSV file as for `load_table`, whose columns are all features; an NPY file; an NPZ file
        with the array ``x`` or a single one; or an IDX file, whose name ends in .idx or -ubyte,
        also with .gz.
    drop : str or int, optional
        A column of a CSV file that is none: its index (negative from the end), or its name in the
        header.

    Returns
    -------
    ndarray, shape (n, features)
        float64 from CSV, else as stored; further dimensions, as those of images, are flattened.

    Raises
    ------
    ValueError
        If the file is not of these formats, or damaged.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return csv_features(read_csv(path), drop)
    if drop is not None:
        raise ValueError(f"a column to be dropped is one of a CSV file; got it with {path}")
    return _rows(path, _read_array(path, "x"))


def load_targets(path: str | os.PathLike[str]) -> np.ndarray:
    """Read targets alone: a CSV file of one column, an NPY, NPZ (array ``y``) or IDX file.

    Returns
    -------
    ndarray, shape (n,) or (n, outputs)
        From CSV as `load_table` has them, else as stored.

    Raises
    ------
    ValueError
        If the file is not of these formats, or damaged.
    OSError
        If it cannot be read.
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        return _read_array(path, "y")
    table = read_csv(path)
    if len(table.first) != 1:
        raise ValueError(f"{path} must have one column, the targets; got {len(table.first)}")
    y = table.targets(0)
    if y.dtype.kind != "U" or len(y) == 1:
        return y
    # Numbers below a word: the word is a header.
    rest = table.without_header(True).targets(0)
    return y if rest.dtype.kind == "U" else rest


def _rows(path: Path, array: np.ndarray) -> np.ndarray:
    if array.ndim < 2:
        raise ValueError(f"{path} must hold rows of features; its shape is {array.shape}")
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _read_array(path: Path, name: str) -> np.ndarray:
    """Read the array of an NPY or IDX file, or the one of that name in an NPZ file."""
    suffix = path.suffix.lower()
    if re.search(r"(ubyte|\.idx\d?)(\.gz)?$", path.name.lower()):
        return load_idx(path)
    if suffix not in (".npy", ".npz"):
        allowed = ".csv, .npy, .npz, .idx or -ubyte"
        raise ValueError(f"the name of a file of data must end in {allowed}; got {str(path)!r}")
    with _numpy_file(path, "cannot be read as an array") as found:
        if not isinstance(found, np.lib.npyio.NpzFile):
            return found
        names = found.files
        if name not in names and len(names) != 1:
            raise ValueError(f"it has no array {name!r}, only {names}")
        return found[name if name in names else names[0]]


@contextmanager
def _numpy_file(path: Path, trouble: str) -> Iterator[Any]:
    """Give what np.load finds in a file; what goes wrong with it is a ValueError."""
    with path.open("rb") as file:  # opened here, as np.load forgets to close what is no ZIP
        try:
            yield np.load(file, allow_pickle=False)
        except MemoryError:
            raise
        except Exception as error:  # whatever NumPy and zipfile stumble over, the file is at fault
            raise ValueError(f"{path} {trouble}: {error}") from error


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with _numpy_file(path, "is not an NPZ file with the arrays x and y") as arrays:
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        missing = [name for name in ("x", "y") if name not in arrays.files]
        if missing:
            raise ValueError(f"it has no array {missing[0]!r}, only {arrays.files}")
        x, y = arrays["x"], arrays["y"]
    if x.ndim != 2 or y.ndim == 0 or len(x) != len(y):
        message = (
            f"{path} has x of shape {x.shape} and y of shape {y.shape}; expected (n, m) and (n, …)"
        )
        raise ValueError(message)
    return x, y


@dataclass(frozen=True, slots=True)
class Csv:
    """The cells of a CSV file, each row as wide as the first.

    Attributes
    ----------
    path : Path
        For messages.
    rows : list of (int, list of str)
        Line number and cells.
    """

    path: Path
    rows: list[tuple[int, list[str]]]

    @property
    def first(self) -> list[str]:
        """The first row, which may be a header."""
        return [cell.strip() for cell in self.rows[0][1]]

    def without_header(self, header: bool) -> Csv:
        """Return the rows below the header, if there is one; there must be such a row."""
        if not header:
            return self
        if len(self.rows) == 1:
            raise ValueError(f"{self.path} has a header but no samples")
        return Csv(self.path, self.rows[1:])

    def numbers(self, target: int | None) -> np.ndarray:
        """Return all columns but the target as finite numbers."""
        width = len(self.rows[0][1]) - (target is not None)
        x = np.empty((len(self.rows), width))
        for i, (line, row) in enumerate(self.rows):
            cells = row if target is None else row[:target] + row[target + 1 :]
            try:
                x[i] = [_number(cell) for cell in cells]
            except ValueError:
                bad = next(cell for cell in cells if not is_number(cell))
                raise self._refused(line, bad, "is not a number") from None
        wrong = np.flatnonzero(~np.isfinite(x).all(axis=1))
        if len(wrong):
            line, row = self.rows[wrong[0]]
            bad = next(
                cell
                for index, cell in enumerate(row)
                if index != target and not math.isfinite(_number(cell))
            )
            raise self._refused(line, bad, "is not finite")
        return x

    def targets(self, column: int) -> np.ndarray:
        """Return a column as integers, else as finite numbers, else as words."""
        cells = [row[column].strip() for _, row in self.rows]
        # Among words NA may be one, among numbers it is none.
        words = not all(cell in MISSING or is_number(cell) for cell in cells)
        for (line, _), cell in zip(self.rows, cells, strict=True):
            missing = cell in MISSING and not words
            if not cell or missing or not (words or math.isfinite(_number(cell))):
                raise self._refused(line, cell, "is not finite")
        if words:
            return np.array(cells)
        try:
            return np.array([int(cell) for cell in cells], np.int64)
        except (ValueError, OverflowError):
            return np.array([_number(cell) for cell in cells])

    def _refused(self, line: int, cell: str, why: str) -> ValueError:
        if cell.strip() in MISSING:
            why = "is a missing value: fill it in, or leave the row out"
        return ValueError(f"{self.path}, line {line}: {cell!r} {why}")


def read_csv(path: Path, file: Iterable[str] | None = None) -> Csv:
    """Read the cells of a CSV file, or of lines that come from elsewhere.

    Raises
    ------
    ValueError
        If it is not CSV in UTF-8, is empty, or rows differ in length.
    OSError
        If it cannot be read.
    """
    try:
        if file is None:
            with path.open(newline="", encoding="utf-8-sig") as opened:
                return read_csv(path, opened)
        reader = csv.reader(file)
        rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not rows:
        raise ValueError(f"{path} is empty")
    width = len(rows[0][1])
    for line, row in rows:
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: {len(row)} values where {width} are expected")
    return Csv(path, rows)


def split_csv(table: Csv, target: str | int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return samples and targets of a CSV file, as `load_table` does."""
    first = table.first
    if len(first) < 2:
        raise ValueError(
            f"{table.path} must have at least two columns, features and a target, "
            f"separated by commas; got {len(first)}"
        )
    column, named = _column(table.path, target, first)
    table = table.without_header(named or _is_header(first, column))
    return table.numbers(column), table.targets(column)


def csv_features(table: Csv, drop: str | int | None) -> np.ndarray:
    """Return all columns of a CSV file but one as numbers."""
    first = table.first
    column, named = (None, False) if drop is None else _column(table.path, drop, first)
    return table.without_header(named or _is_header(first, column)).numbers(column)


def _column(path: Path, target: str | int | None, names: list[str]) -> tuple[int, bool]:
    """Find the target: its column, and whether the first row had to be read as names for it."""
    try:
        index = int(-1 if target is None else target)
    except ValueError:
        if target not in names:
            raise ValueError(f"{path} has no column {target!r}, only {names}") from None
        if names.count(target) > 1:
            message = f"{path} has {names.count(target)} columns {target!r}: say which by its index"
            raise ValueError(message) from None
        return names.index(target), True
    if not -len(names) <= index < len(names):
        raise ValueError(f"{path} has {len(names)} columns, so no column {index}")
    return index % len(names), False


def _is_header(first: list[str], target: int | None) -> bool:
    """Return whether a feature of the first row is a name; what is missing is none."""
    features = [cell for index, cell in enumerate(first) if index != target]
    return not all(cell in MISSING or is_number(cell) for cell in features)


def _number(cell: str) -> float:
    if "_" in cell:  # which Python reads over
        raise ValueError(cell)
    return float(cell)


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number, if not a finite one."""
    try:
        _number(cell)
    except ValueError:
        return False
    return True
