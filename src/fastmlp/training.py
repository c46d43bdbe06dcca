"""Training: steps and epochs of mini-batches, and what happens if it diverges.

A backend is handed spans of mini-batches, see `fastmlp.spans`. What `fit` does between the epochs
is in `fastmlp.fitting`.
"""

from __future__ import annotations

from contextlib import contextmanager
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native, backends, optimizers
from fastmlp.checkpoints import Position, load, save
from fastmlp.config import check_threads
from fastmlp.errors import DivergenceError, check_flag, check_integer, check_number, shown
from fastmlp.evaluation import Evaluator
from fastmlp.network import LARGEST_SEED
from fastmlp.sources import Source, all_finite
from fastmlp.spans import Spans

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from numpy.typing import ArrayLike

    from fastmlp.backends import BaseExecutor
    from fastmlp.callbacks import Callback, CallbackList
    from fastmlp.checkpoints import Keeper
    from fastmlp.class_weights import ClassWeights
    from fastmlp.history import History
    from fastmlp.loss_base import Loss
    from fastmlp.metrics import Metric
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer, OptimizerState
    from fastmlp.progress import Progress
    from fastmlp.streams import Stream

    # A source, the order of its rows (None: as they stand), and the rows of a mini-batch.
    Portion = tuple[Source, np.ndarray | None, int]

# Kinds of mini-batches, by size and by whether they have weights, whose steps are kept at hand.
_FAST_STEPS = 4
# What programs are made from, so that a change would not be heeded.
_FIXED = {"model", "loss", "optimizer", "threads", "backend", "class_weight"}
_FIXED |= {"l1", "l2", "clip_value", "clip_norm", "ema"}


