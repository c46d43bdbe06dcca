"""Reader of IDX files, the format of MNIST and of the data sets made after it.

An IDX file is: two zero bytes, a byte for the type of the elements, a byte for the number of
dimensions, each dimension as a big-endian 32-bit integer, and the elements, big-endian, the last
dimension changing fastest (http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
MAX_DIMENSIONS = 32  # NumPy 1's own limit
CHUNK = 1 << 20
# No deflate stream expands more than this (258 bytes from two bits).
MAX_DEFLATE_RATIO = 1032

MNIST_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def load_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, compressed by gzip or not.

    What the header says is checked against what is there before memory is taken for it.

    Parameters
    ----------
    path : str or path
        The file. Whether it is compressed is read from its first bytes, not from its name.

    Returns
    -------
    ndarray
        In native byte order: uint8, int8, int16, int32, float32 or float64, as the file says, with
        1 to 32 dimensions.

    Raises
    ------
    ValueError
        If the file is not IDX, is truncated, holds more than its header says, or is damaged.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            file.seek(0)
            return _read_gzip(path, file)
        file.seek(0)
        shape, dtype = _read_header(path, file)
        expected = math.prod(shape) * dtype.itemsize
        present = os.fstat(file.fileno()).st_size - file.tell()
        _check_size(path, shape, dtype, present, exact=True)
        return _as_array(path, file.read(expected), shape, dtype)


def _read_gzip(path: Path, file: BinaryIO) -> np.ndarray:
    import gzip
    import zlib

    compressed = os.fstat(file.fileno()).st_size
    try:
        with gzip.GzipFile(fileobj=file) as stream:
            shape, dtype = _read_header(path, stream)
            expected = math.prod(shape) * dtype.itemsize
            # A header that no file of this size can keep is refused before anything is unpacked.
            if expected > MAX_DEFLATE_RATIO * compressed:
                _check_size(path, shape, dtype, MAX_DEFLATE_RATIO * compressed, exact=False)
            data = bytearray()
            while len(data) <= expected:
                chunk = stream.read(min(CHUNK, expected + 1 - len(data)))
                if not chunk:
                    break
                data += chunk
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    _check_size(path, shape, dtype, len(data), exact=True)
    return _as_array(path, data, shape, dtype)


def _read_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise ValueError(f"{path} is not an IDX file: it starts with {magic!r}, not with two zeros")
    if magic[2] not in DTYPES:
        allowed = ", ".join(f"0x{code:02x}" for code in DTYPES)
        raise ValueError(f"{path} has the element type 0x{magic[2]:02x}; IDX has {allowed}")
    if not 1 <= magic[3] <= MAX_DIMENSIONS:
        message = (
            f"{path} says that it has {magic[3]} dimensions; allowed are 1 to {MAX_DIMENSIONS}"
        )
        raise ValueError(message)
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"{path} is truncated: it ends inside its header")
    shape = tuple(int(size) for size in np.frombuffer(sizes, ">u4"))
    return shape, np.dtype(DTYPES[magic[2]])


def _check_size(
    path: Path, shape: tuple[int, ...], dtype: np.dtype, present: int, *, exact: bool
) -> None:
    expected = math.prod(shape) * dtype.itemsize
    said = f"its header says shape {shape} of {dtype.name}, {expected:,} bytes"
    if present < expected:
        held = f"{present:,} are there" if exact else f"it cannot hold more than {present:,}"
        raise ValueError(f"{path} is truncated: {said}, but {held}")
    if present > expected:
        raise ValueError(f"{path} holds more than it should: {said}, but more follow")


def _as_array(
    path: Path, data: bytes | bytearray, shape: tuple[int, ...], dtype: np.dtype
) -> np.ndarray:
    try:
        array = np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:  # an empty array, but with dimensions whose product overflows
        raise ValueError(f"{path} says shape {shape}, which is too large") from error
    return array.astype(dtype.newbyteorder("="), copy=not array.flags.writeable)


def load_mnist(
    folder: str | os.PathLike[str],
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Read MNIST, or a data set in the same four files (Fashion-MNIST, KMNIST, …).

    Parameters
    ----------
    folder : str or path
        Where ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte``
        and ``t10k-labels-idx1-ubyte`` are, each as it is or with ``.gz`` behind its name.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray
        Images as uint8 of shape (n, height·width): (60000, 784) and (10000, 784) for MNIST, to be
        scaled by the caller (``x / np.float32(255)``); labels as int64 of shape (n,).

    Raises
    ------
    FileNotFoundError
        If one of the files is not there.
    ValueError
        If a file is damaged, or the files do not belong together.

    Notes
    -----
    Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database of handwritten digits". fastmlp
    ships no copy of it.
    """
    arrays = {name: load_idx(_find(Path(folder), file)) for name, file in MNIST_FILES.items()}
    sets = []
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        for array, name, ndim in (
            (x, MNIST_FILES[f"x_{part}"], 3),
            (y, MNIST_FILES[f"y_{part}"], 1),
        ):
            if array.ndim != ndim or array.dtype != np.uint8:
                raise ValueError(
                    f"{name} in {folder} has shape {array.shape} of {array.dtype.name}; "
                    f"expected {ndim} dimension{'s' if ndim > 1 else ''} of uint8"
                )
        if len(x) != len(y):
            raise ValueError(f"{folder} has {len(x):,} {part} images but {len(y):,} labels")
        sets.append((x.reshape(len(x), math.prod(x.shape[1:])), y.astype(np.int64)))
    train, test = sets
    if train[0].shape[1] != test[0].shape[1]:
        shapes = f"{arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]}"
        raise ValueError(f"{folder} has training and test images of different sizes: {shapes}")
    return train, test


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz")
