"""Models as files: safetensors, with the architecture as JSON in its metadata, and no code.

The tensors are the parameters and states of the model by their names, row-major. The metadata has
one entry, "fastmlp": ``{"format": 1, "model": model.config()}``. Any reader of safetensors can read
the file; https://github.com/huggingface/safetensors describes it.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import replacing
from .errors import ModelFormatError, check_integer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO

    import numpy as np

    from .model import Sequential

FORMAT = 1
METADATA_KEY = "fastmlp"
# A model of thousands of layers has a shorter header, and a hostile one of this length that is
# parsed into Python objects takes less than 64 MiB.
MAX_HEADER = 2 << 20
DTYPE_NAMES = {"float32": "F32", "float64": "F64"}


def save(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a model to a safetensors file; what was there is replaced at once or not at all.

    The optimizer's state is not part of it.

    Parameters
    ----------
    model : Sequential
        Its sizes must be known.
    path : str or path
        Where to. The folder must exist.

    Raises
    ------
    ValueError
        If a parameter or a state is not finite, or a scale is not above zero.
    OSError
        If the file cannot be written.
    """
    tensors = {**model.parameters, **model.states}
    for spec in (*model.parameter_specs, *model.state_specs):
        if not spec.allows(tensors[spec.name]):
            raise ValueError(f"a model to be saved must have {spec.name} {spec.allowed}")
    write(path, tensors, {"format": FORMAT, "model": model.config()})


def write(
    path: str | os.PathLike[str], tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]
) -> None:
    """Write tensors and plain data to a safetensors file; all or nothing, and onto the disk.

    Parameters
    ----------
    path : str or path
        What was there is replaced.
    tensors : mapping of str to ndarray
    description : mapping
        Plain data without NaN and infinity; goes into the metadata as JSON.

    Raises
    ------
    OSError
        If the file cannot be written; what was there is there still.
    """
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    text = json.dumps(description, allow_nan=False)
    try:
        with replacing(path) as temporary:
            save_file(dict(tensors), temporary, {METADATA_KEY: text})
    except SafetensorError as error:
        raise OSError(f"{path} could not be written: {error}") from error


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a model that ``model.save`` wrote.

    Nothing in the file is executed, and all of it is checked before memory is taken for the model.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    Sequential
        Predicts what the saved model predicted, to the bit.

    Raises
    ------
    ModelFormatError
        If the file is not a model, is damaged, or was written by a later version of fastmlp. It is
        a ValueError.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> model.save("model.safetensors")
    >>> fm.load("model.safetensors").predict(x)
    """
    from .model import Sequential  # which imports this module to save itself

    path = Path(path)
    header, data_size, description = read_description(path)
    # A checkpoint holds a model, and beside it what is named "…/…".
    extra = {name for name in header if "/" in name} if "checkpoint" in description else set()
    config = description["model"]
    try:
        # Without its input size a model has a structure, but no memory for its parameters.
        input_size = check_integer("input_size", config.pop("input_size", None), low=1)
        model = Sequential.from_config(config)
        parameters, states = model.layout(input_size)
    except Exception as error:  # whatever a description stumbles over, the file is at fault
        raise ModelFormatError(f"{path} describes no valid model: {error}") from error
    expected = {spec.name: (model.dtype, spec.shape) for spec in (*parameters, *states)}
    if extra:
        header = {name: entry for name, entry in header.items() if name not in extra}
        data_size = None
    check_tensors(path, header, expected, data_size)
    model.build(input_size, draw=False)
    _read_tensors(path, model)
    return model


def read_description(path: Path) -> tuple[dict[str, Any], int, dict[str, Any]]:
    """Return the header's tensors, the bytes behind it, and the checked description in it.

    Raises
    ------
    ModelFormatError
        If the file is not one of fastmlp, is damaged, or of a later version.
    OSError
        If the file cannot be read.
    """
    if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
        raise ModelFormatError(f"{path} is not a regular file")
    with path.open("rb") as file:
        header, data_size = _read_header(path, file)
    return header, data_size, _read_metadata(path, header)


def _read_header(path: Path, file: BinaryIO) -> tuple[dict[str, Any], int]:
    """Parse the JSON header of a safetensors file; also return how many bytes follow it."""
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            raise ValueError("a key stands twice in its header")
        return entries

    size = os.fstat(file.fileno()).st_size
    head = file.read(8)
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > size - 8:
        raise ModelFormatError(f"{path} is no safetensors file, or is truncated")
    if length > MAX_HEADER:
        message = f"{path} has a header of {length:,} bytes; allowed are {MAX_HEADER:,}"
        raise ModelFormatError(message)
    try:
        header = json.loads(file.read(length), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} is no safetensors file: {error}") from error
    if not isinstance(header, dict):
        raise ModelFormatError(f"{path} is no safetensors file: its header is not a JSON object")
    return header, size - 8 - length


def _read_metadata(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Return the description in the metadata, which is taken out of the header."""
    import json

    metadata = header.pop("__metadata__", None)
    text = metadata.get(METADATA_KEY) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ModelFormatError(f"{path} holds tensors, but no fastmlp model: metadata is missing")
    try:
        description = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path} has damaged metadata: {error}") from error
    version = description.get("format") if isinstance(description, dict) else None
    if type(version) is not int or version < 1 or not isinstance(description.get("model"), dict):
        raise ModelFormatError(f"{path} has damaged metadata: no format number, or no model")
    if version > FORMAT:
        raise ModelFormatError(
            f"{path} has format {version}; this version of fastmlp reads up to {FORMAT}: upgrade it"
        )
    return description


def check_tensors(
    path: Path,
    header: Mapping[str, Any],
    expected: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
    data_size: int | None = None,
) -> None:
    """Compare names, types, shapes and the size of all tensors with what a file should hold.

    Parameters
    ----------
    path : Path
    header : mapping
        Entries of the tensors.
    expected : mapping of str to (dtype, shape)
    data_size : int, optional
        Bytes of all tensors, if these are all.

    Raises
    ------
    ModelFormatError
        If they differ.
    """
    for name in sorted(expected.keys() ^ header.keys()):
        problem = "lacks" if name in expected else "has a tensor that its model does not:"
        raise ModelFormatError(f"{path} {problem} {name}")
    for name, (dtype, shape) in expected.items():
        entry = header[name]
        entry = entry if isinstance(entry, dict) else {}
        found = entry.get("dtype"), entry.get("shape")
        if found != (DTYPE_NAMES[dtype.name], list(shape)):
            raise ModelFormatError(
                f"{path}: {name} is {found[0]} of shape {found[1]}; "
                f"the model needs {DTYPE_NAMES[dtype.name]} of shape {list(shape)}"
            )
    needed = sum(math.prod(shape) * dtype.itemsize for dtype, shape in expected.values())
    if data_size is not None and data_size != needed:
        message = f"{path} holds {data_size:,} bytes of tensors; the model needs {needed:,}"
        raise ModelFormatError(message)


def _read_tensors(path: Path, model: Sequential) -> None:
    """Copy the tensors into the model, one by one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as tensors:
            for arrays in (model.parameters, model.states):
                for name in arrays:
                    # Assigning checks the values: they must be finite.
                    arrays[name] = tensors.get_tensor(name)
    except (SafetensorError, TypeError, ValueError) as error:
        raise ModelFormatError(f"{path} is damaged: {error}") from error
