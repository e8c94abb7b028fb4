"""The error function, the activations made of exponentials, and the softmax family, with their vjps.

All take floating arrays of any strides, compute float16 and bfloat16 in float32, work in chunks that stay in the
cache and raise no floating-point warnings. `erf` is within 4 ULP in float32 and 2 in float64; its coefficients
were fitted for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import numpy as np

from plugrad_numpy._chunks import along, elementwise
from plugrad_numpy._exponential import UNIT, exponential, power
from plugrad_numpy._parallel import scratch

__all__ = [
    "erf",
    "gelu_exact",
    "gelu_exact_vjp",
    "gelu_tanh",
    "gelu_tanh_vjp",
    "log_softmax",
    "log_softmax_vjp",
    "logsumexp",
    "logsumexp_vjp",
    "softmax",
    "softmax_vjp",
]

Array = np.ndarray[Any, Any]

# float32: erf(x) = tanh(x (C + t P(t) / Q(t))) with t = x^2; a minimax fit of atanh(erf(x)) / x on |x| <= 4 in which
# errors count as they reach the result: at most 3.3e-9. Highest power first.
_C32 = 1.1283791708452307
_P32 = (0.0018116391502298584, 0.01591532314910022, 0.10277251188933312)
_Q32 = (0.0003249229489333164, 0.023689879765695306, 0.15689244009255915, 1.0)

# float64, |x| <= 1: erf(x) / x in x^2, error 7.4e-18. Chebyshev fits in 50 digits. Highest power first.
_SMALL = (
    -7.795898827002142e-10,
    1.3720064546777686e-08,
    -1.6208483801871705e-07,
    1.6447424703317362e-06,
    -1.492473690741966e-05,
    0.00012055294904839707,
    -0.0008548325975389692,
    0.0052239776071164225,
    -0.02686617064323777,
    0.11283791670945006,
    -0.37612638903183543,
    1.1283791670955126,
)
# float64, 1 <= |x| <= 6: erfc(|x|) exp(x^2) in (|x| - 2.5) / (|x| + 2.5), error 1.1e-17.
_LARGE = (
    8.134380709229634e-08,
    -1.5625258507743158e-06,
    -2.2842173094341345e-06,
    7.48480117852628e-06,
    1.8609712314617464e-05,
    -3.4172229273553035e-05,
    -0.00012887649615317198,
    0.00022837955896605415,
    0.0008759154019168855,
    -0.002642365927759658,
    -0.0039937011641469865,
    0.0399225390747838,
    -0.12503305237885554,
    0.251713193217456,
    -0.3717367339489732,
    0.21080636406114356,
)

_FRESH = 1 << 16
"""Bytes from which new memory may be fetched from the system, page by page."""

_ROOT_HALF = sqrt(0.5)
_ROOT_2_OVER_PI = sqrt(2 / pi)
_NORMAL = 1 / sqrt(2 * pi)
_CUBE = 0.044715


def erf(x: Array, out: Array | None = None) -> Array:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to ``x``, elementwise."""
    return elementwise(_erf, x, into=out)


def gelu_exact(x: Array, *, into: Array | None = None) -> Array:
    """``x`` Phi(x), with Phi the normal distribution function (Hendrycks and Gimpel, arXiv 1606.08415)."""
    return elementwise(_gelu_exact, x, into=into)


def gelu_exact_vjp(ct: Array, x: Array, *, into: Array | None = None) -> Array:
    """``ct`` times the derivative of `gelu_exact`, Phi(x) + x phi(x)."""
    return elementwise(_gelu_exact_vjp, ct, x, into=into)


