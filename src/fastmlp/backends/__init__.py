"""Backends: what runs a plan. Each module has an `Executor` with the methods of `BaseExecutor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import choose
from fastmlp.sources import all_finite

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from fastmlp.losses import Loss
    from fastmlp.model import Sequential
    from fastmlp.optimizer_base import Optimizer, OptimizerState
    from fastmlp.parameters import FlatVector
    from fastmlp.sources import Source

BACKENDS = ("native", "reference")


class BaseExecutor:
    """Runs one model, and trains it if it has a loss and an optimizer.

    Parameters
    ----------
    model : Sequential
        With known sizes.
    loss : Loss, optional
    optimizer : Optimizer, optional
        Both are needed for `train`.
    threads : int, optional
        Exactly so many; None lets the backend choose.
    l1, l2, clip_value, clip_norm
        Penalties of the weights and limits of the gradients, see `fastmlp.plan.build`.
    ema : float, optional
        What a moving average of the parameters keeps of itself in each step.

    Attributes
    ----------
    seed : int
        Of the random numbers that layers need in training; the model's, unless it is set.
    fast_predict : callable or None
        (x, out) -> predictions, of what is common enough to skip the checks of
        `Sequential.predict`, or None for anything else.
    fast_step : callable or None
        (x, y, sample_weight) -> loss for `Trainer.step`, likewise, of mini-batches like the last.
    share : callable or None
        Returns how many threads may be used at most at this time, where others work beside.
    penalty : callable or None
        (first step, count) -> strengths s of a penalty ½·s·‖W‖², which `train` adds to the losses;
        the gradients have it otherwise. To be set before the first training.
    """

    fast_predict: Callable[[object, object], np.ndarray | None] | None = None
    fast_step: Callable[[object, object, object], float | None] | None = None
    share: Callable[[], int] | None = None
    penalty: Callable[[int, int], np.ndarray] | None = None

    @property
    def in_spans(self) -> bool:
        """Whether a call of `train` costs much more than its mini-batches do."""
        return False

    def __init__(
        self,
        model: Sequential,
        loss: Loss | None = None,
        optimizer: Optimizer | None = None,
        *,
        threads: int | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
    ):
        self.model = model
        self.loss = loss
        self.optimizer = optimizer
        self.threads = threads
        self.l1 = l1
        self.l2 = l2
        self.seed = model.seed
        self.clip_value = clip_value
        self.clip_norm = clip_norm
        self.ema = ema
        self._saved: dict[str, np.ndarray] = {}
        self._saved_counters = (0, 0)

    @property
    def around_update(self) -> dict[str, Any]:
        """What surrounds the update, as `fastmlp.plan.build` takes it."""
        return {
            "l1": self.l1,
            "l2": self.l2,
            "clip_value": self.clip_value,
            "clip_norm": self.clip_norm,
            "average": self.ema is not None,
        }

    def average_shares(self, first_step: int, count: int) -> np.ndarray:
        """Return how far the moving average goes towards the parameters, step by step.

        It starts with the parameters as the first update leaves them.
        """
        shares = np.full(count, 0.0 if self.ema is None else 1.0 - self.ema)
        state = self.optimizer.state_for(self.model)
        if state.average is not None and state.averaged_from == first_step - 1:
            shares[:1] = 1.0
        return shares

    def train(
        self,
        source: Source,
        order: np.ndarray | None,
        batch_size: int,
        first: int,
        last: int,
        losses: np.ndarray,
    ) -> None:
        """Train on the mini-batches `first` to `last` - 1 of an epoch, or of several.

        Parameters
        ----------
        source : Source
        order : ndarray of unsigned integers, shape (n,) or (epochs · n,), or None
            Mini-batch i has the rows order[i·batch_size : (i + 1)·batch_size], the last one what
            is left. Epochs follow each other. None: one epoch of the rows as they stand.
        batch_size, first, last : int
        losses : ndarray of float64
            losses[i] becomes the mean data loss of mini-batch i, before its update; with `penalty`
            that is added.

        The optimizer state's `step` grows by `last` - `first`.
        """
        raise NotImplementedError

    def predict(
        self, x: np.ndarray, out: np.ndarray, batch_size: int | None, logits: bool = False
    ) -> None:
        """Write the predictions of `x` (n, n_in), of any real dtype and strides, to `out`.

        `out` is (n, n_out), C-contiguous, of the model's dtype. With `logits` the activation of
        the last layer is left out. Safe in several threads at once.
        """
        raise NotImplementedError

    def forward(self, x: np.ndarray, training: bool) -> np.ndarray:
        """Return the output of the model, and keep what `backward` needs."""
        raise NotImplementedError

    def backward(self, grad: np.ndarray, input_gradient: bool = True) -> np.ndarray | None:
        """Fill the model's gradients from that of the last output; return that of the input."""
        raise NotImplementedError

    def random_place(self, training: bool) -> dict[str, int]:
        """Return seed and step of the random numbers of a `forward` that is made now."""
        step = self.model.training_passes
        self.model.training_passes += training
        return {"seed": self.model.seed, "step": step}

    def finite(self) -> bool:
        """Return whether all parameters are finite."""
        return all_finite(self.model.flat_parameters.array())

    def squared_norm(self) -> float:
        """Return the sum of squares of all weights, not of the biases."""
        flat = self.model.flat_parameters.array()
        parts = [spec for spec in self.model.parameter_specs if spec.decay]
        return sum(
            float(np.square(flat[s.offset : s.offset + s.size], dtype=np.float64).sum())
            for s in parts
        )

    def snapshot(self) -> None:
        """Remember parameters, states and the optimizer's state, to be able to `restore` them."""
        state = self.optimizer.state_for(self.model)
        saved, self._saved = self._saved, {}
        for name, vector in self._vectors(state).items():
            array = vector.array()
            copy = self._saved[name] = saved[name] if name in saved else np.empty_like(array)
            np.copyto(copy, array)
        self._saved_counters = state.step, state.epoch

    def restore(self) -> None:
        """Put back what `snapshot` remembered last; slots that are there only since are zeros."""
        state = self.optimizer.state_for(self.model)
        for name, vector in self._vectors(state).items():
            np.copyto(vector.array(), self._saved.get(name, 0))
        state.step, state.epoch = self._saved_counters

    def _vectors(self, state: OptimizerState) -> dict[str, FlatVector]:
        """Return all that training changes, by name."""
        model = self.model
        vectors = {"parameters": model.flat_parameters, "states": model.flat_states}
        return {**vectors, **state.vectors()}


def get(name: str) -> type[BaseExecutor]:
    """Return the executor class of a backend, "native" or "reference".

    Raises
    ------
    TypeError, ValueError
        If there is no such backend.
    """
    choose("backend", name, BACKENDS)
    if name == "native":
        from fastmlp.backends.native import Executor
    else:
        from fastmlp.backends.reference import Executor
    return Executor
