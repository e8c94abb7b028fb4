"""Orders against NumPy: ties, NaN, both zeros, every dtype, and where derivatives go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, ShapeError

FLOATS = ["float16", "bfloat16", "float32", "float64"]
DTYPES = [*FLOATS, "bool", "int8", "int32", "int64", "uint8", "uint64"]


def host(x: pg.Tensor) -> np.ndarray[Any, Any]:
    """The values, bfloat16 as float32: NumPy's tests do not know that dtype's NaN."""
    return x.numpy().astype(np.float32) if x.dtype.name == "bfloat16" else x.numpy()


def expected_order(h: np.ndarray[Any, Any], axis: int, descending: bool) -> np.ndarray[Any, Any]:
    """The stable order, NaN largest, by ranks of Python's own sort."""
    order = np.empty(h.shape, np.int64)
    moved, out = np.moveaxis(h, axis, -1), np.moveaxis(order, axis, -1)
    for place in np.ndindex(moved.shape[:-1]):
        row = moved[place].astype(np.float64)
        keys = [(bool(np.isnan(v)), 0.0 if np.isnan(v) else float(v)) for v in row]
        out[place] = sorted(
            range(len(keys)), key=lambda i: tuple(-k for k in keys[i]) if descending else keys[i]
        )
    return order


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_order(dtype: str, axis: int, descending: bool, device: str) -> None:
    h = np.random.default_rng(7).integers(0, 4, (5, 6, 7)).astype(np.float64)
    if dtype in FLOATS:
        h[h == 3] = np.nan
        h[0, 0] = np.inf
        h[1, 1] = -np.inf
    x = pg.asarray(h, dtype=dtype, device=device)
    h = host(x)
    order = expected_order(h, axis, descending)
    got = pg.argsort(x, axis=axis, descending=descending)
    assert got.dtype.name == "int64"
    np.testing.assert_array_equal(got.numpy(), order)
    ordered = np.take_along_axis(h, order, axis)
    result = pg.sort(x, axis=axis, descending=descending)
    assert result.dtype.name == dtype
    np.testing.assert_array_equal(host(result), ordered)
    unstable = pg.argsort(x, axis=axis, descending=descending, stable=False).numpy()
    np.testing.assert_array_equal(np.take_along_axis(h, unstable, axis), ordered)
    loose = pg.sort(x, axis=axis, descending=descending, stable=False)
    np.testing.assert_array_equal(host(loose), ordered)


@pytest.mark.parametrize("dtype", FLOATS)
def test_both_zeros_keep_their_order(dtype: str, device: str) -> None:
    x = pg.asarray([0.0, 1.0, -0.0, 0.0, -1.0, -0.0], dtype=dtype, device=device)
    np.testing.assert_array_equal(np.signbit(pg.sort(x).numpy()), [True, False, True, False, True, False])
    down = pg.sort(x, descending=True).numpy()
    np.testing.assert_array_equal(np.signbit(down), [False, False, True, False, True, True])


def test_integers_at_the_ends_of_the_range(device: str) -> None:
    for dtype in ("int8", "int64", "uint8", "uint64"):
        info = np.iinfo(dtype)
        x = pg.asarray(np.array([1, info.max, info.min, info.max], dtype), device=device)
        assert pg.argsort(x).tolist() == [2, 0, 1, 3]
        assert pg.argsort(x, descending=True).tolist() == [1, 3, 0, 2]


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 5), (5, 5), (3, 60), (1, 60)])
@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "bool"])
def test_top_k(dtype: str, k: int, n: int, largest: bool, device: str) -> None:
    h = np.random.default_rng(8).integers(0, 9, (3, n, 2))
    x = pg.asarray(h, dtype=dtype, device=device)
    values, indices = pg.top_k(x, k, axis=1, largest=largest)
    order = expected_order(h, 1, largest)[:, :k]
    assert values.dtype.name == dtype
    assert indices.dtype.name == "int64"
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x.numpy(), order, 1))


def test_top_k_with_nan(device: str) -> None:
    x = pg.asarray([1.0, np.nan, *range(30), np.nan], device=device)
    assert pg.top_k(x, 3)[1].tolist() == [1, 32, 31]
    assert pg.top_k(x, 2, largest=False)[0].tolist() == [0, 1]


def test_derivatives_go_back_to_where_elements_were(device: str) -> None:
    h = np.array([[3.0, 1.0, 2.0, 1.0], [0.0, 5.0, 4.0, 5.0]])
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    x = pg.asarray(h, device=device).requires_grad_()
    (pg.sort(x, axis=1) * pg.asarray(weights, device=device)).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), [[4, 1, 3, 2], [1, 3, 2, 4]])
    x.grad = None
    (pg.top_k(x, 2)[0] * pg.asarray(weights[:2], device=device)).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), [[1, 0, 2, 0], [0, 1, 0, 2]])


def test_errors(device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    for op in (pg.sort, pg.argsort):
        with pytest.raises(ShapeError, match=f"{op.name}: axis 2 is out of range for 2 axes"):
            op(x, axis=2)
        with pytest.raises(ShapeError, match=f"{op.name}: axis -1 is out of range for 0 axes"):
            op(x.sum())
    with pytest.raises(ArgumentError, match=r"top_k: k takes an integer from 0 to 3, .*, got 4"):
        pg.top_k(x, 4)
    with pytest.raises(ArgumentError, match=r"top_k: k takes an integer from 0 to 2, .*, got -1"):
        pg.top_k(x, -1, axis=0)
