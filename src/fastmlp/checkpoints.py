"""Checkpoints: a training as a file, from which it goes on to the same bits.

A checkpoint is a model file (see `fastmlp.files`, `fastmlp.load` reads the model in it) with more
tensors and one more entry, "checkpoint", in its description:

- "optimizer/…": the vectors of the optimizer's state, and beside them its settings, the number of
  steps and of epochs. These numbers and the seed are all the random state there is, since every
  random number is a function of a seed and a counter.
- for `fit`: what has been trained with what (so that another training is not continued by
  mistake), "history/…" and "times/…", the states of the callbacks, "callbacks/…", and the epoch.
- inside an epoch: the mini-batches that are done with their losses, "epoch/losses", and the values
  at its start, "start/…", to which a training returns that diverges.

Nothing in the file is executed, and all of it is read and checked before anything changes.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.checkpoint_data import pack, unpack
from fastmlp.errors import ModelFormatError, check_flag, check_integer, check_number, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from fastmlp.backends import BaseExecutor
    from fastmlp.callbacks import CallbackList
    from fastmlp.history import History
    from fastmlp.tensorfile import TensorFile
    from fastmlp.training import Trainer

_F64 = np.dtype(np.float64)


@dataclass(slots=True)
class Position:
    """How far an epoch has got.

    Attributes
    ----------
    total, weight : float
        Sum of the losses of the sources that are finished, and of what they count.
    samples, batches, sources : int
        Rows, mini-batches and sources that are finished.
    losses : ndarray of float64
        Losses of the mini-batches that are done of the source that is not finished.
    seconds : float
        Time that was spent on all of it.
    """

    total: float = 0.0
    weight: float = 0.0
    samples: int = 0
    batches: int = 0
    sources: int = 0
    losses: np.ndarray = field(default_factory=lambda: np.empty(0))
    seconds: float = 0.0

    def config(self) -> dict[str, Any]:
        """Return everything but the losses, as plain data."""
        names = ("total", "weight", "samples", "batches", "sources", "seconds")
        return {name: getattr(self, name) for name in names}


# ---- state of a trainer --------------------------------------------------------------------------


def _vectors(trainer: Trainer) -> dict[str, np.ndarray]:
    """Return live arrays of all that training changes, by their names in a checkpoint."""
    model = trainer.model
    state = trainer.state()
    slots = {f"optimizer/{name}": vector.array() for name, vector in state.vectors().items()}
    return {**model.parameters, **model.states, **slots}


def _copies(trainer: Trainer, prefix: str = "") -> dict[str, np.ndarray]:
    return {prefix + name: array.copy() for name, array in _vectors(trainer).items()}


def _put(trainer: Trainer, values: Mapping[str, np.ndarray], prefix: str = "") -> None:
    for name, array in _vectors(trainer).items():
        array[...] = values[prefix + name]


def _described(trainer: Trainer) -> dict[str, Any]:
    from fastmlp.files import describe_state

    optimizer, state = trainer.optimizer, trainer.state()
    try:
        config = optimizer.config()
    except TypeError:  # a schedule that is a function is no data; who resumes gives it again
        config = None
    return describe_state(optimizer, state, config)


def save(path: str | os.PathLike[str], trainer: Trainer) -> None:
    """Write the model and the optimizer's state; see `Trainer.save_checkpoint`."""
    from fastmlp.files import check_model

    values = _copies(trainer)
    check_model(trainer.model, values)
    _write(path, trainer, values, None)


def _write(
    path: str | os.PathLike[str],
    trainer: Trainer,
    tensors: dict[str, np.ndarray],
    fit: dict[str, Any] | None,
) -> None:
    from fastmlp import files

    description = {
        "format": files.FORMAT,
        "model": trainer.model.config(),
        "checkpoint": {"optimizer": _described(trainer), "fit": fit},
    }
    files.write(path, tensors, description)


def load(path: str | os.PathLike[str], trainer: Trainer) -> None:
    """Take model and optimizer's state over from a checkpoint; see `Trainer.load_checkpoint`."""
    from pathlib import Path

    content = _Content(Path(path), trainer)
    content.apply(trainer)


