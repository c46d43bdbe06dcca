"""The benchmarks compute what they say: the same numbers, the right counts, the right tables."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
_reason = "benchmarks/ is not beside tests/"
workloads = pytest.importorskip("workloads", reason=_reason)
bench_calls = pytest.importorskip("bench_calls", reason=_reason)
bench_toolbox = pytest.importorskip("bench_toolbox", reason=_reason)
harness = pytest.importorskip("harness", reason=_reason)
instruction_counts = pytest.importorskip("instruction_counts", reason=_reason)
machine = pytest.importorskip("machine", reason=_reason)
mnist_accuracy = pytest.importorskip("mnist_accuracy", reason=_reason)
nielsen_table = pytest.importorskip("nielsen_table", reason=_reason)
numpy_loop = pytest.importorskip("peers.numpy_loop", reason=_reason)
peers = pytest.importorskip("peers", reason=_reason)
random_networks = pytest.importorskip("random_networks", reason=_reason)
report = pytest.importorskip("report", reason=_reason)
scaling = pytest.importorskip("scaling", reason=_reason)

EPS = float(np.finfo(np.float32).eps)
BY_HAND = workloads.Workload("by hand", (2, 2, 1), "relu", 2, "sgd", 1, lr=0.1)
SMALL = workloads.Workload("small", (5, 7, 4, 3), "tanh", 6, "adam", 8, lr=0.01)


def first(peer, workload, variant=None):
    """A peer's callable, and what its first call returns."""
    module = peers.load(peer)
    call = module.setup(workload, workload.data(), variant or module.VARIANTS[0])
    return call, call()


# --- the hand-written loop ---


def data_by_hand():
    x = np.array([[1, 2], [-1, 3]], np.float32)
    y = np.array([[3], [5]], np.float32)
    first_layer = (np.array([[1, 0], [0, 1]], np.float32), np.array([0, -1], np.float32))
    second_layer = (np.array([[1], [2]], np.float32), np.array([0.5], np.float32))
    return workloads.Data(x, y, (first_layer, second_layer), None)


def test_numpy_loop_is_the_calculation_by_hand():
    # z = [[1, 1], [-1, 2]], a = [[1, 1], [0, 2]], ŷ = [3.5, 4.5], errors [0.5, -0.5],
    # gradient of the mean square: the errors themselves (2/2 of them).
    # dW₂ = aᵀd = [0.5, -0.5], db₂ = 0; dz = [[0.5, 1], [0, -1]];
    # dW₁ = xᵀdz = [[0.5, 2], [1, -1]], db₁ = [0.5, 0].
    network = numpy_loop.Network(BY_HAND, data_by_hand())
    assert network.epoch() == pytest.approx(0.25, rel=4 * EPS)
    # Rows are outputs, the bias is the last column.
    expected = [[1 - 0.05, -0.1, -0.05], [-0.2, 1 + 0.1, -1]]
    np.testing.assert_allclose(network.w[0], expected, rtol=4 * EPS, atol=EPS)
    np.testing.assert_allclose(network.w[1], [[1 - 0.05, 2 + 0.05, 0.5]], rtol=4 * EPS)


def test_adam_and_momentum_start_as_by_hand():
    # Adam's first step is lr·sign(g); momentum's is plain SGD's.
    adam = numpy_loop.Network(replace(BY_HAND, optimizer="adam"), data_by_hand())
    before = adam.w[0].copy()
    adam.epoch()
    moved = [[-0.1, -0.1, -0.1], [-0.1, 0.1, 0]]
    np.testing.assert_allclose(adam.w[0] - before, moved, rtol=1e-6, atol=1e-7)
    momentum = numpy_loop.Network(replace(BY_HAND, optimizer="momentum"), data_by_hand())
    momentum.epoch()
    np.testing.assert_allclose(momentum.w[1], [[0.95, 2.05, 0.5]], rtol=4 * EPS)


def test_prediction_is_the_forward_pass():
    workload = replace(BY_HAND, kind="predict")
    predict = numpy_loop.setup(workload, data_by_hand(), numpy_loop.VARIANTS[0])
    np.testing.assert_allclose(predict(), [[3.5], [4.5]], rtol=4 * EPS)


# --- the peers agree ---


@pytest.mark.parametrize("optimizer", workloads.OPTIMIZERS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
def test_plain_python_and_numpy_agree(activation, optimizer):
    workload = replace(
        SMALL, activation=activation, optimizer=optimizer, output_activation="sigmoid"
    )
    one, loss_one = first("numpy_loop", workload)
    two, loss_two = first("pure_python", workload)
    # Roundings of one step (sums of at most 7, some ten operations) times the steps behind it.
    bound = 20 * workload.batches * EPS
    assert loss_one == pytest.approx(loss_two, rel=bound)
    assert one() == pytest.approx(two(), rel=2 * bound)


@pytest.mark.parametrize("peer", ["fastmlp_trainer", "pytorch", "jax_scan"])
@pytest.mark.parametrize(
    ("optimizer", "shuffled"), [("sgd", False), ("momentum", True), ("adam", False)]
)
def test_peers_agree_with_numpy(peer, optimizer, shuffled):
    # In a process of its own, as the benchmarks run it: the loss of the first epoch.
    if peers.version(peer) is None:
        pytest.skip(f"{peers.load(peer).REQUIRES} is not installed")
    # fastmlp draws an order of its own: it is held to the rows as they stand.
    shuffled = shuffled and peer != "fastmlp_trainer"
    workload = replace(SMALL, optimizer=optimizer, shuffled=shuffled)
    _, expected = first("numpy_loop", workload)
    variant = peers.Variant("test", threads=1, options={"shuffle": False})
    process = harness.Process(threads=1)
    try:
        answer = process.ask(
            do="setup",
            peer=peer,
            variant=vars(variant),
            workload=workload.as_dict(),
            seed=0,
        )
    finally:
        process.close()
    assert answer["value"] == pytest.approx(expected, rel=20 * workload.batches * EPS)


def test_scikit_learn_agrees_with_numpy():
    pytest.importorskip("sklearn")
    workload = replace(SMALL, optimizer="sgd")
    _, expected = first("numpy_loop", workload)
    _, loss = first("scikit_learn", workload)
    assert loss == pytest.approx(expected, rel=20 * workload.batches * EPS)


def test_bytes_and_shuffling_are_what_float_rows_in_that_order_are():
    workload = replace(
        SMALL, x_dtype="uint8", shuffled=True, optimizer="sgd", lr=1e-5, sizes=(9, 6, 2)
    )
    data = workload.data()
    straight = workloads.Data(
        data.x[data.order].astype(np.float32), data.y[data.order], data.weights, None
    )
    assert data.x.dtype == np.uint8
    shuffled = numpy_loop.Network(workload, data)
    in_order = numpy_loop.Network(replace(workload, shuffled=False), straight)
    assert shuffled.epoch() == in_order.epoch()
    np.testing.assert_array_equal(shuffled.weights, in_order.weights)


# --- the table of workloads ---


def test_flops_are_counted_as_published():
    # 6·(8·32 + 32·32 + 32·1)·32 less 2·8·32·32, and so on.
    assert workloads.get("tiny").flops == 235_520
    assert workloads.get("nielsen").flops == (6 * (784 * 30 + 300) - 2 * 784 * 30) * 10
    assert workloads.get("predict_tiny").flops == 2 * (8 * 32 + 32 * 32 + 32)
    assert workloads.get("tiny").parameters == 9 * 32 + 33 * 32 + 33
    assert [workloads.get(name).batches for name in workloads.SIX] == [400, 400, 200, 100, 40, 4]


def test_unknown_workload_names_the_closest():
    with pytest.raises(ValueError, match="did you mean 'nielsen'"):
        workloads.get("nielson")


def test_random_networks_are_the_same_everywhere_and_in_range():
    rows = workloads.random_workloads(seed=3, count=60)
    assert rows == workloads.random_workloads(seed=3, count=60)
    assert rows[:30] == workloads.random_workloads(seed=3)
    assert rows != workloads.random_workloads(seed=4, count=60)
    depths = {len(row.sizes) - 1 for row in rows}
    assert depths == set(range(1, 9))
    widths = {size for row in rows for size in row.sizes}
    assert min(widths) >= 1
    assert 500 < max(widths) <= 700
    assert any(width % 2 for width in widths)
    assert all(1 <= row.batch <= 400 for row in rows)
    assert {row.optimizer for row in rows} == set(workloads.OPTIMIZERS)


def test_a_workload_travels_as_json_and_its_data_are_seeded():
    row = workloads.random_workloads(count=1)[0]
    assert workloads.Workload(**json.loads(json.dumps(row.as_dict()))) == row
    one, two = SMALL.data(1), SMALL.data(1)
    np.testing.assert_array_equal(one.x, two.x)
    assert not np.array_equal(one.x, SMALL.data(2).x)
    assert [w.shape for w, _ in one.weights] == [(5, 7), (7, 4), (4, 3)]


# --- measuring ---


def test_a_comparison_measures_in_turn_and_names_what_it_skips(monkeypatch):
    monkeypatch.setattr(harness, "SETTLE", 0.0)
    monkeypatch.setattr(peers.load("pytorch"), "REQUIRES", "no_such_package")
    chosen, skipped = harness.contestants(("numpy_loop", "pytorch"))
    assert [name for name, _ in chosen] == ["numpy_loop", "numpy_loop"]
    assert skipped == [("PyTorch", "", "no_such_package is not installed")]
    plain = ("pure_python", peers.Variant("loops", threads=1))
    result = harness.compare(SMALL, [*chosen, plain], rounds=2, seconds=0.001)
    assert [len(row.means) for row in result.rows] == [2, 2, 2]
    assert all(0.0 < row.best <= row.median < 60.0 for row in result.rows)
    values = [row.value for row in result.rows]
    assert values == pytest.approx([values[0]] * 3, rel=20 * SMALL.batches * EPS)
    assert json.loads(json.dumps(result.as_dict()))["flops"] == SMALL.flops


def test_a_peer_that_fails_does_not_stop_the_others(monkeypatch):
    monkeypatch.setattr(harness, "SETTLE", 0.0)
    unknown = replace(SMALL, activation="none of NumPy's")
    chosen, _ = harness.contestants(("numpy_loop",))
    result = harness.compare(unknown, chosen[:1], rounds=1, seconds=0.001)
    assert result.rows == []
    ((peer, variant, reason),) = result.skipped
    assert (peer, variant) == ("NumPy", "1 thread")
    assert reason.startswith("failed: KeyError")


def test_a_worker_says_what_went_wrong():
    process = harness.Process()
    try:
        with pytest.raises(harness.WorkerFailure, match="TypeError"):
            process.ask(do="setup", workload={"no": 1}, variant={}, peer="numpy_loop", seed=0)
    finally:
        process.close()


def test_what_is_too_large_for_plain_python_is_refused():
    plain = peers.load("pure_python")
    assert plain.refuses(workloads.get("tiny"), plain.VARIANTS[0]) is None
    assert "too large" in plain.refuses(workloads.get("wide"), plain.VARIANTS[0])


@pytest.mark.parametrize(
    ("loops", "others", "quiet"),
    [
        ([1.0, 1.01, 1.02], [0.0, 0.02], True),
        ([1.0, 1.3, 1.4], [0.0, 0.02], False),
        ([1.0, 1.01, 1.02], [0.9, 1.1], False),
    ],
)
def test_a_busy_machine_is_noticed(loops, others, quiet):
    quietness = machine.Quietness()
    quietness.loops, quietness.others = loops, others
    assert quietness.quiet is quiet
    assert ("BUSY" in quietness.sentence()) is not quiet


def test_a_sample_of_quietness_leaves_the_affinity_alone():
    before = machine.processors()
    quietness = machine.Quietness()
    quietness.sample(sleep=0.01)
    assert machine.processors() == before
    assert len(quietness.loops) == machine.LOOP_REPEATS * min(8, len(before))


# --- tables ---


def row(peer, median, value=1.0):
    return harness.Row(peer, peers.load(peer).VARIANTS[0], "1.0", [median] * 3, value=value)


def result(**medians):
    rows = [row(peer, median) for peer, median in medians.items()]
    return harness.Result(workloads.get("tiny"), rows, [], 100.0, "fma peak")


def test_ratios_and_shares():
    made = result(fastmlp_trainer=2e-6, numpy_loop=4e-5, jax_scan=1e-5, pytorch=3e-4)
    heading, line = report.summary_table([made])
    cells = dict(zip(heading, line, strict=True))
    assert cells["fastmlp"] == "2.00 µs"
    assert cells["times best peer"] == "5.00"
    assert cells["times PyTorch"] == "150"
    assert cells["scikit-learn"] == "–"
    # 235,520 FLOP in 2 µs are 117.76 GFLOP/s, of a peak of 100.
    assert cells["of peak"] == "118 %"
    text = "\n".join(report.detail(made))
    assert text.index("JAX") < text.index("NumPy") < text.index("PyTorch")


def test_the_verdict_on_random_networks_counts_losses():
    results = [
        result(fastmlp_trainer=1e-6, numpy_loop=3e-6),
        result(fastmlp_trainer=1e-6, numpy_loop=5e-6),
    ]
    results[0].workload = replace(results[0].workload, name="one")
    assert "3.00 times as long as fastmlp at worst (one)" in random_networks.verdict(results)
    assert "4.00 times in the median" in random_networks.verdict(results)
    assert "Slower" not in random_networks.verdict(results)
    results[0].rows[1].means = [5e-7]
    assert random_networks.verdict(results).endswith("Slower than a peer: one.")


def test_a_peer_that_computes_something_else_is_pointed_out():
    made = result(fastmlp_trainer=1e-6, numpy_loop=3e-6, jax_scan=4e-6)
    assert report.disagreements(made) == []
    made.rows[1].value = float("nan")
    (sentence,) = report.disagreements(made)
    assert sentence.startswith("NumPy")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.468e-6, "2.47 µs"), (1.2e-8, "0.01 µs"), (2.5e-2, "25.0 ms"), (1.5, "1.50 s")],
)
def test_durations(seconds, text):
    assert report.duration(seconds) == text


def test_tables_line_up_and_become_markdown():
    table = [["", "a"], ["row", "1.5"]]
    assert report.lines_up(table) == ["       a", "row  1.5"]
    assert report.markdown(table) == ["|  | a |", "| --- | ---: |", "| row | 1.5 |"]


def test_a_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    made = result(fastmlp_trainer=2e-6, numpy_loop=4e-5)
    report.plot([made, made], tmp_path / "bars.png", "caption")
    scaling.plot({"batch": [(1, made), (2, made)]}, tmp_path / "curves.png", "caption")
    for name in ("bars.png", "curves.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_curves_vary_one_thing():
    for curve, values in scaling.CURVES.items():
        titles = {scaling.point(curve, value).title.partition(",")[0] for value in values}
        assert len(titles) == len(values)
    assert scaling.point("depth", 3).sizes == (64, 128, 128, 10)
    assert scaling.point("rows", 6400).rows == 6400
    with pytest.raises(ValueError, match="'breadth' is none of"):
        scaling.point("breadth", 1)


def test_the_published_table_takes_medians_and_the_best_of_three():
    runs = [[0.90, 0.95, 0.94], [0.91, 0.92, 0.93], [0.89, 0.90, 0.92], [0.5, 0.99, 0.98]]
    figures = nielsen_table.summary(runs)
    assert figures["first"] == pytest.approx(89.5)
    assert figures["last_median"] == pytest.approx(93.5)
    assert figures["last_best_of_three"] == pytest.approx(94.0)
    assert figures["peak_best_of_three"] == pytest.approx(95.0)


# --- instruction counts ---


def test_instructions_of_a_step_are_the_difference_of_two_runs(monkeypatch):
    few, many = instruction_counts.EPOCHS
    steps = instruction_counts.BATCHES
    # A start-up of a million, and 5,000 a step.
    monkeypatch.setattr(
        instruction_counts, "count", lambda name, epochs: 10**6 + 5000 * epochs * steps
    )
    assert many > few
    assert instruction_counts.per_step("tiny") == 5000


def test_valgrinds_count_is_read():
    text = "==1== Events    : Ir\n==1== Collected : 123456789\n==1=="
    assert instruction_counts.total(text) == 123_456_789
    with pytest.raises(ValueError, match="no instruction count"):
        instruction_counts.total("==1== nothing")
    with pytest.raises(ValueError, match="no instruction count"):  # the function was not found
        instruction_counts.total("==1== Collected : 0")


def test_a_record_stands_beside_the_script():
    record = json.loads(instruction_counts.RECORD.read_text())
    assert (record["isa"], record["threads"]) == ("avx2", 1)
    assert set(record["counts"]) == set(instruction_counts.WORKLOADS)
    for name, count in record["counts"].items():
        # An instruction of AVX2 does at most 16 floating-point operations.
        assert 1.0 < count / (workloads.get(name).flops / 16) < 6.0


def test_more_instructions_than_recorded_are_noticed():
    _, worse = instruction_counts.compare({"tiny": 10_150.0}, {"tiny": 10_000})
    assert not worse
    table, worse = instruction_counts.compare({"tiny": 10_250.0, "nielsen": 5.0}, {"tiny": 10_000})
    assert worse
    assert table[1][1:4] == ["10,250", "10,000", "+2.5 %"]
    assert table[2][3] == "new"


# --- the toolbox ---


def test_every_tool_trains_and_is_compared_with_its_plain_form():
    small = replace(SMALL, sizes=(5, 7, 4, 3), activation="relu", batches=2)
    seconds = bench_toolbox.measure(small, bench_toolbox.WAYS, 1, 1)
    assert all(len(times) == 1 and times[0] > 0 for times in seconds.values())
    assert {way.plain for way in bench_toolbox.WAYS} <= set(seconds)


def test_a_missed_goal_is_said():
    ways = [way for way in bench_toolbox.WAYS if way.name in ("plain Adam", "ema", "clip_norm")]
    seconds = {"plain Adam": [1.0, 2.0, 1.0], "ema": [1.2, 2.4, 9.0], "clip_norm": [1.3, 2.6, 1.0]}
    table, met = bench_toolbox.table_of(ways, seconds, 10)
    assert not met
    assert [row[2:] for row in table[2:]] == [["1.30", "1.25", "above"], ["1.20", "1.25", ""]]


def test_accuracies_are_compared_with_their_goals():
    runs = [mnist_accuracy.Run(accuracy, 2.0) for accuracy in (97.7, 97.9, 98.1)]
    task, other = mnist_accuracy.TASKS
    table, met = mnist_accuracy.table_of([(task, runs, 20.0), (other, runs[:1], None)])
    assert not met
    assert table[1][2:] == ["97.90", "97.70", "98.10", "97.84", "2.00", "20.00 (10.0 ×)"]
    assert table[2][-1] == "–"
    assert mnist_accuracy.table_of([(task, runs, None)])[1]


@pytest.mark.parametrize("number", range(2))
def test_a_task_trains_on_images(number):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 400)
    x = rng.random((400, 784), np.float32)
    data = {"x": x[:40], "y": np.eye(10, dtype=np.float32)[labels[:40]]}
    data |= {"x_val": x[40:], "y_val": labels[40:], "x_test": x[:20], "y_test": labels[:20]}
    run = mnist_accuracy.TASKS[number].train(data, 0, 2)
    assert 0.0 <= run.accuracy <= 100.0
    assert run.seconds > 0.0


# --- calls ---


@pytest.mark.parametrize("rows", [1, 5])
def test_all_ways_to_predict_agree(rows):
    ways = bench_calls.predictions(rows)
    results = {name: np.asarray(way()) for name, way in ways.items()}
    expected = results["NumPy"]
    # Sums of 32 terms below 1 in another order, through layers whose weights are below 1.
    for name, result in results.items():
        np.testing.assert_allclose(result, expected, atol=4 * 32 * EPS, err_msg=name)


def test_calls_are_measured_and_compared():
    seconds = bench_calls.measure(bench_calls.steps(), 1, 2)
    assert {"step(x, y)", "step, sample weights", "step, class indices"} < set(seconds)
    assert min(seconds.values()) > 0
    lines = bench_calls.table_of("1 rows", {"predict(x)": 2e-6, "NumPy": 5e-6, "PyTorch": 3e-5})
    assert lines[0] == ["1 rows", "predict(x)", "2.00 µs", "NumPy 2.5 ×, PyTorch 15.0 ×"]
    assert lines[1][3] == ""
