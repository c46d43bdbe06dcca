"""What comes in: bad input is refused in words before anything changes, unusual input works."""

from __future__ import annotations

import array
import pickle

import numpy as np
import pytest

import cases
import fastmlp as fm

X = cases.inputs(12, 4)
Y = cases.targets("real", 12, 3)
LABELS = cases.targets("labels", 12, 3)
LOGITS = {"loss": "cross_entropy"}


def with_value(array, value, place=(5, 2)):
    changed = array.copy()
    changed[place] = value
    return changed


def fit(x=X, y=Y, **settings):
    return lambda model: model.fit(x, y, **settings)


def new_model(*args, **settings):
    return lambda model: fm.MLP(*args, **settings)


def new_layer(*args, **settings):
    return lambda model: fm.Dense(*args, **settings)


def set_parameter(name, values):
    def assign(model):
        model.parameters[name] = values

    return assign


def twice(model):
    layer = fm.Dense(3)
    fm.Sequential([layer, layer])


def borrowed(model):
    fm.Sequential([model.layers[0]])


def step(x=X, y=Y, **settings):
    return lambda model: fm.Trainer(model, **settings).step(x, y)


def repeated_step(x, y):
    def steps(model):
        trainer = fm.Trainer(model.astype("float32"))
        trainer.step(X, Y)
        trainer.step(x, y)

    return steps


def setter(name, value):
    return lambda model: setattr(model.layers[0], name, value)


