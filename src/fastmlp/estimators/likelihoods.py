"""scikit-learn's losses where they differ from those of `fastmlp.losses` in what they report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


def clip_log_loss(values: Floats) -> Floats:
    """Return -log p as scikit-learn shows it, of p clipped to [ε, 1 - ε].

    The gradient knows nothing of the clipping.
    """
    eps = np.finfo(values.dtype).eps
    return np.clip(values, -np.log1p(-eps), -np.log(eps))


class ClippedCrossEntropy(losses.CrossEntropy):
    """Cross-entropy whose value is that of clipped probabilities."""

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        values, gradient = super().per_sample(y_hat, y)
        return clip_log_loss(values), gradient


class ClippedBCE(losses.BCE):
    """Binary cross-entropy whose value is that of clipped probabilities."""

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        values, gradient = super().elements(y_hat, y)
        return clip_log_loss(values), gradient


class SummedPoisson(losses.Poisson):
    """The Poisson loss as a sum over the outputs instead of their mean."""

    reduction = "sum"
