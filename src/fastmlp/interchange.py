"""Arrays from elsewhere: tensors, data frames, and whatever has DLPack or the buffer protocol.

What lies in the memory of the CPU is read where it lies, without a copy. The other way round the
arrays of `model.parameters` are NumPy's, so `torch.from_dlpack`, `numpy.from_dlpack` and memoryview
take them without a copy as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

# DLPack's device types whose memory the CPU can read: CPU, and page-locked or managed memory of
# CUDA and ROCm.
_READABLE = {1, 3, 11, 13}
_DEVICES = {2: "CUDA", 4: "OpenCL", 7: "Vulkan", 8: "Metal", 10: "ROCm", 14: "oneAPI"}


def as_array(argument: str, value: Any) -> np.ndarray:
    """Return an array of any dtype, a view wherever that can be.

    Parameters
    ----------
    argument : str
        What messages call it.
    value : object
        What NumPy takes, a tensor, a data frame, or an object with `__dlpack__`.

    Raises
    ------
    TypeError
        If it is a sparse matrix, on another device, requires grad, or a data frame of something
        else than numbers.
    ValueError
        If rows differ in length.
    """
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if hasattr(value, "toarray"):
        raise TypeError(
            f"{argument} must be a dense array; got the sparse {type(value).__name__}: use "
            f"{argument}.toarray()"
        )
    if hasattr(value, "__dlpack_device__"):
        _check_tensor(argument, value)
    try:
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{argument} must be an array; rows differ in length: {shown(value)}"
        ) from error
    except (BufferError, RuntimeError, TypeError) as error:
        raise TypeError(f"{argument} cannot be read as an array: {error}") from error
    if array.dtype.kind == "O" and hasattr(value, "columns") and hasattr(value, "dtypes"):
        return _frame(argument, value)
    return array


def _check_tensor(argument: str, tensor: Any) -> None:
    kind = type(tensor).__name__
    if getattr(tensor, "requires_grad", False):
        raise TypeError(
            f"{argument} is a {kind} that requires grad, but no gradient will flow back through "
            f"fastmlp: give {argument}.detach()"
        )
    try:
        device = int(tensor.__dlpack_device__()[0])
    except (BufferError, RuntimeError, ValueError):  # of a device that DLPack does not know
        return
    if device not in _READABLE:
        name = _DEVICES.get(device, f"number {device} of DLPack")
        raise TypeError(
            f"{argument} must be in the memory of the CPU; got a {kind} on the device {name}: copy "
            f"it, as {argument}.cpu()"
        )


def _frame(argument: str, frame: Any) -> np.ndarray:
    """Return the columns of a data frame side by side, in the dtype that holds them all."""
    columns = list(_columns(frame))  # of which several may have one name
    arrays = [np.asarray(column) for _, column in columns]
    bad = [
        f"{name!r} ({column.dtype})"
        for (name, column), array in zip(columns, arrays, strict=True)
        if array.dtype.kind not in "fiub"
    ]
    if bad:
        few = ", ".join(bad[:5]) + (", …" if len(bad) > 5 else "")
        raise TypeError(
            f"{argument} has columns that do not hold numbers: {few}; encode them as numbers, or "
            "drop them"
        )
    return np.column_stack(arrays)


def _columns(frame: Any) -> Iterable[tuple[str, Any]]:
    if hasattr(frame, "items"):
        return frame.items()
    return ((column.name, column) for column in frame.iter_columns())
