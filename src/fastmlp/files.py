"""Models as files: safetensors, with the architecture as JSON in its metadata, and no code.

The tensors are the parameters and states of the model by their names, row-major; any reader of
safetensors can read them. The metadata entry "fastmlp" is
``{"format": 1, "model": model.config()}``. A file of format 2 may hold more beside the model, in
tensors whose names have a slash, so that whoever wants the model can pass over them:

- "optimizer": an optimizer's settings and counts, and the names of the vectors of its state,
  "optimizer/m", each in the order of the flat vector of parameters.
- "checkpoint": see `fastmlp.checkpoints`.

A model alone is written in format 1, so that earlier versions of fastmlp can read it.

A reader believes nothing: names, types, shapes and sizes are compared with what the architecture
needs before memory is taken for it, and values are checked as they come.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastmlp import tensorfile
from fastmlp.errors import ModelFormatError, check_integer, shown
from fastmlp.parameters import allowed, finite
from fastmlp.tensorfile import TensorFile, parse

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    import numpy as np

    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer, OptimizerState
    from fastmlp.parameters import ParameterSpec

FORMAT = 2
METADATA_KEY = "fastmlp"
OPTIMIZER = "optimizer/"
MOST_STEPS = 2**53  # what every reader of JSON can count to


def save(
    model: Sequential,
    path: str | os.PathLike[str],
    optimizer: Optimizer | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a model to a safetensors file; what was there is replaced at once or not at all.

    Parameters
    ----------
    model : Sequential
        Its sizes must be known.
    path : str or path
        Where to. The folder must exist.
    optimizer : Optimizer, optional
        Its settings and its state for this model are saved, too; `load_optimizer` gives them back.
    metadata : mapping of str to str, optional
        Anything else that belongs to the model, as the names of its classes; `load_metadata` gives
        it back. "fastmlp" and "format" are not free.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, a parameter or a state is not finite, a scale is not above zero,
        or the optimizer has a setting that is a function.
    OSError
        If the file cannot be written.
    """
    strings = _check_metadata(metadata)
    arrays = {**model.parameters, **model.states}
    check_model(model, arrays)
    description: dict[str, Any] = {"format": 1, "model": model.config()}
    if optimizer is not None:
        description["format"] = FORMAT
        description["optimizer"], vectors = _describe(optimizer, model)
        arrays |= vectors
    write(path, arrays, description, strings)


