"""Rows that are read and added to in vectors: what is left over, negative and wrong indices, the order of a sum."""

from __future__ import annotations

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import IndexRangeError


def on(values: object, dtype: str | None = None) -> pg.Tensor:
    return pg.asarray(values, dtype=dtype, device="opencl")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("width", [1, 15, 16, 37, 128])
@pytest.mark.parametrize("axis", [0, 1])
def test_rows(axis: int, width: int, dtype: str) -> None:
    rng = np.random.default_rng(width)
    host = rng.integers(-9, 9, (5, 7, width)).astype(dtype)
    index = rng.integers(-5, 5, 11)
    got = pg.take(on(host), on(index), axis=axis)
    np.testing.assert_array_equal(got.numpy(), host.take(index, axis=axis))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("width", [1, 15, 16, 37, 128])
@pytest.mark.parametrize("axis", [0, 1])
def test_what_rows_pull_back(axis: int, width: int, dtype: str) -> None:
    rng = np.random.default_rng(width)
    x = on(rng.integers(-9, 9, (5, 7, width)), dtype).requires_grad_()
    index = rng.integers(-5, 5, 11)
    taken = pg.take(x, on(index), axis=axis)
    ct = rng.integers(-9, 9, taken.shape).astype(dtype)
    taken.backward(on(ct))
    wanted = np.zeros(x.shape)
    np.add.at(wanted, (index,) if axis == 0 else (slice(None), index), ct.astype(np.float64))
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), wanted)


def test_a_wrong_row_is_told_and_touches_nothing() -> None:
    x = on(np.ones((4, 32)), "float32").requires_grad_()
    out = pg.take(x, on([0, 4, 3]), axis=0)
    with pytest.raises(IndexRangeError, match="index 4 is out of range for axis 0 of size 4"):
        out.numpy()
    out.backward(on(np.ones((3, 32)), "float32"))
    assert x.grad is not None
    with pytest.raises(IndexRangeError, match="index 4"):
        x.grad.numpy()
    np.testing.assert_array_equal(x.grad.numpy()[:, 0], [1, 0, 0, 1])


def test_rows_are_added_in_order() -> None:
    """The sum is that of the order of the indices, bit for bit."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((3000, 20)) * 10.0 ** rng.integers(-4, 4, (3000, 1))).astype(np.float32)
    wanted = np.zeros(20, np.float32)
    for value in values:
        wanted += value
    out = pg.scatter_add(
        on(np.zeros((2, 20), np.float32)), on(np.ones((3000, 20), np.int64)), on(values), axis=0
    )
    np.testing.assert_array_equal(out.numpy()[1], wanted)
    x = on(np.zeros((2, 20), np.float32)).requires_grad_()
    pg.take(x, on(np.ones(3000, np.int64)), axis=0).backward(on(values))
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy()[1], wanted)
