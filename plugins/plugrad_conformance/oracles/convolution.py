"""Oracles of convolution and of its two adjoints: sums over the elements of the kernel of products over the channels.

A kernel gets ``stride`` and ``dilation`` as one int, and ``padding`` as (before, after), for each spatial axis.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle
from plugrad_conformance.oracles._taps import Ints, Pairs, padded, positions, reach, taps


def _grouped(x: Array, groups: int, axis: int) -> Array:
    """``x`` with the channels at ``axis`` as (groups, channels of a group)."""
    shape = (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    return x.reshape(shape)


def _biased(out: Array, bias: Array | None) -> Array:
    return out if bias is None else out + bias.reshape(-1, *(1,) * (out.ndim - 2))


@oracle("conv")
@np.errstate(all="ignore")
def _conv(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Ints,
    padding: Pairs,
    dilation: Ints,
    groups: int,
) -> Array:
    kernel = weight.shape[2:]
    space = positions(x.shape[2:], kernel, stride, padding, dilation)
    field = _grouped(padded(x, padding), groups, 1)
    weights = _grouped(weight, groups, 0)
    out = np.zeros((len(x), groups, weights.shape[1], *space))
    for tap, under in taps(kernel, space, stride, dilation):
        out += np.einsum("ngc...,goc->ngo...", field[under], weights[tap])
    return _biased(out.reshape(len(x), weight.shape[0], *space), bias)


@oracle("conv_transpose")
@np.errstate(all="ignore")
def _conv_transpose(
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Ints,
    padding: Pairs,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> Array:
    kernel, space = weight.shape[2:], x.shape[2:]
    whole = [
        (n - 1) * s + r + extra
        for n, s, r, extra in zip(space, stride, reach(kernel, dilation), output_padding, strict=True)
    ]
    rows, weights = _grouped(x, groups, 1), _grouped(weight, groups, 0)
    field = np.zeros((len(x), groups, weight.shape[1], *whole))
    for tap, under in taps(kernel, space, stride, dilation):
        field[under] += np.einsum("ngc...,gco->ngo...", rows, weights[tap])
    inside = tuple(slice(a, n - b) for n, (a, b) in zip(whole, padding, strict=True))
    index: Any = (..., *inside)
    kept = field[index]
    return _biased(kept.reshape(len(x), groups * weight.shape[1], *kept.shape[3:]), bias)


@oracle("conv_weight")
@np.errstate(all="ignore")
def _conv_weight(
    x: Array, y: Array, *, kernel_size: Ints, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Array:
    field, seen_by = _grouped(padded(x, padding), groups, 1), _grouped(y, groups, 1)
    out = np.zeros((groups, seen_by.shape[2], field.shape[2], *kernel_size))
    for tap, under in taps(kernel_size, y.shape[2:], stride, dilation):
        pair = (a.reshape(*a.shape[:3], math.prod(a.shape[3:])) for a in (field[under], seen_by))
        out[tap] = np.einsum("ngcp,ngop->goc", *pair)
    return out.reshape(y.shape[1], field.shape[2], *kernel_size)
