"""The native backend: plans lowered to programs of the C engine, bound to memory, and run in spans
of mini-batches.

An executor keeps one set of programs for each mini-batch size and use. Parameters and optimizer
slots live in panels (`fastmlp.backends.layout`) that all executors of a model share; everything
else a step touches lies in one arena per plan, which Python owns.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from functools import lru_cache, partial
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import _native
from fastmlp.backends import BaseExecutor
from fastmlp.backends.assembly import STRATEGIES
from fastmlp.backends.bound import Chunked, Programs, put_images
from fastmlp.backends.layout import Layout, Panels, panels_of
from fastmlp.backends.lowering import (
    HYPER,
    ChunkLowering,
    Lowering,
    UnsupportedStep,
    chunk_starts,
    column_weights,
    largest_chunk,
)
from fastmlp.backends.programs import loss_program
from fastmlp.backends.tuning import Tuner, candidates, experience
from fastmlp.config import get_num_threads
from fastmlp.loss_base import Loss
from fastmlp.plan import build

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Set
    from typing import Any

    from fastmlp.backends.lowering import Lowered
    from fastmlp.optimizer_base import OptimizerState
    from fastmlp.sources import Rows, Source

# Rows that one thread predicts at once, so that its activations stay in cache.
_PREDICTION_ROWS = 64
# Below so many fused multiply-adds a second thread costs more than it saves (about 2 µs of work).
_WORTH_A_THREAD = 100_000
# The same for predictions, which have a shorter way on one thread, up to its `_HOLD_THE_LOCK`.
_WORTH_A_PREDICTING_THREAD = 500_000
# Steps whose scalars are computed together, for steps that come one by one.
_HYPER_ROWS = 256
# A prediction of so many multiply-adds a row is made by the shortest way, up to so many rows one by
# one, which needs no plan of its own.
_FAST_MULTIPLY_ADDS = 2_000_000
_FAST_ROWS = 4
_KEPT_PLANS = 12
# Predictions come in many sizes, of which a small one is soon lowered again but used in no time: so
# many plans are kept for them, as long as their arenas take no more than these bytes.
_KEPT_PREDICTIONS = 256
_KEPT_PREDICTION_BYTES = 2**26
# How long a look at the environment, the affinity and the quota is trusted, in seconds: it takes as
# long as a small prediction. What `set_num_threads` says holds at once.
_LIMIT_HOLDS = 0.25
_L2_ASSUMED = 512 * 1024
# Losses that have kernels; others are computed by Python, batch by batch.
_LOSS_KERNELS = frozenset(_native.registries()[1])


def l2_bytes() -> int:
    """Bytes of a core's second-level cache; 512 KiB where the system does not tell."""
    try:
        return max(os.sysconf("SC_LEVEL2_CACHE_SIZE"), 0) or _L2_ASSUMED
    except (AttributeError, ValueError, OSError):
        return _L2_ASSUMED


def _weights(source: Source) -> np.ndarray | None:
    """Return sample weights; those of a single output are those of the samples."""
    weight = source.sample_weight
    return weight[:, 0] if weight is not None and weight.shape[1:] == (1,) else weight


@lru_cache(maxsize=32)
def _is_native(loss: Loss, output_activation: str, outputs: int, dtype: np.dtype) -> bool:
    """Return whether the engine computes a loss; otherwise Python does, batch by batch."""
    used = loss.behind(output_activation)[0]
    return used.kernel in _LOSS_KERNELS or loss_program(used, outputs, dtype) is not None


class _Layouts:
    """Layouts of a model's parameters and states, kept as long as the model does not change."""

    def __init__(self, model: Any):
        # In training the last layer may have another one behind it.
        plan = build(model, 2, training=True)
        self.revision = model.revision
        self.parameters = Layout(model.parameter_specs, model.dtype, column_weights(plan))
        self.states = Layout(model.state_specs, model.dtype, set())


