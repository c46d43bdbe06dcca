"""Mutate model files and see that each loads or is refused; `test_files_hostile.py` runs a sample.

    python tests/fuzz_files.py --count 1000000

A mutated file must give a model or `ModelFormatError`: no other exception, no crash, no hang, and
no more memory than its size and 64 MiB. File number k of a seed is always the same one, so that
what fails can be looked at again: --first k --count 1.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import struct
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

import fastmlp as fm
from fastmlp import files

DATA = Path(__file__).resolve().parent / "data"
MOST_MEMORY = 64 << 20
MOST_SECONDS = 10.0
# Of the whole process, so that what goes wrong ends here and not with the machine.
MOST_ADDRESSES = 4 << 30


class Raw(str):
    """Text that stands in the JSON as it is."""


class Twice(list):
    """Pairs of a JSON object in which keys may stand twice."""


NUMBERS = [0, 1, -1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, 10**30]
VALUES = [
    *NUMBERS,
    *(float(n) for n in NUMBERS[:8]),
    0.5,
    1e308,
    5e-324,
    Raw("NaN"),
    Raw("-Infinity"),
    Raw("1e400"),
    Raw("1" * 5000),
    Raw("1." + "1" * 5000),
    Raw("-0"),
    Raw("01"),
    Raw("'x'"),
    Raw(""),
    Raw("[" * 3000),
    Raw("[" * 900 + "]" * 900),
    Raw('{"a":' * 900 + "1" + "}" * 900),
    Raw('"\\ud800"'),
    Raw('"\\u0000"'),
    None,
    True,
    False,
    [],
    {},
    "",
    "x" * 10_000,
    "0.weight",
    "__metadata__",
    "fastmlp",
    *("F32", "F64", "F16", "BF16", "I8", "BOOL", "F8_E5M2", "U64"),
    *("float32", "float64", "float16", "object", "Dense", "Standardize", "Sequential", "dense"),
    *("relu", "softmax", "sigmoid", "normal", "constant", "zeros", "adam", "sgd", "m", "v"),
    [0, 0],
    [2**63, 2**63],
    [-1, 3],
    [3.0],
    [True],
    [1] * 40,
    {"class": "Dense", "units": 2**31 - 1},
    {"class": "Standardize"},
    {"name": "normal", "stddev": -1},
    {"name": "leaky_relu", "alpha": 1e300},
]


def encode(value: object) -> str:
    """Write JSON, and what is none."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, (dict, Twice)):
        pairs = value.items() if isinstance(value, dict) else value
        return "{" + ", ".join(f"{json.dumps(k)}: {encode(v)}" for k, v in pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(encode, value)) + "]"
    return json.dumps(value)


def nodes(tree: object) -> list[tuple[list | dict, int | str]]:
    """List every place of a tree: what holds it, and where."""
    found: list[tuple[list | dict, int | str]] = []
    stack = [tree]
    while stack:
        holder = stack.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], (dict, list)):
                stack.append(holder[key])
    return found


def value(rng: random.Random) -> object:
    """Return a value of its own: what is put into a tree may be changed there."""
    return copy.deepcopy(rng.choice(VALUES))


