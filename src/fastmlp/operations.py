"""Operations of plans: for each its name, the shapes of its results, and its backward pass.

A plan is made of steps, and a step is an operation applied to values, the matrices of a plan. What
stands behind a step is one row of the table `OPS`, so that a layer emits its forward steps alone.
Rules emit steps of their own through the `fastmlp.plan.PlanBuilder` that they are given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastmlp.plan import PlanBuilder

    Shape = tuple[int, int]


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One matrix of a plan; compared by identity.

    Attributes
    ----------
    name : str
        Unique in its plan. Parameters and states have the model's names ("0.weight").
    rows, cols : int
        Shape. Vectors are 1 × n.
    role : str
        "input", "target", "sample_weight", "activation", "parameter", "state" (a vector that is
        not trained, such as the mean of Standardize), "slot" (a state vector of the optimizer, or
        the moving average of a parameter), "gradient" (of an activation), "parameter_gradient",
        "row_loss" or "penalty".
    """

    name: str
    rows: int
    cols: int
    role: str

    @property
    def shape(self) -> Shape:
        return self.rows, self.cols


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """One operation of a plan: a row of `OPS`, the values it reads and writes, its settings."""

    op: str
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    attrs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        def names(values: tuple[Value, ...]) -> str:
            return ", ".join(value.name for value in values)

        settings = "".join(f" {key}={value!r}" for key, value in self.attrs.items())
        return f"{names(self.writes)} = {self.op}({names(self.reads)}){settings}"


@dataclass(frozen=True, slots=True)
class Op:
    """One operation: its name, the shapes of its results, and its backward pass.

    `shapes(reads, attrs)` gives the shape of each result, or raises ValueError. `backward(builder,
    step, grad)` emits the steps that turn the gradient of the step's first result (others are kept
    for the backward pass, or are states) into gradients of what it read; None where an operation is
    never differentiated.
    """

    name: str
    shapes: Callable[[tuple[Value, ...], dict[str, Any]], tuple[Shape, ...]]
    backward: Callable[[PlanBuilder, Step, Value], None] | None = None


# Shape rules. A message names the values, since a layer composed by a user may get here.


