"""Learned vectors for the categories of a column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp import initializers
from fastmlp.counterparts import Counterpart, Counterparts
from fastmlp.errors import check_integer
from fastmlp.layers.base import LARGEST_SIZE, Layer
from fastmlp.layers.dense import short
from fastmlp.parameters import ParameterSpec

if TYPE_CHECKING:
    from typing import Any

    from fastmlp.initializers import InitializerLike
    from fastmlp.layers.base import Columns
    from fastmlp.plan import PlanBuilder, Value

# Codes pass through the model's dtype: float32 holds integers exactly up to here.
_MOST_CATEGORIES = 2**24


class Embedding(Layer):
    """The integer codes of one column are replaced by learned vectors.

    The other columns pass unchanged; the vector comes behind them. So several of these layers in
    a row serve several categorical columns, of which each leaves the columns to the right of
    its own one place further left.

    Parameters
    ----------
    categories : int
        Codes are the integers 0 … categories - 1, at most 2²⁴ of them.
    units : int
        Length of a vector.
    column : int
        The column of its input that holds the codes; from the end, if negative. It must be one of
        the model's own inputs, so nothing but other Embedding layers may stand before this one
        (also inside a Concat).
    initializer : str or callable
        First values of the table, by default N(0, 1) as in PyTorch.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused; when the model sees data, if a code is no integer in that range.

    Notes
    -----
    Parameter "weight" of shape (categories, units). Every step updates the whole table, as the
    dense gradients of PyTorch do, so an optimizer with momentum moves rows that a mini-batch
    lacks, and the penalties l1 and l2 hold for all of it.

    Examples
    --------
    Three columns: a number, one of 7 weekdays, one of 50 shops.

    >>> first = [fm.Embedding(7, 3, column=1), fm.Embedding(50, 8, column=1)]
    >>> model = fm.Sequential([*first, fm.Dense(32, "relu"), fm.Dense(1)])
    """

    settings = ("categories", "units", "column", "initializer")
    counterparts = Counterparts(
        torch=Counterpart(
            "ColumnEmbedding",
            {
                "input_size": "in_features",
                "categories": "num_embeddings",
                "units": "embedding_dim",
                "column": "column",
            },
            arrays={"weight": "weight"},
        ),
    )

    def __init__(
        self,
        categories: int,
        units: int,
        column: int = 0,
        initializer: InitializerLike = "normal",
    ):
        super().__init__()
        self.categories = check_integer("categories", categories, low=1, high=_MOST_CATEGORIES)
        self.units = check_integer("units", units, low=1, high=LARGEST_SIZE)
        self.column = check_integer("column", column, low=-LARGEST_SIZE, high=LARGEST_SIZE)
        self.initializer = initializers.get(initializer)

    def size_after(self, input_size: int) -> int:
        if not -input_size <= self.column < input_size:
            raise ValueError(
                f"column of {self!r} must be from {-input_size} to {input_size - 1}, as it has "
                f"{input_size} inputs; got {self.column}"
            )
        return input_size - 1 + self.units

    def parameter_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        shape = (self.categories, self.units)
        return [ParameterSpec("weight", shape, self.initializer, True, self.trainable)]

    def place_in(self, input_size: int) -> int:
        """Return the number of the column, counted from the left, of so many."""
        return self.column % input_size

    def trace(self, columns: Columns, codes: list[tuple[int, Embedding]]) -> Columns:
        place = self.place_in(len(columns))
        source = columns[place]
        if source is None:
            raise ValueError(
                f"{self!r} must read one of the model's own input columns, which hold the codes; "
                "what it would read is computed by a layer before it"
            )
        codes.append((source, self))
        return columns[:place] + columns[place + 1 :] + [None] * self.units

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        column = self.place_in(x.cols)
        return b.emit("embedding", x, b.parameter("weight"), name="y", column=column)

    @classmethod
    def setting_from(cls, name: str, value: Any) -> Any:
        if name == "initializer" and hasattr(value, "keys"):
            return initializers.from_config(value)
        return value

    def __repr__(self) -> str:
        inside = f"{self.categories}, {self.units}, column={self.column}"
        if self.initializer != initializers.get("normal"):
            inside += f", initializer={short(self.initializer)}"
        return f"Embedding({inside})"
