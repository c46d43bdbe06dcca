"""Make the golden files: what PyTorch computes, in float64.

    python tests/golden/make_golden.py

writes a file for each of MAKERS beside this script. Each holds the cases as JSON (fastmlp's
plain-data configs) and the numbers. The tests compare fastmlp with the files everywhere, and the
files with a live PyTorch where it is installed.
"""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent
STEPS = 50
POSITIONS = 60


# --- inputs, shared with the tests ----------------------------------------------------------------


def pre_activations() -> np.ndarray:
    """Points on both sides of every kink, the kinks, and far out; shape (16, 4)."""
    near = np.linspace(-6.0, 6.0, 49)
    others = [1e-3, -1e-3, 1e-8, -1e-8, 9.5, -9.5, 15.0, -15.0, 19.0, -19.0, 30.0, -30.0]
    return np.concatenate([near, others, [100.0, -100.0, 0.5]]).reshape(16, 4)


def wave(shape: tuple[int, ...], speed: float) -> np.ndarray:
    """Irregular numbers between -1 and 1 that need no random generator."""
    return np.sin(speed * np.arange(1, math.prod(shape) + 1) ** 2).reshape(shape)


START = wave((5,), 0.7)
STIFFNESS = np.array([0.1, 0.5, 1.0, 2.0, 0.0])


def gradient(w, step: int, sin=np.sin):
    """Gradient of a bumpy bowl with noise; the last coordinate has none in every third step."""
    noise = np.sin(1.3 * step + np.arange(5.0))
    noise[4] *= step % 3 != 0
    return STIFFNESS * (w + 0.5 * sin(3.0 * w)) + 0.3 * noise


# --- activations ----------------------------------------------------------------------------------


def activation_cases():
    import torch
    from torch.nn import functional as F  # noqa: N812

    return [
        ({"name": "identity"}, lambda z: z * 1.0),
        ({"name": "relu"}, torch.relu),
        ({"name": "leaky_relu", "alpha": 0.01}, F.leaky_relu),
        ({"name": "leaky_relu", "alpha": 0.3}, lambda z: F.leaky_relu(z, 0.3)),
        ({"name": "elu", "alpha": 1.0}, F.elu),
        ({"name": "elu", "alpha": 0.7}, lambda z: F.elu(z, 0.7)),
        ({"name": "selu"}, F.selu),
        ({"name": "gelu"}, F.gelu),
        ({"name": "silu"}, F.silu),
        ({"name": "mish"}, F.mish),
        # PyTorch goes over into the identity at a threshold of 20; far out both are the same.
        ({"name": "softplus"}, lambda z: F.softplus(z, 1.0, 200.0)),
        ({"name": "tanh"}, torch.tanh),
        ({"name": "sigmoid"}, torch.sigmoid),
        ({"name": "softmax"}, lambda z: F.softmax(z, dim=-1)),
    ]


def make_activations() -> dict[str, np.ndarray]:
    """Outputs, and gradients of the mean and the quadratic squared error with respect to z."""
    import torch

    inputs = pre_activations()
    targets = torch.from_numpy(wave(inputs.shape, 0.37))
    configs, outputs, gradients = [], [], {"mse": [], "quadratic": []}
    for config, function in activation_cases():
        configs.append(json.dumps(config))
        for name, collected in gradients.items():
            z = torch.from_numpy(inputs.copy()).requires_grad_()
            a = function(z)
            square = ((a - targets) ** 2).sum()
            loss = square / a.numel() if name == "mse" else square / (2 * len(a))
            loss.backward()
            collected.append(z.grad.numpy())
        outputs.append(a.detach().numpy())
    return {"configs": np.array(configs), "outputs": np.array(outputs)} | {
        name: np.array(collected) for name, collected in gradients.items()
    }


# --- losses ---------------------------------------------------------------------------------------

# How targets are made, and which predictions they are compared with.
REAL, COUNTS, BITS, SOFT_BITS, CLASSES, SOFT_CLASSES = (
    "real",
    "counts",
    "bits",
    "soft bits",
    "classes",
    "soft classes",
)


