"""A model as ONNX: each forward step of the plan becomes nodes, by its row of `OPS`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.atomic import replacing
from fastmlp.plan import build

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from typing import Any

    from fastmlp.model import Sequential
    from fastmlp.plan import Step, Value

# ONNX 1.8, of 2020: every runtime in use reads it, and nothing here needs a later one.
OPSET, IR_VERSION = 13, 7


class OnnxGraph:
    """Collects the nodes and constants of a graph, and names values; every value is a matrix.

    Attributes
    ----------
    single : bool
        Whether numbers are float32. onnxruntime has fewer operations for float64.
    """

    def __init__(self, model: Sequential):
        try:
            import onnx
        except ImportError as error:
            message = 'writing ONNX needs the package onnx: pip install "fastmlp[onnx]"'
            raise ImportError(message) from error
        self._onnx = onnx
        self.dtype = model.dtype
        self.single = model.dtype.itemsize == 4
        self.element = onnx.helper.np_dtype_to_tensor_dtype(model.dtype)
        self.integer = onnx.TensorProto.INT64
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._names: dict[Value, str] = {}
        self._arrays = {**model.parameters, **model.states}

    # Values.

    def bind(self, value: Value, name: str) -> None:
        """Say what a value of the plan is called."""
        self._names[value] = name

    def read(self, value: Value) -> str:
        """Return the name of a value of the plan; a parameter or state becomes a constant."""
        name = self._names.get(value)
        return self.array(value.name, self.values(value)) if name is None else name

    def values(self, value: Value) -> np.ndarray:
        """Return the numbers of a parameter or state."""
        return self._arrays[value.name]

    def array(self, name: str, values: np.ndarray) -> str:
        """Return the name of a constant, put into the graph once."""
        if name not in self.constants:
            values = np.asarray(values, order="C")
            self.constants[name] = self._onnx.numpy_helper.from_array(values, name)
        return name

    def number(self, value: float) -> str:
        """Return the name of a number in the model's precision."""
        number = self.dtype.type(value)
        return self.array(f"number {number}", np.asarray(number))

    def indices(self, values: int | list[int]) -> str:
        """Return the name of a whole number, or of several."""
        return self.array(f"index {values}", np.asarray(values, np.int64))

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one result, and return the name of that."""
        name = f"value {len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operation, inputs, [name], **attributes))
        return name

    # Functions that need several nodes, or others in float64, for which onnxruntime (1.31) has no
    # LeakyRelu, Elu, Softplus and Erf.

    def positive(self, z: str) -> str:
        """Return max(z, 0)."""
        return self.add("Relu", z)

    def scaled(self, z: str, factor: float) -> str:
        """Return factor · z."""
        return self.add("Mul", z, self.number(factor))

    def elu(self, z: str, alpha: float) -> str:
        """Return z where z > 0, otherwise α·(exp(z) - 1)."""
        if self.single:
            return self.add("Elu", z, alpha=alpha)
        below = self.add("Exp", self.add("Min", z, self.number(0.0)))
        below = self.scaled(self.add("Sub", below, self.number(1.0)), alpha)
        return self.add("Add", self.positive(z), below)

    def softplus(self, z: str) -> str:
        """Return log(1 + exp(z))."""
        if self.single:
            return self.add("Softplus", z)
        small = self.add("Exp", self.add("Neg", self.add("Abs", z)))
        small = self.add("Log", self.add("Add", small, self.number(1.0)))
        return self.add("Add", self.positive(z), small)

    def erf(self, z: str) -> str:
        """Return the error function, in float64 as exact as float32."""
        if self.single:
            return self.add("Erf", z)
        narrow = self.add("Cast", z, to=self._onnx.TensorProto.FLOAT)
        return self.add("Cast", self.add("Erf", narrow), to=self.element)

    # The whole.

    def finish(self, inputs: int, outputs: int, result: str) -> Any:
        """Return the model from "x", (rows, inputs), to "y", (rows, outputs), checked."""
        from fastmlp import __version__

        onnx = self._onnx
        self.nodes.append(onnx.helper.make_node("Identity", [result], ["y"]))
        ends = [
            onnx.helper.make_tensor_value_info(name, self.element, ["rows", columns])
            for name, columns in (("x", inputs), ("y", outputs))
        ]
        graph = onnx.helper.make_graph(
            self.nodes, "fastmlp", ends[:1], ends[1:], list(self.constants.values())
        )
        model = onnx.helper.make_model(
            graph,
            producer_name="fastmlp",
            producer_version=__version__,
            ir_version=IR_VERSION,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _dense(graph: OnnxGraph, step: Step) -> str:
    return graph.add("Gemm", *map(graph.read, step.reads))


def _activation(graph: OnnxGraph, step: Step) -> str:
    return step.attrs["fn"].to_onnx(graph, graph.read(step.reads[0]))


def _standardize(graph: OnnxGraph, step: Step) -> str:
    x, mean, scale = map(graph.read, step.reads)
    return graph.add("Div", graph.add("Sub", x, mean), scale)


def _add(graph: OnnxGraph, step: Step) -> str:
    return graph.add("Add", *map(graph.read, step.reads))


def _scale(graph: OnnxGraph, step: Step) -> str:
    x, weight, *bias = map(graph.read, step.reads)
    y = graph.add("Mul", x, weight)
    return graph.add("Add", y, bias[0]) if bias else y


def _normalize(graph: OnnxGraph, step: Step) -> str:
    # BatchNormalization would do, but for its epsilon, which is a float32 in any graph.
    x, weight, bias, mean, var = step.reads
    w, v = (graph.values(value).astype(np.float64) for value in (weight, var))
    factor = (w / np.sqrt(v + _eps(graph, step))).astype(graph.dtype)
    centred = graph.add("Sub", graph.read(x), graph.read(mean))
    normal = graph.add("Mul", centred, graph.array(f"{weight.name} factor", factor))
    return graph.add("Add", normal, graph.read(bias))


def _layer_norm(graph: OnnxGraph, step: Step) -> str:
    x, weight, bias = map(graph.read, step.reads)
    centred = graph.add("Sub", x, graph.add("ReduceMean", x, axes=[1]))
    var = graph.add("ReduceMean", graph.add("Mul", centred, centred), axes=[1])
    deviation = graph.add("Sqrt", graph.add("Add", var, graph.number(_eps(graph, step))))
    normal = graph.add("Div", centred, deviation)
    return graph.add("Add", graph.add("Mul", normal, weight), bias)


def _eps(graph: OnnxGraph, step: Step) -> float:
    return max(step.attrs["eps"], float(np.finfo(graph.dtype).tiny))


def _embedding(graph: OnnxGraph, step: Step) -> str:
    x, table = map(graph.read, step.reads)
    columns, column = step.reads[0].cols, step.attrs["column"]
    others = graph.indices([j for j in range(columns) if j != column])
    code = graph.add("Gather", x, graph.indices(column), axis=1)
    row = graph.add("Cast", graph.add("Round", code), to=graph.integer)
    vectors = graph.add("Gather", table, row, axis=0)
    if columns == 1:
        return vectors
    return graph.add("Concat", graph.add("Gather", x, others, axis=1), vectors, axis=1)


# One row for each operation of fastmlp.plan.OPS that predictions have; returns the result's name.
OPS: dict[str, Callable[[OnnxGraph, Step], str]] = {
    "dense": _dense,
    "activation": _activation,
    "softmax": _activation,
    "standardize": _standardize,
    "add": _add,
    "scale": _scale,
    "normalize": _normalize,
    "layer_norm": _layer_norm,
    "concat": lambda graph, step: graph.add("Concat", *map(graph.read, step.reads), axis=1),
    "embedding": _embedding,
}


def export(model: Sequential, path: str | os.PathLike[str]) -> None:
    """Write a model as ONNX; see `Sequential.export_onnx`."""
    graph = OnnxGraph(model)
    plan = build(model, 1)
    graph.bind(plan.input, "x")
    for step in plan.forward:
        row = OPS.get(step.op)
        if row is None:
            raise ValueError(f"the operation {step.op!r} cannot be exported to ONNX")
        graph.bind(step.writes[0], row(graph, step))
    whole = graph.finish(plan.input.cols, plan.output.cols, graph.read(plan.output))
    with replacing(path) as temporary:
        temporary.write_bytes(whole.SerializeToString())