def gelu_tanh(x: Array, *, into: Array | None = None) -> Array:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), the approximation of the same paper."""
    return elementwise(_gelu_tanh, x, into=into, lending=0)


def gelu_tanh_vjp(ct: Array, x: Array, *, into: Array | None = None) -> Array:
    """``ct`` times the derivative of `gelu_tanh`."""
    return elementwise(_gelu_tanh_vjp, ct, x, into=into, lending=1)


def softmax(x: Array, *, axis: int, into: Array | None = None) -> Array:
    """exp(x) over its sum along ``axis`` (from 0 to ndim - 1)."""
    return along(_softmax, axis, x, into=into)


def softmax_vjp(ct: Array, out: Array, *, axis: int, into: Array | None = None) -> Array:
    """``ct`` times the Jacobian of `softmax`, given its result ``out``."""
    return along(_softmax_vjp, axis, out, ct, into=into)


def log_softmax(x: Array, *, axis: int, into: Array | None = None) -> Array:
    """The logarithm of `softmax`, without the loss of small probabilities."""
    return along(_log_softmax, axis, x, into=into)


def log_softmax_vjp(ct: Array, out: Array, *, axis: int, into: Array | None = None) -> Array:
    """``ct`` times the Jacobian of `log_softmax`, given its result ``out``."""
    return along(_log_softmax_vjp, axis, out, ct, into=into)


def logsumexp(x: Array, *, axis: int, keepdims: bool = False, into: Array | None = None) -> Array:
    """log(sum(exp(x))) along ``axis`` (from 0 to ndim - 1), without overflow; -inf along an axis of size 0."""
    shape = (*x.shape[:axis], *((1,) if keepdims else ()), *x.shape[axis + 1 :])
    result = np.empty(shape, x.dtype) if into is None else into
    whole = result if keepdims else np.expand_dims(result, axis)
    if x.shape[axis] == 0:
        whole[...] = -np.inf
    else:
        along(_logsumexp, axis, x, into=whole)
    return result


def logsumexp_vjp(
    ct: Array, x: Array, out: Array, *, axis: int, keepdims: bool = False, into: Array | None = None
) -> Array:
    """``ct`` times the gradient of `logsumexp`, softmax(x), given its result ``out``."""
    if not keepdims:
        ct, out = np.expand_dims(ct, axis), np.expand_dims(out, axis)
    return along(_logsumexp_vjp, axis, x, out, ct, into=into)


# Each of the following takes chunks of one dtype, float32 or float64, and writes `out` with its last operation.


def _spare(slot: int, x: Array) -> Array:
    """Memory like a chunk: the calling thread's, or new where that is small and therefore cheaper."""
    if x.nbytes < _FRESH:
        return np.empty(x.shape, x.dtype)
    return scratch(str(slot), x.shape, x.dtype)


def _horner(coefficients: tuple[float, ...], x: Array, out: Array) -> Array:
    """The polynomial in ``x``, highest power first."""
    np.multiply(x, x.dtype.type(coefficients[0]), out=out)
    for c in coefficients[1:-1]:
        out += x.dtype.type(c)
        out *= x
    out += x.dtype.type(coefficients[-1])
    return out


def _erf(x: Array, out: Array) -> None:
    if x.dtype == np.float32:
        np.tanh(_erf_argument(x), out=out)
    else:
        _erf64(x, out)


def _erf_argument(x: Array) -> Array:
    """atanh(erf(x)) in float32, or where that is beyond 4 something whose tanh is 1 as well; in spare memory."""
    t = np.clip(x, np.float32(-4), np.float32(4), out=_spare(0, x))
    t *= t
    u = _horner(_P32, t, _spare(1, x))
    u *= t
    u /= _horner(_Q32, t, _spare(2, x))
    u += np.float32(_C32)
    u *= x
    return u


def _erf64(x: Array, out: Array) -> None:
    size = np.abs(x, out=_spare(0, x))
    far = np.flatnonzero(size > 1)
    t = np.minimum(size, 1.0, out=_spare(1, x))
    t *= t
    y = _horner(_SMALL, t, _spare(2, x))
    y *= x
    if far.size:
        z = x[far]
        size = np.minimum(size[far], 6.0)
        ratio = (size - 2.5) / (size + 2.5)
        tail = _horner(_LARGE, ratio, np.empty_like(ratio))
        size *= size
        tail *= np.exp(np.negative(size, out=size), out=size)
        y[far] = np.copysign(np.subtract(1.0, tail, out=tail), z)
    np.copyto(out, y)


def _distribution(x: Array) -> Array:
    """The normal distribution function, in spare memory."""
    y: Array = np.multiply(x, x.dtype.type(_ROOT_HALF), out=_spare(3, x))
    _erf(y, y)
    y *= x.dtype.type(0.5)
    y += x.dtype.type(0.5)
    return y


