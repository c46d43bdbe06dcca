"""scikit-learn's MLPRegressor: ``partial_fit`` over the data set is one epoch of mini-batches.

Two differences favour it: its output is always the identity, where the workload has a sigmoid; and
byte images are converted to float32 beforehand, because it would convert all of them in every call.
Its loss is half the mean squared error, and its gradient lacks the factor 2/n_out of the mean:
plain SGD and momentum get a learning rate that makes up for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from workloads import ADAM_BETAS, ADAM_EPS, MOMENTUM, Data, Workload

from . import Variant

NAME = "scikit-learn"
REQUIRES = "sklearn"
VARIANTS = (Variant("1 thread", threads=1), Variant("all threads"))

_ACTIVATIONS = {"sigmoid": "logistic"}


def refuses(workload: Workload, variant: Variant) -> str | None:
    return None


def setup(workload: Workload, data: Data, variant: Variant) -> Callable[[], object]:
    from sklearn.neural_network import MLPRegressor

    sgd = workload.optimizer != "adam"
    model = MLPRegressor(
        hidden_layer_sizes=workload.sizes[1:-1],
        activation=_ACTIVATIONS.get(workload.activation, workload.activation),
        solver="sgd" if sgd else "adam",
        alpha=0.0,
        batch_size=workload.batch,
        learning_rate_init=workload.lr * (2.0 / workload.sizes[-1] if sgd else 1.0),
        momentum=MOMENTUM if workload.optimizer == "momentum" else 0.0,
        nesterovs_momentum=False,
        beta_1=ADAM_BETAS[0],
        beta_2=ADAM_BETAS[1],
        epsilon=ADAM_EPS,
        shuffle=workload.shuffled,
        random_state=0,
    )
    x = np.ascontiguousarray(data.x, np.float32)
    y = data.y.ravel() if workload.sizes[-1] == 1 else data.y
    with warnings.catch_warnings():
        # A network without hidden layers, or one row, is a legitimate workload.
        warnings.simplefilter("ignore")
        model.partial_fit(x[: workload.batch], y[: workload.batch])
    # The arrays it trains are those that its optimizer holds: fill them in place.
    for target, (w, _) in zip(model.coefs_, data.weights, strict=True):
        target[...] = w
    for target, (_, b) in zip(model.intercepts_, data.weights, strict=True):
        target[...] = b

    if workload.kind == "predict":
        return lambda: model.predict(x)

    def epoch() -> float:
        model.partial_fit(x, y)
        return 2.0 * model.loss_

    return epoch
