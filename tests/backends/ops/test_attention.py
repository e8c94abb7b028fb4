"""Attention and its gradients against the definition in float64, in all sizes that are computed differently."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd.check import gradcheck
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor

TOLERANCE = {"float16": 3e-3, "bfloat16": 2e-2, "float32": 1e-5, "float64": 1e-11}

# batch of query, of key, of value; L, S, E, Ev
Sizes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int, int, int]
SIZES: dict[str, Sizes] = {
    "one": ((), (), (), 5, 7, 4, 3),
    "heads": ((2, 3), (2, 3), (2, 3), 6, 6, 4, 4),
    "broadcast": ((2, 1), (3,), (2, 3), 4, 5, 3, 2),
    "one row": ((4,), (4,), (4,), 1, 9, 3, 3),
    "one column": ((4,), (4,), (4,), 3, 1, 3, 3),
    "more rows": ((2,), (2,), (2,), 9, 4, 3, 3),
    "blocks of heads": ((5, 8), (5, 8), (5, 8), 64, 64, 8, 8),
    "blocks of rows": ((2,), (2,), (2,), 300, 700, 4, 4),
    "rows of one": ((), (), (), 700, 500, 4, 4),
    "no heads": ((0, 2), (0, 2), (0, 2), 3, 4, 2, 2),
    "no rows": ((2,), (2,), (2,), 0, 4, 2, 2),
    "no columns": ((2,), (2,), (2,), 3, 0, 2, 2),
    "no width": ((2,), (2,), (2,), 3, 4, 0, 2),
}
LARGE = ("blocks of heads", "blocks of rows", "rows of one")


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None,
    ct: np.ndarray | None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The attention, and the cotangents of query, key, value and of the scores before they are masked."""
    factor = 1 / math.sqrt(max(1, q.shape[-1])) if scale is None else scale
    scores = q @ k.swapaxes(-1, -2) * factor
    scores = np.broadcast_to(
        scores, (*np.broadcast_shapes(scores.shape[:-2], v.shape[:-2]), *scores.shape[-2:])
    ).copy()
    if mask is not None and mask.dtype != bool:
        scores = scores + mask
    if mask is not None and mask.dtype == bool:
        scores[~np.broadcast_to(mask, scores.shape)] = -np.inf
    if is_causal:
        scores[..., np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = weights.sum(axis=-1, keepdims=True)
    weights = weights / np.where(total == 0, 1, total)
    out = weights @ v
    if ct is None:
        return out, []
    slope = ct @ v.swapaxes(-1, -2)
    slope = weights * (slope - (weights * slope).sum(axis=-1, keepdims=True))
    return out, [
        slope @ k * factor,
        slope.swapaxes(-1, -2) @ q * factor,
        weights.swapaxes(-1, -2) @ ct,
        slope,
    ]


def down(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``x`` summed down to ``shape``."""
    extra = x.ndim - len(shape)
    axes = (*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1 and x.shape[i + extra] != 1))
    return x.sum(axis=axes).reshape(shape)


def close(got: Any, expected: np.ndarray, dtype: str, message: str = "") -> None:
    assert got is not None
    assert got.dtype.name == dtype
    assert got.shape == expected.shape
    scale = np.abs(expected).max(initial=1.0)
    tolerance = TOLERANCE[dtype]
    host = got.numpy().astype(np.float64)
    np.testing.assert_allclose(
        host / scale, expected / scale, rtol=tolerance, atol=tolerance, err_msg=message
    )


def masks(name: str, rng: np.random.Generator, sizes: Sizes) -> np.ndarray | None:
    batch = np.broadcast_shapes(*sizes[:3])
    rows, columns = sizes[3:5]
    if name == "bool":
        mask = rng.random((*batch, rows, columns)) < 0.6
        mask[..., :1, :] = False
        return mask
    if name == "padding":
        return rng.random((*batch[:1], *(1,) * max(len(batch) - 1, 0), 1, columns)) < 0.7
    if name == "added":
        return rng.standard_normal((rows, columns))
    if name == "added to columns":
        return rng.standard_normal((*batch, 1, columns))
    if name == "added to rows":
        mask = rng.standard_normal((*batch[-1:], rows, 1))
        mask[..., -1:, :] = -np.inf
        return mask
    return None


def check(
    sizes: Sizes,
    dtype: str,
    device: str,
    *,
    mask: str = "",
    factor: float = 1,
    body: bool = False,
    **attributes: Any,
) -> None:
    rng = np.random.default_rng(0)
    one, two, three, rows, columns, width, out_width = sizes
    shapes = ((*one, rows, width), (*two, columns, width), (*three, columns, out_width))
    query, key, value = (
        tensor(rng.standard_normal(s) * f, dtype, device).requires_grad_()
        for s, f in zip(shapes, (factor, 1, 1), strict=True)
    )
    made = masks(mask, rng, sizes)
    given = None
    if made is not None:
        given = (
            pg.asarray(made, device=device)
            if made.dtype == bool
            else tensor(made, dtype, device).requires_grad_()
        )
    hosts = [t.detach().numpy().astype(np.float64) for t in (query, key, value)]
    host_mask = None if given is None else given.detach().numpy()
    if host_mask is not None and host_mask.dtype != bool:
        host_mask = host_mask.astype(np.float64)
    ct = tensor(rng.standard_normal((*np.broadcast_shapes(one, two, three), rows, out_width)), dtype, device)
    expected, slopes = attention(*hosts, host_mask, ct.numpy().astype(np.float64), **attributes)
    if body:
        operands = [t if t is None else t.detach() for t in (query, key, value, given)]
        filled = {"is_causal": False, **attributes}
        filled["scale"] = attributes.get("scale") or 1 / math.sqrt(max(1, width))
        close(by_body(pg.scaled_dot_product_attention, *operands, **filled), expected, dtype)
        return
    out = pg.scaled_dot_product_attention(query, key, value, given, **attributes)
    close(out, expected, dtype)
    out.backward(ct)
    for leaf, slope, name in zip((query, key, value), slopes, ("query", "key", "value"), strict=False):
        close(leaf.grad, down(slope, leaf.shape), dtype, name)
    if given is not None and given.requires_grad:
        close(given.grad, down(slopes[3], given.shape), dtype, "attn_mask")


@pytest.mark.parametrize(
    "attributes", [{}, {"is_causal": True}, {"scale": 0.3}], ids=["plain", "causal", "scaled"]
)
@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_values_and_gradients(sizes: Any, dtype: str, attributes: Any, device: str) -> None:
    check(sizes, dtype, device, **attributes)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("mask", ["bool", "padding", "added", "added to columns", "added to rows"])
@pytest.mark.parametrize(
    "sizes",
    [s for n, s in SIZES.items() if not n.startswith("no")],
    ids=[n for n in SIZES if not n.startswith("no")],
)
def test_masks(sizes: Any, mask: str, is_causal: bool, device: str) -> None:
    check(sizes, "float64", device, mask=mask, is_causal=is_causal)


@pytest.mark.parametrize("mask", ["", "bool", "added"])
@pytest.mark.parametrize("name", ["heads", "blocks of rows", "rows of one"])
def test_large_scores(name: str, mask: str, device: str) -> None:
    """Scores whose exponentials overflow: the largest of each row is subtracted."""
    check(SIZES[name], "float64", device, mask=mask, factor=1000.0, is_causal=True)


@pytest.mark.parametrize("mask", ["", "bool", "padding", "added", "added to rows"])
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(
    "sizes", [s for n, s in SIZES.items() if n not in LARGE], ids=[n for n in SIZES if n not in LARGE]
)
def test_the_body(sizes: Any, mask: str, is_causal: bool, device: str) -> None:
    """What a device without a kernel of its own computes."""
    check(sizes, "float64", device, mask=mask, is_causal=is_causal, body=True)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_masks(dtype: str, device: str) -> None:
    check(SIZES["heads"], dtype, device, mask="added to rows")
    check(SIZES["heads"], dtype, device, mask="bool", is_causal=True)


def test_masks_of_another_dtype(device: str) -> None:
    rng = np.random.default_rng(1)
    for own, other in (("float32", "float64"), ("bfloat16", "float32"), ("float64", "float16")):
        q, k, v = (tensor(rng.standard_normal((2, 3, 4)), own, device) for _ in range(3))
        mask = tensor(rng.standard_normal((3, 3)), other, device).requires_grad_()
        out = pg.scaled_dot_product_attention(q, k, v, mask)
        hosts = [t.detach().numpy().astype(np.float64) for t in (q, k, v, mask)]
        close(out, attention(*hosts, None)[0], own)
        pg.sum(out).backward()
        assert mask.grad is not None
        assert mask.grad.dtype is mask.dtype


def test_rows_in_which_nothing_takes_part_are_0(device: str) -> None:
    q, k, v = (
        tensor(np.random.default_rng(2).standard_normal((3, 3)), "float32", device).requires_grad_()
        for _ in range(3)
    )
    for mask in (np.array([[False], [True], [False]]), np.array([[-np.inf], [0.0], [-np.inf]], np.float32)):
        for leaf in (q, k, v):
            leaf.grad = None
        out = pg.scaled_dot_product_attention(q, k, v, pg.asarray(mask, device=device))
        assert_same(out.detach()[0], np.zeros(3))
        assert_same(out.detach()[2], np.zeros(3))
        pg.sum(out * out).backward()
        assert_same(q.grad[0], np.zeros(3))  # type: ignore[index]
        assert all(np.isfinite(t.grad.numpy()).all() for t in (q, k, v))


def test_what_takes_no_part_may_be_anything(device: str) -> None:
    """A key that is masked does not matter, whatever it holds."""
    rng = np.random.default_rng(3)
    q, k, v = (rng.standard_normal((2, 4)).astype(np.float32) for _ in range(3))
    k[1] = np.nan
    mask = pg.asarray(np.array([True, False]), device=device)
    out = pg.scaled_dot_product_attention(*(pg.asarray(t, device=device) for t in (q, k, v)), mask)
    np.testing.assert_allclose(out.numpy(), np.stack([v[0], v[0]]), rtol=1e-6)


def test_nan_and_infinities_make_no_noise(device: str) -> None:
    q = np.ones((2, 3, 4), np.float32)
    q[0, 0], q[1, 1] = np.nan, np.inf
    k, v = np.ones((2, 3, 4), np.float32), np.full((2, 3, 4), 1e20, np.float32)
    leaves = [pg.asarray(t, device=device).requires_grad_() for t in (q, k, v)]
    out = pg.scaled_dot_product_attention(*leaves)
    assert np.isnan(out.detach().numpy()[0, 0]).all()
    assert np.isfinite(out.detach().numpy()[0, 1:]).all()
    out.backward(pg.asarray(np.full(out.shape, 3e38, np.float32), device=device))


def test_operands_of_any_strides(device: str) -> None:
    rng = np.random.default_rng(4)
    x = pg.asarray(rng.standard_normal((2, 5, 3, 3, 4)), device=device)
    q, k, v = (pg.permute_dims(x[:, :, i], (0, 2, 1, 3)) for i in range(3))
    h = x.numpy()
    hosts = [h[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
    close(pg.scaled_dot_product_attention(q, k, v), attention(*hosts, None, None)[0], "float64")
    close(
        pg.scaled_dot_product_attention(q[..., ::-1, :], k[:, :, ::2], v[:, :, ::2]),
        attention(hosts[0][..., ::-1, :], hosts[1][:, :, ::2], hosts[2][:, :, ::2], None, None)[0],
        "float64",
    )


def test_gradients_of_some_operands(device: str) -> None:
    rng = np.random.default_rng(5)
    hosts = [rng.standard_normal((2, 4, 3)) for _ in range(3)]
    ct = rng.standard_normal((2, 4, 3))
    _, slopes = attention(*hosts, None, ct)
    for followed in range(3):
        leaves = [pg.asarray(h, device=device).requires_grad_(i == followed) for i, h in enumerate(hosts)]
        pg.scaled_dot_product_attention(*leaves).backward(pg.asarray(ct, device=device))
        close(leaves[followed].grad, slopes[followed], "float64")


def test_third_order(device: str) -> None:
    rng = np.random.default_rng(6)
    q, k, v = (pg.asarray(rng.standard_normal(s), device=device) for s in ((2, 2), (3, 2), (3, 1)))
    mask = pg.asarray(rng.standard_normal((2, 3)), device=device)
    assert gradcheck(
        lambda a, b, c, m: pg.scaled_dot_product_attention(a, b, c, m, is_causal=True),
        (q, k, v, mask),
        order=3,
    )


def test_errors(device: str) -> None:
    def t(*shape: int) -> pg.Tensor:
        return pg.zeros(shape, device=device)

    attend = pg.scaled_dot_product_attention
    for shapes in (((3,), (4, 3), (4, 2)), ((2, 3), (4, 2), (4, 2)), ((2, 3), (4, 3), (5, 2))):
        with pytest.raises(
            ShapeError, match=r"scaled_dot_product_attention: got query .* takes \(\.\.\., L, E\)"
        ):
            attend(*(t(*s) for s in shapes))
    with pytest.raises(ShapeError, match=r"shapes \(2,\) and \(3,\) and \(3,\) do not broadcast"):
        attend(t(2, 2, 3), t(3, 4, 3), t(3, 4, 2))
    with pytest.raises(
        ShapeError, match=r"attn_mask has shape \(2, 2, 4\), takes one that broadcasts to \(2, 4\)"
    ):
        attend(t(2, 3), t(4, 3), t(4, 2), t(2, 2, 4))
    with pytest.raises(ShapeError, match="attn_mask"):
        attend(t(2, 3), t(4, 3), t(4, 2), t(3, 4))
    with pytest.raises(DTypeError, match="attn_mask is int64; takes bool, float16"):
        attend(t(2, 3), t(4, 3), t(4, 2), pg.asarray(np.ones((2, 4), int), device=device))
    with pytest.raises(DTypeError, match="query is int64"):
        attend(*(pg.asarray(np.ones((2, 2), int), device=device) for _ in range(3)))
    for scale in (math.inf, True, "1"):
        with pytest.raises(ArgumentError, match="scale takes a finite number or None"):
            attend(t(2, 3), t(4, 3), t(4, 2), scale=scale)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="is_causal takes True or False, got 1"):
        attend(t(2, 3), t(4, 3), t(4, 2), is_causal=1)  # type: ignore[arg-type]