# (what is wrong, what is done to a model of 4 inputs and 3 outputs, exception, part of its message)
BAD = [
    ("x one-dimensional", fit(X[0]), ValueError, r"x must have shape \(n, 4\); got \(4,\)"),
    ("x three-dimensional", fit(X.reshape(3, 2, 2, 4)), ValueError, "flatten each sample"),
    ("x a number", fit(3.0), ValueError, "got the number 3.0"),
    ("x too narrow", fit(X[:, :3]), ValueError, r"the model has 4 inputs; got \(12, 3\)"),
    ("x of no rows", fit(X[:0], Y[:0]), ValueError, "at least one row"),
    ("x of no columns", fit(X[:, :0]), ValueError, r"x must have shape \(n, 4\)"),
    ("x with NaN", fit(with_value(X, np.nan)), ValueError, r"x\[5, 2\] is nan"),
    ("x with infinity", fit(with_value(X, -np.inf)), ValueError, r"x\[5, 2\] is -inf"),
    (
        "x with NaN, by columns",
        fit(np.asfortranarray(with_value(X, np.nan))),
        ValueError,
        r"x\[5, 2\] is nan",
    ),
    (
        "x too large for float32",
        fit(with_value(X.astype(np.float64), 1e39)),
        ValueError,
        r"x must be finite as float32 .*x\[5, 2\] is 1e\+39",
    ),
    ("x of strings", fit(X.astype(str)), TypeError, "x must hold real numbers"),
    ("x complex", fit(X.astype(complex)), TypeError, "got dtype complex128"),
    ("x of objects", fit(X.astype(object)), TypeError, r"x.astype\('float32'\)"),
    ("x of dates", fit(X.astype("M8[s]")), TypeError, "got dtype datetime64"),
    ("x ragged", fit([[1.0, 2.0], [3.0]], Y[:2]), ValueError, "rows differ in length"),
    ("x masked", fit(np.ma.masked_greater(X, 0)), ValueError, "masked"),
    ("x None", fit(None), TypeError, "got dtype object"),
    ("y missing", fit(X, None), TypeError, "y is missing"),
    ("y too short", fit(X, Y[:11]), ValueError, "same number of rows"),
    ("y too wide", fit(X, np.c_[Y, Y]), ValueError, r"y must have the shape \(12, 3\)"),
    ("y of floats in place of labels", fit(X, LABELS * 1.0), ValueError, "must be integers"),
    ("y with NaN", fit(X, with_value(Y, np.nan)), ValueError, r"y\[5, 2\] is nan"),
    ("y of strings", fit(X, LABELS.astype(str)), TypeError, "y must hold real numbers"),
    ("label too large", fit(X, with_value(LABELS, 3, 7)), ValueError, "got 3 at index 7"),
    ("label negative", fit(X, with_value(LABELS, -1, 7)), ValueError, "got -1 at index 7"),
    ("weights too short", fit(sample_weight=np.ones(11)), ValueError, "sample_weight"),
    ("weight negative", fit(sample_weight=np.r_[-1, [1] * 11]), ValueError, ">= 0"),
    ("weight NaN", fit(sample_weight=np.full(12, np.nan)), ValueError, "finite"),
    ("weights all zero", fit(sample_weight=np.zeros(12)), ValueError, "zero for all"),
    ("loss unknown", fit(loss="mes"), ValueError, "did you mean 'mse'"),
    (
        "loss behind another activation",
        lambda model: fm.MLP([4, 3], output_activation="tanh").fit(X, LABELS, **LOGITS),
        ValueError,
        "'cross_entropy' needs the output activation 'identity' or 'softmax'",
    ),
    (
        "loss behind the activation of another one",
        lambda model: fm.MLP([4, 3], output_activation="sigmoid").fit(X, LABELS, **LOGITS),
        ValueError,
        "got 'sigmoid', which goes with the loss 'bce'",
    ),
    ("loss of another kind", fit(loss=3), TypeError, "loss must be"),
    ("optimizer unknown", fit(optimizer="adamm"), ValueError, "did you mean 'adam'"),
    ("optimizer a class", fit(optimizer=fm.Adam), TypeError, "class Adam"),
    ("batch_size zero", fit(batch_size=0), ValueError, "batch_size"),
    ("batch_size a float", fit(batch_size=32.0), TypeError, "batch_size"),
    ("batch_size a word", fit(batch_size="all"), ValueError, "'full'"),
    ("epochs negative", fit(epochs=-1), ValueError, "epochs must be an integer >= 1"),
    ("epochs a boolean", fit(epochs=True), TypeError, "epochs"),
    ("shuffle a number", fit(shuffle=1), TypeError, "shuffle must be True or False"),
    ("seed negative", fit(seed=-1), ValueError, "seed"),
    ("validation_data no pair", fit(validation_data=X), TypeError, "validation_data must be"),
    (
        "validation_data too narrow",
        fit(validation_data=(X[:, :3], Y)),
        ValueError,
        "validation_data: x must have shape",
    ),
    ("validation_split too large", fit(validation_split=1.0), ValueError, "validation_split"),
    (
        "validation_split of no rows",
        fit(X[:1], Y[:1], validation_split=0.5),
        ValueError,
        "0 of 1 rows for training",
    ),
    (
        "validation_split of rows without weight",
        fit(validation_split=0.25, sample_weight=np.repeat([1.0, 0.0], [9, 3])),
        ValueError,
        "validation_split 0.25 leaves none of another weight for validation",
    ),
    (
        "validation_split of all rows with weight",
        fit(validation_split=0.25, sample_weight=np.repeat([0.0, 1.0], [9, 3])),
        ValueError,
        "validation_split 0.25 leaves none of another weight for training",
    ),
    ("metric unknown", fit(metrics=["acuracy"]), ValueError, "did you mean 'accuracy'"),
    ("metrics a string", fit(metrics="accuracy"), TypeError, r"\['accuracy'\]"),
    ("metric twice", fit(metrics=["mae", "mae"]), ValueError, "'mae' is there twice"),
    ("callback of another kind", fit(callbacks=[print]), TypeError, r"callbacks\[0\]"),
    ("threads zero", fit(threads=0), ValueError, "threads must be an integer >= 1"),
    ("threads beyond reason", fit(threads=10**9), ValueError, "threads must be an integer >= 1"),
    ("backend unknown", fit(backend="numpy"), ValueError, "'native', 'reference'"),
    ("l2 negative", fit(l2=-0.1), ValueError, "l2 must be"),
    ("learning rate negative", lambda model: fm.SGD(lr=-1.0), ValueError, "lr of sgd"),
    ("learning rate NaN", lambda model: fm.SGD(lr=float("nan")), ValueError, "lr of sgd"),
    ("momentum too large", lambda model: fm.SGD(momentum=1.5), ValueError, "momentum"),
    ("beta one", lambda model: fm.Adam(betas=(0.9, 1.0)), ValueError, r"betas of adam\[1\]"),
    (
        "group of nothing",
        fit(optimizer=fm.SGD(groups=[("9.*", {"lr": 0.1})])),
        ValueError,
        "fits none of",
    ),
    ("sizes alone", new_model([4]), ValueError, "at least two"),
    ("sizes a number", new_model(4), TypeError, "sizes must be a sequence"),
    ("size zero", new_model([4, 0]), ValueError, r"sizes\[1\]"),
    ("size a float", new_model([4, 2.0]), TypeError, r"sizes\[1\]"),
    ("sizes that overflow", new_model([2**30, 2**30]), ValueError, "sizes overflow"),
    ("size beyond 32 bits", new_model([2**31, 1]), ValueError, r"sizes\[0\]"),
    ("dtype unknown", new_model([4, 3], dtype="float16"), ValueError, "'float32', 'float64'"),
    ("dtype an integer", new_model([4, 3], dtype=int), ValueError, "dtype must be one of"),
    ("dtype None", new_model([4, 3], dtype=None), TypeError, "dtype"),
    ("activation unknown", new_layer(3, "rleu"), ValueError, "did you mean 'relu'"),
    ("activation a number", new_layer(3, 1), TypeError, "of type Activation; got 1"),
    ("units a string", new_layer("3"), TypeError, "units must be an integer >= 1"),
    ("bias a number", new_layer(3, bias=0), TypeError, "bias must be True or False"),
    ("initializer unknown", new_layer(3, initializer="he"), ValueError, "initializer"),
    (
        "initializer of another shape",
        lambda model: fm.Sequential(
            [fm.Dense(3, initializer=lambda shape, rng: np.zeros(3))], input_size=4
        ),
        ValueError,
        r"initializer of 0.weight must return shape \(4, 3\)",
    ),
    ("no layers", lambda model: fm.Sequential([]), ValueError, "at least one layer"),
    ("a layer that is none", lambda model: fm.Sequential([10]), TypeError, r"Dense\(10\)"),
    ("a layer twice", twice, ValueError, "in the model twice"),
    ("a layer of another model", borrowed, ValueError, "belongs to another model"),
    (
        "Standardize behind",
        lambda model: fm.Sequential([fm.Dense(3), fm.Standardize()]),
        ValueError,
        "must be the first layer",
    ),
    ("predict too narrow", lambda m: m.predict(X[:, :2]), ValueError, "the model has 4 inputs"),
    ("predict one sample", lambda m: m.predict(X[0]), ValueError, r"x\[None, :\] is one sample"),
    (
        "out of another dtype",
        lambda m: m.predict(X, out=np.empty((12, 3))),
        ValueError,
        r"out must have shape \(12, 3\) and dtype float32",
    ),
    (
        "out not contiguous",
        lambda m: m.predict(X, out=np.empty((3, 12), "f4").T),
        ValueError,
        "C-contiguous",
    ),
    ("backward first", lambda m: m.backward(Y), RuntimeError, r"call forward\(x\) first"),
    (
        "gradient of another shape",
        lambda m: (m.forward(X), m.backward(Y[:5])),
        ValueError,
        r"shape \(12, 3\) of the last output",
    ),
    ("parameter unknown", lambda m: m.parameters["2.weight"], KeyError, "0.weight, 0.bias"),
    ("parameter of another shape", set_parameter("0.bias", np.ones(6)), ValueError, r"\(5,\)"),
    ("parameter NaN", set_parameter("0.bias", np.full(5, np.nan)), ValueError, "finite"),
    ("freeze beyond", lambda m: m.freeze(2), ValueError, "layer must be an integer"),
    ("step too narrow", step(X[:, :3]), ValueError, "the model has 4 inputs"),
    ("step on ragged lists", step([[1.0], [2.0, 3.0]]), ValueError, "rows differ in length"),
    (
        "step on dates, after a step",
        repeated_step(X.astype("M8[s]"), Y),
        TypeError,
        r"x must hold real numbers .* got dtype datetime64",
    ),
    (
        "step towards dates, after a step",
        repeated_step(X, Y.astype("M8[s]")),
        TypeError,
        r"y must hold real numbers .* got dtype datetime64",
    ),
    (
        "predict dates, after a prediction",
        lambda m: [m.predict(x) for x in (X, X.astype("M8[s]"))],
        TypeError,
        r"x must hold real numbers .* got dtype datetime64",
    ),
    ("batch size an array", fit(batch_size=np.ones(2)), TypeError, "batch_size"),
    ("checkpoints at no time", fit(checkpoint_every="never"), ValueError, "checkpoint_every"),
    (
        "negative weight",
        fit(sample_weight=np.where(np.arange(12) == 7, -1, 1)),
        ValueError,
        r"sample_weight\[7\] is -1.0",
    ),
    ("bias initializer", new_layer(3, bias_initializer="?"), ValueError, "bias_initializer must"),
    ("a function as activation", new_layer(3, np.tanh), TypeError, "fastmlp.graph.activation"),
    ("another size of a layer", setter("units", 7), AttributeError, "units of Dense.5, 'relu'"),
    ("trainer of nothing", lambda m: fm.Trainer("model"), TypeError, "model must be"),
    (
        "used-up iterator",
        lambda m: m.fit(iter([(X, Y)]), epochs=2),
        ValueError,
        "gives its batches only once",
    ),
    ("empty stream", lambda m: m.fit(iter([])), ValueError, "gives no batches"),
    ("stream of arrays", lambda m: m.fit(iter([X])), TypeError, "batches"),
    (
        "bad first batch of a stream",
        lambda m: m.fit([(with_value(X, np.nan), Y)]),
        ValueError,
        "batch 0: x must be finite",
    ),
    (
        "all layers frozen",
        lambda m: (m.freeze(), m.fit(X, Y)),
        ValueError,
        "no parameters to train",
    ),
]


