"""`linear` against NumPy in float64: shapes, dtypes, strides, gradients and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd.check import gradcheck
from plugrad.errors import DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-6, "float64": 1e-14}


def close(got: Any, expected: np.ndarray, dtype: str) -> None:
    assert got is not None
    assert got.dtype.name == dtype
    assert got.shape == expected.shape
    scale = np.abs(expected).max(initial=1.0)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(
        got.numpy().astype(np.float64) / scale, expected / scale, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("leading", "n", "m"),
    [
        ((), 3, 4),
        ((5,), 3, 4),
        ((2, 3), 5, 1),
        ((2, 1, 3), 1, 4),
        ((0,), 3, 4),
        ((2, 0), 3, 4),
        ((3,), 0, 2),
        ((3,), 2, 0),
        ((140,), 120, 90),
    ],
)
@pytest.mark.parametrize("dtype", FLOATING)
def test_values_and_gradients(leading: Any, n: int, m: int, bias: bool, dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    x, weight, b = (
        tensor(rng.standard_normal(s), dtype, device).requires_grad_() for s in ((*leading, n), (m, n), (m,))
    )
    hx, hw, hb = (t.detach().numpy().astype(np.float64) for t in (x, weight, b))
    out = pg.linear(x, weight, b if bias else None)
    close(out, hx @ hw.T + (hb if bias else 0), dtype)
    body = by_body(pg.linear, x.detach(), weight.detach(), b.detach() if bias else None)
    close(body, hx @ hw.T + (hb if bias else 0), dtype)
    ct = tensor(rng.standard_normal(out.shape), dtype, device)
    out.backward(ct)
    g = ct.numpy().astype(np.float64)
    close(x.grad, g @ hw, dtype)
    close(weight.grad, g.reshape(-1, m).T @ hx.reshape(-1, n) if g.size and n else np.zeros((m, n)), dtype)
    if bias:
        close(b.grad, g.reshape(-1, m).sum(0) if g.size else np.zeros(m), dtype)


def test_operands_of_any_strides(device: str) -> None:
    rng = np.random.default_rng(1)
    x = pg.asarray(rng.standard_normal((6, 4, 10)), device=device)
    weight = pg.asarray(rng.standard_normal((10, 8)), device=device)
    hx, hw = x.numpy(), weight.numpy()
    close(pg.linear(x, weight.T), hx @ hw, "float64")
    close(pg.linear(x[::-1, ::2, ::2], weight.T[:, ::-2]), hx[::-1, ::2, ::2] @ hw[::-2], "float64")
    close(pg.linear(x[:, 0], weight.T[::2, ::-1]), hx[:, 0] @ hw[::-1, ::2], "float64")
    close(pg.linear(pg.permute_dims(x, (1, 0, 2)), weight.T), hx.transpose(1, 0, 2) @ hw, "float64")
    leaf = weight.detach().requires_grad_()
    pg.sum(pg.linear(x, leaf.T)).backward()
    close(leaf.grad, np.repeat(hx.sum((0, 1))[:, None], 8, axis=1), "float64")


def test_an_operand_is_not_written_to(device: str) -> None:
    x, weight, bias = (tensor(np.ones(s), "float32", device) for s in ((2, 3), (4, 3), (4,)))
    pg.linear(x, weight, bias)
    for t in (x, weight, bias):
        assert_same(t, np.ones(t.shape))


def test_promotion_and_special_values(device: str) -> None:
    x, weight = tensor([[np.inf, 1.0]], "float32", device), tensor([[0.0, 1.0]], "float64", device)
    out = pg.linear(x, weight, tensor([1.0], "float16", device))
    assert out.dtype is pg.float64
    assert np.isnan(out.item())


def test_third_order(device: str) -> None:
    rng = np.random.default_rng(2)
    args = tuple(pg.asarray(rng.standard_normal(s), device=device) for s in ((2, 3), (2, 3), (2,)))
    assert gradcheck(lambda x, w, b: pg.tanh(pg.linear(x, w, b)), args, order=3)


def test_errors(device: str) -> None:
    def t(*shape: int) -> pg.Tensor:
        return pg.zeros(shape, device=device)

    with pytest.raises(ShapeError, match=r"linear: x has shape \(2, 3\), takes \(\.\.\., 5\) for weight"):
        pg.linear(t(2, 3), t(4, 5))
    with pytest.raises(ShapeError, match=r"linear: x has shape \(\)"):
        pg.linear(t(), t(4, 5))
    with pytest.raises(ShapeError, match=r"linear: weight has shape \(5,\), takes \(out, in\)"):
        pg.linear(t(2, 5), t(5))
    with pytest.raises(ShapeError, match=r"linear: bias has shape \(5,\), takes \(4,\)"):
        pg.linear(t(2, 5), t(4, 5), t(5))
    with pytest.raises(DTypeError, match="linear: x is int64; takes float16"):
        pg.linear(pg.asarray([[1]], device=device), pg.asarray([[1]], device=device))
    with pytest.raises(DTypeError, match="linear: weight takes a tensor, got ndarray"):
        pg.linear(t(2, 5), np.zeros((4, 5)))  # type: ignore[arg-type]
