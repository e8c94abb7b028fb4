"""Attention in tiles, held against NumPy: blocks of keys, rows and columns left over, masks, views, batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import ops
from plugrad.backend import get_backend

# batch, queries, keys, width, width of values
SHAPES = [
    ((2, 3), 16, 16, 32, 32),
    ((2,), 13, 21, 16, 40),
    ((), 40, 300, 20, 64),
    ((3,), 300, 130, 48, 16),
    ((2, 2), 1, 70, 32, 17),
    ((2, 1, 2), 5, 33, 64, 128),
    ((2,), 0, 8, 16, 16),
    ((0,), 4, 8, 16, 16),
]


def masks(kind: str, batch: tuple[int, ...], n: int, m: int, rng: np.random.Generator) -> Any:
    if kind == "truths":
        some = rng.random((*batch, n, m)) < 0.6
        if some.size:
            some[..., 0, :] = False
        return some
    if kind == "added":
        return rng.standard_normal((n, 1))
    if kind == "columns":
        return (
            rng.random((*batch[:1], *(1,) * len(batch[1:]), 1, m)) < 0.7
            if batch
            else rng.random((1, m)) < 0.7
        )
    return None


def test_there_is_a_kernel() -> None:
    table = get_backend("opencl").kernels
    x = pg.zeros((2, 8, 32), device="opencl").spec
    assert table.find(ops.scaled_dot_product_attention, [x, x, x, None], {}) is not None
    narrow = pg.zeros((2, 8, 3), device="opencl").spec
    assert table.find(ops.scaled_dot_product_attention, [narrow, narrow, narrow, None], {}) is None


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "truths", "added", "columns"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("batch", "n", "m", "width", "value_width"), SHAPES)
def test_attention(
    batch: tuple[int, ...], n: int, m: int, width: int, value_width: int, dtype: str, kind: str, causal: bool
) -> None:
    rng = np.random.default_rng(n)
    hosts = [
        rng.standard_normal((*batch, *shape)).astype(dtype)
        for shape in ((n, width), (m, width), (m, value_width))
    ]
    mask = masks(kind, batch, n, m, rng)
    cotangent = rng.standard_normal((*batch, n, value_width)).astype(dtype)
    results = []
    for device in ("numpy", "opencl"):
        wide = "float64" if device == "numpy" else dtype
        q, k, v = (pg.asarray(x.astype(wide), device=device).requires_grad_() for x in hosts)
        given = None if mask is None else pg.asarray(mask, device=device)
        if given is not None and not pg.isdtype(given.dtype, "bool"):
            given = given.astype(wide)
        out = pg.scaled_dot_product_attention(q, k, v, given, is_causal=causal)
        out.backward(pg.asarray(cotangent.astype(wide), device=device))
        results.append([x.numpy() for x in (out, q.grad, k.grad, v.grad) if x is not None])
    tolerance = {"float32": 2e-5, "float64": 1e-12, "float16": 2e-2}[dtype]
    assert len(results[1]) == 4
    for wanted, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def test_heads_that_are_views() -> None:
    """Query, key and value in one array, as a projection of all three gives them, and the result in their order."""
    rng = np.random.default_rng(0)
    host = rng.standard_normal((2, 24, 3, 4, 32)).astype(np.float32)
    results = []
    for device in ("numpy", "opencl"):
        whole = pg.asarray(host, device=device).requires_grad_()
        q, k, v = (pg.permute_dims(whole[:, :, i], (0, 2, 1, 3)) for i in range(3))
        out = pg.scaled_dot_product_attention(q, k, v, is_causal=True)
        (out * out).sum().backward()
        assert whole.grad is not None
        results.append((out.numpy(), whole.grad.numpy()))
    assert out._array.strides == (24 * 4 * 32, 32, 4 * 32, 1)
    for wanted, got in zip(*results, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite(value: float) -> None:
    """As the body has it."""
    rng = np.random.default_rng(0)
    hosts = [rng.standard_normal((2, 9, 16)).astype(np.float32) for _ in range(3)]
    hosts[1][0, 3, 2] = value
    outs = [
        pg.scaled_dot_product_attention(*(pg.asarray(x, device=d) for x in hosts)).numpy()
        for d in ("numpy", "opencl")
    ]
    np.testing.assert_allclose(outs[1], outs[0], rtol=1e-5, atol=1e-5)


def test_many_scores_are_taken_some_matrices_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from plugrad.generated.kernels import attention

    rng = np.random.default_rng(0)
    hosts = [rng.standard_normal((5, 2, 20, 16)).astype(np.float32) for _ in range(3)]
    grads = []
    for limit in (1 << 26, 1000):
        monkeypatch.setattr(attention, "_BYTES", limit)
        q, k, v = (pg.asarray(x, device="opencl").requires_grad_() for x in hosts)
        pg.scaled_dot_product_attention(q, k, v).sum().backward()
        assert q.grad is not None
        assert k.grad is not None
        assert v.grad is not None
        grads.append([x.numpy() for x in (q.grad, k.grad, v.grad)])
    for whole, cut in zip(*grads, strict=True):
        np.testing.assert_array_equal(cut, whole)
