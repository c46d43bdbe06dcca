"""Training many networks at once: seeds, folds, grids.

**Who gets which cores.** A network on one thread needs no barrier and shares no cache line, so as
long as there are as many networks as cores, one thread for each is what gets most done. Workers are
Python threads: a span of mini-batches runs without the GIL, and between two spans there is little
Python (about 0.1 ms an epoch). When fewer networks are left than there are cores, those that still
run may use the free ones; the tuner of each executor finds out whether it helps. Networks that look
largest begin first, so that the last ones to end are small.

Preparing a training takes some milliseconds of Python. Trainings are prepared one at a time: equal
ones then do not keep step, all preparing and all computing, but one prepares while others compute.

Two trainings whose epochs are shorter than the change from one Python thread to the other would
get in each other's way; they take turns.

**The same bits.** A training does not depend on its number of threads nor on its neighbours. What
is shared and could carry something from one network to another, an optimizer whose settings
callbacks change, and callbacks, is copied for each network.
"""

from __future__ import annotations

import copy
import sys
import threading
import time
from typing import TYPE_CHECKING

from fastmlp.config import MOST_THREADS, get_num_threads
from fastmlp.errors import ManyError, check_flag, check_integer, choose, shown
from fastmlp.optimizer_base import Optimizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from fastmlp.history import History
    from fastmlp.model import Sequential

# Processor seconds of an epoch, or of several in one go (`fastmlp.bundles`), below which trainings
# take turns. On two cores, networks 8-32-32-1: with 0.4 ms two at a time did 1.5 times the work of
# one, with 0.2 ms 0.7 times, since changing threads and caches takes as long as the work.
_TOO_SHORT = 3.5e-4
# Epochs by which that is judged.
_SEEN = 5
# Seconds after which Python changes from a thread that computes to one that waits, while networks
# are trained: preparing a training takes some ms of Python, a span of a tiny network less.
_SWITCH = 2e-4
# What `settings` may not share: a file or an iterator serves one training.
_OWN = {
    "checkpoint": "the networks would overwrite each other's file",
    "resume": "it goes with a checkpoint",
}


def fit_many(
    models: Iterable[Sequential],
    x: Any = None,
    y: Any = None,
    *,
    settings: Sequence[Mapping[str, Any]] | None = None,
    workers: int | None = None,
    errors: str = "raise",
    progress: bool | None = None,
    **shared: Any,
) -> list[History]:
    """Train many networks at once, at the throughput of all cores.

    Each is trained as by its own `Sequential.fit`, to the same bits.

    Parameters
    ----------
    models : iterable of Sequential
        Different objects; their architectures may differ.
    x, y
        The data of all networks, as for `Sequential.fit`.
    settings : sequence of dict, optional
        For each network what is its own: any argument of `Sequential.fit`, also "x", "y",
        "validation_data".
    workers : int, optional
        Networks trained at the same time; by default as many as there are threads
        (`get_num_threads`). Each begins with its share of the threads.
    errors : {"raise", "return"}
        One that fails does not stop the others. In the end a `ManyError` is raised, which has the
        histories of the others; or the exceptions stand in the result in place of a history.
    progress : bool, optional
        Whether to show a progress bar over all epochs; by default where the work is long and the
        standard error a terminal.
    **shared
        Arguments of `Sequential.fit` for all networks, unless `settings` has them. An optimizer is
        copied for each network, so that callbacks which change its settings change only that
        network's; its state of each model stays its own, so training again with it goes on.
        Callbacks are copied as well: give them in `settings` to look at them afterwards.

    Returns
    -------
    list of History
        In the order of the models.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused before the first training begins.
    ManyError
        If trainings failed.

    Examples
    --------
    >>> models = [fm.MLP([8, 32, 32, 1], activation="tanh", seed=k) for k in range(32)]
    >>> histories = fm.fit_many(models, x, y, optimizer=fm.SGD(lr=0.1), epochs=20)
    """
    jobs = _jobs(models, x, y, settings, shared)
    choose("errors", errors, ("raise", "return"))
    if workers is None:
        workers = get_num_threads()
    workers = min(check_integer("workers", workers, 1, MOST_THREADS), len(jobs))
    if progress is not None:
        check_flag("progress", progress)
    crew = _Crew(jobs, workers, _Board(progress, jobs))
    try:
        crew.run()
    finally:
        crew.board.close()
    if errors == "raise" and crew.failed:
        raise ManyError(crew.results)
    return crew.results