class Executor(BaseExecutor):
    """Runs plans natively. See `BaseExecutor`."""

    def __init__(self, model: Any, loss: Any = None, optimizer: Any = None, **settings: Any):
        super().__init__(model, loss, optimizer, **settings)
        self._settings = settings
        self._cache: dict[tuple[Any, ...], Programs] = {}
        self._predictions: dict[tuple[Any, ...], Programs] = {}  # what is not in use, by last use
        self._layouts: _Layouts | None = None
        self._nothing = _native.Buffer(64)  # stands for gradients where a program has none
        self._reference: BaseExecutor | None = None
        self._kept: Programs | None = None
        self._place: dict[str, int] = {}  # of the random numbers of what is kept
        self._last: Programs | None = None  # of the mini-batches trained last
        # From which step of which version of the optimizer all steps have one row of scalars.
        self._steady: tuple[int, float, np.ndarray] = -1, inf, np.zeros((1, 0))
        self._limit, self._limit_set, self._limit_seen = 1, 0, float("-inf")

    # ---- memory ----

    def _layout(self) -> _Layouts:
        """The layouts, which all executors of a model share."""
        model = self.model
        if self._layouts is None or self._layouts.revision != model.revision:
            layouts = _Layouts(model)
            with model.flat_parameters.lock:  # others, in other threads, find what the first made
                resident = model.flat_parameters.resident
                places = layouts.parameters.places
                if isinstance(resident, Panels) and resident.layout.places == places:
                    layouts.parameters = resident.layout
                resident = model.flat_states.resident
                if isinstance(resident, Panels) and resident.layout.places == layouts.states.places:
                    layouts.states = resident.layout
                panels_of(model.flat_parameters, layouts.parameters)
                panels_of(model.flat_states, layouts.states, padding=1.0)
            self._layouts = layouts
            self._cache.clear()
            self._predictions.clear()
            self.fast_predict = None
            self._last = None
        return self._layouts

    def _panels(self) -> tuple[Panels, Panels]:
        """Parameters and states, up to date."""
        layouts = self._layout()
        parameters = panels_of(self.model.flat_parameters, layouts.parameters)
        states = panels_of(self.model.flat_states, layouts.states, padding=1.0)
        parameters.refresh()
        states.refresh()
        return parameters, states

    def _slots(self) -> list[Panels]:
        layout = self._layout().parameters
        vectors = self.optimizer.state_for(self.model).vectors().values()
        slots = [panels_of(vector, layout) for vector in vectors]
        for slot in slots:
            slot.refresh()
        return slots

    def _lower(
        self,
        batch: int,
        *,
        labels: bool = False,
        in_place: bool = False,
        keep: bool = True,
        **use: Any,
    ) -> Programs:
        """Return the programs of a plan; with `keep` they are for this executor's use alone."""
        parameters, states = self._panels()
        slots = self._slots() if use.get("optimizer") is not None else []
        optimizer = use.get("optimizer")
        structure = optimizer.structure if optimizer is not None else None
        gradients = use.get("gradients", False)
        grads = (
            panels_of(self.model.flat_gradients, self._layouts.parameters) if gradients else None
        )
        buffers = [parameters.buffer, parameters.transposed, states.buffer]
        buffers.append(grads.buffer if grads else self._nothing)
        buffers += [slot.buffer for slot in slots]
        key = (batch, labels, in_place, structure, *use.items())
        programs = self._cache.get(key) if keep else None
        if programs is None or programs.bases[1:] != buffers:
            plan = build(self.model, batch, **use)
            lowering = Lowering(
                plan,
                self._layouts.parameters,
                self._layouts.states,
                labels=labels,
                l2_bytes=l2_bytes(),
                in_place=in_place,
            )
            arena = _native.Buffer(max(lowering.arena_bytes, 64))
            put_images(lowering, arena)
            work = sum(
                s.rows * s.cols * max(s.depth, 1) for s in lowering.forward + lowering.backward
            )
            programs = Programs(lowering, [arena, *buffers], work)
            if optimizer is not None and use.get("loss") is not None:
                programs.chunked = self._in_chunks(lowering, buffers, use)
            if keep:
                for oldest in list(self._cache)[: 1 - _KEPT_PLANS]:
                    self._cache.pop(oldest, None)
                self._cache[key] = programs
        return programs

    def _in_chunks(
        self, whole: Lowering, buffers: list[_native.Buffer], use: dict[str, Any]
    ) -> Chunked | None:
        """Return the programs by chunks, if the plan allows it and they take no more memory."""
        starts = chunk_starts(whole.batch)
        if len(starts) == 2 or (len(starts) - 1) * whole.layout.nbytes > whole.arena_bytes:
            return None
        try:
            lowering = ChunkLowering(
                build(self.model, largest_chunk(starts), **use),
                self._layouts.parameters,
                self._layouts.states,
                starts,
                labels=whole.labels,
                l2_bytes=whole.l2_bytes,
                in_place=whole.in_place,
            )
        except UnsupportedStep:
            return None
        return Chunked(lowering, buffers)

    def _reads_in_place(self, x: np.ndarray) -> bool:
        return _native.reads_in_place(x, self.model.dtype.itemsize * 8)

    def _transpose(self, programs: Programs) -> None:
        """Bring the transposed panels that a program reads into step."""
        panels = panels_of(self.model.flat_parameters, self._layouts.parameters)
        missing = programs.lowering.transposes - panels.valid_transposes
        if missing:
            steps = partial(programs.lowering.transpose_steps, missing)
            programs.get("transpose " + " ".join(sorted(missing)), steps, 1, "rows").run(())
            panels.valid_transposes |= missing

    def _renew(self, programs: Programs) -> None:
        """Bring all panels that a training step reads up to date."""
        self._panels()
        self._slots()
        self._transpose(programs)

    def _thread_limit(self) -> int:
        now, told = time.monotonic(), _native.thread_limit()
        if now - self._limit_seen > _LIMIT_HOLDS or told != self._limit_set:
            limit = (self.share or get_num_threads)()
            if limit != self._limit:
                for programs in tuple(self._cache.values()):  # others may predict at the same time
                    programs.tuners.clear()
            self._limit, self._limit_set, self._limit_seen = limit, told, now
        return self._limit

    def _tuner(self, programs: Programs, single: bool) -> Tuner:
        """Who chooses the program; single steps, which wake threads each time, have their own."""
        limit = self._thread_limit()
        tuner = programs.tuners.get(single)
        if tuner is None:
            possible = [s for s in STRATEGIES if s != "chunks" or programs.chunked is not None]
            choice = candidates(
                programs.multiply_adds, limit, self.threads, tuple(possible) or ("rows",)
            )
            structure = programs.structure("train", programs.lowering.train_steps)
            tuner = programs.tuners[single] = Tuner(
                choice, experience(structure, tuple(choice), single)
            )
        return tuner

    def _thread_tuner(self, work: float, worth: float, limit: int, what: Hashable) -> Tuner:
        """Who chooses the threads of what takes so many multiply-adds; `worth` is one thread's."""
        limit = max(1, min(limit, int(work / worth)))
        choice = candidates(work, limit, self.threads, STRATEGIES[:1])
        return Tuner(choice, experience(what, tuple(choice), True))

    def _run_once(
        self,
        programs: Programs,
        use: str,
        steps: Callable[[], list[Lowered]],
        sources: tuple[np.ndarray | None, ...],
        **call: Any,
    ) -> None:
        """Run some steps of a plan once, on as many threads as were the fastest."""
        limit, tuner = self._thread_limit(), programs.tuners.get(use)
        if tuner is None:
            what = use, programs.structure(use, steps)
            work = programs.multiply_adds
            tuner = programs.tuners[use] = self._thread_tuner(work, _WORTH_A_THREAD, limit, what)
        threads, out = tuner.turn(1)[0].threads, call.get("out")
        columns = 0 if out is None else out.shape[1]
        program = programs.get(use, steps, threads, STRATEGIES[0], columns)
        start = time.perf_counter()
        program.run(sources, **call)
        tuner.report(1, time.perf_counter() - start)

    # ---- training ----

    def _hyper(self, first_step: int, count: int, epoch: int) -> np.ndarray:
        """Scalars of steps first_step …: of each group, share of an average, penalty's strength."""
        optimizer = self.optimizer
        version, since, row = self._steady
        if version == optimizer.version and first_step >= since:
            return np.broadcast_to(row, (count, row.shape[1]))
        groups = [
            optimizer.hyper(first_step, count, epoch=epoch, group=group)
            for group in range(len(optimizer.groups) + 1)
        ]
        if self.ema is not None:
            groups.append(self.average_shares(first_step, count)[:, None])
        if self.penalty is not None:
            groups.append(self.penalty(first_step, count)[:, None])
        alike = count > 0 and not any(values.strides[0] for values in groups)
        rows = np.zeros((1 if alike else count, len(groups), HYPER))
        for group, values in enumerate(groups):
            rows[:, group, : values.shape[1]] = values[: len(rows)]
        rows = rows.reshape(len(rows), -1)
        if not alike:
            return rows
        if self.ema is None:
            self._steady = optimizer.version, first_step, rows
        return np.broadcast_to(rows, (count, rows.shape[1]))

    def train(
        self,
        source: Source,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        last: int,
        losses: np.ndarray,
    ) -> None:
        state = self.optimizer.state_for(self.model)
        hyper = self._hyper(state.step + 1, last - first, state.epoch)
        try:
            if self._loss_is_native():
                self._train(source, order, batch_size, first, last, losses, hyper)
                state.step += last - first
                return
            for batch in range(first, last):
                rows = source.rows_of(order, batch, batch_size)
                losses[batch] = self._train_by_python(source, rows, hyper[batch - first :])
        except UnsupportedStep:
            self._reference_executor().train(source, order, batch_size, first, last, losses)

    def _lower_training(self, source: Source, rows: int) -> Programs:
        programs = self._lower(
            rows,
            labels=bool(source.classes),
            in_place=self._reads_in_place(source.x),
            training=True,
            loss=self.loss,
            optimizer=self.optimizer,
            **self.around_update,
            sample_weight=source.weighted,
            penalty=self.penalty is not None,
        )
        self._transpose(programs)
        return programs

    def _train(
        self,
        source: Source,
        order: np.ndarray | None,
        rows: int,
        first: int,
        last: int,
        losses: np.ndarray,
        hyper: np.ndarray,
    ) -> None:
        step = self.optimizer.state_for(self.model).step
        rows = min(rows, source.n)
        programs, rest, full = self._lower_training(source, rows), None, source.n // rows
        if source.n % rows and last > full:  # an epoch ends in between, or before
            rest = self._lower_training(source, source.n % rows)
        weight = _weights(source)
        tuner = self._tuner(programs, last - first == 1)
        done = first
        lowering = programs.lowering
        with self._changing(self._changed_by(lowering), lowering.maintained):
            while done < last:
                left = last - done
                if rest is not None and not tuner.settled:
                    left = min(left, full - done % (full + 1))  # the rest would be no fair trial
                (threads, strategy), count, budget = (
                    tuner.turn(left) if left else (tuner.best, 1, 0.0)
                )
                ends = rest is not None and done + count > full
                begun, start = done, time.perf_counter()
                done = programs.training(threads, strategy)[1].run(
                    (source.x, source.y, weight),
                    order=order,
                    first=begun,
                    last=begun + count,
                    hyper=hyper[begun - first :],
                    losses=losses,
                    rest=rest.training(threads, strategy)[1] if ends else None,
                    epoch_rows=source.n,
                    seed=self.seed,
                    step=step + begun - first,
                    budget=budget,
                )
                if left:
                    tuner.report(done - begun, time.perf_counter() - start)
        self._last = programs

    @contextmanager
    def _changing(self, panels: list[Panels], maintained: Set[str] = frozenset()) -> Iterator[None]:
        """Let a program change panels, and keep the transposed `maintained` in step."""
        for each in panels:
            each.changing = True
        try:
            yield
        finally:
            for each in panels:
                each.wrote(maintained)
            for each in panels:
                each.changing = False

    def _changed_by(self, lowering: Lowering) -> list[Panels]:
        """Return the panels that a training step changes."""
        model = self.model
        vectors = [model.flat_parameters, *self.optimizer.state_for(model).vectors().values()]
        vectors += [model.flat_states] if lowering.changes_states else []
        return [vector.resident for vector in vectors]

    def program(self) -> tuple[Lowering, _native.Program, tuple[int, str], dict[str, int]]:
        """Return the program of the mini-batches trained last, its parts, and the memory in use.

        The lowering, the program, (threads, strategy) as chosen, and bytes by what they hold.
        """
        programs = self._last
        best = (programs.tuners.get(False) or programs.tuners[True]).best
        lowering, program = programs.training(*best)
        parameters, slots = self._panels()[0], self._slots()
        memory = {
            "parameters": parameters.buffer.nbytes + parameters.transposed.nbytes,
            "optimizer slots": sum(slot.buffer.nbytes for slot in slots),
            "snapshot": parameters.buffer.nbytes + sum(slot.buffer.nbytes for slot in slots),
            "arena": programs.arena_bytes,
        }
        return lowering, program, best, memory

    @property
    def in_spans(self) -> bool:
        return self._reference is None and self._loss_is_native()

    def _loss_is_native(self) -> bool:
        model = self.model
        return _is_native(self.loss, model.output_activation, model.output_size, model.dtype)

    def _train_by_python(self, source: Source, rows: Rows, hyper: np.ndarray) -> float:
        """Train on one mini-batch, the loss computed by Python between two native calls."""
        loss, fused = self.loss.behind(self.model.output_activation)
        y = source.targets(rows, self.model.dtype)
        programs = self._lower(
            len(y),
            training=True,
            optimizer=self.optimizer,
            **self.around_update,
            gradients=True,
            logits=fused,
        )
        lowering = programs.lowering
        state = self.optimizer.state_for(self.model)
        place = {"seed": self.seed, "step": state.step}
        y_hat = self._forward(programs, source.inputs(rows, self.model.dtype), place)
        weight = _weights(source)
        value, grad = loss(y_hat, y, None if weight is None else weight[rows])
        if self.penalty is not None:
            value += 0.5 * hyper[0, -HYPER] * self.squared_norm()
        self._panels()
        self._transpose(programs)
        if lowering.backward:
            sources = (None, None, None, grad)
            use, steps = "backward and update", lambda: lowering.backward
            with self._changing(self._changed_by(lowering), lowering.maintained):
                self._run_once(programs, use, steps, sources, hyper=hyper, **place)
        state.step += 1
        return value

    @property
    def fast_step(self) -> _native.FastStep | None:
        """The step made last, bound for being made again; None until its best way is known."""
        programs, loss = self._last, self.loss
        tuner = programs.tuners.get(True) if programs is not None else None
        if tuner is None or not tuner.settled:
            return None
        if type(loss).check_targets is not Loss.check_targets:
            return None
        if self.optimizer.counts_epochs:  # whose scalars would be those of this epoch
            return None
        threads, strategy = tuner.best
        tuner.trust(_HYPER_ROWS)
        optimizer, model = self.optimizer, self.model
        state = optimizer.state_for(model)
        vectors = (model.flat_parameters, *state.vectors().values())
        if model.state_specs:
            vectors += (model.flat_states,)
        first = state.step + 1
        hyper = self._hyper(first, _HYPER_ROWS, state.epoch)
        program = programs.training(threads, strategy)[1]
        return _native.FastStep(
            program,
            model,
            vectors,
            tuple(v.resident for v in vectors),
            partial(self._renew, programs),
            optimizer,
            state,
            hyper,
            first,
            self.seed,
            programs.multiply_adds,
            model.output_size if programs.lowering.labels else 0,
            *loss.bounds,
            None if type(loss).check_values is Loss.check_values else loss.check_values,
        )

    def _reference_executor(self) -> BaseExecutor:
        """Who runs what the engine has no kernel for."""
        if self._reference is None:
            from fastmlp.backends.reference import Executor as Reference

            self._reference = Reference(self.model, self.loss, self.optimizer, **self._settings)
        self._reference.seed, self._reference.penalty = self.seed, self.penalty
        return self._reference

    # ---- the model's outputs ----

    def predict(
        self, x: np.ndarray, out: np.ndarray, batch_size: int | None, logits: bool = False
    ) -> None:
        try:
            programs = self._lower(1, keep=True, logits=logits)
        except UnsupportedStep:
            self._reference_executor().predict(x, out, batch_size, logits)
            return
        tuner = self._prediction_tuner(programs, len(x))
        threads = tuner.turn(len(x))[0].threads
        chunk = min(len(x), batch_size or _PREDICTION_ROWS * threads)
        full = len(x) // chunk
        seconds = self._predict(x, out, chunk, full, threads, logits)
        if full * chunk < len(x):
            rest = len(x) - full * chunk
            seconds += self._predict(
                x[full * chunk :], out[full * chunk :], rest, 1, min(threads, rest), logits
            )
        tuner.report(len(x), seconds)
        if (
            self.fast_predict is None
            and not logits
            and programs.multiply_adds <= _FAST_MULTIPLY_ADDS
        ):
            one_row = self._prediction(self._lower(1, keep=False), 1)
            in_place = None
            if self._reads_in_place(out):  # the kernels can, whatever the rows of this call were
                in_place = self._prediction(self._lower(1, keep=False, in_place=True), 1)
            vectors = (self.model.flat_parameters, self.model.flat_states)
            self.fast_predict = _native.FastPredict(
                one_row,
                in_place,
                _FAST_ROWS,
                self._predictions,
                _PREDICTION_ROWS,
                programs.multiply_adds,
                vectors,
                self._panels(),
                out.shape[1],
                self.model.dtype,
            )

    def _prediction_tuner(self, programs: Programs, rows: int) -> Tuner:
        """Who chooses how many threads predict about so many rows."""
        limit, size = self._thread_limit(), rows.bit_length()
        tuner = programs.tuners.get(("predict", size))
        if tuner is None:
            work = programs.multiply_adds * 2 ** (size - 1)
            what = "predict", programs.multiply_adds, size
            tuner = self._thread_tuner(work, _WORTH_A_PREDICTING_THREAD, limit, what)
            programs.tuners["predict", size] = tuner
        return tuner

    @staticmethod
    def _prediction(programs: Programs, threads: int) -> _native.Program:
        lowering = programs.lowering
        columns = lowering.plan.output.cols
        program = programs.get("predict", lowering.predict_steps, threads, "rows", columns)
        if threads == 1:
            programs.alone = program
        return program

    def _predict(
        self, x: np.ndarray, out: np.ndarray, chunk: int, count: int, threads: int, logits: bool
    ) -> float:
        """Predict count · chunk rows; return how many seconds that took."""
        # An arena serves one call at a time: its plan is not among those kept while it is in use.
        in_place = self._reads_in_place(x)
        key = (chunk, logits, in_place)
        programs = self._predictions.pop(key, None)
        buffers = [panels.buffer for panels in self._panels()]
        if programs is None or programs.bases[1] is not buffers[0]:
            programs = self._lower(chunk, keep=False, in_place=in_place, logits=logits)
            self._forget_predictions(programs.arena_bytes)
        program, start = self._prediction(programs, threads), time.perf_counter()
        program.run((x,), first=0, last=count, out=out)
        seconds = time.perf_counter() - start
        self._predictions[key] = programs
        return seconds

    def _forget_predictions(self, arena_bytes: int) -> None:
        """Make room for another plan, whose arena has so many bytes, by giving up the oldest."""
        kept = list(self._predictions.items())  # others may predict at the same time
        free = _KEPT_PREDICTION_BYTES - arena_bytes - sum(p.arena_bytes for _, p in kept)
        count = len(kept)
        for key, programs in kept:
            if free >= 0 and count < _KEPT_PREDICTIONS:
                break
            self._predictions.pop(key, None)
            free, count = free + programs.arena_bytes, count - 1

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        try:
            programs = self._lower(len(x), training=training, gradients=True, input_gradient=True)
        except UnsupportedStep:
            self._kept = None
            return self._reference_executor().forward(x, training)
        self._kept, self._place = programs, self.random_place(training)
        return self._forward(programs, x, self._place)

    def _forward(self, programs: Programs, x: np.ndarray, place: dict[str, int]) -> np.ndarray:
        """Run the forward steps on one mini-batch, which stays in the arena; return the output."""
        lowering = programs.lowering
        out = np.empty((len(x), lowering.plan.output.cols), self.model.dtype)
        with self._changing([self.model.flat_states.resident] if lowering.changes_states else []):
            self._run_once(programs, "forward", lowering.predict_steps, (x,), out=out, **place)
        return out

    def backward(self, grad: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        programs = self._kept
        if programs is None:  # forward was the reference's
            return self._reference_executor().backward(grad, input_gradient)
        self._panels()
        self._transpose(programs)
        lowering = programs.lowering
        out = np.empty((len(grad), lowering.plan.input.cols), self.model.dtype)
        gradients = panels_of(self.model.flat_gradients, self._layouts.parameters)
        gradients.refresh()  # those of frozen layers, which no step writes, stay as they are
        call = {"out": out, "hyper": np.zeros((1, HYPER)), **self._place}
        sources = (None, None, None, grad)
        self._run_once(programs, "backward", lowering.backward_steps, sources, **call)
        gradients.wrote()
        return out if input_gradient else None

    # ---- keeping a good state ----

    def finite(self) -> bool:
        panels = panels_of(self.model.flat_parameters, self._layout().parameters)
        panels.refresh()
        # Where padding has become NaN as well, only the vector itself can tell.
        bits = self.model.dtype.itemsize * 8
        return _native.all_finite(bits, panels.buffer) or super().finite()

    def snapshot(self) -> None:
        state = self.optimizer.state_for(self.model)
        saved, self._saved = self._saved, {}
        for name, panels in self._all_panels(state).items():
            copy = saved.get(name)
            if copy is None or copy.nbytes != panels.buffer.nbytes:
                copy = np.empty(panels.buffer.nbytes, np.uint8)
            self._saved[name] = copy
            panels.copy_into(copy)
        self._saved_counters = state.step, state.epoch

    def restore(self) -> None:
        state = self.optimizer.state_for(self.model)
        for name, panels in self._all_panels(state).items():
            panels.restore(self._saved.get(name, 0))
        state.step, state.epoch = self._saved_counters

    def _all_panels(self, state: OptimizerState) -> dict[str, Panels]:
        panels = [*self._panels(), *self._slots()]
        return dict(zip(self._vectors(state), panels, strict=True))
