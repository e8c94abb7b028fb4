"""Losses against their formulas in NumPy's float64: values, gradients, reductions, what is ignored, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, log_expit, log_softmax, softmax

import plugrad as pg
from plugrad.errors import ArgumentError, DTypeError, IndexRangeError, ShapeError
from support.oracles import by_body

Host = np.ndarray[Any, Any]
REDUCTIONS = ["mean", "sum", "none"]


def tensor(values: Any, device: str, dtype: str | None = "float64", grad: bool = False) -> pg.Tensor:
    return pg.asarray(np.asarray(values), dtype=dtype, device=device).requires_grad_(grad)


def reduced(loss: Host, reduction: str, divisor: float | None = None) -> Host:
    if reduction == "none":
        return loss
    return loss.sum() / ((loss.size if divisor is None else divisor) if reduction == "mean" else 1)


def pulled(loss: pg.Tensor, reduction: str, seed: int = 0) -> Host:
    """Run backward with a random cotangent, which is returned."""
    ct = np.random.default_rng(seed).standard_normal(loss.shape)
    loss.backward(pg.asarray(ct, dtype=loss.dtype, device=loss.device))
    return ct


def huber(d: Host, delta: float) -> Host:
    return np.where(np.abs(d) <= delta, d * d / 2, delta * (np.abs(d) - delta / 2))


PAIRS: dict[str, tuple[dict[str, Any], Callable[[Host], Host], Callable[[Host], Host]]] = {
    "mse_loss": ({}, lambda d: d * d, lambda d: 2 * d),
    "l1_loss": ({}, np.abs, np.sign),
    "huber_loss": ({"delta": 0.7}, lambda d: huber(d, 0.7), lambda d: np.clip(d, -0.7, 0.7)),
}


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 5), (300, 700), (0, 4)], ids=str)
@pytest.mark.parametrize("name", PAIRS)
def test_of_a_difference(name: str, shape: tuple[int, ...], reduction: str, device: str) -> None:
    attributes, value, slope = PAIRS[name]
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal(shape), rng.standard_normal(shape)
    x, t = tensor(a, device, grad=True), tensor(b, device, grad=True)
    loss = getattr(pg, name)(x, t, reduction=reduction, **attributes)
    if reduction == "mean" and not a.size:
        assert np.isnan(loss.numpy())
        return
    np.testing.assert_allclose(loss.numpy(), reduced(value(a - b), reduction), rtol=1e-12)
    ct = pulled(loss, reduction)
    expected = slope(a - b) * ct / (a.size if reduction == "mean" else 1)
    np.testing.assert_allclose(x.grad.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(t.grad.numpy(), -expected, rtol=1e-12)
    alone = tensor(b, device, grad=True)
    pulled(getattr(pg, name)(x.detach(), alone, reduction=reduction, **attributes), reduction)
    np.testing.assert_allclose(alone.grad.numpy(), -expected, rtol=1e-12)


def test_kinks_and_special_values(device: str) -> None:
    d = np.array([0.0, 1.0, -1.0, np.inf, np.nan])
    x = tensor(d, device, grad=True)
    loss = pg.l1_loss(x, pg.zeros_like(x), reduction="none")
    np.testing.assert_array_equal(loss.numpy(), np.abs(d))
    loss.backward(pg.ones_like(loss))
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, -1, 1, np.nan])
    x = tensor(d, device, grad=True)
    loss = pg.huber_loss(x, pg.zeros_like(x), reduction="none")
    np.testing.assert_array_equal(loss.numpy(), [0, 0.5, 0.5, np.inf, np.nan])
    loss.backward(pg.ones_like(loss))
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, -1, 1, np.nan])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weights", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")], ids=str)
@pytest.mark.parametrize("shape", [(), (6,), (5, 4), (200, 800)], ids=str)
def test_binary_cross_entropy(
    shape: tuple[int, ...], weights: tuple[str, ...], reduction: str, device: str
) -> None:
    rng = np.random.default_rng(2)
    a, b = 5 * rng.standard_normal(shape), rng.random(shape)
    hosts = {
        "weight": rng.uniform(0.5, 2, shape[-1:]) if "weight" in weights else np.ones(()),
        "pos_weight": rng.uniform(0.5, 2, (*shape[:-1], 1)[: len(shape)])
        if "pos_weight" in weights
        else np.ones(()),
    }
    w, p = hosts["weight"], hosts["pos_weight"]
    x, t = tensor(a, device, grad=True), tensor(b, device, grad=True)
    given = {n: tensor(hosts[n], device, grad=True) for n in weights}
    loss = pg.binary_cross_entropy_with_logits(x, t, reduction=reduction, **given)
    terms = -(p * b * log_expit(a) + (1 - b) * log_expit(-a))
    np.testing.assert_allclose(loss.numpy(), reduced(w * terms, reduction), rtol=1e-11)
    ct = pulled(loss, reduction) / (a.size if reduction == "mean" else 1)
    expected = {
        "x": w * (-p * b * expit(-a) + (1 - b) * expit(a)) * ct,
        "t": w * (log_expit(-a) - p * log_expit(a)) * ct,
        "weight": terms * ct,
        "pos_weight": -w * b * log_expit(a) * ct,
    }
    for name, leaf in {"x": x, "t": t, **given}.items():
        wanted = expected[name]
        if name in given:
            axes = tuple(i for i in range(-len(shape), 0) if i < -leaf.ndim or leaf.shape[i] == 1)
            wanted = wanted.sum(axis=axes).reshape(leaf.shape)
        np.testing.assert_allclose(leaf.grad.numpy(), wanted, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("weights", [(), ("weight",), ("pos_weight",), ("weight", "pos_weight")], ids=str)
def test_binary_cross_entropy_by_body_keeps_its_digits(weights: tuple[str, ...], device: str) -> None:
    """What a sure and right guess costs is tiny, and so are its slopes; they are as exact as any."""
    op = pg.binary_cross_entropy_with_logits
    a, b = (v.reshape(-1, 1) for v in np.meshgrid(np.linspace(-60, 60, 240), [0.0, 1e-9, 0.25, 1.0]))
    w, p = (0.7 if "weight" in weights else 1.0), (0.1 if "pos_weight" in weights else 1.0)
    x, t, ct = tensor(a, device), tensor(b, device), tensor(np.ones_like(a), device)
    weight, pos_weight = (
        tensor(np.full(a.shape, v), device) if n in weights else None
        for n, v in (("weight", w), ("pos_weight", p))
    )
    loss = by_body(op, x, t, weight, pos_weight, reduction="none")
    terms = -p * b * log_expit(a) - (1 - b) * log_expit(-a)
    np.testing.assert_allclose(loss.numpy(), w * terms, rtol=2e-14)

    def slope(name: str, *saved: Any, **specs: Any) -> Host:
        return by_body(op.vjp_for(name), ct, *saved, reduction="none", **specs).numpy()

    got, sure = slope("input", x, t, weight, pos_weight), (b == 0) | (b == 1)
    expected = w * ((1 - b) * expit(a) - p * b * expit(-a))
    np.testing.assert_allclose(got[sure], expected[sure], rtol=2e-14)
    np.testing.assert_allclose(got, expected, atol=1e-15)
    expected = w * (log_expit(-a) - p * log_expit(a))
    # The slope by the target crosses 0 in between.
    np.testing.assert_allclose(slope("target", x, weight, pos_weight), expected, rtol=2e-14, atol=1e-15)
    if weight is not None:
        np.testing.assert_allclose(slope("weight", x, t, pos_weight, weight=weight.spec), terms, rtol=2e-14)
    if pos_weight is not None:
        got = slope("pos_weight", x, t, weight, pos_weight=pos_weight.spec)
        np.testing.assert_allclose(got, -w * b * log_expit(a), rtol=2e-14)


def test_binary_cross_entropy_of_large_logits(device: str) -> None:
    x = tensor([1000.0, -1000.0, 1000.0, -1000.0], device, "float32", grad=True)
    t = tensor([1.0, 0.0, 0.0, 1.0], device, "float32")
    for weight in (None, tensor(1.0, device, "float32")):
        x.grad = None
        loss = pg.binary_cross_entropy_with_logits(x, t, None, weight, reduction="none")
        np.testing.assert_array_equal(loss.numpy(), [0, 0, 1000, 1000])
        loss.backward(pg.ones_like(loss))
        np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 1, -1])


# -- cross-entropy ----------------------------------------------------------------------------------------


def entropy(
    a: Host, target: Host, weight: Host | None, ignore: int, reduction: str, smoothing: float
) -> tuple[Host, Callable[[Host], Host]]:
    """The loss by the formula, classes last, and from its cotangent that of the scores."""
    classes = a.shape[-1]
    w = np.ones(classes) if weight is None else weight
    if target.dtype.kind == "f":
        wanted = w * (target * (1 - smoothing) + smoothing / classes)
        counted = np.ones(target.shape[:-1])
    else:
        valid = target != ignore
        labels = np.where(valid, target, 0)
        hot = (labels[..., None] == np.arange(classes)) * (1 - smoothing) + smoothing / classes
        wanted = w * hot * valid[..., None]
        counted = w[labels] * valid
    loss = reduced(-(wanted * log_softmax(a, axis=-1)).sum(axis=-1), reduction, counted.sum())

    def slope(ct: Host) -> Host:
        each = ct / counted.sum() if reduction == "mean" else ct
        each = np.broadcast_to(each, counted.shape)[..., None]
        return each * (softmax(a, axis=-1) * wanted.sum(axis=-1, keepdims=True) - wanted)

    return loss, slope


SHAPES = [(6, 5), (900, 40), (40, 9000), (3, 70_000), (3, 4, 6), (2, 21, 50, 60), (2, 5, 2, 3, 2), (7,)]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["labels", "ignored", "probabilities"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy(
    shape: tuple[int, ...], kind: str, weighted: bool, smoothing: float, reduction: str, device: str
) -> None:
    rng = np.random.default_rng(3)
    axis = 0 if len(shape) == 1 else 1
    classes = shape[axis]
    a = 3 * rng.standard_normal(shape)
    rows = (*shape[:axis], *shape[axis + 1 :])
    ignore = 1 if kind == "ignored" else -100
    if kind == "probabilities":
        target = rng.random(shape)
    else:
        target = np.asarray(rng.integers(2, min(classes, 300), rows))
        target.reshape(-1)[1::3] = 1
    w = rng.uniform(0.5, 2, classes) if weighted else None
    last = np.moveaxis(target, axis, -1) if kind == "probabilities" else target
    expected, slope = entropy(np.moveaxis(a, axis, -1), last, w, ignore, reduction, smoothing)
    goal = tensor(target, device, None)
    weight = None if w is None else tensor(w, device)
    for first in (tensor(a, device), pg.moveaxis(tensor(np.moveaxis(a, axis, -1), device), -1, axis)):
        x = first.detach().requires_grad_()
        loss = pg.cross_entropy(
            x, goal, weight, ignore_index=ignore, reduction=reduction, label_smoothing=smoothing
        )
        np.testing.assert_allclose(loss.numpy(), expected, rtol=1e-10)
        ct = pulled(loss, reduction)
        wanted = np.moveaxis(slope(ct), -1, axis)
        np.testing.assert_allclose(x.grad.numpy(), wanted, rtol=1e-8, atol=1e-10 * np.abs(wanted).max())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("probabilities", [False, True])
def test_low_precision(dtype: str, probabilities: bool, device: str) -> None:
    rng = np.random.default_rng(4)
    # 16-bit sums of 3000 exponentials, and of 60 losses, would be off by far more than the tolerance.
    low = tensor(rng.standard_normal((60, 3000)), device, dtype)
    target = (
        tensor(rng.random((60, 3000)) / 1500, device)
        if probabilities
        else tensor(np.arange(60), device, "int32")
    )
    results = []
    for chosen in (dtype, "float64"):
        x = low.astype(chosen).detach().requires_grad_()
        loss = pg.cross_entropy(x, target, label_smoothing=0.1)
        assert loss.dtype.name == chosen
        loss.backward()
        results.append((loss, x.grad))
    eps = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6}[dtype]
    for got, expected in zip(*results, strict=True):
        e = expected.numpy()
        assert np.abs(got.numpy().astype(np.float64) - e).max() < eps * np.abs(e).max()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_16_bit_floats_are_made_in_32(dtype: str, device: str) -> None:
    ones = pg.ones((5000,), dtype=dtype, device=device)
    for name in ("mse_loss", "l1_loss", "huber_loss"):
        got = getattr(pg, name)(ones, pg.zeros_like(ones))
        assert got.dtype.name == dtype
        assert float(got) == (0.5 if name == "huber_loss" else 1)
    loss = pg.binary_cross_entropy_with_logits(pg.zeros_like(ones), ones)
    np.testing.assert_allclose(float(loss), np.log(2), rtol=4e-3)


def test_large_scores(device: str) -> None:
    x = tensor([[1e4, -1e4, 0.0], [-1e30, 1e30, 0.0], [-np.inf, 0.0, 0.0]], device, "float32", grad=True)
    loss = pg.cross_entropy(x, tensor([0, 0, 1], device, None), reduction="none")
    np.testing.assert_allclose(loss.numpy(), [0, 2e30, np.log(2)], rtol=1e-6)
    loss.backward(pg.ones_like(loss))
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 0], [-1, 1, 0], [0, -0.5, 0.5]], rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_nothing_that_counts(weighted: bool, device: str) -> None:
    w = tensor(np.ones(3), device) if weighted else None
    target = tensor([-100, -100], device, None)
    # What does not count may be anything.
    x = tensor([[1.0, np.nan, 2.0], [np.inf, 1.0, 1.0]], device, grad=True)
    loss = pg.cross_entropy(x, target, w)
    assert np.isnan(float(loss))
    loss.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 0)
    assert float(pg.cross_entropy(x, target, w, reduction="sum", label_smoothing=0.1)) == 0
    none = pg.zeros((0, 3), device=device)
    empty = pg.zeros((0,), dtype="int64", device=device)
    assert np.isnan(float(pg.cross_entropy(none, empty)))
    assert pg.cross_entropy(none, empty, reduction="none").shape == (0,)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("counting", [False, True])
def test_what_does_not_count_by_body(counting: bool, weighted: bool, smoothing: float, device: str) -> None:
    """By the rules' bodies: rows that do not count have gradient 0, whatever stands there."""
    op = pg.cross_entropy
    attributes: dict[str, Any] = {"ignore_index": -100, "reduction": "mean", "label_smoothing": smoothing}
    target = tensor([-100, 1 if counting else -100, -100], device, None)
    w = tensor([0.5, 1.0, 2.0], device) if weighted else None
    x = tensor([[1.0, np.nan, 2.0], [0.0, 1.0, 2.0], [np.inf, 1.0, 1.0]], device)
    out, normalizer = by_body(op, x, target, w, residuals=True, **attributes)
    ct = tensor(1.0, device)
    slope = by_body(op.vjp_for("input"), ct, x, target, w, normalizer, **attributes).numpy()
    np.testing.assert_array_equal(slope[[0, 2]], 0)
    by_weight = None
    if w is not None:
        by_weight = by_body(op.vjp_for("weight"), ct, x, target, w, normalizer, out, **attributes).numpy()
    if not counting:
        assert np.isnan(float(out))
        np.testing.assert_array_equal(slope, 0)
        np.testing.assert_array_equal(0 if by_weight is None else by_weight, 0)
        return
    alone = x[1:2].detach().requires_grad_()
    weight = None if w is None else w.detach().requires_grad_()
    loss = pg.cross_entropy(alone, target[1:2], weight, **attributes)
    loss.backward()
    np.testing.assert_allclose(float(out), float(loss))
    np.testing.assert_allclose(slope[1:2], alone.grad.numpy())
    if by_weight is not None:
        np.testing.assert_allclose(by_weight, weight.grad.numpy(), atol=1e-15)


