"""Products of matrices: which kernel computes one, and its launches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final

from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray, broadcast, broadcast_strides, empty, reshaped, sliced
from plugrad.generated.kernels._run import contiguous, copied, filled, group_of
from plugrad.generated.kernels._transpose import padded
from plugrad.graph.source import (
    Dialect,
    Epilogue,
    Source,
    collapse,
    contiguous_strides,
    product,
    row_products,
    summed_parts,
    tiled_product,
)
from plugrad.graph.source.tile import PLAIN
from plugrad.spec import Shape

_TILES: Final = (
    *((6, 4), (4, 4), (2, 4), (1, 4), (8, 3), (6, 3), (4, 3), (1, 3)),
    *(
        (12, 2),
        (14, 2),
        (8, 2),
        (7, 2),
        (4, 2),
        (2, 2),
        (1, 2),
        (12, 1),
        (8, 1),
        (7, 1),
        (4, 1),
        (2, 1),
        (1, 1),
    ),
)
"""Rows and vectors of tiles: 24 sums and what is multiplied fill the 32 registers of AVX-512, and other devices spill
little. Smaller ones serve where a matrix is no larger."""

_WAIT: Final = 4
"""Multiplications that a device begins before the first is done: a tile of fewer waits."""

_FEW: Final = 4
"""Up to so many rows, sums over the lanes cost less than turning the second operand."""

_SMALL: Final = 4096
"""Up to so many multiplications, a matrix that is narrower than a vector is not brought to its width."""

_ITEMS: Final = 16
"""So many work-items keep a device busy."""

_CHUNK: Final = 256
"""Elements of k that a part has at least."""

_PANEL: Final = 1024
"""Elements of k that a part has at most: what a work-item reads of the second operand stays in the cache for the next one."""

BIASED: Final = Epilogue("x = x + bias;", "x = x + bias;", (("bias", "c"),))
"""A number for each column is added."""

Layout = tuple[Shape, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class _Plan:
    """The launches of products of such layouts.

    Attributes:
        source, size, group: the kernel.
        second: how the second operand is taken: as it is (``""``), ``"contiguous"``, ``"wide"``, where its rows get the
            elements of a vector, or ``"turned"``, where they are turned for it as well.
        a, b, result: the strides of the operands, and of what the kernel writes.
        sizes: the numbers that follow.
        tail: for each operand of the epilogue its strides, or None for a number.
        parts: how many parts k has.
        summing: where there are several, the work-items of the kernel that adds them up, the strides of the result, and
            the numbers that follow.
    """

    source: Source
    size: tuple[int, int, int]
    group: tuple[int, int, int]
    second: str
    a: tuple[int, ...]
    b: tuple[int, ...]
    result: tuple[int, ...]
    sizes: tuple[int, ...]
    tail: tuple[tuple[int, ...] | None, ...]
    parts: int
    summing: tuple[tuple[int, int, int], tuple[int, ...], tuple[int, ...]]


def multiply(
    x1: StridedArray,
    x2: StridedArray,
    out: StridedArray,
    tail: Epilogue = PLAIN,
    operands: Sequence[Any] = (),
) -> StridedArray:
    """Write ``x1 @ x2`` to ``out``, all of one dtype, which is computed with.

    Args:
        x1: (..., n, k), k at least 1.
        x2: (..., k, m); the axes before broadcast.
        out: (..., n, m), not empty, its rows contiguous.
        tail: what is done with the sums.
        operands: its operands: numbers, and arrays that broadcast to the shape of ``out``, with m elements along the last
            axis where the letter is ``c``, and one where it is ``r``.
    """
    operands = [
        contiguous(x) if letter == "c" and x.strides[-1] != 1 else x
        for x, (_, letter) in zip(operands, tail.operands, strict=True)
    ]
    described = tuple((x.shape, x.strides) if isinstance(x, StridedArray) else None for x in operands)
    plan = _planned(
        out.dialect,
        out.dtype,
        (x1.shape, x1.strides),
        (x2.shape, x2.strides),
        (out.shape, out.strides),
        tail,
        described,
    )
    if plan is None:
        return _one_by_one(x1, x2, out, tail, operands)
    b = _taken(x2, plan.second)
    ends: list[Any] = []
    for x, steps in zip(operands, plan.tail, strict=True):
        ends += (x,) if steps is None else (x.memory, x.start, *steps)
    target = out if plan.parts == 1 else empty(out.device, (plan.parts, *out.shape), out.dtype)
    arguments = [x1.memory, x1.start, *plan.a, b.memory, b.start, *plan.b]
    arguments += [target.memory, target.start, *plan.result, *plan.sizes]
    if plan.parts == 1:
        out.device.launch(plan.source, plan.size, plan.group, [*arguments, *ends])
        return out
    out.device.launch(plan.source, plan.size, plan.group, arguments)
    size, steps, sizes = plan.summing
    arguments = [target.memory, target.start, out.memory, out.start, *steps, *sizes, *ends]
    group = (group_of(size[0]), 1, 1)
    out.device.launch(summed_parts(out.dialect, out.dtype, tail), size, group, arguments)
    return out


def add_parts(parts: StridedArray, out: StridedArray) -> StridedArray:
    """Write the sum over the first axis to ``out``, in order; both are contiguous."""
    n, size = parts.shape[0], out.size
    first = -(-size // out.dialect.lanes[out.dtype])
    arguments = [parts.memory, parts.start, out.memory, out.start, 0, 0, 0, 1, 1, 1, size, n]
    group = (group_of(first), 1, 1)
    out.device.launch(summed_parts(out.dialect, out.dtype), (first, 1, 1), group, arguments)
    return out


def _one_by_one(
    x1: StridedArray, x2: StridedArray, out: StridedArray, tail: Epilogue, operands: Sequence[Any]
) -> StridedArray:
    """A product for each index of the first axis of the batch."""

    def at(x: Any, i: int) -> Any:
        return (
            x.view(x.shape[1:], x.strides[1:], x.start + i * x.strides[0])
            if isinstance(x, StridedArray)
            else x
        )

    batch = out.shape[:-2]
    a, b = (broadcast(x, (*batch, *x.shape[-2:])) for x in (x1, x2))
    others = [broadcast(x, out.shape) if isinstance(x, StridedArray) else x for x in operands]
    for i in range(batch[0]):
        multiply(at(a, i), at(b, i), at(out, i), tail, [at(x, i) for x in others])
    return out


def _taken(x: StridedArray, how: str) -> StridedArray:
    """The second operand as the kernel takes it."""
    if not how:
        return x
    if how == "contiguous":
        return lined(x)
    lanes = x.dialect.lanes[x.dtype]
    wide = empty(x.device, (*x.shape[:-1], lanes), x.dtype)
    if how == "turned":
        shape = (math.prod(x.shape[:-2]), *x.shape[-2:])
        view, target = reshaped(x, shape), reshaped(wide, (*shape[:-1], lanes))
        assert view is not None
        assert target is not None
        padded(view, target)
        return wide
    copied(x, sliced(filled(0, wide), [(0, s, 1) for s in x.shape]))
    return wide


def lined(x: StridedArray) -> StridedArray:
    """A copy with the elements of a row side by side, as a second operand's are best."""
    field = empty(x.device, (*x.shape[:-1], _length(x.shape[-1], x.dtype, x.dialect)), x.dtype)
    return copied(x, sliced(field, [(0, s, 1) for s in x.shape]))


