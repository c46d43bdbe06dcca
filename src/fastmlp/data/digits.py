"""The UCI handwritten digits, embedded in the package."""

from __future__ import annotations

from importlib import resources

import numpy as np


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """Load 1,797 handwritten digits of 8 × 8 pixels.

    Each image counts the ink in 4 × 4 blocks of a 32 × 32 bitmap (0 to 16), divided by 16 here.

    Returns
    -------
    x : ndarray of float32, shape (1797, 64)
        Images, row by row, in [0, 1]; ``x[i].reshape(8, 8)`` is the i-th.
    y : ndarray of int64, shape (1797,)
        The digit each image shows, 0 to 9.

    Notes
    -----
    Source: E. Alpaydin and C. Kaynak (1998), "Optical Recognition of Handwritten Digits" (its test
    set), UCI Machine Learning Repository, https://doi.org/10.24432/C50P49, licence CC BY 4.0.

    Examples
    --------
    >>> x, y = fm.data.load_digits()
    >>> x_train, x_test, y_train, y_test = fm.data.train_test_split(x, y, test_size=0.2, seed=0)
    """
    with (
        resources.files(__package__).joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as arrays,
    ):
        pixels, labels = arrays["pixels"], arrays["labels"]
    return pixels.astype(np.float32) / np.float32(16), labels.astype(np.int64)
