"""Oracles of softmax, its logarithm, and the logarithm of sums of exponentials."""

from __future__ import annotations

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle


@oracle("softmax")
@np.errstate(all="ignore")
def softmax(x: Array, *, axis: int) -> Array:
    """``exp(x)`` over its sum along ``axis``."""
    powers = np.exp(x - np.max(x, axis=axis, keepdims=True, initial=-np.inf))
    return np.asarray(powers / np.sum(powers, axis=axis, keepdims=True))


@oracle("log_softmax")
@np.errstate(all="ignore")
def log_softmax(x: Array, *, axis: int) -> Array:
    """The logarithm of `softmax`."""
    shifted = x - np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True)))


@oracle("logsumexp")
@np.errstate(all="ignore")
def logsumexp(x: Array, *, axis: int | tuple[int, ...], keepdims: bool) -> Array:
    """The logarithm of the sum of ``exp(x)``, minus infinity where nothing or only minus infinity is summed."""
    largest = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    # An infinity is left in the exponent: taken out, it would leave the difference of two.
    shift = np.where(np.isfinite(largest), largest, 0.0)
    out = np.log(np.sum(np.exp(x - shift), axis=axis, keepdims=True)) + shift
    return np.asarray(out if keepdims else np.squeeze(out, axis=axis))