def loss_cases():
    """Rows (config, targets, predictions, function of ŷ and y to losses of elements or rows)."""
    import torch
    from torch.nn import functional as F  # noqa: N812

    def cross_entropy(smoothing):
        return lambda p, y: F.cross_entropy(p, y, reduction="none", label_smoothing=smoothing)

    def bce(smoothing, function):
        return lambda p, y: function(p, y * (1 - smoothing) + smoothing / 2, reduction="none")

    def poisson(log_input):
        return lambda p, y: F.poisson_nll_loss(p, y, log_input, eps=1e-8, reduction="none")

    def huber(delta):
        return lambda p, y: F.huber_loss(p, y, reduction="none", delta=delta)

    def pinball(q):
        return lambda p, y: torch.maximum(q * (y - p), (q - 1) * (y - p))

    with_logits = F.binary_cross_entropy_with_logits
    on_logits = {"from_logits": True}
    return [
        ({"name": "mse"}, REAL, "real", lambda p, y: F.mse_loss(p, y, reduction="none")),
        ({"name": "quadratic"}, REAL, "real", lambda p, y: (p - y) ** 2 / 2 * p.shape[1]),
        ({"name": "mae"}, REAL, "real", lambda p, y: F.l1_loss(p, y, reduction="none")),
        ({"name": "huber", "delta": 1.0}, REAL, "real", huber(1.0)),
        ({"name": "huber", "delta": 0.3}, REAL, "real", huber(0.3)),
        ({"name": "log_cosh"}, REAL, "real", lambda p, y: torch.log(torch.cosh(p - y))),
        ({"name": "quantile", "q": 0.5}, REAL, "real", pinball(0.5)),
        ({"name": "quantile", "q": 0.9}, REAL, "real", pinball(0.9)),
        ({"name": "poisson", "log_input": True}, COUNTS, "real", poisson(True)),
        ({"name": "poisson", "log_input": False}, COUNTS, "positive", poisson(False)),
        ({"name": "bce", **on_logits}, BITS, "logits", bce(0.0, with_logits)),
        ({"name": "bce", **on_logits}, SOFT_BITS, "logits", bce(0.0, with_logits)),
        (
            {"name": "bce", "label_smoothing": 0.2, **on_logits},
            BITS,
            "logits",
            bce(0.2, with_logits),
        ),
        ({"name": "bce"}, SOFT_BITS, "probabilities", bce(0.0, F.binary_cross_entropy)),
        ({"name": "bce"}, BITS, "sure", bce(0.0, F.binary_cross_entropy)),
        (
            {"name": "bce", "label_smoothing": 0.1},
            BITS,
            "probabilities",
            bce(0.1, F.binary_cross_entropy),
        ),
        ({"name": "cross_entropy", **on_logits}, CLASSES, "logits", cross_entropy(0.0)),
        ({"name": "cross_entropy", **on_logits}, SOFT_CLASSES, "logits", cross_entropy(0.0)),
        (
            {"name": "cross_entropy", "label_smoothing": 0.1, **on_logits},
            CLASSES,
            "logits",
            cross_entropy(0.1),
        ),
        (
            {"name": "cross_entropy"},
            SOFT_CLASSES,
            "probabilities",
            lambda p, y: -(y * torch.log(p)).sum(dim=1),
        ),
        ({"name": "hinge"}, BITS, "real", lambda p, y: torch.relu(1 - (2 * y - 1) * p)),
    ]


