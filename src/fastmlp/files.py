"""Models as files: safetensors, with the architecture as JSON in its metadata, and no code.

The tensors are the parameters and states of the model by their names, row-major. The metadata has
one entry, "fastmlp": ``{"format": 1, "model": model.config()}``. Any reader of safetensors can read
the file; https://github.com/huggingface/safetensors describes it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from .atomic import replacing
from .errors import ModelFormatError, check_integer

if TYPE_CHECKING:
    from typing import Any, BinaryIO

    import numpy as np

    from .model import Sequential
    from .parameters import ParameterSpec

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
    import json

    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {**model.parameters, **model.states}
    for spec in (*model.parameter_specs, *model.state_specs):
        if not spec.allows(tensors[spec.name]):
            raise ValueError(f"a model to be saved must have {spec.name} {spec.allowed}")
    description = json.dumps({"format": FORMAT, "model": model.config()}, allow_nan=False)
    try:
        with replacing(path) as temporary:
            save_file(tensors, temporary, {METADATA_KEY: description})
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
    if not path.is_dir() and not stat.S_ISREG(path.stat().st_mode):
        raise ModelFormatError(f"{path} is not a regular file")
    with path.open("rb") as file:
        header, data_size = _read_header(path, file)
    config = _read_description(path, header)
    try:
        # Without its input size a model has a structure, but no memory for its parameters.
        input_size = check_integer("input_size", config.pop("input_size", None), low=1)
        model = Sequential.from_config(config)
        parameters, states = model.layout(input_size)
    except Exception as error:  # whatever a description stumbles over, the file is at fault
        raise ModelFormatError(f"{path} describes no valid model: {error}") from error
    _check_tensors(path, header, [*parameters, *states], model.dtype, data_size)
    model.build(input_size, draw=False)
    _read_tensors(path, model)
    return model


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


def _read_description(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Return the model's config from the metadata, which is taken out of the header."""
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
    return description["model"]


def _check_tensors(
    path: Path, header: dict[str, Any], specs: list[ParameterSpec], dtype: np.dtype, data_size: int
) -> None:
    """Compare names, types, shapes and the file's size with what the architecture needs."""
    names = {spec.name for spec in specs}
    for name in sorted(names ^ header.keys()):
        problem = "lacks" if name in names else "has a tensor that its model does not:"
        raise ModelFormatError(f"{path} {problem} {name}")
    for spec in specs:
        entry = header[spec.name]
        entry = entry if isinstance(entry, dict) else {}
        found = entry.get("dtype"), entry.get("shape")
        if found != (DTYPE_NAMES[dtype.name], list(spec.shape)):
            raise ModelFormatError(
                f"{path}: {spec.name} is {found[0]} of shape {found[1]}; "
                f"the model needs {DTYPE_NAMES[dtype.name]} of shape {list(spec.shape)}"
            )
    expected = sum(spec.size for spec in specs) * dtype.itemsize
    if data_size != expected:
        message = f"{path} holds {data_size:,} bytes of tensors; the model needs {expected:,}"
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
