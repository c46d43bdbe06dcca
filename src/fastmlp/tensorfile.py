"""Named arrays in a safetensors file: a reader that believes nothing and takes little memory.

The file is: the length of a header as a little-endian 64-bit integer, the header, a JSON object of
``name: {"dtype", "shape", "data_offsets"}`` and of strings under "__metadata__", and the bytes of
the arrays, row-major, one after another (https://github.com/huggingface/safetensors).

The package of that name writes the file and judges its form. It reads a tensor into a copy, of a
file that it maps into memory; here the bytes go straight to where they are wanted, so that reading
takes no more than that and a header.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.atomic import replacing
from fastmlp.errors import ModelFormatError, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType
    from typing import Any, BinaryIO, Self


_DTYPES = {
    "BOOL": "?",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
# A model of a thousand layers has a shorter header, and a hostile one of this length that is parsed
# into Python objects, and those made into layers, takes less than 64 MiB.
MAX_HEADER = 1 << 20
_METADATA = "__metadata__"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the header says of an array.

    Attributes
    ----------
    dtype : numpy.dtype
        Little-endian, as in the file.
    shape : tuple of int
    start, stop : int
        Its bytes, counted from the first behind the header.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


def write(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write arrays and strings; what was in the file is replaced at once or not at all.

    Raises
    ------
    ValueError
        If the names and strings make a header so long that no reader here would take it.
    OSError
        If the file cannot be written.
    """
    import json

    package = _package()
    from safetensors.numpy import save

    # The sizes in an entry take about so much; the package writes no longer ones.
    length = len(json.dumps([dict(metadata), list(arrays)])) + 120 * len(arrays)
    if length > MAX_HEADER:
        message = f"{len(arrays):,} arrays and metadata need a header of about {length:,} bytes"
        raise ValueError(f"{message}; a file may have {MAX_HEADER:,}")
    try:
        with replacing(path) as temporary:
            # Not save_file, which has a temporary file of its own, and leaves it when it is killed.
            temporary.write_bytes(save(dict(arrays), dict(metadata)))
    except package.SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error


class TensorFile:
    """An open safetensors file whose header has been checked.

    Parameters
    ----------
    path : str or path
        A regular file. A pipe would never end, or never begin.

    Attributes
    ----------
    path : Path
    metadata : dict of str to str
    entries : dict of str to Entry
        In the order of their bytes, which they cover without gaps.

    Raises
    ------
    ModelFormatError
        If it is not a safetensors file, or is damaged.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        if not self.path.is_dir() and not stat.S_ISREG(self.path.stat().st_mode):
            raise ModelFormatError(f"{self.path} is not a regular file")
        self._file: BinaryIO = self.path.open("rb")
        try:
            header, size = self._header()
            self.metadata = self._strings(header.pop(_METADATA, {}))
            entries = {name: self._entry(name, entry) for name, entry in header.items()}
            self.entries = dict(sorted(entries.items(), key=lambda item: item[1].start))
            self._check_cover(size)
            self._check_form()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def read_into(self, name: str, array: np.ndarray) -> None:
        """Fill a C-contiguous array of the entry's size and dtype with its bytes.

        Raises
        ------
        ModelFormatError
            If the file has become shorter in the meantime.
        """
        entry = self.entries[name]
        target = memoryview(array.reshape(-1).view(np.uint8))
        if len(target) != entry.stop - entry.start:
            raise ValueError(f"{name} takes {entry.stop - entry.start} bytes, not {len(target)}")
        self._file.seek(self._start + entry.start)
        while target:
            count = self._file.readinto(target)
            if not count:
                raise ModelFormatError(f"{self.path} is truncated")
            target = target[count:]

    def read(self, name: str) -> np.ndarray:
        """Return a tensor as a new array, in native byte order.

        Raises
        ------
        ModelFormatError
            If the file has become shorter in the meantime.
        """
        entry = self.entries[name]
        array = np.empty(entry.shape, entry.dtype)
        self.read_into(name, array)
        return array.astype(entry.dtype.newbyteorder("="), copy=False)

    # --- what is checked ---

    def _header(self) -> tuple[dict[str, Any], int]:
        """Parse the header; also return how many bytes follow it."""
        size = os.fstat(self._file.fileno()).st_size
        head = self._file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length > size - 8:
            raise ModelFormatError(f"{self.path} is no safetensors file, or is truncated")
        if length > MAX_HEADER:
            message = f"{self.path} has a header of {length:,} bytes; allowed are {MAX_HEADER:,}"
            raise ModelFormatError(message)
        self._start = 8 + length
        try:
            header = parse(self._file.read(length))
        except ValueError as error:
            raise ModelFormatError(f"{self.path} is no safetensors file: {error}") from error
        if not isinstance(header, dict):
            message = f"{self.path} is no safetensors file: its header is not a JSON object"
            raise ModelFormatError(message)
        return header, size - self._start

    def _strings(self, metadata: object) -> dict[str, str]:
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            raise ModelFormatError(f"{self.path} has damaged metadata: not a mapping to strings")
        return metadata

    def _entry(self, name: str, entry: object) -> Entry:
        fields = entry if isinstance(entry, dict) else {}
        dtype, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
        if (
            len(fields) != 3
            or not isinstance(dtype, str)
            or not _are_sizes(shape)
            or not _are_sizes(offsets)
            or len(offsets) != 2
        ):
            message = f"{self.path} has a damaged header: {shown(name)} is {shown(entry)}"
            raise ModelFormatError(message)
        start, stop = offsets
        if dtype not in _DTYPES:
            raise ModelFormatError(f"{self.path}: {shown(name)} has the dtype {shown(dtype)}")
        # Limits first: a product of many sizes may be a number of millions of digits.
        count = 0 if 0 in shape else 1
        for extent in shape:
            count = min(count * extent, 1 << 63)
        kind = np.dtype(_DTYPES[dtype])
        if stop - start != count * kind.itemsize:
            message = f"{self.path} is damaged: the size of {shown(name)} is not that of its shape"
            raise ModelFormatError(message)
        return Entry(kind, tuple(shape), start, stop)

    def _check_cover(self, size: int) -> None:
        """Check that the arrays lie one after another and end with the file."""
        end = 0
        for name, entry in self.entries.items():
            if entry.start != end:
                message = f"{self.path} is damaged: {shown(name)} does not begin where another ends"
                raise ModelFormatError(message)
            end = entry.stop
        if end != size:
            message = f"{self.path} holds {size:,} bytes of tensors; its header says {end:,}"
            raise ModelFormatError(message)

    def _check_form(self) -> None:
        """Let the package itself judge the form: what others refuse is refused here, too."""
        package = _package()
        try:
            with package.safe_open(self.path, framework="np"):
                pass
        except (package.SafetensorError, ValueError) as error:
            raise ModelFormatError(f"{self.path} is no safetensors file: {error}") from error


def _package() -> ModuleType:
    try:
        import safetensors
    except ImportError as error:
        raise ImportError("model files need safetensors: pip install safetensors") from error
    return safetensors


def _are_sizes(values: object) -> bool:
    """Whether it is a list of integers >= 0; True is not one, and neither is 3.0."""
    return isinstance(values, list) and all(type(n) is int and n >= 0 for n in values)


def parse(text: str | bytes) -> Any:
    """Parse strict JSON: no key stands twice, no NaN, no infinity.

    Raises
    ------
    ValueError
        If it is anything else.
    """
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise ValueError("a key stands twice")
        return entries

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise ValueError(f"{shown(digits)} is not a finite number")
        return value

    def refuse(name: str) -> float:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_float=number, parse_constant=refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
