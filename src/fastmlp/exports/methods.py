"""The methods of models that write them for other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os
    from typing import Any

    from numpy.typing import ArrayLike

    from fastmlp.exports.c import CExport


class Exports:
    """What `Sequential` can be turned into; each method imports what it needs."""

    def export_c(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        int8: bool = False,
        x: ArrayLike | None = None,
    ) -> CExport:
        """Write the model as one C99 file that predicts, for programs without Python.

        The file holds the weights as constants and one function, `void NAME_predict(const float
        *x, float *y)`, for one sample; its first comment shows how to call it. It allocates
        nothing and needs nothing beyond libm. A float64 model computes in double.

        Parameters
        ----------
        path : str or path
        name : str, optional
            A C identifier, before all names of the file, so that several models fit into one
            program. By default the name of the file.
        int8 : bool
            Whether weights are stored as integers of 8 bits, a fourth of the size, with a scale
            for each output. Arithmetic stays in floating point.
        x : array_like, shape (n, n_in), optional
            Inputs on which the accuracy that int8 loses is measured. By default normal random
            numbers: give some of your data.

        Returns
        -------
        CExport
            Names and sizes; with int8 the largest and the mean error too.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused, the sizes of the model are not known yet, a parameter is not
            finite, or something in the model has no form in C.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> print(model.export_c("digits.c", int8=True, x=x_test))
        """
        from fastmlp.exports.c import export

        self._built()  # type: ignore[attr-defined]
        return export(self, path, name=name, int8=int8, x=x)  # type: ignore[arg-type]

    def export_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the model as ONNX, for onnxruntime and the many programs that read it.

        Input "x" and output "y" have any number of rows. What is written has passed ONNX's own
        checker. In float64 GELU's error function is computed in float32, since onnxruntime has no
        other.

        Parameters
        ----------
        path : str or path

        Raises
        ------
        ImportError
            If the package onnx is not installed: ``pip install "fastmlp[onnx]"``.
        ValueError
            If the sizes of the model are not known yet, or something in it has no form in ONNX.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> model.export_onnx("model.onnx")
        >>> onnxruntime.InferenceSession("model.onnx").run(None, {"x": x})[0]
        """
        from fastmlp.exports.onnx import export

        self._built()  # type: ignore[attr-defined]
        export(self, path)  # type: ignore[arg-type]

    def to_torch(self) -> Any:
        """Return a copy of the model as a torch.nn.Sequential; see `fastmlp.from_torch`.

        Returns
        -------
        torch.nn.Sequential
            On the CPU, of the model's dtype, in evaluation mode; it shares no memory with the
            model.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If the sizes of the model are not known yet, or something in it has no counterpart.

        Examples
        --------
        >>> module = model.to_torch()
        """
        from fastmlp.exports.torch import to_torch

        self._built()  # type: ignore[attr-defined]
        return to_torch(self)  # type: ignore[arg-type]

    def to_keras(self) -> Any:
        """Return a copy of the model as a keras.Sequential; see `fastmlp.from_keras`.

        Returns
        -------
        keras.Sequential
            Built, of the model's dtype.

        Raises
        ------
        ImportError
            If Keras is not installed.
        ValueError
            If the sizes of the model are not known yet, or something in it has no counterpart.

        Examples
        --------
        >>> network = model.to_keras()
        """
        from fastmlp.exports.keras import to_keras

        self._built()  # type: ignore[attr-defined]
        return to_keras(self)  # type: ignore[arg-type]

    def to_sklearn(self, classes: ArrayLike | None = None) -> Any:
        """Return the model as a fitted MLPClassifier or MLPRegressor of scikit-learn.

        It has dense layers only, with biases and one activation for all hidden layers. An output
        of softmax or sigmoid makes a classifier, identity a regressor; `fastmlp.from_sklearn`
        goes the other way.

        Parameters
        ----------
        classes : array_like, shape (n_classes,), optional
            Labels of a classifier's classes in the order of the outputs, sorted; by default 0, 1,
            … One sigmoid output decides between two; several decide one label each.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            Predicts, and goes on learning with `partial_fit`.

        Raises
        ------
        ImportError
            If scikit-learn is not installed.
        TypeError, ValueError
            If the model is none that scikit-learn can represent, or `classes` do not fit.

        Examples
        --------
        >>> classifier = model.to_sklearn(classes=["cat", "dog"])
        """
        from fastmlp.exports.sklearn import to_sklearn

        self._built()  # type: ignore[attr-defined]
        return to_sklearn(self, classes)  # type: ignore[arg-type]
