"""Models from and to scikit-learn's MLPClassifier and MLPRegressor.

What an activation is called there is told by its `counterparts`. A StandardScaler before the
network, in a Pipeline, is a Standardize layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.activations import Activation
from fastmlp.errors import shown
from fastmlp.exports.reading import Stack, activations_by_name, chosen
from fastmlp.layers import Dense, Standardize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType
    from typing import Any

    from numpy.typing import ArrayLike

    from fastmlp.layers import Layer
    from fastmlp.model import Sequential


def _sklearn() -> ModuleType:
    try:
        import sklearn.neural_network
        import sklearn.pipeline
        import sklearn.preprocessing
    except ImportError as error:
        message = 'carrying models to scikit-learn needs it: pip install "fastmlp[sklearn]"'
        raise ImportError(message) from error
    return sklearn


# --- from scikit-learn ----------------------------------------------------------------------------


def from_sklearn(estimator: Any, *, seed: int | None = 0) -> Sequential:
    """Return a model that computes what a fitted network of scikit-learn computes, as a copy.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, or Pipeline
        Fitted. In a Pipeline a StandardScaler may stand before it. A classifier becomes a model
        that gives the probabilities, whose order is that of `classes_`; a binary one has a single
        output, the probability of the second class.
    seed : int or None
        Of the model.

    Returns
    -------
    Sequential
        Of the estimator's dtype: float32 if it was fitted with float32.

    Raises
    ------
    TypeError
        If it is no network of scikit-learn.
    ValueError
        If it is not fitted, or something in it has no counterpart.

    Examples
    --------
    >>> model = fm.from_sklearn(MLPRegressor().fit(x, y))
    """
    steps = [step for _, step in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    *scalers, network = steps
    if not hasattr(network, "hidden_layer_sizes"):
        raise TypeError(
            f"estimator must be an MLPClassifier or MLPRegressor, or a Pipeline that ends with "
            f"one; got {shown(network)}"
        )
    if not hasattr(network, "coefs_"):
        raise ValueError(f"estimator must be fitted; got {shown(network)}")
    stack = Stack()
    for scaler in scalers:
        if type(scaler).__name__ != "StandardScaler" or len(scalers) > 1:
            raise ValueError(
                "a Pipeline may have one StandardScaler before the network; it has "
                f"{', '.join(type(step).__name__ for step in scalers)}"
            )
        stack.add("StandardScaler", Standardize, {}, _statistics(scaler))
    coefs, intercepts = network.coefs_, network.intercepts_
    kinds = network.activation
    if isinstance(kinds, (str, Activation)):
        kinds = [kinds] * (len(coefs) - 1)
    for number, (weight, bias) in enumerate(zip(coefs, intercepts, strict=True)):
        kind = kinds[number] if number < len(coefs) - 1 else network.out_activation_
        arrays = {"weight": np.asarray(weight), "bias": np.asarray(bias)}
        settings = {"input_size": len(weight), "units": weight.shape[1]}
        stack.add(f"layer {number}", Dense, settings | {"activation": _ours(kind)}, arrays)
    return stack.model(np.asarray(coefs[0]).dtype.name, seed)


def _ours(kind: str | Activation) -> str | Activation:
    if isinstance(kind, Activation):
        return kind
    known = activations_by_name("sklearn")
    if kind in known:
        return known[kind][0]()
    if kind == "exp":  # of MLPRegressor(loss="poisson")
        from fastmlp import graph

        return graph.activation(graph.exp)
    return kind  # an estimator of fastmlp's, which has all of our names


def _statistics(scaler: Any) -> dict[str, np.ndarray]:
    columns = scaler.n_features_in_
    mean = scaler.mean_ if scaler.with_mean else np.zeros(columns)
    return {"mean": mean, "scale": scaler.scale_ if scaler.with_std else np.ones(columns)}


# --- to scikit-learn ------------------------------------------------------------------------------


def to_sklearn(model: Sequential, classes: ArrayLike | None = None) -> Any:
    """Return a model as a fitted estimator; see `Sequential.to_sklearn`."""
    sklearn = _sklearn()
    first = 1 if isinstance(model.layers[0], Standardize) and len(model.layers) > 1 else 0
    kinds = _kinds(model.layers[first:], first)
    places = range(first, len(model.layers))
    parameters = {name: values.copy() for name, values in model.parameters.items()}
    weights = [parameters[f"{place}.weight"] for place in places]
    biases = [parameters[f"{place}.bias"] for place in places]
    settings = {
        "hidden_layer_sizes": tuple(len(bias) for bias in biases[:-1]),
        "activation": kinds[0] if len(kinds) > 1 else "identity",
        "random_state": 0,
    }
    outputs = len(biases[-1])
    if kinds[-1] == "identity":
        if classes is not None:
            raise ValueError("classes are for a model whose outputs are softmax or sigmoid")
        network = sklearn.neural_network.MLPRegressor(**settings)
        shown_once = {"y": np.zeros((1, outputs) if outputs > 1 else 1)}
    else:
        network = sklearn.neural_network.MLPClassifier(**settings)
        if kinds[-1] == "softmax" and outputs == 2:
            # scikit-learn has one output for two classes: softmax(z)₁ is sigmoid(z₁ - z₀).
            for arrays in (weights, biases):
                arrays[-1] = arrays[-1][..., 1:] - arrays[-1][..., :1]
        shown_once = _labels(kinds[-1], outputs, classes)
    # One step on made-up data sets all that scikit-learn keeps of a network; then it is replaced.
    network.partial_fit(np.zeros((1, len(weights[0])), model.dtype), **shown_once)
    network.coefs_, network.intercepts_ = weights, biases
    network.loss_curve_, network.loss_, network.best_loss_ = [], np.nan, np.inf
    network.t_ = network.n_iter_ = 0
    del network._optimizer  # the next partial_fit makes a new one
    network.set_params(random_state=None)
    if not first:
        return network
    scaler = _scaler(sklearn, model)
    return sklearn.pipeline.Pipeline([("standardscaler", scaler), ("mlp", network)])


def _kinds(layers: Sequence[Layer], first: int) -> list[str]:
    """Return what scikit-learn calls the activations of layers, if it can represent them."""
    kinds = []
    for place, layer in enumerate(layers, first):
        title = f"layer {place} ({type(layer).__name__})"
        if not isinstance(layer, Dense):
            raise ValueError(
                f"{title} has no counterpart in scikit-learn, which has dense layers, and a "
                "StandardScaler before them"
            )
        if not layer.bias:
            raise ValueError(f"{title} has no bias; in scikit-learn every layer has one")
        try:
            kinds.append(chosen("sklearn", layer.activation).name)
        except ValueError as error:
            raise ValueError(f"{title}: {error}") from error
    if len({*kinds[:-1]}) > 1 or "softmax" in kinds[:-1]:
        raise ValueError(
            "in scikit-learn all hidden layers have the same activation, which is not softmax; "
            f"these have {', '.join(kinds[:-1])}"
        )
    if kinds[-1] not in ("identity", "softmax", "logistic"):
        raise ValueError(
            "the outputs of scikit-learn's networks are identity, softmax or sigmoid; got "
            f"{kinds[-1]}"
        )
    return kinds


def _labels(kind: str, outputs: int, classes: ArrayLike | None) -> dict[str, Any]:
    """Return targets, and classes, of one sample for a classifier."""
    if kind == "logistic" and outputs > 1:
        if classes is not None:
            raise ValueError("several sigmoid outputs decide one label each, not between classes")
        return {"y": np.ones((1, outputs), int), "classes": np.arange(outputs)}
    count = 2 if kind == "logistic" else outputs
    if count == 1:
        raise ValueError("softmax of a single output is always 1, which is no classifier")
    labels = np.arange(count) if classes is None else np.asarray(classes)
    if labels.shape != (count,) or not np.array_equal(np.unique(labels), labels):
        raise ValueError(f"classes must be {count} different labels, sorted; got {shown(classes)}")
    return {"y": labels[:1], "classes": labels}


def _scaler(sklearn: ModuleType, model: Sequential) -> Any:
    scaler = sklearn.preprocessing.StandardScaler()
    mean, scale = (model.states[f"0.{name}"].astype(np.float64) for name in ("mean", "scale"))
    # Two samples with these moments.
    scaler.fit(np.stack([mean - scale, mean + scale]))
    scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale**2
    return scaler