def _length(m: int, dtype: DType, dialect: Dialect) -> int:
    """The elements from one row of a copy to the next: rows a power of 2 apart push one another out of a cache."""
    return m + dialect.lanes[dtype] if m * dtype.itemsize % 2048 == 0 else m


def _second(x: Layout, n: int, lanes: int, lined: bool) -> str:
    """How the second operand is taken, or ``"rows"`` where sums over lanes take both as they are."""
    shape, strides = x
    k, m = shape[-2:]
    side_by_side = strides[-2] == 1 and k >= lanes
    if lined and side_by_side and n <= _FEW and lanes > 1:
        return "rows"
    if m >= lanes:
        return "" if strides[-1] == 1 else "contiguous"
    if side_by_side and len(collapse(shape[:-2], [strides[:-2]])[0]) < 2:
        return "turned"
    return "wide"


def tile_of(n: int, m: int, lanes: int) -> tuple[int, int]:
    """The tile that does least beyond the matrix and waits least."""

    def cost(tile: tuple[int, int]) -> int:
        rows, vectors = tile
        return -(-n // rows) * -(-m // (vectors * lanes)) * max(rows * vectors, rows + vectors, _WAIT)

    fitting = [(r, v) for r, v in _TILES if r <= n and v * lanes <= max(m, lanes)]
    return min(fitting, key=cost)


@lru_cache(maxsize=4096)
def _planned(
    dialect: Dialect,
    dtype: DType,
    x1: Layout,
    x2: Layout,
    out: Layout,
    tail: Epilogue,
    operands: tuple[Layout | None, ...],
) -> _Plan | None:
    """None where the axes of the batch are more than two, however they are taken together."""
    (shape1, strides1), (shape2, strides2), (shape, strides) = x1, x2, out
    (n, k), m, batch = shape1[-2:], shape2[-1], shape[:-2]
    lanes = dialect.lanes.get(dtype, 0)
    vectors = lanes and (m >= lanes or n * m * k > _SMALL)
    second = _second(x2, n, lanes, strides1[-1] == 1) if vectors else ""
    if second == "contiguous":
        strides2 = contiguous_strides((*shape2[:-1], _length(m, dtype, dialect)))
    elif second in ("wide", "turned"):
        strides2 = contiguous_strides((*shape2[:-1], lanes))
    ends = [None if x is None else broadcast_strides(*x, shape) for x in operands]
    both = [broadcast_strides(s[:-2], t[:-2], batch) for s, t in ((shape1, strides1), (shape2, strides2))]
    counts, steps = collapse(batch, [*both, strides[:-2], *(e[:-2] for e in ends if e is not None)])
    if len(counts) > 2:
        return None
    pairs = [(0,) * (2 - len(s)) + s for s in steps]
    count, inners = math.prod(counts), counts[-1] if counts else 1
    kernel: Callable[..., Source] = product
    size, group = (m, n), group_of(m)
    if vectors and second == "rows":
        kernel, second = row_products, ""
        size, group = (-(-m // lanes), n), 1
    elif vectors:
        rows, wide = tile_of(n, m, lanes)
        kernel = partial(tiled_product, rows=rows, vectors=wide, columns=m if m < lanes else 0)
        size, group = (-(-n // rows), -(-m // (wide * lanes))), 1
    parts = _parts(k, n, size[0] * size[1] * count) if vectors else 1
    rest = iter(pairs[3:])
    dense = contiguous_strides((parts, count // inners, inners, n, m))
    return _Plan(
        source=kernel(dialect, dtype, tail=tail if parts == 1 else PLAIN),
        size=(*size, count * parts),
        group=(group, 1, 1),
        second=second,
        a=(*pairs[0], *strides1[-2:]),
        b=(*pairs[1], *strides2[-2:]),
        result=(*pairs[2], 0, strides[-2]) if parts == 1 else (*dense[1:3], dense[0], m),
        sizes=(inners, n, k, m, -(-k // parts), parts),
        tail=tuple(None if e is None else (*next(rest), e[-2]) for e in ends),
        parts=parts,
        summing=(
            (-(-m // lanes) if lanes else 0, n, count),
            (*pairs[2], strides[-2]),
            (inners, count, n, m, parts),
        ),
    )


def _parts(k: int, n: int, items: int) -> int:
    """Into how many parts k is cut."""
    if items < _ITEMS:
        return max(1, min(-(-_ITEMS // items), k // _CHUNK))
    return -(-k // _PANEL) if n > _FEW else 1
