"""fastmlp by its public API alone: ``Trainer.epoch`` and ``predict``.

"native" is what a user gets: the rows are shuffled anew in every epoch, also where the workload
lets the peers read them in place, and the number of threads is fastmlp's choice. "native, in
order" does exactly what the peers do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from workloads import ADAM_BETAS, ADAM_EPS, MOMENTUM, Data, Workload

from . import Variant

NAME = "fastmlp"
REQUIRES = "fastmlp"
VARIANTS = (
    Variant("native"),
    Variant("native, in order", options={"shuffle": False}),
    Variant("native, 1 thread", threads=1),
    Variant("reference", options={"backend": "reference"}),
)


def refuses(workload: Workload, variant: Variant) -> str | None:
    in_order = not variant.options.get("shuffle", True)
    if in_order and (workload.shuffled or workload.kind == "predict"):
        return "the workload has an order" if workload.shuffled else "nothing to shuffle"
    if workload.kind == "predict" and "backend" in variant.options:
        return "predict is native"
    return None


def setup(workload: Workload, data: Data, variant: Variant) -> Callable[[], object]:
    if workload.kind == "predict":
        model = network(workload, data)
        x = data.x
        out = np.empty((workload.batch, workload.sizes[-1]), np.float32)
        predict = model.predict
        return lambda: predict(x, out=out)
    epoch = trainer(workload, data, variant).epoch
    x, y = data.x, data.y
    shuffle = variant.options.get("shuffle", True)
    return lambda: epoch(x, y, seed=0, shuffle=shuffle)


def network(workload: Workload, data: Data):
    """The model of a workload with its start weights."""
    import fastmlp as fm

    model = fm.MLP(
        list(workload.sizes),
        activation=workload.activation,
        output_activation=workload.output_activation,
        dtype="float32",
        seed=0,
    )
    for layer, (w, b) in enumerate(data.weights):
        model.parameters[f"{layer}.weight"] = w
        model.parameters[f"{layer}.bias"] = b
    return model


def optimizer(workload: Workload):
    """The optimizer of a workload."""
    import fastmlp as fm

    if workload.optimizer == "adam":
        return fm.Adam(lr=workload.lr, betas=ADAM_BETAS, eps=ADAM_EPS)
    return fm.SGD(lr=workload.lr, momentum=MOMENTUM if workload.optimizer == "momentum" else 0.0)


def trainer(workload: Workload, data: Data, variant: Variant):
    """A ``fastmlp.Trainer`` on a fresh model."""
    import fastmlp as fm

    return fm.Trainer(
        network(workload, data),
        loss="mse",
        optimizer=optimizer(workload),
        batch_size=workload.batch,
        threads=variant.threads,
        backend=variant.options.get("backend", "native"),
    )
