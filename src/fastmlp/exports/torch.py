"""Models from and to PyTorch.

What stands for a layer or an activation is told by its `counterparts`: a class of torch.nn, or one
of `fastmlp.exports.torch_modules` for what torch.nn lacks. The layers made of layers are walked
through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.exports.reading import Stack, activations_by_name, chosen, layers_by_name
from fastmlp.layers import Activation, Concat, Residual

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from fastmlp.counterparts import Counterpart
    from fastmlp.layers import Layer
    from fastmlp.model import Sequential

_DTYPES = {"torch.float32": "float32", "torch.float64": "float64"}


def _torch() -> ModuleType:
    try:
        import torch
    except ImportError as error:
        message = 'carrying models from and to PyTorch needs it: pip install "fastmlp[torch]"'
        raise ImportError(message) from error
    return torch


def _class(name: str) -> Any:
    """Return a class of ours for what torch.nn lacks, or one of torch.nn."""
    from fastmlp.exports import torch_modules

    return getattr(torch_modules, name, None) or getattr(_torch().nn, name)


# --- from PyTorch ---------------------------------------------------------------------------------


def from_torch(module: Any, *, seed: int | None = 0) -> Sequential:
    """Return a model that computes what a PyTorch module computes, as a copy.

    Parameters
    ----------
    module : torch.nn.Module
        An nn.Sequential, also nested, or a single module, of Linear, the activations, Dropout,
        BatchNorm1d, LayerNorm, Flatten and Identity, or what `Sequential.to_torch` returned.
        Parameters and running statistics are copied. A Linear and the activation behind it become
        one Dense layer; a module with requires_grad=False for all its parameters is frozen.
    seed : int or None
        Of the model.

    Returns
    -------
    Sequential
        Of the module's dtype.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If it is no module of PyTorch.
    ValueError
        If a module in it has no counterpart; the message names it and lists those that have.

    Examples
    --------
    >>> model = fm.from_torch(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU()))
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module must be a torch.nn.Module; got {shown(module)}")
    reader = _Reader()
    reader.read("module", module)
    return reader.stack.model(_dtype(module), seed)


def _dtype(module: Any) -> str:
    tensors = *module.parameters(), *module.buffers()
    found = {str(tensor.dtype) for tensor in tensors if tensor.is_floating_point()}
    if len(found) > 1:
        raise ValueError(f"module must be of one dtype; it has {', '.join(sorted(found))}")
    dtype = found.pop() if found else str(_torch().get_default_dtype())
    if dtype not in _DTYPES:
        allowed = " or ".join(_DTYPES)
        raise ValueError(f"module must be of dtype {allowed}; got {dtype}: use module.float()")
    return _DTYPES[dtype]


class _Reader:
    """Walks through modules and collects layers."""

    def __init__(self, seen: set[int] | None = None) -> None:
        self.stack = Stack()
        self._seen: set[int] = set() if seen is None else seen
        self._layers = layers_by_name("torch")
        self._activations = activations_by_name("torch")

    def read(self, name: str, module: Any) -> None:
        """Append what a module stands for; `name` is its place, for messages."""
        kind = type(module)
        title = f"{name} ({kind.__name__})"
        for part in (module, *module.parameters(recurse=False)):
            if id(part) in self._seen:
                raise ValueError(f"{title} shares parameters with another place: make a copy of it")
            self._seen.add(id(part))
        known = kind.__name__ in self._names and kind is _class(kind.__name__)
        try:
            if not known:
                raise ValueError(_unknown(kind, module, self._names))
            if kind.__name__ == "Sequential":
                for number, child in enumerate(module):  # which names one that is there twice too
                    self.read(f"{name}.{number}", child)
            elif kind.__name__ == "Flatten":
                if (module.start_dim, module.end_dim) != (1, -1):
                    raise ValueError("it must flatten all dimensions but the first")
            elif kind.__name__ == "Residual":
                self._read_residual(title, name, module)
            elif kind.__name__ == "Concat":
                self._read_concat(title, name, module)
            elif kind.__name__ in self._layers:
                self._read_layer(title, module)
            else:
                ours, counterpart = self._activations[kind.__name__]
                self.stack.activate(title, ours(**_settings(module, counterpart)))
        except (TypeError, ValueError) as error:
            inside = str(error).startswith(f"{name}.")
            message = str(error) if inside else f"{title} cannot be carried over: {error}"
            raise ValueError(message) from error

    @property
    def _names(self) -> set[str]:
        containers = {"Sequential", "Flatten", "Residual", "Concat"}
        return {*containers, *self._layers, *self._activations}

    def _read_layer(self, title: str, module: Any) -> None:
        ours, counterpart = self._layers[type(module).__name__]
        settings = _settings(module, counterpart)
        tensors = {name: getattr(module, other) for name, other in counterpart.arrays.items()}
        missing = [
            name
            for name, tensor in tensors.items()
            if tensor is None and name not in counterpart.settings
        ]
        given = list(module.parameters(recurse=False))
        if missing and given:
            raise ValueError(f"it has no {missing[0]}, but other parameters")
        arrays = {
            name: _array(tensor, name in counterpart.transposed)
            for name, tensor in tensors.items()
            if tensor is not None
        }
        # Where ours has parameters and theirs none, they keep their first values: 1 and 0.
        trainable = not missing if not given else any(p.requires_grad for p in given)
        self.stack.add(title, ours, settings, arrays, trainable=trainable)

    def _inside(self, name: str, modules: Any) -> Stack:
        reader = _Reader(self._seen)
        reader.read(name, modules)
        return reader.stack

    def _read_residual(self, title: str, name: str, module: Any) -> None:
        inner = self._inside(f"{name}.layers", module.layers)
        arrays, projection = inner.named(), module.projection
        size = inner.input_size
        if projection is not None:
            way = self._inside(f"{name}.projection", projection)
            arrays["projection.weight"] = way.named()["0.weight"]
            size = way.input_size
        settings = {"layers": inner.layers, "projection": projection is not None}
        settings["input_size"] = size
        self.stack.add(title, Residual, settings, arrays)

    def _read_concat(self, title: str, name: str, module: Any) -> None:
        inner = [
            self._inside(f"{name}.branches.{number}", branch)
            for number, branch in enumerate(module.branches)
        ]
        arrays = {
            f"{number}.{key}": values
            for number, stack in enumerate(inner)
            for key, values in stack.named().items()
        }
        known = [stack.input_size for stack in inner if stack.input_size is not None]
        settings = {"branches": [stack.layers for stack in inner]}
        self.stack.add(title, Concat, settings | {"input_size": next(iter(known), None)}, arrays)


