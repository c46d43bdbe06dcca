"""Layers that shift and scale their input, column by column or row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import initializers
from fastmlp.counterparts import Counterpart, Counterparts
from fastmlp.errors import check_flag, check_number
from fastmlp.layers.base import Layer
from fastmlp.parameters import ABOVE_ZERO, ParameterSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastmlp.plan import PlanBuilder, Value
    from fastmlp.sources import Moments


class Standardize(Layer):
    """Inputs of zero mean and unit variance: (x - mean) / scale, column by column.

    Mean and standard deviation (over n, as scikit-learn's StandardScaler) are learned from the
    training data when the model is first fitted, or by `Sequential.adapt`, and are saved with the
    model; until then inputs pass unchanged. A column that does not vary has scale 1. The layer
    stands first in its model.
    """

    learns = True
    counterparts = Counterparts(
        torch=Counterpart(
            "Standardize",
            {"input_size": "num_features"},
            arrays={"mean": "mean", "scale": "scale"},
        ),
    )

    def state_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        shape = (self.input_size,)
        return [
            ParameterSpec("mean", shape, initializers.Zeros(), False, False),
            ParameterSpec("scale", shape, initializers.Ones(), False, False, minimum=ABOVE_ZERO),
        ]

    def learn(self, moments: Moments, states: Mapping[str, np.ndarray]) -> None:
        states["mean"][...] = moments.mean
        # A deviation that is zero in the model's dtype divides nothing.
        scale = moments.deviation.astype(states["scale"].dtype)
        states["scale"][...] = np.where(scale > 0, scale, 1)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        return b.emit("standardize", x, b.state("mean"), b.state("scale"), name="y")


class _Affine(Layer):
    """With a learned weight and bias for each column; no penalty holds for them."""

    def parameter_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        shape, free = (self.input_size,), self.trainable
        return [
            ParameterSpec("weight", shape, initializers.Ones(), False, free),
            ParameterSpec("bias", shape, initializers.Zeros(), False, free),
        ]


class BatchNorm(_Affine):
    """Batch normalization: (x - mean) / √(variance + eps) · weight + bias, column by column.

    In training mean and variance are those of the mini-batch, and move the running ones, which
    `predict` and `forward` use: running ← (1 - momentum) · running + momentum · batch. As in
    PyTorch the variance of the mini-batch is the biased one (over n), and the running variance
    is moved by the unbiased one (over n - 1). Freezing the layer keeps weight and bias; the running
    statistics still follow the data, as in PyTorch.

    Parameters
    ----------
    momentum : float
        Share of the new mini-batch in the running statistics, 0 to 1.
    eps : float
        Added to the variance, greater than 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused; in training, if a mini-batch has one row only, whose variance
        says nothing.

    Notes
    -----
    Parameters "weight" (ones) and "bias" (zeros), states "running_mean" (zeros) and "running_var"
    (ones), all of shape (n_in,). Source: S. Ioffe, C. Szegedy (2015), arXiv:1502.03167.

    Examples
    --------
    >>> model = fm.Sequential([fm.Dense(64, "relu"), fm.BatchNorm(), fm.Dense(1)])
    """

    settings = ("momentum", "eps")
    counterparts = Counterparts(
        torch=Counterpart(
            "BatchNorm1d",
            {"input_size": "num_features", "momentum": "momentum", "eps": "eps"},
            fixed={"track_running_stats": True},
            arrays={
                "weight": "weight",
                "bias": "bias",
                "running_mean": "running_mean",
                "running_var": "running_var",
            },
        ),
        keras=Counterpart(
            "BatchNormalization",
            {"eps": "epsilon"},
            complements={"momentum": "momentum"},
            fixed={"axis": (-1, 1)},
            arrays={
                "weight": "gamma",
                "bias": "beta",
                "running_mean": "moving_mean",
                "running_var": "moving_variance",
            },
        ),
    )
    smallest_batch = 2

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5):
        super().__init__()
        self.momentum = check_number("momentum", momentum, low=0.0, high=1.0)
        self.eps = check_number("eps", eps, low=0.0, open_low=True)

    def state_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        shape = (self.input_size,)
        return [
            ParameterSpec("running_mean", shape, initializers.Zeros(), False, False),
            ParameterSpec("running_var", shape, initializers.Ones(), False, False, minimum=0.0),
        ]

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        weight, bias = b.parameter("weight"), b.parameter("bias")
        running = b.state("running_mean"), b.state("running_var")
        if not b.training:
            return b.emit("normalize", x, weight, bias, *running, name="y", eps=self.eps)
        y = b.local("y", x.rows, x.cols)
        moments = b.local("mean", 1, x.cols), b.local("rstd", 1, x.cols)
        b.emit_into(
            "batch_norm",
            (x, weight, bias, *running),
            (y, *moments, *running),
            momentum=self.momentum,
            eps=self.eps,
        )
        return y


class LayerNorm(_Affine):
    """Layer normalization: (x - mean) / √(variance + eps) · weight + bias, each row by itself.

    Mean and (biased) variance are taken over the columns of a row, in training and `predict`
    alike.

    Parameters
    ----------
    eps : float
        Added to the variance, greater than 0.

    Raises
    ------
    TypeError, ValueError
        If `eps` is refused.

    Notes
    -----
    Parameters "weight" (ones) and "bias" (zeros) of shape (n_in,). Source: J. L. Ba, J. R. Kiros,
    G. E. Hinton (2016), arXiv:1607.06450.

    Examples
    --------
    >>> model = fm.Sequential([fm.Dense(64, "relu"), fm.LayerNorm(), fm.Dense(1)])
    """

    settings = ("eps",)
    counterparts = Counterparts(
        torch=Counterpart(
            "LayerNorm",
            {"input_size": "normalized_shape", "eps": "eps"},
            arrays={"weight": "weight", "bias": "bias"},
        ),
        keras=Counterpart(
            "LayerNormalization",
            {"eps": "epsilon"},
            fixed={"axis": (-1, 1, [1], [-1])},
            arrays={"weight": "gamma", "bias": "beta"},
        ),
    )

    def __init__(self, eps: float = 1e-5):
        super().__init__()
        self.eps = check_number("eps", eps, low=0.0, open_low=True)

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        y = b.local("y", x.rows, x.cols)
        moments = b.local("mean", x.rows, 1), b.local("rstd", x.rows, 1)
        reads = x, b.parameter("weight"), b.parameter("bias")
        b.emit_into("layer_norm", reads, (y, *moments), eps=self.eps)
        return y


class Scale(Layer):
    """A learned factor for each column, and a shift: x · weight + bias.

    With a small `initial` at the end of a Residual's layers it is LayerScale, with 0 SkipInit;
    frozen it is a fixed rescaling.

    Parameters
    ----------
    initial : float
        First value of all factors.
    bias : bool
        Whether there is a shift, of first value 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.

    Notes
    -----
    Parameters "weight" and, where asked for, "bias", of shape (n_in,); no penalty holds for them.
    Sources: H. Touvron et al. (2021), arXiv:2103.17239; S. De, S. Smith (2020), arXiv:2002.10444.

    Examples
    --------
    >>> block = fm.Residual([fm.Dense(64, "relu"), fm.Dense(64), fm.Scale(1e-4)])
    """

    settings = ("initial", "bias")
    counterparts = Counterparts(
        torch=Counterpart(
            "Scale",
            {"input_size": "num_features", "bias": "bias"},
            arrays={"weight": "weight", "bias": "bias"},
        ),
    )

    def __init__(self, initial: float = 1.0, bias: bool = False):
        super().__init__()
        self.initial = check_number("initial", initial)
        self.bias = check_flag("bias", bias)

    def parameter_specs(self) -> list[ParameterSpec]:
        if self.input_size is None:
            return []
        shape, free = (self.input_size,), self.trainable
        first = initializers.Constant(self.initial)
        specs = [ParameterSpec("weight", shape, first, False, free)]
        if self.bias:
            specs.append(ParameterSpec("bias", shape, initializers.Zeros(), False, free))
        return specs

    def emit(self, b: PlanBuilder, x: Value) -> Value:
        parameters = [b.parameter(spec.name) for spec in self.parameter_specs()]
        return b.emit("scale", x, *parameters, name="y")
