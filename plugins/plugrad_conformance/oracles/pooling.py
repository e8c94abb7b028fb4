"""Oracles of pooling.

A kernel gets ``padding`` as (before, after), and ``ceil_mode`` as how far the last window reaches beyond it, for each
spatial axis.
"""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle
from plugrad_conformance.oracles._taps import Ints, Pairs, padded, positions, taps


def _around(padding: Pairs, ceil_mode: Ints) -> Pairs:
    """What lies between the operand and the end of the last window."""
    return tuple((a, b + over) for (a, b), over in zip(padding, ceil_mode, strict=True))


@oracle("max_pool")
@np.errstate(all="ignore")
def _max_pool(
    x: Array, *, kernel_size: Ints, stride: Ints, padding: Pairs, dilation: Ints, ceil_mode: Ints
) -> Array:
    around = _around(padding, ceil_mode)
    space = positions(x.shape[2:], kernel_size, stride, around, dilation)
    field = padded(x, around, -np.inf)
    out = np.full((*x.shape[:2], *space), -np.inf)
    for _, under in taps(kernel_size, space, stride, dilation):
        # NaN where either is.
        out = np.maximum(out, field[under])
    return out


@oracle("avg_pool")
@np.errstate(all="ignore")
def _avg_pool(
    x: Array, *, kernel_size: Ints, stride: Ints, padding: Pairs, ceil_mode: Ints, count_include_pad: bool
) -> Array:
    around, dilation = _around(padding, ceil_mode), (1,) * len(kernel_size)
    space = positions(x.shape[2:], kernel_size, stride, around, dilation)
    field = padded(x, around)
    # 1 where an element counts: in the operand and perhaps in its padding, never beyond that.
    counting = np.ones(x.shape[2:])
    if count_include_pad:
        counting = padded(counting, padding, 1.0)
        around = tuple((0, max(over, 0)) for over in ceil_mode)
    counting = padded(counting, around)
    total, count = np.zeros((*x.shape[:2], *space)), np.zeros(space)
    for _, under in taps(kernel_size, space, stride, dilation):
        total += field[under]
        count += counting[under]
    return np.asarray(total / count)
