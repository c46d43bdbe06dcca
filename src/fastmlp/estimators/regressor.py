"""`MLPRegressor`: scikit-learn's regressor on this engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import xlogy
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
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
    """Multilayer perceptron regressor: scikit-learn's, on fastmlp's engine.

    It has scikit-learn's parameters, attributes and defaults, and with the same `random_state`
    comes to the same numbers up to rounding. `output_activation` and what follows it is more than
    scikit-learn has, as are further values of `loss`, `activation`, `solver` and `learning_rate`.

    Parameters
    ----------
    loss : {'squared_error', 'poisson'}, str or Loss, default='squared_error'
        Half the squared error; half the Poisson deviance of y >= 0, with predictions exp(outputs);
        or another of `fastmlp.losses`, such as 'mae', 'huber' or ``Quantile(0.9)``.
    hidden_layer_sizes : array-like of int or int, default=(100,)
        Units of each hidden layer.
    activation : str, Activation or list of them, default='relu'
        Of the hidden layers, or one for each: scikit-learn's 'identity', 'logistic', 'tanh',
        'relu', and any of `fastmlp.activations`.
    solver : str or Optimizer, default='adam'
        'adam' and 'sgd' in scikit-learn's variants, 'lbfgs' (all samples at once, good for few),
        the name of any of `fastmlp.optimizers`, or such an object, which keeps its own learning
        rate.
    alpha : float, default=0.0001
        Strength of the L2 penalty ½·alpha·‖W‖², divided by the number of samples in a mini-batch
        (or the sum of their weights). With other optimizers than scikit-learn's that is
        `batch_size`.
    batch_size : int, default='auto'
        'auto' is min(200, n_samples). No effect with 'lbfgs'.
    learning_rate : {'constant', 'invscaling', 'adaptive'} or Schedule, default='constant'
        'invscaling': learning_rate_init / (t + 1)^power_t after t samples, set after each epoch.
        'adaptive': divided by 5 when `n_iter_no_change` epochs have brought nothing. Both with
        'sgd' only. A schedule of `fastmlp.schedules` replaces `learning_rate_init` with every
        solver given by name.
    learning_rate_init : float, default=0.001
    power_t : float, default=0.5
        Exponent of 'invscaling'.
    max_iter : int, default=200
        Most epochs; most iterations of 'lbfgs'.
    shuffle : bool, default=True
        Whether each epoch goes through the samples in a new order.
    random_state : int, RandomState instance, default=None
        Decides first weights, held-out samples and order, with the same result as in scikit-learn.
    tol : float, default=1e-4
        What counts as an improvement of the loss, or of the score with early stopping.
    verbose : bool, default=False
        Whether to print the loss after each epoch.
    warm_start : bool, default=False
        Whether `fit` goes on from the last solution.
    momentum : float, default=0.9
        With 'sgd' only.
    nesterovs_momentum : bool, default=True
        With 'sgd' only.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples, stop when their score has not
        improved by `tol` for `n_iter_no_change` epochs, and keep the weights of the best one.
    validation_fraction : float, default=0.1
    beta_1, beta_2 : float, default=0.9 and 0.999
        With 'adam' only.
    epsilon : float, default=1e-8
        With 'adam' only.
    n_iter_no_change : int, default=10
        Epochs without improvement that are waited for.
    max_fun : int, default=15000
        Most evaluations of the loss with 'lbfgs'.
    output_activation : str or Activation, default=None
        By default none, and with 'poisson' the exponential function.
    dropout : float or list of float, default=0.0
        Probability with which a unit is left out in training, of all hidden layers or of each. Not
        with 'lbfgs'.
    clip_value, clip_norm : float, default=None
        Each element of the gradients is clipped to ±clip_value; all together are then scaled down
        to the norm clip_norm, if theirs is larger. The penalty of 'adam' and 'sgd' comes after
        that. Not with 'lbfgs'.
    ema : float, default=None
        From 0 to 1, such as 0.999: `model_` gets the exponential moving average of the parameters
        over the updates, average ← ema · average + (1 - ema) · parameters, which early stopping
        looks at as well. Not with 'lbfgs'.
    callbacks : list of Callback, default=None
        Of `fastmlp.callbacks`; they see "loss" and, with early stopping, "val_loss" and
        "val_score". Not with 'lbfgs'.
    threads : int, default=None
        Exactly so many. By default as many as serve; in a worker of joblib its share.
    dtype : {'float32', 'float64'}, default=None
        Precision. By default, as in scikit-learn, that of X, and float64 with 'lbfgs'. float32
        trains about twice as fast.

    Attributes
    ----------
    model_ : fastmlp.Sequential
        The network, for all that fastmlp does with one: saving, exporting, going on.
    coefs_ : list of ndarray, length n_layers - 1
        Weights of each layer (n_in, n_out), live: what is written into them is used.
    intercepts_ : list of ndarray, length n_layers - 1
        Biases of each layer, live.
    loss_ : float
        The last epoch's mean loss, penalty included.
    best_loss_ : float or None
        The least of them; None with early stopping.
    loss_curve_ : list of float
        One loss per epoch. Not with 'lbfgs', as all that follows up to `t_`.
    validation_scores_ : list of float or None
        R² of the held-out samples after each epoch, with early stopping.
    validation_loss_curve_ : list of float or None
        Loss of the held-out samples after each epoch, without penalty.
    best_validation_score_ : float or None
    t_ : int
        Samples gone through.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        If X had names that are all strings.
    n_iter_ : int
        Epochs, or iterations of 'lbfgs'.
    n_layers_ : int
        Layers, the input counted.
    n_outputs_ : int
    out_activation_ : str or Activation

    Examples
    --------
    >>> model = fm.MLPRegressor(hidden_layer_sizes=(50,), random_state=0).fit(x, y)
    >>> model.predict(x_new)
    """

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
        dropout=0.0,
        clip_value=None,
        clip_norm=None,
        ema=None,
        callbacks=None,
        threads=None,
        dtype=None,
    ) -> None:
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
        self.dropout = dropout
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.ema = ema
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

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        As in scikit-learn, and unlike the classifier's, it is there with 'lbfgs' too, which goes on
        from the last solution.

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
