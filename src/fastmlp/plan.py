"""From a model to mathematical steps: what is computed from what, forward, backward and update.

A layer emits only its forward steps. What stands behind a step — the shapes of its results and
its backward pass — is one row of the table `OPS`, so the backward pass of any model is derived by
walking its forward steps in reverse. Backends interpret or lower the steps; nothing here computes
on numbers.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    import numpy as np

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer

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
        the moving average of a parameter), "gradient" (of an activation), "parameter_gradient" or
        "row_loss".
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


@dataclass(frozen=True, eq=False, slots=True)
class Plan:
    """The steps of one mini-batch and the values that come in and go out.

    `forward`, `loss`, `backward` and `update` are run in this order. `loss` and `update` are empty
    where there is no loss or optimizer; without a loss `output_gradient` is an input of the
    backward pass. A value is None, and a part empty, where the plan has no use for it.
    """

    batch: int
    dtype: np.dtype
    training: bool
    forward: tuple[Step, ...]
    loss: tuple[Step, ...]
    backward: tuple[Step, ...]
    update: tuple[Step, ...]
    input: Value
    output: Value
    target: Value | None
    sample_weight: Value | None
    row_loss: Value | None
    output_gradient: Value | None
    input_gradient: Value | None
    parameters: dict[str, Value]
    parameter_gradients: dict[str, Value]
    states: dict[str, Value]
    slots: dict[str, tuple[Value, ...]]
    averages: dict[str, Value]

    @property
    def steps(self) -> tuple[Step, ...]:
        return self.forward + self.loss + self.backward + self.update

    def __str__(self) -> str:
        lines = [f"batch {self.batch}, {self.dtype}, training={self.training}"]
        for title in ("forward", "loss", "backward", "update"):
            lines += [f"{title}:"] + [f"  {step!r}" for step in getattr(self, title)]
        return "\n".join(lines)


class PlanBuilder:
    """Collects steps; what `Layer.emit` and the backward rules write to.

    Parameters
    ----------
    training : bool
        Whether layers that behave differently in training (dropout) shall do so.
    """

    def __init__(self, *, training: bool = False):
        self.training = training
        self.parameters: dict[str, Value] = {}
        self.states: dict[str, Value] = {}
        self.parameter_gradients: dict[str, Value] = {}
        self._steps: list[Step] = []
        self._prefix = ""
        self._names: set[str] = set()
        self._wanted: set[Value] = set()
        self._gradients: dict[Value, Value] = {}

    def take(self) -> tuple[Step, ...]:
        """Return the steps emitted since the last call."""
        steps, self._steps = tuple(self._steps), []
        return steps

    def value(self, name: str, rows: int, cols: int, role: str) -> Value:
        """Return a new value; a name that is taken gets a number."""
        unique, number = name, 1
        while unique in self._names:
            number += 1
            unique = f"{name}#{number}"
        self._names.add(unique)
        return Value(unique, rows, cols, role)

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Put `name.` before the names of values and parameters, for a layer inside a model."""
        outer = self._prefix
        self._prefix = f"{outer}{name}."
        try:
            yield
        finally:
            self._prefix = outer

    def parameter(self, name: str) -> Value:
        """Return the parameter of the layer that is emitting."""
        return self.parameters[self._prefix + name]

    def state(self, name: str) -> Value:
        """Return the state vector of the layer that is emitting."""
        return self.states[self._prefix + name]

    def stream(self) -> int:
        """Return the number, 64 bits, that tells the random numbers of the emitting layer."""
        import hashlib

        return int.from_bytes(hashlib.blake2b(self._prefix.encode(), digest_size=8).digest())

    def local(self, name: str, rows: int, cols: int, role: str = "activation") -> Value:
        """Return a new value of the layer that is emitting, for `emit_into`."""
        return self.value(self._prefix + name, rows, cols, role)

    def emit(
        self, op: str, *reads: Value, name: str, role: str = "activation", **attrs: Any
    ) -> Value:
        """Emit a step with one result, whose shape the operation decides, and return the result."""
        ((rows, cols),) = OPS[op].shapes(reads, attrs)
        result = self.local(name, rows, cols, role)
        self._steps.append(Step(op, reads, (result,), attrs))
        return result

    def emit_into(
        self, op: str, reads: tuple[Value, ...], writes: tuple[Value, ...], **attrs: Any
    ) -> None:
        """Emit a step that writes given values."""
        shapes = OPS[op].shapes(reads, attrs)
        for result, shape in zip(writes, shapes, strict=True):
            if result.shape != shape:
                raise ValueError(f"{op} writes {result.name} as {shape}, but it is {result.shape}")
        self._steps.append(Step(op, reads, writes, attrs))

    # The backward pass.

    def differentiate(
        self, steps: tuple[Step, ...], output: Value, grad: Value, wanted: set[Value]
    ) -> None:
        """Emit the backward pass of `steps`, from the gradient of `output` to the `wanted` values.

        Only values on a way from a wanted value to the output get a gradient.
        """
        self._wanted = set(wanted)
        for step in steps:
            if any(read in self._wanted for read in step.reads):
                self._wanted.add(step.writes[0])
        self._gradients = {output: grad}
        for step in reversed(steps):
            result = step.writes[0]
            if result not in self._wanted or result not in self._gradients:
                continue
            rule = OPS[step.op].backward
            if rule is None:
                raise ValueError(f"the operation {step.op!r} has no backward pass")
            rule(self, step, self._gradients[result])

    def wants(self, value: Value) -> bool:
        """Return whether a backward rule shall give the gradient of a value that it read."""
        return value in self._wanted

    def gradient(self, value: Value) -> Value | None:
        """Return the gradient of a value as it was accumulated, None if nothing depends on it."""
        return self._gradients.get(value)

    def parameter_gradient(self, parameter: Value) -> Value:
        """Return a new value for the gradient of a parameter."""
        if parameter.name in self.parameter_gradients:
            raise ValueError(f"parameter {parameter.name} is read by two steps")
        grad = self.value(f"d({parameter.name})", *parameter.shape, "parameter_gradient")
        self.parameter_gradients[parameter.name] = grad
        return grad

    def parameter_gradients_of(self, *parameters: Value) -> tuple[Value, ...]:
        """Return new values for gradients that one step writes, whether all are wanted or not."""
        return tuple(
            self.parameter_gradient(parameter)
            if parameter in self._wanted
            else self.value(f"d({parameter.name})", *parameter.shape, "gradient")
            for parameter in parameters
        )

    def pass_back(self, op: str, *reads: Value, to: Value, **attrs: Any) -> None:
        """Emit the step that gives the gradient of `to`, and add it to what came by other ways."""
        if to in self._wanted:
            self.pass_on(self.emit(op, *reads, name=f"d({to.name})", role="gradient", **attrs), to)

    def pass_on(self, grad: Value, to: Value) -> None:
        """Add an existing gradient to what reached `to` by other ways."""
        if to not in self._wanted:
            return
        if to in self._gradients:
            grad = self.emit(
                "add", self._gradients[to], grad, name=f"d({to.name})", role="gradient"
            )
        self._gradients[to] = grad


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


