"""Pooling over 1 to 3 spatial dimensions, in PyTorch's meaning. The mean over all of them is `mean` with its axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad import dtypes
from plugrad.dispatch.factors import aligned
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import size, widened
from plugrad.ops._windows import (
    Ints,
    Padding,
    Pairs,
    PerAxis,
    counted,
    padded,
    padding_pairs,
    per_axis,
    positions,
    reach,
    spatial,
    windows,
)
from plugrad.ops.arithmetic import copied, maximum
from plugrad.ops.comparison import isnan, where
from plugrad.ops.creation import ones, ones_of, zeros_of
from plugrad.ops.slicing import WHOLE, scatter_slice, strided_slice
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

_LOWEST = float("-inf")


# -- attributes and shapes --------------------------------------------------------------------------------


def _stride(call: Any, value: Any) -> Ints:
    return per_axis("stride")(call, call.kernel_size if value is None else value)


def _half(call: Any, value: Any) -> Pairs:
    """``padding`` as pairs, of at most half of what a window spans, so that each window sees an element."""
    pairs = padding_pairs(call, value)
    span = reach(call.kernel_size, getattr(call, "dilation", (1,) * len(pairs)))
    if any(2 * n > r for pair, r in zip(pairs, span, strict=True) for n in pair):
        raise ArgumentError(
            f"{call.op.name}: padding {value!r} takes at most half of the window, which spans {span}"
        )
    return pairs


def _overhang(call: Any, value: Any) -> Ints:
    """``ceil_mode`` as the elements by which the last window reaches beyond the padding, for each axis."""
    if not isinstance(value, bool):
        raise ArgumentError(f"{call.op.name}: ceil_mode takes True or False, got {value!r}")
    shape = call.x.shape[2:]
    if not value:
        return (0,) * len(shape)
    span = reach(call.kernel_size, getattr(call, "dilation", (1,) * len(shape)))
    over = []
    for n, r, s, (before, after) in zip(shape, span, call.stride, call.padding, strict=True):
        whole = before + n + after
        last = -((r - whole) // s)
        if last * s >= before + n:
            # The last window starts in the operand or before it, never in what follows.
            last -= 1
        over.append(last * s + r - whole if last >= 0 else 0)
    return tuple(over)


def _flag(call: Any, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ArgumentError(f"{call.op.name}: count_include_pad takes True or False, got {value!r}")
    return value


def _pooled(call: Any) -> Spec:
    x: Spec = call.x
    dilation = getattr(call, "dilation", (1,) * spatial(call, x))
    around = _reached(call.padding, call.ceil_mode)
    return x.with_shape(
        (*x.shape[:2], *positions(call, x.shape[2:], call.kernel_size, call.stride, around, dilation))
    )


def _reached(padding: Any, overhang: Any) -> Pairs:
    """The padding with what the last windows reach beyond it, or what they leave over of it."""
    return tuple((a, b + more) for (a, b), more in zip(padding, overhang, strict=True))


# -- samples ----------------------------------------------------------------------------------------------


def _apart(rng: np.random.Generator, *shape: int) -> np.ndarray[Any, Any]:
    """Values of which no two are close."""
    return np.asarray(rng.permutation(size(shape)) * 0.1 - 0.05 * size(shape), np.float64).reshape(shape)


def _max_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        Sample(_apart(rng, 2, 3, 6, 4), kernel_size=2),
        Sample(_apart(rng, 2, 2, 7), kernel_size=3, stride=2, padding=1),
        Sample(
            _apart(rng, 1, 2, 6, 7), kernel_size=(2, 3), stride=1, padding=((1, 0), (1, 1)), dilation=(2, 1)
        ),
        Sample(_apart(rng, 1, 2, 6, 5), kernel_size=3, stride=2, padding=1, ceil_mode=True),
        Sample(_apart(rng, 1, 1, 4, 3, 5), kernel_size=2, stride=(2, 1, 2), ceil_mode=True),
        Sample(_apart(rng, 2, 1, 3), kernel_size=1),
        Sample(_apart(rng, 0, 2, 4), kernel_size=2),
    ]


def _avg_samples(rng: np.random.Generator) -> list[Sample]:
    def sample(*shape: int, **attributes: Any) -> Sample:
        return Sample(rng.standard_normal(shape), **attributes)

    return [
        sample(2, 3, 6, 4, kernel_size=2),
        sample(2, 2, 7, kernel_size=3, stride=2, padding=1),
        sample(2, 2, 7, kernel_size=3, stride=2, padding=1, count_include_pad=False),
        sample(1, 2, 6, 7, kernel_size=(2, 3), stride=1, padding=((1, 0), (1, 1)), count_include_pad=False),
        sample(1, 2, 6, 5, kernel_size=3, stride=2, padding=1, ceil_mode=True),
        sample(1, 2, 6, 5, kernel_size=(2, 3), stride=(3, 2), ceil_mode=True, count_include_pad=False),
        sample(1, 1, 4, 3, 5, kernel_size=2, stride=(2, 1, 2), ceil_mode=True),
        sample(0, 2, 4, kernel_size=2),
    ]


# -- the largest element ----------------------------------------------------------------------------------


def _image_axes(call: Any) -> range:
    del call
    return range(2)


_planes: Final = aligned("x", within=_image_axes)
_planes_of_max: Final = aligned("x", "ct", "out", within=_image_axes)
_planes_of_avg: Final = aligned("x", "ct", within=_image_axes)


@op(
    kind=Kind.REDUCTION,
    infer=_pooled,
    dtypes=FLOATING,
    attributes={
        "kernel_size": per_axis("kernel_size"),
        "stride": _stride,
        "dilation": per_axis("dilation"),
        "padding": _half,
        "ceil_mode": _overhang,
    },
    factors=_planes,
    samples=_max_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 5)), kernel_size=2),
        ErrorSample(ShapeError, np.zeros((1, 2, 5)), kernel_size=3, dilation=3),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), kernel_size=0),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), kernel_size=2, padding=2),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), kernel_size=2, ceil_mode=1),
    ),
)
def max_pool(
    x: Tensor,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest element of each window (`torch.nn.functional.max_pool1d`, ``max_pool2d``, ``max_pool3d``).

    Args:
        x: (N, C, spatial...), 1 to 3 spatial axes, a floating dtype.
        kernel_size: of the window; an integer, or one for each spatial axis.
        stride: how far the window moves, by default its size.
        padding: elements around ``x`` that are smaller than all others: an integer, one for each spatial axis,
            or (before, after) for each; at most half of what the window spans.
        dilation: the distance of the window's elements.
        ceil_mode: add a last window where some of ``x`` would be left over, if it starts before the end of ``x``.

    Returns:
        (N, C, out...) with out = (spatial + before + after - dilation * (kernel_size - 1) - 1) // stride + 1,
        rounded up with ``ceil_mode``.

    Raises:
        ShapeError: if ``x`` has another form, or the window is larger than the padded ``x``.
        ArgumentError: for a size, stride or dilation below 1, or a padding out of range.

    NaN where the window holds one. Of elements that tie for the largest, the first in row-major order of the
    window takes the derivative; among NaN, too. A kernel receives ``padding`` as (before, after), and ``ceil_mode`` as
    how far the last window reaches beyond it (negative: how much it leaves over), for each spatial axis: with that
    added to the padding, the formula above holds without rounding up.
    """
    space, around = _geometry(x.spec, kernel_size, stride, padding, dilation, ceil_mode)
    field = padded(x, around, _LOWEST)
    seen = [strided_slice(field, where) for where in windows(kernel_size, space, stride, dilation)]  # type: ignore[arg-type]
    largest = seen[0]
    for other in seen[1:]:
        largest = maximum(largest, other)
    return largest if len(seen) > 1 else copied(largest)