def test_there_are_forty_kinds_of_bad_input():
    assert len({name for name, *_ in BAD}) == len(BAD) >= 40


@pytest.mark.parametrize(
    ("action", "exception", "message"), [pytest.param(*row[1:], id=row[0]) for row in BAD]
)
def test_bad_input_is_refused_before_anything_changes(action, exception, message):
    model = fm.MLP([4, 5, 3], seed=1)
    before = pickle.dumps(model)
    with pytest.raises(exception, match=message):
        action(model)
    model.unfreeze()
    assert pickle.dumps(model) == before
    model.fit(X, Y)  # and it is as usable as before


@pytest.mark.parametrize(
    "action", [fit(with_value(X, np.nan)), fit(X, Y[:3]), fit(epochs=0), fit(loss="?")]
)
def test_a_model_without_sizes_stays_without_them(action):
    model = fm.Sequential([fm.Standardize(), fm.Dense(3)])
    with pytest.raises(ValueError, match="must"):
        action(model)
    assert model.input_size is None
    assert model.needs_data


def same_as(x, y=None, *, tolerance=0.0, dtype="float32", **settings):
    """Return an action that trains on some form of X and Y, and on X and Y themselves."""

    def train(backend):
        results = []
        for data in ((x, Y if y is None else y), (X, Y)):
            model = fm.MLP([4, 5, 3], dtype=dtype, seed=1)
            model.fit(*data, batch_size=5, epochs=2, backend=backend, **settings)
            results.append([model.flat_parameters.array().copy(), model.predict(data[0])])
        for actual, expected in zip(*results, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)

    return train


