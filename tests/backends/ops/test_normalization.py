"""Norms against their formulas in NumPy's float64: values, gradients, layouts, running statistics, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.ops import batch_norm_inference, batch_norm_training

Host = np.ndarray[Any, Any]
TOLERANCE = {"float64": 1e-10, "float32": 2e-5, "float16": 5e-3, "bfloat16": 4e-2}


def tensor(values: Any, device: str, dtype: str = "float64", grad: bool = False) -> pg.Tensor:
    return pg.asarray(np.asarray(values), dtype=dtype, device=device).requires_grad_(grad)


def channels_last(values: Host, device: str, dtype: str = "float64") -> pg.Tensor:
    """A tensor of shape (N, C, *S) whose memory runs (N, *S, C), where the device follows strides."""
    moved = tensor(np.moveaxis(values, 1, -1), device, dtype)
    return pg.permute_dims(moved, (0, values.ndim - 1, *range(1, values.ndim - 1)))


def column(v: Host, ndim: int) -> Host:
    return v.reshape(-1, *(1,) * (ndim - 2))


def standard(x: Host, axis: tuple[int, ...], eps: float) -> Host:
    return (x - x.mean(axis=axis, keepdims=True)) / np.sqrt(x.var(axis=axis, keepdims=True) + eps)


def layer(x: Host, w: Host, b: Host, axes: int, eps: float = 1e-5) -> Host:
    return standard(x, tuple(range(x.ndim - axes, x.ndim)), eps) * w + b


def rms(x: Host, w: Host, eps: float) -> Host:
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + eps) * w


def group(x: Host, groups: int, w: Host, b: Host, eps: float = 1e-5) -> Host:
    out = standard(x.reshape(len(x), groups, -1), (2,), eps).reshape(x.shape)
    return out * column(w, x.ndim) + column(b, x.ndim)


def batch(x: Host, w: Host, b: Host, eps: float = 1e-5) -> Host:
    axis = (0, *range(2, x.ndim))
    return standard(x, axis, eps) * column(w, x.ndim) + column(b, x.ndim)


def slopes(f: Callable[..., Host], operands: list[Host], ct: Host, rng: np.random.Generator) -> list[Any]:
    """Random tangents of the operands, and the derivative of <ct, f> along each, by central differences."""
    found = []
    for i, o in enumerate(operands):
        t = rng.standard_normal(o.shape)
        sides = [[*operands[:i], o + s * t, *operands[i + 1 :]] for s in (1e-5, -1e-5)]
        found.append((t, ((f(*sides[0]) - f(*sides[1])) * ct).sum() / 2e-5))
    return found


def hold(
    f: Callable[..., pg.Tensor], formula: Callable[..., Host], operands: list[Host], device: str, **kinds: Any
) -> None:
    """Hold values and gradients of ``f`` against ``formula``; the first operand is made by ``kinds["first"]``."""
    first = kinds.get("first", tensor)
    rng = np.random.default_rng(9)
    expected = formula(*operands)
    ct = rng.standard_normal(expected.shape)
    given = [first(operands[0], device), *(tensor(o, device) for o in operands[1:])]
    leaves = [g.detach().requires_grad_() for g in given]
    out = f(*leaves)
    np.testing.assert_allclose(out.numpy(), expected, rtol=1e-9, atol=1e-9)
    out.backward(first(ct, device) if kinds.get("same", True) else tensor(ct, device))
    for leaf, (tangent, slope) in zip(leaves, slopes(formula, operands, ct, rng), strict=True):
        assert leaf.grad is not None
        got = (leaf.grad.numpy() * tangent).sum()
        np.testing.assert_allclose(got, slope, rtol=2e-5, atol=2e-5 * np.sqrt(expected.size))


@pytest.mark.parametrize("shape", [(5, 7), (1200, 300), (40, 3, 16), (2, 70_000)])
def test_rows(shape: tuple[int, ...], device: str) -> None:
    rng = np.random.default_rng(1)
    x, w, b = rng.standard_normal(shape) + 3, rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1])
    hold(
        lambda x, w, b: pg.layer_norm(x, shape[-1], w, b),
        lambda x, w, b: layer(x, w, b, 1),
        [x, w, b],
        device,
    )
    hold(lambda x, w: pg.rms_norm(x, shape[-1], w, eps=1e-3), lambda x, w: rms(x, w, 1e-3), [x, w], device)


def test_layer_norm_over_several_axes_of_a_transposed_view(device: str) -> None:
    rng = np.random.default_rng(2)
    x, w, b = rng.standard_normal((4, 5, 3)), rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    hold(
        lambda x, w, b: pg.layer_norm(x.permute_dims(0, 2, 1), (3, 5), w, b, eps=0.1),
        lambda x, w, b: layer(x.transpose(0, 2, 1), w, b, 2, 0.1),
        [x, w, b],
        device,
    )


SHAPES = [
    (6, 4),
    (300, 200),
    (5, 6, 3),
    (4, 6, 5, 7),
    (3, 8, 40, 30),
    (2, 12, 2, 3, 4),
    (8, 64, 16, 16),
    (2, 4, 200, 250),
]


@pytest.mark.parametrize("first", [tensor, channels_last])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_channels(shape: tuple[int, ...], first: Any, same: bool, device: str) -> None:
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape) * 2 + rng.standard_normal((1, shape[1], *(1,) * (len(shape) - 2)))
    w, b = rng.standard_normal(shape[1]), rng.standard_normal(shape[1])
    mean, var = rng.standard_normal(shape[1]), rng.uniform(0.5, 2, shape[1])
    kinds = {"first": first, "same": same}
    hold(lambda x, w, b: batch_norm_training(x, w, b)[0], batch, [x, w, b], device, **kinds)
    hold(
        lambda x, w, b: pg.group_norm(x, 2, w, b),
        lambda x, w, b: group(x, 2, w, b),
        [x, w, b],
        device,
        **kinds,
    )

    def given(x: Host, m: Host, v: Host, w: Host, b: Host) -> Host:
        m, v, w, b = (column(a, x.ndim) for a in (m, v, w, b))
        return (x - m) / np.sqrt(v + 1e-5) * w + b

    hold(batch_norm_inference, given, [x, mean, var, w, b], device, **kinds)


@pytest.mark.parametrize("first", [tensor, channels_last])
def test_statistics_of_a_batch(first: Any, device: str) -> None:
    x = np.random.default_rng(4).standard_normal((30, 5, 20, 11)) + 50
    _, mean, var = batch_norm_training(first(x, device, "float32"))
    np.testing.assert_allclose(mean.numpy(), x.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), x.var(axis=(0, 2, 3), ddof=1), rtol=1e-5)
    _, mean, var = batch_norm_training(first(x - 50, device, "float16"))
    assert mean.dtype.name == var.dtype.name == "float32"
    np.testing.assert_allclose(var.numpy(), x.var(axis=(0, 2, 3), ddof=1), rtol=1e-3)


@pytest.mark.parametrize("shape", [(4000, 3), (3, 4000), (16, 3, 500), (500, 3, 16)])
def test_no_digits_cancel_where_the_mean_is_large(shape: tuple[int, ...], device: str) -> None:
    # The values are exact in float32; half of the batch is constant, so that no pilot is near the mean.
    x = np.random.default_rng(5).integers(0, 64, shape).astype(np.float64)
    x[: shape[0] // 2] = 0
    x += 4096
    axis = (0, *range(2, len(shape)))
    out, mean, var = batch_norm_training(tensor(x, device, "float32"))
    np.testing.assert_allclose(mean.numpy(), x.mean(axis=axis), rtol=1e-6)
    np.testing.assert_allclose(var.numpy(), x.var(axis=axis, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(out.numpy(), standard(x, axis, 1e-5), atol=2e-3)
    x = np.random.default_rng(5).integers(0, 64, (50, 300)) + 4096.0
    out = pg.layer_norm(tensor(x, device, "float32"), 300)
    np.testing.assert_allclose(out.numpy(), standard(x, (1,), 1e-5), atol=2e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_low_precision(dtype: str, device: str) -> None:
    rng = np.random.default_rng(6)
    low = [
        tensor(v, device, dtype)
        for v in (rng.standard_normal((70, 6, 40)), rng.uniform(0.5, 1, 6), rng.standard_normal(6))
    ]
    rows = [tensor(v, device, dtype) for v in (rng.uniform(0.5, 1, 40), rng.standard_normal(40))]
    ct = tensor(rng.standard_normal((70, 6, 40)), device, dtype)
    cases: list[tuple[Any, list[pg.Tensor]]] = [
        (lambda x, w, b: batch_norm_training(x, w, b)[0], low),
        (lambda x, w, b: pg.group_norm(x, 3, w, b), low),
        (lambda x, w, b: batch_norm_inference(x, b, w, w, b), low),
        (lambda x, w, b: pg.layer_norm(x, 40, w, b), [low[0], *rows]),
        (lambda x, w: pg.rms_norm(x, 40, w), [low[0], rows[0]]),
    ]
    for f, operands in cases:
        results = []
        for chosen in (dtype, "float64"):
            leaves = [o.astype(chosen).detach().requires_grad_() for o in operands]
            out = f(*leaves)
            assert out.dtype.name == chosen
            out.backward(ct.astype(chosen))
            results.append([out, *(leaf.grad for leaf in leaves)])
        for got, expected in zip(*results, strict=True):
            e = expected.numpy()
            scale = np.abs(e).max()
            assert np.abs(got.numpy().astype(np.float64) - e).max() / scale < TOLERANCE[dtype]


def test_only_what_is_wanted_gets_a_gradient(device: str) -> None:
    rng = np.random.default_rng(7)
    x, w, b = (tensor(rng.standard_normal(s), device) for s in ((4, 3, 5), (3,), (3,)))
    whole = [t.detach().requires_grad_() for t in (x, w, b)]
    ct = tensor(rng.standard_normal((4, 3, 5)), device)
    for f in (lambda *a: batch_norm_training(*a)[0], lambda x, w, b: pg.group_norm(x, 3, w, b)):
        for t in whole:
            t.grad = None
        f(*whole).backward(ct)
        for i, full in enumerate(whole):
            one = [t.detach().requires_grad_(i == k) for k, t in enumerate((x, w, b))]
            f(*one).backward(ct)
            assert full.grad is not None
            assert [t.grad is not None for t in one] == [i == k for k in range(3)]
            np.testing.assert_allclose(one[i].grad.numpy(), full.grad.numpy(), rtol=1e-12)  # type: ignore[union-attr]


def test_promotion(device: str) -> None:
    x, w = tensor(np.ones((2, 3)), device, "float16"), tensor(np.ones(3), device, "float32")
    assert pg.layer_norm(x, 3, w).dtype.name == "float32"
    assert batch_norm_inference(x, w, w).dtype.name == "float16"
    with pg.autocast("bfloat16"):
        assert pg.layer_norm(x, 3).dtype.name == "float32"
    with pytest.raises(DTypeError, match=r"layer_norm: x is int64; takes float16"):
        pg.layer_norm(pg.asarray([[1, 2]], device=device), 2)


def test_rms_norm_takes_the_machine_epsilon(device: str) -> None:
    x = np.array([[1e-5, -2e-5, 3e-5]])
    got = pg.rms_norm(tensor(x, device, "float32"), 3)
    np.testing.assert_allclose(got.numpy(), rms(x, np.ones(3), np.finfo(np.float32).eps), rtol=1e-5)


def test_special_values(device: str) -> None:
    flat = pg.layer_norm(tensor(np.full((2, 4), 3.0), device), 4)
    np.testing.assert_array_equal(flat.numpy(), 0)
    rows = pg.layer_norm(tensor([[1.0, np.nan], [1.0, 2.0], [np.inf, 1.0]], device), 2).numpy()
    assert np.isnan(rows[0]).all()
    assert np.isfinite(rows[1]).all()
    assert np.isnan(rows[2]).all()
    columns = batch_norm_training(tensor([[1.0, np.nan], [2.0, 3.0]], device))[0].numpy()
    assert np.isnan(columns[:, 1]).all()
    assert np.isfinite(columns[:, 0]).all()


def test_empty_batches(device: str) -> None:
    w = tensor(np.ones(3), device, grad=True)
    empty = tensor(np.ones((0, 3, 4)), device, grad=True)
    for out in (pg.group_norm(empty, 1, w, w), batch_norm_inference(empty, w, w, w, w)):
        assert out.shape == (0, 3, 4)
        w.grad = None
        out.backward(pg.ones_like(out))
        np.testing.assert_array_equal(w.grad.numpy(), 0)


def test_batch_norm_trains_and_runs(device: str) -> None:
    rng = np.random.default_rng(8)
    x, w, b = rng.standard_normal((6, 3, 4)), rng.standard_normal(3), rng.standard_normal(3)
    m, v = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    mean, var = tensor(m, device, "float32"), tensor(v, device, "float32")
    kept = mean.detach()
    leaf = tensor(x, device, grad=True)
    out = pg.batch_norm(leaf, mean, var, tensor(w, device), tensor(b, device), training=True, momentum=0.3)
    np.testing.assert_allclose(out.numpy(), batch(x, w, b), rtol=1e-9)
    np.testing.assert_allclose(mean.numpy(), 0.7 * m + 0.3 * x.mean(axis=(0, 2)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var.numpy(), 0.7 * v + 0.3 * x.var(axis=(0, 2), ddof=1), rtol=1e-5)
    np.testing.assert_array_equal(kept.numpy(), m.astype(np.float32))
    assert not mean.requires_grad
    assert out.requires_grad
    m, v = mean.numpy(), var.numpy()
    running = pg.batch_norm(leaf, mean, var, tensor(w, device), eps=0.2)
    expected = (x - column(m, 3)) / np.sqrt(column(v, 3) + 0.2) * column(w, 3)
    np.testing.assert_allclose(running.numpy(), expected, rtol=1e-6)
    np.testing.assert_array_equal(mean.numpy(), m)
    alone = pg.batch_norm(leaf, None, None, training=True)
    np.testing.assert_allclose(alone.numpy(), batch(x, np.ones(3), np.zeros(3)), rtol=1e-9)


def test_errors(device: str) -> None:
    x, w2, w3 = (tensor(np.ones(s), device, "float32") for s in ((4, 3), (2,), (3,)))
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (
            ShapeError,
            r"layer_norm: normalized_shape \(4,\) for x of shape \(4, 3\)",
            lambda: pg.layer_norm(x, 4),
        ),
        (ShapeError, r"layer_norm: normalized_shape \(\)", lambda: pg.layer_norm(x, ())),
        (ShapeError, r"layer_norm: normalized_shape \(1, 4, 3\)", lambda: pg.layer_norm(x, (1, 4, 3))),
        (ArgumentError, r"layer_norm: normalized_shape takes an integer", lambda: pg.layer_norm(x, 3.0)),
        (ShapeError, r"layer_norm: weight has shape \(2,\); takes \(3,\)", lambda: pg.layer_norm(x, 3, w2)),
        (ShapeError, r"layer_norm: bias has shape \(2,\); takes \(3,\)", lambda: pg.layer_norm(x, 3, w3, w2)),
        (ShapeError, r"rms_norm: weight has shape \(2,\)", lambda: pg.rms_norm(x, 3, w2)),
        (ArgumentError, r"rms_norm: eps takes a number .* got -1", lambda: pg.rms_norm(x, 3, eps=-1)),
        (ArgumentError, r"group_norm: num_groups 2 for 3 channels", lambda: pg.group_norm(x, 2)),
        (ArgumentError, r"group_norm: num_groups 0 for 3 channels", lambda: pg.group_norm(x, 0)),
        (ShapeError, r"group_norm: x has shape \(3,\); takes \(N, C", lambda: pg.group_norm(w3, 1)),
        (
            ShapeError,
            r"group_norm: a group of x of shape \(4, 3, 0\)",
            lambda: pg.group_norm(x[:, :, None][:, :, :0], 1),
        ),
        (
            ShapeError,
            r"group_norm: bias has shape \(2,\); takes \(3,\)",
            lambda: pg.group_norm(x, 1, None, w2),
        ),
        (ShapeError, r"batch_norm: x has shape \(3,\)", lambda: batch_norm_training(w3)),
        (ShapeError, r"batch_norm: .*fewer than 2 values per channel", lambda: batch_norm_training(x[:1])),
        (ShapeError, r"batch_norm.*: weight has shape \(2,\)", lambda: batch_norm_training(x, w2)),
        (ShapeError, r"batch_norm: the running var has shape \(2,\)", lambda: pg.batch_norm(x, w3, w2)),
        (
            ShapeError,
            r"batch_norm: the running mean has shape \(2,\)",
            lambda: pg.batch_norm(x, w2, w3, training=True),
        ),
        (
            ArgumentError,
            r"batch_norm: takes running_mean and running_var",
            lambda: pg.batch_norm(x, None, w3),
        ),
        (
            ArgumentError,
            r"batch_norm: momentum 1.5 is outside",
            lambda: pg.batch_norm(x, w3, w3, training=True, momentum=1.5),
        ),
    ]
    for error, match, call in cases:
        with pytest.raises(error, match=match):
            call()
