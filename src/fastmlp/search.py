"""Searching hyper-parameters: a grid, or draws, trained many at once by `fastmlp.fit_many`.

A parameter is one of three things, by its name: an argument of `Sequential.fit` ("batch_size",
"l2", "epochs", "optimizer"); a setting of the optimizer ("optimizer.lr"); or something that the
model is built with: an argument of the function that builds it, or a place in the config of a model
that serves as a template ("layers.1.units", "seed").
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import optimizers
from fastmlp.distributions import Distribution, Integers, LogUniform, Uniform
from fastmlp.errors import ManyError, check_flag, check_integer, check_number, choose, shown
from fastmlp.registry import plain
from fastmlp.sources import as_real_array

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from numpy.typing import ArrayLike, NDArray
    from pandas import DataFrame

    from fastmlp.history import History
    from fastmlp.model import Sequential

    Rows = NDArray[np.intp]
    # Training and validation data: x, y, sample_weight or None.
    Split = tuple[tuple[Any, ...], tuple[Any, ...]]

__all__ = [
    "Distribution",
    "Integers",
    "LogUniform",
    "SearchResult",
    "Uniform",
    "grid_search",
    "random_search",
]

# Networks that are in memory at the same time.
_AT_ONCE = 64
# Arguments of `fit` that the search gives itself.
_OURS = ("validation_data", "validation_split", "checkpoint", "checkpoint_every", "resume")


class SearchResult:
    """What a search found.

    Attributes
    ----------
    params : list of dict
        Of each trial.
    scores : ndarray of float64, shape (trials, splits)
        On the validation data; NaN where a training failed.
    scoring : str
        "loss" or the name of a metric.
    histories : list of list of (History or Exception)
        Of each trial, one per split.
    best_index : int
    best_params : dict
    best_score : float
        The mean over the splits.
    best_model : Sequential or None
        Trained anew with the best parameters, if that was asked for.
    best_history : History or None
        Of that training.
    """

    def __init__(
        self,
        params: list[dict[str, Any]],
        scores: NDArray[np.float64],
        histories: list[list[Any]],
        scoring: str,
        greater: bool,
    ):
        self.params, self.scores, self.histories = params, scores, histories
        self.scoring = scoring
        means = scores.mean(axis=1)
        self.best_index = int(np.nanargmax(means) if greater else np.nanargmin(means))
        self.best_params = params[self.best_index]
        self.best_score = float(means[self.best_index])
        self.best_model: Sequential | None = None
        self.best_history: History | None = None
        ranked = np.argsort(-means if greater else means, kind="stable")  # NaN goes last
        self._ranks = np.empty(len(means), int)
        self._ranks[ranked] = np.arange(1, len(means) + 1)

    @property
    def table(self) -> list[dict[str, Any]]:
        """One row per trial, with parameters, "score", "std" over the splits, "rank", "seconds"."""
        rows = []
        for params, scores, rank, made in zip(
            self.params, self.scores, self._ranks, self.histories, strict=True
        ):
            seconds = sum(sum(item.time) for item in made if not isinstance(item, Exception))
            errors = [str(item) for item in made if isinstance(item, Exception)]
            row = {
                **params,
                "score": float(scores.mean()),
                "std": float(scores.std()),
                "rank": int(rank),
                "seconds": seconds,
            }
            rows.append({**row, "error": errors[0] if errors else ""})
        return rows

    def to_dataframe(self) -> DataFrame:
        """Return the table as a pandas DataFrame.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from error
        return pd.DataFrame(self.table)

    def __repr__(self) -> str:
        count = len(self.params)
        return (
            f"SearchResult of {count} trial{'s' * (count > 1)}, best {self.scoring} "
            f"{self.best_score:.4g} with {self.best_params}"
        )


