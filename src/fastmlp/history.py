"""What happened in a training: one value per epoch of everything that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from matplotlib.axes import Axes


class History:
    """The record of a training, as Keras keeps it.

    Attributes
    ----------
    history : dict of str to list of float
        One value per epoch: "loss", metrics by name, "val_loss" and so on.
    epoch : list of int
        Numbers of the epochs, from 0.
    time : list of float
        Seconds that training took in each epoch, without evaluation and callbacks.
    samples_per_second : list of float
        Samples trained on in a second of it.
    """

    def __init__(self) -> None:
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []
        self.time: list[float] = []
        self.samples_per_second: list[float] = []

    def add(self, logs: Mapping[str, float], seconds: float, samples: int) -> None:
        """Append one epoch."""
        self.epoch.append(len(self.epoch))
        self.time.append(seconds)
        self.samples_per_second.append(samples / seconds if seconds > 0 else float("inf"))
        for name, value in logs.items():
            # A value that a callback adds late keeps its place beside the others.
            column = self.history.setdefault(name, [])
            column.extend([float("nan")] * (len(self.epoch) - 1 - len(column)))
            column.append(float(value))

    def to_dataframe(self) -> Any:
        """Return a table with a row for each epoch and a column for each name.

        Returns
        -------
        pandas.DataFrame
            Its index, "epoch", counts from 0. A value that is missing is NaN.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> model.fit(x, y, epochs=20, validation_split=0.1).to_dataframe()["val_loss"].min()
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_dataframe needs pandas: pip install pandas") from error
        columns = {
            name: values + [float("nan")] * (len(self.epoch) - len(values))
            for name, values in self.history.items()
        }
        return pd.DataFrame(columns, index=pd.Index(self.epoch, name="epoch"))

    def plot(self, ax: Axes | None = None, *, name: str = "loss") -> Axes:
        """Draw one quantity by epoch, of training and of validation.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            By default those of a new figure.
        name : str
            "loss", or the name of a metric.

        Returns
        -------
        matplotlib.axes.Axes

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no such quantity in the history.

        Examples
        --------
        >>> model.fit(x, y, epochs=20, metrics=["accuracy"]).plot(name="accuracy")
        """
        from fastmlp.pictures.curves import curves

        return curves(self, ax, name=name)

    def __repr__(self) -> str:
        if not self.epoch:
            return "History of 0 epochs"
        last = ", ".join(f"{name} {values[-1]:.4g}" for name, values in self.history.items())
        count = len(self.epoch)
        rate = sum(self.samples_per_second) / count
        return (
            f"History of {count} epoch{'s' * (count > 1)}, last: {last} "
            f"({sum(self.time):.3g} s, {rate:,.0f} samples/s)"
        )