def strided():
    frame = np.full((25, 9), np.nan, np.float32)
    frame[1::2, 1::2] = X
    return frame[1::2, 1::2]


def packed_records():
    """Return a view that is not aligned, out of records of 17 bytes."""
    records = np.zeros(12, [("flag", "u1"), ("x", "f4", 4)])
    records["x"] = X
    return records["x"]


def read_only():
    frozen = X.copy()
    frozen.flags.writeable = False
    return frozen


class Table:
    """What converts itself, as data frames and tensors do."""

    def __array__(self, dtype=None, copy=None):
        return X if dtype is None else X.astype(dtype)


SMALL_INTEGERS = np.random.default_rng(3).integers(0, 100, (12, 4))


def integers(dtype):
    """Return an action that trains on integers of some type, and on the same numbers as floats."""

    def train(backend):
        results = []
        numbers = SMALL_INTEGERS.astype(dtype)
        for x in (numbers, numbers.astype(np.float32)):
            model = fm.MLP([4, 5, 3], seed=1)
            model.fit(x, Y, optimizer=fm.SGD(lr=1e-5), batch_size=5, backend=backend)
            results.append(model.predict(x, backend=backend))
        np.testing.assert_array_equal(*results)

    return train


def broadcast(backend):
    x = np.broadcast_to(X[:1], (12, 4))
    losses = [
        fm.MLP([4, 5, 3], seed=1).fit(data, Y, backend=backend).history["loss"]
        for data in (x, x.copy())
    ]
    assert losses[0] == losses[1]


