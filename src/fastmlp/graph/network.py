"""Models as graphs: a plan's forward steps, activations and losses in graph operations.

With them a model's loss can be drawn, and differentiated as often as wanted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import choose, shown
from fastmlp.evaluation import Evaluator
from fastmlp.graph.arrays import concatenate, softmax
from fastmlp.graph.custom import GraphLoss, sample_losses
from fastmlp.graph.gradient import gradients
from fastmlp.graph.graph import Graph
from fastmlp.graph.node import Node, constant, lift, variable
from fastmlp.plan import build
from fastmlp.sources import check_finite, check_inputs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from numpy.typing import ArrayLike

    from fastmlp.activations import Activation
    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.plan import Plan

# --- activations and losses -----------------------------------------------------------------------


def activation_node(fn: Activation, z: Node) -> Node:
    """Return f(z) for an activation object."""
    from fastmlp import graph

    return fn.to_node(graph, z)


def loss_node(loss: Loss, y_hat: Node, y: Node) -> Node:
    """Return the mean loss of a batch as a node.

    Raises
    ------
    TypeError
        If the loss is a Python function that no graph goes through.
    """
    if isinstance(loss, GraphLoss):
        result = lift(loss.function(y_hat, y))
        rows = sample_losses(result, len(y_hat))
        if rows is None:  # joins samples: by itself each, as in training
            parts = [
                lift(loss.function(y_hat[i : i + 1], y[i : i + 1])).mean().reshape(1)
                for i in range(len(y_hat))
            ]
            rows = concatenate(parts)
        elif result.ndim == 0 and result.operation == "mean":
            return result  # the mean of everything is what the function said already
        return rows.mean()
    from fastmlp import graph

    each = loss.to_node(graph, y_hat, y)
    if each.ndim == 2 and getattr(loss, "reduction", "mean") == "sum":
        each = each.sum(axis=1)
    return each.mean()


# --- the forward pass -----------------------------------------------------------------------------


def _normalize(attrs: Any, x: Node, w: Node, b: Node, mean: Node, var: Node) -> Node:
    return (x - mean) / (var + attrs["eps"]) ** 0.5 * w + b


def _layer_norm(attrs: Any, x: Node, w: Node, b: Node) -> Node:
    mean = x.mean(axis=1, keepdims=True)
    return _normalize(attrs, x, w, b, mean, ((x - mean) ** 2).mean(axis=1, keepdims=True))


def _embedding(attrs: Any, x: Node, table: Node) -> Node:
    column = attrs["column"]
    # The codes are data: which row of the table they tell is no function to be differentiated.
    codes = np.rint(x.value[:, column]).astype(np.intp)
    chosen = constant(np.eye(len(table), dtype=x.dtype)[codes], "codes") @ table
    return concatenate([x[:, :column], x[:, column + 1 :], chosen], axis=1)


# Operation of fastmlp.plan -> the same on nodes. Parameters and states are 1 × n there.
STEPS: dict[str, Callable[..., Node]] = {
    "dense": lambda attrs, x, W, b=None: x @ W if b is None else x @ W + b,
    "activation": lambda attrs, z: activation_node(attrs["fn"], z),
    "softmax": lambda attrs, z: softmax(z, axis=1),
    "standardize": lambda attrs, x, mean, scale: (x - mean) / scale,
    "add": lambda attrs, u, v: u + v,
    "scale": lambda attrs, x, w, b=0.0: x * w + b,
    "normalize": _normalize,
    "layer_norm": _layer_norm,
    "concat": lambda attrs, *parts: concatenate(parts, axis=1),
    "embedding": _embedding,
}


def forward_node(plan: Plan, values: Mapping[str, Node], x: Node) -> Node:
    """Return the output of a plan's forward steps.

    Parameters
    ----------
    plan : Plan
        Of as many rows as `x` has.
    values : mapping of str to Node
        Parameters and states by the model's names.
    x : Node, shape (n, n_in)

    Raises
    ------
    ValueError
        If a step has no counterpart on nodes.
    """
    nodes = {plan.input: x}
    for table in (plan.parameters, plan.states):
        nodes.update({value: values[name] for name, value in table.items()})
    for step in plan.forward:
        if step.op not in STEPS:
            raise ValueError(f"the step {step!r} is not known as a graph operation")
        result = STEPS[step.op](step.attrs, *[nodes[value] for value in step.reads])
        if result.name is None:
            result.name = step.writes[0].name
        nodes[step.writes[0]] = result
    return nodes[plan.output]


class _Traced:
    """A model with data as nodes: the loss, or the output where no targets are given."""

    def __init__(
        self, model: Sequential, x: ArrayLike, y: ArrayLike | None, loss: Any, dtype: Any
    ) -> None:
        if y is None:
            inputs = check_inputs(x, model.input_size)
            check_finite("x", inputs, model.dtype)
            model.build(inputs.shape[1])
            rows, targets, computed, fused = np.asarray(inputs), None, None, False
        else:
            evaluator = Evaluator(model, loss)
            source = evaluator.check(x, y)
            model.build(source.columns)
            rows = np.asarray(source.x)
            targets = source.targets(slice(None), dtype)
            computed, fused = evaluator.loss.behind(model.output_activation)
        self.x = constant(rows.astype(dtype), "x")
        self.parameters = {
            spec.name: variable(model.parameters[spec.name].astype(dtype), spec.name)
            for spec in model.parameter_specs
        }
        values = dict(self.parameters)
        for spec in model.state_specs:
            values[spec.name] = constant(model.states[spec.name].astype(dtype), spec.name)
        plan = build(model, len(rows), logits=fused)
        self.output = forward_node(plan, values, self.x)
        if targets is not None:
            self.output.name = "ŷ"
            self.output = loss_node(computed, self.output, constant(targets, "y")).named("loss")


def model_graph(
    model: Sequential, x: ArrayLike, y: ArrayLike | None = None, loss: str | Loss = "mse"
) -> Graph:
    """Return the graph of a model's loss, or of its output; see `Sequential.graph`."""
    return Graph(_Traced(model, x, y, loss, model.dtype).output)


