"""Data to learn from: embedded digits, readers, splits and one-hot encoding."""

from fastmlp.data.digits import load_digits
from fastmlp.data.idx import load_idx, load_mnist
from fastmlp.data.splitting import one_hot, train_test_split
from fastmlp.data.tables import load_features, load_table, load_targets

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
