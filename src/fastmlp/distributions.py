"""What a random search draws hyper-parameters from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_integer, check_number

if TYPE_CHECKING:
    from typing import Any


class Distribution:
    """Base of what `random_search` draws from."""

    def sample(self, rng: np.random.Generator) -> Any:
        """Return a value."""
        raise NotImplementedError


class Uniform(Distribution):
    """Numbers from `low` to `high`, all equally likely.

    Raises
    ------
    TypeError, ValueError
        If a bound is no number, or `high` not above `low`.
    """

    def __init__(self, low: float, high: float):
        self.low = check_number("low", low)
        self.high = check_number("high", high, low=self.low, open_low=True)

    def sample(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.low!r}, {self.high!r})"


class LogUniform(Uniform):
    """Numbers from `low` > 0 to `high` whose logarithms are equally likely: for learning rates.

    Raises
    ------
    TypeError, ValueError
        If `low` is not above 0, or `high` not above `low`.
    """

    def __init__(self, low: float, high: float):
        super().__init__(check_number("low", low, low=0.0, open_low=True), high)

    def sample(self, rng: np.random.Generator) -> float:
        return math.exp(rng.uniform(math.log(self.low), math.log(self.high)))


class Integers(Distribution):
    """Integers from `low` to `high`, both included.

    Raises
    ------
    TypeError, ValueError
        If a bound is no integer, or `high` below `low`.
    """

    def __init__(self, low: int, high: int):
        self.low = check_integer("low", low)
        self.high = check_integer("high", high, low=self.low)

    def sample(self, rng: np.random.Generator) -> int:
        return int(rng.integers(self.low, self.high, endpoint=True))

    def __repr__(self) -> str:
        return f"Integers({self.low}, {self.high})"
