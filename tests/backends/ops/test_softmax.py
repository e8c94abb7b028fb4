"""The softmax family against SciPy in float64, and where infinities stand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import special

import plugrad as pg
from plugrad.errors import DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor, ulps

INF, NAN = math.inf, math.nan
TOLERANCE = {"float16": 4e-3, "bfloat16": 3e-2, "float32": 2e-6, "float64": 1e-13}
SHAPES: list[tuple[tuple[int, ...], int]] = [
    ((10,), 0),
    ((1,), 0),
    ((6, 10), 1),
    ((6, 10), 0),
    ((3, 4, 5), 1),
    ((3, 4, 5), -1),
    ((0, 4), 1),
    ((4, 0), 1),
    ((300, 400), 1),
    ((300, 400), 0),
    ((2, 150_000), 1),
]


def jacobian_product(s: np.ndarray, ct: np.ndarray, axis: int) -> np.ndarray:
    return s * (ct - (s * ct).sum(axis=axis, keepdims=True))


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("dtype", FLOATING)
def test_softmax_and_its_logarithm(shape: Any, axis: int, dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.uniform(-9, 9, shape) + rng.uniform(
        -100, 100, [1 if a == axis % len(shape) else n for a, n in enumerate(shape)]
    )
    x = tensor(values, dtype, device).requires_grad_()
    host = x.detach().numpy().astype(np.float64)
    ct = tensor(rng.standard_normal(shape), dtype, device)
    g = ct.numpy().astype(np.float64)
    tolerance = TOLERANCE[dtype]
    if math.prod(shape):
        s, logs = special.softmax(host, axis=axis), special.log_softmax(host, axis=axis)
    else:
        s = logs = host
    for op, expected, slope in (
        (pg.softmax, s, jacobian_product(s, g, axis)),
        (pg.log_softmax, logs, g - s * g.sum(axis=axis, keepdims=True)),
    ):
        x.grad = None
        out = op(x, axis=axis)
        assert out.dtype is x.dtype
        out.backward(ct)
        assert x.grad is not None
        scale = max(1.0, np.abs(slope).max(initial=0))
        np.testing.assert_allclose(out.numpy().astype(np.float64), expected, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(
            x.grad.numpy().astype(np.float64) / scale, slope / scale, rtol=4 * tolerance, atol=4 * tolerance
        )


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (1, 2), (2, 0), (0, 1, 2), ()])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", FLOATING)
def test_logsumexp(axis: Any, keepdims: bool, dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    x = tensor(rng.uniform(-9, 9, (3, 4, 5)) + 300, dtype, device).requires_grad_()
    host = x.detach().numpy().astype(np.float64)
    out = pg.logsumexp(x, axis=axis, keepdims=keepdims)
    expected = special.logsumexp(host, axis=axis, keepdims=keepdims) if axis != () else host
    assert out.shape == np.shape(expected)
    assert out.dtype is x.dtype
    np.testing.assert_allclose(out.numpy().astype(np.float64), expected, rtol=TOLERANCE[dtype])
    ct = tensor(rng.standard_normal(out.shape), dtype, device)
    out.backward(ct)
    assert x.grad is not None
    kept = special.logsumexp(host, axis=axis, keepdims=True) if axis != () else host
    slope = np.exp(host - kept) * ct.numpy().astype(np.float64).reshape(kept.shape)
    # The result is rounded before the rule reads it: at 300 that is more than the slope's own precision.
    tolerance = {"float16": 0.3, "bfloat16": 3.0, "float32": 1e-4, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(x.grad.numpy().astype(np.float64), slope, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATING)
def test_lines_with_infinities(dtype: str, device: str) -> None:
    lines = [[-INF, 0.0, 0.0], [-INF, -INF, 1.0], [-INF, -INF, -INF], [INF, 0.0, 1.0], [NAN, 0.0, 1.0]]
    nans = [NAN, NAN, NAN]
    x = tensor(lines, dtype, device)
    shares = [[0.0, 0.5, 0.5], [0.0, 0.0, 1], nans, [NAN, NAN, NAN], nans]
    for run in (pg.softmax, lambda t, axis: by_body(pg.softmax, t, axis=axis)):
        got = run(x, axis=1).numpy().astype(np.float64)
        np.testing.assert_array_equal(got[[0, 1, 2, 4]], np.array(shares)[[0, 1, 2, 4]])
        assert np.isnan(got[3]).any()
    for run in (pg.log_softmax, lambda t, axis: by_body(pg.log_softmax, t, axis=axis)):
        got = run(x, axis=1).numpy().astype(np.float64)
        np.testing.assert_allclose(got[0], [-INF, -math.log(2), -math.log(2)], rtol=1e-2)
        np.testing.assert_array_equal(got[1:3], [[-INF, -INF, 0.0], nans])
    for run in (pg.logsumexp, lambda t, axis: by_body(pg.logsumexp, t, axis=(axis,), keepdims=False)):
        got = run(x, axis=1).numpy().astype(np.float64)
        np.testing.assert_allclose(got, [math.log(2), 1, -INF, INF, NAN], rtol=1e-2)


def test_derivatives_of_lines_with_infinities(device: str) -> None:
    x = tensor([[-INF, 0.0, 0.0], [-INF, -INF, -INF]], "float32", device).requires_grad_()
    for axis in (1, (1,)):
        x.grad = None
        pg.sum(pg.logsumexp(x, axis=axis)).backward()
        assert_same(x.grad, [[0.0, 0.5, 0.5], [0.0, 0.0, 0.0]])
    y = tensor([[-INF, 0.0, 0.0]], "float32", device).requires_grad_()
    pg.softmax(y, axis=1).backward(tensor([[1.0, 1.0, 0.0]], "float32", device))
    assert_same(y.grad, [[0.0, 0.25, -0.25]])


def test_sums_of_nothing(device: str) -> None:
    for axis in (0, (0, 1), None):
        out = pg.logsumexp(tensor(np.zeros((0, 3)), "float32", device), axis=axis)
        assert_same(out, np.full(out.shape, -INF))


def test_strided_operands(device: str) -> None:
    host = np.random.default_rng(0).standard_normal((4, 6))
    x = pg.permute_dims(tensor(host, "float64", device), (1, 0))
    np.testing.assert_allclose(pg.softmax(x, axis=0).numpy(), special.softmax(host.T, axis=0), rtol=1e-14)
    y = pg.flip(tensor(host, "float64", device), axis=1)
    np.testing.assert_allclose(
        pg.log_softmax(y).numpy(), special.log_softmax(host[:, ::-1], axis=1), rtol=1e-13
    )
    z = pg.broadcast_to(tensor(host[:1], "float64", device), (3, 6)).requires_grad_()
    np.testing.assert_allclose(
        pg.logsumexp(z, axis=1).numpy(), special.logsumexp(np.repeat(host[:1], 3, 0), axis=1)
    )
    out = pg.softmax(z)
    pg.sum(out).backward()
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), np.zeros((3, 6)), atol=1e-15)


LOGADDEXP: list[tuple[float, float, float, float]] = [
    # x1, x2, the result, the derivative by x1
    (0.0, 0.0, math.log(2), 0.5),
    (-INF, -INF, -INF, 0.5),
    (INF, INF, INF, 0.5),
    (INF, -INF, INF, 1),
    (-INF, 1, 1, 0),
    (1, -INF, 1, 1),
    (500, 0.0, 500, 1),
    (NAN, 1, NAN, NAN),
]


@pytest.mark.parametrize("dtype", FLOATING)
def test_logaddexp(dtype: str, device: str) -> None:
    x1, x2, expected, slope = np.array(LOGADDEXP).T
    a, b = tensor(x1, dtype, device).requires_grad_(), tensor(x2, dtype, device).requires_grad_()
    rtol = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-14}[dtype]
    out = pg.logaddexp(a, b)
    out.backward(tensor(np.ones(len(x1)), dtype, device))
    np.testing.assert_allclose(out.numpy().astype(np.float64), expected, rtol=rtol)
    assert a.grad is not None
    assert b.grad is not None
    np.testing.assert_allclose(a.grad.numpy().astype(np.float64), slope, rtol=rtol)
    np.testing.assert_allclose(b.grad.numpy().astype(np.float64), 1 - slope, rtol=rtol, atol=1e-200)
    body = by_body(pg.logaddexp, a.detach(), b.detach()).numpy().astype(np.float64)
    np.testing.assert_allclose(body, expected, rtol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_of_logaddexp(dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    p, q = rng.uniform(-50, 50, 2000).astype(dtype), rng.uniform(-50, 50, 2000).astype(dtype)
    a, b = tensor(p, dtype, device), tensor(q, dtype, device)
    expected = np.logaddexp(p.astype(np.float64), q.astype(np.float64))
    tolerance = 4 * pg.dtypes.finfo(dtype).eps
    np.testing.assert_allclose(pg.logaddexp(a, b).numpy(), expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(by_body(pg.logaddexp, a, b).numpy(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_logaddexp_of_16_bit_floats_by_body_rounds_once(dtype: str, device: str) -> None:
    p, q = np.random.default_rng(0).uniform(-20, 20, (2, 2000))
    a, b = tensor(p, dtype, device), tensor(q, dtype, device)
    expected = np.logaddexp(a.numpy().astype(np.float64), b.numpy().astype(np.float64))
    assert ulps(by_body(pg.logaddexp, a, b).numpy(), expected) <= 0.51


def test_errors_name_the_op_and_what_it_takes(device: str) -> None:
    x = tensor([[1.0, 2.0]], "float32", device)
    for op in (pg.softmax, pg.log_softmax, pg.logsumexp):
        with pytest.raises(ShapeError, match=rf"{op.__name__}: axis 2 is out of range for 2 axes"):
            op(x, axis=2)
        with pytest.raises(DTypeError, match=rf"{op.__name__}: x is int32; takes float16"):
            op(tensor([1], "int32", device), axis=0)
    with pytest.raises(ShapeError, match=r"softmax: axis -1 is out of range for 0 axes"):
        pg.softmax(tensor(1.0, "float32", device))
    with pytest.raises(ShapeError, match=r"logsumexp: axis \(0, -2\) names an axis twice"):
        pg.logsumexp(x, axis=(0, -2))
