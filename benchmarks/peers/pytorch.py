"""PyTorch at its fastest: eager and compiled, on one thread and on all.

Mini-batches are tensors cut beforehand, losses are read once an epoch, and of the implementations
of the optimizer (a loop, ``foreach``, ``fused``) and of the compiled step (with and without the
optimizer compiled) the one that is fastest in a short trial is taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from workloads import ADAM_BETAS, ADAM_EPS, MOMENTUM, Data, Workload

from . import Variant

NAME = "PyTorch"
REQUIRES = "torch"
VARIANTS = (
    Variant("eager, 1 thread", threads=1),
    Variant("eager, all threads"),
    Variant("compiled, 1 thread", threads=1, options={"compile": True}),
    Variant("compiled, all threads", options={"compile": True}),
)

#: Seconds that the trial of one implementation may take.
TRIAL = 0.2


def refuses(workload: Workload, variant: Variant) -> str | None:
    return None


def setup(workload: Workload, data: Data, variant: Variant) -> Callable[[], object]:
    import torch

    torch.manual_seed(0)
    if variant.threads is not None:
        torch.set_num_threads(variant.threads)
    compiled = variant.options.get("compile", False)
    if workload.kind == "predict":
        return _prediction(workload, data, compiled)
    if not compiled:
        ways = [{}, {"foreach": True}, {"fused": True}]
    else:
        ways = [{"fused": True}, {"inside": True}]
    fastest, chosen = float("inf"), ways[0]
    for way in ways:
        trial = _training(workload, data, compiled, **way)
        seconds = _seconds_per_step(trial, workload)
        if seconds < fastest:
            fastest, chosen = seconds, way
    # A fresh one: the trial has moved the weights. What was compiled is reused from the cache.
    epoch = _training(workload, data, compiled, **chosen)
    return lambda: epoch(workload.batches)


def _seconds_per_step(epoch: Callable[[int], float], workload: Workload) -> float:
    """The best time of a few mini-batches, in seconds each, after two to warm up or compile."""
    epoch(min(2, workload.batches))
    count = min(10, workload.batches)
    best, end = float("inf"), time.perf_counter() + TRIAL
    while True:
        start = time.perf_counter()
        epoch(count)
        best = min(best, (time.perf_counter() - start) / count)
        if time.perf_counter() >= end:
            return best


def network(workload: Workload, data: Data):
    """``torch.nn.Sequential`` with the start weights of the workload."""
    import torch
    from torch import nn

    modules = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
    layers = []
    for number, (w, b) in enumerate(data.weights):
        layer = nn.Linear(*w.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(w.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        layers.append(layer)
        if (name := workload.activation_of(number)) in modules:
            layers.append(modules[name]())
    return nn.Sequential(*layers)


def _training(
    workload: Workload, data: Data, compiled: bool, inside: bool = False, **implementation: bool
) -> Callable[[int], float]:
    """A function that trains on the first so many mini-batches and returns the mean loss."""
    import torch
    from torch import nn

    model = network(workload, data)
    parameters = list(model.parameters())
    if workload.optimizer == "adam":
        optimizer = torch.optim.Adam(
            parameters, lr=workload.lr, betas=ADAM_BETAS, eps=ADAM_EPS, **implementation
        )
    else:
        momentum = MOMENTUM if workload.optimizer == "momentum" else 0.0
        optimizer = torch.optim.SGD(parameters, lr=workload.lr, momentum=momentum, **implementation)

    def loss_of(x, y):
        if x.dtype != torch.float32:
            x = x.float()
        return nn.functional.mse_loss(model(x), y)

    if compiled:
        loss_of = torch.compile(loss_of, fullgraph=True)
    update = torch.compile(optimizer.step) if inside else optimizer.step

    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    order = None if data.order is None else torch.from_numpy(data.order)
    if order is None:
        pairs = list(zip(x.split(workload.batch), y.split(workload.batch), strict=True))
    else:
        chunks = order.split(workload.batch)

    def batches(count: int) -> Iterable:
        if order is None:
            return pairs[:count]
        return ((x[rows], y[rows]) for rows in chunks[:count])

    def epoch(count: int) -> float:
        losses = []
        for xb, yb in batches(count):
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(xb, yb)
            loss.backward()
            update()
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()

    return epoch


def _prediction(workload: Workload, data: Data, compiled: bool) -> Callable[[], object]:
    """The forward pass under ``inference_mode``; "compiled" is frozen TorchScript or torch.compile,
    whichever is faster."""
    import torch

    model = network(workload, data).eval()
    x = torch.from_numpy(data.x)
    ways = [model]
    if compiled:
        with torch.no_grad():
            script = torch.jit.optimize_for_inference(torch.jit.trace(model, x))
        ways = [script, torch.compile(model, fullgraph=True)]

    fastest, chosen = float("inf"), model
    with torch.inference_mode():
        for way in ways:
            for _ in range(10):
                way(x)
            start = time.perf_counter()
            for _ in range(300):
                way(x)
            if (seconds := time.perf_counter() - start) < fastest:
                fastest, chosen = seconds, way

    def predict():
        with torch.inference_mode():
            return chosen(x)

    return predict