def _geometry(
    x: Spec, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any
) -> tuple[Ints, Pairs]:
    """How many windows there are on each axis, and what is around the operand that they reach."""
    around = _reached(padding, ceil_mode)
    return counted(x.shape[2:], kernel_size, stride, around, dilation), around


@max_pool.defvjp("x", factors=_planes_of_max)
def _(
    ct: Tensor,
    x: Tensor,
    out: Tensor,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    ceil_mode: Ints,
) -> Tensor:
    space, around = _geometry(x.spec, kernel_size, stride, padding, dilation, ceil_mode)
    field = padded(x, around, _LOWEST)
    real = None if field.shape == x.shape else padded(ones_of(x.spec.with_dtype(dtypes.bool)), around)
    total = zeros_of(field.spec)
    for bounds in windows(kernel_size, space, stride, dilation):
        seen = strided_slice(field, bounds)
        found = (seen == out) | isnan(seen)
        if real is not None:
            found = found & strided_slice(real, bounds)
        total = total + scatter_slice(where(found, ct, 0.0), shape=field.shape, bounds=bounds)
        # What an element has taken is no longer there for the later ones.
        ct = where(found, 0.0, ct)
    return _inner(total, x.spec, around)


def _inner(field: Tensor, x: Spec, around: Pairs) -> Tensor:
    """The part of the padded ``field`` where ``x`` lies."""
    if field.shape == x.shape:
        return field
    inside = ((a, a + n, 1) for n, (a, _) in zip(x.shape[2:], around, strict=True))
    return strided_slice(field, (WHOLE, WHOLE, *inside))


