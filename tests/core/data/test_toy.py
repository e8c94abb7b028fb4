"""Truth tables, curves and text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plugrad.data as pd
from plugrad.errors import ArgumentError, DataError, DTypeError, IndexRangeError, ShapeError


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("and", lambda a, b: a and b),
        ("or", lambda a, b: a or b),
        ("xor", lambda a, b: a != b),
        ("not", lambda a: not a),
    ],
)
def test_truth_tables(name, function):
    inputs, outputs = pd.logic(name).arrays
    assert inputs.dtype == outputs.dtype == np.float32
    assert outputs.shape == (len(inputs), 1)
    assert len({tuple(row) for row in inputs.tolist()}) == len(inputs) == 2 ** inputs.shape[1]
    for row, out in zip(inputs, outputs, strict=True):
        assert out[0] == function(*row.astype(bool))


def test_xor():
    assert all(np.array_equal(a, b) for a, b in zip(pd.xor().arrays, pd.logic("xor").arrays, strict=True))


def test_logic_refuses():
    with pytest.raises(ArgumentError, match="'nand', takes 'and', 'or', 'not', 'xor'"):
        pd.logic("nand")


def test_curve():
    x, y = pd.curve(np.sin, 5, -1, 1).arrays
    assert x.dtype == y.dtype == np.float32
    assert x[:, 0].tolist() == [-1, -0.5, 0, 0.5, 1]
    assert np.array_equal(y, np.sin(np.linspace(-1, 1, 5))[:, None].astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((np.sin, 1, 0, 1), ArgumentError, "n: got 1"),
        ((np.sin, 2.5, 0, 1), ArgumentError, "n: got 2.5"),
        ((np.sin, 4, 1, 1), ArgumentError, "ends 1 and 1"),
        ((np.sin, 4, 0, float("inf")), ArgumentError, "ends 0 and inf"),
        ((np.sum, 4, 0, 1), ShapeError, r"shape \(\) of \(4, 1\)"),
        ((lambda x: np.where(x == 0, np.inf, 1), 3, -1, 1), ArgumentError, "not finite at 0"),
    ],
)
def test_curve_refuses(arguments, error, text):
    with pytest.raises(error, match=text):
        pd.curve(*arguments)


def test_text_windows():
    dataset = pd.TextDataset("abcabcab", 3)
    assert dataset.vocabulary == "abc"
    assert len(dataset) == 2
    x, y = dataset.take([0, 1])
    assert (x.dtype, x.shape) == (np.int64, (2, 3))
    assert x.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert y.tolist() == [[1, 2, 0], [1, 2, 0]]
    assert [a.tolist() for a in dataset[1]] == [x[1].tolist(), y[1].tolist()]
    with pytest.raises(IndexRangeError):
        dataset[2]


@given(st.text(min_size=2, max_size=40), st.integers(1, 10), st.integers(1, 10))
def test_text_windows_hold_the_text(text, length, stride):
    if len(text) <= length:
        with pytest.raises(DataError, match="length"):
            pd.TextDataset(text, length, stride=stride)
        return
    dataset = pd.TextDataset(text, length, stride=stride)
    assert list(dataset.vocabulary) == sorted(set(text))
    starts = range(0, len(text) - length, stride)
    assert len(dataset) == len(starts)
    for i, s in enumerate(starts):
        x, y = dataset[i]
        assert dataset.decode(x) == text[s : s + length]
        assert dataset.decode(y) == text[s + 1 : s + 1 + length]
        assert np.array_equal(dataset.take([i])[0][0], x)


def test_text_batches():
    x, y = next(iter(pd.DataLoader(pd.TextDataset("hello world", 4, stride=1), 3, as_tensors=False)))
    assert x.shape == y.shape == (3, 4)


def test_vocabulary_is_shared():
    train = pd.TextDataset("hello world", 4)
    held_back = pd.TextDataset("lower", 4, vocabulary=train.vocabulary)
    assert held_back.decode(held_back[0][0]) == "lowe"
    ordered = pd.TextDataset("abc", 2, vocabulary="cxba")
    assert ordered.encode("abc").tolist() == [3, 2, 0]
    assert ordered.decode([3, 2, 0]) == "abc"


def test_text_refuses():
    with pytest.raises(DataError, match="lacks 'd', character 3"):
        pd.TextDataset("abcd", 2, vocabulary="abc")
    with pytest.raises(DataError, match="lacks 'A', character 0"):
        pd.TextDataset("abcd", 2).encode("A")
    with pytest.raises(ArgumentError, match="'aba' repeats"):
        pd.TextDataset("abab", 2, vocabulary="aba")
    with pytest.raises(DataError, match=r"0 characters, takes at least length \+ 1 = 3"):
        pd.TextDataset("", 2)
    with pytest.raises(DTypeError, match="bytes"):
        pd.TextDataset(b"abc", 2)
    for length in (0, 1.5, True):
        with pytest.raises(ArgumentError, match="length"):
            pd.TextDataset("abc", length)
    with pytest.raises(ArgumentError, match="stride"):
        pd.TextDataset("abc", 1, stride=0)
    with pytest.raises(IndexRangeError):
        pd.TextDataset("abc", 1).decode([3])
