"""Every op's gradient, by kernel and by body, against finite differences in float64, at first and second order.

A directional derivative along random tangents is compared with the adjoint: <ct, J t> = <J^T ct, t>.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import engine
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from support.samples import flat, operands, rounds, samples_of, stated_ops

STEP = 1e-5
DIFFERENTIABLE = [op for op in stated_ops() if op.differentiable and op.sampler is not None]


def results(op: Op[..., Any], sample: Sample, args: list[Any]) -> list[pg.Tensor]:
    return [r for r in flat(sample.apply(op, args)) if r.dtype.is_floating]


def moved(args: list[Any], tangents: list[np.ndarray], step: float) -> list[Any]:
    """The operands, each tracked tensor moved by ``step`` along its tangent."""
    left = iter(tangents)

    def move(value: Any) -> Any:
        if isinstance(value, list):
            return [move(v) for v in value]
        if isinstance(value, pg.Tensor) and value.requires_grad:
            host = value.numpy() + step * next(left)
            return pg.asarray(host, device=value.device).requires_grad_()
        return value

    return [move(a) for a in args]


def pairing(outs: list[pg.Tensor], cts: list[np.ndarray]) -> float:
    return float(sum((o.numpy() * c).sum() for o, c in zip(outs, cts, strict=True)))


def pulled(outs: list[pg.Tensor], cts: list[np.ndarray], leaves: list[pg.Tensor], create: bool) -> list[Any]:
    seeds = [
        (o._node, pg.asarray(c, device=o.device)) for o, c in zip(outs, cts, strict=True) if o.requires_grad
    ]
    found = engine.run(seeds, [leaf._node for leaf in leaves], create=create, retain=True)
    return [found.get(leaf._node) for leaf in leaves]


def host(ct: Any, leaf: pg.Tensor) -> np.ndarray:
    return np.zeros(leaf.shape) if ct is None else ct.numpy()


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_first_order(op: Op[..., Any], device: str) -> None:
    checked = False
    for sample in samples_of(op):
        rng = np.random.default_rng(1)
        args = operands(sample, "float64", device, requires_grad=True)
        leaves = [t for t in flat(args) if t.requires_grad]
        outs = results(op, sample, args)
        if not leaves or not outs or rounds(op, sample):
            continue
        checked = True
        cts = [rng.standard_normal(o.shape) for o in outs]
        tangents = [rng.standard_normal(leaf.shape) for leaf in leaves]
        plus, minus = (results(op, sample, moved(args, tangents, s)) for s in (STEP, -STEP))
        expected = (pairing(plus, cts) - pairing(minus, cts)) / (2 * STEP)
        by_kernel = pulled(outs, cts, leaves, False)
        by_body = pulled(outs, cts, leaves, True)
        for k, b, leaf in zip(by_kernel, by_body, leaves, strict=True):
            assert host(k, leaf).shape == leaf.shape
            np.testing.assert_allclose(
                host(k, leaf), host(b, leaf), rtol=1e-10, atol=1e-10, err_msg=f"{sample}"
            )
        got = sum((host(k, leaf) * t).sum() for k, leaf, t in zip(by_kernel, leaves, tangents, strict=True))
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7, err_msg=f"{op.name} {sample}")
    assert checked, f"{op.name} is differentiable, but no sample of it has a floating operand and result"


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_second_order(op: Op[..., Any], device: str) -> None:
    for sample in samples_of(op):
        check_second_order(op, sample, device)


def check_second_order(op: Op[..., Any], sample: Sample, device: str) -> None:
    rng = np.random.default_rng(2)
    args = operands(sample, "float64", device, requires_grad=True)
    leaves = [t for t in flat(args) if t.requires_grad]
    outs = results(op, sample, args)
    if not leaves or not outs or rounds(op, sample):
        return
    cts = [rng.standard_normal(o.shape) for o in outs]
    tangents = [rng.standard_normal(leaf.shape) for leaf in leaves]
    weights = [rng.standard_normal(leaf.shape) for leaf in leaves]

    def slope(step: float) -> float:
        at = moved(args, tangents, step)
        there = [t for t in flat(at) if t.requires_grad]
        grads = pulled(results(op, sample, at), cts, there, False)
        return float(sum((host(g, x) * w).sum() for g, x, w in zip(grads, there, weights, strict=True)))

    expected = (slope(STEP) - slope(-STEP)) / (2 * STEP)
    firsts = pulled(outs, cts, leaves, True)
    followed = [(g, w) for g, w in zip(firsts, weights, strict=True) if g is not None and g.requires_grad]
    got = 0.0
    if followed:
        seconds = pulled([g for g, _ in followed], [w for _, w in followed], leaves, False)
        got = sum((host(s, x) * t).sum() for s, x, t in zip(seconds, leaves, tangents, strict=True))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6, err_msg=f"{op.name} {sample}")
