"""Plain data for checkpoints: states of callbacks, and what a training is made of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from fastmlp.sources import Source
    from fastmlp.streams import Stream
    from fastmlp.training import Trainer

# Rows whose values stand for all data, when it is asked whether these are the same data.
_SAMPLED_ROWS = 256


# ---- states of callbacks, as plain data and tensors ----------------------------------------------


def pack(value: Any, name: str, tensors: dict[str, np.ndarray]) -> Any:
    """Return a value as JSON can hold it; arrays go into `tensors` under `name`."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
        return {"tensor": name}
    if isinstance(value, (list, tuple)):
        return [pack(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        items = {key: pack(item, f"{name}/{key}", tensors) for key, item in value.items()}
        return {"dict": items}
    raise TypeError(
        f"the state of a callback must be numbers, strings, arrays, and lists and dicts of them; "
        f"{name} is {shown(value)}"
    )


def unpack(value: Any, tensors: Mapping[str, np.ndarray]) -> Any:
    """Return what `pack` was given; tuples have become lists."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == "tensor":
            return tensors[content]
        if kind == "float":
            return float(content)
        return {key: unpack(item, tensors) for key, item in content.items()}
    return value


# ---- what is trained with what -------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """Return a setting as JSON can hold it; of a function its name, of an object its class."""
    if hasattr(value, "config"):
        try:
            return _plain(value.config())
        except TypeError:
            pass
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, np.ndarray):
        return _fingerprint(value)
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}.{named.__qualname__}"


def _fingerprint(array: np.ndarray | None) -> str | None:
    """Return shape, dtype and a checksum of some evenly spaced rows."""
    if array is None:
        return None
    from zlib import crc32

    rows = np.linspace(0, len(array) - 1, min(len(array), _SAMPLED_ROWS)).astype(np.intp)
    check = crc32(np.ascontiguousarray(array[rows]).view(np.uint8).reshape(-1))
    return f"{list(array.shape)} {array.dtype.name} {check:08x}"


def _data_settings(data: Source | Stream | None) -> Any:
    if data is None or not hasattr(data, "n"):
        return None if data is None else "stream"
    return {"x": _fingerprint(data.x), "y": _fingerprint(data.y)} | (
        {} if data.sample_weight is None else {"sample_weight": _fingerprint(data.sample_weight)}
    )


def settings_of(
    trainer: Trainer, data: Source | Stream, validation: Source | None, **settings: Any
) -> dict[str, Any]:
    """Return what decides about a training's result, as plain data.

    All arguments of `Trainer` take part but the model, which is compared by itself, and the number
    of threads, which has no effect.
    """
    import inspect

    names = [
        name
        for name in inspect.signature(type(trainer).__init__).parameters
        if name not in ("self", "model", "threads") and hasattr(trainer, name)
    ]
    values = {name: getattr(trainer, name) for name in names} | settings
    return {
        **{name: _plain(value) for name, value in values.items()},
        "data": _data_settings(data),
        "validation_data": _data_settings(validation),
        "seed of the model": trainer.model.seed,
    }