def half_floats(backend):
    x = X.astype(np.float16)
    models = [fm.MLP([4, 5, 3], seed=1) for _ in range(2)]
    models[0].fit(x, Y, backend=backend)
    models[1].fit(x.astype(np.float32), Y, backend=backend)
    np.testing.assert_array_equal(models[0].predict(x), models[1].predict(x.astype(np.float32)))


def labels(kind):
    def train(backend):
        one_hot = np.eye(3, dtype=np.float32)[LABELS]
        same_labels = [
            fm.MLP([4, 5, 3], seed=1).fit(X, y, backend=backend).history["loss"]
            for y in (kind(LABELS), one_hot)
        ]
        assert same_labels[0] == same_labels[1]

    return train


def one_output(y):
    def train(backend):
        losses = [
            fm.MLP([4, 5, 1], seed=1).fit(X, target, backend=backend).history["loss"]
            for target in (y, np.asarray(y, np.float32).reshape(12, 1))
        ]
        assert losses[0] == losses[1]

    return train


def one_sample(backend):
    model = fm.MLP([4, 5, 3], seed=1)
    history = model.fit(X[:1], Y[:1], backend=backend, epochs=3, metrics=["mae"])
    assert history.history["loss"][-1] < history.history["loss"][0]


def batch_larger_than_data(backend):
    losses = [
        fm.MLP([4, 5, 3], seed=1).fit(X, Y, batch_size=size, backend=backend).history["loss"]
        for size in (1000, 12, None, "full")
    ]
    assert all(loss == losses[0] for loss in losses)


def no_rows_to_predict(backend):
    assert fm.MLP([4, 5, 3]).predict(X[:0], backend=backend).shape == (0, 3)


def overlapping_out(backend):
    model = fm.MLP([3, 4, 3], seed=1)
    x = X[:, :3].copy()
    expected = model.predict(x, backend=backend)
    model.predict(x, out=x, backend=backend)
    np.testing.assert_array_equal(x, expected)


def memory_mapped(backend):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "x.npy")
        np.save(path, X)
        same_as(np.load(path, mmap_mode="r"))(backend)


def numpy_integers_as_settings(backend):
    fm.MLP(np.array([4, 5, 3]), seed=np.int64(1)).fit(
        X, Y, batch_size=np.int32(5), epochs=np.uint8(2), backend=backend
    )


def standardized(x):
    def train(backend):
        model = fm.Sequential([fm.Standardize(), fm.Dense(3)])
        history = model.fit(x, Y, backend=backend, optimizer=fm.SGD(lr=0.1), epochs=2)
        assert np.isfinite(history.history["loss"]).all()
        moved = model.predict(np.vstack([x[:1], x[:1] * 0 + x.mean(axis=0)]), backend=backend)
        assert np.isfinite(moved).all()

    return train


