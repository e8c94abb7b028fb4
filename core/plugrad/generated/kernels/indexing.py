"""Kernels that read and add where indices point, and those that find indices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from plugrad import dtypes, ops
from plugrad.generated.array import StridedArray, empty
from plugrad.generated.device import GeneratedDevice
from plugrad.generated.kernels._run import computable, contiguous, filled, group_of, raw, room, rounding
from plugrad.generated.kernels._table import table
from plugrad.graph.source import gather, gather_rows, nonzero_count, nonzero_write, scatter, scatter_rows
from plugrad.spec import Shape

_BLOCK: Final = 4096
"""Elements in which one work-item counts those that are not 0."""


def _arguments(
    name: str, device: GeneratedDevice, indices: Sequence[StridedArray], sizes: Sequence[int], axis: int
) -> list[Any]:
    """What goes to the indices' parameters; they index axes of these sizes, the first of which is ``axis``."""
    found: list[Any] = []
    for i, (index, size) in enumerate(zip(indices, sizes, strict=True), axis):
        found += [index.memory, index.start, size, device.site(name, i, size)]
    return [*found, device.claim, device.report]


def _entries(indices: Sequence[StridedArray]) -> list[StridedArray]:
    return [contiguous(i) for i in indices]


def _check(
    name: str, device: GeneratedDevice, indices: Sequence[StridedArray], shape: Shape, axis: int
) -> None:
    """Hold indices against their axes where nothing is read or written."""
    rows = max(math.prod(shape[axis : axis + len(indices)]), 1)
    stand_in = filled(0, empty(device, (rows,), dtypes.uint8))
    own = shape[axis : axis + len(indices)]
    _gather(name, stand_in, indices, own, 0, axis, empty(device, (indices[0].size,), dtypes.uint8))


def _gather(
    name: str,
    x: StridedArray,
    indices: Sequence[StridedArray],
    shape: Shape,
    at: int,
    axis: int,
    out: StridedArray,
) -> None:
    """Read ``x``, of ``shape``, at the indices of its axes from ``at`` on, which errors count from ``axis`` on."""
    stop = at + len(indices)
    entries, before, after = indices[0].size, math.prod(shape[:at]), math.prod(shape[stop:])
    kinds, lanes = tuple(i.dtype for i in indices), x.dialect.lanes.get(x.dtype, 1)
    arguments = [
        *(x.memory, x.start, *_arguments(name, x.device, indices, shape[at:stop], axis)),
        *(out.memory, out.start, entries, after, math.prod(shape[at:stop])),
    ]
    if 1 < lanes <= after:
        source, size, group = gather_rows(x.dialect, x.dtype, kinds), (entries, before, 1), group_of(entries)
    else:
        source, size, group = gather(x.dialect, x.dtype, kinds), (after, entries, before), group_of(after)
    x.device.launch(source, size, (group, 1, 1), arguments, checks=True)


@table(ops.gather_nd)
def _(
    x: StridedArray, indices: Sequence[StridedArray], *, axis: int, into: StridedArray | None = None
) -> StridedArray:
    shape, stop = x.shape, axis + len(indices)
    out = room(x.device, (*shape[:axis], *indices[0].shape, *shape[stop:]), x.dtype, into)
    indices = _entries(indices)
    if out.size and x.size:
        _gather("gather_nd", raw(contiguous(x)), indices, shape, axis, axis, raw(out))
    elif indices[0].size:
        _check("gather_nd", x.device, indices, shape, axis)
    return out


@table(ops.scatter_nd)
def _(
    x: StridedArray,
    indices: Sequence[StridedArray],
    *,
    shape: Shape,
    axis: int,
    into: StridedArray | None = None,
) -> StridedArray:
    out = room(x.device, shape, x.dtype, into)
    return rounding(lambda wide: _scatter(computable(x), _entries(indices), axis, wide), out)


def _scatter(x: StridedArray, indices: Sequence[StridedArray], axis: int, out: StridedArray) -> StridedArray:
    shape, out = out.shape, filled(0, out)
    entries, stop = indices[0].size, axis + len(indices)
    if not entries:
        return out
    if not out.size:
        _check("scatter_nd", x.device, indices, shape, axis)
        return out
    x = contiguous(x)
    before, after = math.prod(shape[:axis]), math.prod(shape[stop:])
    kinds, lanes = tuple(i.dtype for i in indices), x.dialect.lanes.get(x.dtype, 1)
    arguments = [
        *(x.memory, x.start, *_arguments("scatter_nd", x.device, indices, shape[axis:stop], axis)),
        *(out.memory, out.start, entries, after, math.prod(shape[axis:stop])),
    ]
    if 1 < lanes <= after:
        source, first, group = scatter_rows(x.dialect, x.dtype, kinds), -(-after // lanes), 1
    else:
        source, first, group = scatter(x.dialect, x.dtype, kinds), after, group_of(after)
    x.device.launch(source, (first, before), (group, 1), arguments, checks=True)
    return out


@table(ops.nonzero_indices)
def _(x: StridedArray) -> StridedArray:
    if not x.size:
        return empty(x.device, (len(x.shape), 0), dtypes.int64)
    x = contiguous(computable(x))
    blocks = -(-x.size // _BLOCK)
    counts = empty(x.device, (blocks,), dtypes.int64)
    sizes = [x.size, _BLOCK, blocks]
    shared = [x.memory, x.start, counts.memory, *sizes]
    group = (group_of(blocks),)
    x.device.launch(nonzero_count(x.dialect, x.dtype), (blocks,), group, shared)
    # How many there are is the result's shape, so that the host must know it.
    found = np.empty(blocks, np.int64)
    x.device.download(found.view(np.uint8), counts.memory, 0)
    total = int(found.sum())
    out = empty(x.device, (len(x.shape), total), dtypes.int64)
    if out.size:
        before = np.cumsum(found) - found
        shared[2] = x.device.upload(before.view(np.uint8))
        source = nonzero_write(x.dialect, x.dtype, len(x.shape))
        x.device.launch(source, (blocks,), group, [*shared, out.memory, out.start, *x.shape, total])
    return out
