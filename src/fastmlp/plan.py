"""From a model to mathematical steps: what is computed from what, forward, backward and update.

A layer emits only its forward steps. What stands behind a step is one row of `operations.OPS`, so
the backward pass of any model is derived by walking its forward steps in reverse. Backends
interpret or lower the steps; nothing here computes on numbers.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmlp.operations import OPS, Step, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import numpy as np

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer
    from fastmlp.parameters import ParameterSpec


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
    penalty: Value | None
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
    penalty: bool = False,
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
    penalty : bool
        Whether ½·s·Σw² of the weights is added to the mean loss, s being a scalar of the step. It
        is told, not learned from: gradients have their penalties otherwise.
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

    target = weight = row_loss = penalty_value = output_gradient = None
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
        if penalty:
            weights = [b.parameters[spec.name] for spec in model.parameter_specs if spec.decay]
            penalty_value = b.emit("loss_penalty", *weights, name="penalty", role="penalty")
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
        _limit_gradients(b, trained, l1, l2, clip_value, clip_norm)
        slots = _emit_updates(b, trained, optimizer)
        averages = _emit_averages(b, trained) if average else {}

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
        penalty=penalty_value,
        output_gradient=output_gradient,
        input_gradient=grad_x,
        parameters=b.parameters,
        parameter_gradients=b.parameter_gradients,
        states=b.states,
        slots=slots,
        averages=averages,
    )


def _limit_gradients(
    b: PlanBuilder,
    trained: list[ParameterSpec],
    l1: float,
    l2: float,
    clip_value: float | None,
    clip_norm: float | None,
) -> None:
    """Add the penalties to the gradients, then clip these."""
    for spec in trained:
        w, dw = b.parameters[spec.name], b.parameter_gradients[spec.name]
        if spec.decay and (l1 or l2):
            b.emit_into("penalty", (w, dw), (dw,), l1=l1, l2=l2)
        if clip_value is not None:
            b.emit_into("clip_value", (dw,), (dw,), limit=clip_value)
    if clip_norm is not None and trained:
        grads = tuple(b.parameter_gradients[spec.name] for spec in trained)
        b.emit_into("clip_norm", grads, grads, limit=clip_norm)


def _emit_updates(
    b: PlanBuilder, trained: list[ParameterSpec], optimizer: Optimizer
) -> dict[str, tuple[Value, ...]]:
    """Update the parameters from their gradients; return the slots of each."""
    slots = {}
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
    return slots


def _emit_averages(b: PlanBuilder, trained: list[ParameterSpec]) -> dict[str, Value]:
    """Move the averages of the parameters; return them."""
    averages = {}
    for spec in trained:
        w = b.parameters[spec.name]
        mean = averages[spec.name] = b.value(f"average({spec.name})", *w.shape, "slot")
        b.emit_into("average", (w, mean), (mean,))
    return averages