class _Content:
    """A checkpoint that has been read, and fits a trainer.

    Parameters
    ----------
    path : Path
    trainer : Trainer
        Stays as it is, but its model is built if its sizes were not known.

    Raises
    ------
    ModelFormatError
        If the file is no checkpoint, damaged, or of a later version.
    ValueError
        If it is of another model or another optimizer.
    """

    def __init__(self, path: Path, trainer: Trainer):
        self.path = path
        from fastmlp.tensorfile import TensorFile

        with TensorFile(path) as file:
            self._read(file, trainer)

    def _read(self, file: TensorFile, trainer: Trainer) -> None:
        path = self.path
        from fastmlp import files

        description = files.read_description(file)
        self.checkpoint = description.get("checkpoint")
        if self.checkpoint is None:
            raise ModelFormatError(f"{path} is a model, but no checkpoint of its training")
        self.adapted = description["model"].get("adapted") is True
        self._compare_models(trainer, description["model"])
        with self._valid():
            told = self.checkpoint["optimizer"]
            self.counts = files.read_counts(told)
            name, config, vectors = told["name"], told["config"], told["vectors"]
            self.fit = self.checkpoint["fit"]
            if self.fit is not None:
                self._read_fit()
        optimizer = trainer.optimizer
        if name != optimizer.name:
            raise ValueError(
                f"{path} is a checkpoint of the optimizer {shown(name)}; this training has "
                f"{optimizer.name!r}"
            )
        self.optimizer = None
        if config is not None:
            from fastmlp import optimizers

            with self._valid():
                self.optimizer = optimizers.from_config(config)
        has = list(trainer.state().vectors())
        if vectors != has or (self.optimizer and self.optimizer.slots != optimizer.slots):
            raise ValueError(
                f"{path} is a checkpoint of {name} with {shown(vectors)}; this one keeps {has}"
            )
        self._read_tensors(file, trainer)

    def _valid(self) -> _Blame:
        return _Blame(self.path)

    def _compare_models(self, trainer: Trainer, config: Any) -> None:
        model = trainer.model
        with self._valid():
            input_size = check_integer("input_size", config["input_size"], low=1)
        model.build(model.input_size or input_size)
        ours = model.config()
        for name in ("layers", "dtype", "input_size"):
            theirs = config.get(name)
            if theirs != ours[name]:
                raise ValueError(
                    f"{self.path} is a checkpoint of another model: its {name} "
                    f"{'is' if name != 'layers' else 'are'} {shown(theirs)}, this model has "
                    f"{shown(ours[name])}"
                )

    def _read_fit(self) -> None:
        fit = self.fit
        self.number = check_integer("epoch", fit["epoch"], low=0)
        self.stopped = check_flag("stopped", fit["stopped"])
        self.settings = dict(fit["settings"])
        self.columns = [str(name) for name in fit["columns"]]
        self.callbacks = [(str(kind), state) for kind, state in fit["callbacks"]]
        self.position = None
        self.start = (0, 0)
        told = fit["position"]
        if told is not None:
            numbers = {
                name: check_integer(name, told[name], low=0)
                for name in ("samples", "batches", "sources")
            }
            sums = {name: float(told[name]) for name in ("total", "weight", "seconds")}
            self.position = Position(**numbers, **sums)
            self.start = (
                check_integer("start_step", told["start_step"], low=0, high=self.counts["step"]),
                check_integer("start_epoch", told["start_epoch"], low=0),
            )

    def _read_tensors(self, file: TensorFile, trainer: Trainer) -> None:
        from fastmlp.files import check_tensors

        expected = {name: (a.dtype, a.shape) for name, a in _vectors(trainer).items()}
        if self.fit is not None:
            if self.position is not None:
                expected.update({f"start/{n}": shape for n, shape in list(expected.items())})
                expected["epoch/losses"] = (_F64, (_length(file, "epoch/losses"),))
            for name in self.columns:
                # A column that a callback has given up is shorter.
                length = min(_length(file, f"history/{name}"), self.number)
                expected[f"history/{name}"] = (_F64, (length,))
            for name in ("times/seconds", "times/samples_per_second"):
                expected[name] = (_F64, (self.number,))
        rest = [name for name in file.entries if not name.startswith("callbacks/")]
        check_tensors(file, rest, expected)
        self.tensors = {name: file.read(name) for name in file.entries}
        model = trainer.model
        prefixes = [""]
        if self.fit is not None and self.position is not None:
            self.position.losses = self.tensors["epoch/losses"]
            prefixes.append("start/")
        for spec in (*model.parameter_specs, *model.state_specs):
            for name in (prefix + spec.name for prefix in prefixes):
                if not spec.allows(self.tensors[name]):
                    message = f"{self.path} is damaged: {name} must be {spec.allowed}"
                    raise ModelFormatError(message)

    def apply(self, trainer: Trainer) -> None:
        """Give the trainer's model and optimizer the values of the checkpoint."""
        optimizer, model = trainer.optimizer, trainer.model
        if self.optimizer is not None:
            optimizer.take_settings(self.optimizer)
        _put(trainer, self.tensors)
        trainer.state().take_counts(self.counts)
        if self.adapted:
            model.learned()


