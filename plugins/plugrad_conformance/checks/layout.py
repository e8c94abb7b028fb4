"""``layout``: operands and cotangents that are views: transposed, stepped, reversed, broadcast, from the middle of a buffer.

The views are made by running view ops on the device. Where it copies instead of giving a view, the results are held
all the same, and the case says that the layout was not exercised.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad import ops
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Place, Run, forward, gradient
from plugrad_conformance.checks.forward import has_floats, op_of, own_dtype
from plugrad_conformance.subject import Subject, flat, names_missing_dtype, samples_of, stated_ops

Host = np.ndarray[Any, Any]

LARGE: Final = 65536
"""Elements of an array that is large enough not to be copied without need."""

Build = Callable[[Subject, Host], tuple[pg.Tensor, pg.Tensor]]
"""From a host array, a tensor whose array is stored elsewhere or otherwise, and a view of it with those elements."""


def _transposed(subject: Subject, host: Host) -> tuple[pg.Tensor, pg.Tensor]:
    base = pg.asarray(np.ascontiguousarray(host.T), device=subject.device)
    return base, ops.permute_dims(base, tuple(reversed(range(host.ndim))))


def _stepped(subject: Subject, host: Host) -> tuple[pg.Tensor, pg.Tensor]:
    wide = np.full((*host.shape[:-1], 2 * host.shape[-1]), _filler(host), host.dtype)
    wide[..., ::2] = host
    base = pg.asarray(wide, device=subject.device)
    return base, base[..., ::2]


def _negative(subject: Subject, host: Host) -> tuple[pg.Tensor, pg.Tensor]:
    base = pg.asarray(np.ascontiguousarray(np.flip(host)), device=subject.device)
    return base, base[(slice(None, None, -1),) * host.ndim]


def _broadcast(subject: Subject, host: Host) -> tuple[pg.Tensor, pg.Tensor]:
    base = pg.asarray(np.ascontiguousarray(host.take([0], axis=_same_along(host))), device=subject.device)
    if not _copies_small(subject):
        return base, ops.broadcast_to(base, host.shape)
    return base, ops.broadcast_to(base, (LARGE // max(host.size, 1) + 1, *host.shape))[0]


@functools.cache
def _copies_small(subject: Subject) -> bool:
    """Whether a large array is broadcast as a view, and a small one is copied, as is faster on some devices."""
    base = pg.asarray(np.ones((1, 3), np.float32), device=subject.device)
    small = writes_through(subject, base, ops.broadcast_to(base, (2, 3)))
    return not small and writes_through(subject, base, ops.broadcast_to(base, (LARGE // 3 + 1, 3)))


def _same_along(host: Host) -> int:
    """The first axis along which all elements are the same; 0 if there is none."""
    same = (axis for axis in range(host.ndim) if (host == host.take([0], axis=axis)).all())
    return next(same, 0)


def _offset(subject: Subject, host: Host) -> tuple[pg.Tensor, pg.Tensor]:
    long = np.full((host.shape[0] + 5, *host.shape[1:]), _filler(host), host.dtype)
    long[3:-2] = host
    base = pg.asarray(long, device=subject.device)
    return base, base[3:-2]


def _filler(host: Host) -> Any:
    """What stands between the elements of a view: something that a wrong read would show."""
    return True if host.dtype.kind == "b" else 77


LAYOUTS: Final[dict[str, Build]] = {
    "transposed": _transposed,
    "stepped": _stepped,
    "negative": _negative,
    "broadcast": _broadcast,
    "offset": _offset,
}


def place_as(subject: Subject, layout: str) -> Place:
    """Host arrays on the device in a layout; those of no axis or no element as they come."""

    def place(host: Host) -> pg.Tensor:
        if not host.ndim or not host.size:
            return pg.asarray(host, device=subject.device)
        return LAYOUTS[layout](subject, host)[1]

    return place


def constant(value: Any, axis: int = 0) -> Any:
    """An operand made constant along an axis, as what is broadcast is."""
    if isinstance(value, list):
        return [constant(v, axis) for v in value]
    if isinstance(value, np.ndarray) and value.ndim and value.size:
        return np.broadcast_to(value.take([0], axis=axis % value.ndim), value.shape).copy()
    return value


NORMALIZING: Final = frozenset(("batch_norm_training", "layer_norm", "group_norm"))
"""Ops that divide by a deviation: an array of one axis that is constant has none."""

BATCHED: Final = frozenset(("batch_norm_training",))
"""Ops that divide by a deviation along the first axis: what is constant there has none, so the last one serves."""


@functools.cache
def aliases(subject: Subject, layout: str) -> bool:
    """Whether the device makes this layout as a view: what is written to the base then shows in it."""
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    base, view = LAYOUTS[layout](subject, host)
    return writes_through(subject, base, view)


def writes_through(subject: Subject, base: pg.Tensor, view: pg.Tensor) -> bool:
    """Whether a kernel that is given the array of ``base`` to write into changes what ``view`` holds."""
    kernel = subject.backend.kernels.find(ops.negative, [base.spec], {})
    if kernel is None:
        return False
    before = np.array(subject.host(view))
    source = pg.asarray(np.array(subject.host(base)) + 1, device=subject.device)
    kernel.function(source._array, into=base._array)
    return before.tobytes() != np.ascontiguousarray(subject.host(view)).tobytes()


def cases() -> Iterator[Case]:
    """Each op that takes an array, and each gradient, in each layout."""
    for op in stated_ops():
        samples = samples_of(op, 0)
        if not any(_arrays(s) for s in samples):
            continue
        for direction in ("forward", "vjp") if op.differentiable else ("forward",):
            if direction == "vjp" and not any(has_floats(s) and _arrays(s) for s in samples):
                continue
            subject = op.name if direction == "forward" else f"{op.name}.vjp"
            for layout in LAYOUTS:
                yield Case(
                    "layout", subject, own_dtype(samples), layout, Level.L3, frozenset(), op.name, direction
                )


def run(run: Run) -> None:
    """Every sample with an array, its operands, and for a gradient its cotangents, in the layout."""
    op, layout = op_of(run), run.case.variant
    place = place_as(run.subject, layout)
    axis = -1 if op.name in BATCHED else 0
    for sample in samples_of(op, run.case.seed):
        if not _arrays(sample) or names_missing_dtype(sample, run.subject):
            continue
        if run.case.direction == "vjp" and not has_floats(sample):
            continue
        if layout == "broadcast" and op.name in NORMALIZING and sample.operands[0].ndim < 2:
            continue
        operands = [constant(o, axis) for o in sample.operands] if layout == "broadcast" else None
        if run.case.direction == "forward":
            forward(run, op, sample, float32, place=place, operands=operands)
        elif layout != "broadcast" or sample.attributes.get("stable", True):
            gradient(
                run,
                op,
                sample,
                float32,
                place=place,
                operands=operands,
                ct=constant if layout == "broadcast" else None,
                identity=False,
                loose=layout == "broadcast",
            )
    if not aliases(run.subject, layout):
        run.not_exercised = f"the device copies where a {layout} view is asked for"


def _arrays(sample: Sample) -> bool:
    """Whether an operand has an axis and elements."""
    return any(isinstance(o, np.ndarray) and o.ndim and o.size for o in flat(list(sample.operands)))