def test_weights_of_zero_by_body(device: str) -> None:
    """The mean over what counts nothing is NaN, and its gradient 0."""
    op = pg.cross_entropy
    attributes: dict[str, Any] = {"ignore_index": -100, "reduction": "mean", "label_smoothing": 0.0}
    x, target, w = tensor(np.eye(2, 3), device), tensor([0, 1], device, None), tensor([0.0, 0.0, 2.0], device)
    out, normalizer = by_body(op, x, target, w, residuals=True, **attributes)
    assert np.isnan(float(out))
    ct = tensor(1.0, device)
    for name, saved in (("input", ()), ("weight", (out,))):
        slope = by_body(op.vjp_for(name), ct, x, target, w, normalizer, *saved, **attributes)
        np.testing.assert_array_equal(slope.numpy(), 0)


@pytest.mark.parametrize("label", [-1, 3, 100])
def test_labels_out_of_range(label: int, device: str) -> None:
    x = pg.zeros((2, 3), device=device)
    for dtype in ("int32", "int64"):
        with pytest.raises(IndexRangeError, match=str(label) if device.startswith("numpy") else None):
            pg.cross_entropy(x, pg.asarray([1, label], dtype=dtype, device=device)).numpy()


def test_under_autocast(device: str) -> None:
    x = tensor(np.ones((2, 3)), device, "bfloat16")
    with pg.autocast("bfloat16"):
        assert pg.cross_entropy(x, tensor([0, 1], device, None)).dtype.name == "float32"
        assert pg.mse_loss(x, x).dtype.name == "float32"