class _Job:
    """One network and what it is trained with."""

    def __init__(self, index: int, model: Sequential, settings: dict[str, Any]):
        self.index = index
        self.model = model
        self.x, self.y = settings.pop("x"), settings.pop("y")
        self.settings = settings
        self.epochs = settings.get("epochs", 1)

    @property
    def work(self) -> float:
        """About how much there is to do, for the order only."""
        rows = len(self.x) if hasattr(self.x, "__len__") else 1
        epochs = self.epochs if isinstance(self.epochs, int) else 1
        known = self.model.input_size is not None
        return float(epochs * rows * (self.model.parameter_count if known else 1))

    def train(self, crew: _Crew) -> History:
        from fastmlp.training import Trainer

        own, for_fit = _names()
        settings = dict(self.settings)
        shared = settings.get("optimizer")
        line = crew.board.line(crew)
        try:
            if isinstance(shared, Optimizer):
                settings["optimizer"] = shared.lend(self.model)
            trainer = Trainer(self.model, **{k: v for k, v in settings.items() if k in own})
            trainer.share = crew.share
            rest = {name: value for name, value in settings.items() if name in for_fit}
            return trainer.fit(self.x, self.y, progress=line, **rest)
        finally:
            line.prepared()
            if isinstance(shared, Optimizer):
                shared.take_back(settings["optimizer"], self.model)


def _names() -> tuple[set[str], set[str]]:
    """Return the arguments that a trainer takes, and those that its `fit` takes."""
    import inspect

    from fastmlp.training import Trainer

    own = set(inspect.signature(Trainer.__init__).parameters) - {"self", "model"}
    for_fit = set(inspect.signature(Trainer.fit).parameters) - {"self", "x", "y", "progress"}
    return own, for_fit


def _jobs(models: Any, x: Any, y: Any, settings: Any, shared: Mapping[str, Any]) -> list[_Job]:
    from fastmlp.model import check_models

    models = check_models(models)
    if len({id(model) for model in models}) < len(models):
        raise ValueError("models must be different objects; one is there twice")
    if settings is None:
        settings = [{}] * len(models)
    if not hasattr(settings, "__len__") or hasattr(settings, "keys"):
        raise TypeError(f"settings must be a list of dicts; got {shown(settings)}")
    if len(settings) != len(models):
        raise ValueError(
            f"settings must have one dict for each of {len(models)} models; got {len(settings)}"
        )
    allowed = set().union(*_names())
    for name in shared:
        choose("argument of fit_many", name, sorted(allowed))
        if name in _OWN and shared[name] and len(models) > 1:
            raise ValueError(f"{name} must be given in settings, for each network: {_OWN[name]}")
    jobs = []
    for index, (model, own) in enumerate(zip(models, settings, strict=True)):
        if not hasattr(own, "keys"):
            raise TypeError(f"settings[{index}] must be a dict; got {shown(own)}")
        for name in own:
            choose(f"name in settings[{index}]", name, sorted({*allowed, "x", "y"}))
        merged = {"x": x, "y": y, **shared, **own}
        if merged["x"] is None:
            raise TypeError(f"x is missing: give it for all networks, or in settings[{index}]")
        if "callbacks" in shared and "callbacks" not in own:
            merged["callbacks"] = _copied(shared["callbacks"])
        if hasattr(merged["x"], "__next__") and "x" not in own and len(models) > 1:
            raise ValueError("x is an iterator, which serves one network: give a function")
        jobs.append(_Job(index, model, merged))
    return jobs


def _copied(callbacks: Any) -> Any:
    """Return callbacks for one network."""
    if not hasattr(callbacks, "__iter__"):
        return callbacks  # which the trainer refuses
    copies = []
    for callback in callbacks:
        try:
            copies.append(copy.deepcopy(callback))
        except TypeError as error:
            raise TypeError(
                f"callbacks: {shown(callback)} cannot be copied for each network ({error}); "
                "give callbacks in settings"
            ) from error
    return copies


