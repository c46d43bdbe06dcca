"""Tables of one's own: CSV and NPZ files as samples and targets."""

from __future__ import annotations

import csv
import os
import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

SUFFIXES = (".csv", ".npz")


def load_table(
    path: str | os.PathLike[str], target: str | int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Read samples and targets from a CSV or an NPZ file.

    A CSV file has one sample a row, values separated by commas (RFC 4180, UTF-8). A first row in
    which a feature is not a number is a header with the names of the columns. An NPZ file (as
    ``numpy.savez`` writes it) holds the arrays ``x`` and ``y``; nothing in it is unpickled.

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
        If the file is not of these formats, rows differ in length, a feature is not a finite
        number, or there is no such target.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"path must end in {' or '.join(SUFFIXES)}; got {str(path)!r}")
    if suffix == ".csv":
        return _read_csv(path, target)
    if target is not None:
        raise ValueError(f"target names a column of a CSV file; {path} has its targets in 'y'")
    return _read_npz(path)


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open("rb") as file:  # opened here, as np.load forgets to close what is no ZIP
        try:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array")
            missing = [name for name in ("x", "y") if name not in arrays.files]
            if missing:
                raise ValueError(f"it has no array {missing[0]!r}, only {arrays.files}")
            x, y = arrays["x"], arrays["y"]
        except (ValueError, EOFError, BadZipFile, zlib.error) as error:
            message = f"{path} is not an NPZ file with the arrays x and y: {error}"
            raise ValueError(message) from error
    if x.ndim != 2 or y.ndim == 0 or len(x) != len(y):
        message = (
            f"{path} has x of shape {x.shape} and y of shape {y.shape}; expected (n, m) and (n, …)"
        )
        raise ValueError(message)
    return x, y


def _read_csv(path: Path, target: str | int | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            numbered = [
                (reader.line_num, row) for reader in [csv.reader(file)] for row in reader if row
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a CSV file in UTF-8: {error}") from error
    if not numbered:
        raise ValueError(f"{path} is empty")
    width = len(numbered[0][1])
    if width < 2:
        raise ValueError(
            f"{path} must have at least two columns, features and a target; got {width}"
        )
    for line, row in numbered:
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: {len(row)} values where {width} are expected")
    first = [cell.strip() for cell in numbered[0][1]]
    column, named = _column(path, target, first)
    header = named or not all(_is_number(cell) for i, cell in enumerate(first) if i != column)
    rows = numbered[1:] if header else numbered
    if not rows:
        raise ValueError(f"{path} has a header but no samples")
    x = np.empty((len(rows), width - 1))
    for i, (line, row) in enumerate(rows):
        cells = row[:column] + row[column + 1 :]
        try:
            x[i] = [float(cell) for cell in cells]
        except ValueError:
            bad = next(cell for cell in cells if not _is_number(cell))
            raise ValueError(f"{path}, line {line}: {bad!r} is not a number") from None
    if not np.isfinite(x).all():
        line = rows[int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])][0]
        raise ValueError(f"{path}, line {line}: a feature is not finite")
    return x, _targets([row[column].strip() for _, row in rows])


def _column(path: Path, target: str | int | None, names: list[str]) -> tuple[int, bool]:
    """Find the target: its column, and whether the first row had to be read as names for it."""
    try:
        index = int(-1 if target is None else target)
    except ValueError:
        if target not in names:
            raise ValueError(f"{path} has no column {target!r}, only {names}") from None
        return names.index(target), True
    if not -len(names) <= index < len(names):
        raise ValueError(f"{path} has {len(names)} columns, so no column {index}")
    return index % len(names), False


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _targets(cells: list[str]) -> np.ndarray:
    for convert, dtype in ((int, np.int64), (float, np.float64)):
        try:
            return np.array([convert(cell) for cell in cells], dtype)
        except (ValueError, OverflowError):
            continue
    return np.array(cells)
