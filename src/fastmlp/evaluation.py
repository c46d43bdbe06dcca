"""Loss and metrics of predictions, for `evaluate` and after each epoch of `fit`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import activations, losses
from fastmlp.errors import shown
from fastmlp.sources import check_finite, check_inputs, check_source

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from fastmlp.backends import BaseExecutor
    from fastmlp.loss_base import Loss
    from fastmlp.metrics import Metric
    from fastmlp.model import Sequential
    from fastmlp.sources import Source

# Rows whose losses are computed together, so that the NumPy temporaries stay in cache.
_CHUNK_ROWS = 4096


class Evaluator:
    """What is measured of one model.

    Parameters
    ----------
    model : Sequential
    loss : str or Loss
    metrics : iterable of str or Metric

    Raises
    ------
    TypeError, ValueError
        If the loss does not fit the model's output activation, or a metric is refused.
    """

    def __init__(self, model: Sequential, loss: str | Loss, metrics: Iterable[str | Metric] = ()):
        self.model = model
        self.loss = losses.get(loss)
        # The loss as it is computed: of logits, if it takes the place of the output activation.
        self._on_outputs, self._fused = self.loss.behind(model.output_activation)
        logits = getattr(self._on_outputs, "from_logits", False) and not self._fused
        self._metrics = _check_metrics(metrics)
        self._computed = {
            label: metric.on_logits() if logits else metric
            for label, metric in self._metrics.items()
        }

    @property
    def labels(self) -> list[str]:
        """What the metrics are called in a history."""
        return list(self._metrics)

    def check(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        columns: int | None = None,
        finite: bool = True,
    ) -> Source:
        """Return checked data; the model stays as it is, even if its sizes are not known yet.

        Parameters
        ----------
        x, y, sample_weight
            As for `Sequential.fit`.
        columns : int, optional
            What the model will have, if that is known though it is not built.
        finite : bool
            Whether to look for NaN and infinity.

        Raises
        ------
        TypeError, ValueError
            If they are refused.
        """
        inputs = check_inputs(x, self.model.input_size or columns)
        outputs = self.model.sizes_after(inputs.shape[1])[-1]
        source = check_source(inputs, y, sample_weight, outputs=outputs, loss=self.loss)
        if finite:
            check_finite("x", source.x, self.model.dtype)
            check_finite("y", source.y, self.model.dtype)
        self.model.check_codes(source.x)
        return source

    def evaluate(
        self, executor: BaseExecutor, source: Source, batch_size: int | None = None
    ) -> dict[str, float]:
        """Return "loss" and the metrics of the model's predictions."""
        outputs = self._outputs(executor, source, batch_size)
        return {"loss": self._mean_loss(outputs, source), **self._measure(outputs, source)}

    def metrics(
        self, executor: BaseExecutor, source: Source, batch_size: int | None = None
    ) -> dict[str, float]:
        """Return the metrics alone."""
        return self._measure(self._outputs(executor, source, batch_size), source)

    def _outputs(
        self, executor: BaseExecutor, source: Source, batch_size: int | None
    ) -> np.ndarray:
        outputs = np.empty((source.n, self.model.output_size), self.model.dtype)
        executor.predict(source.x, outputs, batch_size, logits=self._fused)
        return outputs

    def _measure(self, outputs: np.ndarray, source: Source) -> dict[str, float]:
        if not self._computed:
            return {}
        if self._fused:
            outputs = activations.get(self.model.output_activation).forward(outputs)
        weight = source.sample_weight
        if weight is not None and weight.ndim == 2:
            weight = None
        return {
            label: metric(outputs, source.y, weight) for label, metric in self._computed.items()
        }

    def _mean_loss(self, outputs: np.ndarray, source: Source) -> float:
        total = weights = 0.0
        for start in range(0, source.n, _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            part = outputs[rows]
            weight = None if source.sample_weight is None else source.sample_weight[rows]
            value, _ = self._on_outputs(part, source.targets(rows, part.dtype), weight)
            count = len(part) if weight is None else weight.sum()
            total += value * count
            weights += count
        return float(total / weights)


def _check_metrics(metrics: Iterable[str | Metric]) -> dict[str, Metric]:
    from fastmlp import metrics as registry

    if isinstance(metrics, str) or not hasattr(metrics, "__iter__"):
        raise TypeError(f"metrics must be a list, as ['accuracy']; got {shown(metrics)}")
    checked: dict[str, Metric] = {}
    for item in metrics:
        metric = registry.get(item)
        if metric.label in checked or metric.label == "loss":
            raise ValueError(f"metrics must have different names; {metric.label!r} is there twice")
        checked[metric.label] = metric
    return checked