def test_errors(device: str) -> None:
    x, y = tensor(np.ones((4, 3)), device, "float32"), tensor(np.ones((3,)), device, "float32")
    labels = tensor(np.zeros(4), device, "int64")
    small = labels.astype("int8")
    bce, ce = pg.binary_cross_entropy_with_logits, pg.cross_entropy
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ShapeError, r"mse_loss: input has shape \(4, 3\), target \(3,\)", lambda: pg.mse_loss(x, y)),
        (ArgumentError, r"l1_loss: reduction takes .* got 'avg'", lambda: pg.l1_loss(x, x, reduction="avg")),
        (
            ArgumentError,
            r"huber_loss: delta takes a number above 0, got 0",
            lambda: pg.huber_loss(x, x, delta=0),
        ),
        (DTypeError, r"mse_loss: input is int64", lambda: pg.mse_loss(labels, labels)),
        (ShapeError, r"binary_cross_entropy_with_logits: input has shape", lambda: bce(x, y)),
        (ShapeError, r"weight of shape \(2, 4, 3\) does not broadcast", lambda: bce(x, x, pg.stack([x, x]))),
        (ShapeError, r"cross_entropy: input has shape \(\)", lambda: ce(pg.ones((), device=device), labels)),
        (ShapeError, r"cross_entropy: target has shape \(4,\); takes labels \(\)", lambda: ce(y, labels)),
        (ShapeError, r"cross_entropy: target has shape \(3,\); takes probabilities", lambda: ce(x, y)),
        (ShapeError, r"cross_entropy: weight has shape \(4, 3\); takes \(3,\)", lambda: ce(x, labels, x)),
        (ShapeError, r"cross_entropy: input of shape \(4, 0\) has no classes", lambda: ce(x[:, :0], labels)),
        (DTypeError, r"cross_entropy: target is int8; takes int32, int64", lambda: ce(x, small)),
        (
            ArgumentError,
            r"label_smoothing takes a number in \[0, 1\]",
            lambda: ce(x, labels, label_smoothing=2),
        ),
        (ArgumentError, r"cross_entropy: reduction takes", lambda: ce(x, labels, reduction=None)),
        (ArgumentError, r"ignore_index takes an integer", lambda: ce(x, labels, ignore_index=0.5)),
    ]
    for error, match, call in cases:
        with pytest.raises(error, match=match):
            call()
