"""Gauss–Newton's normal equations of a model: gradient and JᵀJ of its squared errors.

J has a row for each output of each sample: the derivatives of that output with respect to all
trained parameters. It comes out of the same plan as every other backward pass, one for each
output, with the sum over samples left out where a parameter's gradient is formed: for a Dense
layer row i is the outer product of activation i and the gradient that arrived at it. Only some
rows exist at a time. Everything is float64: JᵀJ has the square of J's condition number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.backends.reference import OPS, run
from fastmlp.plan import build

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from fastmlp.loss_base import Loss
    from fastmlp.model import Sequential
    from fastmlp.plan import Step
    from fastmlp.sources import Source

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]

# Elements of J that exist at a time, and the least rows of it: enough for BLAS to be at its best.
_CHUNK = 2**20
_LEAST_ROWS = 256
# Rows of a triangular matrix that are solved for together.
_BLOCK = 64


def normal_equations(
    model: Sequential, loss: Loss, source: Source, x: Vector
) -> tuple[Vector, Matrix]:
    """Return Jᵀr and JᵀJ, where J and r are scaled so that the loss is ½‖r‖².

    Parameters
    ----------
    model : Sequential
        Its parameters are not looked at, its states are.
    loss : Loss
        "mse" or "quadratic".
    source : Source
    x : ndarray of float64, shape (number of parameters,)
        Where.

    Returns
    -------
    gradient : ndarray of float64, shape (P,)
        With respect to the trained parameters, in the order of the flat vector.
    curvature : ndarray of float64, shape (P, P)

    Raises
    ------
    ValueError
        If the samples of a mini-batch influence each other in a layer.
    """
    outputs = model.output_size
    scales = _scales(loss, source, outputs)
    places, count = {}, 0
    for spec in model.parameter_specs:
        if spec.trainable:
            places[spec.name] = slice(count, count + spec.size)
            count += spec.size
    gradient, curvature = np.zeros(count), np.zeros((count, count))
    rows = max(_CHUNK // count, _LEAST_ROWS) // outputs or 1
    for batch in range(source.batches(rows)):
        part = source.rows_of(None, batch, rows)
        errors, J = _rows(model, source, part, x, places, count)
        scale = scales if len(scales) == 1 else scales[part]
        errors *= scale
        J *= scale[:, :, np.newaxis]
        J = J.reshape(-1, count)
        gradient += errors.reshape(-1) @ J
        curvature += J.T @ J
    return gradient, curvature


def _scales(loss: Loss, source: Source, outputs: int) -> Matrix:
    """Return what errors are multiplied with, for each sample or all, and each output or all."""
    factor = 1.0 if loss.name == "quadratic" else 2.0 / outputs
    weight = source.sample_weight
    if weight is None:
        return np.full((1, 1), np.sqrt(factor / source.n))
    weight = weight.reshape(source.n, -1)
    return np.sqrt(factor * weight / (weight.sum() / weight.shape[1]))


def _rows(
    model: Sequential, source: Source, part: Any, x: Vector, places: dict[str, slice], count: int
) -> tuple[Matrix, NDArray[np.float64]]:
    """Return errors (rows, outputs) and derivatives (rows, outputs, count) of some samples."""
    inputs = source.inputs(part, np.dtype(np.float64))
    plan = build(model, len(inputs), gradients=True)
    values = {plan.input: inputs}
    for spec in model.parameter_specs:
        flat = x[spec.offset : spec.offset + spec.size]
        values[plan.parameters[spec.name]] = flat.reshape(spec.matrix_shape)
    for spec in model.state_specs:
        state = model.states[spec.name].astype(np.float64)
        values[plan.states[spec.name]] = state.reshape(spec.matrix_shape)
    run(plan.forward, values)
    y_hat = values[plan.output]
    J = np.empty((*y_hat.shape, count))
    names = {value: name for name, value in plan.parameter_gradients.items()}
    for output in range(y_hat.shape[1]):
        seed = np.zeros_like(y_hat)
        seed[:, output] = 1.0
        values[plan.output_gradient] = seed
        for step in plan.backward:
            if not any(value in names for value in step.writes):
                run([step], values)
                continue
            columns = [J[:, output, places[names[value]]] for value in step.writes]
            _per_sample(step, [values[value] for value in step.reads], columns)
    return y_hat - source.targets(part, y_hat.dtype), J


def _per_sample(step: Step, reads: list[np.ndarray], results: list[np.ndarray]) -> None:
    """Do a step that sums over samples for each of them alone: row i of the results."""
    if step.op == "dense_backward_params":
        x, dz = reads
        dW, *db = results
        dW = dW.reshape(len(x), x.shape[1], dz.shape[1])  # a view
        np.multiply(x[:, :, np.newaxis], dz[:, np.newaxis, :], out=dW)
        if db:
            db[0][...] = dz
        return
    rows = step.reads[0].rows
    for i in range(rows):
        row = [read[i : i + 1] if len(read) == rows else read for read in reads]
        for result, value in zip(results, OPS[step.op](step.attrs, *row), strict=True):
            result[i] = value.reshape(-1)


def solve(curvature: Matrix, damping: float, right: Vector) -> Vector | None:
    """Return h with (A + μ·I)·h = b by Cholesky's factorization.

    Parameters
    ----------
    curvature : ndarray, shape (P, P)
        A, symmetric.
    damping : float
        μ.
    right : ndarray, shape (P,)
        b.

    Returns
    -------
    ndarray, shape (P,), or None
        None if the matrix is not positive definite, as far as rounding can tell.
    """
    damped = curvature.copy()
    damped[np.diag_indices_from(damped)] += damping
    try:
        L = np.linalg.cholesky(damped)
    except np.linalg.LinAlgError:
        return None
    h = right.copy()
    starts = range(0, len(h), _BLOCK)
    for i in starts:
        block = slice(i, i + _BLOCK)
        h[block] = np.linalg.solve(L[block, block], h[block] - L[block, :i] @ h[:i])
    for i in reversed(starts):
        block, rest = slice(i, i + _BLOCK), slice(i + _BLOCK, None)
        h[block] = np.linalg.solve(L[block, block].T, h[block] - L[rest, block].T @ h[rest])
    return h if np.isfinite(h).all() else None
