"""Datasets: examples, batches, subsets, maps, and what they refuse."""

import ml_dtypes
import numpy as np
import pytest

import plugrad.data as pd
from plugrad.data.dataset import as_dataset
from plugrad.errors import ArgumentError, DataError, DTypeError, IndexRangeError, ShapeError

X = np.arange(12, dtype=np.float64).reshape(6, 2)
Y = np.arange(6)


class Squares(pd.Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        if not -5 <= index < 5:
            raise IndexError
        return {"n": index, "square": (float(index) ** 2, np.full(2, index, np.int8))}


def test_examples_are_rows():
    dataset = pd.ArrayDataset(X, Y)
    assert len(dataset) == 6
    x, y = dataset[2]
    assert x.tolist() == [4, 5]
    assert y == 2
    assert dataset[-1][1] == 5
    assert [int(y) for _, y in dataset] == list(range(6))


def test_one_array_gives_tuples_of_one():
    assert isinstance(pd.ArrayDataset(Y)[0], tuple)
    assert len(pd.ArrayDataset(Y).take([0, 1])) == 1


def test_dict_of_arrays_gives_dicts():
    dataset = pd.ArrayDataset({"x": X, "y": Y})
    assert dataset[1].keys() == {"x", "y"}
    batch = dataset.take(np.array([3, 3, -1]))
    assert batch["y"].tolist() == [3, 3, 5]


def test_dtypes_stay_and_lists_take_the_defaults():
    dataset = pd.ArrayDataset(
        X, X.astype(np.float16), X.astype(ml_dtypes.bfloat16), Y.astype(">i2"), [1, 2, 3, 4, 5, 6], [0.5] * 6
    )
    names = [a.dtype for a in dataset.take([0])]
    assert names == [np.float64, np.float16, ml_dtypes.bfloat16, np.int16, np.int64, np.float32]
    assert all(a.dtype.isnative for a in dataset.arrays)
    assert pd.ArrayDataset([X[0], X[1]]).arrays[0].dtype == np.float64


def test_arrays_are_shared_read_only_and_batches_are_copies():
    x = X.copy()
    dataset = pd.ArrayDataset(x)
    assert np.shares_memory(dataset.arrays[0], x)
    with pytest.raises(ValueError, match="read-only"):
        dataset[0][0][0] = 1
    batch = dataset.take([0])[0]
    batch[:] = -1
    assert x[0].tolist() == [0, 1]


def test_anything_with_numpy_is_copied_to_the_host():
    class OnDevice:
        def numpy(self):
            return X

    assert np.array_equal(pd.ArrayDataset(OnDevice()).arrays[0], X)


@pytest.mark.parametrize("length", [0, 1])
def test_short_sets(length):
    dataset = pd.ArrayDataset(X[:length], Y[:length])
    assert len(dataset) == length
    assert [a.shape for a in dataset.take([])] == [(0, 2), (0,)]
    assert len(list(dataset)) == length


@pytest.mark.parametrize(
    ("arrays", "error", "text"),
    [
        ((), ArgumentError, "no array"),
        (({},), ArgumentError, "no array"),
        ((X, Y[:5]), ShapeError, r"0: \(6, 2\), 1: \(5,\)"),
        (({"x": X, "y": Y[1:]},), ShapeError, r"'x': \(6, 2\), 'y': \(5,\)"),
        ((np.float32(1),), ShapeError, "no axis"),
        (([[1], [1, 2]],), ShapeError, "ragged"),
        ((np.array(["a", "b"]),), DTypeError, "<U1"),
        ((X.astype(complex),), DTypeError, "complex128"),
        ((X.astype(object),), DTypeError, "object"),
    ],
)
def test_arrays_that_are_refused(arrays, error, text):
    with pytest.raises(error, match=text):
        pd.ArrayDataset(*arrays)


@pytest.mark.parametrize(
    "dataset",
    [
        pd.ArrayDataset(X, Y),
        pd.Subset(pd.ArrayDataset(X, Y), range(6)),
        pd.ArrayDataset(X, Y).map(lambda x, y: (x, y)),
        pd.ArrayDataset(X, Y).map(lambda x, y: (x, y), batched=True),
        as_dataset("test", list(zip(X, Y, strict=True))),
    ],
)
def test_indices_are_checked(dataset):
    for index in (6, -7):
        with pytest.raises(IndexRangeError, match=str(index)):
            dataset[index]
        with pytest.raises(IndexRangeError, match=str(index)):
            dataset.take([0, index])
    with pytest.raises(DTypeError, match="takes an integer"):
        dataset[0:2]
    with pytest.raises(DTypeError, match="takes integers"):
        dataset.take([0.0])
    with pytest.raises(DTypeError, match="flatnonzero"):
        dataset.take(np.array([True] * 6))
    with pytest.raises(ShapeError, match=r"\(1, 2\)"):
        dataset.take([[0, 1]])
    with pytest.raises(IndexRangeError):
        dataset.take(np.array([2**64 - 1], np.uint64))
    assert [int(y) for _, y in dataset] == list(range(6))


def test_a_class_of_ones_own_is_collated():
    dataset = Squares()
    batch = dataset.take([1, -1])
    assert batch["n"].tolist() == [1, -1 % 5]
    assert batch["n"].dtype == np.int64
    assert batch["square"][0].dtype == np.float32
    assert batch["square"][1].dtype == np.int8
    assert batch["square"][1].shape == (2, 2)


def test_subset():
    subset = pd.Subset(pd.ArrayDataset(X, Y), [4, 1, -1])
    assert len(subset) == 3
    assert subset.indices.tolist() == [4, 1, 5]
    assert subset[0][1] == 4
    assert subset.take([2, 0])[1].tolist() == [5, 4]
    assert pd.Subset(subset, [1]).take([0])[1].tolist() == [1]
    assert len(pd.Subset(subset, [])) == 0
    with pytest.raises(IndexRangeError):
        pd.Subset(subset, [3])


def test_map():
    calls = []

    def double(x, y):
        calls.append(x.shape)
        return 2 * x, y

    dataset = pd.ArrayDataset(X, Y).map(double)
    assert calls == []
    assert len(dataset) == 6
    assert dataset[1][0].tolist() == [4, 6]
    assert np.array_equal(dataset.take([3, 1])[0], 2 * X[[3, 1]])
    assert calls == [(2,)] * 3
    batched = pd.ArrayDataset(X, Y).map(double, batched=True)
    assert batched[1][0].tolist() == [4, 6]
    assert np.array_equal(batched.take([3, 1])[0], 2 * X[[3, 1]])
    assert calls[3:] == [(1, 2), (2, 2)]


def test_map_of_dicts_and_arrays():
    dataset = pd.ArrayDataset({"x": X}).map(lambda e: {"x": e["x"] + 1, "n": 1.5}, batched=False)
    assert dataset.take([0, 1])["n"].dtype == np.float32
    assert dataset.map(lambda e: e["x"])[0].tolist() == [1, 2]
    assert pd.ArrayDataset({"x": X}).map(lambda e: {"x": -e["x"]}, batched=True)[1]["x"].tolist() == [-2, -3]


def test_as_dataset():
    assert as_dataset("test", [1, 2, 3]).take([2, 0]).tolist() == [3, 1]
    assert as_dataset("test", X).take([2]).tolist() == [[4, 5]]
    with pytest.raises(DTypeError, match=r"test: got a tuple.*ArrayDataset\(\*arrays\)"):
        as_dataset("test", (X, Y))
    with pytest.raises(DTypeError, match=r"dict.*ArrayDataset\(arrays\)"):
        as_dataset("test", {"x": X})
    with pytest.raises(DTypeError, match="generator"):
        as_dataset("test", (i for i in range(3)))


def test_collate_promotes():
    assert pd.collate([1, 2.5]).dtype == np.float32
    assert pd.collate([True, False]).dtype == np.bool_
    assert pd.collate([np.float32(1), np.float64(2)]).dtype == np.float64
    assert pd.collate([np.int8(1), np.uint8(2)]).dtype == np.int16
    assert pd.collate([np.float16(1), ml_dtypes.bfloat16(2)]).dtype == np.float32
    assert pd.collate([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("examples", "error", "text"),
    [
        ([], DataError, "no example"),
        ([np.zeros(2), np.zeros(3)], ShapeError, r"\(2,\) and \(3,\)"),
        ([(1, 2), (1,)], DataError, "tuple of 2"),
        ([(1, 2), 1], DataError, "tuple of 2"),
        ([1, (1, 2)], DataError, "another is a tuple"),
        ([{"a": 1}, {"b": 1}], DataError, r"dict of \['a'\]"),
        (["text"], DTypeError, "str"),
        ([None], DTypeError, "NoneType"),
        ([np.uint64(1), np.int64(1)], DTypeError, "do not promote"),
    ],
)
def test_collate_refuses(examples, error, text):
    with pytest.raises(error, match=text):
        pd.collate(examples)