def grid_search(
    build: Callable[..., Sequential] | Sequential,
    space: Mapping[str, Sequence[Any]],
    x: ArrayLike,
    y: ArrayLike,
    **settings: Any,
) -> SearchResult:
    """Train every combination of some values, and find the best.

    Parameters
    ----------
    build : callable or Sequential
        A function that returns a new model, called with the parameters of `space` that are neither
        arguments of `fit` nor settings of the optimizer. Or a model that serves as a template: its
        architecture is taken, and drawn anew by its seed.
    space : mapping of str to sequence
        The values of each parameter; for the names see `fastmlp.search`.
    x, y : array_like
        As for `Sequential.fit`.
    **settings
        See `random_search`, but for `trials`.

    Returns
    -------
    SearchResult

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    ManyError
        If all trainings failed.

    Examples
    --------
    >>> def build(width, depth):
    ...     return fm.MLP([64, *[width] * depth, 10], output_activation="softmax", seed=0)
    >>> space = {"width": [32, 64], "depth": [1, 2], "optimizer.lr": [1e-3, 1e-2]}
    >>> result = fm.grid_search(build, space, x, y, loss="cross_entropy", epochs=10, folds=5)
    >>> result.best_params, result.best_model.predict(x_test)
    """
    _check_space(space)
    for name, values in space.items():
        if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
            raise ValueError(f"space[{name!r}] must be a list of values; got {shown(values)}")
    trials = [
        dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())
    ]
    return _search(build, trials, x, y, **settings)


def random_search(
    build: Callable[..., Sequential] | Sequential,
    space: Mapping[str, Any],
    x: ArrayLike,
    y: ArrayLike,
    *,
    trials: int = 20,
    seed: int = 0,
    **settings: Any,
) -> SearchResult:
    """Train with parameters drawn at random, and find the best.

    J. Bergstra, Y. Bengio (2012), "Random search for hyper-parameter optimization": where few of
    many parameters matter, draws find good values of those sooner than a grid.

    Parameters
    ----------
    build : callable or Sequential
        As for `grid_search`.
    space : mapping of str to sequence or distribution
        A list is drawn from with equal chances. Otherwise `search.Uniform`, `search.LogUniform`,
        `search.Integers`, or a distribution of scipy.stats.
    x, y : array_like
        As for `Sequential.fit`.
    trials : int
        How many are drawn; the first ones are the same for any number.
    seed : int
        Of the draws and of the split.
    scoring : str or Metric
        What is compared on the validation data when a training has ended: "loss", or a metric.
    folds : int, optional
        Each trial is trained so many times, each time without another part of the rows, on which
        it is scored. The parts are drawn; integer labels are spread evenly.
    validation_split : float
        Without `folds`: the share of the rows, drawn in the same way, for the score; 0.2 by
        default.
    validation_data : (x, y) or (x, y, sample_weight), optional
        Instead: what it is scored on.
    refit : bool
        Whether a model is trained with the best parameters on all of x and y in the end. With
        callbacks it is trained as in the search (on the first of several splits), since they may
        watch the validation data.
    workers, progress
        As for `fit_many`.
    **settings
        Arguments of `Sequential.fit` for all trainings. Callbacks see the validation data.

    Returns
    -------
    SearchResult
        The same for the same seed, whatever the number of threads.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    ManyError
        If all trainings failed. Of some that fail, by divergence perhaps, the score is NaN.

    Examples
    --------
    >>> template = fm.MLP([64, 32, 10], output_activation="softmax")
    >>> space = {"optimizer.lr": fm.search.LogUniform(1e-4, 1e-1), "l2": [0.0, 1e-4],
    ...          "layers.0.units": fm.search.Integers(16, 128)}
    >>> result = fm.random_search(template, space, x, y, loss="cross_entropy", scoring="accuracy",
    ...                           epochs=10, trials=30)
    >>> result.to_dataframe().sort_values("rank")
    """
    _check_space(space)
    seed = check_integer("seed", seed, low=0)
    drawn = []
    for number in range(check_integer("trials", trials, low=1)):
        rng = np.random.default_rng([seed, number])
        drawn.append({name: _draw(name, values, rng) for name, values in space.items()})
    return _search(build, drawn, x, y, seed=seed, **settings)


def _check_space(space: Any) -> None:
    if not hasattr(space, "items"):
        raise TypeError(f"space must be a dict of names and values; got {shown(space)}")
    if not space:
        raise ValueError("space must have at least one parameter")
    for name in space:
        if not isinstance(name, str):
            raise TypeError(f"space must have strings as names; got {shown(name)}")
        if name in _OURS:
            raise ValueError(f"space must not have {name}, which the search gives itself")


def _draw(name: str, values: Any, rng: np.random.Generator) -> Any:
    if hasattr(values, "sample"):
        return values.sample(rng)
    if hasattr(values, "rvs"):
        value = values.rvs(random_state=rng)
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(values, str) or not hasattr(values, "__len__") or not len(values):
        raise ValueError(
            f"space[{name!r}] must be a list of values or a distribution; got {shown(values)}"
        )
    return values[int(rng.integers(len(values)))]


