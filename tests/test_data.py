"""Embedded digits, the IDX and table readers, splits and one-hot encoding."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from fastmlp import data

MNIST = Path(
    os.environ.get(
        "FASTMLP_MNIST", Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"
    )
)
CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    """Write an array as IDX: the definition of the format, independent of the reader."""
    code = CODES[array.dtype.str[1:]]
    head = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write(path, content, compressed=False):
    path.write_bytes(gzip.compress(content) if compressed else content)
    return path


class TestDigits:
    def test_shape_and_range(self):
        x, y = data.load_digits()
        assert x.shape == (1797, 64)
        assert x.dtype == np.float32
        assert x.min() == 0.0
        assert x.max() == 1.0
        assert y.shape == (1797,)
        assert y.dtype == np.int64
        # The class counts that the data set's own description gives.
        assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]

    def test_first_image_is_the_published_zero(self):
        x, y = data.load_digits()
        assert (x[0] * 16).reshape(8, 8)[0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
        assert y[0] == 0

    def test_equals_scikit_learn(self):
        datasets = pytest.importorskip("sklearn.datasets")
        x, y = data.load_digits()
        expected = datasets.load_digits()
        np.testing.assert_array_equal(x * 16, expected.data)
        np.testing.assert_array_equal(y, expected.target)

    def test_results_are_ones_own(self):
        data.load_digits()[0][:] = -1
        assert data.load_digits()[0].min() == 0


class TestIdx:
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("kind", CODES)
    def test_reads_every_type(self, tmp_path, kind, compressed):
        array = np.arange(-12, 12).astype(kind).reshape(2, 3, 4)
        read = data.load_idx(write(tmp_path / "a", idx_bytes(array), compressed))
        assert read.dtype == array.dtype
        assert read.dtype.isnative
        assert read.flags.writeable
        np.testing.assert_array_equal(read, array)

    @pytest.mark.parametrize("compressed", [False, True])
    def test_reads_an_empty_array(self, tmp_path, compressed):
        array = np.empty((0, 28, 28), np.uint8)
        read = data.load_idx(write(tmp_path / "a", idx_bytes(array), compressed))
        assert read.shape == (0, 28, 28)

    def test_name_says_nothing(self, tmp_path):
        array = np.arange(5, dtype=np.uint8)
        read = data.load_idx(str(write(tmp_path / "a.gz", idx_bytes(array))))
        np.testing.assert_array_equal(read, array)

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "not an IDX file"),
            (b"\0\0\x08", "not an IDX file"),
            (b"PK\x03\x04" + bytes(100), "not an IDX file"),
            (b"\0\0\x07\x01\0\0\0\x01\0", "element type 0x07"),
            (b"\0\0\x08\x00\0", "0 dimensions"),
            (b"\0\0\x08\xff" + bytes(2000), "255 dimensions"),
            (b"\0\0\x08\x03\0\0\0\x01\0\0", "ends inside its header"),
            (idx_bytes(np.arange(10, dtype="i4"))[:-1], "truncated"),
            (idx_bytes(np.arange(10, dtype="i4"))[:8], "truncated"),
            (idx_bytes(np.arange(10, dtype="i4")) + b"\0", "more than it should"),
            (struct.pack(">HBB3I", 0, 8, 3, 0, 28, 28) + b"x", "more than it should"),
            (struct.pack(">HBB2I", 0, 8, 2, 2**32 - 1, 2**32 - 1) + bytes(64), "truncated"),
            (struct.pack(">HBB4I", 0, 0x0E, 4, *[2**32 - 1] * 4) + bytes(64), "truncated"),
            (struct.pack(">HBB3I", 0, 8, 3, 0, 2**32 - 1, 2**32 - 1), "too large"),
        ],
    )
    def test_rejects(self, tmp_path, content, message, compressed):
        path = write(tmp_path / "a", content, compressed)
        with pytest.raises(ValueError, match=message) as error:
            data.load_idx(path)
        assert str(path) in str(error.value)

    @pytest.mark.parametrize("compressed", [False, True])
    def test_a_lying_header_costs_no_memory(self, tmp_path, compressed):
        head = struct.pack(">HBB3I", 0, 8, 3, 60000, 1 << 10, 1 << 10)
        path = write(tmp_path / "a", head + bytes(100), compressed)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="truncated"):
                data.load_idx(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 20

    def test_a_gzip_bomb_is_unpacked_no_further_than_its_header_says(self, tmp_path):
        path = write(tmp_path / "a", struct.pack(">HBB1I", 0, 8, 1, 9) + bytes(1 << 24), True)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match="more than it should"):
                data.load_idx(path)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 1 << 21

    @pytest.mark.parametrize("damage", ["cut", "flip", "tail"])
    def test_rejects_damaged_gzip(self, tmp_path, damage):
        content = gzip.compress(idx_bytes(np.arange(1000, dtype="i4")))
        if damage == "cut":
            content = content[:-9]
        elif damage == "flip":
            content = content[:-6] + bytes([content[-6] ^ 1]) + content[-5:]
        else:
            content += b"garbage"
        with pytest.raises(ValueError, match="damaged"):
            data.load_idx(write(tmp_path / "a.gz", content))

    def test_every_mutation_reads_or_raises_value_error(self, tmp_path):
        rng = np.random.default_rng(0)
        plain = idx_bytes(np.arange(60, dtype="i2").reshape(3, 4, 5))
        for content in (plain, gzip.compress(plain)):
            for _ in range(500):
                mutated = bytearray(content)
                for place in rng.integers(0, len(mutated), rng.integers(1, 4)):
                    mutated[place] = rng.integers(256)
                path = write(tmp_path / "a", bytes(mutated[: rng.integers(0, len(mutated) + 1)]))
                try:
                    assert data.load_idx(path).nbytes <= 240
                except ValueError:
                    continue

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            data.load_idx(tmp_path / "none")


def write_mnist(folder, **changes):
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (6, 4, 3), np.uint8),
        "train-labels-idx1-ubyte": rng.integers(0, 10, 6, np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (2, 4, 3), np.uint8),
        "t10k-labels-idx1-ubyte": rng.integers(0, 10, 2, np.uint8),
    }
    arrays.update({name.replace("_", "-"): array for name, array in changes.items()})
    for name, array in arrays.items():
        compressed = "labels" in name
        write(folder / (name + ".gz" * compressed), idx_bytes(array), compressed)
    return arrays


class TestMnist:
    def test_reads_plain_and_compressed_files(self, tmp_path):
        arrays = write_mnist(tmp_path)
        (x_train, y_train), (x_test, y_test) = data.load_mnist(str(tmp_path))
        assert x_train.dtype == x_test.dtype == np.uint8
        assert y_train.dtype == y_test.dtype == np.int64
        assert x_test.shape == (2, 12)
        np.testing.assert_array_equal(x_train.reshape(6, 4, 3), arrays["train-images-idx3-ubyte"])
        np.testing.assert_array_equal(y_train, arrays["train-labels-idx1-ubyte"])
        np.testing.assert_array_equal(y_test, arrays["t10k-labels-idx1-ubyte"])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"train_labels_idx1_ubyte": np.zeros(5, np.uint8)}, "6 train images but 5 labels"),
            ({"t10k_images_idx3_ubyte": np.zeros((2, 3, 3), np.uint8)}, "different sizes"),
            ({"t10k_images_idx3_ubyte": np.zeros((2, 12), np.uint8)}, "expected 3 dimensions"),
            ({"train_images_idx3_ubyte": np.zeros((6, 4, 3), np.float32)}, "float32"),
            ({"train_labels_idx1_ubyte": np.zeros((6, 1), np.uint8)}, "expected 1 dimension of"),
        ],
    )
    def test_rejects_files_that_do_not_belong_together(self, tmp_path, changes, message):
        write_mnist(tmp_path, **changes)
        with pytest.raises(ValueError, match=message):
            data.load_mnist(tmp_path)

    def test_names_the_missing_file(self, tmp_path):
        write_mnist(tmp_path)
        (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
        with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
            data.load_mnist(tmp_path)

    @pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST in {MNIST} (FASTMLP_MNIST)")
    def test_the_real_one(self):
        (x_train, y_train), (x_test, y_test) = data.load_mnist(MNIST)
        assert x_train.shape == (60000, 784)
        assert x_test.shape == (10000, 784)
        assert y_train[:5].tolist() == [5, 0, 4, 1, 9]
        assert np.bincount(y_test).tolist() == [
            980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009
        ]  # fmt: skip


class TestSplit:
    @pytest.mark.parametrize("n", [2, 3, 10, 101])
    @pytest.mark.parametrize("test_size", [1, 0.25, 0.5])
    @pytest.mark.parametrize("stratify", [True, False])
    def test_parts_are_a_partition(self, n, test_size, stratify):
        if round(test_size * n) == 0:
            pytest.skip("the share rounds to nothing")
        x, y = np.arange(n)[:, None], np.arange(n) % 3
        x_train, x_test, y_train, y_test = data.train_test_split(
            x, y, test_size=test_size, stratify=stratify
        )
        assert len(x_test) == (test_size if test_size == 1 else round(test_size * n))
        assert sorted(np.concatenate([x_train, x_test])[:, 0]) == list(range(n))
        np.testing.assert_array_equal(y_train, x_train[:, 0] % 3)
        np.testing.assert_array_equal(y_test, x_test[:, 0] % 3)

    @pytest.mark.parametrize("test_size", [0.1, 0.25, 0.5, 17, 200])
    def test_every_class_has_its_share(self, test_size):
        rng = np.random.default_rng(1)
        y = rng.choice(["a", "b", "c", "d"], 300, p=[0.5, 0.3, 0.15, 0.05])
        *_, y_test = data.train_test_split(np.zeros((300, 1)), y, test_size=test_size)
        share = len(y_test) / 300
        for label in "abcd":
            exact = np.sum(y == label) * share
            assert abs(np.sum(y_test == label) - exact) < 1

    def test_seed_decides(self):
        x, y = data.load_digits()
        first = data.train_test_split(x, y, seed=3)
        again = data.train_test_split(x, y, seed=3)
        other = data.train_test_split(x, y, seed=4)
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(first[1], other[1])

    def test_order_is_random(self):
        x = np.arange(1000)
        x_train, x_test, *_ = data.train_test_split(x, x % 2)
        assert np.any(np.diff(x_train) < 0)
        assert np.any(np.diff(x_test) < 0)

    @pytest.mark.parametrize(
        ("y", "options", "error", "message"),
        [
            (np.zeros(9, int), {}, ValueError, "one row a sample"),
            (np.zeros(10), {}, ValueError, "stratify=False"),
            (np.zeros((10, 2), int), {}, ValueError, "stratify=False"),
            (np.zeros(10, int), {"test_size": 0.0}, ValueError, "test_size"),
            (np.zeros(10, int), {"test_size": 1.0}, ValueError, "test_size"),
            (np.zeros(10, int), {"test_size": 0.01}, ValueError, "leaves a set empty"),
            (np.zeros(10, int), {"test_size": float("nan")}, ValueError, "test_size"),
            (np.zeros(10, int), {"test_size": 10}, ValueError, "test_size"),
            (np.zeros(10, int), {"test_size": True}, TypeError, "test_size"),
            (np.zeros(10, int), {"test_size": "half"}, TypeError, "test_size"),
            (np.zeros(10, int), {"seed": -1}, ValueError, "seed"),
            (np.zeros(10, int), {"seed": 0.5}, TypeError, "seed"),
            (np.zeros(10, int), {"stratify": "yes"}, TypeError, "stratify"),
        ],
    )
    def test_rejects(self, y, options, error, message):
        with pytest.raises(error, match=message):
            data.train_test_split(np.zeros((10, 2)), y, **options)

    def test_rejects_a_single_sample(self):
        with pytest.raises(ValueError, match="at least 2 samples"):
            data.train_test_split(np.zeros((1, 2)), [0], test_size=1)


class TestOneHot:
    def test_encodes(self):
        assert data.one_hot([2, 0]).tolist() == [[0, 0, 1], [1, 0, 0]]
        assert data.one_hot(np.array([1], np.uint8), 4, "float64").tolist() == [[0, 1, 0, 0]]
        assert data.one_hot([1]).dtype == np.float32
        assert data.one_hot(np.empty(0, int), 3).shape == (0, 3)

    @pytest.mark.parametrize(
        ("labels", "classes", "error", "message"),
        [
            ([0.0, 1.0], None, TypeError, "labels must be integers"),
            ([[0, 1]], None, ValueError, "one dimension"),
            ([-1, 1], None, ValueError, "labels must be 0 to 1; got -1"),
            ([0, 3], 3, ValueError, "labels must be 0 to 2; got 0 to 3"),
            (np.empty(0, int), None, ValueError, "classes must be given"),
            ([0], 0, ValueError, "classes"),
            ([0], 2.0, TypeError, "classes"),
        ],
    )
    def test_rejects(self, labels, classes, error, message):
        with pytest.raises(error, match=message):
            data.one_hot(labels, classes)


class TestTables:
    def test_csv_with_header_and_named_target(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("size, kind,price\n1,a,2.5\n\n3,b,1e3\n", encoding="utf-8-sig")
        x, y = data.load_table(path, "kind")
        np.testing.assert_array_equal(x, [[1, 2.5], [3, 1000]])
        assert y.tolist() == ["a", "b"]

    @pytest.mark.parametrize(
        ("text", "kind"),
        [("1,2,3\n4,5,6", "i"), ("1,2,3\n4,5,6.5", "f"), ("1,2,a\n4,5,b", "U")],
    )
    def test_csv_without_header(self, tmp_path, text, kind):
        path = tmp_path / "a.csv"
        path.write_text(text)
        x, y = data.load_table(path)
        np.testing.assert_array_equal(x, [[1, 2], [4, 5]])
        assert y.dtype.kind == kind

    def test_target_by_index(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("1,2,3\n4,5,6\n")
        assert data.load_table(path, 0)[1].tolist() == [1, 4]
        assert data.load_table(path, "-2")[1].tolist() == [2, 5]

    @pytest.mark.parametrize(
        ("text", "target", "message"),
        [
            ("", None, "is empty"),
            ("a,b\n", None, "no samples"),
            ("a\n1\n", None, "two columns"),
            ("a,b\n1,2\n3\n", None, "line 3: 1 values where 2"),
            ("a,b\n1,2\nx,4\n", None, "line 3: 'x' is not a number"),
            ("a,b\n1,2\ninf,4\n", None, "line 3: 'inf' is not finite"),
            ("a,b\n1,2\n3,1e999\n", None, "line 3: '1e999' is not finite"),
            ("a,b\n1,2\nnan,4\n", None, "line 3: 'nan' is a missing value"),
            ("a,b,c\n1,2,3\n4,,6\n", None, "line 3: '' is a missing value"),
            ("1,?,3\n4,5,6\n", None, "line 1: '\\?' is a missing value"),
            (",2,3\n4,5,6\n", None, "line 1: '' is a missing value"),
            ("a,b\n1,0.5\n2,\n3,1.5\n", None, "line 3: '' is a missing value"),
            ("a,b\n1,cat\n2, \n3,dog\n", None, "line 3: '' is a missing value"),
            ("a,b\n1,0.5\n2,NA\n3,1.5\n", "b", "line 3: 'NA' is a missing value"),
            ("a,b\n1,2\n3_0,4\n", None, "line 3: '3_0' is not a number"),
            ("a,b\n1,2\n", "c", "no column 'c'"),
            ("a,b,a\n1,2,1\n", "a", "2 columns 'a'"),
            ("1,2\n3,4\n", "5", "no column 5"),
            ("1,2\n3,4\n", "2", "no column 2"),
        ],
    )
    def test_rejects_csv(self, tmp_path, text, target, message):
        path = tmp_path / "a.csv"
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            data.load_table(path, target)

    def test_what_may_be_a_word_is_one(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(",x,region\n0,1,NA\n1,2,EU\n")  # with the index of pandas
        x, y = data.load_table(path)
        np.testing.assert_array_equal(x, [[0, 1], [1, 2]])
        assert y.tolist() == ["NA", "EU"]
        path.write_text("1,1_2\n2,12\n")
        assert data.load_table(path)[1].tolist() == ["1_2", "12"]

    def test_rejects_what_is_not_utf_8(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_bytes(b"\xff\xfe\0\x01")
        with pytest.raises(ValueError, match="UTF-8"):
            data.load_table(path)

    def test_npz(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez(path, x=np.ones((3, 2), np.float32), y=np.arange(3))
        x, y = data.load_table(path)
        assert x.dtype == np.float32
        assert y.tolist() == [0, 1, 2]
        with pytest.raises(ValueError, match="target names a column"):
            data.load_table(path, "y")

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.ones((3, 2))}, "no array 'y'"),
            ({"x": np.ones(3), "y": np.ones(3)}, "shape"),
            ({"x": np.ones((3, 2)), "y": np.ones(2)}, "shape"),
            ({"x": np.ones((3, 2)), "y": np.array([{}, {}, {}])}, "allow_pickle"),
        ],
    )
    def test_rejects_npz(self, tmp_path, arrays, message):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(ValueError, match=message):
            data.load_table(tmp_path / "a.npz")

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04junk", b"\x93NUMPY", b"text"])
    def test_rejects_what_is_not_npz(self, tmp_path, content):
        path = write(tmp_path / "a.npz", content)
        with pytest.raises(ValueError, match="not an NPZ file"):
            data.load_table(path)

    def test_rejects_a_damaged_array(self, tmp_path):
        path = tmp_path / "x.npy"
        np.save(path, np.ones((3, 2)))
        path.write_bytes(path.read_bytes().replace(b"{'descr'", b"{{{descr'"))  # never closed
        with pytest.raises(ValueError, match="cannot be read as an array"):
            data.load_features(path)

    @pytest.mark.parametrize(("place", "value"), [(6, 1), (8, 99)])
    def test_rejects_damaged_zip_files(self, tmp_path, place, value):
        # Of the first entry of the directory: flags (encrypted) and method.
        path = tmp_path / "a.npz"
        np.savez(path, x=np.ones((3, 2)), y=np.ones(3))
        raw = bytearray(path.read_bytes())
        entry = raw.index(b"PK\x01\x02")
        raw[entry + 2 + place] = value
        path.write_bytes(raw)
        with pytest.raises(ValueError, match="not an NPZ file"):
            data.load_table(path)

    def test_rejects_other_names(self, tmp_path):
        with pytest.raises(ValueError, match=r"\.csv or \.npz"):
            data.load_table(tmp_path / "a.parquet")
