"""Models: layers with parameters that predict, are evaluated, and are trained."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import backends
from fastmlp.config import check_threads
from fastmlp.errors import check_flag, check_integer, shown
from fastmlp.exports.methods import Exports
from fastmlp.layers import LARGEST_SIZE, Dense
from fastmlp.network import Network
from fastmlp.sources import as_real_array, check_inputs

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from numpy.typing import ArrayLike, DTypeLike

    from fastmlp.activations import Activation
    from fastmlp.callbacks import Callback
    from fastmlp.graph import Graph
    from fastmlp.history import History
    from fastmlp.initializers import InitializerLike
    from fastmlp.loss_base import Loss
    from fastmlp.metrics import Metric
    from fastmlp.optimizer_base import Optimizer


class Sequential(Exports, Network):
    """A stack of layers.

    Parameters
    ----------
    layers : sequence of Layer
        From input to output. A layer belongs to one model.
    input_size : int, optional
        Columns of the input. Where it is not given the first data decide.
    dtype : {"float32", "float64"}
        In which everything is stored and computed.
    seed : int or None
        Decides the first values of the parameters, and the order of samples in `fit` unless that
        is given a seed of its own. None draws one.

    Attributes
    ----------
    layers : tuple of Layer
    input_size, output_size : int or None
        None until known.
    dtype : numpy.dtype
    seed : int
    revision : int
        Grows when something changes that plans depend on: sizes, frozen layers.
    stop_training : bool
        Set by a callback to end `fit` after the epoch, as in Keras.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.

    Examples
    --------
    >>> model = fm.Sequential([fm.Dense(128, "relu"), fm.Dense(10)], input_size=784, seed=0)
    """

    def _start(self) -> None:
        super()._start()
        self.stop_training = False
        self.training_lock = threading.Lock()
        self._executors: dict[tuple[str, int | None], backends.BaseExecutor] = {}
        self._forward: tuple[backends.BaseExecutor, tuple[int, ...]] | None = None
        # A backend may put a function here that predicts the common case at once, or returns None.
        self._fast_predict: Callable[[object, object], np.ndarray | None] | None = None

    def changed(self) -> None:
        super().changed()
        self._fast_predict = None
        self._forward = None

    # --- prediction and evaluation ---

    def executor(
        self, backend: str = "native", threads: int | None = None
    ) -> backends.BaseExecutor:
        """Return what runs the model forward and backward on a backend; made once."""
        executor = self._executors.get((backend, threads))
        if executor is None:
            kind = backends.get(backend)
            threads = check_threads(threads)
            executor = self._executors.setdefault((backend, threads), kind(self, threads=threads))
        return executor

    def predict(
        self,
        x: ArrayLike,
        out: np.ndarray | None = None,
        batch_size: int | None = None,
        *,
        threads: int | None = None,
        backend: str = "native",
    ) -> np.ndarray:
        """Return the model's outputs. Several threads may predict with one model at once.

        Parameters
        ----------
        x : array_like, shape (n, n_in)
            Any real dtype and strides. NaN and infinity are let through.
        out : ndarray, shape (n, n_out), optional
            Where to write them: C-contiguous, of the model's dtype.
        batch_size : int, optional
            Rows worked on at once; has no effect on the result.
        threads : int, optional
            Exactly so many; by default as many as serve.
        backend : {"native", "reference"}

        Returns
        -------
        ndarray, shape (n, n_out)
            `out`, if it was given.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused.
        """
        fast = self._fast_predict
        if fast is not None and batch_size is None and threads is None and backend == "native":
            result = fast(x, out)
            if result is not None:
                return result
        array = check_inputs(x, self.input_size, empty=True)
        if batch_size is not None:
            batch_size = check_integer("batch_size", batch_size, low=1)
        self.check_codes(array)
        executor = self.executor(backend, threads)
        shape = (len(array), self.sizes_after(array.shape[1])[-1])
        if out is None:
            out = np.empty(shape, self.dtype)
        else:
            _check_out(out, shape, self.dtype)
        self.build(array.shape[1])
        if len(array):
            if np.may_share_memory(array, out):
                array = array.copy()
            executor.predict(array, out, batch_size)
            if backend == "native" and threads is None and not self.codes(array.shape[1]):
                self._fast_predict = executor.fast_predict
        return out

    def evaluate(
        self,
        x: ArrayLike,
        y: ArrayLike,
        loss: str | Loss = "mse",
        metrics: Iterable[str | Metric] = (),
        *,
        sample_weight: ArrayLike | None = None,
        batch_size: int | None = None,
        threads: int | None = None,
        backend: str = "native",
    ) -> dict[str, float]:
        """Return the loss and metrics of the model's predictions.

        Parameters
        ----------
        x, y : array_like
            As for `fit`.
        loss : str or Loss
        metrics : iterable of str or Metric
        sample_weight : array_like, shape (n,) or (n, n_out), optional
        batch_size : int, optional
            Rows worked on at once; has no effect on the result.
        threads, backend
            As for `predict`.

        Returns
        -------
        dict of str to float
            "loss", and each metric by its name.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused.
        """
        from fastmlp.evaluation import Evaluator

        evaluator = Evaluator(self, loss, metrics)
        if batch_size is not None:
            batch_size = check_integer("batch_size", batch_size, low=1)
        executor = self.executor(backend, threads)
        source = evaluator.check(x, y, sample_weight)
        self.build(source.x.shape[1])
        return evaluator.evaluate(executor, source, batch_size)

    # --- the explicit way ---

    def forward(
        self, x: ArrayLike, training: bool = False, *, backend: str = "native"
    ) -> np.ndarray:
        """Return the model's outputs, and keep what `backward` needs.

        Parameters
        ----------
        x : array_like, shape (n, n_in)
        training : bool
            Whether layers behave as in training: Dropout and GaussianNoise with new random numbers
            in each call, BatchNorm with statistics of these rows, which also move the running ones.
        backend : {"native", "reference"}

        Returns
        -------
        ndarray, shape (n, n_out)
            A new array.

        Raises
        ------
        TypeError, ValueError
            If `x` is refused, or training asks for more rows.
        """
        array = check_inputs(x, self.input_size)
        training = check_flag("training", training)
        self.check_codes(array)
        if training:
            self.check_batch(len(array))
        executor = self.executor(backend)
        self.build(array.shape[1])
        result = executor.forward(array, training)
        self._forward = executor, result.shape
        return result

    def backward(self, grad: ArrayLike, *, input_gradient: bool = True) -> np.ndarray | None:
        """Apply the chain rule from the output back to the input, after `forward`.

        Overwrites `gradients`; those of frozen layers are zero.

        Parameters
        ----------
        grad : array_like, shape (n, n_out)
            Gradient with respect to what `forward` returned.
        input_gradient : bool
            Whether the gradient with respect to the input is wanted.

        Returns
        -------
        ndarray, shape (n, n_in), or None

        Raises
        ------
        RuntimeError
            If there was no `forward`.
        TypeError, ValueError
            If `grad` does not fit its output.
        """
        if self._forward is None:
            raise RuntimeError(
                "backward needs the values that forward keeps: call forward(x) first"
            )
        executor, shape = self._forward
        array = as_real_array("grad", grad)
        if array.shape != shape:
            raise ValueError(
                f"grad must have the shape {shape} of the last output; got {array.shape}"
            )
        return executor.backward(
            np.ascontiguousarray(array, dtype=self.dtype),
            check_flag("input_gradient", input_gradient),
        )

    # --- exact derivatives of outputs and loss ---

    def graph(self, x: ArrayLike, y: ArrayLike | None = None, loss: str | Loss = "mse") -> Graph:
        """Return the whole computation on some data as a graph that draws and explains itself.

        Parameters
        ----------
        x : array_like, shape (n, n_in)
            Inputs; a few rows, if the graph is to be drawn.
        y : array_like, optional
            Targets; without them the graph ends in the output.
        loss : str or Loss
            As for `fit`.

        Returns
        -------
        fastmlp.graph.Graph
            Backpropagated: with the value and the gradient of every node.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused, or the loss is a function that no graph goes through.
        """
        from fastmlp.graph.network import model_graph

        return model_graph(self, x, y, loss)

    def jacobian(self, x: ArrayLike, wrt: str = "input") -> np.ndarray:
        """Return the exact derivatives of each output for each sample.

        Parameters
        ----------
        x : array_like, shape (n, n_in)
        wrt : {"input", "parameters"}
            With respect to what. Inputs cost one backward pass per output for all samples
            together, parameters one per output and sample.

        Returns
        -------
        ndarray, shape (n, n_out, n_in) or (n, n_out, number of parameters)
            Parameters in the order of the flat vector.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused.
        """
        from fastmlp.graph.network import model_jacobian

        return model_jacobian(self, x, wrt)

    def hvp(
        self,
        x: ArrayLike,
        y: ArrayLike,
        v: ArrayLike | Mapping[str, ArrayLike],
        loss: str | Loss = "mse",
    ) -> Any:
        """Return the Hessian of the mean loss with respect to the parameters, times a vector.

        Parameters
        ----------
        x, y : array_like
            Data as for `fit`.
        v : array_like, shape (number of parameters,), or mapping of str to array_like
            The vector: flat, or by parameter name; what is not named is zero.
        loss : str or Loss
            As for `fit`.

        Returns
        -------
        ndarray or dict of str to ndarray
            H·v in the form of `v`, computed in float64 without forming H.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused.
        """
        from fastmlp.graph.network import model_hvp

        return model_hvp(self, x, y, v, loss)

    # --- training ---

    def fit(
        self,
        x: Any,
        y: ArrayLike | None = None,
        *,
        loss: str | Loss = "mse",
        optimizer: str | Optimizer = "adam",
        batch_size: int | str | None = 32,
        epochs: int = 1,
        shuffle: bool = True,
        seed: int | None = None,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        metrics: Iterable[str | Metric] = (),
        callbacks: Iterable[Callback] = (),
        progress: bool | None = None,
        threads: int | None = None,
        backend: str = "native",
        sample_weight: ArrayLike | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        ema: float | None = None,
        class_weight: Mapping[int, float] | str | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        checkpoint_every: float | str = 60.0,
        resume: bool = False,
    ) -> History:
        """Train the model.

        Parameters
        ----------
        x : array_like, shape (n, n_in), or batches
            Inputs, of any real dtype and strides; they are not copied whole. Without `y`: an
            iterable of mini-batches (x, y) or (x, y, sample_weight), or a function that returns a
            new one for each epoch.
        y : array_like
            Targets: (n, n_out); (n,) where there is one output; or class indices, integers (n,).
        loss : str or Loss
        optimizer : str or Optimizer
            Its state belongs to the pair of it and this model: fitting again with the same object
            goes on where it stopped.
        batch_size : int, None or "full"
            Rows of a mini-batch; the last one has what is left. None or "full": all of them.
            A stream decides itself.
        epochs : int
        shuffle : bool
            Whether each epoch takes the rows in a new order, decided by the seed and by how many
            epochs the optimizer has seen.
        seed : int, optional
            By default the model's.
        validation_data : (x, y) or (x, y, sample_weight), optional
            Evaluated after each epoch.
        validation_split : float
            Instead: this share of the data, the last rows, is not trained on but evaluated.
        metrics : iterable of str or Metric
            Evaluated after each epoch on training and validation data.
        callbacks : iterable of Callback
        progress : bool, optional
            Whether to show a progress bar; by default where the work is long and the standard
            error a terminal.
        threads : int, optional
            Exactly so many; by default as many as serve. The result does not depend on it.
        backend : {"native", "reference"}
        sample_weight : array_like, shape (n,) or (n, n_out), optional
        l1, l2 : float
            Penalties l1·Σ|w| + ½·l2·Σw² of the weights, not of the biases.
        clip_value, clip_norm : float, optional
            To which each element of the gradients, and the norm of all of them, is clipped.
        ema : float, optional
            What an exponential moving average of the parameters keeps of itself at each update;
            metrics look at the average, and in the end the model has it. See `Trainer`.
        class_weight : dict of int to float, or "balanced", optional
            Weight of each class, multiplied with `sample_weight`; see `Trainer`.
        checkpoint : str or path, optional
            A file from which the training can go on if it is stopped, by whatever: written every
            now and then, also inside an epoch, and at the end. `fastmlp.load` reads the model in
            it; with `ema` the parameters themselves, not their average.
        checkpoint_every : float or str
            Seconds between two checkpoints; or "epoch", or "5 epochs".
        resume : bool
            Whether to go on from the checkpoint, if the file is there. The result then has the
            same bits as without the stop. Everything else has to be as it was, `threads` and
            `epochs` (of all, those before the stop included) excepted.

        Returns
        -------
        History
            One value per epoch of "loss" (the mean over the epoch, penalties excluded), of the
            metrics, and of "val_loss" and so on.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused, data hold NaN or infinity, or the checkpoint is one of
            another training; nothing has changed then.
        ModelFormatError
            If the checkpoint is damaged, or no checkpoint of `fit`.
        OSError
            If the checkpoint cannot be read or written.
        DivergenceError
            If the loss stops being finite; the parameters are those at the end of the last good
            epoch.
        RuntimeError
            If the model is being trained already.
        """
        from fastmlp.training import Trainer

        trainer = Trainer(
            self,
            loss,
            optimizer,
            batch_size,
            threads=threads,
            l1=l1,
            l2=l2,
            clip_value=clip_value,
            clip_norm=clip_norm,
            ema=ema,
            class_weight=class_weight,
            backend=backend,
        )
        return trainer.fit(
            x,
            y,
            epochs=epochs,
            shuffle=shuffle,
            seed=seed,
            validation_data=validation_data,
            validation_split=validation_split,
            metrics=metrics,
            callbacks=callbacks,
            progress=progress,
            sample_weight=sample_weight,
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            resume=resume,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        optimizer: Optimizer | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Write the model to a safetensors file; see `fastmlp.load`.

        What was in the file is replaced at once or not at all.

        Parameters
        ----------
        path : str or path
            Where to. The folder must exist.
        optimizer : Optimizer, optional
            Its settings and its state for this model are saved, too; `fastmlp.load_optimizer`
            gives them back, and training goes on.
        metadata : mapping of str to str, optional
            Anything else that belongs to the model, as the names of its classes;
            `fastmlp.load_metadata` gives it back.

        Raises
        ------
        TypeError, ValueError
            If an argument is refused, the sizes of the model are not known yet, or a value is not
            finite.
        OSError
            If the file cannot be written.
        """
        from fastmlp.files import save

        self._built()
        save(self, path, optimizer, metadata)


