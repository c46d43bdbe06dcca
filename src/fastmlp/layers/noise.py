"""Layers that disturb their input in training, and are not there otherwise.

Their random numbers are a function of (seed, step, layer, row, column), see
`fastmlp.random_numbers`: the same on any backend, instruction set and number of threads, and
again the same when a run is resumed. Seed and step are those of the training: the seed of `fit` or
`Trainer.epoch` (by default the model's, as for `Trainer.step`), and the number of updates that the
optimizer has made of this model. The n-th `forward(training=True)` of a model takes the model's
seed and step n - 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.counterparts import Counterpart, Counterparts
from fastmlp.errors import check_number
from fastmlp.layers.base import Layer

if TYPE_CHECKING:
    from fastmlp.plan import PlanBuilder, Value


class Dropout(Layer):
    """Inverted dropout: in training each element is zero with probability `rate`.

    The others are multiplied by 1 / (1 - rate), so that nothing is to be done in `predict`.

    Parameters
    ----------
    rate : float
        From 0 to below 1, kept to 24 bits.

    Raises
    ------
    TypeError, ValueError
        If `rate` is refused.

    Notes
    -----
    Source: N. Srivastava et al., Dropout: a simple way to prevent neural networks from overfitting,
    JMLR 15 (2014).

    Examples
    --------
    >>> model = fm.Sequential([fm.Dense(100, "relu"), fm.Dropout(0.2), fm.Dense(10)])
    """

    settings = ("rate",)
    counterparts = Counterparts(
        torch=Counterpart("Dropout", {"rate": "p"}), keras=Counterpart("Dropout", {"rate": "rate"})
    )

    def __init__(self, rate: float):
        super().__init__()
        self.rate = check_number("rate", rate, low=0.0, high=1.0, open_high=True)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        if not b.training or self.rate == 0.0:
            return x
        return b.emit("dropout", x, name="y", rate=self.rate, stream=b.stream())

    def __repr__(self) -> str:
        return f"Dropout({self.rate!r})"


class GaussianNoise(Layer):
    """In training a number from N(0, std²) is added to each element.

    Parameters
    ----------
    std : float
        Standard deviation, at least 0.

    Raises
    ------
    TypeError, ValueError
        If `std` is refused.

    Examples
    --------
    >>> model = fm.Sequential([fm.GaussianNoise(0.1), fm.Dense(100, "relu"), fm.Dense(1)])
    """

    settings = ("std",)
    counterparts = Counterparts(
        torch=Counterpart("GaussianNoise", {"std": "std"}),
        keras=Counterpart("GaussianNoise", {"std": "stddev"}),
    )

    def __init__(self, std: float):
        super().__init__()
        self.std = check_number("std", std, low=0.0)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        if not b.training or self.std == 0.0:
            return x
        return b.emit("noise", x, name="y", std=self.std, stream=b.stream())

    def __repr__(self) -> str:
        return f"GaussianNoise({self.std!r})"