class _Crew:
    """Threads that train networks, one after another each."""

    def __init__(self, jobs: list[_Job], workers: int, board: _Board):
        self.results: list[Any] = [None] * len(jobs)
        self.board = board
        self.cancelled = False
        self.failed = False
        self._waiting = sorted(jobs, key=lambda job: -job.work)
        self._workers = workers
        self._left = len(jobs)
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._preparing = threading.Lock()
        self._ended = 0
        self._change = threading.Condition()

    def share(self) -> int:
        """Threads that each network may use now."""
        return max(1, get_num_threads() // max(1, min(self._workers, self._left)))

    def enter_alone(self) -> bool:
        """Wait for the turn of a training with very short epochs."""
        return self._acquire(self._turn)

    def leave_alone(self) -> None:
        """End the turn."""
        self._turn.release()

    def begin_preparing(self) -> bool:
        """Wait until no other training is being prepared."""
        return self._acquire(self._preparing)

    def end_preparing(self) -> None:
        """End what `begin_preparing` began."""
        self._preparing.release()

    def _acquire(self, lock: threading.Lock) -> bool:
        if self._workers == 1:
            return False
        while not lock.acquire(timeout=0.1):
            if self.cancelled:
                raise _Cancelled
        return True

    def run(self) -> None:
        if self._workers == 1:
            self._work()
        else:
            import contextvars

            threads = []
            interval = sys.getswitchinterval()
            sys.setswitchinterval(min(interval, _SWITCH))
            try:
                for _ in range(self._workers):
                    context = contextvars.copy_context()
                    thread = threading.Thread(target=context.run, args=(self._work,))
                    thread.start()
                    threads.append(thread)
                self._wait(len(threads))
            finally:
                # Only an exception finds trainings still running; they end with their span.
                self.cancelled = True
                self._wait(len(threads))
                sys.setswitchinterval(interval)

    def _wait(self, threads: int) -> None:
        # `Thread.join` takes a thread for dead when Ctrl-C interrupts it (Python before 3.13).
        with self._change:
            while self._ended < threads:
                self._change.wait(0.1)

    def _work(self) -> None:
        try:
            self._work_off()
        finally:
            with self._change:
                self._ended += 1
                self._change.notify_all()

    def _work_off(self) -> None:
        while not self.cancelled:
            with self._lock:
                if not self._waiting:
                    return
                job = self._waiting.pop(0)
            try:
                self.results[job.index] = job.train(self)
            except _Cancelled:
                return
            except Exception as error:
                self.results[job.index] = error
                self.failed = True
            finally:
                with self._lock:
                    self._left -= 1


class _Cancelled(BaseException):
    """Ends a training whose results nobody waits for."""


class _Line:
    """What one `fit` takes for its progress bar: moves the common one, and ends it on request."""

    def __init__(self, crew: _Crew):
        self._crew = crew
        self._done = self._seen = 0
        self._preparing = crew.begin_preparing()
        self._start = time.thread_time()  # waiting for others is no work of this training
        self._alone = False

    def begin_epoch(self, epoch: int) -> None:
        self._crew.board.advance(epoch - self._done)
        self._done = epoch
        self._seen += 1
        if not self._alone and self._seen > _SEEN:
            now = time.thread_time()
            taken = (now - self._start) / (self._seen - 1)
            self._start, self._seen = now, 1
            self._alone = taken < _TOO_SHORT and self._crew.enter_alone()

    def skip(self, batches: int) -> None:
        pass

    def prepared(self) -> None:
        """Let the next training be prepared; the rest of this one is native for the most part."""
        if self._preparing:
            self._preparing = False
            self._crew.end_preparing()

    def advance(self, batches: int, loss: float) -> None:
        self.prepared()
        if self._crew.cancelled:
            raise _Cancelled

    def close(self) -> None:
        self._crew.board.advance(1)
        if self._alone:
            self._crew.leave_alone()


class _Board:
    """A progress bar over the epochs of all networks."""

    def __init__(self, show: bool | None, jobs: list[_Job]):
        from fastmlp.progress import Progress

        total = sum(job.epochs for job in jobs if isinstance(job.epochs, int))
        self._bar = Progress(show, 1, total, unit="epoch")
        self._lock = threading.Lock()

    def line(self, crew: _Crew) -> _Line:
        return _Line(crew)

    def advance(self, epochs: int) -> None:
        with self._lock:
            self._bar.advance(epochs)

    def close(self) -> None:
        self._bar.close()
