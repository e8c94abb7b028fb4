"""Attention on views: of one array that holds queries, keys and values, and into places within another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from plugrad import ops
from plugrad_numpy import _parallel
from plugrad_numpy.kernels import table

ATTENTION, VJP = (
    table._kernels[op][0].function
    for op in (ops.scaled_dot_product_attention, ops.scaled_dot_product_attention.vjp)
)
WRT = ("query", "key", "value")

# sequences, positions, heads, width
SIZES = [(16, 64, 4, 32), (1, 64, 12, 16), (3, 300, 2, 8), (2, 5, 3, 1), (1, 700, 1, 4)]


def parts(array: Any) -> list[Any]:
    """Queries, keys and values, (N, H, T, D), of an array (N, T, 3, H, D)."""
    return list(array.transpose(2, 0, 3, 1, 4))


def compute(joint: Any, ct: Any, dtype: type = np.float64, *, scale: float = 0.3) -> list[Any]:
    """The attention and the cotangents of row-major copies."""
    query, key, value = (np.ascontiguousarray(x, dtype) for x in parts(joint))
    attributes: dict[str, Any] = {"is_causal": True, "scale": scale}
    out, log_sum = ATTENTION(query, key, value, None, residuals=True, **attributes)
    return [
        out,
        *VJP(ct.astype(dtype), query, key, value, None, out, log_sum, wrt=WRT, **attributes),
    ]


@pytest.mark.parametrize("threads", [1, None])
@pytest.mark.parametrize("scale", [0.3, 6.0], ids=["small scores", "large scores"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_views(sizes: tuple[int, ...], scale: float, threads: int | None) -> None:
    rng = np.random.default_rng(0)
    n, t, h, d = sizes
    joint = rng.standard_normal((n, t, 3, h, d)).astype(np.float32)
    ct = rng.standard_normal((n, t, h, d)).astype(np.float32).transpose(0, 2, 1, 3)
    expected = compute(joint, ct, scale=scale)
    places = np.full((n, t, 3, h, d), 7, np.float32)
    attributes: dict[str, Any] = {"is_causal": True, "scale": scale}
    before = joint.copy()
    _parallel.limit(threads)
    try:
        out, log_sum = ATTENTION(*parts(joint), None, residuals=True, **attributes)
        target = tuple(parts(places))
        found = VJP(ct, *parts(joint), None, out, log_sum, wrt=WRT, into=target, **attributes)
    finally:
        _parallel.limit(None)
    assert all(a is b for a, b in zip(found, target, strict=True))
    np.testing.assert_array_equal(joint, before)
    for got, wanted in zip([out, *found], expected, strict=True):
        size = np.abs(wanted).max()
        np.testing.assert_allclose(got / size, wanted / size, atol=2e-5 if scale > 1 else 2e-6)


def test_a_result_lies_in_memory_as_the_query_does() -> None:
    joint = np.random.default_rng(0).standard_normal((2, 6, 3, 4, 8)).astype(np.float32)
    out = ATTENTION(*parts(joint), None, residuals=False, is_causal=False, scale=1.0)
    assert out.transpose(0, 2, 1, 3).flags.c_contiguous


def test_what_takes_no_part_may_be_no_number() -> None:
    rng = np.random.default_rng(0)
    query, key, value, ct = (rng.standard_normal((2, 3, 5, 4)).astype(np.float32) for _ in range(4))
    mask = np.ones((2, 1, 1, 5), bool)
    mask[..., 3:] = False
    attributes: dict[str, Any] = {"is_causal": False, "scale": 0.5}
    out, log_sum = ATTENTION(query, key, value, mask, residuals=True, **attributes)
    expected = VJP(ct, query, key, value, mask, out, log_sum, wrt=("query", "value"), **attributes)
    for odd in (np.nan, np.inf, -np.inf):
        key[:, :, 3:] = odd
        got, sums = ATTENTION(query, key, value, mask, residuals=True, **attributes)
        np.testing.assert_allclose(got, out, rtol=1e-5, atol=1e-6)
        found = VJP(ct, query, key, value, mask, got, sums, wrt=("value",), **attributes)
        np.testing.assert_allclose(found[0], expected[1], rtol=1e-5, atol=1e-6)
