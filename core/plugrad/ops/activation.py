"""Activation functions, elementwise. Names, arguments and meaning are those of PyTorch's `torch.nn.functional`."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, errors, integers, samples, uniform
from plugrad.dtypes import FLOATING, NUMERIC
from plugrad.errors import ArgumentError
from plugrad.ops._rules import like
from plugrad.ops.arithmetic import abs, maximum, minimum
from plugrad.ops.casting import widen
from plugrad.ops.comparison import where
from plugrad.ops.transcendental import exp, expm1, log1p

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

_ROOT_HALF = math.sqrt(0.5)
_ROOT_2_OVER_PI = math.sqrt(2 / math.pi)
_CUBE = 0.044715


def _number(name: str, *, positive: bool = False) -> Callable[[Any, Any], float]:
    """The normalizer of an attribute that is a number: a float."""

    def normalize(call: Any, value: Any) -> float:
        if not isinstance(value, Real) or (positive and not float(value) > 0):
            takes = "a positive number" if positive else "a number"
            raise ArgumentError(f"{call.op.name}: {name} takes {takes}, got {value!r}")
        return float(value)

    return normalize


# -- made of pieces ---------------------------------------------------------------------------------------


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=NUMERIC,
    samples=samples(uniform(-3, 3), integers(-9, 9)),
)
def relu(x: Tensor, /) -> Tensor:
    """The larger of ``x`` and 0, elementwise; NaN stays. The derivative at 0 is 0.

    Which zero it gives for one is unspecified.
    """
    return maximum(x, 0)


@relu.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return where(out > 0, ct, 0.0)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    attributes={"negative_slope": _number("negative_slope")},
    samples=samples(uniform(-3, 3), uniform(-3, 3, negative_slope=0.25), uniform(-3, 3, negative_slope=-1.5)),
    errors=errors(ErrorSample(ArgumentError, np.zeros(3), negative_slope="steep")),
)
def leaky_relu(x: Tensor, /, negative_slope: float = 0.01) -> Tensor:
    """``x`` where it is positive, else ``negative_slope * x``, elementwise.

    The derivative at 0 is ``negative_slope``.
    """
    return where(x > 0, x, x * negative_slope)


@leaky_relu.defvjp("x")
def _(ct: Tensor, x: Tensor, *, negative_slope: float) -> Tensor:
    return where(x > 0, ct, ct * negative_slope)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    attributes={"alpha": _number("alpha")},
    samples=samples(uniform(-3, 3), uniform(-3, 3, alpha=0.5)),
    errors=errors(ErrorSample(ArgumentError, np.zeros(3), alpha=None)),
)
def elu(x: Tensor, /, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``, elementwise. The derivative at 0 is ``alpha``.

    Which zero it gives for one is unspecified.

    Source: Clevert, Unterthiner and Hochreiter, arXiv 1511.07289.
    """
    return where(x > 0, x, expm1(minimum(x, 0)) * alpha)


@elu.defvjp("x")
def _(ct: Tensor, x: Tensor, *, alpha: float) -> Tensor:
    return where(x > 0, ct, ct * (exp(minimum(x, 0)) * alpha))


# -- made of exponentials ---------------------------------------------------------------------------------


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(-6, 6))
def sigmoid(x: Tensor, /) -> Tensor:
    """The logistic function ``1 / (1 + exp(-x))``, elementwise, without overflow.

    Where it is subnormal the result may be 0.
    """
    e = exp(-abs(x))
    return where(x < 0, e, 1.0) / (e + 1)


@sigmoid.defvjp("x")
def _(ct: Tensor, out: Tensor) -> Tensor:
    return ct * (out * (1 - out))


@op(kind=Kind.ELEMENTWISE, infer=like("x"), dtypes=FLOATING, samples=uniform(-6, 6))
def silu(x: Tensor, /) -> Tensor:
    """``x * sigmoid(x)``, elementwise; NaN at minus infinity, and 0 where `sigmoid` is.

    Source: Elfwing, Uchibe and Doya, arXiv 1702.03118.
    """
    wide = widen(x)
    return (wide * sigmoid(wide)).astype(x.spec.dtype)