def model_jacobian(model: Sequential, x: ArrayLike, wrt: str = "input") -> np.ndarray:
    """Return the derivatives of a model's outputs; see `Sequential.jacobian`."""
    choose("wrt", wrt, ("input", "parameters"))
    inputs = check_inputs(x, model.input_size)
    check_finite("x", inputs, model.dtype)
    twin = model.__deepcopy__({})  # forward and backward leave traces in a model
    twin.build(inputs.shape[1])
    n, m = len(inputs), twin.output_size
    seed = np.zeros((n, m), model.dtype)
    if wrt == "input":
        # Rows do not mix, so one backward pass serves output j of all samples.
        result = np.empty((n, m, inputs.shape[1]), model.dtype)
        twin.forward(inputs)
        for j in range(m):
            seed[...] = 0
            seed[:, j] = 1
            result[:, j] = twin.backward(seed)
        return result
    twin.unfreeze()
    result = np.empty((n, m, twin.parameter_count), model.dtype)
    for i in range(n):
        twin.forward(inputs[i : i + 1])
        for j in range(m):
            seed[0] = 0
            seed[0, j] = 1
            twin.backward(seed[:1], input_gradient=False)
            result[i, j] = twin.flat_gradients.array()
    return result


def model_hvp(
    model: Sequential,
    x: ArrayLike,
    y: ArrayLike,
    v: ArrayLike | Mapping[str, ArrayLike],
    loss: str | Loss = "mse",
) -> Any:
    """Return the Hessian of the mean loss times a vector; see `Sequential.hvp`."""
    traced = _Traced(model, x, y, loss, np.float64)
    nodes = traced.parameters
    by_name = hasattr(v, "keys")
    directions = v if by_name else _unpacked(model, v)
    unknown = [name for name in directions if name not in nodes]
    if unknown:
        choose("name in v", unknown[0], nodes)
    first = gradients(traced.output, list(nodes.values()))
    total = lift(np.zeros(()))
    for (name, node), slope in zip(nodes.items(), first, strict=True):
        if name not in directions:
            continue
        direction = np.asarray(directions[name], np.float64)
        if direction.shape != node.shape:
            raise ValueError(f"v[{name!r}] must have shape {node.shape}; got {direction.shape}")
        total = total + (slope * direction).sum()
    products = gradients(total, list(nodes.values()))
    if by_name:
        named = zip(nodes, products, strict=True)
        return {name: node.value.astype(model.dtype) for name, node in named}
    return np.concatenate([node.value.reshape(-1) for node in products]).astype(model.dtype)


def _unpacked(model: Sequential, v: ArrayLike) -> dict[str, np.ndarray]:
    flat = np.asarray(v, np.float64)
    if flat.shape != (model.parameter_count,):
        raise ValueError(
            f"v must be a dict of arrays by parameter name, or have shape "
            f"({model.parameter_count},); got {shown(v) if flat.ndim == 0 else flat.shape}"
        )
    return {
        spec.name: flat[spec.offset : spec.offset + spec.size].reshape(spec.shape)
        for spec in model.parameter_specs
    }