# ---- trials --------------------------------------------------------------------------------------


def _search(
    build: Any,
    trials: list[dict[str, Any]],
    x: ArrayLike,
    y: ArrayLike,
    *,
    scoring: Any = "loss",
    folds: int | None = None,
    validation_split: float = 0.2,
    validation_data: tuple[Any, ...] | None = None,
    refit: bool = True,
    seed: int = 0,
    workers: int | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> SearchResult:
    from fastmlp import metrics
    from fastmlp.many import fit_many

    refit = check_flag("refit", refit)
    seed = check_integer("seed", seed, low=0)
    metric = None if scoring == "loss" else metrics.get(scoring)
    weight = settings.pop("sample_weight", None)
    hooks = settings.pop("callbacks", ())
    whole = _check_data(x, y, weight)
    splits = list(_splits(whole, folds, validation_split, validation_data, seed))
    made = _Trials(build, settings)
    for trial in trials:
        made.check(trial)
    watched = bool(hooks)
    shared = {"callbacks": hooks, "workers": workers, "progress": progress}
    results: list[Any] = []
    scores: list[float] = []
    runs = [(trial, split) for trial in trials for split in splits]
    for start in range(0, len(runs), _AT_ONCE):
        models, own = [], []
        for trial, (train, validation) in runs[start : start + _AT_ONCE]:
            models.append(made.model(trial))
            own.append(made.settings(trial) | _data(train, validation if watched else None))
        found = fit_many(models, settings=own, errors="return", **shared)
        for model, run, item, given in zip(
            models, runs[start : start + _AT_ONCE], found, own, strict=True
        ):
            failed = isinstance(item, Exception)
            scores.append(math.nan if failed else _score(model, run[1][1], metric, given))
        results.extend(found)
    table = np.array(scores).reshape(len(trials), len(splits))
    if np.isnan(table).any(axis=1).all():
        raise ManyError(results)
    histories = [results[k : k + len(splits)] for k in range(0, len(results), len(splits))]
    name = "loss" if metric is None else metric.label
    greater = metric is not None and metric.greater_is_better
    result = SearchResult(trials, table, histories, name, greater)
    if refit:
        best = result.best_params
        result.best_model = made.model(best)
        data = _data(*splits[0]) if watched else _data(whole, None)
        own = [made.settings(best) | data]
        (result.best_history,) = fit_many([result.best_model], settings=own, **shared)
    return result


def _check_data(x: Any, y: Any, weight: Any) -> tuple[Any, ...]:
    x, y = as_real_array("x", x), as_real_array("y", y)
    if x.ndim != 2 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(
            f"x and y must have one row for each sample; got shapes {x.shape} and {y.shape}"
        )
    return x, y, None if weight is None else as_real_array("sample_weight", weight)


def _data(train: tuple[Any, ...], validation: tuple[Any, ...] | None) -> dict[str, Any]:
    """Return data as arguments of `fit`."""
    x, y, weight = train
    given: dict[str, Any] = {"x": x, "y": y}
    if weight is not None:
        given["sample_weight"] = weight
    if validation is not None:
        given["validation_data"] = validation if validation[2] is not None else validation[:2]
    return given


def _splits(
    whole: tuple[Any, ...], folds: Any, share: Any, data: Any, seed: int
) -> Iterator[Split]:
    """Return pairs of training and validation data."""
    n = len(whole[0])
    if folds is not None and data is not None:
        raise ValueError("give folds or validation_data, not both")
    if data is not None:
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
            raise TypeError(
                f"validation_data must be (x, y) or (x, y, sample_weight); got {shown(data)}"
            )
        yield whole, (*data, None)[:3]
        return
    if folds is None:
        share = check_number(
            "validation_split", share, low=0.0, high=1.0, open_low=True, open_high=True
        )
        count = min(max(round(n * share), 1), n - 1)
    else:
        folds = check_integer("folds", folds, low=2, high=n)
        count = n // folds
    if count < 1:
        raise ValueError(f"x must have at least 2 rows to be split; got {n}")
    # Labels in turn, the order within a class drawn: each part then has its share of each.
    order = np.random.default_rng(seed).permutation(n)
    labels = whole[1]
    if labels.ndim == 1 and labels.dtype.kind in "iub":
        order = order[np.argsort(labels[order], kind="stable")]
    places = np.arange(n)
    parts = [places % folds == k for k in range(folds)] if folds else [_spread(n, count)]
    for part in parts:
        kept, left = np.sort(order[~part]), np.sort(order[part])
        yield tuple(
            tuple(None if array is None else array[rows] for array in whole)
            for rows in (kept, left)
        )


def _spread(n: int, count: int) -> NDArray[np.bool_]:
    """Return a mask of `count` evenly spaced places of `n`."""
    places = np.arange(n, dtype=np.int64)
    return (places + 1) * count // n > places * count // n


def _score(model: Sequential, validation: tuple[Any, ...], metric: Any, given: Any) -> float:
    x, y, weight = validation
    values = model.evaluate(
        x,
        y,
        loss=given.get("loss", "mse"),
        metrics=[] if metric is None else [metric],
        sample_weight=weight,
        backend=given.get("backend", "native"),
    )
    return values["loss" if metric is None else metric.label]


class _Trials:
    """Makes the model and the arguments of `fit` of each trial."""

    def __init__(self, build: Any, settings: dict[str, Any]):
        import inspect

        from fastmlp.model import Sequential

        self._fit = set(inspect.signature(Sequential.fit).parameters) - {"self", "x", "y"}
        known = sorted(self._fit.difference(_OURS).union(_search.__kwdefaults__))
        for name in settings:
            choose("argument of the search", name, known)
        self._template = None
        if isinstance(build, Sequential):
            self._template = build.config()
            self._template.pop("adapted")
            kept = [plain(getattr(la, name)) for la in build.layers for name in la.settings]
            if any(callable(value) for value in kept):
                raise TypeError(
                    "build is a model with a function in a layer, which cannot be built anew: give "
                    "a function that returns the model"
                )
        elif not callable(build):
            raise TypeError(f"build must be a function or a Sequential; got {shown(build)}")
        self._build = build
        self._settings = settings

    def check(self, trial: dict[str, Any]) -> None:
        """Raise whatever a trial's parameters are refused with."""
        self.settings(trial)
        if self._template is not None:
            self._configured(trial)

    def settings(self, trial: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of `fit`, the optimizer with its settings among them."""
        given = {name: value for name, value in trial.items() if name in self._fit}
        merged = {**self._settings, **given}
        optimizer = copy.copy(optimizers.get(merged.get("optimizer", "adam")))
        for name, value in trial.items():
            if name.startswith("optimizer."):
                setting = name.removeprefix("optimizer.")
                choose(f"setting of {optimizer.name}", setting, [*optimizer.settings, "groups"])
                setattr(optimizer, setting, value)
        return {**merged, "optimizer": optimizer}

    def model(self, trial: dict[str, Any]) -> Sequential:
        """Return a new model."""
        from fastmlp.model import Sequential

        if self._template is not None:
            return Sequential.from_config(self._configured(trial))
        model = self._build(**self._rest(trial))
        if not isinstance(model, Sequential):
            raise TypeError(f"build must return a Sequential or MLP; it returned {shown(model)}")
        return model

    def _rest(self, trial: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in trial.items()
            if name not in self._fit and not name.startswith("optimizer.")
        }

    def _configured(self, trial: dict[str, Any]) -> dict[str, Any]:
        """Return the template's config with the values of a trial."""
        config = copy.deepcopy(self._template)
        optimizer = [f"optimizer.{name}" for name in self.settings(trial)["optimizer"].settings]
        known = sorted({*config, *self._fit.difference(_OURS), *optimizer})
        for name, value in self._rest(trial).items():
            place: Any = config
            *path, last = name.split(".")
            choose(f"{name!r} in space: the name", [*path, last][0], known)
            for key in path:
                place = _entry(place, key, name)
            _entry(place, last, name)
            if isinstance(place, list):
                place[int(last)] = value
            else:
                place[last] = value.config() if hasattr(value, "config") else value
        return config


def _entry(place: Any, key: str, name: str) -> Any:
    """Return what is at one part of a path such as "layers.1.units"."""
    if isinstance(place, list):
        if not key.isdecimal() or int(key) >= len(place):
            raise ValueError(
                f"{name!r} in space: {key!r} must be a number from 0 to {len(place) - 1}"
            )
        return place[int(key)]
    if not isinstance(place, dict):
        raise ValueError(f"{name!r} in space: there is nothing inside {shown(place)}")
    choose(f"{name!r} in space: {key!r}", key, place)
    return place[key]
