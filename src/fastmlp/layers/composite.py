"""Layers made of layers: a way around some of them, and branches side by side."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastmlp.errors import check_flag, shown
from fastmlp.layers.base import Layer
from fastmlp.layers.dense import Dense

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from fastmlp.layers.base import Columns
    from fastmlp.layers.embedding import Embedding
    from fastmlp.parameters import ParameterSpec
    from fastmlp.plan import PlanBuilder, Value


def check_stack(argument: str, given: Any) -> tuple[Layer, ...]:
    """Return a sequence of layers as a tuple.

    Raises
    ------
    TypeError
        If it is none.
    """
    if isinstance(given, (Layer, str)) or not hasattr(given, "__iter__"):
        raise TypeError(f"{argument} must be a sequence of layers; got {shown(given)}")
    stack = tuple(given)
    for index, layer in enumerate(stack):
        if not isinstance(layer, Layer):
            raise TypeError(
                f"{argument}[{index}] must be a layer, as Dense(10); got {shown(layer)}"
            )
    return stack


def sizes_after(stack: Sequence[Layer], input_size: int) -> list[int]:
    """Return the output size of each layer of a stack."""
    sizes = []
    for layer in stack:
        input_size = layer.size_after(input_size)
        sizes.append(input_size)
    return sizes


def _emit(b: PlanBuilder, named: Iterable[tuple[str, Layer]], x: Value) -> Value:
    for name, layer in named:
        with b.scope(name):
            x = layer.emit(b, x)
    return x


def _build(stack: Sequence[Layer], input_size: int) -> None:
    for layer in stack:
        layer.build(input_size)
        input_size = layer.output_size  # type: ignore[assignment]


def trace(stack: Sequence[Layer], columns: Columns, codes: list[tuple[int, Embedding]]) -> Columns:
    """Return what `Layer.trace` says of a stack."""
    for layer in stack:
        columns = layer.trace(columns, codes)
    return columns


class Composite(Layer):
    """Base of the layers made of layers: it has their parameters and states, under their names."""

    def parameter_specs(self) -> list[ParameterSpec]:
        return self._gathered("parameter_specs")

    def state_specs(self) -> list[ParameterSpec]:
        return self._gathered("state_specs")

    def _gathered(self, what: str) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        return [
            replace(spec, name=f"{name}.{spec.name}")
            for name, layer in self.children()
            for spec in getattr(layer, what)()
        ]

    @property
    def trainable(self) -> bool:
        """Whether any layer inside is trained. Setting it sets all of them."""
        return any(layer.trainable for _, layer in self.children())

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = value = check_flag("trainable", value)
        for _, layer in self.children():
            layer.trainable = value
        self._changed()

    @property
    def title(self) -> str:
        return type(self).__name__


class Residual(Composite):
    """A way around some layers: x + f(x).

    Parameters
    ----------
    layers : sequence of Layer
        f, from input to output.
    projection : bool
        Where f has other sizes at its ends, x cannot be added as it is: with True it is multiplied
        by a learned matrix (a Dense layer without bias, named "projection"), with False such a
        model is refused. Where the sizes agree there is no matrix.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or sizes differ and there is no projection.

    Notes
    -----
    As layer number 3 of a model its parameters are "3.0.weight", … and "3.projection.weight".
    Source: K. He et al., Deep residual learning (2015), arXiv:1512.03385, equations 1 and 2.

    Examples
    --------
    >>> block = fm.Residual([fm.BatchNorm(), fm.Dense(128, "relu"), fm.Dense(64)])
    """

    settings = ("layers", "projection")

    def __init__(self, layers: Sequence[Layer], projection: bool = False):
        super().__init__()
        self.layers = check_stack("layers of Residual", layers)
        if not self.layers:
            raise ValueError("layers of Residual must hold at least one layer; got none")
        self.projection = check_flag("projection", projection)
        self._way: Dense | None = None

    def children(self) -> list[tuple[str, Layer]]:
        named = [(str(index), layer) for index, layer in enumerate(self.layers)]
        if self._way is not None:
            named.append(("projection", self._way))
        return named

    def size_after(self, input_size: int) -> int:
        size = sizes_after(self.layers, input_size)[-1]
        if size != input_size and not self.projection:
            raise ValueError(
                f"a Residual of {input_size} inputs must have as many outputs; its layers have "
                f"{size}: make the last one that long, or give projection=True"
            )
        return size

    def build(self, input_size: int) -> None:
        super().build(input_size)
        _build(self.layers, input_size)
        self._way = None
        if self.output_size != input_size:
            self._way = Dense(self.output_size, bias=False)
            self._way.trainable = self._trainable
            self._way.build(input_size)
            model = self._model() if self._model is not None else None
            if model is not None:
                self._way.attach(model)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        inner = _emit(b, self.children()[: len(self.layers)], x)
        if self._way is not None:
            with b.scope("projection"):
                x = self._way.emit(b, x)
        return b.emit("add", inner, x, name="y")

    def trace(self, columns: Columns, codes: list[tuple[int, Embedding]]) -> Columns:
        trace(self.layers, columns, codes)
        return super().trace(columns, codes)

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        return _stack_from(name, value) if name == "layers" else value

    @property
    def title(self) -> str:
        return "Residual(projection=True)" if self.projection else "Residual"

    def __repr__(self) -> str:
        inside = ", ".join(map(repr, self.layers))
        return f"Residual([{inside}]{', projection=True' if self.projection else ''})"


class Concat(Composite):
    """Branches that read the same input; their outputs stand side by side.

    Parameters
    ----------
    branches : sequence of sequences of Layer
        Each from input to output. An empty one passes the input on.

    Raises
    ------
    TypeError, ValueError
        If `branches` is refused.

    Notes
    -----
    As layer number 3 of a model the parameters of branch 0 are "3.0.0.weight", ….

    Examples
    --------
    A wide part beside a deep one:

    >>> both = fm.Concat([[], [fm.Dense(64, "relu"), fm.Dense(16, "relu")]])
    """

    settings = ("branches",)

    def __init__(self, branches: Sequence[Sequence[Layer]]):
        super().__init__()
        if isinstance(branches, (Layer, str)) or not hasattr(branches, "__iter__"):
            raise TypeError(f"branches must be a list of lists of layers; got {shown(branches)}")
        self.branches = tuple(
            check_stack(f"branches[{index}]", branch) for index, branch in enumerate(branches)
        )
        if not self.branches:
            raise ValueError("branches must hold at least one branch; got none")

    def _named(self, number: int) -> list[tuple[str, Layer]]:
        return [(f"{number}.{i}", layer) for i, layer in enumerate(self.branches[number])]

    def children(self) -> list[tuple[str, Layer]]:
        return [pair for number in range(len(self.branches)) for pair in self._named(number)]

    def size_after(self, input_size: int) -> int:
        return sum([input_size, *sizes_after(branch, input_size)][-1] for branch in self.branches)

    def build(self, input_size: int) -> None:
        super().build(input_size)
        for branch in self.branches:
            _build(branch, input_size)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        parts = [_emit(b, self._named(number), x) for number in range(len(self.branches))]
        return parts[0] if len(parts) == 1 else b.emit("concat", *parts, name="y")

    def trace(self, columns: Columns, codes: list[tuple[int, Embedding]]) -> Columns:
        return [column for branch in self.branches for column in trace(branch, columns, codes)]

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"branches must be a list of lists of layers; got {shown(value)}")
        return [_stack_from(f"branches[{number}]", part) for number, part in enumerate(value)]

    def __repr__(self) -> str:
        inside = ", ".join(f"[{', '.join(map(repr, branch))}]" for branch in self.branches)
        return f"Concat([{inside}])"


def _stack_from(argument: str, value: Any) -> list[Layer]:
    from fastmlp.layers import from_config

    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{argument} must be a list of layers; got {shown(value)}")
    return [from_config(item) for item in value]
