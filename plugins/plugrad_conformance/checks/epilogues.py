"""``epilogues``: products and pools, and what follows them, through a plan that may compute both at once.

A plan joins an activation, a mask or a residual with the op before it where that op's kernel has a way to. Each case is a product
or a pool of an activation, with a tail, forward and backward, captured, and replayed with other values, against the same on oracles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad.dispatch.modes import changed
from plugrad.graph.any_size import of_any_size
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, on_reference, place_on
from plugrad_conformance.checks.vjp import halves
from plugrad_conformance.measure import Wanted, compare
from plugrad_conformance.subject import tensors
from plugrad_conformance.tolerances import Gradient

Host = np.ndarray[Any, Any]

TIMES: Final = 3
BOUND: Final = Gradient(64)
"""A product and its tail, each within half of it."""

HEADS: Final[dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]]] = {
    "linear": (lambda x, w, b: pg.linear(x, w, b), ((9, 5), (7, 5), (7,))),
    "linear/rows": (lambda x, w: pg.linear(x, w), ((2, 3, 5), (7, 5))),
    "matrix_product": (lambda x, w: x @ w, ((9, 5), (5, 7))),
    "conv": (lambda x, w, b: pg.conv(x, w, b, padding=1), ((3, 2, 6, 5), (4, 2, 3, 3), (4,))),
    "conv/groups": (lambda x, w: pg.conv(x, w, stride=2, groups=2), ((2, 4, 7, 5), (6, 2, 3, 2))),
    "conv/one-axis": (lambda x, w, b: pg.conv(x, w, b, dilation=2), ((2, 3, 11), (5, 3, 3), (5,))),
    "batch_norm_training": (
        lambda x, w, b: pg.batch_norm_training(x, w, b, eps=0.1)[0],
        ((3, 4, 5, 3), (4,), (4,)),
    ),
    "max_pool": (lambda x: pg.max_pool(x, kernel_size=2, stride=2), ((3, 2, 6, 5),)),
}
"""By name, the product, and the shapes of its operands."""

TAILS: Final[dict[str, Callable[[Any], Any]]] = {
    "activation": lambda t: pg.relu(t.product),
    "residual": lambda t: t.residual + t.product,
    "difference": lambda t: t.residual - t.product,
    "mask": lambda t: pg.where(t.mask, t.product, 0.5),
    "scale": lambda t: pg.relu(t.product * t.scale) * t.residual,
    "chain": lambda t: pg.tanh(t.product * 0.25 + t.residual) - t.product / 4,
    "several": lambda t: (t.product, pg.silu(t.product), pg.square(t.product) > t.residual),
}
"""By name, what follows a product. ``residual`` and ``mask`` have its shape, ``scale`` has 1 along all axes but one."""


def cases() -> Iterator[Case]:
    """By product and tail."""
    for head in HEADS:
        op, _, form = head.partition("/")
        for tail in TAILS:
            variant = f"{form}-{tail}" if form else tail
            yield Case("epilogues", op, "float32", variant, Level.L3, frozenset(), op, "forward")


def run(run: Run) -> None:
    """The results and the gradients of all operands, several times."""
    form, _, tail = run.case.variant.rpartition("-")
    head, shapes = HEADS[f"{run.case.op}/{form}" if form else run.case.op]
    rng = run.rng()
    with changed(observer=None), of_any_size():
        step = pg.jit(_step(head, TAILS[tail], len(shapes)))
        for _ in range(TIMES):
            hosts = _operands(head, shapes, rng)
            got = tensors(step(*map(place_on(run.subject), hosts)))
            wanted = tensors(_step(head, TAILS[tail], len(shapes))(*map(on_reference, hosts)))
            largest = np.max(np.abs(hosts[-1]))
            for i, (g, w) in enumerate(zip(got, wanted, strict=True)):
                value = Wanted(np.asarray(w._array), largest=largest)
                compare(f"result {i}", run.subject.host(g), value, g.dtype, BOUND, run.worst)
            run.samples += 1
        if not step.captures():
            run.not_exercised = "functions are not captured here; is PLUGRAD_JIT 0 in the environment?"


def _step(head: Callable[..., Any], tail: Callable[[Any], Any], count: int) -> Callable[..., Any]:
    """The product of an activation with its tail, and the gradients of a weighted sum of it."""

    def step(*given: Any) -> Any:
        operands, (residual, scale, mask, ct) = given[:count], given[count:]

        def results(x: Any, *rest: Any) -> tuple[Any, ...]:
            product = head(pg.relu(x), *rest)
            made = tail(SimpleNamespace(product=product, residual=residual, scale=scale, mask=mask))
            return made if isinstance(made, tuple) else (made,)

        def loss(*operands: Any) -> Any:
            floating = [y for y in results(*operands) if y.dtype.is_floating]
            return sum(((y * ct).sum() for y in floating[1:]), (floating[0] * ct).sum())

        return (*results(*operands), *pg.grad(loss, argnums=tuple(range(count)))(*operands))

    return step


def _operands(
    head: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], rng: np.random.Generator
) -> list[Host]:
    """Operands of the product, then those of tails. Halves: products of them are exact, so no kink lies between two roundings."""
    operands = [halves(rng.standard_normal(s)) for s in shapes]
    shape = head(*map(on_reference, operands)).shape
    channels = [1] * len(shape)
    axis = -1 if len(shape) <= 2 or (len(shapes) > 1 and len(shapes[1]) == 2) else 1
    channels[axis] = shape[axis]
    others = [halves(rng.standard_normal(s)) for s in (shape, tuple(channels))]
    floats = [o.astype(np.float32) for o in (*operands, *others)]
    ct = rng.standard_normal(shape).astype(np.float32)
    return [*floats, rng.random(shape) < 0.5, ct]
