"""What every layer has: sizes, names of parameters, the forward steps it emits, plain data."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from fastmlp.counterparts import Counterparts
from fastmlp.errors import check_flag
from fastmlp.registry import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    import numpy as np

    from fastmlp.layers.embedding import Embedding
    from fastmlp.network import Network
    from fastmlp.parameters import ParameterSpec
    from fastmlp.plan import PlanBuilder, Value
    from fastmlp.sources import Moments

    Columns = list[int | None]

# The engine counts rows and columns in 32-bit integers.
LARGEST_SIZE = 2**31 - 1


class Layer:
    """Base of the layers.

    Attributes
    ----------
    settings : tuple of str
        Attributes that are also the constructor's arguments.
    input_size, output_size : int or None
        Columns of what comes in and goes out; None until the layer is built.
    trainable : bool
        False freezes the parameters: no gradient, no update.
    learns : bool
        Whether `learn` has to see the training data before the first training. Such a layer
        stands first.
    smallest_batch : int
        Rows that it needs at least in a mini-batch of training.
    counterparts : Counterparts
        What it is in other frameworks.
    """

    settings: tuple[str, ...] = ()
    counterparts: Counterparts = Counterparts()
    learns = False
    smallest_batch = 1

    def __init__(self) -> None:
        self.input_size: int | None = None
        self.output_size: int | None = None
        self._trainable = True
        self._model: weakref.ref[Network] | None = None

    def __setattr__(self, name: str, value: object) -> None:
        # Plans, parameters and files are made from the settings: a change would not reach them.
        if name in self.settings and name in self.__dict__:
            raise AttributeError(
                f"{name} of {self!r} cannot be changed; make a new layer with another {name}"
            )
        super().__setattr__(name, value)

    # What a subclass says of itself.

    def size_after(self, input_size: int) -> int:
        """Return the number of outputs for a number of inputs, or raise ValueError."""
        return input_size

    def parameter_specs(self) -> list[ParameterSpec]:
        """Return the parameters, once the layer is built."""
        return []

    def state_specs(self) -> list[ParameterSpec]:
        """Return the vectors that are saved with the model but not trained."""
        return []

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        """Emit the forward steps from `x` and return the result."""
        raise NotImplementedError(
            f"{type(self).__name__} must emit its steps in emit(b, x), as other layers do; "
            "a function of one's own becomes a layer by Activation(fastmlp.graph.activation(f))"
        )

    def learn(self, moments: Moments, states: Mapping[str, np.ndarray]) -> None:
        """Fill the states from the training data; only where `learns`."""

    def trace(self, columns: Columns, codes: list[tuple[int, Embedding]]) -> Columns:
        """Return which column of the model's input each output is, None for what is computed.

        `columns` says the same of the inputs of this layer. An Embedding adds the column that it
        reads, and itself, to `codes`.
        """
        return [None] * self.size_after(len(columns))

    # What the model does with it.

    def children(self) -> list[tuple[str, Layer]]:
        """Return the layers inside this one, each with its name."""
        return []

    def walk(self) -> Iterator[tuple[str, Layer]]:
        """Go through this layer, named "", and all layers inside, named as "1" or "0.2"."""
        yield "", self
        for name, child in self.children():
            for inner, layer in child.walk():
                yield f"{name}.{inner}" if inner else name, layer

    def build(self, input_size: int) -> None:
        """Fix the sizes."""
        output_size = self.size_after(input_size)
        self.input_size, self.output_size = input_size, output_size

    def attach(self, model: Network) -> None:
        """Tell the layer to which model it belongs.

        Raises
        ------
        ValueError
            If it belongs to another one: a layer's parameters live in one place.
        """
        owner = self._model() if self._model is not None else None
        if owner is not None and owner is not model:
            raise ValueError(
                f"the layer {self!r} belongs to another model already; make a new layer, or a copy "
                "with copy.deepcopy"
            )
        self._model = weakref.ref(model)
        for _, child in self.children():
            child.attach(model)

    def detach(self, model: Network) -> None:
        """Forget a model that failed to become one."""
        if self._model is not None and self._model() is model:
            self._model = None
        for _, child in self.children():
            child.detach(model)

    @property
    def output_activation(self) -> str:
        """Name of the activation that is the last step, "identity" if there is none."""
        return "identity"

    @property
    def trainable(self) -> bool:
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        self._trainable = check_flag("trainable", value)
        self._changed()

    def _changed(self) -> None:
        model = self._model() if self._model is not None else None
        if model is not None:
            model.changed()

    @property
    def parameter_count(self) -> int:
        return sum(spec.size for spec in self.parameter_specs())

    # Plain data.

    def config(self) -> dict[str, Any]:
        """Return the class name and the settings as plain data.

        A function given as an initializer is no data; it is left out, as is what it would give:
        the parameters themselves are saved beside the config.
        """
        settings = {name: plain(getattr(self, name)) for name in self.settings}
        settings = {name: value for name, value in settings.items() if not callable(value)}
        frozen = {} if self._trainable else {"trainable": False}
        return {"class": type(self).__name__, **settings, **frozen}

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        """Return the constructor's argument for a setting as it stands in `config`."""
        return value

    @property
    def title(self) -> str:
        """What a summary shows; layers inside have lines of their own."""
        return repr(self)

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.settings)
        return f"{type(self).__name__}({inside})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": None}
