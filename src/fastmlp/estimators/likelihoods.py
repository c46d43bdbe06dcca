"""scikit-learn's losses where they differ from those of `fastmlp.losses` in what they report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp import losses

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    Floats = NDArray[np.floating]


class _Clipped:
    """A log loss that is shown as if no probability were less than the precision ε of its dtype."""

    def limit(self, dtype: Any) -> float:
        """Return -log ε; see `Loss.limit`."""
        return -float(np.log(np.finfo(dtype).eps))


class ClippedCrossEntropy(_Clipped, losses.CrossEntropy):
    """Cross-entropy of class indices, shown as scikit-learn does."""

    def per_sample(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        values, gradient = super().per_sample(y_hat, y)
        return np.minimum(values, self.limit(y_hat.dtype)), gradient


class ClippedBCE(_Clipped, losses.BCE):
    """Binary cross-entropy, shown as scikit-learn does."""

    def elements(self, y_hat: Floats, y: Floats) -> tuple[Floats, Floats]:
        values, gradient = super().elements(y_hat, y)
        return np.minimum(values, self.limit(y_hat.dtype)), gradient


class SummedPoisson(losses.Poisson):
    """The Poisson loss as a sum over the outputs instead of their mean."""

    reduction = "sum"
