"""`pad`: what is around a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.op import Scalar, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from plugrad.ops._rules import integer
from plugrad.ops.broadcasting import broadcast_to
from plugrad.ops.comparison import where
from plugrad.ops.creation import full, ones_of
from plugrad.ops.movement import concatenate, reshape
from plugrad.ops.slicing import WHOLE, scatter_slice, strided_slice
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Pairs = tuple[tuple[int, int], ...]

_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "edge": "edge", "wrap": "wrap"}


def _pairs(call: Any, value: Any) -> Pairs:
    """``pad_width`` as (before, after) for each axis."""
    ndim = call.x.ndim
    given = value if isinstance(value, (tuple, list)) else (value,)
    nested = any(isinstance(v, (tuple, list)) for v in given)
    pairs = [tuple(v) if isinstance(v, (tuple, list)) else (v,) for v in given] if nested else [tuple(given)]
    if len(pairs) == 1:
        pairs *= ndim
    if len(pairs) != ndim or any(len(p) not in (1, 2) for p in pairs):
        raise ShapeError(
            f"pad: pad_width {value} for {ndim} axes; takes one number, (before, after), or one such for each axis"
        )
    widths = tuple((integer(call, "pad_width", p[0]), integer(call, "pad_width", p[-1])) for p in pairs)
    if any(w < 0 for pair in widths for w in pair):
        raise ArgumentError(f"pad: pad_width {value} has a negative number; x[start:stop] cuts off")
    return widths


def _mode(call: Any, value: Any) -> str:
    if value not in _MODES:
        raise ArgumentError(f"pad: mode takes {', '.join(map(repr, _MODES))}, got {value!r}")
    mode = _MODES[value]
    if mode != "constant":
        for axis, (n, pair) in enumerate(zip(call.x.shape, call.pad_width, strict=True)):
            if n == 0 and any(pair):
                raise ShapeError(f"pad: axis {axis} of shape {call.x.shape} is empty: nothing to {value}")
    return mode


def _fill(call: Any, value: Any) -> Scalar:
    fill: Scalar = value.item() if isinstance(value, np.generic) else value
    if not isinstance(fill, (bool, int, float)):
        raise ArgumentError(f"pad: value takes a real number, got {value!r}")
    if isinstance(fill, float) and not call.x.dtype.is_floating:
        if not fill.is_integer():
            raise DTypeError(f"pad: value {fill} is no value of {call.x.dtype}")
        fill = int(fill)
    return fill


def _padded(call: Any) -> Spec:
    spec: Spec = call.x.with_shape(
        tuple(a + n + b for n, (a, b) in zip(call.x.shape, call.pad_width, strict=True))
    )
    return spec


def _samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(rng.standard_normal((2, 3)), pad_width=((1, 0), (0, 2))),
        Sample(rng.standard_normal((2, 3)), pad_width=(1, 2), value=1.5),
        Sample(rng.standard_normal((0, 2)), pad_width=1, value=-1),
        Sample(rng.standard_normal((2, 3)), pad_width=((1, 1), (2, 1)), mode="reflect"),
        Sample(rng.standard_normal((3,)), pad_width=((7, 6),), mode="reflect"),
        Sample(rng.standard_normal((1, 3)), pad_width=((2, 0), (0, 3)), mode="replicate"),
        Sample(rng.standard_normal((3, 2)), pad_width=((1, 2), (5, 0)), mode="wrap"),
        Sample(rng.standard_normal(()), pad_width=3),
    ]


@op(
    infer=_padded,
    attributes={"pad_width": _pairs, "mode": _mode, "value": _fill},
    samples=_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), pad_width=((1, 1), (1, 1), (1, 1))),
        ErrorSample(ShapeError, np.zeros((0, 3)), pad_width=1, mode="reflect"),
        ErrorSample(ArgumentError, np.zeros((2, 3)), pad_width=(1, -1)),
        ErrorSample(ArgumentError, np.zeros((2, 3)), pad_width=1, mode="mirror"),
        ErrorSample(ArgumentError, np.zeros((2, 3)), pad_width=1, value="zero"),
        ErrorSample(DTypeError, np.arange(3), pad_width=1, value=0.5),
    ),
)
def pad(x: Tensor, /, pad_width: Any, mode: str = "constant", value: Scalar = 0) -> Tensor:
    """``x`` with something before and after it along its axes.

    Args:
        x: any shape and dtype.
        pad_width: how much: one number for all sides, (before, after) for all axes, or one of these for each axis.
        mode: ``"constant"``; ``"reflect"``, mirrored without the outermost element; ``"replicate"`` (``"edge"``),
            the outermost element again; ``"wrap"``, from the other end.
        value: the constant.

    Raises:
        ShapeError: if ``pad_width`` does not fit the axes, or an axis that is mirrored, replicated or wrapped is empty.
        ArgumentError: for a negative width or an unknown mode.
        DTypeError: if ``value`` is none of the dtype of ``x``.

    The modes are those of `numpy.pad`.
    """
    if mode == "constant":
        return _constant(x, pad_width, value)
    for axis, (n, (before, after)) in enumerate(zip(x.spec.shape, pad_width, strict=True)):
        if before or after:
            index = np.pad(np.arange(n), (before, after), mode)  # type: ignore[call-overload]
            x = concatenate([_run(x, axis, *run) for run in _runs(index)], axis=axis)
    return reshape(x, x.spec.shape)


def _constant(x: Tensor, widths: Pairs, value: Scalar) -> Tensor:
    shape = tuple(a + n + b for n, (a, b) in zip(x.spec.shape, widths, strict=True))
    bounds = tuple((a, a + n, 1) for n, (a, _) in zip(x.spec.shape, widths, strict=True))
    laid = scatter_slice(x, shape=shape, bounds=bounds)
    if value == 0:
        return laid
    inside = scatter_slice(ones_of(x.spec.with_dtype(dtypes.bool)), shape=shape, bounds=bounds)
    return where(inside, laid, full((), value, dtype=x.spec.dtype, device=x.spec.device))


def _runs(index: np.ndarray[Any, Any]) -> list[tuple[int, int, int]]:
    """``index`` as (start, length, step) of runs, each as long as possible."""
    runs, at = [], 0
    while at < len(index):
        step = int(index[at + 1] - index[at]) if at + 1 < len(index) else 1
        stop = at + 1
        while stop < len(index) and index[stop] - index[stop - 1] == step:
            stop += 1
        runs.append((int(index[at]), stop - at, step))
        at = stop
    return runs


def _run(x: Tensor, axis: int, start: int, length: int, step: int) -> Tensor:
    """The elements of ``x`` along ``axis`` that a run names."""
    shape = x.spec.shape
    stop = start + length * step if step else start + 1
    bound = (start, None if stop < 0 else stop, step or 1)
    part = strided_slice(x, (*(WHOLE,) * axis, bound, *(WHOLE,) * (len(shape) - axis - 1)))
    return part if step else broadcast_to(part, (*shape[:axis], length, *shape[axis + 1 :]))


__all__ = ["pad"]
