"""Files made to harm: what is refused, and how little memory and time that takes."""

import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest

import fastmlp as fm
import fuzz_files
from fastmlp import tensorfile
from saved import join

DATA = Path(__file__).resolve().parent / "data"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


def test_mutated_files_load_or_are_refused():
    results = fuzz_files.run(1500, seed=1)
    assert results["refused"] > 1000
    assert results["loaded"] > 20
    assert results["loaded with its optimizer"] > 20


# Headers as long as they may be, of what takes the most memory or time in Python.
LONG = tensorfile.MAX_HEADER - 1000


def described(layers, **more):
    model = {"class": "Sequential", "layers": layers, "input_size": 1, "dtype": "float32"}
    text = json.dumps({"format": 2, "model": model, **more})
    return json.dumps({"__metadata__": {"fastmlp": text}}).encode()


def repeated(text):
    return ",".join([text] * (LONG // (len(text) + 1))).encode()


def entry(shape):
    return b'{"dtype":"F32","shape":[%s],"data_offsets":[0,4]}' % shape


BOMBS = {
    "dicts": lambda: b'{"a":[%s]}' % repeated('{"":[{}]}'),
    "a long shape": lambda: b'{"a":%s}' % entry(repeated("1")),
    "a large shape": lambda: b'{"a":%s}' % entry(repeated("9" * 50)),
    "entries": lambda: json.dumps({f"{i:x}": 0 for i in range(80_000)}).encode(),
    "metadata": lambda: json.dumps(
        {"__metadata__": {f"{i:x}": "" for i in range(80_000)}}
    ).encode(),
    "layers": lambda: described([{"class": "Dense", "units": 1}] * 25_000),
    "a layer's name": lambda: described([{"class": "x" * LONG}]),
    "a pattern": lambda: described(
        [{"class": "Dense", "units": 1}],
        optimizer={
            "config": {"name": "sgd", "groups": [["[" * (LONG - 1000), {}]]},
            "vectors": [],
            "step": 0,
            "epoch": 0,
        },
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_long_headers_take_little_memory_and_time(path, bomb):
    header = BOMBS[bomb]()
    assert len(header) <= tensorfile.MAX_HEADER
    join(path, header, bytes(4))
    del header
    start = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(fm.ModelFormatError):
            fm.load(path)
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert memory < path.stat().st_size + (64 << 20)
    assert time.process_time() - start < 30


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="memory as POSIX counts it")
def test_a_model_takes_its_size_in_memory(tmp_path):
    network = fm.MLP([4096, 4096, 1])  # 64 MiB, so that a second copy would show
    network.save(tmp_path / "large")
    size = (tmp_path / "large").stat().st_size
    code = """
import sys, fuzz_files, fastmlp as fm
small, large = sys.argv[1:]
fm.load(small)
before = fuzz_files.most_memory()
fm.load(large)
print(fuzz_files.most_memory() - before)
"""
    shutil.copy(DATA / "model_format_1.safetensors", tmp_path / "small")
    folders = [str(Path(__file__).parent), str(Path(fm.__file__).parents[1])]
    result = subprocess.run(
        [sys.executable, "-c", code, "small", "large"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) < size + (16 << 20)
