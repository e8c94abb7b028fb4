"""Products of matrices."""

from __future__ import annotations

import math
from typing import Final

from plugrad import ops
from plugrad.graph.source import product, tiled_product
from plugrad.spec import broadcast_shapes
from plugrad_opencl._array import CLArray, broadcast, empty, reshaped, sliced
from plugrad_opencl._dialect import OPENCL_C
from plugrad_opencl.kernels._run import computable, contiguous, copied, filled, group_of, room, rounding
from plugrad_opencl.kernels._table import table

_ROWS: Final = (6, 4, 2, 1)
_VECTORS: Final = (4, 2, 1)
"""Sizes of a tile: six rows of four vectors fill the 32 registers of AVX-512, and other devices spill little."""


@table(ops.matrix_product)
def _(x1: CLArray, x2: CLArray, *, into: CLArray | None = None) -> CLArray:
    (n, k), m = x1.shape[-2:], x2.shape[-1]
    batch = broadcast_shapes("matrix_product", [x1.shape[:-2], x2.shape[:-2]])
    out = room(x1.device, (*batch, n, m), x1.dtype, into)
    if not out.size:
        return out
    if not k:
        return filled(0, out)
    if OPENCL_C.computed(out.dtype) is not out.dtype:
        return rounding(lambda wide: _product(computable(x1), computable(x2), wide), out)
    return _product(x1, x2, out)


def _product(x1: CLArray, x2: CLArray, out: CLArray) -> CLArray:
    (n, k), m, batch = x1.shape[-2:], x2.shape[-1], out.shape[:-2]
    lanes = OPENCL_C.lanes.get(x1.dtype, 0)
    if lanes and m < lanes and n * m * k > lanes:
        # Too few columns for a vector: the second operand gets columns of zeros, and the result is cut out again.
        padded = filled(0, empty(x2.device, (*x2.shape[:-1], lanes), x2.dtype))
        copied(x2, sliced(padded, [(0, s, 1) for s in x2.shape]))
        wide = empty(x1.device, (*batch, n, lanes), x1.dtype)
        _multiply(x1, padded, wide, lanes)
        return copied(sliced(wide, [(0, s, 1) for s in out.shape]), out)
    _multiply(x1, x2, out, lanes)
    return out


def _multiply(x1: CLArray, x2: CLArray, out: CLArray, lanes: int) -> None:
    """The product of matrices that are not empty."""
    (n, k), m = x1.shape[-2:], x2.shape[-1]
    batch = out.shape[:-2]
    tiled = lanes and m >= lanes
    if tiled and x2.strides[-1] != 1:
        x2 = contiguous(x2)
    a, b = broadcast(x1, (*batch, n, k)), broadcast(x2, (*batch, k, m))
    if len(batch) > 1:
        a, b = _one_batch(a), _one_batch(b)
    count = math.prod(batch)
    steps = [x.strides[0] if batch else 0 for x in (a, b)]
    arguments = [
        *(a.memory, a.start, steps[0], *a.strides[-2:]),
        *(b.memory, b.start, steps[1], *b.strides[-2:]),
        *(out.memory, out.start, n * m, n, k, m),
    ]
    if not tiled:
        source = product(OPENCL_C, out.dtype)
        out.device.launch(source, (m, n, count), (group_of(m), 1, 1), arguments)
        return
    rows = next(r for r in _ROWS if r <= n)
    vectors = next(v for v in _VECTORS if v * lanes <= m)
    source = tiled_product(OPENCL_C, out.dtype, rows, vectors)
    size = (-(-m // (vectors * lanes)), -(-n // rows), count)
    out.device.launch(source, size, (1, 1, 1), arguments)


def _one_batch(x: CLArray) -> CLArray:
    """``x`` with its leading axes made one; copied where their strides allow no view."""
    shape = (math.prod(x.shape[:-2]), *x.shape[-2:])
    view = reshaped(x, shape)
    if view is None:
        view = reshaped(contiguous(x), shape)
        assert view is not None
    return view