class Trainer:
    """Trains one model with one loss and one optimizer, step by step or epoch by epoch.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss
    optimizer : str or Optimizer
        Its state belongs to the pair of it and this model.
    batch_size : int, None or "full"
        Rows of a mini-batch; None or "full": all rows. It may be set anew between epochs.
    threads : int, optional
        Exactly so many; by default as many as serve. The result does not depend on it.
    l1, l2 : float
        Penalties l1·Σ|w| + ½·l2·Σw² of the weights, not of the biases.
    clip_value : float, optional
        Each element of the gradients is clipped to ±clip_value.
    clip_norm : float, optional
        All gradients together are scaled down to this Euclidean norm if theirs is larger, after
        clipping by value. Penalties are part of what is clipped, an optimizer's weight decay is
        not (`torch.nn.utils.clip_grad_value_`, `clip_grad_norm_`).
    ema : float, optional
        From 0 to 1: keep an exponential moving average of the parameters, average ← ema · average +
        (1 - ema) · parameters after each update, begun with the first one. It belongs to the pair
        (optimizer, model), as the optimizer's own state. Training goes on with the parameters
        themselves; metrics and validation, EarlyStopping and ModelCheckpoint look at the average,
        and at its end `fit` gives it to the model (Keras' `use_ema`; `torch.optim.swa_utils`).
        After `step` and `epoch` it is had by `averaged_weights`.
    class_weight : dict of int to float, or "balanced", optional
        Weight of each class, multiplied with `sample_weight`; a class that is not named weighs 1.
        "balanced": n / (k·n_c) for k classes, n_c of the n samples of this one, as in scikit-learn.
        It counts in the loss that is trained on, not in metrics and validation.
    backend : {"native", "reference"}

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, or the loss does not fit the model's output activation.

    Examples
    --------
    >>> trainer = fm.Trainer(model, loss="mse", optimizer=fm.Adam(lr=1e-3), batch_size=32)
    >>> loss = trainer.epoch(x, y, seed=0)
    """

    def __init__(
        self,
        model: Sequential,
        loss: str | Loss = "mse",
        optimizer: str | Optimizer = "adam",
        batch_size: int | str | None = 32,
        *,
        threads: int | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        backend: str = "native",
    ):
        from fastmlp.model import Sequential

        if not isinstance(model, Sequential):
            raise TypeError(f"model must be a Sequential or MLP; got {shown(model)}")
        self.model = model
        self._evaluator = Evaluator(model, loss)
        self.loss = self._evaluator.loss
        self.optimizer = optimizers.get(optimizer)
        self.batch_size = _check_batch_size(batch_size)
        self.threads = check_threads(threads)
        self.l1 = check_number("l1", l1, low=0.0)
        self.l2 = check_number("l2", l2, low=0.0)
        self.class_weight = class_weight
        self.clip_value = _check_limit("clip_value", clip_value)
        self.clip_norm = _check_limit("clip_norm", clip_norm)
        self.ema = None if ema is None else check_number("ema", ema, 0.0, 1.0, open_high=True)
        self._class_weights = _check_class_weight(class_weight)
        self.optimizer.check_use(
            self.loss,
            self.batch_size,
            self.l1,
            clip_value=self.clip_value,
            clip_norm=self.clip_norm,
            ema=self.ema,
        )
        self._kind = backends.get(backend)
        self.backend = backend
        self._executor: BaseExecutor | None = None
        self._prepared = -1  # revision of the model at which it was found to be trainable
        self._spans = Spans()
        self._scanned: tuple[object, object] = (None, None)
        self.share: Callable[[], int] | None = None  # threads at most, where others work beside
        # A backend may give functions that make a common step at once, or return None: for a few
        # kinds of mini-batches, the newest function first.
        self._fast_steps: list[Any] = []

    def __repr__(self) -> str:
        return (
            f"Trainer({type(self.model).__name__}, loss={self.loss!r}, "
            f"optimizer={self.optimizer!r}, batch_size={self.batch_size!r}, "
            f"backend={self.backend!r})"
        )

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("lr", "learning_rate"):
            raise AttributeError(f"Trainer has no {name}: set trainer.optimizer.lr")
        if name in _FIXED and name in self.__dict__:
            raise AttributeError(
                f"{name} of a Trainer cannot be changed: make a new Trainer, which goes on where "
                "this one is if it has the same model and optimizer"
            )
        if name == "batch_size":
            value = _check_batch_size(value)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        # Copies make their own programs; their optimizers start fresh, as all copies of them do.
        left = {"_executor": None, "_fast_steps": [], "_prepared": -1, "_scanned": (None, None)}
        return {**self.__dict__, **left}

    @property
    def executor(self) -> BaseExecutor | None:
        """What runs the training on its backend; None before the first step."""
        return self._executor

    def state(self) -> OptimizerState:
        """Return what the optimizer keeps about the model, with a moving average as asked for."""
        state = self.optimizer.state_for(self.model)
        if self.ema is None:
            state.average = None
        else:
            state.begin_average(self.model)
        return state

    @contextmanager
    def averaged_weights(self) -> Iterator[Sequential]:
        """Let the model hold the moving average of its parameters for a while.

        Inside, it predicts and is saved with the average (see `ema`), and must not be trained;
        afterwards it has its parameters back. Without an average it stays as it is.

        Examples
        --------
        >>> with trainer.averaged_weights() as model:
        ...     model.save("averaged.safetensors")
        """
        own = None
        if self.optimizer.state_for(self.model).averaged:
            own = self.model.flat_parameters.array().copy()
            self.take_average()
        try:
            yield self.model
        finally:
            if own is not None:
                self.model.flat_parameters.array()[...] = own

    def take_average(self) -> None:
        """Give the model the average of what is trained, if there is one."""
        state = self.optimizer.state_for(self.model)
        if state.averaged:
            parameters, values = self.model.flat_parameters.array(), state.average.array()
            for part in self.model.trainable_slices():
                parameters[part] = values[part]

    # --- one step ---

    def step(self, xb: ArrayLike, yb: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Make one update from one mini-batch, of any number of rows.

        Parameters
        ----------
        xb : array_like, shape (n, n_in)
        yb : array_like
            Targets, as for `Sequential.fit`.
        sample_weight : array_like, shape (n,) or (n, n_out), optional

        Returns
        -------
        float
            The mean loss of the mini-batch before the update, penalties excluded.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused; nothing has changed then.
        DivergenceError
            If the loss is not finite. The update has been made: keep a copy of the parameters, or
            use `epoch`, which does.
        RuntimeError
            If the model is being trained already.
        """
        lock = self.model.training_lock
        if not lock.acquire(False):
            raise _busy()
        try:
            for fast in self._fast_steps:
                loss = fast(xb, yb, sample_weight)
                if loss is not None:
                    break
            else:
                loss = self._step(xb, yb, sample_weight)
        finally:
            lock.release()
        if not isfinite(loss):
            with np.errstate(over="ignore"):
                given = [(n, np.asarray(b, self.model.dtype)) for n, b in (("xb", xb), ("yb", yb))]
            bad = [name for name, values in given if not all_finite(values)]
            why = f"NaN or infinity is in {' and '.join(bad)}." if bad else self._advice()
            if not all_finite(self.model.flat_parameters.array()):
                why += (
                    " The parameters are not finite any more: put back values that "
                    "model.parameters.copy() kept, by model.parameters.update()."
                )
            raise DivergenceError(
                f"the loss of the step is {loss}, and its update has been made. {why}",
                epoch=self.optimizer.state_for(self.model).epoch,
                loss=loss,
            )
        return loss

    def _step(self, xb: ArrayLike, yb: ArrayLike, sample_weight: ArrayLike | None) -> float:
        if self._class_weights is not None and self._class_weights.balanced:
            raise ValueError("class_weight='balanced' counts all targets: for steps, give a dict")
        source = self.check(xb, yb, sample_weight, finite=False)
        if self.model.needs_data:
            raise ValueError("Standardize has to learn from all data first: call model.adapt(x)")
        self.model.check_batch(source.n)
        executor = self.prepare(source.columns)
        executor.seed = self.model.seed
        losses = np.empty(1)
        executor.train(source, None, source.n, 0, 1, losses)
        fast = executor.fast_step
        only_here = self.model.codes(source.columns) or self._class_weights is not None
        if fast is not None and not only_here:
            others = [
                known
                for known in self._fast_steps
                if known.program is not fast.program and known.limit == fast.limit
            ]
            self._fast_steps = [fast, *others][:_FAST_STEPS]
        return float(losses[0])

    # --- one epoch ---

    def epoch(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        seed: int | None = None,
        shuffle: bool = True,
        sample_weight: ArrayLike | None = None,
    ) -> float:
        """Go through all mini-batches once; `fit(epochs=k)` is k calls of it.

        Data are looked through for NaN and infinity when arrays are seen for the first time.

        Parameters
        ----------
        x, y, sample_weight
            As for `Sequential.fit`.
        seed : int, optional
            Decides the order of the rows, together with the number of epochs that the optimizer
            has seen of this model, and the random numbers of layers, together with the number of
            updates. By default the model's.
        shuffle : bool
            Whether there is a new order.

        Returns
        -------
        float
            The mean loss, penalties excluded.

        Raises
        ------
        TypeError, ValueError, DivergenceError, RuntimeError
            As for `Sequential.fit`.
        """
        seed = self.checked_seed(seed)
        shuffle = check_flag("shuffle", shuffle)
        seen = self._scanned[0] is x and self._scanned[1] is y
        source = self.check(x, y, sample_weight, finite=not seen)
        # What was converted on the way in must be looked at again.
        self._scanned = (x, y) if source.x is x and source.y is y else (None, None)
        with exclusive(self.model):
            self.prepare(source.columns, source).seed = seed
            number = self.optimizer.state_for(self.model).epoch
            loss, _ = self.run_epoch(self.portions(source, shuffle, seed), number)
        return loss

    def run_epoch(
        self,
        portions: Iterable[Portion],
        number: int,
        hooks: CallbackList | None = None,
        progress: Progress | None = None,
        keeper: Keeper | None = None,
    ) -> tuple[float, int]:
        """Train on all mini-batches of an epoch; return the mean loss and the samples seen."""
        executor = self._executor
        if keeper is None:
            executor.snapshot()
            at = Position()
        else:
            at = keeper.enter(executor)
        each = hooks is not None and hooks.per_batch
        for source, order, size in islice(portions, at.sources, None):
            count = -(-source.n // size)
            losses = np.empty(count)
            first = len(at.losses)  # more than 0 where a checkpoint is gone on from
            losses[:first], at.losses = at.losses, at.losses[:0]
            while first < count:
                if each:
                    hooks.on_train_batch_begin(at.batches + first)
                last = self._spans.train(
                    executor, source, order, size, first, count, losses, single=each
                )
                part = losses[first:last]
                if not isfinite(part.sum()) and not np.isfinite(part).all():
                    bad = int(np.isfinite(part).argmin())
                    rows = source.rows_of(order, first + bad, size)
                    batch = at.batches + first + bad
                    self._diverged(number, batch, float(part[bad]), source.x[rows])
                if each:
                    hooks.on_train_batch_end(at.batches + first, {"loss": float(part[0])})
                if progress is not None:
                    progress.advance(last - first, part[-1])
                first = last
                if keeper is not None:
                    keeper.passed(number, executor, at, losses[:first])
            total, weight = source.weigh(losses, order, size)
            at.total += total
            at.weight += weight
            at.samples += source.n
            at.batches += count
            at.sources += 1
        if not executor.finite():
            self._diverged(number, at.batches - 1, float("nan"), None)
        self.optimizer.state_for(self.model).epoch += 1
        return (at.total / at.weight if at.weight > 0.0 else 0.0), at.samples

    def _diverged(self, epoch: int, batch: int, loss: float, x: np.ndarray | None) -> None:
        self._executor.restore()
        if x is None:
            what = f"a parameter is not finite after mini-batch {batch}, the last of epoch {epoch}"
        else:
            what = f"the loss is {loss} in mini-batch {batch} of epoch {epoch}"
        when = "before the epoch" if epoch == 0 else f"at the end of epoch {epoch - 1}"
        raise DivergenceError(
            f"{what} (both counted from 0); the parameters are those {when} again. "
            f"{self._advice(x)}",
            epoch=epoch,
            batch=batch,
            loss=loss,
        )

    def _advice(self, x: np.ndarray | None = None) -> str:
        optimizer = self.optimizer
        ways = [] if optimizer.full_batch else [f"a smaller learning rate (lr is {optimizer.lr!r})"]
        largest = 0.0 if x is None else float(np.abs(x.astype(np.float64)).max())
        if largest > 10.0:
            ways.append(f"inputs of about unit size, as by Standardize (here up to {largest:.3g})")
        ways.append("smaller initial weights")
        return f"Try {', or '.join(ways)}."

    # --- many epochs ---

    def fit(
        self,
        x: Any,
        y: ArrayLike | None = None,
        *,
        epochs: int = 1,
        shuffle: bool = True,
        seed: int | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        metrics: Iterable[str | Metric] = (),
        callbacks: Iterable[Callback] = (),
        progress: bool | None = None,
        sample_weight: ArrayLike | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float | str = 60.0,
        resume: bool = False,
    ) -> History:
        """Train for some epochs; all arguments as for `Sequential.fit`.

        Returns
        -------
        History

        Raises
        ------
        TypeError, ValueError, DivergenceError, RuntimeError
            As for `Sequential.fit`.
        """
        from fastmlp.fitting import Fit

        run = Fit(
            self,
            x,
            y,
            epochs=epochs,
            shuffle=shuffle,
            seed=seed,
            validation_data=validation_data,
            validation_split=validation_split,
            metrics=metrics,
            callbacks=callbacks,
            progress=progress,
            sample_weight=sample_weight,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )
        with exclusive(self.model):
            return run.run()

    # --- checkpoints ---

    def save_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Write a file from which training goes on to the same bits.

        It holds the model, the optimizer's settings and state, and the numbers of steps and epochs,
        from which all random numbers follow. `fastmlp.load` reads the model in it. The file is
        replaced at once or not at all.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ValueError
            If the sizes of the model are not known yet, a parameter or a state is not finite, or a
            scale is not above zero.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> trainer.save_checkpoint("run.ckpt")
        """
        with exclusive(self.model):
            save(path, self)

    def load_checkpoint(self, path: str | os.PathLike[str]) -> None:
        """Go on from a file of `save_checkpoint`, or of `fit`.

        The trainer must have been made with a model of the same architecture and an optimizer of
        the same class; their values, the optimizer's settings among them, become the file's. Of a
        file that `fit` wrote inside an epoch, what had been done of it counts as steps, not as an
        epoch.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ModelFormatError
            If the file is no checkpoint, damaged, or of a later version of fastmlp.
        ValueError
            If it belongs to another architecture or optimizer.
        OSError
            If it cannot be read.
        """
        with exclusive(self.model):
            load(path, self)
            self._fast_steps = []

    # --- what all ways of training need ---

    def check(self, x: Any, y: Any, sample_weight: Any = None, *, finite: bool = True) -> Source:
        """Return checked data, with the weights of their classes; see `Evaluator.check`."""
        return self.weighed(self._evaluator.check(x, y, sample_weight, finite=finite))

    def weighed(self, source: Source) -> Source:
        """Return data with the weights of their classes."""
        if self._class_weights is None:
            return source
        return self._class_weights.apply(source, self.model.sizes_after(source.columns)[-1])

    def checked_seed(self, seed: int | None) -> int:
        """Return the seed of a training; by default the model's."""
        if seed is None:
            return self.model.seed
        return check_integer("seed", seed, low=0, high=LARGEST_SEED)

    def prepare(self, columns: int, data: Source | Stream | None = None) -> BaseExecutor:
        """Build the model if need be, let it learn from the data, and return its executor."""
        model = self.model
        if isinstance(data, Source):
            size = min(self.batch_size or data.n, data.n)
            model.check_batch(data.n % size or size)
        if model.revision != self._prepared:
            model.build(columns)
            if not model.trainable_slices():
                raise ValueError(
                    "the model has no parameters to train: all layers are frozen or empty"
                )
            self._prepared = model.revision
        if self._executor is None:
            self.optimizer.check_groups(spec.name for spec in model.parameter_specs)
            self._executor = self.optimizer.executor(
                self._kind,
                model,
                self.loss,
                threads=self.threads,
                l1=self.l1,
                l2=self.l2,
                clip_value=self.clip_value,
                clip_norm=self.clip_norm,
                ema=self.ema,
            )
            self._executor.share = self.share
        self.state()
        if model.needs_data and data is not None:
            model.learn(data.moments())
        return self._executor

    def portions(
        self, data: Source | Stream, shuffle: bool, seed: int, epoch: int | None = None
    ) -> Iterator[Portion]:
        """Return the sources of an epoch, each with an order and the rows of a mini-batch.

        Without its number it is the next epoch that the optimizer has not seen of this model.
        """
        if not isinstance(data, Source):
            for source in data.sources():
                self.model.check_batch(source.n)
                yield self.weighed(source), None, source.n
            return
        size = min(self.batch_size or data.n, data.n)
        order = None
        if shuffle and size < data.n:
            if epoch is None:
                epoch = self.optimizer.state_for(self.model).epoch
            order = _native.shuffle(seed, epoch, data.n)
        yield data, order, size


@contextmanager
def exclusive(model: Sequential) -> Iterator[None]:
    """Keep others from training a model meanwhile.

    Raises
    ------
    RuntimeError
        If it is being trained already.
    """
    lock = model.training_lock
    if not lock.acquire(False):
        raise _busy()
    try:
        yield
    finally:
        lock.release()


def _busy() -> RuntimeError:
    return RuntimeError("the model is being trained already, by another thread or a caller")


def _check_limit(argument: str, value: object) -> float | None:
    return None if value is None else check_number(argument, value, low=0.0, open_low=True)


def _check_class_weight(class_weight: Any) -> ClassWeights | None:
    if class_weight is None:
        return None
    from fastmlp.class_weights import ClassWeights

    return ClassWeights(class_weight)


def _check_batch_size(batch_size: object) -> int | None:
    if batch_size is None or (isinstance(batch_size, str) and batch_size == "full"):
        return None
    if isinstance(batch_size, str):
        raise ValueError(f"batch_size must be an integer >= 1, None or 'full'; got {batch_size!r}")
    return check_integer("batch_size (or None, or 'full')", batch_size, low=1)
