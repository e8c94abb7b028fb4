"""Third derivatives of every differentiable op, and second ones of compositions, against finite differences.

First and second derivatives of the ops are in ``tests/backends/test_gradients.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import checkpoint, grad, gradcheck
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from support.samples import flat, operands, rounds, samples_of, stated_ops

STEP = 5e-4
DIFFERENTIABLE = [op for op in stated_ops() if op.differentiable and op.sampler is not None]


def along_a_line(op: Op[..., Any], sample: Sample, device: str) -> Callable[[Any], Any] | None:
    """A number made of the op's results, as a function of how far its operands are moved along a direction."""
    rng = np.random.default_rng(3)
    args = operands(sample, "float64", device)
    moving = [t for t in flat(args) if t.dtype.is_floating]
    directions = [pg.asarray(rng.uniform(-1, 1, t.shape), device=device) for t in moving]
    outs = [r for r in flat(sample.apply(op, args)) if r.dtype.is_floating]
    weights = [pg.asarray(rng.standard_normal(o.shape), device=device) for o in outs]
    if not moving or not outs:
        return None

    def moved(value: Any, t: Any, left: Any) -> Any:
        if isinstance(value, list):
            return [moved(v, t, left) for v in value]
        if isinstance(value, pg.Tensor) and value.dtype.is_floating:
            return value + t * next(left)
        return value

    def number(t: Any) -> Any:
        left = iter(directions)
        results = flat(sample.apply(op, [moved(a, t, left) for a in args]))
        total: Any = 0.0
        for r, w in zip([r for r in results if r.dtype.is_floating], weights, strict=True):
            total = total + pg.sum(r * w)
        return total

    return number


@pytest.mark.parametrize("op", DIFFERENTIABLE, ids=lambda op: op.name)
def test_third_order(op: Op[..., Any], device: str) -> None:
    checked = False
    for sample in samples_of(op):
        number = along_a_line(op, sample, device)
        if number is None or rounds(op, sample):
            continue
        checked = True
        got = float(grad(grad(grad(number)))(pg.asarray(np.float64(0.0), device=device)))
        at = {k: float(number(pg.asarray(np.float64(k * STEP), device=device))) for k in (-2, -1, 1, 2)}
        if not np.isfinite(list(at.values())).all():
            continue  # the log of an empty sum is minus infinity everywhere
        expected = (at[2] - 2 * at[1] + 2 * at[-1] - at[-2]) / (2 * STEP**3)
        rounding = 1e-15 * max(map(abs, at.values())) / STEP**3
        np.testing.assert_allclose(
            got, expected, rtol=1e-3, atol=1e-4 + 10 * rounding, err_msg=f"{op.name} {sample}"
        )
    assert checked, f"{op.name} is differentiable, but no sample of it has a floating operand and result"


def softmax(x: pg.Tensor) -> pg.Tensor:
    e = pg.exp(x - pg.max(x, axis=-1, keepdims=True))
    return e / pg.sum(e, axis=-1, keepdims=True)


def attention(q: pg.Tensor, k: pg.Tensor, v: pg.Tensor) -> pg.Tensor:
    return softmax(q @ k.mT / 2.0) @ v


def normalised(x: pg.Tensor) -> pg.Tensor:
    return (x - pg.mean(x, axis=0)) / pg.sqrt(pg.var(x, axis=0) + 0.1)


def network(p: dict[str, Any], x: pg.Tensor) -> pg.Tensor:
    for w, b in p["layers"]:
        x = pg.tanh(x @ w + b)
    return x


def recurrent(x: pg.Tensor, w: pg.Tensor) -> pg.Tensor:
    h = pg.zeros(2, dtype="float64")
    steps = []
    for _ in range(3):
        h = pg.tanh(w @ h + x)
        steps.append(h)
    return pg.stack(steps)


def pieces(x: pg.Tensor) -> pg.Tensor:
    left, right = x[:, :2], x[:, 1:]
    whole = pg.concat([left * right, pg.flip(x, axis=1)], axis=1)
    return pg.where(whole > 0.0, whole * whole, pg.exp(whole))


def energy(x: pg.Tensor) -> pg.Tensor:
    """Its gradient is an argument of the next op, as a force is."""
    force = grad(lambda x: pg.sum(pg.tanh(x) * x * x))(x)
    return pg.sum(force * force)


def links(x: pg.Tensor) -> pg.Tensor:
    return checkpoint(lambda a: checkpoint(lambda b: pg.tanh(b) * x, a * a) + a, pg.exp(x))


COMPOSITIONS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (softmax, ((2, 3),)),
    (lambda x: pg.log(pg.sum(pg.exp(x))), ((4,),)),
    (attention, ((2, 2), (3, 2), (3, 2))),
    (normalised, ((3, 2),)),
    (network, ({"layers": [((2, 2), (2,)), ((2, 1), (1,))]}, (3, 2))),
    (recurrent, ((2,), (2, 2))),
    (pieces, ((2, 3),)),
    (energy, ((3,),)),
    (links, ((3,),)),
    (lambda x, y: pg.sqrt(1.0 + x * x) / (2.0 + pg.tanh(y)) ** 3.0, ((2, 1), (3,))),
    (lambda x: [pg.max(x * x, axis=0), {"p": pg.prod(x, axis=1)}], ((2, 3),)),
]


def drawn(form: Any, rng: np.random.Generator) -> Any:
    """Tensors in place of shapes."""
    if isinstance(form, tuple) and all(isinstance(n, int) for n in form):
        return pg.asarray(rng.standard_normal(form))
    if isinstance(form, dict):
        return {k: drawn(v, rng) for k, v in form.items()}
    return [drawn(v, rng) for v in form]


@pytest.mark.parametrize(("f", "form"), COMPOSITIONS, ids=lambda v: getattr(v, "__name__", None))
def test_second_order_of_compositions(f: Callable[..., Any], form: Any, device: str) -> None:
    with pg.use_device(device):
        inputs = [drawn(v, np.random.default_rng(4)) for v in form]
        assert gradcheck(f, inputs, order=2, atol=1e-6, rtol=1e-5)
