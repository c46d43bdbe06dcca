"""Losses: PyTorch's numbers, gradients, targets, weights, extremes, errors."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import losses
from fastmlp.losses import BCE, LOSSES, MSE, CrossEntropy, Hinge, Poisson
from golden.make_golden import loss_inputs, loss_weights, wave
from golden.stored import load

GOLDEN = load("losses")
CASES = [json.loads(case) for case in GOLDEN["cases"]]
EVERY = list(dict.fromkeys(losses.from_config(config) for config, *_ in CASES))
OF_OUTPUTS = [loss for loss in EVERY if loss.name != "cross_entropy"]
ON_LOGITS = [BCE(from_logits=True), CrossEntropy(from_logits=True), Hinge()]


def inputs_of(loss):
    """Predictions and targets that a loss can take, away from kinks."""
    for config, targets, predictions, _ in CASES:
        if losses.from_config(config).kernel == loss.kernel and predictions != "sure":
            y_hat, y = loss_inputs(targets, predictions)
            return y_hat[:4], y[:4]
    raise AssertionError(loss)


def test_every_loss_has_golden_numbers():
    assert {loss.name for loss in EVERY} == set(LOSSES)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_value_and_gradient_equal_pytorch(number):
    config, targets, predictions, kind = CASES[number]
    y_hat, y = loss_inputs(targets, predictions)
    weight = loss_weights(kind)
    weight = {"none": None, "samples": weight[:, 0], "outputs": weight}[kind]
    value, gradient = losses.from_config(config)(y_hat, y, weight)
    assert value == pytest.approx(GOLDEN["values"][number], rel=1e-12)
    # The bound 1e-12 on p·(1 - p) is a float32 in PyTorch, 4e-9 smaller.
    rtol = 5e-9 if predictions == "sure" else 1e-10
    np.testing.assert_allclose(gradient, GOLDEN["gradients"][number], rtol=rtol, atol=1e-12)


@pytest.mark.parametrize(
    ("loss", "kind"),
    [(loss, kind) for loss in EVERY for kind in ("none", "samples")]
    + [(loss, "outputs") for loss in OF_OUTPUTS],
    ids=str,
)
def test_gradient_equals_finite_differences(loss, kind):
    y_hat, y = inputs_of(loss)
    weight = {"none": None, "samples": loss_weights(kind)[:4, 0], "outputs": loss_weights(kind)[:4]}
    h = 1e-6
    numerical = np.empty_like(y_hat)
    for i, j in np.ndindex(y_hat.shape):
        step = np.zeros_like(y_hat)
        step[i, j] = h
        above, below = (loss(y_hat + s, y, weight[kind])[0] for s in (step, -step))
        numerical[i, j] = (above - below) / (2 * h)
    np.testing.assert_allclose(loss(y_hat, y, weight[kind])[1], numerical, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("loss", EVERY, ids=str)
def test_value_and_gradient_are_means_over_samples(loss):
    y_hat, y = inputs_of(loss)
    rows, row_gradients = loss.per_sample(y_hat, y)
    value, gradient = loss(y_hat, y)
    assert rows.shape == (4,)
    assert value == pytest.approx(rows.mean(), rel=1e-15)
    np.testing.assert_allclose(gradient, row_gradients / 4, rtol=1e-15)
    for i in range(4):
        alone, alone_gradient = loss(y_hat[i : i + 1], y[i : i + 1])
        assert alone == pytest.approx(rows[i], rel=1e-14)
        np.testing.assert_allclose(alone_gradient[0], row_gradients[i], rtol=1e-14)


def test_mse_and_quadratic_are_what_the_names_say():
    y_hat, y = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]]), np.zeros((2, 3))
    value, gradient = losses.MSE()(y_hat, y)
    assert value == 15 / 6
    np.testing.assert_allclose(gradient, 2 * y_hat / 6)
    value, gradient = losses.Quadratic()(y_hat, y)
    assert value == 15 / 4
    np.testing.assert_allclose(gradient, y_hat / 2)


def test_sum_over_outputs_is_the_textbooks_cross_entropy():
    y_hat, y = loss_inputs("bits", "probabilities")
    mean, gradient = BCE()(y_hat, y)
    total, total_gradient = BCE(reduction="sum")(y_hat, y)
    assert total == pytest.approx(3 * mean, rel=1e-15)
    np.testing.assert_allclose(total_gradient, 3 * gradient, rtol=1e-15)


# --- weights ---


@pytest.mark.parametrize("loss", EVERY, ids=str)
def test_integer_weights_count_like_copies(loss):
    y_hat, y = inputs_of(loss)
    copies = np.array([0, 3, 1, 2])
    value, gradient = loss(y_hat, y, copies)
    expected, repeated = loss(np.repeat(y_hat, copies, axis=0), np.repeat(y, copies, axis=0))
    assert value == pytest.approx(expected, rel=1e-14)
    summed = np.array([repeated[np.repeat(range(4), copies) == i].sum(axis=0) for i in range(4)])
    np.testing.assert_allclose(gradient, summed, rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("loss", OF_OUTPUTS, ids=str)
def test_weights_of_outputs_extend_weights_of_samples(loss):
    y_hat, y = inputs_of(loss)
    weight = np.array([0.0, 3.0, 1.0, 2.0])
    value, gradient = loss(y_hat, y, weight)
    of_outputs, gradient_of_outputs = loss(y_hat, y, np.repeat(weight[:, None], 3, axis=1))
    assert of_outputs == pytest.approx(value, rel=1e-14)
    np.testing.assert_allclose(gradient_of_outputs, gradient, rtol=1e-14)


def test_masked_outputs_do_not_count():
    y_hat, y = np.array([[1.0, 9.0], [3.0, 5.0]]), np.zeros((2, 2))
    value, gradient = MSE()(y_hat, y, [[1, 0], [1, 1]])
    assert value == pytest.approx((1 + 9 + 25) / 3)
    assert gradient[0, 1] == 0.0


def test_weights_that_are_all_zero_give_zero():
    value, gradient = MSE()(np.ones((2, 3)), np.zeros((2, 3)), [0, 0])
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((2, 3)))


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        ([1.0], ValueError, r"sample_weight must have shape \(2,\), or \(2, 3\)"),
        (np.ones((3, 2)), ValueError, r"got \(3, 2\)"),
        ([1.0, -1.0], ValueError, "finite and >= 0"),
        ([1.0, np.nan], ValueError, "finite and >= 0"),
        (["a", "b"], TypeError, "sample_weight must hold real numbers"),
    ],
)
def test_bad_weights(weight, error, message):
    with pytest.raises(error, match=message):
        MSE()(np.ones((2, 3)), np.zeros((2, 3)), weight)


def test_cross_entropy_takes_no_weights_of_outputs():
    with pytest.raises(ValueError, match="loss 'cross_entropy' joins the outputs of a sample"):
        CrossEntropy(from_logits=True)(np.zeros((2, 3)), [0, 1], np.ones((2, 3)))


# --- targets ---


def test_class_indices_are_one_hot_rows():
    y_hat, labels = 2 * wave((5, 4), 0.3), np.array([3, 0, 1, 1, 2], np.uint8)
    for loss in (MSE(), CrossEntropy(from_logits=True), Hinge(), BCE(from_logits=True)):
        by_label, rows = loss(y_hat, labels), loss(y_hat, np.eye(4)[labels])
        assert by_label[0] == rows[0]
        np.testing.assert_array_equal(by_label[1], rows[1])


def test_vectors_are_columns_and_never_broadcast():
    y_hat, y = np.array([1.0, 2.0, 4.0]), np.array([1, 1, 1])
    expected = MSE()(y_hat[:, None], y[:, None])
    for predictions in (y_hat, y_hat[:, None]):
        value, gradient = MSE()(predictions, y)
        assert value == expected[0] == 10 / 3
        assert gradient.shape == (3, 1)
    with pytest.raises(ValueError, match=r"y must have the shape \(3, 3\) of y_hat; got \(3,\)"):
        MSE()(np.zeros((3, 3)), np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(3, 2\) of y_hat; got \(3, 1\)"):
        MSE()(np.zeros((3, 2)), np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([0, 3], ValueError, r"labels must be between 0 and 2 \(3 classes\); got 3 at index 1"),
        ([-1, 0], ValueError, "got -1 at index 0"),
        ([0.0, 1.0], ValueError, r"got \(2,\) \(class indices must be integers\)"),
        (["a", "b"], TypeError, "y must hold real numbers"),
        ([0, 1, 2], ValueError, r"got \(3,\)"),
        (np.zeros((2, 3, 1)), ValueError, r"got \(2, 3, 1\)"),
    ],
)
def test_bad_targets(y, error, message):
    with pytest.raises(error, match=message):
        MSE()(np.zeros((2, 3)), y)


@pytest.mark.parametrize("y_hat", [np.zeros((0, 3)), np.zeros((2, 0)), 1.0, np.zeros((1, 1, 1))])
def test_bad_shapes_of_predictions(y_hat):
    with pytest.raises(ValueError, match=r"y_hat must have shape \(n, m\)"):
        MSE()(y_hat, y_hat)


def test_predictions_must_be_numbers():
    with pytest.raises(TypeError, match="y_hat must hold real numbers"):
        MSE()(np.array(["a"]), [1.0])


def test_targets_are_checked_without_copying():
    y = np.zeros((2, 3), np.float32)
    assert MSE().check_targets(y, (2, 3)) is y
    labels = np.array([0, 2])
    assert CrossEntropy().check_targets(labels, (2, 3)) is labels
    assert MSE().targets(y, (2, 3), np.float32) is y
    assert CrossEntropy().targets(labels, (2, 3), np.float32).dtype == np.float32


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (BCE(), [[0.0, 1.1]], "y must be between 0 and 1 for bce; got 0.0 to 1.1"),
        (BCE(), [[-0.1, 1.0]], "got -0.1 to 1.0"),
        (BCE(), [[np.nan, 1.0]], "between 0 and 1"),
        (CrossEntropy(), [[0.0, 0.0]], "row 0 sums to 0"),
        (CrossEntropy(), [[1.0, 1.0]], "row 0 sums to 2"),
        (CrossEntropy(), [[-1.0, 2.0]], "least value -1.0"),
        (CrossEntropy(), [[np.nan, 1.0]], "sum to 1"),
        (Poisson(), [[-1.0, 2.0]], "y must be >= 0 for poisson; got -1.0"),
        (Hinge(), [[0.5, 1.0]], "y must be -1 and 1, or 0 and 1"),
    ],
)
def test_targets_that_a_loss_cannot_take(loss, y, message):
    with pytest.raises(ValueError, match=message):
        loss(np.full((1, 2), 0.5), y)


def test_cross_entropy_needs_two_outputs():
    with pytest.raises(ValueError, match="at least two outputs, one per class; got one: use 'bce'"):
        CrossEntropy()(np.ones((2, 1)), [0, 0])


@pytest.mark.parametrize("loss", [BCE(), CrossEntropy()], ids=str)
def test_logits_given_as_probabilities_are_refused(loss):
    with pytest.raises(ValueError, match=r"got values from -3.0 to 2.0: are they logits"):
        loss([[2.0, -3.0]], [[1.0, 0.0]])


def test_negative_rates_are_refused():
    with pytest.raises(ValueError, match="use a positive output activation such as 'softplus'"):
        Poisson(log_input=False)([[-0.1]], [[1.0]])


def test_hinge_takes_both_kinds_of_labels():
    y_hat = 2 * wave((5, 1), 0.3)
    bits = np.array([0, 1, 1, 0, 1])
    assert Hinge()(y_hat, bits)[0] == Hinge()(y_hat, 2 * bits - 1)[0]


# --- numbers ---


@pytest.mark.parametrize("loss", [*EVERY, BCE(from_logits=True, reduction="sum")], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_float32_is_accurate(loss, dtype):
    y_hat, y = inputs_of(loss)
    y_hat = y_hat.astype(dtype)
    value, gradient = loss(y_hat, y)
    assert type(value) is float
    assert gradient.dtype == dtype
    wide, wide_gradient = loss(y_hat.astype(np.float64), y.astype(dtype))
    # Fewer than 32 roundings of numbers up to the largest target or loss, here below 64.
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(wide, rel=32 * eps, abs=64 * eps)
    np.testing.assert_allclose(gradient, wide_gradient, rtol=64 * eps, atol=64 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("loss", [*ON_LOGITS, Poisson(), losses.LogCosh(), losses.Huber()], ids=str)
def test_huge_logits_are_finite(loss, dtype):
    y_hat = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4], [-1e4, -1e4]], dtype)
    for y in (np.array([0, 1, 0, 1]), np.array([1, 0, 1, 0])):
        value, gradient = loss(y_hat, y)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_huge_logits_have_the_right_loss():
    y_hat = np.array([[1e4, -1e4]])
    assert CrossEntropy(from_logits=True)(y_hat, [1])[0] == 2e4
    assert CrossEntropy(from_logits=True)(y_hat, [0])[0] == 0.0
    assert BCE(from_logits=True)(y_hat, [[0, 1]])[0] == 1e4
    assert BCE(from_logits=True)(y_hat, [[1, 0]])[0] == 0.0


def test_sure_and_wrong_probabilities_are_bounded():
    assert CrossEntropy()([[1.0, 0.0]], [1])[0] == 100.0
    assert BCE()([[1.0, 0.0]], [[0.0, 1.0]])[0] == 100.0
    assert np.isfinite(CrossEntropy()([[1.0, 0.0]], [1])[1]).all()


@pytest.mark.parametrize("loss", EVERY, ids=str)
def test_nan_predictions_give_a_nan_value(loss):
    y_hat, y = inputs_of(loss)
    y_hat[1, 1] = np.nan
    assert np.isnan(loss(y_hat, y)[0])


def test_log_cosh_is_accurate_near_zero():
    error = 1e-5
    # log cosh e = e²/2 - e⁴/12; the formula keeps an absolute error of ε·e.
    value = losses.LogCosh()([[error]], [[0.0]])[0]
    assert value == pytest.approx(error**2 / 2, abs=4e-16 * error)


def test_means_are_accumulated_in_float64():
    y_hat = wave((100_003, 1), 0.3).astype(np.float32)
    value, _ = MSE()(y_hat, np.zeros((100_003, 1)))
    # The squares are rounded to float32, their sum is not.
    assert value == pytest.approx(math.fsum(y_hat[:, 0] * y_hat[:, 0]) / 100_003, rel=1e-13)


def test_inputs_are_left_alone():
    for loss in EVERY:
        y_hat, y = inputs_of(loss)
        before = y_hat.copy(), y.copy()
        loss(y_hat, y)
        np.testing.assert_array_equal(y_hat, before[0])
        np.testing.assert_array_equal(y, before[1])


# --- behind an output activation ---


@pytest.mark.parametrize("kind", [BCE, CrossEntropy])
def test_classification_losses_see_logits(kind):
    own = kind.fused_activation
    for loss in (kind(label_smoothing=0.1), kind(from_logits=True, label_smoothing=0.1)):
        expected = kind(from_logits=True, label_smoothing=0.1)
        assert loss.behind("identity") == (expected, False)
        assert loss.behind(own) == (expected, True)
        with pytest.raises(
            ValueError, match=f"the output activation 'identity' or '{own}'; got 'tanh'"
        ):
            loss.behind("tanh")


def test_other_losses_stay_as_they_are():
    for name in set(LOSSES) - {"bce", "cross_entropy"}:
        loss = losses.get(name)
        assert loss.behind("tanh") == (loss, False)
        assert loss.fused_activation is None


def test_fused_gradient_is_the_chain_rule():
    z, labels = 2 * wave((4, 3), 0.7), np.array([0, 2, 1, 1])
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    loss, fused = CrossEntropy().behind("softmax")
    value, dz = loss(z, labels)
    apart, da = CrossEntropy()(a, labels)
    assert fused
    assert value == pytest.approx(apart, rel=1e-14)
    np.testing.assert_allclose(dz, a * (da - (a * da).sum(axis=1, keepdims=True)), atol=1e-15)


def test_kernels_tell_the_forms_apart():
    assert BCE().kernel == "bce"
    assert BCE(from_logits=True).kernel == "bce_logits"
    assert CrossEntropy(from_logits=True).kernel == "cross_entropy_logits"
    assert (Poisson().kernel, Poisson(False).kernel) == ("poisson_log", "poisson")
    assert MSE().kernel == "mse"
    assert losses.Huber(0.3).alpha == 0.3
    assert losses.Quantile(0.9).alpha == 0.9
    assert BCE(label_smoothing=0.2).alpha == 0.2
    assert MSE().alpha == 0.0


# --- a Python function ---


def cubic(y_hat, y):
    error = y_hat - y
    return np.mean(np.abs(error) ** 3), 3 * error * np.abs(error) / error.size


def test_a_function_is_a_loss():
    loss = losses.get(cubic)
    y_hat, y = wave((4, 3), 0.3).astype(np.float32), wave((4, 3), 0.7)
    value, gradient = loss(y_hat, y)
    assert type(value) is float
    assert gradient.dtype == np.float32
    assert loss.kernel is None
    assert value == pytest.approx(np.mean(np.abs(y_hat - y.astype(np.float32)) ** 3))
    assert losses.get(cubic) == loss
    with pytest.raises(TypeError, match="cannot be stored"):
        loss.config()


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_a_function_may_work_in_place(backend):
    def squares(y_hat, y):
        error = y_hat - y
        return float(np.mean(error * error)), 2.0 * error / error.size

    def in_place(y_hat, y):
        y_hat -= y
        y[...] = 0.0
        return float(np.mean(y_hat * y_hat)), 2.0 * y_hat / y_hat.size

    x, y = wave((20, 4), 0.3), wave((20, 3), 0.7)
    results = []
    for loss in (squares, in_place):
        model, targets = fm.MLP([4, 5, 3], "tanh", "tanh", dtype=y.dtype, seed=0), y.copy()
        history = model.fit(
            x, targets, loss=loss, shuffle=False, batch_size=8, epochs=2, backend=backend,
            validation_data=(x, targets), metrics=["mae"],
        )  # fmt: skip
        np.testing.assert_array_equal(targets, y)
        results.append((history.history, model.flat_parameters.array().tobytes()))
    assert results[0] == results[1]


def test_a_function_with_weights_is_asked_row_by_row():
    y_hat, y = wave((4, 3), 0.3), wave((4, 3), 0.7)
    value, gradient = losses.get(cubic)(y_hat, y, [1, 0, 2, 1])
    rows, row_gradients = losses.get(cubic)(y_hat[[0, 2, 2, 3]], y[[0, 2, 2, 3]])
    assert value == pytest.approx(rows, rel=1e-14)
    np.testing.assert_allclose(gradient[2], row_gradients[1] + row_gradients[2], rtol=1e-14)
    np.testing.assert_array_equal(gradient[1], 0.0)


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda p, y: 1.0, TypeError, r"must return \(value, gradient\); got 1.0"),
        (lambda p, y: (p, p), ValueError, "must return one real value"),
        (lambda p, y: (1.0, p[:, :1]), ValueError, r"must be real, of shape \(4, 3\)"),
        (lambda p, y: (1.0, p + 1j), ValueError, "must be real"),
    ],
)
def test_functions_that_return_something_else(function, error, message):
    with pytest.raises(error, match=message):
        losses.get(function)(np.ones((4, 3)), np.zeros((4, 3)))


# --- as data ---


@pytest.mark.parametrize("loss", [*EVERY, BCE(reduction="sum")], ids=str)
def test_config_equality_and_copies(loss):
    twin = losses.from_config(json.loads(json.dumps(loss.config())))
    for other in (twin, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), losses.get(loss)):
        assert other == loss
        assert hash(other) == hash(loss)
        assert other.alpha == loss.alpha


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: losses.get("mean"), ValueError, "loss must be one of 'mse'"),
        (lambda: losses.get("crossentropy"), ValueError, "did you mean 'cross_entropy'"),
        (lambda: losses.get(3), TypeError, "or of type Loss; got 3"),
        (lambda: losses.get(MSE), TypeError, "got the class MSE"),
        (lambda: losses.Huber(0.0), ValueError, "delta of huber must be a finite number > 0"),
        (lambda: losses.Quantile(1.0), ValueError, "q of quantile must be .* > 0 and < 1"),
        (lambda: Poisson(log_input=1), TypeError, "log_input of poisson must be True or False"),
        (lambda: BCE(label_smoothing=1.5), ValueError, "label_smoothing of bce .* <= 1; got 1.5"),
        (lambda: BCE(reduction="max"), ValueError, "reduction of bce must be one of 'mean', 'sum'"),
        (lambda: BCE(from_logits="no"), TypeError, "from_logits of bce must be True or False"),
        (lambda: CrossEntropy(label_smoothing=-1), ValueError, "label_smoothing of cross_entropy"),
        (lambda: losses.FunctionLoss(3), TypeError, "must be callable; got 3"),
        (
            lambda: losses.get(lambda y_hat, y: ((y_hat - y) ** 2).mean())([[1.0]], [[2.0]]),
            TypeError,
            "must return .value, gradient.; .* fastmlp.graph.loss finds the gradient",
        ),
        (
            lambda: losses.from_config({"name": "huber", "dleta": 1}),
            ValueError,
            "did you mean 'delta'",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message):
        make()
