"""What both estimators share: parameters and their checks, fitting, copies."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.estimators.network import NetworkMixin
from fastmlp.estimators.rows import Rows, predict
from fastmlp.estimators.stochastic import AROUND_UPDATES, StochasticMixin
from fastmlp.optimizers import OPTIMIZERS, Optimizer
from fastmlp.schedules import Schedule
from fastmlp.training import exclusive

if TYPE_CHECKING:
    from typing import Any, Self

    from fastmlp.activations import Activation as AnyActivation
    from fastmlp.loss_base import Loss


class BaseMLP(NetworkMixin, StochasticMixin, BaseEstimator):
    """Base of `MLPClassifier` and `MLPRegressor`."""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions({"logistic", *ACTIVATIONS}), Activation, list, tuple],
        "solver": [StrOptions({"lbfgs", *OPTIMIZERS}), Optimizer],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), Schedule],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "clip_value": [Interval(Real, 0, None, closed="neither"), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "ema": [Interval(Real, 0, 1, closed="left"), None],
        "callbacks": [list, tuple, None],
        "threads": [Interval(Integral, 1, None, closed="left"), None],
        "dtype": [StrOptions({"float32", "float64"}), type, np.dtype, None],
    }

    # --- what the two kinds say of themselves ---

    def _check_data(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        """Return checked inputs, and targets as the engine takes them."""
        raise NotImplementedError

    def _weights(self, X: Any, y: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        """Return the checked weights of the samples; targets are those of `_check_data`."""
        if sample_weight is None:
            return None
        return _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)

    def _outputs_for(self, y: np.ndarray) -> tuple[int, str | AnyActivation]:
        """Return the number of outputs for such targets, and the output activation."""
        raise NotImplementedError

    def _loss(self) -> Loss:
        """Return what is minimized."""
        raise NotImplementedError

    def _reported(self, y: np.ndarray) -> tuple[float, np.ndarray | None]:
        """Return what the loss is multiplied with where it is shown, and what each adds to it."""
        return 1.0, None

    def _score(self, held: Rows, outputs: np.ndarray) -> float:
        """Return the score of the model's outputs on held-out samples."""
        raise NotImplementedError

    # --- fitting ---

    @property
    def _input_dtype(self) -> Any:
        return (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Self:
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        before = dict(vars(self))
        if first_pass:
            self.n_iter_ = 0
        try:
            return self._train(X, y, sample_weight, incremental, first_pass)
        except Exception:
            # What is refused before anything was learned must not leave an untrained network.
            if first_pass and self.n_iter_ == 0:
                vars(self).clear()
                vars(self).update(before)
            raise

    def _train(
        self, X: Any, y: Any, sample_weight: Any, incremental: bool, first_pass: bool
    ) -> Self:
        hidden = self._hidden_sizes()
        if not self._stochastic:
            asked = {"dropout": np.any(self.dropout)}
            asked |= {name: getattr(self, name) is not None for name in AROUND_UPDATES}
            for name in filter(asked.get, asked):
                raise ValueError(
                    f"{name} needs a solver that goes through mini-batches, not 'lbfgs'; "
                    f"got {getattr(self, name)!r}"
                )
        X, y = self._check_data(X, y, incremental, reset=first_pass)
        sample_weight = self._weights(X, y, sample_weight)
        self._random_state = check_random_state(self.random_state)
        outputs, out_activation = self._outputs_for(y)
        if first_pass:
            self.out_activation_ = out_activation
            units = [X.shape[1], *hidden, outputs]
            # In scikit-learn, too, L-BFGS turns float32 into float64.
            double = self.dtype is None and not self._stochastic
            model = self._build(units, "float64" if double else X.dtype.name)
            self._draw(model, units, X.dtype)
            if np.any(self.dropout):
                model.seed = int(self._random_state.randint(2**31))
            self.__dict__.pop("_assigned", None)
            self.model_ = model
            self.n_layers_ = len(units)
            self.n_outputs_ = outputs
            self.t_ = 0
            if self._stochastic:
                self._begin()
        model = self._network()
        loss = self._loss()
        loss.check_targets(y, (len(y), model.output_size))
        data = Rows(X, y, sample_weight, model.output_size if y.ndim == 1 else 0)
        with exclusive(model):
            if self._stochastic:
                self._fit_stochastic(data, loss, incremental)
            else:
                self._fit_lbfgs(data, loss)
        if not np.isfinite(model.flat_parameters.array()).all():
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        return self

    def _fit_lbfgs(self, data: Rows, loss: Loss) -> None:
        import scipy.optimize
        from sklearn.utils.optimize import _check_optimize_result
        from threadpoolctl import threadpool_limits

        from fastmlp.estimators.lbfgs import Objective

        scale, constant = self._reported(data.y)
        objective = Objective(self.model_, loss, data, self.alpha, scale, constant, self._threads())
        # The threads of BLAS would go on spinning between its calls, on the engine's cores.
        with threadpool_limits(1, "blas"):
            result = scipy.optimize.minimize(
                objective,
                objective.packed(),
                method="L-BFGS-B",
                jac=True,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun
        objective.unpack(result.x)

    # --- prediction ---

    def _predicted(self, X: Any) -> np.ndarray:
        """Return the network's outputs for inputs of the user's."""
        check_is_fitted(self, "coefs_")  # a fit that failed leaves others, such as classes_
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        outputs = predict(self._network(), X, self._threads())
        if self.dtype is None:
            return outputs.astype(np.result_type(X.dtype, outputs.dtype), copy=False)
        return outputs

    # --- copies ---

    def __getstate__(self) -> dict[str, Any]:
        state = {**super().__getstate__()}
        state.pop("_training", None)
        if "_optimizer" in state:
            kept = self._optimizer.state_for(self.model_)
            slots = [slot.array().copy() for slot in kept.slots]
            average = None
            if kept.average is not None:
                average = kept.average.array().copy(), kept.averaged_from
            state["_optimizer_state"] = (kept.step, kept.epoch, slots, average)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        kept = state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if kept is not None:
            own = self._optimizer.state_for(self.model_)
            own.step, own.epoch, slots, average = kept
            for slot, values in zip(own.slots, slots, strict=True):
                slot.array()[...] = values
            if average is not None:
                own.begin_average(self.model_)
                own.average.array()[...], own.averaged_from = average

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags
