"""Threads and what the engine runs on; import stays cheap."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import fastmlp as fm
from fastmlp import _native, config
from fastmlp.backends import native


@pytest.fixture(autouse=True)
def no_limit():
    fm.set_num_threads(None)
    yield
    fm.set_num_threads(None)


def python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_set_and_get():
    fm.set_num_threads(3)
    assert fm.get_num_threads() == 3
    fm.set_num_threads(None)
    assert 1 <= fm.get_num_threads() <= config.usable_cores()


@pytest.mark.parametrize(
    ("value", "exception"),
    [(0, ValueError), (2000, ValueError), (1.5, TypeError), (True, TypeError)],
)
def test_wrong_numbers_of_threads(value, exception):
    fm.set_num_threads(2)
    with pytest.raises(exception, match="threads must be"):
        fm.set_num_threads(value)
    assert fm.get_num_threads() == 2


def test_the_environment_decides_unless_the_program_does(monkeypatch):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "5")
    assert fm.get_num_threads() == 5
    fm.set_num_threads(2)
    assert fm.get_num_threads() == 2


@pytest.mark.parametrize("text", ["many", "0", "-1", "1.5", "5000"])
def test_nonsense_in_the_environment_is_said(monkeypatch, text):
    monkeypatch.setenv("FASTMLP_NUM_THREADS", text)
    with pytest.raises(ValueError, match="FASTMLP_NUM_THREADS must be"):
        fm.get_num_threads()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is Linux's")
def test_affinity_and_openmp_are_respected():
    show = "print(fastmlp.get_num_threads())"
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import fastmlp; "
    assert python(one + show) == "1"
    assert python("import fastmlp; " + show, OMP_NUM_THREADS="1") == "1"


def chosen(threads=None):
    """Threads of the program that trains a network for which all of them serve."""
    model = fm.MLP([200, 300, 10], seed=0)
    trainer = fm.Trainer(model, batch_size=32, threads=threads)
    trainer.epoch(np.zeros((1056, 200)), np.zeros((1056, 10)))
    return trainer.executor.program()[2][0]


def test_a_limit_from_threadpoolctl_holds_around_training():
    threadpoolctl = pytest.importorskip("threadpoolctl")
    fm.MLP([2, 1])  # the engine is loaded
    before = fm.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        assert fm.get_num_threads() == 1
        assert chosen() == 1
        assert chosen(threads=2) == 2  # exactly, where it is said
    assert fm.get_num_threads() == before
    with threadpoolctl.threadpool_limits(1, "blas"):  # the engine is not BLAS
        assert fm.get_num_threads() == before


def test_a_limit_holds_around_training(monkeypatch):
    fm.set_num_threads(1)
    assert chosen() == 1
    fm.set_num_threads(None)
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "1")
    assert chosen() == 1


def test_a_limit_holds_at_once_for_what_runs_already(monkeypatch):
    monkeypatch.setattr(native, "_LIMIT_HOLDS", float("inf"))
    model, x = fm.MLP([64, 1024, 1024, 64]), np.ones((64, 64), np.float32)
    trainer = fm.Trainer(model, batch_size=64)
    for limit in (2, 1, 2):
        fm.set_num_threads(limit)
        for _ in range(30):  # so that the shortest way is found
            trainer.step(x, x)
        _, _, (threads, _), _ = trainer.executor.program()
        assert threads == limit  # with so much work a thread less is not even tried


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            4.0,
        ),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({}, None),
        # Without a namespace of its own: the least of the groups around it counts.
        (
            {
                "/proc/self/cgroup": "0::/batch.slice/job 7",
                "/sys/fs/cgroup/batch.slice/cpu.max": "200000 100000",
                "/sys/fs/cgroup/batch.slice/job 7/cpu.max": "max 100000",
            },
            2.0,
        ),
        (
            {
                "/proc/self/cgroup": "4:memory:/m\n3:cpu,cpuacct:/docker/1f\n0::/",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
                "/sys/fs/cgroup/cpu/docker/1f/cpu.cfs_quota_us": "50000",
                "/sys/fs/cgroup/cpu/docker/1f/cpu.cfs_period_us": "100000",
                "/sys/fs/cgroup/cpu/m/cpu.cfs_quota_us": "1",
                "/sys/fs/cgroup/cpu/m/cpu.cfs_period_us": "100000",
            },
            0.5,
        ),
    ],
)
def test_the_quota_of_a_container(monkeypatch, files, quota):
    monkeypatch.setattr(config, "_read", lambda path: files.get(path, ""))
    config._quota_of_period.cache_clear()
    assert config._quota() == quota
    if quota is not None:
        assert config.usable_cores() <= max(1, round(quota))
    config._quota_of_period.cache_clear()


def test_show_config(capsys):
    fm.show_config()
    shown = capsys.readouterr().out
    values = fm.show_config("dicts")
    assert values["fastmlp"] == fm.__version__
    assert values["instruction set"] == _native.isa()
    assert values["threads"] == fm.get_num_threads()
    json.dumps(values)
    for name in values:
        assert name in shown
    with pytest.raises(ValueError, match="'stdout', 'dicts'"):
        fm.show_config("text")


def test_an_instruction_set_can_be_forced_and_must_exist():
    code = "import fastmlp; print(fastmlp.show_config('dicts')['instruction set'])"
    assert python(code, FASTMLP_ISA="portable") == "portable"
    for name in ("mmx", *([os.fsdecode(b"\xff")] if os.name == "posix" else [])):
        result = subprocess.run(
            [sys.executable, "-c", "import fastmlp"],
            env={**os.environ, "FASTMLP_ISA": name},
            capture_output=True,
            text=True,
        )
        assert result.returncode != 0
        assert "FASTMLP_ISA is" in result.stderr


def test_more_threads_than_the_system_gives_are_refused(monkeypatch):
    class Thread(threading.Thread):
        started = 0

        def start(self):
            if Thread.started == 3:
                raise RuntimeError("can't start new thread")
            Thread.started += 1
            super().start()

    monkeypatch.setattr(config, "_most_given", 0)
    monkeypatch.setattr(config, "usable_cores", lambda: 2)
    model, (x, y) = fm.MLP([2, 1], seed=0), np.ones((2, 4, 2))
    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", Thread)
        with pytest.raises(ValueError, match=r"threads must be at most 4, .* got 9"):
            model.fit(x, y[:, 0], threads=9)
        model.fit(x, y[:, 0], threads=2)  # as many as there are cores
    model.fit(x, y[:, 0], threads=9)
    assert config._most_given == 9


def test_import_loads_nothing_that_is_not_needed():
    code = "import sys, fastmlp; print(' '.join(sys.modules))"
    loaded = set(python(code).split())
    heavy = {"tqdm", "safetensors", "json", "inspect", "matplotlib", "sklearn", "pathlib", "csv"}
    lazy = {f"fastmlp.{name}" for name in ("callbacks", "gradients", "data", "files", "metrics")}
    before = set(python("import sys, numpy; print(' '.join(sys.modules))").split())
    assert not (heavy | lazy) & loaded - before


def test_everything_public_is_there():
    for name in fm.__all__:
        assert getattr(fm, name) is not None
        assert name in dir(fm)
    with pytest.raises(AttributeError, match="'fastmlp' has no attribute 'trainer'"):
        fm.trainer  # noqa: B018
    for name in ("optimizers.RMSprop", "losses.Huber", "callbacks.EarlyStopping"):
        with pytest.raises(AttributeError, match=f"did you mean fastmlp.{name}"):
            getattr(fm, name.split(".")[1])


def test_type_checkers_see_what_is_imported_lazily():
    tree = ast.parse(Path(fm.__file__).read_text(encoding="utf-8"))
    checked = {
        name.asname: f"fastmlp.{name.name}" if item.module == "fastmlp" else item.module
        for node in tree.body
        if isinstance(node, ast.If)
        for item in node.body
        if isinstance(item, ast.ImportFrom) and item.module != "typing"
        for name in item.names
    }
    assert checked == fm._LAZY


def test_arrays_need_nothing_but_numpy(tmp_path):
    """What is imported lazily may be missing until it is used; then it is said what to install."""
    code = """
import sys
import threading
for name in ("tqdm", "safetensors", "matplotlib", "sklearn", "onnx"):
    sys.modules[name] = None
import numpy as np, fastmlp as fm
model = fm.MLP([3, 4, 2], output_activation="softmax")
x, y = np.random.default_rng(0).random((64, 3)), np.arange(64) % 2
model.fit(x, y, loss="cross_entropy", epochs=2, metrics=["accuracy"], validation_data=(x, y))
model.evaluate(x, model.predict(x), loss="mse")
for use in (lambda: model.save("m"), lambda: model.fit(x, y, loss="cross_entropy", progress=True)):
    try:
        use()
    except ImportError as error:
        print("pip install" in str(error))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(fm.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["True", "True"]