def loss_inputs(targets: str, predictions: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets of shape (6, 3); of logits, two rows are ±1e4."""
    y_hat, y = 3.0 * wave((6, 3), 0.91), 2.0 * wave((6, 3), 0.53)
    if predictions == "logits":
        y_hat[4], y_hat[5] = [1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]
    elif predictions == "positive":
        y_hat = np.abs(y_hat) + 0.1
    elif predictions == "probabilities":
        y_hat = np.exp(y_hat) / np.exp(y_hat).sum(axis=1, keepdims=True)
    elif predictions == "sure":
        y_hat = (y_hat > 0).astype(float)
    if targets == COUNTS:
        y = np.floor(np.abs(4.0 * y))
    elif targets == BITS:
        y = (y > 0).astype(float)
    elif targets == SOFT_BITS:
        y = np.abs(0.5 * y)
    elif targets == CLASSES:
        y = np.eye(3)[y.argmax(axis=1)]
    elif targets == SOFT_CLASSES:
        y = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
    return y_hat, y


def loss_weights(kind: str) -> np.ndarray:
    """Weights of shape (6, 3), equal along rows if of samples; some are zero."""
    if kind == "none":
        return np.ones((6, 3))
    weight = np.abs(wave((6, 3), 0.29))
    weight[2, 0] = weight[3, 2] = 0.0
    return weight if kind == "outputs" else np.repeat(weight[:, :1], 3, axis=1)


def make_losses() -> dict[str, np.ndarray]:
    """Value and gradient of each loss, without weights, with weights of samples, of outputs."""
    import torch

    cases, values, gradients = [], [], []
    for config, targets, predictions, function in loss_cases():
        for kind in ("none", "samples", "outputs"):
            if kind == "outputs" and config["name"] == "cross_entropy":
                continue
            y_hat, y = (torch.from_numpy(array) for array in loss_inputs(targets, predictions))
            weight = torch.from_numpy(loss_weights(kind))
            y_hat.requires_grad_()
            losses = function(y_hat, y)
            if losses.ndim == 1:
                weight = weight[:, 0]
            value = (weight * losses).sum() / weight.sum()
            value.backward()
            cases.append(json.dumps([config, targets, predictions, kind]))
            values.append(value.item())
            gradients.append(y_hat.grad.numpy())
    return {
        "cases": np.array(cases),
        "values": np.array(values),
        "gradients": np.array(gradients),
    }


# --- optimizers -----------------------------------------------------------------------------------


def optimizer_cases():
    """Rows (config, PyTorch's class, its arguments)."""
    import torch

    optim = torch.optim

    def same(name, kind, **settings):
        return {"name": name, **settings}, kind, settings

    return [
        same("sgd", optim.SGD, lr=0.1),
        same("sgd", optim.SGD, lr=0.05, weight_decay=0.1),
        same("sgd", optim.SGD, lr=0.02, momentum=0.9),
        same("sgd", optim.SGD, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
        same("sgd", optim.SGD, lr=0.05, momentum=0.8, dampening=0.3, weight_decay=0.02),
        same("adam", optim.Adam),
        same("adam", optim.Adam, lr=0.05, betas=(0.8, 0.95), eps=1e-6),
        same("adam", optim.Adam, lr=0.02, weight_decay=0.1),
        same("adam", optim.Adam, lr=0.05, betas=(0.9, 0.9), amsgrad=True),
        same("adam", optim.Adam, lr=0.02, weight_decay=0.05, amsgrad=True),
        same("adamw", optim.AdamW, lr=0.02),
        same("adamw", optim.AdamW, lr=0.05, betas=(0.7, 0.99), eps=1e-4, weight_decay=0.3),
        same("adamw", optim.AdamW, lr=0.02, weight_decay=0.1, amsgrad=True),
        same("nadam", optim.NAdam),
        same("nadam", optim.NAdam, lr=0.02, betas=(0.8, 0.9), momentum_decay=0.1),
        same("nadam", optim.NAdam, lr=0.02, weight_decay=0.1),
        same("nadam", optim.NAdam, lr=0.02, weight_decay=0.1, decoupled_weight_decay=True),
        same("radam", optim.RAdam, lr=0.05),
        same("radam", optim.RAdam, lr=0.02, betas=(0.8, 0.9), weight_decay=0.1),
        same("radam", optim.RAdam, lr=0.05, weight_decay=0.1, decoupled_weight_decay=True),
        # ρ∞ = 3: never rectified.
        same("radam", optim.RAdam, lr=0.01, betas=(0.9, 0.5)),
        same("adamax", optim.Adamax),
        same("adamax", optim.Adamax, lr=0.05, betas=(0.8, 0.9), eps=1e-5, weight_decay=0.1),
        same("rmsprop", optim.RMSprop),
        same("rmsprop", optim.RMSprop, lr=0.02, alpha=0.9, eps=1e-5, weight_decay=0.1),
        same("rmsprop", optim.RMSprop, lr=0.005, momentum=0.9),
        same("rmsprop", optim.RMSprop, lr=0.01, alpha=0.8, centered=True),
        same("rmsprop", optim.RMSprop, lr=0.003, alpha=0.9, centered=True, momentum=0.8),
        same("adagrad", optim.Adagrad),
        same("adagrad", optim.Adagrad, lr=0.1, lr_decay=0.1, weight_decay=0.1),
        same("adagrad", optim.Adagrad, lr=0.1, initial_accumulator_value=0.5, eps=1e-4),
        same("adadelta", optim.Adadelta),
        same("adadelta", optim.Adadelta, lr=2.0, rho=0.8, eps=1e-4, weight_decay=0.1),
        same("rprop", optim.Rprop),
        same("rprop", optim.Rprop, lr=0.05, etas=(0.4, 1.5), step_sizes=(1e-3, 0.2)),
        same("lion", Lion),
        same("lion", Lion, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1),
    ]


class Lion:
    """Algorithm 2 of arXiv:2302.06675, which PyTorch does not have, word for word."""

    def __init__(self, parameters, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        import torch

        (self.w,) = parameters
        self.m = torch.zeros_like(self.w)
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay

    def step(self):
        beta1, beta2 = self.betas
        c = beta1 * self.m + (1 - beta1) * self.w.grad
        self.w.data -= self.lr * (c.sign() + self.weight_decay * self.w.data)
        self.m = beta2 * self.m + (1 - beta2) * self.w.grad


def make_optimizers() -> dict[str, np.ndarray]:
    """Parameters after each of 50 steps from `START` with `gradient`."""
    import torch

    configs, trajectories = [], []
    for config, kind, settings in optimizer_cases():
        w = torch.nn.Parameter(torch.from_numpy(START.copy()))
        optimizer = kind([w], **settings)
        trajectory = []
        for step in range(1, STEPS + 1):
            w.grad = torch.from_numpy(gradient(w.detach().numpy(), step))
            optimizer.step()
            trajectory.append(w.detach().numpy().copy())
        configs.append(json.dumps(config))
        trajectories.append(trajectory)
    return {"configs": np.array(configs), "trajectories": np.array(trajectories)}


# --- schedules ------------------------------------------------------------------------------------


def schedule_cases():
    """Rows (config, function of an optimizer to a PyTorch scheduler)."""
    from torch.optim import lr_scheduler as s

    def linear(start, length):
        return lambda o: s.LinearLR(o, start_factor=start, total_iters=length)

    def warm_cosine(o):
        # SequentialLR starts its second schedule from that schedule's first rate.
        parts = [s.LinearLR(o, start_factor=0.1, total_iters=10), s.CosineAnnealingLR(o, 49)]
        return s.SequentialLR(o, parts, milestones=[10])

    cosine = {"name": "cosine", "lr": 0.5, "period": 49}
    restarts = {"name": "cosine", "lr": 0.5, "period": 7, "restarts": True}
    one_cycle = {"name": "one_cycle", "lr": 0.5, "total": 60}
    constant = {"name": "constant", "lr": 0.5}
    return [
        (constant, lambda o: s.ConstantLR(o, 1.0)),
        ({"name": "step", "lr": 0.5, "every": 7}, lambda o: s.StepLR(o, 7)),
        (
            {"name": "step", "lr": 0.5, "every": [5, 20, 21], "gamma": 0.3},
            lambda o: s.MultiStepLR(o, [5, 20, 21], 0.3),
        ),
        ({"name": "exponential", "lr": 0.5, "gamma": 0.93}, lambda o: s.ExponentialLR(o, 0.93)),
        (
            {"name": "polynomial", "lr": 0.5, "total": 40, "power": 2.0},
            lambda o: s.PolynomialLR(o, 40, 2.0),
        ),
        ({"name": "polynomial", "lr": 0.5, "total": 40}, lambda o: s.PolynomialLR(o, 40)),
        ({**cosine, "period": 59, "end": 0.01}, lambda o: s.CosineAnnealingLR(o, 59, 0.01)),
        (restarts, lambda o: s.CosineAnnealingWarmRestarts(o, 7)),
        (
            {**restarts, "stretch": 2, "end": 0.02},
            lambda o: s.CosineAnnealingWarmRestarts(o, 7, 2, 0.02),
        ),
        ({"name": "warmup", "schedule": constant, "length": 12}, linear(1 / 3, 12)),
        ({"name": "warmup", "schedule": cosine, "length": 10, "start": 0.1}, warm_cosine),
        (one_cycle, lambda o: s.OneCycleLR(o, 0.5, 60, cycle_momentum=False)),
        (
            {**one_cycle, "rise": 0.4, "div": 5.0, "final_div": 9.0},
            lambda o: s.OneCycleLR(o, 0.5, 60, None, None, 0.4, "cos", False, 0, 0, 5.0, 9.0),
        ),
    ]


def make_schedules() -> dict[str, np.ndarray]:
    """Learning rates of the first 60 steps."""
    import torch

    configs, rates = [], []
    for config, make in schedule_cases():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        scheduler = make(optimizer)
        row = []
        for position in range(POSITIONS):
            row.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if position < POSITIONS - 1:
                scheduler.step()
        configs.append(json.dumps(config))
        rates.append(row)
    return {"configs": np.array(configs), "rates": np.array(rates)}


# --- networks -------------------------------------------------------------------------------------

SIZES = (4, 6, 5, 3)
ROWS, BATCH, EPOCHS = 13, 5, 8


def network_data() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Inputs, targets, and the parameters W, b, W, b, … of a network of three layers."""
    parameters = []
    for number, shape in enumerate(pairwise(SIZES)):
        parameters += [wave(shape, 0.41 + number), 0.3 * wave(shape[1:], 0.73 + number)]
    return 1.5 * wave((ROWS, SIZES[0]), 0.31), wave((ROWS, SIZES[-1]), 0.53), parameters


def run_network(function, x, parameters):
    for number in range(0, len(parameters), 2):
        x = x @ parameters[number] + parameters[number + 1]
        x = function(x) if number + 2 < len(parameters) else x
    return x


def make_networks() -> dict[str, np.ndarray]:
    """Gradients behind every activation; losses and last parameters of some trainings."""
    import torch

    def fresh():
        x, y, parameters = network_data()
        tensors = [torch.from_numpy(array).requires_grad_() for array in parameters]
        return torch.from_numpy(x), torch.from_numpy(y), tensors

    def flat(tensors):
        return np.concatenate([tensor.detach().numpy().ravel() for tensor in tensors])

    configs, gradients = [], []
    for config, function in activation_cases():
        x, y, parameters = fresh()
        x.requires_grad_()
        ((run_network(function, x, parameters) - y) ** 2).mean().backward()
        configs.append(json.dumps(config))
        gradients.append(flat([tensor.grad for tensor in (*parameters, x)]))
    rules = [
        ({"name": "sgd", "lr": 0.1}, torch.optim.SGD),
        ({"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True}, torch.optim.SGD),
        ({"name": "adam", "lr": 0.02, "weight_decay": 0.01}, torch.optim.Adam),
        ({"name": "adamw", "lr": 0.02, "weight_decay": 0.1}, torch.optim.AdamW),
    ]
    rule_configs, losses, last = [], [], []
    for config, rule in rules:
        x, y, parameters = fresh()
        settings = {name: value for name, value in config.items() if name != "name"}
        optimizer = rule(parameters, **settings)
        curve = []
        for _ in range(EPOCHS):
            for start in range(0, ROWS, BATCH):
                rows = slice(start, start + BATCH)
                loss = ((run_network(torch.tanh, x[rows], parameters) - y[rows]) ** 2).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                curve.append(loss.item())
        rule_configs.append(json.dumps(config))
        losses.append(curve)
        last.append(flat(parameters))
    return {
        "activations": np.array(configs),
        "gradients": np.array(gradients),
        "optimizers": np.array(rule_configs),
        "losses": np.array(losses),
        "parameters": np.array(last),
    }


# --- what surrounds the update --------------------------------------------------------------------


def make_updates() -> dict[str, np.ndarray]:
    """Last parameters, and their moving average, of trainings with clipped gradients."""
    import torch
    from torch.nn.utils import clip_grad_norm_, clip_grad_value_
    from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

    rows, last, averages = [], [], []
    for around in (
        {"clip_value": 0.02},
        {"clip_norm": 0.1},
        {"clip_norm": 0.05, "clip_value": 0.02, "l1": 0.01, "l2": 0.1},
        {"ema": 0.9},
    ):
        for config, rule in (
            ({"name": "sgd", "lr": 0.1}, torch.optim.SGD),
            ({"name": "adam", "lr": 0.02, "weight_decay": 0.01}, torch.optim.Adam),
            ({"name": "adamw", "lr": 0.02, "weight_decay": 0.1}, torch.optim.AdamW),
        ):
            x, y, parameters = map_tensors(torch.from_numpy)
            model = torch.nn.ParameterList(parameters)
            settings = {name: value for name, value in config.items() if name != "name"}
            optimizer = rule(model.parameters(), **settings)
            average = AveragedModel(model, avg_fn=get_ema_avg_fn(around.get("ema", 0.5)))
            for _ in range(EPOCHS):
                for start in range(0, ROWS, BATCH):
                    part = slice(start, start + BATCH)
                    error = run_network(torch.tanh, x[part], list(model)) - y[part]
                    loss = (error**2).mean()
                    for weight in list(model)[::2]:
                        loss = loss + around.get("l1", 0.0) * weight.abs().sum()
                        loss = loss + around.get("l2", 0.0) / 2 * (weight**2).sum()
                    optimizer.zero_grad()
                    loss.backward()
                    if "clip_value" in around:
                        clip_grad_value_(model.parameters(), around["clip_value"])
                    if "clip_norm" in around:
                        clip_grad_norm_(model.parameters(), around["clip_norm"])
                    optimizer.step()
                    average.update_parameters(model)
            rows.append(json.dumps([around, config]))
            last.append(np.concatenate([p.detach().numpy().ravel() for p in model]))
            averages.append(np.concatenate([p.detach().numpy().ravel() for p in average.module]))
    return {
        "rows": np.array(rows),
        "parameters": np.array(last),
        "averages": np.array(averages),
    }


def map_tensors(convert):
    """The data of `network_data`, converted; parameters apart."""
    x, y, parameters = network_data()
    return convert(x), convert(y), [convert(array) for array in parameters]


# --- L-BFGS -----------------------------------------------------------------------------------

CURVED_STEPS = 15


def curved_problem() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Inputs, targets, and the first weights of a network 2-6-1."""
    x = wave((60, 2), 0.37)
    y = np.sin(3.0 * x[:, :1]) * np.cos(2.0 * x[:, 1:])
    shapes = [(2, 6), (6,), (6, 1), (1,)]
    return x, y, [wave(shape, 0.7 + 0.1 * k) for k, shape in enumerate(shapes)]


def make_second_order() -> dict[str, np.ndarray]:
    """Losses before each step of L-BFGS with the strong Wolfe conditions, tanh and mse."""
    import torch

    *data, start = curved_problem()
    x, y = map(torch.tensor, data)
    W1, b1, W2, b2 = weights = [torch.tensor(w, requires_grad=True) for w in start]
    rule = torch.optim.LBFGS(
        weights, history_size=5, max_iter=1, max_eval=100, tolerance_grad=0.0,
        tolerance_change=0.0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        rule.zero_grad()
        loss = ((torch.tanh(x @ W1 + b1) @ W2 + b2 - y) ** 2).mean()
        loss.backward()
        return loss

    return {"losses": np.array([float(rule.step(closure).detach()) for _ in range(CURVED_STEPS)])}


MAKERS = {
    "activations": make_activations,
    "losses": make_losses,
    "networks": make_networks,
    "optimizers": make_optimizers,
    "schedules": make_schedules,
    "second_order": make_second_order,
    "updates": make_updates,
}


if __name__ == "__main__":
    for name, make in MAKERS.items():
        np.savez_compressed(FOLDER / f"{name}.npz", **make())
