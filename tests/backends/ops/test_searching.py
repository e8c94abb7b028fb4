"""Searches against NumPy, with NaN, ties and the ends of the integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.lowering import apply_body
from plugrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from support.samples import operands, samples_of

FLOATS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = [*FLOATS, "int8", "int32", "int64", "uint8", "uint64"]


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_argmax_and_argmin(dtype: str, axis: int | None, device: str) -> None:
    h = np.random.default_rng(4).integers(0, 4, (3, 4, 5))
    x = pg.asarray(h, dtype=dtype, device=device)
    for op, oracle in ((pg.argmax, np.argmax), (pg.argmin, np.argmin)):
        for keepdims in (False, True):
            got = op(x, axis=axis, keepdims=keepdims)
            assert got.dtype.name == "int64"
            np.testing.assert_array_equal(got.numpy(), oracle(h, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_is_found_first(dtype: str, device: str) -> None:
    x = pg.asarray([np.inf, 1.0, np.nan, -np.inf, np.nan], dtype=dtype, device=device)
    assert pg.argmax(x).item() == 2
    assert pg.argmin(x).item() == 2


@pytest.mark.parametrize("axis", [None, 0, (0, 1), ()])
@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
def test_count_nonzero(dtype: str, axis: Any, device: str) -> None:
    h = np.random.default_rng(4).integers(0, 2, (3, 4))
    got = pg.count_nonzero(pg.asarray(h, dtype=dtype, device=device), axis=axis, keepdims=True)
    assert got.dtype.name == "int64"
    np.testing.assert_array_equal(got.numpy(), np.count_nonzero(h != 0, axis=axis, keepdims=True))


def test_nan_counts_and_the_negative_zero_does_not(device: str) -> None:
    x = pg.asarray([np.nan, -0.0, 0.0, 2.0], device=device)
    assert pg.count_nonzero(x).item() == 2
    assert pg.nonzero(x)[0].tolist() == [0, 3]


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("dtype", [*DTYPES, "bool"])
def test_nonzero(dtype: str, shape: tuple[int, ...], device: str) -> None:
    h = np.random.default_rng(4).integers(0, 2, shape)
    x = pg.asarray(h, dtype=dtype, device=device)
    got, expected = pg.nonzero(x), np.nonzero(h)
    assert isinstance(got, tuple)
    assert len(got) == len(shape)
    for g, e in zip(got, expected, strict=True):
        assert g.dtype.name == "int64"
        np.testing.assert_array_equal(g.numpy(), e)
    np.testing.assert_array_equal(pg.nonzero_indices(x).numpy(), np.array(expected).reshape(len(shape), -1))


def test_a_settled_signature_still_reads_the_shape(device: str) -> None:
    for h in ([0, 1, 1], [0, 0, 0], [1, 0, 0]):
        assert pg.nonzero(pg.asarray(h, device=device))[0].tolist() == np.nonzero(h)[0].tolist()


def test_errors(device: str) -> None:
    with pytest.raises(ShapeError, match="nonzero: takes at least one axis, got a 0-d tensor"):
        pg.nonzero(pg.asarray(1, device=device))
    with pytest.raises(ShapeError, match="argmin: axis 1 is out of range for 1 axes"):
        pg.argmin(pg.zeros(3, device=device), axis=1)
    with pytest.raises(DTypeError, match="argmax: x is bool; takes"):
        pg.argmax(pg.asarray([True], device=device))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("dtype", DTYPES)
def test_searchsorted(dtype: str, n: int, side: str, device: str) -> None:
    rng = np.random.default_rng(n)
    h = np.sort(rng.integers(0, 20, n))
    keys = rng.integers(0, 21, (4, 6))
    x, k = (pg.asarray(v, dtype=dtype, device=device) for v in (h, keys))
    got = pg.searchsorted(x, k, side=side)
    assert got.dtype.name == "int64"
    np.testing.assert_array_equal(got.numpy(), np.searchsorted(h, keys, side))
    order = rng.permutation(n)
    mixed = pg.asarray(h[order], dtype=dtype, device=device)
    sorter = pg.argsort(mixed) if n else pg.zeros(0, dtype="int64", device=device)
    np.testing.assert_array_equal(
        pg.searchsorted(mixed, k, side=side, sorter=sorter).numpy(), np.searchsorted(h, keys, side)
    )


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_searchsorted_puts_nan_last(dtype: str, side: str, device: str) -> None:
    h = np.array([-np.inf, 0.0, 1.0, np.inf, np.nan, np.nan])
    keys = np.array([np.nan, np.inf, -np.inf, -0.0, 0.5])
    got = pg.searchsorted(*(pg.asarray(v, dtype=dtype, device=device) for v in (h, keys)), side=side)
    np.testing.assert_array_equal(got.numpy(), np.searchsorted(h, keys, side))


def test_searchsorted_by_its_body(device: str) -> None:
    for sample in samples_of(pg.searchsorted):
        x1, x2, *sorter = operands(sample, "float32", device)
        body = apply_body(
            pg.searchsorted, [x1, x2, *(sorter or [None])], {"side": "left", **sample.attributes}
        )
        got = pg.searchsorted(x1, x2, *sorter, **sample.attributes)
        np.testing.assert_array_equal(body.numpy(), got.numpy())
    h = np.array([0.0, 1.0, np.nan, np.nan])
    keys = np.array([np.nan, 1.0, 0.5])
    for side in ("left", "right"):
        args = [pg.asarray(h, device=device), pg.asarray(keys, device=device), None]
        body = apply_body(pg.searchsorted, args, {"side": side})
        np.testing.assert_array_equal(body.numpy(), np.searchsorted(h, keys, side))


def test_searchsorted_promotes(device: str) -> None:
    x = pg.asarray([1, 2, 3], device=device)
    assert pg.searchsorted(x, pg.asarray([2.5], device=device)).tolist() == [2]


def test_errors_of_searchsorted(device: str) -> None:
    x = pg.asarray([1.0, 2.0, 3.0], device=device)
    with pytest.raises(ShapeError, match=r"searchsorted: x1 takes one axis, got shape \(1, 3\)"):
        pg.searchsorted(x.reshape(1, 3), x)
    with pytest.raises(ArgumentError, match="searchsorted: side takes 'left' or 'right', got 'middle'"):
        pg.searchsorted(x, x, side="middle")
    with pytest.raises(ShapeError, match=r"searchsorted: sorter takes the shape of x1, \(3,\), got \(2,\)"):
        pg.searchsorted(x, x, sorter=pg.asarray([0, 1], device=device))
    with pytest.raises(IndexRangeError, match="searchsorted: index 3 is out of range for axis 0 of size 3"):
        pg.searchsorted(x, x, sorter=pg.asarray([0, 1, 3], device=device))
