"""Exceptions of fastmlp and the checks that raise its ValueErrors and TypeErrors.

Every check names the argument, says what came and what is allowed, and returns the value in the
type that the library computes with, so that a caller validates and converts in one line.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class DivergenceError(ArithmeticError):
    """Training was stopped because the loss is no longer finite.

    Attributes
    ----------
    epoch : int
        Epoch in which it happened, counted from 0.
    batch : int
        Mini-batch of that epoch whose loss was not finite, counted from 0.
    loss : float
        The loss that was met: infinite or NaN.
    """

    def __init__(self, message: str, *, epoch: int = 0, batch: int = 0, loss: float = math.nan):
        super().__init__(message)
        self.epoch = epoch
        self.batch = batch
        self.loss = loss

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by their positional arguments alone; the attributes travel as state.
        return type(self), self.args, self.__dict__


class ManyError(RuntimeError):
    """Some of the trainings of `fit_many` failed; the others ran to their end.

    Attributes
    ----------
    results : list of History or Exception
        For each network what it has: its history, or what was raised.
    errors : dict of int to Exception
        What was raised, by the index of the network.
    """

    def __init__(self, results: list[Any]):
        self.results = results
        self.errors = {
            index: item for index, item in enumerate(results) if isinstance(item, Exception)
        }
        first, error = next(iter(self.errors.items()), (0, None))
        super().__init__(
            f"{len(self.errors)} of {len(results)} trainings failed; the first was that of "
            f"models[{first}], by {type(error).__name__}: {error}"
        )
        self.__cause__ = error

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.results,)


class ModelFormatError(ValueError):
    """A file is not a model that this version of fastmlp can load."""


def shown(value: object) -> str:
    """Return the repr of a value, shortened so that an error message stays readable."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}… ({type(value).__name__})"


def _typed(value: object) -> str:
    return f"{shown(value)} of type {type(value).__name__}"


def _is_boolean(value: object) -> bool:
    # By name, so that this module needs no NumPy.
    return type(value).__name__ in ("bool", "bool_")


# What PyTorch, Keras and scikit-learn call things that have another name here; the likeness of
# letters would lead elsewhere, from "binary_crossentropy" to "cross_entropy".
_FOREIGN = {
    "acc": "accuracy",
    "auc": "roc_auc",
    "bce_with_logits": "bce",
    "binary_crossentropy": "bce",
    "binary_cross_entropy": "bce",
    "categorical_crossentropy": "cross_entropy",
    "cv": "folds",
    "kaiming_normal": "he_normal",
    "kaiming_uniform": "he_uniform",
    "l1": "mae",
    "learning_rate": "optimizer.lr",
    "linear": "identity",
    "log_loss": "cross_entropy",
    "logistic": "sigmoid",
    "lr": "optimizer.lr",
    "mean_absolute_error": "mae",
    "mean_squared_error": "mse",
    "nll": "cross_entropy",
    "smooth_l1": "huber",
    "sparse_categorical_crossentropy": "cross_entropy",
    "squared_error": "mse",
    "swish": "silu",
    "xavier_normal": "glorot_normal",
    "xavier_uniform": "glorot_uniform",
}


def choose(argument: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of the allowed names.

    Parameters
    ----------
    argument : str
        What the message calls the argument.
    value : object
        What came.
    allowed : iterable of str
        The valid names.

    Raises
    ------
    TypeError
        If `value` is not a string.
    ValueError
        If `value` is not an allowed name; the message has the closest one and all of them.
    """
    names = list(allowed)
    listing = ", ".join(map(repr, names))
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, one of {listing}; got {shown(value)}")
    if value in names:
        return value
    import difflib  # only a mistake pays for this import

    foreign = _FOREIGN.get(value.lower())
    close = [foreign] if foreign in names else []
    close = close or difflib.get_close_matches(value.lower(), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{argument} must be one of {listing}; got {shown(value)}{hint}")


def _interval(low: float | None, high: float | None, open_low: bool, open_high: bool) -> str:
    if low is None and high is None:
        return "a finite number"
    left = "" if low is None else f"{'>' if open_low else '>='} {low:g}"
    right = "" if high is None else f"{'<' if open_high else '<='} {high:g}"
    return f"a finite number {' and '.join(part for part in (left, right) if part)}"


def check_number(
    argument: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return a finite real number within bounds as a float.

    Parameters
    ----------
    argument : str
        What the message calls the argument.
    value : object
        What came: a real number of Python or NumPy. Booleans, strings and arrays are refused.
    low, high : float, optional
        Bounds, allowed themselves unless `open_low` or `open_high`.
    open_low, open_high : bool
        Whether a bound is excluded.

    Raises
    ------
    TypeError
        If `value` is not a real number.
    ValueError
        If it is not finite or out of bounds.
    """
    # Strings have no __float__; arrays have one, and a shape.
    numeric = hasattr(value, "__float__") and getattr(value, "shape", ()) == ()
    if not numeric or _is_boolean(value):
        allowed = _interval(low, high, open_low, open_high)
        raise TypeError(f"{argument} must be {allowed}; got {_typed(value)}")
    try:
        number = float(value)  # type: ignore[arg-type]
    except OverflowError:
        number = math.inf
    too_low = low is not None and (number <= low if open_low else number < low)
    too_high = high is not None and (number >= high if open_high else number > high)
    if not math.isfinite(number) or too_low or too_high:
        allowed = _interval(low, high, open_low, open_high)
        raise ValueError(f"{argument} must be {allowed}; got {shown(value)}")
    return number


def check_integer(
    argument: str, value: object, low: int | None = None, high: int | None = None
) -> int:
    """Return an integer within bounds as a Python int.

    Parameters
    ----------
    argument : str
        What the message calls the argument.
    value : object
        What came: an integer of Python or NumPy. Booleans are refused, and floats, even 3.0.
    low, high : int, optional
        Smallest and largest allowed value.

    Raises
    ------
    TypeError
        If `value` is not an integer.
    ValueError
        If it is out of bounds.
    """
    if not hasattr(value, "__index__") or getattr(value, "shape", ()) != () or _is_boolean(value):
        raise TypeError(f"{argument} must be {_integers(low, high)}; got {_typed(value)}")
    number = operator.index(value)  # type: ignore[arg-type]
    if (low is not None and number < low) or (high is not None and number > high):
        raise ValueError(f"{argument} must be {_integers(low, high)}; got {shown(value)}")
    return number


def _integers(low: int | None, high: int | None) -> str:
    bounds = [f">= {low}"] if low is not None else []
    bounds += [f"<= {high}"] if high is not None else []
    return " ".join(["an integer", " and ".join(bounds)]).strip()


def check_flag(argument: str, value: object) -> bool:
    """Return True or False; anything else, 0 and 1 included, is refused.

    Raises
    ------
    TypeError
        If `value` is not a boolean of Python or NumPy.
    """
    if not _is_boolean(value):
        raise TypeError(f"{argument} must be True or False; got {_typed(value)}")
    return bool(value)
