"""Pooling and its gradients against loops over the windows, as PyTorch defines them."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd.check import gradcheck
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import FLOATING, assert_same, by_body, tensor
from support.samples import normalized

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 1e-13}

CASES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "2x2": ((2, 3, 6, 8), {"kernel_size": 2}),
    "rows left over": ((2, 3, 7, 5), {"kernel_size": 2}),
    "overlapping": ((2, 3, 7, 6), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "1d": ((2, 3, 9), {"kernel_size": 4, "stride": 3, "padding": 2}),
    "1d pairs": ((2, 3, 9), {"kernel_size": 4, "stride": 3, "padding": ((0, 2),)}),
    "per axis": ((1, 2, 7, 8), {"kernel_size": (3, 2), "stride": (1, 3), "padding": (1, 0)}),
    "stride beyond the window": ((2, 2, 11), {"kernel_size": 2, "stride": 4}),
    "global": ((2, 3, 4, 5), {"kernel_size": (4, 5)}),
    "window of 1": ((2, 3, 4), {"kernel_size": 1, "stride": 2}),
    "ceil": ((2, 3, 7, 6), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "ceil with padding": ((2, 3, 6, 8), {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
    "ceil drops a window": ((1, 2, 4), {"kernel_size": 2, "stride": 3, "padding": 1, "ceil_mode": True}),
    "ceil leaves over": ((1, 2, 3), {"kernel_size": 1, "stride": 4, "ceil_mode": True}),
    "ceil, larger than the input": ((1, 2, 2, 3), {"kernel_size": 3, "stride": 2, "ceil_mode": True}),
    "3d": ((1, 2, 4, 5, 6), {"kernel_size": 2, "stride": (2, 1, 2), "padding": (0, 1, 1)}),
    "3d ceil": ((1, 2, 4, 5, 3), {"kernel_size": 2, "stride": (3, 2, 2), "ceil_mode": True}),
    "no images": ((0, 2, 5), {"kernel_size": 2}),
    "large": ((4, 32, 33, 40), {"kernel_size": 3, "stride": 2, "padding": 1}),
}
DILATED: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "dilated": ((2, 2, 9, 8), {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": (3, 2)}),
    "dilated, ceil": ((2, 2, 9), {"kernel_size": 3, "stride": 3, "dilation": 2, "ceil_mode": True}),
    "sees only padding": ((1, 1, 1), {"kernel_size": 2, "padding": 2, "dilation": 4}),
}


def windows(shape: tuple[int, ...], attributes: dict[str, Any]) -> tuple[list[int], Any]:
    """The number of windows on each axis, and for each window the place in it, its elements, and how many count."""
    count = len(shape) - 2

    def each(value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, tuple) else (value,) * count

    kernel = each(attributes["kernel_size"])
    stride, dilation = each(attributes.get("stride", kernel)), each(attributes.get("dilation", 1))
    padding = [p if isinstance(p, tuple) else (p, p) for p in each(attributes.get("padding", 0))]
    space = []
    for n, k, s, d, (a, b) in zip(shape[2:], kernel, stride, dilation, padding, strict=True):
        free = n + a + b - d * (k - 1) - 1
        o = (math.ceil if attributes.get("ceil_mode") else math.floor)(free / s) + 1
        space.append(o - 1 if attributes.get("ceil_mode") and (o - 1) * s >= n + a else o)

    def at(place: tuple[int, ...]) -> tuple[list[tuple[int, ...]], int]:
        starts = [o * s - a for o, s, (a, _) in zip(place, stride, padding, strict=True)]
        inside = [
            tap
            for tap in product(
                *(
                    [start + t * d for t in range(k)]
                    for start, k, d in zip(starts, kernel, dilation, strict=True)
                )
            )
            if all(0 <= i < n for i, n in zip(tap, shape[2:], strict=True))
        ]
        ends = (
            min(start + k, n + b)
            for start, k, n, (_, b) in zip(starts, kernel, shape[2:], padding, strict=True)
        )
        padded = math.prod(end - start for start, end in zip(starts, ends, strict=True))
        return inside, padded if attributes.get("count_include_pad", True) else len(inside)

    return space, at


def maxima(x: np.ndarray, ct: np.ndarray | None, attributes: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """`max_pool` of ``x``, and the cotangent of ``x`` for ``ct``, ones by default."""
    space, at = windows(x.shape, attributes)
    y, dx = np.full((*x.shape[:2], *space), -np.inf), np.zeros(x.shape)
    ct = np.ones(y.shape) if ct is None else ct
    for place in product(*map(range, space)):
        inside, _ = at(place)
        for n, c in product(*map(range, x.shape[:2])):
            best = None
            for tap in inside:
                value = x[n, c, *tap]
                if (
                    best is None
                    or value > x[n, c, *best]
                    or (np.isnan(value) and not np.isnan(x[n, c, *best]))
                ):
                    best = tap
            if best is not None:
                y[n, c, *place] = x[n, c, *best]
                dx[n, c, *best] += ct[n, c, *place]
    return y, dx


def means(x: np.ndarray, ct: np.ndarray | None, attributes: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """`avg_pool` of ``x``, and the cotangent of ``x`` for ``ct``, ones by default."""
    space, at = windows(x.shape, attributes)
    y, dx = np.zeros((*x.shape[:2], *space)), np.zeros(x.shape)
    ct = np.ones(y.shape) if ct is None else ct
    for place in product(*map(range, space)):
        inside, counts = at(place)
        for tap in inside:
            y[:, :, *place] += x[:, :, *tap] / counts
            dx[:, :, *tap] += ct[:, :, *place] / counts
    return y, dx


def close(got: Any, expected: np.ndarray, dtype: str = "float64") -> None:
    assert got is not None
    assert got.dtype.name == dtype
    assert got.shape == expected.shape
    np.testing.assert_allclose(
        got.numpy().astype(np.float64), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype]
    )


def check(op: Any, oracle: Any, shape: Any, attributes: Any, dtype: str, device: str) -> None:
    rng = np.random.default_rng(0)
    x = tensor(rng.standard_normal(shape), dtype, device).requires_grad_()
    wide = x.detach().numpy().astype(np.float64)
    out = op(x, **attributes)
    ct = tensor(rng.standard_normal(out.shape), dtype, device)
    expected, slope = oracle(wide, ct.numpy().astype(np.float64), attributes)
    close(out, expected, dtype)
    out.backward(ct)
    close(x.grad, slope, dtype)


@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("case", (CASES | DILATED).values(), ids=CASES | DILATED)
def test_max_pool(case: Any, dtype: str, device: str) -> None:
    if case is CASES["large"]:
        case = ((2, 2, 33, 40), case[1])
    check(pg.max_pool, maxima, *case, dtype, device)


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("dtype", FLOATING)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_avg_pool(case: Any, dtype: str, include: bool, device: str) -> None:
    shape, attributes = case
    check(pg.avg_pool, means, shape, {**attributes, "count_include_pad": include}, dtype, device)


@pytest.mark.parametrize("case", [*CASES.values(), *DILATED.values()], ids=[*CASES, *DILATED])
def test_bodies(case: Any, device: str) -> None:
    """What a device without kernels of its own computes, gradients included."""
    shape, attributes = case
    rng = np.random.default_rng(1)
    host = rng.standard_normal(shape if math.prod(shape) < 1000 else (2, 2, 33, 40))
    x = pg.asarray(host, device=device)
    stated = {"stride": None, "padding": 0, "ceil_mode": False, **attributes}
    for op, oracle, more in (
        (pg.max_pool, maxima, {"dilation": 1}),
        (pg.avg_pool, means, {"count_include_pad": True}),
        (pg.avg_pool, means, {"count_include_pad": False}),
    ):
        if op is pg.avg_pool and "dilation" in attributes:
            continue
        given = {**more, **stated}
        normal = normalized(op, [x], given)
        out = by_body(op, x, **normal)
        ct = rng.standard_normal(out.shape)
        expected, slope = oracle(host, ct, {**more, **attributes})
        close(out, expected)
        rule = op.vjp.body
        assert rule is not None
        ct = pg.asarray(ct, device=device)
        got = rule(ct, x, out, **normal) if op is pg.max_pool else rule(ct, x.spec, **normal)
        close(got, slope)


def test_ties_and_nan_go_to_the_first(device: str) -> None:
    nan, inf = math.nan, math.inf
    for rows in (
        [[1.0, 1.0, 0.0, 2.0], [1.0, 1.0, 2.0, 2.0]],
        [[1.0, nan, nan, nan], [nan, 2.0, nan, nan]],
        [[-inf, -inf, inf, inf], [-inf, -inf, inf, inf]],
        [[0.0, -0.0, -0.0, 0.0], [0.0, 0.0, -0.0, -0.0]],
    ):
        host = np.array(rows)[None, None]
        for attributes in ({"kernel_size": 2}, {"kernel_size": 2, "stride": 1, "padding": 1}):
            expected, slope = maxima(host, None, attributes)
            x = pg.asarray(host, device=device).requires_grad_()
            out = pg.max_pool(x, **attributes)
            np.testing.assert_array_equal(out.detach().numpy(), expected)
            pg.sum(out).backward()
            assert_same(x.grad, slope)
            normal = normalized(
                pg.max_pool,
                [x],
                {"stride": None, "padding": 0, "dilation": 1, "ceil_mode": False, **attributes},
            )
            rule = pg.max_pool.vjp.body
            assert rule is not None
            body = rule(pg.asarray(np.ones(out.shape), device=device), x.detach(), out.detach(), **normal)
            assert_same(body, slope)


def test_an_infinite_cotangent_stays_where_it_belongs(device: str) -> None:
    x = pg.asarray(np.array([[[1.0, 2.0, 3.0, 4.0]]]), device=device).requires_grad_()
    pg.max_pool(x, 2).backward(pg.asarray(np.array([[[math.inf, math.nan]]]), device=device))
    np.testing.assert_array_equal(x.grad.numpy(), [[[0.0, math.inf, 0.0, math.nan]]])  # type: ignore[union-attr]


def test_operands_of_any_strides(device: str) -> None:
    rng = np.random.default_rng(2)
    x = pg.asarray(rng.standard_normal((2, 9, 8, 3)), device=device)
    h = x.numpy().transpose(0, 3, 1, 2)
    for view, host in (
        (pg.permute_dims(x, (0, 3, 1, 2)), h),
        (pg.permute_dims(x, (0, 3, 1, 2))[:, ::-1, ::2], h[:, ::-1, ::2]),
        (
            pg.broadcast_to(x[:1, :, :, :1], (2, 9, 8, 3)),
            np.broadcast_to(x.numpy()[:1, :, :, :1], (2, 9, 8, 3)),
        ),
    ):
        leaf = view.detach().requires_grad_()
        for op, oracle in ((pg.max_pool, maxima), (pg.avg_pool, means)):
            leaf.grad = None
            attributes = {"kernel_size": 3, "stride": 2, "padding": 1}
            out = op(leaf, **attributes)
            expected, slope = oracle(host, None, attributes)
            close(out, expected)
            pg.sum(out).backward()
            close(leaf.grad, slope)


def test_positional_window(device: str) -> None:
    x = pg.asarray(np.arange(8.0).reshape(1, 1, 8), device=device)
    assert_same(pg.max_pool(x, 4), [[[3.0, 7.0]]])
    assert_same(pg.avg_pool(x, (4,)), [[[1.5, 5.5]]])


def test_16_bit_means_accumulate_in_float32(device: str) -> None:
    x = tensor(np.full((1, 1, 32, 32), 255.0), "bfloat16", device)
    assert_same(pg.avg_pool(x, 32), [[[[255.0]]]])
    assert_same(
        by_body(
            pg.avg_pool,
            x,
            **normalized(
                pg.avg_pool,
                [x],
                {
                    "kernel_size": 32,
                    "stride": None,
                    "padding": 0,
                    "ceil_mode": False,
                    "count_include_pad": True,
                },
            ),
        ),
        [[[[255.0]]]],
    )


def test_third_order(device: str) -> None:
    rng = np.random.default_rng(3)
    x = pg.asarray(rng.permutation(8).reshape(1, 1, 8) / 4, device=device)
    assert gradcheck(lambda a: pg.tanh(pg.max_pool(a, 3, stride=2, padding=1)), (x,), order=3)
    assert gradcheck(lambda a: pg.tanh(pg.avg_pool(a, 3, stride=2, ceil_mode=True)), (x,), order=3)


@pytest.mark.parametrize("op", [pg.max_pool, pg.avg_pool], ids=["max_pool", "avg_pool"])
@pytest.mark.parametrize(
    ("shape", "attributes", "error", "message"),
    [
        ((4, 4), {"kernel_size": 2}, ShapeError, r"x has shape \(4, 4\), takes \(N, C, spatial\.\.\.\)"),
        ((1, 1, 0), {"kernel_size": 1}, ShapeError, "none empty"),
        (
            (1, 1, 4),
            {"kernel_size": 5},
            ShapeError,
            r"the kernel \(5,\) spans \(5,\), more than the spatial shape \(4,\)$",
        ),
        ((1, 1, 4), {"kernel_size": 9, "stride": 2, "ceil_mode": True}, ShapeError, r"spatial shape \(4,\)$"),
        ((1, 1, 4), {"kernel_size": 0}, ArgumentError, "kernel_size takes an integer of at least 1"),
        ((1, 1, 4), {"kernel_size": (2, 2)}, ArgumentError, "one for each of 1 spatial axes"),
        ((1, 1, 4), {"kernel_size": 2, "stride": 0}, ArgumentError, "stride takes an integer of at least 1"),
        (
            (1, 1, 4),
            {"kernel_size": 2, "padding": 2},
            ArgumentError,
            "padding 2 takes at most half of the window",
        ),
        (
            (1, 1, 4),
            {"kernel_size": 2, "padding": -1},
            ArgumentError,
            "padding takes an integer of at least 0",
        ),
        ((1, 1, 4), {"kernel_size": 2, "padding": "same"}, ArgumentError, "padding takes an integer"),
        (
            (1, 1, 4),
            {"kernel_size": 2, "ceil_mode": 1},
            ArgumentError,
            "ceil_mode takes True or False, got 1",
        ),
    ],
)
def test_errors(op: Any, shape: Any, attributes: Any, error: Any, message: str, device: str) -> None:
    with pytest.raises(error, match=message) as caught:
        op(pg.zeros(shape, device=device), **attributes)
    assert str(caught.value).startswith(f"{op.name}: ")


def test_other_errors(device: str) -> None:
    x = pg.zeros((1, 1, 4), device=device)
    with pytest.raises(ArgumentError, match="max_pool: dilation takes an integer of at least 1"):
        pg.max_pool(x, 2, dilation=0)
    with pytest.raises(ArgumentError, match="avg_pool: count_include_pad takes True or False"):
        pg.avg_pool(x, 2, count_include_pad=None)  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="max_pool: x is int64; takes float16"):
        pg.max_pool(x.astype("int64"), 2)
