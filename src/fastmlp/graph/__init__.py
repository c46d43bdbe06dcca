"""Computational graphs: compute with nodes, differentiate, draw, and train with what you wrote.

>>> from fastmlp import graph
>>> x, y, z = (graph.variable(v, n) for v, n in [(-2, "x"), (5, "y"), (-4, "z")])
>>> f = ((x + y) * z).named("f")
>>> f.backward().item(), x.gradient.item(), z.gradient.item()
(-12.0, -4.0, 3.0)
>>> f.graph().trace()                                                   # doctest: +SKIP
"""

from fastmlp.graph.arrays import (
    broadcast_to,
    concatenate,
    logsumexp,
    matmul,
    max,
    mean,
    min,
    reshape,
    softmax,
    sum,
    transpose,
)
from fastmlp.graph.custom import GraphActivation, GraphLoss, activation, loss
from fastmlp.graph.elementwise import (
    abs,
    add,
    cos,
    divide,
    erf,
    exp,
    expm1,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    relu,
    sigmoid,
    sign,
    sin,
    softplus,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from fastmlp.graph.gradient import gradients, local_gradients
from fastmlp.graph.graph import Graph
from fastmlp.graph.node import OPERATIONS, Node, Operation, constant, variable
from fastmlp.graph.program import LoweringError, Program, elementwise_program
from fastmlp.graph.transforms import grad, hvp, jacobian, value_and_grad

__all__ = [
    "OPERATIONS",
    "Graph",
    "GraphActivation",
    "GraphLoss",
    "LoweringError",
    "Node",
    "Operation",
    "Program",
    "abs",
    "activation",
    "add",
    "broadcast_to",
    "concatenate",
    "constant",
    "cos",
    "divide",
    "elementwise_program",
    "erf",
    "exp",
    "expm1",
    "grad",
    "gradients",
    "hvp",
    "jacobian",
    "local_gradients",
    "log",
    "log1p",
    "logsumexp",
    "loss",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "negative",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "softplus",
    "sqrt",
    "square",
    "subtract",
    "sum",
    "tanh",
    "transpose",
    "value_and_grad",
    "variable",
    "where",
]
