"""What every loss has: checked targets and weights, the weighted mean, its place behind a model."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import shown
from fastmlp.registry import Configurable

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from numpy.typing import ArrayLike, NDArray

    from fastmlp.graph import Node

    Floats = NDArray[np.floating]


# --- targets and weights --------------------------------------------------------------------------


def check_labels(labels: ArrayLike, classes: int) -> NDArray[np.integer]:
    """Return class indices as an array of shape (n,), checked.

    Raises
    ------
    TypeError
        If they are not integers.
    ValueError
        If they are not one-dimensional, or not from 0 to classes - 1.
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
    return labels


def check_sample_weight(sample_weight: ArrayLike, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Return weights as float64, of shape (n,) or (n, m).

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If their shape is neither, or a weight is negative or not finite.
    """
    weight = np.asarray(sample_weight)
    if weight.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight must hold real numbers; got {shown(sample_weight)}")
    weight = weight.astype(np.float64, order="C")
    if weight.shape not in (shape[:1], shape):
        raise ValueError(
            f"sample_weight must have shape ({shape[0]},), or {shape} to weigh each output; "
            f"got {weight.shape}"
        )
    if not np.isfinite(weight).all() or weight.min() < 0:
        row = int(np.argwhere(~np.isfinite(weight) | (weight < 0))[0][0])
        raise ValueError(
            f"sample_weight must be finite and >= 0; sample_weight[{row}] is {weight[row]}"
        )
    return weight


def check_predictions(y_hat: ArrayLike) -> Floats:
    """Return predictions as a floating matrix of shape (n, m).

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        If they are no vector or matrix, or empty.
    """
    y_hat = np.asarray(y_hat)
    if y_hat.dtype.kind not in "biuf":
        raise TypeError(f"y_hat must hold real numbers; got dtype {y_hat.dtype}")
    if y_hat.ndim == 1:
        y_hat = y_hat[:, np.newaxis]
    if y_hat.ndim != 2 or y_hat.size == 0:
        raise ValueError(
            f"y_hat must have shape (n, m), at least one sample and one output; got {y_hat.shape}"
        )
    return y_hat if y_hat.dtype.kind == "f" else y_hat.astype(np.float64)


# --- what every loss has --------------------------------------------------------------------------


class Loss(Configurable):
    """Base of the losses.

    Attributes
    ----------
    name : str
        Name in `LOSSES`.
    kernel : str or None
        Name of the native kernel; None if there is none, as for a Python function.
    alpha : float
        The one number in the formula (delta, q, label_smoothing); 0.0 where there is none.
    fused_activation : str or None
        The output activation that the loss does itself, better than the two one after the other:
        "softmax" or "sigmoid".
    smooth : bool
        Whether the gradient is continuous.
    bounds : (float, float)
        The least and the largest target that the loss can take.
    """

    alpha: float = 0.0
    fused_activation: str | None = None
    smooth: bool = True
    bounds: tuple[float, float] = (-inf, inf)

    @property
    def kernel(self) -> str | None:
        return self.name

    def __call__(
        self, y_hat: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> tuple[float, Floats]:
        """Return the mean loss and its gradient with respect to the predictions.

        Parameters
        ----------
        y_hat : array_like, shape (n, m)
            Predictions; shape (n,) means (n, 1).
        y : array_like, shape (n, m) or (n,)
            Targets. Shape (n,) means (n, 1); integers of shape (n,) where m > 1 are class indices.
        sample_weight : array_like, shape (n,) or (n, m), optional
            Weights w >= 0: of each sample, or of each output (a mask), where the loss is a sum over
            outputs. If all are zero, so are the results.

        Returns
        -------
        value : float
            Σ wᵢ·Lᵢ / Σ wᵢ over the samples, Lᵢ as in `per_sample`. With a weight for each output,
            Σ wᵢⱼ·Lᵢⱼ / (Σ wᵢⱼ / m), where Lᵢ = Σⱼ Lᵢⱼ: equal weights along a row are the row's.
        gradient : ndarray, shape (n, m)
            Derivatives of `value` with respect to `y_hat`, in its dtype.

        Raises
        ------
        TypeError, ValueError
            If shapes, dtypes or values do not fit.
        """
        y_hat = check_predictions(y_hat)
        targets = self.targets(y, y_hat.shape, y_hat.dtype)
        if sample_weight is None:
            losses, gradient = self.per_sample(y_hat, targets)
            return float(losses.sum(dtype=np.float64) / len(losses)), gradient / len(losses)
        weight = check_sample_weight(sample_weight, y_hat.shape)
        if weight.ndim == 2:
            losses, gradient = self.per_output(y_hat, targets)
            total = weight.sum() / weight.shape[1]
        else:
            losses, gradient = self.per_sample(y_hat, targets)
            total = weight.sum()
        share = weight / total if total > 0.0 else weight
        value = float((share * losses).sum())
        share = share.astype(gradient.dtype)
        return value, gradient * (share if share.ndim == 2 else share[:, np.newaxis])

    def to_node(self, graph: ModuleType, y_hat: Node, y: Node) -> Node:
        """Return the loss as a node of a computational graph, for `Sequential.graph`.

        Parameters
        ----------
        graph : module
            `fastmlp.graph`, whose functions compute with nodes.
        y_hat, y : fastmlp.graph.Node, shape (n, m)

        Returns
        -------
        Node, shape (n, m) or (n,)
            Of each output, or of each sample where the loss joins outputs.

        Raises
        ------
        TypeError
            If the loss is not known as a graph function.
        """
        raise TypeError(
            f"{self!r} is not known as a graph function: write the loss with fastmlp.graph.loss"
        )

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

    def limit(self, dtype: Any) -> float:
        """Return the most that one output (or class) adds to the value of a sample's loss.

        A loss that has a limit applies it in `per_sample`, before a mean over outputs; gradients
        know nothing of it. Kernels are told.
        """
        return float("inf")

    def per_output(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the share of each output in its sample's loss, and the gradient; both (n, m).

        Raises
        ------
        ValueError
            If the loss of a sample is no sum over its outputs.
        """
        raise ValueError(
            f"loss {self.name!r} joins the outputs of a sample, so sample_weight must have "
            f"shape (n,); got {y_hat.shape}"
        )

    def weighs_outputs(self, outputs: int) -> bool:
        """Return whether each of so many outputs may have a weight of its own."""
        return type(self).per_output is not Loss.per_output

    def targets(self, y: ArrayLike, shape: tuple[int, int], dtype: Any = np.float64) -> Floats:
        """Return the targets as a matrix of the predictions' shape, checked, in the dtype given.

        Raises
        ------
        TypeError, ValueError
            As `check_targets`.
        """
        y = self.check_targets(y, shape)
        if y.ndim == 2:
            return y.astype(dtype, copy=False)
        rows = np.zeros(shape, dtype)
        rows[np.arange(len(y)), y] = 1
        return rows

    def check_targets(self, y: ArrayLike, shape: tuple[int, int]) -> NDArray[Any]:
        """Check targets against predictions of shape (n, m), without copying them.

        Returns
        -------
        ndarray, shape (n, m) or (n,)
            Targets as they came, or class indices.

        Raises
        ------
        TypeError
            If they are not real numbers.
        ValueError
            If they do not fit the shape, class indices are out of range, or the loss cannot take
            their values.
        """
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise TypeError(f"y must hold real numbers; got dtype {y.dtype}")
        rows, outputs = shape
        if y.ndim == 1 and outputs > 1 and y.dtype.kind in "iu" and len(y) == rows:
            return check_labels(y, outputs)
        if y.ndim == 1 and outputs == 1:
            y = y[:, np.newaxis]
        if y.shape != tuple(shape):
            hint = " (class indices must be integers)" if y.shape == (rows,) else ""
            raise ValueError(f"y must have the shape {tuple(shape)} of y_hat; got {y.shape}{hint}")
        self.check_values(y)
        return y

    def check_values(self, y: NDArray[Any]) -> None:
        """Raise ValueError if the loss cannot take these targets, of shape (n, m)."""
        low, high = self.bounds
        if (low, high) == (-inf, inf) or (y.min() >= low and y.max() <= high):
            return
        allowed = f">= {low:g}" if high == inf else f"between {low:g} and {high:g}"
        raise ValueError(f"y must be {allowed} for {self.name}; got {y.min()} to {y.max()}")

    def behind(self, output_activation: str) -> tuple[Loss, bool]:
        """Return how `fit` uses this loss behind the output activation of a model.

        Parameters
        ----------
        output_activation : str
            Name of the activation.

        Returns
        -------
        loss : Loss
            The loss to train with: this one, or its form on logits.
        fused : bool
            Whether it takes the place of the activation too, so that it is given z instead of
            a = f(z), and its gradient is that of z.

        Raises
        ------
        ValueError
            If the loss needs logits and cannot have them.
        """
        return self, False


class ElementwiseLoss(Loss):
    """A loss that is a sum or mean over outputs of a function of (ŷ, y)."""

    reduction: str = "mean"

    def divisor(self, outputs: int) -> int:
        """Return what the sum over outputs is divided by: their number, or 1."""
        return outputs if self.reduction == "mean" else 1

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return the function's values and derivatives, before the sum or mean over outputs."""
        raise NotImplementedError

    def per_output(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        losses, gradients = self.elements(y_hat, y)
        divisor = self.divisor(y_hat.shape[1])
        return losses / divisor, gradients / divisor

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        losses, gradients = self.elements(y_hat, y)
        divisor = self.divisor(y_hat.shape[1])
        return losses.sum(axis=1) / divisor, gradients / divisor


class LogitLoss(Loss):
    """A classification loss that is stable on logits and knows the activation that goes with it."""

    from_logits: bool

    def on_logits(self) -> Loss:
        """Return this loss with from_logits=True."""
        if self.from_logits:
            return self
        settings = {name: getattr(self, name) for name in self.settings}
        return type(self)(**{**settings, "from_logits": True})

    def behind(self, output_activation: str) -> tuple[Loss, bool]:
        if output_activation not in ("identity", self.fused_activation):
            from fastmlp.losses import LOSSES

            fused = {getattr(loss, "fused_activation", None): name for name, loss in LOSSES.items()}
            other = fused.get(output_activation)
            raise ValueError(
                f"loss {self.name!r} needs the output activation 'identity' or "
                f"{self.fused_activation!r}; got {output_activation!r}"
                + (f", which goes with the loss {other!r}" if other else "")
            )
        return self.on_logits(), output_activation == self.fused_activation

    @property
    def kernel(self) -> str | None:
        return f"{self.name}_logits" if self.from_logits else self.name
