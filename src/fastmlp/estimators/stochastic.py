"""Training by mini-batches as scikit-learn goes about it: early stopping, rates, messages."""

from __future__ import annotations

import copy
import threading
import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from fastmlp import optimizers
from fastmlp.estimators.epochs import Epochs
from fastmlp.estimators.rows import predict
from fastmlp.estimators.updates import SGD, Adam
from fastmlp.optimizer_base import Optimizer
from fastmlp.schedules import Schedule
from fastmlp.training import Trainer

if TYPE_CHECKING:
    from fastmlp.callbacks import CallbackList
    from fastmlp.estimators.rows import Rows
    from fastmlp.loss_base import Loss

# What batch_size="auto" means, unless there are fewer samples.
_AUTO_BATCH = 200
# Settings of a Trainer that are parameters of the estimators by the same name.
AROUND_UPDATES = ("clip_value", "clip_norm", "ema")
# From `_fit_stochastic` to scikit-learn's wrapper of `fit`: filters of warnings name its module.
_CALLER = 5
# Below this rate "adaptive" stops instead of going on with a fifth.
_LEAST_RATE = 1e-6


class StochasticMixin:
    """Solvers that go through the samples in mini-batches."""

    @property
    def _stochastic(self) -> bool:
        return isinstance(self.solver, Optimizer) or self.solver != "lbfgs"

    def _threads(self) -> int | None:
        """Return how many threads to use; None lets the engine choose.

        To a process joblib gives its share of the cores, which the engine respects. In a thread of
        joblib's the cores are taken by the other threads.
        """
        if self.threads is not None or threading.current_thread() is threading.main_thread():
            return self.threads
        from joblib.parallel import get_active_backend

        backend, _ = get_active_backend()
        return 1 if backend.nesting_level else None

    def _begin(self) -> None:
        """Set the records of a training that starts anew."""
        early = self.early_stopping
        self.loss_curve_ = []
        self._no_improvement_count = 0
        self.validation_scores_ = [] if early else None
        self.validation_loss_curve_ = [] if early else None
        self.best_validation_score_ = -np.inf if early else None
        self.best_loss_ = None if early else np.inf

    def _new_optimizer(self) -> Optimizer:
        if isinstance(self.solver, Optimizer):
            if self.solver.full_batch:
                raise ValueError(
                    "solver must be 'lbfgs' or an optimizer of mini-batches; got "
                    f"{self.solver!r}, which trains with fastmlp.Sequential.fit"
                )
            return copy.deepcopy(self.solver)
        rate = self.learning_rate
        if not isinstance(rate, Schedule):
            rate = float(self.learning_rate_init)
        if self.solver == "adam":
            return Adam(rate, (self.beta_1, self.beta_2), self.epsilon)
        if self.solver == "sgd":
            return SGD(rate, self.momentum, self.nesterovs_momentum)
        return optimizers.OPTIMIZERS[self.solver](lr=rate)

    def _batch_size(self, samples: int) -> int:
        if self.batch_size == "auto":
            return min(_AUTO_BATCH, samples)
        if self.batch_size > samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be "
                "clipped",
                stacklevel=2,
            )
        return min(self.batch_size, samples)

    def _epochs(self, loss: Loss) -> Epochs:
        """Return what trains epochs: the one of the last call, if it still fits."""
        model, optimizer, threads = self.model_, self._optimizer, self._threads()
        size = _AUTO_BATCH if self.batch_size == "auto" else self.batch_size
        around = {name: getattr(self, name) for name in AROUND_UPDATES}
        around["l2"] = 0.0 if isinstance(optimizer, (SGD, Adam)) else self.alpha / size
        kept = self.__dict__.get("_training")
        if kept is not None and kept.alpha == self.alpha:
            made = kept.trainer
            same = made.model is model and made.optimizer is optimizer and made.loss == loss
            same = same and all(getattr(made, name) == around[name] for name in around)
            if same and made.threads == threads:
                return kept
        trainer = Trainer(model, loss, optimizer, size, threads=threads, **around)
        self._training = Epochs(trainer, self.alpha)
        return self._training

    def _hooks(self, trainer: Trainer, batches: int) -> CallbackList | None:
        if not self.callbacks:
            return None
        from fastmlp.callbacks import CallbackList

        hooks = CallbackList(self.callbacks)
        hooks.check_monitors(["loss", *(["val_loss", "val_score"] if self.early_stopping else [])])
        hooks.begin(trainer, {"epochs": self.max_iter, "steps": batches})
        return hooks

    def _split(self, data: Rows) -> tuple[Rows, Rows]:
        """Return what to train on and what to hold out, chosen as scikit-learn does."""
        # One output of a classifier means two classes; no other problem is stratified.
        binary = is_classifier(self) and self.n_outputs_ == 1
        train, held = train_test_split(
            np.arange(data.n),
            random_state=self._random_state,
            test_size=self.validation_fraction,
            stratify=data.y if binary else None,
        )
        if len(held) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of "
                "your dataset."
            )
        return data.take(train), data.take(held)

    def _fit_stochastic(self, data: Rows, loss: Loss, incremental: bool) -> None:
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = self._new_optimizer()
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        # What a warm start goes on from may have been trained otherwise, and recorded other things.
        scores = getattr(self, "validation_scores_", None)
        if not hasattr(self, "loss_curve_") or self.early_stopping == (scores is None):
            self._begin()
        held = None
        if self.early_stopping:
            data, held = self._split(data)
        size = self._batch_size(data.n)
        model = self.model_
        model.stop_training = False
        epochs = self._epochs(loss)
        hooks = self._hooks(epochs.trainer, -(-data.n // size))
        scale, constant = self._reported(data.y)
        rows = np.arange(data.n, dtype=np.int64)  # the dtype that NumPy shuffles fastest
        best = None if held is None else model.flat_parameters.array().copy()
        self.n_iter_ = 0
        try:
            number = 0
            while number < self.max_iter:
                if hooks is not None:
                    hooks.on_epoch_begin(number)
                count = 1
                if self._undisturbed(incremental):
                    count = self._epochs_until_stop(self.max_iter - number)
                    count = min(count, epochs.at_once(data))
                order = self._orders(rows, count) if self.shuffle else None
                for self.loss_ in epochs.run(data, order, size, scale, constant, hooks, count):
                    self.n_iter_ += 1
                    self.t_ += data.n
                    self.loss_curve_.append(self.loss_)
                    if self.verbose:
                        print(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                    if held is None:
                        self._watch_loss()
                number += count
                if held is not None:
                    with epochs.trainer.averaged_weights():
                        if self._watch_score(held, loss):
                            best = model.flat_parameters.array().copy()
                if self._changes_rate("invscaling"):
                    rate = self.learning_rate_init / (self.t_ + 1) ** self.power_t
                    self._optimizer.change_rate(rate, model)
                if hooks is not None:
                    hooks.on_epoch_end(number - 1, self._logs())
                if self._has_converged() or incremental or model.stop_training:
                    break
            else:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                    "optimization hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=_CALLER,
                )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=_CALLER)
        if best is None:
            epochs.trainer.take_average()
        else:
            model.flat_parameters.array()[...] = best
        if hooks is not None:
            hooks.on_train_end()

    def _undisturbed(self, incremental: bool) -> bool:
        """Return whether nothing is wanted between epochs but their losses."""
        wanted = self.callbacks or self.early_stopping or self.verbose or incremental
        changes = self._changes_rate("invscaling") or self._optimizer.counts_epochs
        return not (wanted or changes)

    def _changes_rate(self, rule: str) -> bool:
        """Return whether it is this rule of scikit-learn's that changes the learning rate.

        After `partial_fit` the optimizer stays, even if `solver` has become another one.
        """
        return isinstance(self._optimizer, SGD) and self.learning_rate == rule

    def _epochs_until_stop(self, left: int) -> int:
        """Return after how many epochs the loss can say at the earliest that it is enough."""
        earliest = self.n_iter_no_change + 1 - self._no_improvement_count
        return int(min(max(earliest, 1), left))

    def _orders(self, rows: np.ndarray, count: int) -> np.ndarray:
        """Return the orders of some epochs, each a shuffle of the last one, in place."""
        orders = np.empty((count, len(rows)), rows.dtype)
        for order in orders:
            self._random_state.shuffle(rows)
            order[:] = rows
        return orders.reshape(-1).view(np.uint64)

    def _logs(self) -> dict[str, float]:
        logs = {"loss": self.loss_}
        if self.validation_scores_:
            logs["val_loss"] = self.validation_loss_curve_[-1]
            logs["val_score"] = self.validation_scores_[-1]
        return logs

    def _watch_loss(self) -> None:
        """Count the epochs in which the loss has not become better by `tol`."""
        worse = self.loss_ > self.best_loss_ - self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if self.loss_ < self.best_loss_:
            self.best_loss_ = self.loss_

    def _watch_score(self, held: Rows, loss: Loss) -> bool:
        """Measure the held-out samples; return whether the score is the best so far."""
        outputs = predict(self.model_, held.x, self._threads())
        score = self._score(held, outputs)
        self.validation_scores_.append(score)
        self.validation_loss_curve_.append(self._held_loss(held, outputs, loss))
        if self.verbose:
            print(f"Validation score: {score:f}")
        worse = score < self.best_validation_score_ + self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            return True
        return False

    def _held_loss(self, held: Rows, outputs: np.ndarray, loss: Loss) -> float:
        """Return the loss of held-out samples, without penalty."""
        computed, fused = loss.behind(self.model_.output_activation)
        # The outputs have gone through the activation, even where the loss could do that itself.
        value, _ = (loss if fused else computed)(outputs, held.y, held.weight)
        scale, constant = self._reported(held.y)
        if constant is None:
            return scale * value
        return scale * value + float(np.average(constant, weights=held.weight))

    def _has_converged(self) -> bool:
        """Return whether to stop because nothing becomes better; "adaptive" may go on slower."""
        if self._no_improvement_count <= self.n_iter_no_change:
            return False
        what = "Validation score" if self.early_stopping else "Training loss"
        message = (
            f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} "
            "consecutive epochs."
        )
        if not self._changes_rate("adaptive"):
            ending = "Stopping."
        elif self._optimizer.learning_rate <= _LEAST_RATE:
            ending = "Learning rate too small. Stopping."
        else:
            rate = self._optimizer.learning_rate / 5.0
            self._optimizer.change_rate(rate, self.model_)
            self._no_improvement_count = 0
            ending = f"Setting learning rate to {rate:f}"
        if self.verbose:
            print(f"{message} {ending}")
        return ending.endswith("Stopping.")