def _gelu_exact(x: Array, out: Array) -> None:
    np.multiply(x, _distribution(x), out=out)


def _gelu_exact_vjp(ct: Array, x: Array, out: Array) -> None:
    share = _distribution(x)
    t = np.multiply(x, x, out=_spare(0, x))
    within = np.maximum.reduce(t, initial=0) <= 160
    t *= x.dtype.type(-0.5 * UNIT)
    exponential(t, within)
    t *= x.dtype.type(_NORMAL)
    t *= x
    t += share
    np.multiply(ct, t, out=out)


# With 2 u the argument of the logistic function, x (a + b x^2), where (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)) keeps its
# digits where it is small:
_A = 2 * _ROOT_2_OVER_PI
_B = 2 * _ROOT_2_OVER_PI * _CUBE


def _gelu_tanh(x: Array, out: Array, lent: Sequence[Array] | None = None) -> None:
    t = np.multiply(x, x, out=_spare(0, x) if lent is None else out)
    within = np.maximum.reduce(t, initial=0) <= 81
    t *= x.dtype.type(-UNIT * _B)
    t -= x.dtype.type(UNIT * _A)
    t *= x
    exponential(t, within)
    t += x.dtype.type(1)
    np.divide(x, t, out=out)


def _gelu_tanh_vjp(ct: Array, x: Array, out: Array, lent: Sequence[Array] | None = None) -> None:
    # With e = exp(-2 u) and w = 2 x u' = x (a + 3 b x^2): the derivative is (1 + e + e w) / (1 + e)^2. Up to the limit
    # nothing but the denominator overflows, where it makes 0 of what is below the precision by far; beyond, the
    # derivative is 0 or 1 as it is at the limit.
    limit = x.dtype.type(9 if x.dtype.itemsize == 4 else 20)
    s = np.multiply(x, x, out=_spare(0, x) if lent is None else out)
    if not np.maximum.reduce(s, initial=0) <= limit * limit:
        x = np.clip(x, -limit, limit, out=_spare(1, x))
        np.multiply(x, x, out=s)
    s *= x.dtype.type(-UNIT * _B)
    s -= x.dtype.type(UNIT * _A)
    e = np.multiply(s, x, out=_spare(2, x) if lent is None else lent[0])
    power(e, out=e)
    s *= x.dtype.type(-3 / UNIT)
    s -= x.dtype.type(2 * _A)
    s *= x
    s *= e
    e += x.dtype.type(1)
    s += e
    np.square(e, out=e)
    s /= e
    np.multiply(ct, s, out=out)


# Each of the following takes chunks (a, n, b), and the lines run along axis 1.


def _softmax(x: Array, out: Array) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    out *= np.reciprocal(out.sum(axis=1, keepdims=True))


def _softmax_vjp(s: Array, ct: Array, out: Array) -> None:
    np.multiply(s, ct, out=out)
    total = out.sum(axis=1, keepdims=True)
    np.subtract(ct, total, out=out)
    out *= s


def _log_softmax(x: Array, out: Array) -> None:
    np.subtract(x, x.max(axis=1, keepdims=True), out=out)
    out -= np.log(np.exp(out, out=_spare(0, out)).sum(axis=1, keepdims=True))


def _log_softmax_vjp(logs: Array, ct: Array, out: Array) -> None:
    np.exp(logs, out=out)
    out *= ct.sum(axis=1, keepdims=True)
    np.subtract(ct, out, out=out)


def _logsumexp(x: Array, out: Array) -> None:
    largest = x.max(axis=1, keepdims=True)
    largest[~np.isfinite(largest)] = 0
    t = np.subtract(x, largest, out=_spare(0, x))
    np.exp(t, out=t)
    np.sum(t, axis=1, keepdims=True, out=out)
    np.log(out, out=out)
    out += largest


def _logsumexp_vjp(x: Array, total: Array, ct: Array, out: Array) -> None:
    np.subtract(x, total, out=out)
    np.exp(out, out=out)
    out *= ct
