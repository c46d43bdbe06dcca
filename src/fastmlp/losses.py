"""Losses: value and gradient in one pass.

A loss gives each sample a number and its gradient (`per_sample`); a batch has their mean,
weighted if there are sample weights. Values are accumulated in float64 whatever the dtype.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.registry import Configurable, build, resolve

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.floating]


def _outputs(y_hat: ArrayLike) -> Floats:
    y_hat = np.asarray(y_hat)
    if y_hat.ndim == 1:
        y_hat = y_hat[:, np.newaxis]
    if y_hat.ndim != 2 or y_hat.size == 0:
        raise ValueError(
            f"y_hat must have shape (n, m), at least one sample and one output; got {y_hat.shape}"
        )
    return y_hat if y_hat.dtype.kind == "f" else y_hat.astype(np.float64)


def one_hot(labels: ArrayLike, classes: int, dtype: Any = np.float64) -> Floats:
    """Return one row per label, 1 in the label's column and 0 elsewhere.

    Parameters
    ----------
    labels : array_like of int, shape (n,)
        Class indices, 0 to classes - 1.
    classes : int
        Number of columns.
    dtype : dtype
        Of the result.

    Returns
    -------
    ndarray, shape (n, classes)

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If they are not one-dimensional, or one of them is not a class index.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers; got dtype {labels.dtype}")
    if labels.ndim != 1:
        raise ValueError(f"labels must have shape (n,); got {labels.shape}")
    outside = (labels < 0) | (labels >= classes)
    if outside.any():
        where = int(outside.argmax())
        raise ValueError(
            f"labels must be between 0 and {classes - 1} ({classes} classes); "
            f"got {labels[where]} at index {where}"
        )
    rows = np.zeros((len(labels), classes), dtype)
    rows[np.arange(len(labels)), labels] = 1
    return rows


class Loss(Configurable):
    """Base of the losses.

    Attributes
    ----------
    name : str
        Name in `LOSSES`.
    """

    def __call__(
        self, y_hat: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Floats]:
        """Return the mean loss and its gradient with respect to the predictions.

        Parameters
        ----------
        y_hat : array_like, shape (n, m)
            Predictions; shape (n,) means (n, 1).
        y : array_like, shape (n, m), (n,)
            Targets. Shape (n,) means (n, 1); integers of shape (n,) where m > 1 are class indices.
        sample_weight : array_like, shape (n,), optional
            Weights w >= 0, not all zero.

        Returns
        -------
        value : float
            Σ wᵢ·Lᵢ / Σ wᵢ over the samples, Lᵢ as in `per_sample`.
        gradient : ndarray, shape (n, m)
            Derivatives of `value` with respect to `y_hat`, in its dtype.

        Raises
        ------
        TypeError, ValueError
            If shapes, dtypes or values do not fit.
        """
        y_hat = _outputs(y_hat)
        rows, gradient = self.per_sample(y_hat, self.targets(y, y_hat.shape, y_hat.dtype))
        if sample_weight is None:
            count = len(rows)
            return float(rows.sum(dtype=np.float64) / count), gradient / count
        share = check_sample_weight(sample_weight, len(rows))
        share = share / share.sum()
        value = float(share @ rows.astype(np.float64))
        return value, gradient * share.astype(gradient.dtype)[:, np.newaxis]

    def targets(self, y: ArrayLike, shape: tuple[int, int], dtype: Any = np.float64) -> Floats:
        """Return the targets as a matrix of the predictions' shape (n, m), checked.

        Raises
        ------
        TypeError, ValueError
            If they do not fit the shape, or class indices are out of range.
        """
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y must hold real numbers; got dtype {y.dtype}")
        rows, outputs = shape
        if y.ndim == 1 and outputs > 1 and y.dtype.kind in "iu" and len(y) == rows:
            return one_hot(y, outputs, dtype)
        if y.ndim == 1 and outputs == 1:
            y = y[:, np.newaxis]
        if y.shape != shape:
            raise ValueError(f"y must have the shape {shape} of y_hat; got {y.shape}")
        return y.astype(dtype, copy=False)

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the loss of each sample on its own and its gradient.

        Parameters
        ----------
        y_hat, y : ndarray, shape (n, m)
            Predictions and targets, not checked here.

        Returns
        -------
        losses : ndarray, shape (n,)
        gradients : ndarray, shape (n, m)
            Row i is the derivative of losses[i] with respect to y_hat[i].
        """
        raise NotImplementedError


def check_sample_weight(sample_weight: ArrayLike, samples: int) -> NDArray[np.float64]:
    """Return sample weights as float64, shape (samples,).

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If the shape differs, a weight is negative or not finite, or all are zero.
    """
    weight = np.asarray(sample_weight)
    if weight.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must hold real numbers; got {shown(sample_weight)}")
    weight = weight.astype(np.float64)
    if weight.shape != (samples,):
        raise ValueError(f"sample_weight must have shape ({samples},); got {weight.shape}")
    if not np.isfinite(weight).all() or weight.min() < 0 or weight.max() == 0:
        raise ValueError("sample_weight must be finite, >= 0, and not all zero")
    return weight


class MSE(Loss):
    """Mean squared error: the mean over samples and outputs, 1/(n·m) Σ (ŷ - y)²."""

    name = "mse"

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        return (error * error).mean(axis=1), error * (2.0 / error.shape[1])


class Quadratic(Loss):
    """The textbooks' quadratic cost 1/(2n) Σ ‖ŷ - y‖²: half the squared norm, mean over samples.

    Source: M. Nielsen, Neural Networks and Deep Learning (2015), equation 6.
    """

    name = "quadratic"

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        error = y_hat - y
        return 0.5 * (error * error).sum(axis=1), error


LOSSES: dict[str, type[Loss]] = {kind.name: kind for kind in (MSE, Quadratic)}


def get(loss: str | Loss) -> Loss:
    """Return a loss object from its name, or the object itself.

    Raises
    ------
    TypeError
        If it is neither a string nor a `Loss`.
    ValueError
        If the name is unknown; the message has the closest one.
    """
    return resolve("loss", loss, LOSSES, Loss)


def from_config(config: Mapping[str, Any]) -> Loss:
    """Return the loss that `Loss.config()` described.

    Raises
    ------
    TypeError, ValueError
        If the name or a setting is unknown or refused.
    """
    return build("loss", config, LOSSES)
