"""What convolution and pooling share: the windows that a kernel sees as it moves over the spatial axes.

An operand is (N, C, spatial...) with 1 to 3 spatial axes. Window ``o`` of an axis has its element ``t`` at
``o * stride + t * dilation - before``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import integer
from plugrad.ops.padding import pad
from plugrad.ops.slicing import WHOLE, Bound
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Ints = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
PerAxis = int | Sequence[int]
Padding = int | Sequence[int] | Sequence[tuple[int, int]]
"""What is around the spatial axes: the same on all sides, one number for each axis, or (before, after) for each."""


def spatial(call: Any, x: Spec, name: str = "x") -> int:
    """The number of spatial axes of ``x``.

    Raises:
        ShapeError: if there are not 1 to 3, or one is empty.
    """
    if not 3 <= x.ndim <= 5 or 0 in x.shape[2:]:
        raise ShapeError(
            f"{call.op.name}: {name} has shape {x.shape}, takes (N, C, spatial...) with 1 to 3 spatial axes, none empty"
        )
    return x.ndim - 2


def several(call: Any, name: str, value: Any, count: int, least: int) -> Ints:
    """``value`` as one int of at least ``least`` for each of ``count`` spatial axes."""
    given = value if isinstance(value, (tuple, list)) else (value,) * count
    sizes = tuple(integer(call, name, v) for v in given)
    if len(sizes) != count or any(n < least for n in sizes):
        raise ArgumentError(
            f"{call.op.name}: {name} takes an integer of at least {least}, or one for each of {count} spatial axes, "
            f"got {value!r}"
        )
    return sizes


def per_axis(name: str, least: int = 1) -> Callable[[Any, Any], Ints]:
    """The normalizer of an attribute that is one int, or one for each spatial axis of the first operand."""

    def normalize(call: Any, value: Any) -> Ints:
        first = call.op.operands[0].name
        return several(call, name, value, spatial(call, getattr(call, first), first), least)

    return normalize


def padding_pairs(call: Any, value: Any) -> Pairs:
    """``padding`` as (before, after) for each spatial axis: an int, an int for each axis, or such pairs."""
    first = call.op.operands[0].name
    count = spatial(call, getattr(call, first), first)
    given = value if isinstance(value, (tuple, list)) else (value,) * count
    pairs = tuple(
        (integer(call, "padding", p[0]), integer(call, "padding", p[1]))
        if isinstance(p, (tuple, list)) and len(p) == 2
        else (integer(call, "padding", p),) * 2
        for p in given
    )
    if len(pairs) != count or any(n < 0 for pair in pairs for n in pair):
        raise ArgumentError(
            f"{call.op.name}: padding takes an integer of at least 0, or one or (before, after) for each of {count} "
            f"spatial axes, got {value!r}"
        )
    return pairs


def reach(kernel: Ints, dilation: Ints) -> Ints:
    """How many elements of each axis lie between the first and the last that a window sees, both included."""
    return tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))


def counted(size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """How many windows there are on each axis."""
    return tuple(
        (n + a + b - r) // s + 1
        for n, (a, b), r, s in zip(size, padding, reach(kernel, dilation), stride, strict=True)
    )


def positions(call: Any, size: Ints, kernel: Ints, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """As `counted`.

    Raises:
        ShapeError: if a window is larger than the padded axis.
    """
    span = reach(kernel, dilation)
    whole = tuple(a + n + b for n, (a, b) in zip(size, padding, strict=True))
    if any(r > n for r, n in zip(span, whole, strict=True)):
        spread = f" with dilation {dilation}" if any(d > 1 for d in dilation) else ""
        around = f", {whole} with its padding" if whole != size else ""
        raise ShapeError(
            f"{call.op.name}: the kernel {kernel}{spread} spans {span}, more than the spatial shape {size}{around}"
        )
    return counted(size, kernel, stride, padding, dilation)


def padded(x: Tensor, padding: Pairs, value: float = 0) -> Tensor:
    """``x`` with ``value`` around its spatial axes; a negative width there means none."""
    widths = tuple((max(a, 0), max(b, 0)) for a, b in padding)
    return pad(x, ((0, 0), (0, 0), *widths), value=value) if any(map(any, widths)) else x


def windows(kernel: Ints, space: Ints, stride: Ints, dilation: Ints) -> Iterator[tuple[Bound, ...]]:
    """For each element of the kernel, in row-major order, where the windows have it in the padded operand."""
    for tap in product(*map(range, kernel)):
        yield (
            WHOLE,
            WHOLE,
            *(
                (t * d, t * d + (o - 1) * s + 1, s)
                for t, d, o, s in zip(tap, dilation, space, stride, strict=True)
            ),
        )
