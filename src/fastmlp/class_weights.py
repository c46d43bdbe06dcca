"""Weights of classes: what makes rare classes count as much as common ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.errors import check_integer, check_number, shown
from fastmlp.sources import Source

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray


class ClassWeights:
    """Multiplies the weight of every sample by that of its class.

    Parameters
    ----------
    class_weight : dict of int to float, or "balanced"
        Weight w >= 0 of each class; a class that is not named weighs 1. "balanced": n / (k·n_c),
        where k classes occur among n samples and n_c of them are of this one, so that every class
        counts the same (`sklearn.utils.class_weight.compute_class_weight`).

    Raises
    ------
    TypeError, ValueError
        If it is neither.
    """

    def __init__(self, class_weight: Mapping[int, float] | str):
        if isinstance(class_weight, str):
            if class_weight != "balanced":
                raise ValueError(f"class_weight must be a dict or 'balanced'; got {class_weight!r}")
            self._weights: dict[int, float] | None = None
        elif isinstance(class_weight, Mapping):
            if not class_weight:
                raise ValueError("class_weight must name at least one class; got an empty dict")
            self._weights = {
                check_integer("a class of class_weight", label, low=0): check_number(
                    f"class_weight[{label!r}]", weight, low=0.0
                )
                for label, weight in class_weight.items()
            }
        else:
            raise TypeError(
                "class_weight must be a dict of class to weight, or 'balanced'; "
                f"got {shown(class_weight)}"
            )

    @property
    def balanced(self) -> bool:
        """Whether the weights come from how often each class occurs."""
        return self._weights is None

    def apply(self, source: Source, outputs: int) -> Source:
        """Return the same samples with their weights multiplied.

        Parameters
        ----------
        source : Source
            With class indices, one-hot rows, or zeros and ones for a single output.
        outputs : int
            Of the model.

        Raises
        ------
        ValueError
            If the targets are not classes, a class is named that there cannot be, or all classes
            would weigh nothing.
        """
        labels = _labels(source.y, outputs)
        classes = max(outputs, 2)
        if self._weights is None:
            counts = np.bincount(labels, minlength=classes)
            occurring = np.count_nonzero(counts)
            table = len(labels) / (occurring * np.maximum(counts, 1.0))
        else:
            table = np.ones(classes)
            for label, weight in self._weights.items():
                if label >= classes:
                    raise ValueError(
                        f"class_weight names the class {label}; there are 0 to {classes - 1}"
                    )
                table[label] = weight
            if not table.any():
                raise ValueError("class_weight must not be zero for all classes")
        weight = table[labels]
        if source.sample_weight is not None:
            given = source.sample_weight
            weight = given * (weight if given.ndim == 1 else weight[:, np.newaxis])
        return Source(source.x, source.y, weight, source.classes)


def _labels(y: NDArray[Any], outputs: int) -> NDArray[np.integer]:
    """Return the class of each sample."""
    if y.ndim == 1:
        return y
    zero, one = y == 0, y == 1
    if outputs == 1:
        if (zero | one).all():
            return one[:, 0].astype(np.intp)
        raise ValueError("class_weight needs the targets 0 and 1 where there is one output")
    if (zero | one).all() and (np.count_nonzero(one, axis=1) == 1).all():
        return one.argmax(axis=1)
    raise ValueError(
        "class_weight needs classes as targets: class indices, or rows with a single 1"
    )