def _unknown(kind: type[Any], module: Any, names: set[str]) -> str:
    children = list(module.named_children())
    inside = [key for key, child in children if type(child).__name__ == "Sequential"]
    hint = ""
    if inside:
        hint = f"; if all it does is {inside[0]}, give that"
    elif children and not kind.__module__.startswith("torch."):
        parts = ", ".join(f"module.{key}" for key, _ in children)
        hint = (
            f"; what its forward does cannot be seen: give torch.nn.Sequential({parts}), with "
            "the activations between them"
        )
    elif kind.__name__ == "LogSoftmax":
        hint = "; leave it out: the loss 'cross_entropy' takes logits"
    return (
        f"the class {kind.__module__}.{kind.__name__} has no counterpart in fastmlp; these have: "
        f"{', '.join(sorted(names))}{hint}"
    )


def _settings(module: Any, counterpart: Counterpart) -> dict[str, Any]:
    # An array that may be missing is an attribute there, and for us a flag.
    arrays = set(counterpart.arrays.values())
    theirs = {name: getattr(module, name) for name in counterpart.attributes}
    flags = {name: value is not None for name, value in theirs.items() if name in arrays}
    settings = counterpart.settings_from(theirs | flags)
    size = settings.get("input_size")
    if isinstance(size, tuple):
        if len(size) != 1:
            raise ValueError(f"it must act on the last dimension alone; it acts on {size}")
        (settings["input_size"],) = size
    return settings


def _array(tensor: Any, transposed: bool) -> np.ndarray:
    if tensor.is_meta:
        raise ValueError("it is on the device 'meta', where it has no values")
    values = tensor.detach().cpu().numpy()
    return values.T if transposed else values


# --- to PyTorch -----------------------------------------------------------------------------------


def to_torch(model: Sequential) -> Any:
    """Return a model as a torch.nn.Sequential; see `Sequential.to_torch`."""
    arrays = {**model.parameters, **model.states}
    return _sequential(model.layers, "", arrays, getattr(_torch(), model.dtype.name)).eval()


def _sequential(layers: Any, prefix: str, arrays: dict[str, np.ndarray], dtype: Any) -> Any:
    modules = []
    for index, layer in enumerate(layers):
        modules += _modules(layer, f"{prefix}{index}", arrays, dtype)
    return _torch().nn.Sequential(*modules)


def _modules(layer: Layer, place: str, arrays: dict[str, np.ndarray], dtype: Any) -> list[Any]:
    """Return what stands for a layer: a module, and one for its activation."""
    if isinstance(layer, Residual):
        inner = _sequential(layer.layers, f"{place}.", arrays, dtype)
        named = dict(layer.children())
        way = [
            _modules(named[key], f"{place}.{key}", arrays, dtype)[0]
            for key in named
            if key == "projection"
        ]
        return [_class("Residual")(inner, *way)]
    if isinstance(layer, Concat):
        branches = [
            _sequential(branch, f"{place}.{number}.", arrays, dtype)
            for number, branch in enumerate(layer.branches)
        ]
        return [_class("Concat")(branches)]
    try:
        counterpart, activation = layer.counterparts.torch, getattr(layer, "activation", None)
        row = None if activation is None else chosen("torch", activation)
        if counterpart is None and not isinstance(layer, Activation):
            raise ValueError("it has no counterpart in PyTorch")
    except ValueError as error:
        raise ValueError(f"layer {place} ({type(layer).__name__}): {error}") from error
    modules = [] if counterpart is None else [_module(layer, counterpart, place, arrays, dtype)]
    if row is not None and activation.name != "identity":
        modules.append(_class(row.name)(**row.arguments(activation)))
    return modules


def _module(
    layer: Layer, counterpart: Counterpart, place: str, arrays: dict[str, np.ndarray], dtype: Any
) -> Any:
    torch = _torch()
    module = _class(counterpart.name)(**counterpart.arguments(layer)).to(dtype)
    for name, attribute in counterpart.arrays.items():
        values = arrays.get(f"{place}.{name}")
        if values is None:  # a layer without bias
            continue
        values = np.ascontiguousarray(values.T if name in counterpart.transposed else values)
        with torch.no_grad():
            getattr(module, attribute).copy_(torch.from_numpy(values))
    return module.requires_grad_(layer.trainable)
