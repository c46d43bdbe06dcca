"""Data to learn from: embedded digits, readers, splits and one-hot encoding."""

from .digits import load_digits
from .idx import load_idx, load_mnist
from .splitting import one_hot, train_test_split
from .tables import load_features, load_table, load_targets

__all__ = [
    "load_digits",
    "load_features",
    "load_idx",
    "load_mnist",
    "load_table",
    "load_targets",
    "one_hot",
    "train_test_split",
]
