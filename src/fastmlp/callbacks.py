"""Callbacks of `fit`, under Keras' names and with its rules.

A callback may look at and change what it likes between mini-batches: the model's parameters, the
optimizer's settings, `model.stop_training`. Without a method for batches it costs nothing per
batch; with one, each mini-batch is a call of its own, which is slow for small networks.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_flag, check_integer, check_number, choose, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from fastmlp.errors import DivergenceError
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer
    from fastmlp.training import Trainer

    Logs = dict[str, float]

MODES = ("auto", "min", "max")


def _path(argument: str, value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{argument} must be a string or a path; got {shown(value)}")
    return os.fspath(value)


class Callback:
    """Base of the callbacks: methods that `fit` calls, to be overridden.

    `logs` holds what is known at that time: "loss" after a batch; the loss, metrics and "val_…"
    after an epoch. What is written into the logs of an epoch goes into the history.

    Attributes
    ----------
    trainer : Trainer
    model : Sequential
    params : dict
        "epochs", and "steps": mini-batches of an epoch, None for a stream. Where a training goes
        on from a checkpoint after some epochs, "initial_epoch" is their number.
    """

    trainer: Trainer
    model: Sequential
    params: dict[str, Any]

    @property
    def optimizer(self) -> Optimizer:
        return self.trainer.optimizer

    def __getstate__(self) -> dict[str, Any]:
        # A copy belongs to no training: a clone of an estimator would copy the whole network along.
        left = ("trainer", "model", "params")
        return {name: value for name, value in vars(self).items() if name not in left}

    def get_state(self) -> dict[str, Any]:
        """Return what a checkpoint has to hold of the callback, for `set_state`.

        Numbers, strings, arrays, and lists and dicts of them. What is not here must not matter
        from one call to the next.
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_state` returned; called after `on_train_begin`.

        A training that was stopped inside an epoch goes on without another `on_epoch_begin`.
        """

    def on_train_begin(self, logs: Logs | None = None) -> None:
        """Called before the first epoch."""

    def on_train_end(self, logs: Logs | None = None) -> None:
        """Called after the last epoch, unless training ended by an exception."""

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        """Called before an epoch, counted from 0."""

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        """Called after an epoch and its validation."""

    def on_train_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Called before a mini-batch, counted from 0 in its epoch."""

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Called after the update of a mini-batch."""

    def on_batch_begin(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_begin`."""

    def on_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        """Another name of `on_train_batch_end`."""


class CallbackList:
    """Calls several callbacks in turn.

    Parameters
    ----------
    callbacks : list of Callback

    Raises
    ------
    TypeError
        If one of them is no callback.
    """

    def __init__(self, callbacks: Sequence[Callback]):
        for index, callback in enumerate(callbacks):
            if not isinstance(callback, Callback):
                raise TypeError(
                    f"callbacks[{index}] must be a fastmlp.callbacks.Callback; "
                    f"got {shown(callback)}"
                )
        self._callbacks = list(callbacks)
        names = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
        self.per_batch = any(
            getattr(type(callback), name) is not getattr(Callback, name) or name in vars(callback)
            for callback in callbacks
            for name in names
        )

    def check_monitors(self, names: Iterable[str]) -> None:
        """Raise ValueError if a callback watches what an epoch's logs will not have.

        `names` are what they will have. Functions of the user's own may add to them.
        """
        logs = dict.fromkeys(names, 0.0)
        for callback in self._callbacks:
            if isinstance(callback, LambdaCallback) or type(callback).__module__ != __name__:
                return
            if isinstance(callback, (LearningRateScheduler, ReduceLROnPlateau)):
                logs["learning_rate"] = 0.0
            if isinstance(callback, _Monitor) and callback.watches:
                callback.value(logs)

    def begin(self, trainer: Trainer, params: dict[str, Any]) -> None:
        """Tell every callback what is trained, and that it begins."""
        for callback in self._callbacks:
            callback.trainer = trainer
            callback.model = trainer.model
            callback.params = params
        for callback in self._callbacks:
            callback.on_train_begin({})

    @property
    def kinds(self) -> list[str]:
        """Names of the callbacks' classes."""
        return [type(callback).__name__ for callback in self._callbacks]

    def states(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the class name and the state of every callback."""
        return [(type(callback).__name__, callback.get_state()) for callback in self._callbacks]

    def set_states(self, states: Sequence[dict[str, Any]]) -> None:
        for callback, state in zip(self._callbacks, states, strict=True):
            callback.set_state(state)

    def on_epoch_begin(self, epoch: int) -> None:
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, {})

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, logs)

    def on_train_batch_begin(self, batch: int) -> None:
        for callback in self._callbacks:
            callback.on_train_batch_begin(batch, {})
            callback.on_batch_begin(batch, {})

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        for callback in self._callbacks:
            callback.on_train_batch_end(batch, logs)
            callback.on_batch_end(batch, logs)

    def on_train_end(self) -> None:
        for callback in self._callbacks:
            callback.on_train_end({})

    def on_divergence(self, error: DivergenceError) -> bool:
        """Return whether a callback deals with a loss that is not finite."""
        handlers = [item for item in self._callbacks if isinstance(item, TerminateOnNaN)]
        for handler in handlers:
            handler.error = error
        return bool(handlers)


class _Speaker(Callback):
    """A callback that can tell what it does."""

    def __init__(self, verbose: int):
        number = int(verbose) if isinstance(verbose, bool) else verbose
        self.verbose = check_integer("verbose", number, low=0)

    def say(self, epoch: int, text: str) -> None:
        """Print a line about an epoch, counted from 0, if that is wanted."""
        if self.verbose:
            print(f"epoch {epoch + 1}: {text}")


class _Monitor(_Speaker):
    """A callback that watches one value of the logs."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0, verbose: int = 0):
        super().__init__(verbose)
        if not isinstance(monitor, str):
            raise TypeError(f"monitor must be a string, as 'val_loss'; got {shown(monitor)}")
        self.monitor = monitor
        self.mode = choose("mode", mode, MODES)
        self.min_delta = check_number("min_delta", min_delta, low=0.0)
        self.best = math.nan

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best}

    def set_state(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = math.nan

    def value(self, logs: Logs | None) -> float:
        """Return the watched value.

        Raises
        ------
        ValueError
            If the logs do not have it.
        """
        logs = logs or {}
        if self.monitor.startswith("val_") and not any(name.startswith("val_") for name in logs):
            raise ValueError(
                f"monitor of {type(self).__name__} must be one of {', '.join(map(repr, logs))}; "
                f"got {self.monitor!r}, which needs validation_data or validation_split"
            )
        return logs[choose(f"monitor of {type(self).__name__}", self.monitor, logs)]

    @property
    def watches(self) -> bool:
        """Whether the value is looked at."""
        return True

    def improves(self, value: float) -> bool:
        """Return whether a value is better than the best so far by more than `min_delta`."""
        if math.isnan(self.best) or math.isnan(value):
            return not math.isnan(value)
        gain = value - self.best if self._greater() else self.best - value
        return gain > self.min_delta

    def _greater(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        from fastmlp.metrics import greater_is_better

        return bool(greater_is_better(self.monitor.removeprefix("val_")))


class EarlyStopping(_Monitor):
    """Stop when a value has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        Name in the logs.
    min_delta : float
        A change of no more than this is no improvement.
    patience : int
        Epochs without improvement that are waited for.
    mode : {"auto", "min", "max"}
        Which way is better; "auto" knows it of losses and metrics.
    baseline : float, optional
        The value that has to be improved on at first.
    restore_best_weights : bool
        Whether the model gets the parameters of the best epoch in the end, also where training ends
        without stopping early.
    start_from_epoch : int
        Epochs before watching begins.
    verbose : int
        1: print a line when it stops the training; 0: be silent.

    Attributes
    ----------
    stopped_epoch : int
        The epoch after which it stopped, counted from 0; 0 if it did not.
    best_epoch : int
    best : float

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or the logs have no such value.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
        start_from_epoch: int = 0,
        verbose: int = 0,
    ):
        super().__init__(monitor, mode, min_delta, verbose)
        self.patience = check_integer("patience", patience, low=0)
        self.baseline = None if baseline is None else check_number("baseline", baseline)
        self.restore_best_weights = check_flag("restore_best_weights", restore_best_weights)
        self.start_from_epoch = check_integer("start_from_epoch", start_from_epoch, low=0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best = math.nan if self.baseline is None else self.baseline
        self.stopped_epoch = self.best_epoch = self._wait = 0
        self._weights: np.ndarray | None = None

    def get_state(self) -> dict[str, Any]:
        return {
            "best": self.best,
            "stopped_epoch": self.stopped_epoch,
            "best_epoch": self.best_epoch,
            "wait": self._wait,
            "weights": self._weights,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.stopped_epoch, self.best_epoch = state["stopped_epoch"], state["best_epoch"]
        self._wait, self._weights = state["wait"], state["weights"]
        size = self.model.flat_parameters.size + self.model.flat_states.size
        if self._weights is not None and self._weights.shape != (size,):
            raise ValueError(f"weights must have shape ({size},); got {self._weights.shape}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if epoch < self.start_from_epoch:
            return
        improved = self.improves(value)
        if improved:
            self.best, self.best_epoch, self._wait = value, epoch, 0
        if self.restore_best_weights and (improved or self._weights is None):
            # States too: the running statistics of BatchNorm belong to the weights.
            with self.trainer.averaged_weights() as model:
                vectors = model.flat_parameters, model.flat_states
                self._weights = np.concatenate([vector.array() for vector in vectors])
        if improved:
            return
        self._wait += 1
        if self._wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True
            self.say(epoch, f"stops early, the best {self.monitor} is {self.best:.5g}")

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._weights is not None:
            count = self.model.flat_parameters.size
            self.model.flat_parameters.array()[...] = self._weights[:count]
            self.model.flat_states.array()[...] = self._weights[count:]


class ModelCheckpoint(_Monitor):
    """Save the model after epochs.

    Parameters
    ----------
    filepath : str or path
        May hold {epoch}, counted from 1, and names of the logs: "m-{epoch:02d}-{val_loss:.3f}.st".
    monitor, mode
        As for `EarlyStopping`; used with `save_best_only`.
    save_best_only : bool
        Whether only an epoch that is better than all before is saved.
    verbose : int
        1: print a line when it saves the model; 0: be silent.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or the logs have no such value.
    OSError
        If a file cannot be written.
    """

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        save_best_only: bool = False,
        mode: str = "auto",
        verbose: int = 0,
    ):
        super().__init__(monitor, mode, verbose=verbose)
        self.filepath = _path("filepath", filepath)
        self.save_best_only = check_flag("save_best_only", save_best_only)

    @property
    def watches(self) -> bool:
        return self.save_best_only

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if self.save_best_only:
            value = self.value(logs)
            if not self.improves(value):
                return
            self.best = value
        try:
            path = self.filepath.format(epoch=epoch + 1, **(logs or {}))
        except KeyError as error:
            raise ValueError(
                f"filepath {self.filepath!r} names {error}, but there are epoch, "
                f"{', '.join(logs or {})}"
            ) from error
        with self.trainer.averaged_weights() as model:
            model.save(path)
        self.say(epoch, f"the model is saved in {path}")


class LearningRateScheduler(_Speaker):
    """Set the learning rate before each epoch.

    Parameters
    ----------
    schedule : callable
        (epoch, lr) -> lr, or (epoch) -> lr; epochs are counted from 0.
    verbose : int
        1: print a line when it sets the learning rate; 0: be silent.

    Raises
    ------
    TypeError
        If it cannot be called, or returns no number.
    ValueError
        If it returns a number that is no learning rate.
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__(verbose)
        if not callable(schedule):
            raise TypeError(f"schedule must be a function (epoch, lr) -> lr; got {shown(schedule)}")
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        import inspect

        try:
            inspect.signature(self.schedule).bind(epoch, 0.0)
        except TypeError:
            rate = self.schedule(epoch)
        else:
            rate = self.schedule(epoch, self.optimizer.lr)
        self.optimizer.lr = check_number("lr returned by schedule", rate, low=0.0)
        self.say(epoch, f"the learning rate is {self.optimizer.lr:.5g}")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.optimizer.lr


class ReduceLROnPlateau(_Monitor):
    """Multiply the learning rate by a factor when a value has stopped improving.

    Parameters
    ----------
    monitor, mode
        As for `EarlyStopping`.
    factor : float
        > 0 and < 1.
    patience : int
        Epochs without improvement that are waited for.
    min_delta : float
        A change of no more than this is no improvement.
    cooldown : int
        Counting starts again at the end of so many epochs after a reduction.
    min_lr : float
        No reduction goes below.
    verbose : int
        1: print a line when it reduces the learning rate; 0: be silent.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, the logs have no such value, or the optimizer's learning rate is
        a schedule.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        factor: float = 0.1,
        patience: int = 10,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
        verbose: int = 0,
    ):
        super().__init__(monitor, mode, min_delta, verbose)
        self.factor = check_number("factor", factor, 0.0, 1.0, open_low=True, open_high=True)
        self.patience = check_integer("patience", patience, low=0)
        self.cooldown = check_integer("cooldown", cooldown, low=0)
        self.min_lr = check_number("min_lr", min_lr, low=0.0)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        super().on_train_begin()
        self._wait = self._resting = 0
        if not isinstance(self.optimizer.lr, float):
            raise ValueError(
                f"ReduceLROnPlateau needs a number as lr of the optimizer; got {self.optimizer.lr}"
            )

    def get_state(self) -> dict[str, Any]:
        return {"best": self.best, "wait": self._wait, "resting": self._resting}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self._wait, self._resting = state["wait"], state["resting"]

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self.value(logs)
        if logs is not None:
            logs["learning_rate"] = self.optimizer.lr
        if self._resting > 0:
            self._resting -= 1
            self._wait = 0
        if self.improves(value):
            self.best, self._wait = value, 0
        elif self._resting == 0:
            self._wait += 1
            if self._wait >= self.patience and self.optimizer.lr > self.min_lr:
                self.optimizer.lr = max(self.optimizer.lr * self.factor, self.min_lr)
                self._resting, self._wait = self.cooldown, 0
                self.say(epoch, f"the learning rate is reduced to {self.optimizer.lr:.5g}")


class CSVLogger(Callback):
    """Write one line per epoch to a CSV file.

    Parameters
    ----------
    filename : str or path
    separator : str
        One character.
    append : bool
        Whether to go on with a file that exists; otherwise it is overwritten.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    OSError
        If the file cannot be written.
    """

    def __init__(
        self, filename: str | os.PathLike[str], separator: str = ",", append: bool = False
    ):
        self.filename = _path("filename", filename)
        if not isinstance(separator, str) or len(separator) != 1:
            raise ValueError(f"separator must be one character; got {shown(separator)}")
        self.separator = separator
        self.append = check_flag("append", append)

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self._keys: list[str] | None = None
        resumed = self.params.get("initial_epoch", 0) > 0
        self._fresh = not (
            (self.append or resumed)
            and os.path.exists(self.filename)
            and os.path.getsize(self.filename) > 0
        )
        if self._fresh:
            open(self.filename, "w", encoding="utf-8").close()

    def get_state(self) -> dict[str, Any]:
        return {"keys": self._keys, "size": os.path.getsize(self.filename)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._keys = state["keys"]
        # What was written after the checkpoint will be written again.
        if os.path.getsize(self.filename) > state["size"]:
            os.truncate(self.filename, state["size"])

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        import csv

        logs = logs or {}
        # Opened for each line, so that a training that is broken off leaves a whole file.
        with open(self.filename, "a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter=self.separator)
            if self._keys is None:
                self._keys = sorted(logs)
                if self._fresh:
                    writer.writerow(["epoch", *self._keys])
            writer.writerow([epoch, *(logs.get(key, "") for key in self._keys)])


class LambdaCallback(Callback):
    """A callback made of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        (epoch, logs)
    on_train_begin, on_train_end : callable, optional
        (logs)
    on_train_batch_begin, on_train_batch_end : callable, optional
        (batch, logs)

    Raises
    ------
    TypeError
        If one of them cannot be called.
    """

    def __init__(
        self,
        on_epoch_begin: Callable[..., Any] | None = None,
        on_epoch_end: Callable[..., Any] | None = None,
        on_train_begin: Callable[..., Any] | None = None,
        on_train_end: Callable[..., Any] | None = None,
        on_train_batch_begin: Callable[..., Any] | None = None,
        on_train_batch_end: Callable[..., Any] | None = None,
    ):
        given = {
            "on_epoch_begin": on_epoch_begin,
            "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin,
            "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin,
            "on_train_batch_end": on_train_batch_end,
        }
        for name, function in given.items():
            if function is None:
                continue
            if not callable(function):
                raise TypeError(f"{name} must be a function; got {shown(function)}")
            # An attribute of the object hides the method of the class, and is seen to be there.
            setattr(self, name, function)


class TerminateOnNaN(Callback):
    """End training, instead of raising DivergenceError, when the loss stops being finite.

    The model has the parameters of the last good epoch, and the history ends with it.

    Attributes
    ----------
    error : DivergenceError or None
        What would have been raised.
    """

    error: DivergenceError | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.error = None


class TensorBoard(Callback):
    """Write the logs of each epoch for TensorBoard, through its own package.

    Parameters
    ----------
    log_dir : str or path
        Training values go to its folder "train", the "val_…" ones, without that, to "validation".

    Raises
    ------
    ImportError
        If the package tensorboard is not installed.
    """

    def __init__(self, log_dir: str | os.PathLike[str] = "logs"):
        self.log_dir = _path("log_dir", log_dir)
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, logs: Logs | None = None) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise ImportError(
                "TensorBoard needs the package tensorboard: pip install tensorboard"
            ) from error
        self._writers = {}
        self._open = Writer

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        for name, value in (logs or {}).items():
            folder = "validation" if name.startswith("val_") else "train"
            if folder not in self._writers:
                self._writers[folder] = self._open(os.path.join(self.log_dir, folder))
            tag = f"epoch_{name.removeprefix('val_')}"
            self._writers[folder].add_scalar(tag, float(value), epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        for writer in self._writers.values():
            writer.close()