GOOD = {
    "float64": same_as(X.astype(np.float64)),
    "float16": half_floats,
    "long double": same_as(X.astype(np.longdouble)),
    "Fortran order": same_as(np.asfortranarray(X), np.asfortranarray(Y)),
    "strided": same_as(strided()),
    "reversed": same_as(X[::-1].copy()[::-1], Y[::-1].copy()[::-1]),
    "foreign byte order": same_as(X.astype(X.dtype.newbyteorder())),
    "not aligned": same_as(packed_records()),
    "read-only": same_as(read_only()),
    "memory-mapped": memory_mapped,
    "lists": same_as(X.tolist(), Y.tolist()),
    "tuples of array.array": same_as(tuple(array.array("f", row) for row in X)),
    "memoryview": same_as(memoryview(X)),
    "what converts itself": same_as(Table()),
    "numpy.matrix": same_as(X.view(np.matrix)),
    "masked array without a mask": same_as(np.ma.array(X)),
    "float64 model": same_as(X, Y.astype(np.float64), dtype="float64"),
    "uint8": integers(np.uint8),
    "int8": integers(np.int8),
    "int16": integers(np.int16),
    "uint16": integers(np.uint16),
    "int32": integers(np.int32),
    "uint32": integers(np.uint32),
    "int64": integers(np.int64),
    "uint64": integers(np.uint64),
    "booleans": integers(bool),
    "a broadcast row": broadcast,
    "labels of int8": labels(lambda y: y.astype(np.int8)),
    "labels of uint64": labels(lambda y: y.astype(np.uint64)),
    "labels in a list": labels(lambda y: y.tolist()),
    "labels strided": labels(lambda y: np.repeat(y, 2)[::2]),
    "targets of shape (n,)": one_output(Y[:, 0]),
    "targets in a list": one_output(Y[:, 0].tolist()),
    "integer targets of one output": one_output(LABELS),
    "boolean targets": one_output(LABELS > 0),
    "one sample": one_sample,
    "batch larger than the data": batch_larger_than_data,
    "no rows to predict": no_rows_to_predict,
    "out that is x": overlapping_out,
    "settings from NumPy": numpy_integers_as_settings,
    "a column that does not vary": standardized(np.c_[X[:, :3], np.full(12, 0.1)]),
    "columns of very different size": standardized(X * [1e-20, 1.0, 1e6, 1e18]),
    "a large offset": standardized(X + 1e6),
}


def test_there_are_twenty_kinds_of_unusual_input():
    assert len(GOOD) >= 20


@pytest.mark.parametrize("action", [pytest.param(a, id=name) for name, a in GOOD.items()])
def test_unusual_input_works(action, backend):
    action(backend)


def test_inputs_are_never_written_to(backend):
    x, y = X.copy(), Y.copy()
    model = fm.Sequential([fm.Standardize(), fm.Dense(5, "relu"), fm.Dense(3)])
    model.fit(x, y, backend=backend, epochs=2)
    model.predict(x, backend=backend)
    fm.check_gradients(model, x, y, backend=backend)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_finite_half_is_read_exactly(dtype):
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    x = halves[np.isfinite(halves)].reshape(-1, 16)
    model = fm.Sequential([fm.Dense(16)], input_size=16, dtype=dtype, seed=0)
    model.parameters["0.weight"][...] = np.eye(16)
    model.parameters["0.bias"][...] = 0
    for rows in (x, np.asfortranarray(x)):
        np.testing.assert_array_equal(model.predict(rows), x.astype(dtype))


def test_the_order_of_memory_changes_no_bit(backend):
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(size=(301, 5)) + 3.0, rng.random((301, 9)), rng.random((301, 9))
    seen = []
    for given in (np.ascontiguousarray, np.asfortranarray):
        model = fm.Sequential([fm.Standardize(), fm.Dense(9)], dtype="float64", seed=0)
        data = given(x), given(y), given(weight)
        settings = {"metrics": ["r2", "mae"], "validation_data": data, "backend": backend}
        history = model.fit(*data[:2], sample_weight=data[2], epochs=2, **settings)
        vectors = model.flat_parameters.array(), model.flat_states.array()
        seen.append((history.history, *(vector.tobytes() for vector in vectors)))
    assert seen[0] == seen[1]