class MLP(Sequential):
    """A multilayer perceptron: Dense layers of given sizes.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden layers, outputs: [784, 128, 10].
    activation : str or Activation
        Of the hidden layers.
    output_activation : str or Activation
        Of the last layer.
    dtype : {"float32", "float64"}
    seed : int or None
        As for `Sequential`.
    initializer, bias_initializer : str or callable
        As for `Dense`.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused.

    Examples
    --------
    >>> model = fm.MLP([784, 128, 10], activation="relu", seed=0)
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation = "relu",
        output_activation: str | Activation = "identity",
        dtype: DTypeLike = "float32",
        seed: int | None = 0,
        *,
        initializer: InitializerLike | None = None,
        bias_initializer: InitializerLike = "zeros",
    ):
        if isinstance(sizes, (str, bytes)) or not hasattr(sizes, "__iter__"):
            raise TypeError(f"sizes must be a sequence of integers; got {shown(sizes)}")
        sizes = list(sizes)
        if len(sizes) < 2:
            raise ValueError(f"sizes must have at least two elements, in and out; got {sizes}")
        for index, size in enumerate(sizes):
            check_integer(f"sizes[{index}]", size, low=1, high=LARGEST_SIZE)
        kinds = [activation] * (len(sizes) - 2) + [output_activation]
        super().__init__(
            [
                Dense(units, kind, initializer=initializer, bias_initializer=bias_initializer)
                for units, kind in zip(sizes[1:], kinds, strict=True)
            ],
            input_size=sizes[0],
            dtype=dtype,
            seed=seed,
        )


def check_models(models: Any) -> list[Sequential]:
    """Return a list of models.

    Raises
    ------
    TypeError, ValueError
        If it is none, holds no model, or anything else.
    """
    if isinstance(models, Sequential) or not hasattr(models, "__iter__"):
        raise TypeError(f"models must be a list of models; got {shown(models)}")
    models = list(models)
    if not models:
        raise ValueError("models must hold at least one model; got none")
    for index, model in enumerate(models):
        if not isinstance(model, Sequential):
            raise TypeError(f"models[{index}] must be a Sequential or MLP; got {shown(model)}")
    return models


def _check_out(out: object, shape: tuple[int, int], dtype: np.dtype) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out must be an array; got {shown(out)}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(
            f"out must have shape {shape} and dtype {dtype.name}; got {out.shape} and {out.dtype}"
        )
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise ValueError("out must be C-contiguous and writable")
