"""Products of matrices and vectors against NumPy: shapes, dtypes, strides, special values and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import ops
from plugrad.autograd.check import gradcheck
from plugrad.errors import ArgumentError, AxisError, DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, tensor

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-14}
SHAPES = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (3,)),
    ((2, 3), (5, 3, 4)),
    ((3,), (5, 3, 4)),
    ((2, 1, 2, 3), (4, 3, 5)),
    ((1, 1), (1, 1)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((0, 2, 3), (3, 4)),
    ((70, 33), (33, 65)),
    ((150, 120), (120, 90)),
    ((3, 150, 120), (120, 90)),
]


def close(got: pg.Tensor, expected: np.ndarray, message: str = "") -> None:
    tolerance = TOLERANCE[got.dtype.name]
    scale = np.abs(expected).max(initial=1.0)
    np.testing.assert_allclose(
        got.numpy().astype(np.float64) / scale,
        expected / scale,
        rtol=tolerance,
        atol=tolerance,
        err_msg=message,
    )


@pytest.mark.parametrize(("one", "two"), SHAPES)
@pytest.mark.parametrize("dtype", FLOATING)
def test_matmul_and_its_gradients(one: Any, two: Any, dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (tensor(rng.standard_normal(s), dtype, device).requires_grad_() for s in (one, two))
    wide_a, wide_b = (t.detach().numpy().astype(np.float64) for t in (a, b))
    expected = np.matmul(wide_a, wide_b)
    out = a @ b
    assert out.dtype is a.dtype
    assert out.shape == expected.shape
    close(out, expected)
    ct = tensor(rng.standard_normal(expected.shape), dtype, device)
    out.backward(ct)
    # The adjoint, by the definition as a sum over all indices.
    left = wide_a[None] if a.ndim == 1 else wide_a
    right = wide_b[:, None] if b.ndim == 1 else wide_b
    full = ct.numpy().astype(np.float64)
    full = np.expand_dims(full, ([-2] if a.ndim == 1 else []) + ([-1] if b.ndim == 1 else []))
    for leaf, grad in (
        (a, np.matmul(full, right.swapaxes(-1, -2))),
        (b, np.matmul(left.swapaxes(-1, -2), full)),
    ):
        shape = (
            (1, *leaf.shape)
            if leaf is a and a.ndim == 1
            else (*leaf.shape, 1)
            if leaf.ndim == 1
            else leaf.shape
        )
        extra = grad.ndim - len(shape)
        axes = (
            *range(extra),
            *(i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1),
        )
        assert leaf.grad is not None
        close(leaf.grad, grad.sum(axis=axes).reshape(leaf.shape), f"gradient of {leaf.shape}")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_integers_wrap_around(dtype: str, device: str) -> None:
    rng = np.random.default_rng(1)
    info = np.iinfo(dtype)
    a, b = (rng.integers(info.min, info.max, s, dtype, endpoint=True) for s in ((4, 3), (3, 5)))
    assert_same(pg.asarray(a, device=device) @ pg.asarray(b, device=device), a @ b)


def test_operands_of_any_strides(device: str) -> None:
    rng = np.random.default_rng(2)
    x = pg.asarray(rng.standard_normal((6, 8, 10)), device=device)
    y = pg.asarray(rng.standard_normal((10, 8)), device=device)
    h, g = x.numpy(), y.numpy()
    cases = [
        (x[0], y, h[0], g),
        (x[0].T, x[1], h[0].T, h[1]),
        (x[::2, ::-1, 1::2], y[::-2], h[::2, ::-1, 1::2], g[::-2]),
        (pg.permute_dims(x, (1, 0, 2)), y, h.transpose(1, 0, 2), g),
        (pg.permute_dims(x, (2, 1, 0)), x[:, :1].mT[..., 0], h.transpose(2, 1, 0), h[:, 0]),
        (pg.broadcast_to(y[:, :1], (10, 8)).T, y, np.broadcast_to(g[:, :1], (10, 8)).T, g),
        (pg.broadcast_to(y[0, 0], (3, 10)), y, np.broadcast_to(g[0, 0], (3, 10)), g),
    ]
    for a, b, one, two in cases:
        close(a @ b, one @ two)


def test_the_cotangent_of_a_sum_is_taken(device: str) -> None:
    a, b = (tensor(np.arange(6.0).reshape(s), "float32", device).requires_grad_() for s in ((2, 3), (3, 2)))
    pg.sum(a @ b).backward()
    assert_same(a.grad, np.ones((2, 2)) @ b.detach().numpy().T)
    assert_same(b.grad, a.detach().numpy().T @ np.ones((2, 2)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bits_accumulate_in_float32(dtype: str, device: str) -> None:
    ones = tensor(np.ones((1, 4096)), dtype, device)
    assert_same(ones @ ones.T, [[4096.0]])
    assert_same(pg.vecdot(ones, ones), [4096.0])
    # 300 * 300 overflows float16; the sum of the two products does not.
    big, small = tensor([[300.0, -300.0]], dtype, device), tensor([[300.0], [300.0]], dtype, device)
    assert_same(big @ small, [[0.0]])


def test_infinities_and_nan(device: str) -> None:
    a = tensor([[np.inf, 1.0], [np.nan, 0.0], [3e38, 3e38]], "float32", device)
    b = tensor([[0.0, 1.0], [2.0, 2.0]], "float32", device)
    assert_same(a @ b, [[np.nan, np.inf], [np.nan, np.nan], [np.inf, np.inf]])


def test_promotion(device: str) -> None:
    a = pg.asarray(np.arange(4).reshape(2, 2), device=device)
    b = tensor(np.eye(2), "float32", device)
    assert (a @ b).dtype is pg.float32
    assert pg.tensordot(a, b, axes=1).dtype is pg.float32
    assert pg.vecdot(a, b).dtype is pg.float32
    small = pg.asarray(np.arange(4, dtype=np.int8).reshape(2, 2), device=device)
    assert (small @ small).dtype is pg.int8


def test_matmul_errors(device: str) -> None:
    def t(*shape: int) -> pg.Tensor:
        return pg.zeros(shape, device=device)

    for a, b in (((2, 3), (2, 3)), ((3,), (2,)), ((2, 3), (2,)), ((3,), (2, 3))):
        with pytest.raises(ShapeError, match=r"matmul: shapes .* do not multiply: takes \(\.\.\., n, k\)"):
            pg.matmul(t(*a), t(*b))
    with pytest.raises(ShapeError, match=r"matmul: shapes .* do not broadcast"):
        t(2, 2, 3) @ t(4, 3, 2)
    with pytest.raises(ShapeError, match=r"matmul: .* at least one axis; multiply"):
        t() @ t(2)
    with pytest.raises(DTypeError, match="matmul: x1 is bool; takes int8"):
        pg.matmul(pg.asarray([True], device=device), t(1))
    with pytest.raises(ShapeError, match=r"matrix_product: .* do not multiply"):
        ops.matrix_product(t(3), t(3, 2))


@pytest.mark.parametrize(
    ("one", "two", "axes"),
    [
        ((2, 3, 4), (3, 4, 5), 2),
        ((2, 3, 4), (4, 5, 2), ((0, 2), (2, 0))),
        ((2, 3, 4), (4, 5, 2), ((-1,), (0,))),
        ((2, 3), (4, 3), (1, 1)),
        ((2, 3), (4,), 0),
        ((), (), 0),
        ((3, 0), (0, 2), 1),
        ((0, 3), (3, 0), 1),
    ],
)
def test_tensordot(one: Any, two: Any, axes: Any, device: str) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(one), rng.standard_normal(two)
    got = pg.tensordot(pg.asarray(a, device=device), pg.asarray(b, device=device), axes=axes)
    expected = np.tensordot(a, b, axes=axes)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13, atol=1e-14)


def test_tensordot_errors(device: str) -> None:
    a, b = pg.zeros((2, 3), device=device), pg.zeros((3, 4), device=device)
    with pytest.raises(
        ShapeError, match=r"axis 0 of shape \(2, 3\) has size 2, axis 0 of shape \(3, 4\) size 3"
    ):
        pg.tensordot(a, b, axes=2)
    with pytest.raises(ArgumentError, match="axes 3 for operands of 2 and 2 axes; takes 0 to 2"):
        pg.tensordot(a, b, axes=3)
    with pytest.raises(ArgumentError, match="as many of x2"):
        pg.tensordot(a, b, axes=((0, 1), (0,)))
    with pytest.raises(ArgumentError, match="names an axis twice"):
        pg.tensordot(a, b, axes=((1, -1), (0, 0)))
    with pytest.raises(AxisError, match="tensordot: axis 5 is out of range"):
        pg.tensordot(a, b, axes=((5,), (0,)))
    with pytest.raises(ArgumentError, match="axes takes an integer"):
        pg.tensordot(a, b, axes=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "two", "axis"),
    [
        ((3,), (3,), -1),
        ((4, 3), (4, 3), -1),
        ((4, 1, 3), (2, 3), -1),
        ((3, 4, 2), (4, 1), -2),
        ((5, 3, 2), (5, 1, 2), -3),
        ((0,), (0,), -1),
        ((2, 0), (2, 0), -2),
    ],
)
def test_vecdot(one: Any, two: Any, axis: int, device: str) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal(one), rng.standard_normal(two)
    got = pg.vecdot(pg.asarray(a, device=device), pg.asarray(b, device=device), axis=axis)
    expected = (np.moveaxis(a, axis, -1) * np.moveaxis(b, axis, -1)).sum(-1)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-13, atol=1e-14)


def test_vecdot_errors(device: str) -> None:
    a, b = pg.zeros((2, 3), device=device), pg.zeros((3,), device=device)
    for axis in (0, -2):
        with pytest.raises(AxisError, match=f"vecdot: axis {axis} for shapes .* takes a negative axis"):
            pg.vecdot(a, b, axis=axis)
    with pytest.raises(ShapeError, match=r"vecdot: axis -1 of shapes \(2, 3\) and \(1,\) differs in size"):
        pg.vecdot(a, b[:1])
    with pytest.raises(ShapeError, match=r"vecdot: shapes .* do not broadcast"):
        pg.vecdot(a, pg.zeros((4, 3), device=device))


def test_third_order(device: str) -> None:
    rng = np.random.default_rng(6)
    a, b = (pg.asarray(rng.standard_normal(s), device=device) for s in ((2, 3), (3, 2)))
    assert gradcheck(lambda x, y: pg.tanh(x @ y @ x), (a, b), order=3)
