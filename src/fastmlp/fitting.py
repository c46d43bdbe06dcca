"""`fit`: many epochs, with all that happens between them.

All arguments are checked before anything changes, in `Fit.__init__`; what they ask for is done in
`Fit.run`. An epoch is trained by `Trainer.run_epoch`, in spans of mini-batches (see
`fastmlp.spans`); after it come validation and metrics, callbacks, the history and a checkpoint,
in this order, so that a checkpoint holds what the callbacks have done. Where nothing is wanted
between epochs, several of them are trained as one (see `fastmlp.bundles`).

A training that goes on from a checkpoint (see `fastmlp.checkpoints`) begins as any other, then
takes over what the file holds: first the model and the optimizer, then, when the callbacks have
been told that training begins, their states. The first epoch may be one that was begun before.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastmlp.bundles import Bundles
from fastmlp.checkpoint_data import settings_of
from fastmlp.checkpoints import Keeper, check_every
from fastmlp.errors import DivergenceError, check_flag, check_integer, check_number, shown
from fastmlp.evaluation import Evaluator
from fastmlp.history import History
from fastmlp.progress import Progress
from fastmlp.sources import Source, is_stream

if TYPE_CHECKING:
    from typing import Any

    from fastmlp.callbacks import CallbackList
    from fastmlp.streams import Stream
    from fastmlp.training import Trainer


class Fit:
    """One call of `Trainer.fit`.

    Parameters
    ----------
    trainer : Trainer
    x, y, epochs, ...
        As for `Trainer.fit`.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused; nothing has changed then.
    """

    def __init__(
        self,
        trainer: Trainer,
        x: Any,
        y: Any,
        *,
        epochs: Any,
        shuffle: Any,
        seed: Any,
        validation_data: Any,
        validation_split: Any,
        metrics: Any,
        callbacks: Any,
        progress: Any,
        sample_weight: Any,
        checkpoint: Any,
        checkpoint_every: Any,
        resume: Any,
    ):
        self._trainer = trainer
        self._epochs = check_integer("epochs", epochs, low=1)
        self._shuffle = check_flag("shuffle", shuffle)
        self._seed = trainer.checked_seed(seed)
        self._progress = _check_progress(progress)
        split = check_number("validation_split", validation_split, 0.0, 1.0, open_high=True)
        if split > 0.0 and validation_data is not None:
            raise ValueError("give validation_data or validation_split, not both")
        self._evaluator = Evaluator(trainer.model, trainer.loss, metrics)
        self._hooks = _check_callbacks(callbacks)
        self._keeper = _check_keeper(trainer, checkpoint, checkpoint_every, resume)
        data: Source | Stream
        if is_stream(x, y):
            self._check_stream_use(split, sample_weight, validation_data)
            from fastmlp.streams import Stream

            data = Stream(x, self._evaluator, self._epochs)
        else:
            data = self._evaluator.check(x, y, sample_weight)
        validation = _check_validation(self._evaluator, validation_data, data.columns)
        if split > 0.0:
            data, validation = data.split(split)
        # Metrics see the samples as they were given, the training weighs their classes too.
        self._given: Source | Stream = data
        self._data = trainer.weighed(data) if isinstance(data, Source) else data
        self._validation: Source | None = validation
        if self._hooks is not None:
            measured = ["loss", *self._evaluator.labels]
            names = list(measured) if isinstance(data, Source) else ["loss"]
            names += [f"val_{name}" for name in measured] if validation is not None else []
            self._hooks.check_monitors(names)
        self._history = History()
        self._number = 0  # epochs that are done

    def _check_stream_use(self, split: float, sample_weight: Any, validation_data: Any) -> None:
        trainer = self._trainer
        if trainer.optimizer.full_batch:
            raise ValueError(
                f"{type(trainer.optimizer).__name__} needs all samples in each step, not a stream "
                "of batches: give x and y as arrays"
            )
        if split > 0.0 or sample_weight is not None:
            raise ValueError(
                "validation_split and sample_weight do not go with a stream of batches: give "
                "validation_data, and batches (x, y, sample_weight)"
            )
        if trainer.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' counts all targets: for a stream of batches, give a dict"
            )
        if self._evaluator.labels and validation_data is None:
            raise ValueError(
                "metrics of a stream of batches are taken on validation_data, which is missing"
            )

    def run(self) -> History:
        """Train; the caller keeps others from training the model meanwhile."""
        self._begin()
        model = self._trainer.model
        try:
            while self._number < self._epochs and not model.stop_training:
                if not self._bundle():
                    self._epoch()
        finally:
            self._bar.close()
        if self._keeper is not None:
            self._keeper.finished(self._number, model.stop_training, last=True)
        self._trainer.take_average()
        if self._hooks is not None:
            self._hooks.on_train_end()
        return self._history

    def _begin(self) -> None:
        trainer, data, keeper, hooks = self._trainer, self._data, self._keeper, self._hooks
        self._batches = data.batches(trainer.batch_size)
        self._bar = self._progress
        if self._bar is None or isinstance(self._bar, bool):
            self._bar = Progress(self._bar, self._epochs, self._batches)
        if keeper is not None:
            self._go_on(keeper)
        trainer.prepare(data.columns, self._given).seed = self._seed
        trainer.model.stop_training = False
        if hooks is not None:
            params = {"epochs": self._epochs, "steps": self._batches}
            hooks.begin(trainer, params | ({"initial_epoch": self._number} if self._number else {}))
        if keeper is not None:
            keeper.callbacks()
            trainer.model.stop_training = keeper.stopped
        quiet = hooks is None and self._validation is None and not self._evaluator.labels
        quiet = quiet and (keeper is None or keeper.timed)
        self._bundles = Bundles(trainer, data, self._shuffle, self._seed, quiet)
        self._together = 1  # epochs to be trained next, as one

    def _go_on(self, keeper: Keeper) -> None:
        """Take over the checkpoint, if there is one to go on from."""
        trainer = self._trainer
        trainer.prepare(self._data.columns)
        settings = settings_of(
            trainer,
            self._data,
            self._validation,
            shuffle=self._shuffle,
            seed=self._seed,
            metrics=self._evaluator.labels,
        )
        keeper.begin(self._history, self._hooks, settings, self._batches)
        self._number = keeper.epoch
        self._bar.skip(self._number * (self._batches or 0))

    def _bundle(self) -> bool:
        """Train several epochs as one, where that is possible and worth it."""
        count = self._together
        bundle = self._bundles.run(count) if count > 1 else None
        if bundle is None:
            return False
        losses, seconds = bundle
        for loss in losses:
            self._history.add({"loss": loss}, seconds / count, self._data.n)
        self._number += count
        self._bar.begin_epoch(self._number - 1)
        self._bar.advance(count * self._batches, losses[-1])
        if self._keeper is not None:
            self._keeper.finished(self._number, False)
        self._together = self._bundles.count(self._epochs - self._number, seconds / count)
        return True

    def _epoch(self) -> None:
        trainer, hooks, keeper, number = self._trainer, self._hooks, self._keeper, self._number
        self._bar.begin_epoch(number)
        begun = keeper.spent if keeper is not None else 0.0
        if hooks is not None and not (keeper is not None and keeper.midway):
            hooks.on_epoch_begin(number)
        start = time.perf_counter() - begun
        try:
            portions = trainer.portions(self._data, self._shuffle, self._seed)
            loss, samples = trainer.run_epoch(portions, number, hooks, self._bar, keeper)
        except DivergenceError as error:
            if hooks is None or not hooks.on_divergence(error):
                raise
            trainer.model.stop_training = True
            return
        seconds = time.perf_counter() - start
        with trainer.averaged_weights():
            logs = self._measure(loss)
        if hooks is not None:
            hooks.on_epoch_end(number, logs)
        self._history.add(logs, seconds, samples)
        self._number += 1
        self._together = self._bundles.count(self._epochs - self._number, seconds)
        if keeper is not None:
            keeper.finished(self._number, trainer.model.stop_training)

    def _measure(self, loss: float) -> dict[str, float]:
        """Return the logs of an epoch."""
        logs = {"loss": loss}
        evaluator, executor = self._evaluator, self._trainer.executor
        if evaluator.labels and isinstance(self._given, Source):
            logs.update(evaluator.metrics(executor, self._given))
        if self._validation is not None:
            values = evaluator.evaluate(executor, self._validation)
            logs.update({f"val_{name}": value for name, value in values.items()})
        return logs


def _check_progress(progress: Any) -> Any:
    # Who trains many networks at once gives a bar that is common to all.
    if progress is None or hasattr(progress, "advance"):
        return progress
    return check_flag("progress", progress)


def _check_keeper(trainer: Trainer, path: Any, every: Any, resume: Any) -> Keeper | None:
    if path is not None:
        return Keeper(trainer, path, every, resume)
    check_every(every)
    if check_flag("resume", resume):
        raise ValueError("resume needs checkpoint, the path of the file to go on from")
    return None


def _check_validation(evaluator: Evaluator, data: Any, columns: int) -> Source | None:
    if data is None:
        return None
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise TypeError(
            f"validation_data must be (x, y) or (x, y, sample_weight); got {shown(data)}"
        )
    try:
        return evaluator.check(*data, columns=columns)
    except (TypeError, ValueError) as error:
        raise type(error)(f"validation_data: {error}") from error


def _check_callbacks(callbacks: Any) -> CallbackList | None:
    if not hasattr(callbacks, "__iter__"):
        raise TypeError(f"callbacks must be a list of callbacks; got {shown(callbacks)}")
    given = list(callbacks)
    if not given:
        return None
    from fastmlp.callbacks import CallbackList

    return CallbackList(given)