class _Blame:
    """Turns whatever a damaged description stumbles over into a ModelFormatError."""

    def __init__(self, path: Path):
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, ModelFormatError):
            raise ModelFormatError(f"{self._path} is a damaged checkpoint: {error!r}") from error


def _length(file: TensorFile, name: str) -> int:
    shape = file.entries[name].shape if name in file.entries else ()
    return shape[0] if len(shape) == 1 else -1


# ---- writing and reading while `fit` runs --------------------------------------------------------


def check_every(every: object) -> tuple[float, int]:
    """Return seconds and epochs between checkpoints, one of them infinite or zero."""
    if not isinstance(every, str):
        what = "checkpoint_every (seconds, or as '5 epochs')"
        return check_number(what, every, low=0.0), 0
    number, _, unit = every.strip().rpartition(" ")
    number = number or "1"
    if unit not in ("epoch", "epochs") or not number.isdecimal() or int(number) < 1:
        raise ValueError(
            "checkpoint_every must be a number of seconds, 'epoch', or epochs as '5 epochs'; "
            f"got {every!r}"
        )
    return math.inf, int(number)


class Keeper:
    """Writes the checkpoints of one `fit`, and takes up one that was stopped.

    Parameters
    ----------
    trainer : Trainer
    path : str or path
    every : float or str
        Seconds between two checkpoints, or "epoch", or "5 epochs".
    resume : bool
        Whether to go on from the file, if it is there.

    Attributes
    ----------
    epoch : int
        The epoch to begin with, counted from 0.
    stopped : bool
        Whether that training has ended by itself.
    midway : bool
        Whether the next epoch is one that was begun already.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.
    """

    def __init__(self, trainer: Trainer, path: Any, every: Any, resume: Any):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"checkpoint must be a string or a path; got {shown(path)}")
        from pathlib import Path

        self.path = Path(path)
        folder = Path(os.path.realpath(self.path)).parent
        if not folder.is_dir():
            raise FileNotFoundError(f"checkpoint: there is no folder {folder}")
        self._seconds, self._epochs = check_every(every)
        self._resume = check_flag("resume", resume)
        self._trainer = trainer
        self._content: _Content | None = None
        self._settings: dict[str, Any] = {}
        self._history: History | None = None
        self._hooks: CallbackList | None = None
        self._began = 0.0
        self._written = time.monotonic()
        self._last = -1  # the epoch after which was written last
        self.epoch = 0
        self.stopped = False

    @property
    def timed(self) -> bool:
        """Whether it is time, not the number of an epoch, that makes a checkpoint due."""
        return self._epochs == 0

    @property
    def midway(self) -> bool:
        return self._content is not None and self._content.position is not None

    def begin(
        self,
        history: History,
        hooks: CallbackList | None,
        settings: dict[str, Any],
        batches: int | None,
    ) -> None:
        """Take over the file, if there is one to go on from.

        Parameters
        ----------
        history : History
            Gets the epochs that have been finished.
        hooks : CallbackList or None
        settings : dict
            What `settings_of` returned.
        batches : int or None
            Mini-batches of an epoch, if that is known.

        Raises
        ------
        ModelFormatError
            If it is no checkpoint of `fit`, or damaged.
        ValueError
            If it is the checkpoint of another training.
        """
        self._history, self._hooks, self._settings = history, hooks, settings
        from fastmlp.atomic import remove_remains

        remove_remains(self.path)
        if not self._resume or not self.path.exists():
            return
        content = _Content(self.path, self._trainer)
        if content.fit is None:
            raise ModelFormatError(
                f"{self.path} was written by Trainer.save_checkpoint, not by fit: load it with "
                "Trainer.load_checkpoint"
            )
        self._compare(content)
        place = content.position
        if batches is not None and place and (place.sources or len(place.losses) > batches):
            raise ModelFormatError(f"{self.path} is damaged: an epoch has {batches} mini-batches")
        content.apply(self._trainer)
        self.epoch, self.stopped = content.number, content.stopped
        columns = {name: content.tensors[f"history/{name}"].tolist() for name in content.columns}
        history.history.update(columns)
        history.epoch.extend(range(content.number))
        history.time.extend(content.tensors["times/seconds"].tolist())
        rates = content.tensors["times/samples_per_second"]
        history.samples_per_second.extend(rates.tolist())
        self._content = content

    def _compare(self, content: _Content) -> None:
        for name in {**content.settings, **self._settings}:
            theirs, ours = content.settings.get(name), self._settings.get(name)
            if theirs != ours:
                raise ValueError(
                    f"{self.path} is a checkpoint of another training, with {name} "
                    f"{shown(theirs)}; this one has {shown(ours)}. Give what it had, another "
                    "checkpoint, or resume=False to start anew"
                )
        kinds = [kind for kind, _ in content.callbacks]
        ours = [] if self._hooks is None else self._hooks.kinds
        if kinds != ours:
            raise ValueError(
                f"{self.path} is a checkpoint of another training, with callbacks {kinds}; this "
                f"one has {ours}"
            )

    def callbacks(self) -> None:
        """Give the callbacks, which have been told that training begins, their states back."""
        content = self._content
        if content is not None and self._hooks is not None:
            with _Blame(self.path):
                states = [unpack(state, content.tensors) for _, state in content.callbacks]
                self._hooks.set_states(states)

    @property
    def spent(self) -> float:
        """Seconds that the next epoch had taken before it was stopped."""
        return self._content.position.seconds if self.midway else 0.0

    def enter(self, executor: BaseExecutor) -> Position:
        """Remember the values at the start of an epoch; return how far it has got."""
        content, self._content = self._content, None
        position = Position()
        if content is None or content.position is None:
            executor.snapshot()
        else:
            trainer = self._trainer
            state = trainer.state()
            _put(trainer, content.tensors, "start/")
            state.step, state.epoch = content.start
            executor.snapshot()
            content.apply(trainer)
            position = content.position
        self._began = time.perf_counter() - position.seconds
        return position

    def passed(self, number: int, executor: BaseExecutor, position: Position, losses: Any) -> None:
        """Write a checkpoint inside an epoch, if it is time; `losses` as in `Position`."""
        if time.monotonic() - self._written < self._seconds:
            return
        trainer = self._trainer
        if not executor.finite():  # it diverges, and nobody could go on from here
            return
        state = trainer.state()
        now, counters = _copies(trainer), (state.step, state.epoch)
        executor.restore()
        start, begun = _copies(trainer, "start/"), (state.step, state.epoch)
        _put(trainer, now)
        state.step, state.epoch = counters
        told = {**position.config(), "start_step": begun[0], "start_epoch": begun[1]}
        told["seconds"] = time.perf_counter() - self._began
        self._write(number, {**now, **start, "epoch/losses": losses.copy()}, told, False)

    def finished(self, number: int, stopped: bool, last: bool = False) -> None:
        """Write a checkpoint after an epoch, if it is time or the last one."""
        if last and self._last == number:
            return
        due = self._epochs > 0 and number % self._epochs == 0
        if last or due or time.monotonic() - self._written >= self._seconds:
            self._write(number, _copies(self._trainer), None, stopped)
            self._last = number

    def _write(
        self, number: int, tensors: dict[str, np.ndarray], position: Any, stopped: bool
    ) -> None:
        history = self._history
        for name, values in history.history.items():
            tensors[f"history/{name}"] = np.array(values, np.float64)
        tensors["times/seconds"] = np.array(history.time, np.float64)
        tensors["times/samples_per_second"] = np.array(history.samples_per_second, np.float64)
        states = []
        if self._hooks is not None:
            for index, (kind, state) in enumerate(self._hooks.states()):
                states.append([kind, pack(state, f"callbacks/{index}", tensors)])
        fit = {
            "settings": self._settings,
            "epoch": number,
            "stopped": stopped,
            "columns": list(history.history),
            "callbacks": states,
            "position": position,
        }
        _write(self.path, self._trainer, tensors, fit)
        self._written = time.monotonic()
