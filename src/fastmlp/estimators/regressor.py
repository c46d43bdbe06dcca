"""`MLPRegressor`: scikit-learn's regressor on this engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastmlp import losses
from fastmlp.activations import ACTIVATIONS, Activation
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.likelihoods import SummedPoisson
from fastmlp.loss_base import Loss

if TYPE_CHECKING:
    from typing import Any, Self

    from fastmlp.estimators.rows import Rows


class MLPRegressor(RegressorMixin, BaseMLP):
    """DOC"""

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", *losses.LOSSES}), Loss],
        "output_activation": [StrOptions({"logistic", *ACTIVATIONS}), Activation, None],
    }

    def __init__(
        self,
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        output_activation=None,
        callbacks=None,
        threads=None,
        dtype=None,
    ):
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.output_activation = output_activation
        self.callbacks = callbacks
        self.threads = threads
        self.dtype = dtype

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the model to data matrix X and target(s) y.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : MLPRegressor
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : MLPRegressor
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def _check_data(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=True,
            dtype=self._input_dtype,
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y.reshape(len(y), -1)

    def _outputs_for(self, y: np.ndarray) -> tuple[int, str | Activation]:
        activation = self.output_activation
        if activation is None:
            activation = "exp" if self.loss == "poisson" else "identity"
        return y.shape[1], activation

    def _loss(self) -> Loss:
        if self.loss == "squared_error":
            return losses.Quadratic()
        if self.loss == "poisson":
            return SummedPoisson(log_input=self.out_activation_ == "exp")
        return losses.get(self.loss)

    def _reported(self, y: np.ndarray) -> tuple[float, np.ndarray | None]:
        if self.loss == "squared_error":
            # The gradient is that of the sum over the outputs, what is shown is their mean.
            return 1.0 / y.shape[1], None
        if self.loss == "poisson":
            # Half the deviance has a term that no prediction changes.
            return 1.0, (xlogy(y, y) - y).sum(axis=1)
        return 1.0, None

    def _score(self, held: Rows, outputs: np.ndarray) -> float:
        predictions = self._linked(outputs)
        if not np.isfinite(predictions).all():
            return np.nan
        return r2_score(held.y, predictions, sample_weight=held.weight)

    def _linked(self, outputs: np.ndarray) -> np.ndarray:
        """Return predictions from the network's outputs, which may be their logarithms."""
        return np.exp(outputs) if self.out_activation_ == "exp" else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Predict using the multilayer perceptron.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
        """
        predictions = self._linked(self._predicted(X))
        return predictions.ravel() if predictions.shape[1] == 1 else predictions