def check_model(model: Sequential, values: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError if a parameter or a state of a model may not be what it is in `values`."""
    for spec in (*model.parameter_specs, *model.state_specs):
        if not spec.allows(values[spec.name]):
            raise ValueError(f"a model to be saved must have {spec.name} {spec.allowed}")


def write(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    description: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write tensors and plain data to a safetensors file; all or nothing, and onto the disk.

    Parameters
    ----------
    path : str or path
        What was there is replaced.
    arrays : mapping of str to ndarray
    description : mapping
        Plain data without NaN and infinity; goes into the metadata as JSON.
    metadata : mapping of str to str, optional
        Further strings.

    Raises
    ------
    ValueError
        If the description is so long that no reader would take it.
    OSError
        If the file cannot be written; what was there is there still.
    """
    import json

    text = json.dumps(description, allow_nan=False)
    tensorfile.write(path, arrays, {**(metadata or {}), METADATA_KEY: text})


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
    with TensorFile(path) as file:
        found = _read_structure(file)
        model = found.model
        model.build(found.input_size, draw=False)
        for vector, specs in (
            (model.flat_parameters, found.parameters),
            (model.flat_states, found.states),
        ):
            flat = vector.array()
            for spec in specs:
                values = flat[spec.offset : spec.offset + spec.size]
                _read_values(file, spec.name, values, spec.minimum)
    return model


def load_optimizer(path: str | os.PathLike[str], model: Sequential) -> Optimizer:
    """Read the optimizer that ``model.save(path, optimizer=…)`` wrote beside a model.

    Parameters
    ----------
    path : str or path
        The file.
    model : Sequential
        Whose training goes on: the one loaded from the same file, or any with the same parameters.

    Returns
    -------
    Optimizer
        A new one with the saved settings. Its state for this model is the saved one, so that
        ``model.fit(…, optimizer=optimizer)`` goes on where the training stopped.

    Raises
    ------
    ModelFormatError
        If the file is refused as by `load`, or holds no optimizer.
    ValueError
        If the model has other parameters than the file.
    OSError
        If the file cannot be read.

    Examples
    --------
    >>> model.save("model.safetensors", optimizer=optimizer)
    >>> model = fm.load("model.safetensors")
    >>> optimizer = fm.load_optimizer("model.safetensors", model)
    """
    with TensorFile(path) as file:
        found = _read_structure(file)
        optimizer = found.optimizer
        if optimizer is None:
            raise ModelFormatError(
                f"{file.path} holds no optimizer: save it with model.save(path, optimizer=…)"
            )
        ours = {name: array.shape for name, array in model.parameters.items()}
        theirs = {spec.name: spec.shape for spec in found.parameters}
        if (ours, model.dtype) != (theirs, found.model.dtype):
            raise ValueError(
                f"model must have the parameters that {file.path} was saved with, those of "
                f"{shown(found.model)}; got {shown(model)}"
            )
        # Its slots are among the vectors of the file: it takes no more memory than these.
        state = optimizer.state_for(model)
        if "average" in found.vectors:
            state.begin_average(model)
        vectors = state.vectors()
        if list(vectors) != list(found.vectors):
            raise ModelFormatError(
                f"{file.path}: {optimizer.name} keeps {list(vectors)}; got {shown(found.vectors)}"
            )
        for name, vector in vectors.items():
            _read_values(file, OPTIMIZER + name, vector.array())
        state.take_counts(found.counts)
    return optimizer


def load_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """Read what ``model.save(path, metadata=…)`` wrote beside a model.

    Parameters
    ----------
    path : str or path
        The file.

    Returns
    -------
    dict of str to str
        Empty if there was nothing.

    Raises
    ------
    ModelFormatError
        If the file is refused as by `load`; the values of the model are not read.
    OSError
        If the file cannot be read.
    """
    with TensorFile(path) as file:
        _read_structure(file)
        return {name: text for name, text in file.metadata.items() if name != METADATA_KEY}


# --- an optimizer's state, here and in checkpoints ---


def describe_state(
    optimizer: Optimizer, state: OptimizerState, config: dict[str, Any] | None
) -> dict[str, Any]:
    """Return what a description says of an optimizer, whose settings are `config`."""
    return {
        "name": optimizer.name,
        "config": config,
        "vectors": list(state.vectors()),
        **state.counts(),
    }


def read_counts(about: Mapping[str, Any]) -> dict[str, int]:
    """Return `OptimizerState.counts` as `describe_state` wrote them, or raise what they are not."""
    step = check_integer("step", about["step"], low=0, high=MOST_STEPS)
    epoch = check_integer("epoch", about["epoch"], low=0, high=MOST_STEPS)
    averaged_from = check_integer("averaged_from", about.get("averaged_from", 0), low=0, high=step)
    return {"step": step, "epoch": epoch, "averaged_from": averaged_from}


# --- writing ---


def _check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    if metadata is None:
        return {}
    if not hasattr(metadata, "items"):
        raise TypeError(f"metadata must be a mapping of str to str; got {shown(metadata)}")
    for name, text in metadata.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise TypeError(f"metadata must be strings; got {shown(name)}: {shown(text)}")
        if name == METADATA_KEY:
            raise ValueError(f"metadata must not have the entry {name!r}, which holds the model")
        try:
            f"{name}{text}".encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"metadata must be Unicode text; {shown(name)}: {error}") from error
    return dict(metadata)


def _describe(
    optimizer: Optimizer, model: Sequential
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what the description says of an optimizer, and its slots by parameter."""
    import json

    from fastmlp.optimizer_base import Optimizer

    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"optimizer must be an Optimizer, as fm.Adam(); got {shown(optimizer)}")
    config = optimizer.config()
    try:
        json.dumps(config, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{optimizer!r} has a setting that no file can hold: {error}") from error
    state = optimizer.state_for(model)
    vectors = {OPTIMIZER + name: vector.array() for name, vector in state.vectors().items()}
    for name, values in vectors.items():
        if not finite(values):
            raise ValueError(f"an optimizer to be saved must be finite; {name} is not")
    return describe_state(optimizer, state, config), vectors


# --- reading ---


def read_description(file: TensorFile) -> dict[str, Any]:
    """Return the description in a file's metadata: plain data of which a part has been checked.

    Raises
    ------
    ModelFormatError
        If the file is not one of fastmlp, or of a later version.
    """
    text = file.metadata.get(METADATA_KEY)
    if text is None:
        message = f"{file.path} holds tensors, but no fastmlp model: metadata is missing"
        raise ModelFormatError(message)
    try:
        description = parse(text)
    except ValueError as error:
        raise ModelFormatError(f"{file.path} has damaged metadata: {error}") from error
    version = description.get("format") if isinstance(description, dict) else None
    if type(version) is not int or version < 1:
        raise ModelFormatError(f"{file.path} has damaged metadata: no format number")
    if version > FORMAT:
        raise ModelFormatError(
            f"{file.path} has format {shown(version)}; this version of fastmlp reads up to "
            f"{FORMAT}: upgrade it"
        )
    known = {"format", "model", *(("optimizer", "checkpoint") if version >= 2 else ())}
    unknown = description.keys() - known
    if unknown or not isinstance(description.get("model"), dict):
        what = f"unknown {shown(min(unknown))}" if unknown else "no model"
        raise ModelFormatError(f"{file.path} has damaged metadata: {what}")
    if not isinstance(description.get("checkpoint", {}), dict):
        message = f"the checkpoint is {shown(description['checkpoint'])}"
        raise ModelFormatError(f"{file.path} has damaged metadata: {message}")
    return description


def check_tensors(
    file: TensorFile,
    names: Iterable[str],
    expected: Mapping[str, tuple[np.dtype, tuple[int, ...]]],
) -> None:
    """Compare names, types and shapes of some tensors with what a file should hold.

    Parameters
    ----------
    file : TensorFile
    names : iterable of str
        The tensors that are there and have to be expected.
    expected : mapping of str to (dtype, shape)

    Raises
    ------
    ModelFormatError
        If they differ.
    """
    for name in sorted(expected.keys() ^ set(names)):
        problem = "lacks" if name in expected else "has a tensor that its model does not:"
        raise ModelFormatError(f"{file.path} {problem} {shown(name)}")
    for name, (dtype, shape) in expected.items():
        entry = file.entries[name]
        if (entry.dtype, entry.shape) != (dtype.newbyteorder("<"), shape):
            raise ModelFormatError(
                f"{file.path}: {name} is {entry.dtype.name} of shape {shown(list(entry.shape))}; "
                f"the model needs {dtype.name} of shape {list(shape)}"
            )


@dataclass(frozen=True, slots=True)
class _Structure:
    """What a file describes; names, types and shapes in the file have been compared with it.

    Attributes
    ----------
    model : Sequential
        Without sizes, so without memory for its parameters.
    input_size : int
    parameters, states : list of ParameterSpec
    optimizer : Optimizer or None
        Without state.
    vectors : list of str
        Names of the vectors of its state.
    counts : dict of str to int, or None
        See `OptimizerState.counts`.
    """

    model: Sequential
    input_size: int
    parameters: list[ParameterSpec]
    states: list[ParameterSpec]
    optimizer: Optimizer | None = None
    vectors: Sequence[str] = ()
    counts: Mapping[str, int] | None = None


def _read_structure(file: TensorFile) -> _Structure:
    from fastmlp.model import Sequential  # which imports this module to save itself

    description = read_description(file)
    config = dict(description["model"])
    try:
        # Without its input size a model has a structure, but no memory for its parameters.
        input_size = check_integer("input_size", config.pop("input_size", None), low=1)
        model = Sequential.from_config(config)
        parameters, states = model.layout(input_size)
    except Exception as error:  # whatever a description stumbles over, the file is at fault
        raise ModelFormatError(f"{file.path} describes no valid model: {error}") from error
    found = _Structure(model, input_size, parameters, states)
    expected = {spec.name: (model.dtype, spec.shape) for spec in (*parameters, *states)}
    about, names = description.get("optimizer"), list(file.entries)
    if "checkpoint" in description:
        about = description["checkpoint"].get("optimizer")
        # The rest of a checkpoint is not needed here, nor known.
        names = [name for name in names if "/" not in name or name.startswith(OPTIMIZER)]
    if about is not None:
        try:
            found = _read_optimizer(found, about)
        except Exception as error:  # as above
            raise ModelFormatError(f"{file.path} describes no valid optimizer: {error}") from error
        size = sum(spec.size for spec in parameters)
        expected |= {OPTIMIZER + name: (model.dtype, (size,)) for name in found.vectors}
    check_tensors(file, names, expected)
    return found


def _read_optimizer(found: _Structure, about: Any) -> _Structure:
    """Add what is said of an optimizer, or raise whatever that stumbles over."""
    from fastmlp.optimizers import from_config

    if not isinstance(about, dict):
        raise TypeError(f"it is {shown(about)}")
    vectors = about["vectors"]
    if not isinstance(vectors, list) or not all(isinstance(name, str) for name in vectors):
        raise TypeError(f"vectors must be a list of names; got {shown(vectors)}")
    counts = read_counts(about)
    optimizer = None
    if about["config"] is not None:  # as where a checkpoint could not hold a setting
        optimizer = from_config(about["config"])
        optimizer.check_groups(spec.name for spec in found.parameters)
        if not set(optimizer.slots) <= set(vectors):
            raise ValueError(f"{optimizer.name} keeps {optimizer.slots}; got {shown(vectors)}")
    return replace(found, optimizer=optimizer, vectors=vectors, counts=counts)


def _read_values(
    file: TensorFile, name: str, values: np.ndarray, minimum: float = -math.inf
) -> None:
    """Fill a part of a flat vector and check what came."""
    file.read_into(name, values)
    if sys.byteorder == "big":
        values.byteswap(inplace=True)
    if not finite(values, minimum):
        raise ModelFormatError(f"{file.path} is damaged: {name} must be {allowed(minimum)}")
