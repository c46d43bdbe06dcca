"""Searching hyper-parameters."""

import math

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import callbacks, search


def data(n=90, classes=True, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    return x, ((x[:, 0] + x[:, 1] > 0).astype(int) + (x[:, 2] > 1) if classes else x.sum(axis=1))


def build(width=4, depth=1):
    sizes = [4, *[width] * depth, 3]
    return fm.MLP(sizes, output_activation="softmax", seed=width)


SETTINGS = {"loss": "cross_entropy", "epochs": 3, "batch_size": 16}


class TestGrid:
    def test_every_combination_is_trained_as_alone(self):
        x, y = data()
        space = {"width": [4, 6], "optimizer.lr": [1e-3, 1e-1], "batch_size": [8, 16]}
        valid = data(30, seed=1)
        found = fm.grid_search(build, space, x, y, validation_data=valid, **SETTINGS)
        assert len(found.params) == 8
        assert found.scoring == "loss"
        for params, (score,), (history,) in zip(
            found.params, found.scores, found.histories, strict=True
        ):
            model = build(params["width"])
            optimizer = fm.Adam(params["optimizer.lr"])
            settings = {**SETTINGS, "batch_size": params["batch_size"]}
            assert model.fit(x, y, optimizer=optimizer, **settings).history == history.history
            assert model.evaluate(*valid, loss="cross_entropy")["loss"] == score
        best = int(found.scores[:, 0].argmin())
        assert found.best_index == best
        assert found.best_params == found.params[best]
        assert found.best_score == found.scores[best, 0]
        # With all data to validate on given, the model fitted anew is that of the search.
        assert found.best_model.evaluate(*valid, loss="cross_entropy")["loss"] == found.best_score
        assert found.best_history.history == found.histories[best][0].history

    def test_a_template(self):
        x, y = data()
        template = fm.Sequential([fm.Standardize(), fm.Dense(5, "relu"), fm.Dense(3, "softmax")])
        template.fit(x, y, loss="cross_entropy")
        before = template.flat_parameters.array().copy()
        space = {"layers.1.units": [3, 7], "seed": [0, 1], "layers.1.activation": ["tanh"]}
        found = fm.grid_search(template, space, x, y, scoring="accuracy", **SETTINGS)
        assert [p["layers.1.units"] for p in found.params] == [3, 3, 7, 7]
        model = found.best_model
        assert model.layers[1].units == found.best_params["layers.1.units"]
        assert model.layers[1].activation.name == "tanh"
        assert model.seed == found.best_params["seed"]
        np.testing.assert_array_equal(template.flat_parameters.array(), before)

    def test_a_metric_that_is_better_when_greater(self):
        x, y = data(300)
        space = {"optimizer.lr": [0.0, 0.05]}
        settings = {**SETTINGS, "epochs": 20}
        found = fm.grid_search(build, space, x, y, scoring="accuracy", folds=3, **settings)
        assert found.best_params == {"optimizer.lr": 0.05}
        assert found.best_score > found.scores[0].mean()
        assert [row["rank"] for row in found.table] == [2, 1]

    def test_the_table(self):
        pytest.importorskip("pandas")
        x, y = data()
        found = fm.grid_search(build, {"width": [2, 3]}, x, y, folds=3, refit=False, **SETTINGS)
        frame = found.to_dataframe()
        assert list(frame) == ["width", "score", "std", "rank", "seconds", "error"]
        np.testing.assert_allclose(frame["score"], found.scores.mean(axis=1), rtol=1e-15)
        assert found.best_model is None
        assert repr(found).startswith("SearchResult of 2 trials, best loss ")

    def test_one_that_diverges_does_not_lose_the_others(self):
        x, y = data()
        space = {"optimizer.lr": [1e30, 0.1]}
        found = fm.grid_search(build, space, x, y, optimizer="sgd", **SETTINGS)
        assert math.isnan(found.scores[0, 0])
        assert found.best_index == 1
        assert "lr is 1e+30" in found.table[0]["error"]
        with pytest.raises(fm.ManyError, match="2 of 2"):
            fm.grid_search(build, {"optimizer.lr": [1e30, 2e30]}, x, y, optimizer="sgd", **SETTINGS)

    def test_callbacks_see_the_validation_data(self):
        x, y = data()
        stop = callbacks.EarlyStopping(patience=1, restore_best_weights=True)
        settings = {**SETTINGS, "epochs": 60, "optimizer": fm.Adam(0.1), "callbacks": [stop]}
        found = fm.grid_search(build, {"width": [4, 8]}, x, y, **settings)
        for (score,), (history,) in zip(found.scores, found.histories, strict=True):
            assert len(history.epoch) < 60
            assert score == min(history.history["val_loss"])
        assert found.best_history.history == found.histories[found.best_index][0].history


SPACE = {
    "width": search.Integers(2, 9),
    "optimizer.lr": search.LogUniform(1e-4, 1.0),
    "l2": search.Uniform(0.0, 0.1),
    "batch_size": [8, 16, 32],
}


class TestRandom:
    def run(self, trials=6, **settings):
        x, y = data()
        settings = {"epochs": 2, "loss": "cross_entropy", **settings}
        return fm.random_search(build, SPACE, x, y, trials=trials, **settings)

    def test_the_same_for_the_same_seed(self):
        first, second = self.run(workers=1), self.run(workers=2)
        assert first.params == second.params
        np.testing.assert_array_equal(first.scores, second.scores)
        np.testing.assert_array_equal(
            first.best_model.flat_parameters.array(), second.best_model.flat_parameters.array()
        )
        assert self.run(seed=1).params != first.params
        assert self.run(trials=3).params == first.params[:3]

    def test_draws(self):
        rng = np.random.default_rng(0)
        values = [search.LogUniform(1e-4, 1.0).sample(rng) for _ in range(2000)]
        assert 1e-4 <= min(values) < 2e-4
        assert 0.5 < max(values) <= 1.0
        assert abs(np.mean(np.array(values) < 1e-2) - 0.5) < 4 * 0.5 / math.sqrt(2000)
        assert {search.Integers(2, 4).sample(rng) for _ in range(100)} == {2, 3, 4}
        assert repr(search.Uniform(0, 1)) == "Uniform(0.0, 1.0)"

    def test_distributions_of_scipy(self):
        stats = pytest.importorskip("scipy.stats")
        x, y = data()
        space = {"optimizer.lr": stats.loguniform(1e-3, 1e-1), "width": stats.randint(2, 5)}
        found = fm.random_search(build, space, x, y, trials=3, **SETTINGS)
        assert all(1e-3 <= p["optimizer.lr"] <= 1e-1 and 2 <= p["width"] < 5 for p in found.params)


class TestSplits:
    @pytest.mark.parametrize(("folds", "count"), [(None, 1), (4, 4)])
    def test_each_row_once_and_classes_evenly(self, folds, count):
        y = np.repeat([0, 1, 2], [60, 30, 10])
        x = np.arange(100.0)[:, None]
        splits = list(search._splits((x, y, np.arange(100.0)), folds, 0.2, None, 0))
        assert len(splits) == count
        for (kept, _, _), (left, validation, weight) in splits:
            assert sorted([*kept[:, 0], *left[:, 0]]) == list(range(100))
            np.testing.assert_array_equal(y[left[:, 0].astype(int)], validation)
            np.testing.assert_array_equal(weight, left[:, 0])
            share = len(left) / 100
            for label, size in enumerate((60, 30, 10)):
                assert abs((validation == label).sum() - share * size) <= 1
        if folds:
            assert sorted(np.concatenate([s[1][0][:, 0] for s in splits])) == list(range(100))

    def test_weights_go_with_their_rows(self):
        x, y = data(classes=False)
        weight = np.linspace(0.1, 1, 90)
        template = fm.MLP([4, 3, 1])
        found = fm.grid_search(template, {"l1": [0.0, 0.1]}, x, y, sample_weight=weight, folds=3)
        (kept, left) = list(search._splits((x, y, weight), 3, None, None, 0))[1]
        model = fm.Sequential.from_config(template.config())
        model.fit(*kept[:2], sample_weight=kept[2])
        value = model.evaluate(*left[:2], sample_weight=left[2])["loss"]
        assert found.scores[0, 1] == value


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"space": {}}, ValueError, "at least one"),
        ({"space": [("width", [1])]}, TypeError, "space must be a dict"),
        ({"space": {"width": 3}}, ValueError, r"space\['width'\] must be a list"),
        ({"space": {"width": []}}, ValueError, "list of values"),
        ({"space": {"validation_split": [0.1]}}, ValueError, "gives itself"),
        ({"space": {"optimizer.lrr": [0.1]}}, ValueError, "did you mean 'lr'"),
        ({"space": {"optimizer.lr": [-1.0]}}, ValueError, "lr"),
        ({"build": 3}, TypeError, "build must be"),
        ({"build": lambda width: 3}, TypeError, "it returned 3"),
        ({"build": fm.MLP([4, 3]), "space": {"layer": [1]}}, ValueError, "did you mean 'layers'"),
        ({"build": fm.MLP([4, 3]), "space": {"lr": [1]}}, ValueError, "mean 'optimizer.lr'"),
        ({"build": fm.MLP([4, 3]), "space": {"batchsize": [1]}}, ValueError, "mean 'batch_size'"),
        ({"build": fm.MLP([4, 3]), "space": {"layers.1.units": [1]}}, ValueError, "from 0 to 0"),
        ({"build": fm.MLP([4, 3]), "space": {"seed.a": [1]}}, ValueError, "nothing inside"),
        (
            {"build": fm.MLP([4, 3], initializer=lambda shape, rng: np.zeros(shape))},
            TypeError,
            "function in a layer",
        ),
        ({"scoring": "acuracy"}, ValueError, "accuracy"),
        ({"folds": 1}, ValueError, "folds"),
        ({"folds": 91}, ValueError, "folds"),
        ({"folds": 3, "validation_data": data()}, ValueError, "not both"),
        ({"validation_data": 3}, TypeError, "validation_data"),
        ({"validation_split": 1.0}, ValueError, "validation_split"),
        ({"epoch": 3}, ValueError, "did you mean 'epochs'"),
        ({"cv": 3}, ValueError, "did you mean 'folds'"),
        ({"scorin": "loss"}, ValueError, "did you mean 'scoring'"),
        ({"refit": 1}, TypeError, "refit"),
        ({"x": np.zeros(90)}, ValueError, "one row"),
        ({"y": np.zeros(80)}, ValueError, "one row"),
    ],
)
def test_refused(changes, kind, message):
    x, y = data()
    given = {"build": build, "space": {"width": [2]}, "x": x, "y": y, **SETTINGS, **changes}
    with pytest.raises(kind, match=message):
        fm.grid_search(**given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: search.Uniform(1, 1), "high"),
        (lambda: search.LogUniform(0, 1), "low"),
        (lambda: search.Integers(3, 2), "high"),
        (lambda: fm.random_search(build, {"width": [2]}, *data(), trials=0), "trials"),
        (lambda: fm.random_search(build, {"width": 2}, *data()), "distribution"),
    ],
)
def test_refused_draws(make, message):
    with pytest.raises(ValueError, match=message):
        make()