# -- the mean ---------------------------------------------------------------------------------------------


@op(
    kind=Kind.REDUCTION,
    infer=_pooled,
    dtypes=FLOATING,
    attributes={
        "kernel_size": per_axis("kernel_size"),
        "stride": _stride,
        "padding": _half,
        "ceil_mode": _overhang,
        "count_include_pad": _flag,
    },
    autocast=Autocast.FULL,
    factors=_planes,
    samples=_avg_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 5)), kernel_size=2),
        ErrorSample(ShapeError, np.zeros((1, 2, 5)), kernel_size=6),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), kernel_size=2, stride=0),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), kernel_size=2, padding=2),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), kernel_size=2, count_include_pad=1),
    ),
)
def avg_pool(
    x: Tensor,
    kernel_size: PerAxis,
    *,
    stride: PerAxis | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window (`torch.nn.functional.avg_pool1d`, ``avg_pool2d``, ``avg_pool3d``).

    Args:
        x: (N, C, spatial...), 1 to 3 spatial axes, a floating dtype.
        kernel_size: of the window; an integer, or one for each spatial axis.
        stride: how far the window moves, by default its size.
        padding: zeros around ``x``: an integer, one for each spatial axis, or (before, after) for each; at most half
            of the window.
        ceil_mode: add a last window where some of ``x`` would be left over, if it starts before the end of ``x``.
        count_include_pad: whether the zeros of ``padding`` count, or only the elements of ``x`` are averaged.
            What a window of ``ceil_mode`` reaches beyond the padding never counts.

    Returns:
        (N, C, out...) with out = (spatial + before + after - kernel_size) // stride + 1, rounded up with ``ceil_mode``.

    Raises:
        ShapeError: if ``x`` has another form, or the window is larger than the padded ``x``.
        ArgumentError: for a size or stride below 1, or a padding out of range.

    A kernel receives ``padding`` and ``ceil_mode`` as that of `max_pool` does. 16-bit floats accumulate in float32.
    """
    dilation = (1,) * (x.ndim - 2)
    space, around = _geometry(x.spec, kernel_size, stride, padding, dilation, ceil_mode)
    field = padded(x.astype(widened(x.dtype)), around)
    total: Tensor | None = None
    for bounds in windows(kernel_size, space, stride, dilation):  # type: ignore[arg-type]
        seen = strided_slice(field, bounds)
        total = seen if total is None else total + seen
    assert total is not None
    return (total / _divisor(x.spec, kernel_size, stride, padding, ceil_mode, count_include_pad)).astype(
        x.dtype
    )


def _divisor(
    x: Spec, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any, count_include_pad: bool
) -> Tensor | float:
    """How many elements of each window count: a number, or a tensor (1, 1, positions...)."""
    beyond = any(over > 0 for over in ceil_mode)
    if not beyond and (count_include_pad or not any(map(any, padding))):
        return float(size(kernel_size))
    dilation = (1,) * len(kernel_size)
    space, around = _geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    if count_include_pad:
        shape = tuple(a + n + b for n, (a, b) in zip(x.shape[2:], padding, strict=True))
        around = tuple((0, over) for over in ceil_mode)
    else:
        shape = x.shape[2:]
    counting = padded(ones((1, 1, *shape), dtype=widened(x.dtype), device=x.device), around)
    count: Any = 0.0
    for bounds in windows(kernel_size, space, stride, dilation):
        count = count + strided_slice(counting, bounds)
    return count  # type: ignore[no-any-return]


@avg_pool.defvjp("x", factors=_planes_of_avg)
def _(
    ct: Tensor,
    x: Spec,
    *,
    kernel_size: Ints,
    stride: Ints,
    padding: Pairs,
    ceil_mode: Ints,
    count_include_pad: bool,
) -> Tensor:
    dilation = (1,) * len(kernel_size)
    space, around = _geometry(x, kernel_size, stride, padding, dilation, ceil_mode)
    shape = (*x.shape[:2], *(a + n + max(b, 0) for n, (a, b) in zip(x.shape[2:], around, strict=True)))
    share = ct.astype(widened(x.dtype)) / _divisor(
        x, kernel_size, stride, padding, ceil_mode, count_include_pad
    )
    total = zeros_of(share.spec.with_shape(shape))
    for bounds in windows(kernel_size, space, stride, dilation):
        total = total + scatter_slice(share, shape=shape, bounds=bounds)
    return _inner(total, x, around).astype(x.dtype)


__all__ = ["avg_pool", "max_pool"]