def build(
    model: Sequential,
    batch: int,
    *,
    training: bool = False,
    loss: Loss | None = None,
    optimizer: Optimizer | None = None,
    l1: float = 0.0,
    l2: float = 0.0,
    clip_value: float | None = None,
    clip_norm: float | None = None,
    average: bool = False,
    gradients: bool | None = None,
    input_gradient: bool = False,
    sample_weight: str | None = None,
    logits: bool = False,
) -> Plan:
    """Write down the steps of one mini-batch.

    Parameters
    ----------
    model : Sequential
        With known sizes. Parameters of frozen layers get neither gradients nor updates.
    batch : int
        Rows.
    training : bool
        Whether layers behave as in training.
    loss : Loss, optional
        Its value and gradient follow the forward pass.
    optimizer : Optimizer, optional
        Every trainable parameter is updated from its gradient.
    l1, l2 : float
        Penalties l1·Σ|w| + ½·l2·Σw² on the weights (not the biases), added to the gradients.
    clip_value : float, optional
        To which each element of the gradients, penalties included, is clipped.
    clip_norm : float, optional
        To which the norm of all gradients together is clipped, after that.
    average : bool
        Whether there is a moving average of the parameters.
    gradients : bool, optional
        Whether there is a backward pass. By default there is one with a loss.
    input_gradient : bool
        Whether the backward pass goes down to the input.
    sample_weight : {None, "sample", "output"}
        None, one weight for each row, or one for each output.
    logits : bool
        Whether to leave out the activation of the last layer. A loss that takes its place
        (`Loss.behind`) does so by itself.
    """
    b = PlanBuilder(training=training)
    for spec in model.parameter_specs:
        b.parameters[spec.name] = b.value(spec.name, *spec.matrix_shape, "parameter")
    for spec in model.state_specs:
        b.states[spec.name] = b.value(spec.name, *spec.matrix_shape, "state")
    x = b.value("x", batch, model.input_size, "input")
    output = model.emit(b, x)
    forward = b.take()
    if loss is not None:
        loss, fused = loss.behind(model.output_activation)
        logits = logits or fused
    if logits and model.output_activation != "identity":
        (output,) = forward[-1].reads
        forward = forward[:-1]

    target = weight = row_loss = output_gradient = None
    if gradients is None:
        gradients = loss is not None
    if gradients or loss is not None:
        output_gradient = b.value(f"d({output.name})", *output.shape, "gradient")
    if loss is not None:
        target = b.value("y", *output.shape, "target")
        reads = (output, target)
        if sample_weight is not None:
            columns = output.cols if sample_weight == "output" else 1
            weight = b.value("sample_weight", batch, columns, "sample_weight")
            reads += (weight,)
        row_loss = b.value("row_loss", batch, 1, "row_loss")
        b.emit_into("loss", reads, (row_loss, output_gradient), loss=loss)
    loss_steps = b.take()

    trainable = [spec for spec in model.parameter_specs if spec.trainable]
    wanted = {b.parameters[spec.name] for spec in trainable}
    if input_gradient:
        wanted.add(x)
    grad_x = None
    if gradients:
        b.differentiate(forward, output, output_gradient, wanted)
        grad_x = b.gradient(x) if input_gradient else None
    backward = b.take()

    slots: dict[str, tuple[Value, ...]] = {}
    averages: dict[str, Value] = {}
    if optimizer is not None and gradients:
        trained = [spec for spec in trainable if spec.name in b.parameter_gradients]
        for spec in trained:
            w, dw = b.parameters[spec.name], b.parameter_gradients[spec.name]
            if spec.decay and (l1 or l2):
                b.emit_into("penalty", (w, dw), (dw,), l1=l1, l2=l2)
            if clip_value is not None:
                b.emit_into("clip_value", (dw,), (dw,), limit=clip_value)
        if clip_norm is not None and trained:
            grads = tuple(b.parameter_gradients[spec.name] for spec in trained)
            b.emit_into("clip_norm", grads, grads, limit=clip_norm)
        for spec in trained:
            w, dw = b.parameters[spec.name], b.parameter_gradients[spec.name]
            states = tuple(
                b.value(f"{slot}({spec.name})", *w.shape, "slot") for slot in optimizer.slots
            )
            slots[spec.name] = states
            b.emit_into(
                "update",
                (w, dw, *states),
                (w, *states),
                parameter=spec.name,
                optimizer=optimizer,
                group=optimizer.group_of(spec.name),
            )
            if spec.max_norm is not None:
                b.emit_into("max_norm", (w,), (w,), limit=spec.max_norm)
        for spec in trained if average else ():
            w = b.parameters[spec.name]
            mean = averages[spec.name] = b.value(f"average({spec.name})", *w.shape, "slot")
            b.emit_into("average", (w, mean), (mean,))

    return Plan(
        batch=batch,
        dtype=model.dtype,
        training=training,
        forward=forward,
        loss=loss_steps,
        backward=backward,
        update=b.take(),
        input=x,
        output=output,
        target=target,
        sample_weight=weight,
        row_loss=row_loss,
        output_gradient=output_gradient,
        input_gradient=grad_x,
        parameters=b.parameters,
        parameter_gradients=b.parameter_gradients,
        states=b.states,
        slots=slots,
        averages=averages,
    )