@silu.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    x = widen(x)
    s = sigmoid(x)
    return ct * (s * (x * (1 - s) + 1))


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    attributes={"beta": _number("beta", positive=True), "threshold": _number("threshold")},
    autocast=Autocast.FULL,
    samples=samples(uniform(-9, 9), uniform(-9, 9, beta=2.5), uniform(-9, 9, threshold=3.0)),
    errors=errors(
        ErrorSample(ArgumentError, np.zeros(3), beta=0.0),
        ErrorSample(ArgumentError, np.zeros(3), beta=math.nan),
        ErrorSample(ArgumentError, np.zeros(3), threshold=None),
    ),
)
def softplus(x: Tensor, /, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(beta * x)) / beta``, elementwise, without overflow: a smooth `relu`.

    Args:
        x: any shape, a floating dtype.
        beta: the sharpness, a positive number.
        threshold: where ``beta * x`` is above it, the result is ``x`` itself, and the derivative 1.

    Raises:
        ArgumentError: if ``beta`` is not positive.
    """
    wide = widen(x)
    scaled = wide * beta
    soft = (maximum(scaled, 0) + log1p(exp(-abs(scaled)))) * (1 / beta)
    return where(scaled > threshold, wide, soft).astype(x.spec.dtype)


@softplus.defvjp("x")
def _(ct: Tensor, x: Tensor, *, beta: float, threshold: float) -> Tensor:
    scaled = widen(x) * beta
    return where(scaled > threshold, ct, ct * sigmoid(scaled))


# -- made of the error function ---------------------------------------------------------------------------


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    primitive=True,
    expression="erf(x)",
    samples=uniform(-4, 4),
)
def erf(x: Tensor, /) -> Tensor:
    """The error function, ``2 / sqrt(pi)`` times the integral of ``exp(-t**2)`` from 0 to ``x``, elementwise."""


@erf.defvjp("x")
def _(ct: Tensor, x: Tensor) -> Tensor:
    return ct * (exp(-(x * x)) * (2 / math.sqrt(math.pi)))


def _approximation(call: Any, value: Any) -> str:
    if value not in ("none", "tanh"):
        raise ArgumentError(f"gelu: approximate takes 'none' or 'tanh', got {value!r}")
    del call
    return str(value)


@op(
    kind=Kind.ELEMENTWISE,
    infer=like("x"),
    dtypes=FLOATING,
    attributes={"approximate": _approximation},
    samples=samples(uniform(-4, 4), uniform(-4, 4, approximate="tanh")),
    errors=errors(ErrorSample(ArgumentError, np.zeros(3), approximate="sigmoid")),
)
def gelu(x: Tensor, /, *, approximate: str = "none") -> Tensor:
    """``x`` times the probability that a standard normal variable is below it, elementwise; NaN at minus infinity.

    Args:
        x: any shape, a floating dtype.
        approximate: ``"none"``, or ``"tanh"`` for
            ``0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``.

    Raises:
        ArgumentError: if ``approximate`` is neither.

    Accurate to a few units in the last place of ``x``, not of the result: in the exact form what is left of
    ``1 + erf(x / sqrt(2))`` loses its digits as ``x`` falls below 0, and the result is 0 from about -5.5 down in
    float32, -8.3 in float64.

    Source: Hendrycks and Gimpel, arXiv 1606.08415.
    """
    wide = widen(x)
    share = _share_by_tanh(wide) if approximate == "tanh" else _share_below(wide)
    return (wide * share).astype(x.spec.dtype)


def _share_below(x: Tensor) -> Tensor:
    """The probability that a standard normal variable is below ``x``."""
    return erf(x * _ROOT_HALF) * 0.5 + 0.5


def _share_by_tanh(x: Tensor) -> Tensor:
    """``0.5 * (1 + tanh(u))`` as ``sigmoid(2 * u)``, which does not cancel."""
    return sigmoid(x * (x * x * (2 * _ROOT_2_OVER_PI * _CUBE) + 2 * _ROOT_2_OVER_PI))


@gelu.defvjp("x")
def _(ct: Tensor, x: Tensor, *, approximate: str) -> Tensor:
    x = widen(x)
    if approximate == "tanh":
        share = _share_by_tanh(x)
        # 0 for large ``x``, before its powers overflow.
        rest = share * (1 - share) * x
        return ct * (share + rest * x * x * (6 * _ROOT_2_OVER_PI * _CUBE) + rest * (2 * _ROOT_2_OVER_PI))
    density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return ct * (_share_below(x) + x * density)


__all__ = ["elu", "erf", "gelu", "leaky_relu", "relu", "sigmoid", "silu", "softplus"]
