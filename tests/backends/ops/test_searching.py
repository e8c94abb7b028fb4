"""Searches against NumPy, with NaN, ties and the ends of the integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import DTypeError, ShapeError

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