def mutate_tree(rng: random.Random, tree: dict | list) -> object:
    """Change a few places of a JSON tree; the result may hold keys twice."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = nodes(tree)
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(8)
        if kind <= 2:
            holder[key] = value(rng)
        elif kind == 3:
            del holder[key]
        elif kind == 4:
            other, place = rng.choice(places)
            holder[key] = copy.deepcopy(other[place])
        elif kind == 5 and isinstance(holder, dict):
            name = rng.choice(["units", "0.weight", "optimizer", "x", "__metadata__", "trainable"])
            holder[name] = value(rng)
        elif kind == 6 and isinstance(holder, list) and len(places) < 2000:
            times = rng.choice((1, 2, 500))
            holder[key:key] = [copy.deepcopy(holder[key]) for _ in range(times)]
        elif isinstance(holder[key], dict) and holder[key]:
            pairs = list(holder[key].items())
            again = rng.choice(pairs)[0]
            holder[key] = Twice([*pairs, (again, value(rng))])
            break  # nothing walks through what is no dict any more
        elif isinstance(holder[key], (int, float)):
            holder[key] = holder[key] + rng.choice((-1, 1, 0.5, 2**32))
    return tree


def mutate_bytes(rng: random.Random, content: bytes, header: int) -> bytes:
    """Change, insert, remove, repeat or cut bytes; most of the interest lies in the header."""
    changed = bytearray(content)
    end = header if rng.random() < 0.8 else len(changed)
    a, b = sorted((rng.randrange(end), rng.randrange(end)))
    kind = rng.randrange(6)
    if kind == 0:
        for _ in range(rng.randint(1, 4)):
            changed[rng.randrange(end)] = rng.randrange(256)
    elif kind == 1:
        changed[a : a + rng.randrange(8)] = encode(rng.choice(VALUES)).encode()
    elif kind == 2:
        del changed[a : a + rng.randint(1, 40)]
    elif kind == 3:
        changed[a:a] = changed[a:b]
    elif kind == 4:
        del changed[rng.randrange(len(changed)) :]
    else:
        changed += bytes(rng.randint(1, 100))
    if kind in (1, 2, 3) and a >= 8 and rng.random() < 0.8:
        changed[:8] = struct.pack("<Q", max(0, header - 8 + len(changed) - len(content)))
    elif rng.random() < 0.1:
        changed[:8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**63, 2**64 - 1, header)))
    return bytes(changed)


def mutate_values(rng: random.Random, content: bytes, header: int) -> bytes:
    """Put odd numbers among the weights."""
    changed = bytearray(content)
    odd = (np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-45, 3e38)
    start = header + 4 * rng.randrange((len(content) - header) // 4)
    changed[start : start + 4] = struct.pack("<f", rng.choice(odd))
    return bytes(changed)


def split(content: bytes) -> tuple[dict, bytes]:
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def mutate(rng: random.Random, originals: list[bytes]) -> bytes:
    """Return one mutated file."""
    content = rng.choice(originals)
    header = 8 + struct.unpack("<Q", content[:8])[0]
    kind = rng.random()
    if kind < 0.35:
        return mutate_bytes(rng, content, header)
    if kind < 0.4:
        return mutate_values(rng, content, header)
    tree, data = split(content)
    if kind < 0.65:
        tree = mutate_tree(rng, tree)
    else:
        inner = json.loads(tree["__metadata__"]["fastmlp"])
        text = encode(mutate_tree(rng, inner))
        tree["__metadata__"]["fastmlp"] = text
        if kind > 0.9:
            tree = mutate_tree(rng, tree)
    text = encode(tree).encode()
    return struct.pack("<Q", len(text)) + text + data


def judge(path: Path, rng: random.Random) -> str:
    """Load a file in one of the ways; anything but a model or ModelFormatError comes through."""
    try:
        model = files.load(path)
        files.load_metadata(path)
    except fm.ModelFormatError:
        return "refused"
    for array in (*model.parameters.values(), *model.states.values()):
        assert np.isfinite(array).all()
    if rng.random() < 0.05 and model.parameter_count < 1 << 20:
        with np.errstate(all="ignore"):  # values may be odd, as a tiny scale
            y = model.predict(np.ones((2, model.input_size)), backend="reference")
        assert y.shape == (2, model.output_size)
    try:
        files.load_optimizer(path, model)
    except fm.ModelFormatError:
        return "loaded"
    return "loaded with its optimizer"


def most_memory() -> int:
    """Return the most memory that this process has had, in bytes; 0 where nobody tells."""
    try:  # Linux counts what the parent had at the fork among the child's usage, but not here
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def originals() -> list[bytes]:
    return [path.read_bytes() for path in sorted(DATA.glob("model_format_*.safetensors"))]


def run(count: int, seed: int = 0, first: int = 0, folder: str | None = None) -> Counter[str]:
    """Judge files number `first` … `first + count - 1` of a seed; return how many ended how.

    Raises
    ------
    AssertionError
        If one of them takes too much time or memory.
    Exception
        Whatever else than ModelFormatError loading one of them raises.
    """
    sources = originals()
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        path = Path(name, "model.safetensors")
        for content in sources:  # imports and caches are not the files' memory
            path.write_bytes(content)
            judge(path, random.Random(0))
        before = most_memory()
        for number in range(first, first + count):
            rng = random.Random(f"{seed} {number}")
            content = mutate(rng, sources)
            path.write_bytes(content)
            start = time.thread_time()
            try:
                results[judge(path, rng)] += 1
                seconds, memory = time.thread_time() - start, most_memory() - before
                assert seconds < MOST_SECONDS, f"{seconds:.1f} s"
                assert memory < len(content) + MOST_MEMORY, f"{memory:,} bytes of memory"
            except BaseException as error:
                error.add_note(f"file {number} of seed {seed}")
                raise
            if number % 100_000 == 99_999:
                print(f"{number + 1:,} files: {dict(results)}", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", help="where the files are written, best in memory (/dev/shm)")
    options = parser.parse_args()
    if sys.platform == "linux":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limited = hard != resource.RLIM_INFINITY  # by whoever started this, and not to be raised
        most = min(MOST_ADDRESSES, hard) if limited else MOST_ADDRESSES
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    start = time.perf_counter()
    results = run(options.count, options.seed, options.first, options.folder)
    print(f"{options.count:,} files in {time.perf_counter() - start:.0f} s: {dict(results)}")


if __name__ == "__main__":
    main()
