"""Convolutions of images whose channels lie side by side, and their weights' derivatives: the launches."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Any, Final

from plugrad.generated.array import StridedArray, broadcast, empty, permuted, sliced
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.kernels._product import BIASED, add_parts, tile_of
from plugrad.generated.kernels._run import contiguous, copied, filled
from plugrad.graph.source import convolution, convolution_weight
from plugrad.graph.source.tile import PLAIN
from plugrad.spec import Shape

Ints = tuple[int, ...]

_FEW: Final = 16
"""Images of fewer channels are padded once: to look for each of them whether it is there would cost too much."""

_CACHE: Final = 1 << 19
"""Bytes of the images and the cotangents that a part of a weight's derivative reads: they stay in the cache."""

_ITEMS: Final = 16
"""So many work-items keep a device busy."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How windows lie.

    Attributes:
        kernel: the sizes of a window.
        stride, dilation: as of `plugrad.ops.conv`.
        before: by how much the first window begins before the image; negative where it begins in it.
        groups: of channels.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    before: Ints
    groups: int

    def inside(self, image: Shape, out: Shape) -> bool:
        """Whether all that windows see lies in the image."""
        return all(
            b <= 0 and (n - 1) * s - b + (k - 1) * d < h
            for n, h, k, s, d, b in zip(
                out, image, self.kernel, self.stride, self.dilation, self.before, strict=True
            )
        )


def image(device: GeneratedDevice, shape: Shape, dtype: Any) -> StridedArray:
    """A new array (N, C, spatial...) whose channels lie side by side."""
    n, c, *space = shape
    out = empty(device, (n, *space, c), dtype)
    return permuted(out, (0, len(shape) - 1, *range(1, len(shape) - 1)))


def side_by_side(x: StridedArray) -> StridedArray:
    """``x`` (N, C, spatial...), or a copy, with channels side by side."""
    return x if x.strides[1] == 1 or x.shape[1] == 1 else copied(x, image(x.device, x.shape, x.dtype))


def _surrounded(x: StridedArray, geometry: Geometry, out: Shape) -> tuple[StridedArray, Geometry]:
    """A copy of ``x`` in a field of zeros that holds all that windows see."""
    low = [max(b, 0) for b in geometry.before]
    sizes = [
        max(a + h, (n - 1) * s + (k - 1) * d + max(-b, 0) + 1)
        for a, h, n, k, s, d, b in zip(
            low,
            x.shape[2:],
            out,
            geometry.kernel,
            geometry.stride,
            geometry.dilation,
            geometry.before,
            strict=True,
        )
    ]
    field = filled(0, image(x.device, (*x.shape[:2], *sizes), x.dtype))
    copied(
        x,
        sliced(
            field,
            [
                (0, x.shape[0], 1),
                (0, x.shape[1], 1),
                *((a, a + h, 1) for a, h in zip(low, x.shape[2:], strict=True)),
            ],
        ),
    )
    before = tuple(b - a for b, a in zip(geometry.before, low, strict=True))
    return field, replace(geometry, before=before)


def _strides(x: StridedArray) -> list[int]:
    return [x.strides[0], *x.strides[2:]]


def convolve(
    x: StridedArray,
    weight: StridedArray,
    geometry: Geometry,
    out: StridedArray,
    bias: StridedArray | None = None,
) -> StridedArray:
    """Write a convolution to ``out``; all of one dtype that has vectors.

    Args:
        x: (N, C, spatial...), not empty.
        weight: (groups, O / groups, C / groups, kernel...), of any strides.
        geometry: how the windows lie.
        out: (N, O, positions...), not empty, its channels side by side.
        bias: (O,), or None.
    """
    lanes = out.dialect.lanes[out.dtype]
    groups, m, channels = weight.shape[:3]
    ndim = len(geometry.kernel)
    x = side_by_side(x)
    checked = not geometry.inside(x.shape[2:], out.shape[2:])
    if checked and channels < _FEW:
        x, geometry = _surrounded(x, geometry, out.shape[2:])
        checked = False
    rows, vectors = tile_of(out.shape[-1], m, lanes)
    packed, zeros_at = _packed(weight, lanes, channels if checked else 0)
    kernel, run = geometry.kernel, channels
    if not checked and groups == 1 and geometry.dilation[-1] == 1 and x.strides[-1] == channels:
        # Neighbouring positions of the kernel see channels that lie side by side too.
        kernel, run = (*kernel[:-1], 1), channels * kernel[-1]
    columns = m if m < lanes else 0
    panels = -(-m // (vectors * lanes))
    source = convolution(
        out.dialect, out.dtype, ndim, rows, vectors, columns, checked, PLAIN if bias is None else BIASED
    )
    arguments: list[Any] = [
        *(x.memory, x.start, *_strides(x), packed.memory, packed.start, packed.shape[-1], zeros_at),
        *(out.memory, out.start, *_strides(out), *out.shape[2:], *x.shape[2:], *kernel),
        *(*geometry.stride, *geometry.dilation, *geometry.before, run, channels, m, panels, groups),
    ]
    if bias is not None:
        bias = contiguous(bias)
        arguments += [bias.memory, bias.start, 0, 0, 0]
    size = (-(-out.shape[-1] // rows), math.prod(out.shape[2:-1]), out.shape[0] * groups * panels)
    out.device.launch(source, size, (1, 1, 1), arguments)
    return out


def _packed(weight: StridedArray, lanes: int, zeros: int) -> tuple[StridedArray, int]:
    """The weight as (groups, kernel..., C / groups, O / groups), and where so many zeros lie behind it."""
    order = (0, *range(3, len(weight.shape)), 2, 1)
    turned = permuted(weight, order)
    m = turned.shape[-1]
    shape = (*turned.shape[:-1], max(m, lanes))
    size = math.prod(shape)
    field = empty(weight.device, (size + zeros,), weight.dtype)
    if zeros:
        filled(0, sliced(field, [(size, size + zeros, 1)]))
    packed = StridedArray(field.device, field.memory, field.dtype, shape)
    if m < lanes:
        filled(0, packed)
    copied(turned, sliced(packed, [(0, n, 1) for n in turned.shape]))
    return packed, size


def convolve_weight(x: StridedArray, y: StridedArray, geometry: Geometry, out: StridedArray) -> StridedArray:
    """Write the derivative of a convolution in its weight to ``out``; all of one dtype that has vectors.

    Args:
        x: (N, C, spatial...), not empty.
        y: (N, O, positions...), not empty.
        geometry: how the windows lie.
        out: (groups, O / groups, C / groups, kernel...), of any strides.
    """
    lanes = out.dialect.lanes[out.dtype]
    groups, m, channels = out.shape[:3]
    ndim, space = len(geometry.kernel), y.shape[2:]
    x, y = side_by_side(x), side_by_side(y)
    checked = not geometry.inside(x.shape[2:], space)
    if checked and channels < _FEW:
        x, geometry = _surrounded(x, geometry, space)
        checked = False
    if m < lanes:
        n, c = y.shape[:2]
        wide = filled(0, image(y.device, (n, c - m + lanes, *space), y.dtype))
        y = copied(y, sliced(wide, [(0, s, 1) for s in y.shape]))
    taps = math.prod(geometry.kernel)
    seen = channels if checked else taps * channels
    rows, vectors = tile_of(seen, m, lanes)
    panels = -(-m // (vectors * lanes))
    tiles = -(-seen // rows) * panels * (taps if checked else 1) * groups
    lines = x.shape[0] * math.prod(space[:-1])
    line = (
        space[-1] * y.shape[1] + x.shape[1] * math.prod(x.shape[2:]) // math.prod(space[:-1])
    ) * out.dtype.itemsize
    parts = min(lines, max(-(-lines * line // _CACHE), -(-_ITEMS // tiles)))
    chunk = -(-lines // parts)
    parts = -(-lines // chunk)
    sums = empty(out.device, (parts, groups, *geometry.kernel, channels, m), out.dtype)
    source = convolution_weight(out.dialect, out.dtype, ndim, rows, vectors, m if m < lanes else 0, checked)
    arguments: list[Any] = [
        *(x.memory, x.start, *_strides(x), y.memory, y.start, *_strides(y), sums.memory, sums.start),
        *(*space, *x.shape[2:], *geometry.kernel, *geometry.stride, *geometry.dilation, *geometry.before),
        *(channels, m, panels, groups, lines, chunk),
    ]
    size = (-(-seen // rows), panels * (taps if checked else 1), parts * groups)
    out.device.launch(source, size, (1, 1, 1), arguments)
    whole = sums.view(sums.shape[1:], sums.strides[1:])
    if parts > 1:
        whole = add_parts(sums, empty(out.device, sums.shape[1:], out.dtype))
    return copied(permuted(whole, (0, ndim + 2, ndim + 1, *range(1, ndim + 1))), out)


def spread(
    x: StridedArray,
    weight: StridedArray,
    geometry: Geometry,
    out: StridedArray,
    bias: StridedArray | None = None,
) -> StridedArray:
    """Write the adjoint of a convolution in its image to ``out``: a convolution for each place between the strides.

    Args:
        x: (N, C, positions...), not empty.
        weight: (groups, O / groups, C / groups, kernel...), of any strides: that of the convolution from O to C channels.
        geometry: of that convolution.
        out: (N, O, spatial...), not empty, its channels side by side.
        bias: (O,), or None.
    """
    x = side_by_side(x)
    phases = [
        _phases(*sizes)
        for sizes in zip(
            out.shape[2:], geometry.kernel, geometry.stride, geometry.dilation, geometry.before, strict=True
        )
    ]
    for phase in itertools.product(*phases):
        places = [(p.place, n, s) for p, n, s in zip(phase, out.shape[2:], geometry.stride, strict=True)]
        part = sliced(out, [*((0, n, 1) for n in out.shape[:2]), *places])
        if not all(p.kernel for p in phase):
            constant(part, bias)
            continue
        taken = [(p.last, p.last - p.kernel * p.step, -p.step) for p in phase]
        here = Geometry(
            tuple(p.kernel for p in phase),
            (1,) * len(phase),
            tuple(p.dilation for p in phase),
            tuple(p.before for p in phase),
            geometry.groups,
        )
        convolve(x, sliced(weight, [*((0, n, 1) for n in weight.shape[:3]), *taken]), here, part, bias)
    return out


@dataclass(frozen=True, slots=True)
class _Phase:
    """Every so many positions of an axis of an adjoint, ``stride`` apart, from ``place`` on.

    Attributes:
        place: the first.
        kernel: how many positions of the kernel they see.
        last: the last of these, which comes first, as the kernel is turned.
        step: from one of these to the next.
        dilation: their distance in the operand.
        before: by how much the first of them begins before the operand.
    """

    place: int
    kernel: int
    last: int
    step: int
    dilation: int
    before: int


def _phases(n: int, k: int, s: int, d: int, b: int) -> list[_Phase]:
    found = []
    step = s // math.gcd(s, d)
    for place in range(min(s, n)):
        taps = [q for q in range(k) if (place + b - q * d) % s == 0]
        last = taps[-1] if taps else 0
        found.append(_Phase(place, len(taps), last, step, step * d // s, -((place + b - last * d) // s)))
    return found


def constant(out: StridedArray, bias: StridedArray | None) -> StridedArray:
    """What sums over nothing come to: 0, or the bias."""
    if bias is None:
        return filled(0, out)
    rest = len(out.shape) - 2
    return copied(
        broadcast(bias.view((1, *bias.shape, *(1,) * rest), (0, *bias.strides, *(0,) * rest)), out.shape), out
    )