def _like_first(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    return (reads[0].shape,)


def _all_alike(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    for other in reads[1:]:
        if other.shape != reads[0].shape:
            raise ValueError(
                f"{other.name} {other.shape} must have the shape of {reads[0].name} "
                f"{reads[0].shape}"
            )
    return (reads[0].shape,)


def _row_vectors(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    x = reads[0]
    for vector in reads[1:]:
        if vector.shape != (1, x.cols):
            raise ValueError(f"{vector.name} {vector.shape} must be (1, {x.cols}) as {x.name}")
    return (x.shape,)


def _dense_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    x, weight, *bias = reads
    if x.cols != weight.rows or any(b.shape != (1, weight.cols) for b in bias):
        shapes = ", ".join(f"{value.name} {value.shape}" for value in reads)
        raise ValueError(f"shapes do not fit in x @ W + b: {shapes}")
    return ((x.rows, weight.cols),)


def _dense_backward_params_shapes(
    reads: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Shape, ...]:
    x, dz = reads
    weight = (x.cols, dz.cols)
    return (weight, (1, dz.cols)) if attrs["bias"] else (weight,)


def _dense_backward_input_shapes(
    reads: tuple[Value, ...], attrs: dict[str, Any]
) -> tuple[Shape, ...]:
    dz, weight = reads
    return ((dz.rows, weight.rows),)


def _loss_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    _all_alike(reads[:2], attrs)
    return (reads[0].rows, 1), reads[0].shape


def _batch_norm_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    x = reads[0]
    _row_vectors(reads, attrs)
    if x.rows < 2:
        raise ValueError("BatchNorm needs more than one row in a mini-batch of training; got 1")
    return (x.shape, *[(1, x.cols)] * 4)


def _layer_norm_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    x = reads[0]
    _row_vectors(reads, attrs)
    return x.shape, (x.rows, 1), (x.rows, 1)


def _norm_backward_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    _all_alike(reads[:2], attrs)
    x = reads[1]
    _row_vectors((x, *reads[2:]), attrs)
    return x.shape, (1, x.cols), (1, x.cols)


def _column_sums_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    _all_alike(reads[:2], attrs)
    return ((1, reads[0].cols),) * (2 if attrs.get("bias", True) else 1)


def _concat_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    if any(part.rows != reads[0].rows for part in reads):
        shapes = ", ".join(f"{value.name} {value.shape}" for value in reads)
        raise ValueError(f"what stands side by side must have the same rows: {shapes}")
    return ((reads[0].rows, sum(part.cols for part in reads)),)


def _columns_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    return ((reads[0].rows, attrs["stop"] - attrs["start"]),)


def _embedding_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    x, table = reads
    if not 0 <= attrs["column"] < x.cols:
        raise ValueError(f"{x.name} {x.shape} has no column {attrs['column']}")
    return ((x.rows, x.cols - 1 + table.cols),)


def _embedding_params_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    x, dy = reads
    return ((attrs["categories"], dy.cols - x.cols + 1),)


def _embedding_input_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    return ((reads[0].rows, reads[0].cols + 1 - attrs["units"]),)


def _scalar(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    return ((1, 1),)


def _each_alone(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    return tuple(value.shape for value in reads)


def _update_shapes(reads: tuple[Value, ...], attrs: dict[str, Any]) -> tuple[Shape, ...]:
    (shape,) = _all_alike(reads, attrs)
    return (shape,) * (len(reads) - 1)


# Backward rules: from the gradient of the result to the gradients of what was read.


def _dense_backward(b: PlanBuilder, step: Step, dz: Value) -> None:
    x, weight, *bias = step.reads
    params = (weight, *bias)
    if any(b.wants(parameter) for parameter in params):
        grads = tuple(b.parameter_gradient(parameter) for parameter in params)
        b.emit_into("dense_backward_params", (x, dz), grads, bias=bool(bias))
    b.pass_back("dense_backward_input", dz, weight, to=x)


def _activation_backward(b: PlanBuilder, step: Step, da: Value) -> None:
    (z,), (a,) = step.reads, step.writes
    b.pass_back("activation_backward", da, z, a, to=z, **step.attrs)


def _softmax_backward(b: PlanBuilder, step: Step, da: Value) -> None:
    (z,), (a,) = step.reads, step.writes
    b.pass_back("softmax_backward", da, a, to=z, **step.attrs)


def _standardize_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    x, _, scale = step.reads
    b.pass_back("standardize_backward", dy, scale, to=x)


def _add_backward(b: PlanBuilder, step: Step, grad: Value) -> None:
    for term in step.reads:
        b.pass_on(grad, to=term)


def _dropout_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    b.pass_back("dropout", dy, to=step.reads[0], **step.attrs)


def _noise_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    b.pass_on(dy, to=step.reads[0])


def _scale_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    x, weight, *bias = step.reads
    parameters = (weight, *bias)
    if any(b.wants(parameter) for parameter in parameters):
        grads = b.parameter_gradients_of(*parameters)
        b.emit_into("scale_backward_params", (dy, x), grads, bias=bool(bias))
    b.pass_back("scale", dy, weight, to=x)


def _batch_norm_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    x, weight, bias = step.reads[:3]
    # Both kinds of statistics stand behind the weight: the mini-batch's, which depend on x, or the
    # running ones.
    moments = step.writes[1:3] if step.op == "batch_norm" else step.reads[3:5]
    dx = b.value(f"d({x.name})", *x.shape, "gradient")
    grads = b.parameter_gradients_of(weight, bias)
    reads = (dy, x, weight, *moments)
    b.emit_into(f"{step.op}_backward", reads, (dx, *grads), eps=step.attrs["eps"])
    b.pass_on(dx, to=x)


def _layer_norm_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    (x, weight, bias), moments = step.reads, step.writes[1:]
    if b.wants(weight) or b.wants(bias):
        grads = b.parameter_gradients_of(weight, bias)
        b.emit_into("layer_norm_backward_params", (dy, x, *moments), grads)
    b.pass_back("layer_norm_backward_input", dy, x, weight, *moments, to=x)


def _concat_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    start = 0
    for part in step.reads:
        b.pass_back("columns", dy, to=part, start=start, stop=start + part.cols)
        start += part.cols


def _embedding_backward(b: PlanBuilder, step: Step, dy: Value) -> None:
    (x, table), column = step.reads, step.attrs["column"]
    if b.wants(table):
        grads = (b.parameter_gradient(table),)
        attrs = {"column": column, "categories": table.rows}
        b.emit_into("embedding_backward_params", (x, dy), grads, **attrs)
    b.pass_back("embedding_backward_input", dy, to=x, column=column, units=table.cols)


OPS: dict[str, Op] = {
    op.name: op
    for op in (
        # dense(x, W[, b]) -> z = x W + b
        Op("dense", _dense_shapes, _dense_backward),
        # activation(z) -> a = f(z), elementwise; attrs fn
        Op("activation", _like_first, _activation_backward),
        # softmax(z) -> a, row by row; attrs fn
        Op("softmax", _like_first, _softmax_backward),
        # standardize(x, mean, scale) -> (x - mean) / scale
        Op("standardize", _row_vectors, _standardize_backward),
        # add(u, v) -> u + v: branches that meet, and gradients of a value that is read twice
        Op("add", _all_alike, _add_backward),
        # dropout(x) -> x / (1 - rate) or 0; attrs rate, stream. Of gradients it is the same
        Op("dropout", _like_first, _dropout_backward),
        # noise(x) -> x + std N(0, 1); attrs std, stream
        Op("noise", _like_first, _noise_backward),
        # scale(x, w[, b]) -> x w + b, column by column
        Op("scale", _row_vectors, _scale_backward),
        # batch_norm(x, w, b, running_mean, running_var) -> y, mean, 1 / √(var + eps), and the
        # running statistics in place; attrs momentum, eps
        Op("batch_norm", _batch_norm_shapes, _batch_norm_backward),
        # normalize(x, w, b, mean, var) -> (x - mean) / √(var + eps) w + b; attrs eps
        Op("normalize", _row_vectors, _batch_norm_backward),
        # layer_norm(x, w, b) -> y, and of each row mean and 1 / √(var + eps); attrs eps
        Op("layer_norm", _layer_norm_shapes, _layer_norm_backward),
        # concat(u, v, …) -> all side by side
        Op("concat", _concat_shapes, _concat_backward),
        # embedding(x, W) -> x without a column, then the rows of W that it tells; attrs column
        Op("embedding", _embedding_shapes, _embedding_backward),
        # loss(y_hat, y[, w]) -> what each row adds to the weighted mean, its gradient; attrs loss
        Op("loss", _loss_shapes),
        # loss_penalty(W, V, …) -> ½ s (‖W‖² + ‖V‖² + …), added to the mean loss; the strength s is
        # a scalar of the step
        Op("loss_penalty", _scalar),
        # activation_backward(da, z, a) -> dz = da f'(z); attrs fn
        Op("activation_backward", _all_alike),
        # softmax_backward(da, a) -> dz = a (da - (da · a)); attrs fn
        Op("softmax_backward", _all_alike),
        # standardize_backward(dy, scale) -> dx = dy / scale
        Op("standardize_backward", _row_vectors),
        # dense_backward_params(x, dz) -> dW = xᵀ dz[, db = column sums of dz]; attrs bias
        Op("dense_backward_params", _dense_backward_params_shapes),
        # dense_backward_input(dz, W) -> dx = dz Wᵀ
        Op("dense_backward_input", _dense_backward_input_shapes),
        # scale_backward_params(dy, x) -> column sums of dy x[, and of dy]; attrs bias
        Op("scale_backward_params", _column_sums_shapes),
        # batch_norm_backward(dy, x, w, mean, rstd) -> dx, dw, db; attrs eps
        Op("batch_norm_backward", _norm_backward_shapes),
        # normalize_backward(dy, x, w, mean, var) -> dx, dw, db; attrs eps
        Op("normalize_backward", _norm_backward_shapes),
        # layer_norm_backward_input(dy, x, w, mean, rstd) -> dx
        Op("layer_norm_backward_input", _like_first),
        # layer_norm_backward_params(dy, x, mean, rstd) -> dw, db
        Op("layer_norm_backward_params", _column_sums_shapes),
        # columns(x) -> some of them; attrs start, stop
        Op("columns", _columns_shapes),
        # embedding_backward_params(x, dy) -> dW; attrs column, categories
        Op("embedding_backward_params", _embedding_params_shapes),
        # embedding_backward_input(dy) -> dx, zero for the codes; attrs column, units
        Op("embedding_backward_input", _embedding_input_shapes),
        # penalty(W, dW) -> dW += l2 W + l1 sign(W), in place; attrs l1, l2
        Op("penalty", _all_alike),
        # clip_value(dW) -> each element brought to within ±limit, in place; attrs limit
        Op("clip_value", _like_first),
        # clip_norm(dW, dV, …) -> all times min(1, limit / (norm + 1e-6)), in place; attrs limit
        Op("clip_norm", _each_alone),
        # update(w, dw, slots…) -> w, slots…, in place; attrs parameter, optimizer, group
        Op("update", _update_shapes),
        # max_norm(W) -> W, columns longer than limit scaled down to it, in place; attrs limit
        Op("max_norm", _like_first),
        # average(w, mean) -> mean + share (w - mean), in place; the share is a scalar of the step
        Op("average", _update_shapes),
    )
}
