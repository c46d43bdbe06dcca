"""The NumPy backend: the definition of every operation, one after another, as its formula says.

It is the oracle of the tests, and runs wherever NumPy does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import random_numbers
from fastmlp.backends import BaseExecutor
from fastmlp.optimizer_base import limit_columns
from fastmlp.plan import Plan, Step, Value, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from fastmlp.loss_base import Loss
    from fastmlp.optimizer_base import Optimizer
    from fastmlp.sources import Source

    Attrs = dict[str, Any]
    Arrays = tuple[np.ndarray, ...]
    Environment = dict[Value, np.ndarray]

# Plans are kept per batch size and use; the last batch of an epoch and a prediction need their own.
_KEPT_PLANS = 16
# Rows that a prediction works on at once, so that its activations stay in cache.
_PREDICTION_ROWS = 1024


def _dense(attrs: Attrs, x: np.ndarray, W: np.ndarray, b: np.ndarray | None = None) -> Arrays:
    z = x @ W
    return (z if b is None else z + b,)


def _dense_backward_params(attrs: Attrs, x: np.ndarray, dz: np.ndarray) -> Arrays:
    dW = x.T @ dz
    return (dW, dz.sum(axis=0, keepdims=True)) if attrs["bias"] else (dW,)


def _loss(
    attrs: Attrs, y_hat: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None
) -> Arrays:
    """Return what each row adds to the mean loss, in float64, and the gradient of the mean."""
    per_output = weight is not None and weight.shape == y_hat.shape != (len(y_hat), 1)
    loss = attrs["loss"]
    if weight is None and loss.kernel is None:  # a function of the whole mini-batch
        value, grad = loss(y_hat, y)
        return np.full((len(y_hat), 1), value / len(y_hat)), grad
    losses, grad = (loss.per_output if per_output else loss.per_sample)(y_hat, y)
    if weight is None:
        share = np.full((len(y_hat), 1), 1.0 / len(y_hat))
    else:
        # Where all weights of a mini-batch are zero there is nothing to learn from it.
        total = weight.sum(dtype=np.float64) / weight.shape[1]
        share = weight / total if total > 0.0 else np.zeros_like(weight)
    losses = losses.astype(np.float64).reshape(len(y_hat), -1)
    return (share * losses).sum(axis=1, keepdims=True), grad * share.astype(grad.dtype)


def _loss_penalty(attrs: Attrs, *weights: np.ndarray) -> Arrays:
    squares = sum(float(np.square(W, dtype=np.float64).sum()) for W in weights)
    return (np.full((1, 1), 0.5 * attrs["strength"] * squares),)


def _penalty(attrs: Attrs, W: np.ndarray, dW: np.ndarray) -> Arrays:
    if attrs["l2"]:
        dW += W.dtype.type(attrs["l2"]) * W
    if attrs["l1"]:
        dW += W.dtype.type(attrs["l1"]) * np.sign(W)
    return (dW,)


def _clip_value(attrs: Attrs, dw: np.ndarray) -> Arrays:
    np.clip(dw, -attrs["limit"], attrs["limit"], out=dw)
    return (dw,)


def _clip_norm(attrs: Attrs, *grads: np.ndarray) -> Arrays:
    squares = sum(float(np.square(dw, dtype=np.float64).sum()) for dw in grads)
    # As in PyTorch the divisor is a little larger than the norm; a gradient of zero stays.
    factor = attrs["limit"] / (math.sqrt(squares) + 1e-6)
    if factor < 1.0:
        for dw in grads:
            dw *= dw.dtype.type(factor)
    return grads


def _average(attrs: Attrs, w: np.ndarray, mean: np.ndarray) -> Arrays:
    mean += mean.dtype.type(attrs["share"]) * (w - mean)
    return (mean,)


def _update(attrs: Attrs, w: np.ndarray, dw: np.ndarray, *slots: np.ndarray) -> Arrays:
    attrs["optimizer"].update(w, dw, list(slots), attrs["hyper"][attrs["group"]])
    return (w, *slots)


def _scale(attrs: Attrs, x: np.ndarray, w: np.ndarray, b: np.ndarray | None = None) -> Arrays:
    return (x * w if b is None else x * w + b,)


def _dropout(attrs: Attrs, x: np.ndarray) -> Arrays:
    place = attrs["seed"], attrs["step"], attrs["stream"], *x.shape
    factor = x.dtype.type(1.0 / (1.0 - attrs["rate"]))
    return (np.where(random_numbers.kept(attrs["rate"], *place), x * factor, x.dtype.type(0)),)


def _noise(attrs: Attrs, x: np.ndarray) -> Arrays:
    place = attrs["seed"], attrs["step"], attrs["stream"], *x.shape
    return (x + x.dtype.type(attrs["std"]) * random_numbers.normal(x.dtype, *place),)


def _reciprocal_deviation(var: np.ndarray, eps: float) -> np.ndarray:
    return 1 / np.sqrt(var + var.dtype.type(max(eps, np.finfo(var.dtype).tiny)))


def _batch_norm(
    attrs: Attrs,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    running_mean: np.ndarray,
    running_var: np.ndarray,
) -> Arrays:
    n, momentum = len(x), x.dtype.type(attrs["momentum"])
    mean = x.mean(axis=0, keepdims=True)
    var = ((x - mean) ** 2).mean(axis=0, keepdims=True)
    rstd = _reciprocal_deviation(var, attrs["eps"])
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (var * x.dtype.type(n / (n - 1)) - running_var)
    return (x - mean) * rstd * w + b, mean, rstd, running_mean, running_var


def _batch_norm_backward(
    attrs: Attrs, dy: np.ndarray, x: np.ndarray, w: np.ndarray, mean: np.ndarray, rstd: np.ndarray
) -> Arrays:
    normal = (x - mean) * rstd
    dw, db = _column_sums({"bias": True}, dy, normal)
    return (dy - db / len(x) - normal * (dw / len(x))) * (w * rstd), dw, db


def _normalize(
    attrs: Attrs,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray,
    mean: np.ndarray,
    var: np.ndarray,
) -> Arrays:
    return ((x - mean) * _reciprocal_deviation(var, attrs["eps"]) * w + b,)


def _normalize_backward(
    attrs: Attrs, dy: np.ndarray, x: np.ndarray, w: np.ndarray, mean: np.ndarray, var: np.ndarray
) -> Arrays:
    rstd = _reciprocal_deviation(var, attrs["eps"])
    return dy * (w * rstd), *_column_sums({"bias": True}, dy, (x - mean) * rstd)


def _layer_norm(attrs: Attrs, x: np.ndarray, w: np.ndarray, b: np.ndarray) -> Arrays:
    mean = x.mean(axis=1, keepdims=True)
    rstd = _reciprocal_deviation(((x - mean) ** 2).mean(axis=1, keepdims=True), attrs["eps"])
    return (x - mean) * rstd * w + b, mean, rstd


def _layer_norm_backward_input(
    attrs: Attrs, dy: np.ndarray, x: np.ndarray, w: np.ndarray, mean: np.ndarray, rstd: np.ndarray
) -> Arrays:
    g, normal = dy * w, (x - mean) * rstd
    along = (g * normal).mean(axis=1, keepdims=True)
    return ((g - g.mean(axis=1, keepdims=True) - normal * along) * rstd,)


def _column_sums(attrs: Attrs, dy: np.ndarray, x: np.ndarray) -> Arrays:
    dw = (dy * x).sum(axis=0, keepdims=True)
    return (dw, dy.sum(axis=0, keepdims=True)) if attrs["bias"] else (dw,)


def _codes(x: np.ndarray, column: int, categories: int) -> np.ndarray:
    """Return the codes in a column; those of inputs are checked, no others go out of bounds."""
    with np.errstate(invalid="ignore"):
        codes = np.rint(x[:, column])
        return np.where((codes >= 0) & (codes < categories), codes, 0).astype(np.intp)


def _embedding(attrs: Attrs, x: np.ndarray, table: np.ndarray) -> Arrays:
    rows = table[_codes(x, attrs["column"], len(table))]
    return (np.hstack([np.delete(x, attrs["column"], axis=1), rows]),)


def _embedding_backward_params(attrs: Attrs, x: np.ndarray, dy: np.ndarray) -> Arrays:
    grad = np.zeros((attrs["categories"], dy.shape[1] - x.shape[1] + 1), dy.dtype)
    codes = _codes(x, attrs["column"], attrs["categories"])
    np.add.at(grad, codes, dy[:, x.shape[1] - 1 :])
    return (grad,)


def _embedding_backward_input(attrs: Attrs, dy: np.ndarray) -> Arrays:
    others = dy[:, : dy.shape[1] - attrs["units"]]
    return (np.insert(others, attrs["column"], 0, axis=1),)


def _max_norm(attrs: Attrs, W: np.ndarray) -> Arrays:
    limit_columns(W, attrs["limit"])
    return (W,)


# One function for each row of fastmlp.operations.OPS: settings and what is read -> what is written.
OPS: dict[str, Callable[..., Arrays]] = {
    "dense": _dense,
    "activation": lambda attrs, z: (attrs["fn"].forward(z),),
    "softmax": lambda attrs, z: (attrs["fn"].forward(z),),
    "standardize": lambda attrs, x, mean, scale: ((x - mean) / scale,),
    "add": lambda attrs, u, v: (u + v,),
    "dropout": _dropout,
    "noise": _noise,
    "scale": _scale,
    "batch_norm": _batch_norm,
    "normalize": _normalize,
    "layer_norm": _layer_norm,
    "concat": lambda attrs, *parts: (np.hstack(parts),),
    "embedding": _embedding,
    "loss": _loss,
    "loss_penalty": _loss_penalty,
    "activation_backward": lambda attrs, da, z, a: (da * attrs["fn"].derivative(z, a),),
    "softmax_backward": lambda attrs, da, a: (attrs["fn"].backward(a, da),),
    "standardize_backward": lambda attrs, dy, scale: (dy / scale,),
    "dense_backward_params": _dense_backward_params,
    "dense_backward_input": lambda attrs, dz, W: (dz @ W.T,),
    "scale_backward_params": _column_sums,
    "batch_norm_backward": _batch_norm_backward,
    "normalize_backward": _normalize_backward,
    "layer_norm_backward_input": _layer_norm_backward_input,
    "layer_norm_backward_params": lambda attrs, dy, x, mean, rstd: _column_sums(
        {"bias": True}, dy, (x - mean) * rstd
    ),
    "columns": lambda attrs, x: (x[:, attrs["start"] : attrs["stop"]],),
    "embedding_backward_params": _embedding_backward_params,
    "embedding_backward_input": _embedding_backward_input,
    "penalty": _penalty,
    "clip_value": _clip_value,
    "clip_norm": _clip_norm,
    "update": _update,
    "max_norm": _max_norm,
    "average": _average,
}


def run(steps: Iterable[Step], values: Environment, **attrs: Any) -> None:
    """Interpret steps: read from `values`, write to it.

    Parameters
    ----------
    steps : iterable of Step
    values : dict of Value to ndarray
        Holds everything that is read before it is written; gets everything that is written.
    **attrs
        Added to the settings of every step, for what changes from batch to batch.
    """
    # What overflows shows in the loss, which is looked at.
    with np.errstate(all="ignore"):
        for step in steps:
            reads = (values[value] for value in step.reads)
            results = OPS[step.op]({**step.attrs, **attrs}, *reads)
            for value, result in zip(step.writes, results, strict=True):
                values[value] = result


class Executor(BaseExecutor):
    """Interprets plans with NumPy. `threads` has no effect: NumPy's BLAS has its own."""

    def __init__(
        self,
        model: Any,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        **settings: Any,
    ):
        super().__init__(model, loss, optimizer, **settings)
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._kept: tuple[Plan, Environment, dict[str, int]] | None = None

    def _plan(self, batch: int, **use: Any) -> Plan:
        structure = self.optimizer.structure if self.optimizer is not None else None
        key = (batch, self.model.revision, structure, *use.items())
        plan = self._plans.get(key)
        if plan is None:
            plan = build(self.model, batch, **use)
            # Built apart and put in place whole, since predictions may run at the same time.
            kept = list(self._plans.items())[1 - _KEPT_PLANS :]
            self._plans = dict([*kept, (key, plan)])
        return plan

    def bind(self, plan: Plan) -> Environment:
        """Return views of the parameters and states under the values of a plan."""
        model = self.model
        flat = model.flat_parameters.array()
        values = {plan.parameters[spec.name]: _part(flat, spec) for spec in model.parameter_specs}
        if plan.states:
            states = model.flat_states.array()
            for spec in model.state_specs:
                values[plan.states[spec.name]] = _part(states, spec)
        if plan.slots:
            vectors = [slot.array() for slot in self.optimizer.state_for(model).slots]
            for spec in model.parameter_specs:
                for value, vector in zip(plan.slots.get(spec.name, ()), vectors, strict=False):
                    values[value] = _part(vector, spec)
        if plan.averages:
            average = self.optimizer.state_for(model).average.array()
            for spec in model.parameter_specs:
                if spec.name in plan.averages:
                    values[plan.averages[spec.name]] = _part(average, spec)
        return values

    def train(
        self,
        source: Source,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        last: int,
        losses: np.ndarray,
    ) -> None:
        model, optimizer = self.model, self.optimizer
        state = optimizer.state_for(model)
        hyper = [
            optimizer.hyper(state.step + 1, last - first, epoch=state.epoch, group=group)
            for group in range(len(optimizer.groups) + 1)
        ]
        shares = self.average_shares(state.step + 1, last - first)
        strengths = shares if self.penalty is None else self.penalty(state.step + 1, last - first)
        for batch in range(first, last):
            rows = source.rows_of(order, batch, batch_size)
            x = source.inputs(rows, model.dtype)
            plan = self._plan(
                len(x),
                training=True,
                loss=self.loss,
                optimizer=optimizer,
                **self.around_update,
                sample_weight=source.weighted,
                penalty=self.penalty is not None,
            )
            values = self.bind(plan)
            values[plan.input] = x
            values[plan.target] = source.targets(rows, model.dtype)
            if plan.sample_weight is not None:
                values[plan.sample_weight] = source.weights(rows)
            scalars = {"hyper": [group[batch - first] for group in hyper]}
            scalars["share"] = shares[batch - first]
            scalars["strength"] = strengths[batch - first]
            run(plan.steps, values, **scalars, seed=self.seed, step=state.step)
            losses[batch] = values[plan.row_loss].sum()
            if plan.penalty is not None:
                losses[batch] += values[plan.penalty].sum()
            state.step += 1

    def predict(
        self, x: np.ndarray, out: np.ndarray, batch_size: int | None, logits: bool = False
    ) -> None:
        chunk = batch_size or _PREDICTION_ROWS
        for start in range(0, len(x), chunk):
            part = x[start : start + chunk].astype(self.model.dtype, copy=False)
            plan = self._plan(len(part), logits=logits)
            values = self.bind(plan)
            values[plan.input] = part
            run(plan.forward, values)
            out[start : start + chunk] = values[plan.output]

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        plan = self._plan(len(x), training=training, gradients=True, input_gradient=True)
        values = self.bind(plan)
        values[plan.input] = x.astype(self.model.dtype)
        place = self.random_place(training)
        run(plan.forward, values, **place)
        # Views of the parameters would count as arrays that somebody may write to.
        live = {*plan.parameters.values(), *plan.states.values()}
        kept = {value: array for value, array in values.items() if value not in live}
        self._kept = plan, kept, place
        return values[plan.output].copy()

    def backward(self, grad: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        plan, kept, place = self._kept
        values = {**self.bind(plan), **kept, plan.output_gradient: grad}
        run(plan.backward, values, **place)
        gradients = self.model.flat_gradients.array()
        for spec in self.model.parameter_specs:
            value = plan.parameter_gradients.get(spec.name)
            if value is not None:
                _part(gradients, spec)[...] = values[value]
        return values[plan.input_gradient].copy() if input_gradient else None


def _part(flat: np.ndarray, spec: Any) -> np.ndarray:
    return flat[spec.offset : spec.offset + spec.size].reshape(spec.matrix_shape)
