"""scikit-learn's `MLPClassifier` and `MLPRegressor` on this engine; imported when they are used."""

from __future__ import annotations

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        'MLPClassifier and MLPRegressor need scikit-learn: pip install "fastmlp[sklearn]"'
    ) from error

from fastmlp.estimators.classifier import MLPClassifier
from fastmlp.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
