"""`MLPClassifier`: scikit-learn's classifier on this engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import (
    _check_partial_fit_first_call,
    type_of_target,
    unique_labels,
)
from sklearn.utils.validation import validate_data

from fastmlp import losses
from fastmlp.estimators.base import BaseMLP
from fastmlp.estimators.likelihoods import ClippedBCE, ClippedCrossEntropy
from fastmlp.loss_base import LogitLoss, Loss

if TYPE_CHECKING:
    from typing import Any, Self

    from fastmlp.estimators.rows import Rows


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron classifier: scikit-learn's, on fastmlp's engine.

    It has scikit-learn's parameters, attributes and defaults, and with the same `random_state`
    comes to the same numbers up to rounding. `loss` and what follows it is more than scikit-learn
    has, as are further values of `activation`, `solver` and `learning_rate`.

    Parameters
    ----------
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
    loss : str or Loss, default='log_loss'
        Or one of `fastmlp.losses` for the probabilities that the network puts out, such as
        ``CrossEntropy(label_smoothing=0.1)``.
    class_weight : dict, list of dict or 'balanced', default=None
        Weights of the classes, multiplied with those of the samples.
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
    classes_ : ndarray of shape (n_classes,)
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
        Accuracy of the held-out samples after each epoch, with early stopping.
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
    out_activation_ : str
        'softmax', or 'logistic' with two classes or several labels.

    Examples
    --------
    >>> model = fm.MLPClassifier(hidden_layer_sizes=(50,), random_state=0).fit(x, y)
    >>> model.predict_proba(x_new)
    """

    _parameter_constraints: dict[str, list[Any]] = {  # noqa: RUF012
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"log_loss", *losses.LOSSES}), Loss],
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
    }

    def __init__(
        self,
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
        loss="log_loss",
        class_weight=None,
        dropout=0.0,
        clip_value=None,
        clip_norm=None,
        ema=None,
        callbacks=None,
        threads=None,
        dtype=None,
    ) -> None:
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
        self.loss = loss
        self.class_weight = class_weight
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
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
            Class labels, or indicators of several labels for each sample.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        self : MLPClassifier
        """
        return self._fit(X, y, sample_weight, incremental=False)

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Update the model with a single iteration over the given data.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
        y : array-like of shape (n_samples,) or (n_samples, n_classes)
        sample_weight : array-like of shape (n_samples,), default=None
        classes : array of shape (n_classes,), default=None
            All classes that will ever come; needed in the first call only.

        Returns
        -------
        self : MLPClassifier
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported by partial_fit, which does not see all "
                "classes at once; pass a dict {class: weight}"
            )
        if _check_partial_fit_first_call(self, classes):
            self._label_binarizer = LabelBinarizer()
            multilabel = type_of_target(y).startswith("multilabel")
            self._label_binarizer.fit(y if multilabel else classes)
        return self._fit(X, y, sample_weight, incremental=True)

    def _check_solver(self) -> bool:
        if not self._stochastic:
            raise AttributeError(
                "partial_fit is only available for stochastic optimizers. "
                f"{self.solver} is not stochastic."
            )
        return True

    def _check_data(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            dtype=self._input_dtype,
            reset=reset,
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            self._check_classes(unique_labels(y))
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return X, self._label_binarizer.transform(y).astype(bool)
        if y.ndim == 2:
            raise ValueError("The object was not fitted with multilabel input.")
        labels = np.searchsorted(self.classes_, y)
        if self._label_binarizer.y_type_ == "multiclass":
            return X, labels
        return X, labels.astype(bool)[:, np.newaxis]

    def _weights(self, X: Any, y: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        sample_weight = super()._weights(X, y, sample_weight)
        if self.class_weight is None:
            return sample_weight
        if self._label_binarizer.y_type_.startswith("multilabel"):
            labels, every = y.astype(int), np.repeat([[0], [1]], y.shape[1], axis=1)
        else:
            labels, every = self.classes_[y.ravel().astype(int)], self.classes_
        if self.class_weight == "balanced":
            every = every[:0]
        # Weights may be of classes that these samples, of partial_fit, do not have.
        weight = compute_sample_weight(self.class_weight, np.concatenate([every, labels]))
        weight = weight[len(every) :]
        if sample_weight is not None:
            weight *= sample_weight
        return super()._weights(X, y, weight)

    def _check_classes(self, classes: np.ndarray) -> None:
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the "
                    f"previous call to fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                "`y` has classes not in `self.classes_`. "
                f"`self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _outputs_for(self, y: np.ndarray) -> tuple[int, str]:
        if y.ndim == 1:
            return len(self.classes_), "softmax"
        return y.shape[1], "logistic"

    def _loss(self) -> Loss:
        if self.loss == "log_loss":
            softmax = self.out_activation_ == "softmax"
            return ClippedCrossEntropy() if softmax else ClippedBCE(reduction="sum")
        loss = losses.get(self.loss)
        if isinstance(loss, LogitLoss) and loss.from_logits:
            # Outputs are probabilities; that logits are trained on is the engine's business.
            settings = {name: getattr(loss, name) for name in loss.settings}
            return type(loss)(**{**settings, "from_logits": False})
        return loss

    def _score(self, held: Rows, outputs: np.ndarray) -> float:
        if held.classes:
            right = outputs.argmax(axis=1) == held.y
        else:
            # Where there is one class alone, no output can be wrong.
            right = ((outputs > 0.5) == held.y).all(axis=1) | (len(self.classes_) == 1)
        return float(np.average(right, weights=held.weight))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the class of each sample, or indicators of its labels.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_classes)
        """
        outputs = self._predicted(X)
        if self.n_outputs_ == 1:
            outputs = outputs.ravel()
        return self._label_binarizer.inverse_transform(outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Columns in the order of `classes_`.
        """
        outputs = self._predicted(X)
        if self.n_outputs_ == 1:
            return np.hstack([1.0 - outputs, outputs])
        return outputs

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Return the logarithm of the probability of each class; see `predict_proba`."""
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
