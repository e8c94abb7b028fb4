"""Initialisation of parameters. Each function binds a tensor to new values and returns it; formulas are PyTorch's."""

from __future__ import annotations

import math

from plugrad import ops, random
from plugrad.dispatch.modes import changed
from plugrad.errors import ArgumentError, ShapeError
from plugrad.tensor import Tensor

_GAINS = {"linear": 1.0, "conv": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 0.75}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks the spread of what goes through it, undone.

    Args:
        nonlinearity: ``"linear"``, ``"conv"``, ``"sigmoid"``, ``"tanh"``, ``"relu"``, ``"leaky_relu"`` or ``"selu"``.
        param: the negative slope of ``"leaky_relu"``, 0.01 by default.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            f"calculate_gain: nonlinearity takes {', '.join(map(repr, [*_GAINS, 'leaky_relu']))}, got {nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """The inputs and the outputs of a weight (out, in, spatial ...), a position of a kernel counting as one more each."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"init: fan in and fan out need a tensor of at least 2 axes, got shape {tensor.shape}"
        )
    positions = math.prod(tensor.shape[2:])
    return tensor.shape[1] * positions, tensor.shape[0] * positions


def _bind(tensor: Tensor, value: Tensor) -> Tensor:
    with changed(recording=False):
        return tensor.assign(value)


def uniform(tensor: Tensor, a: float = 0.0, b: float = 1.0) -> Tensor:
    """Uniform in [a, b)."""
    return _bind(tensor, random.uniform(tensor.shape, a, b, dtype=tensor.dtype, device=tensor.device))


def normal(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Of the normal distribution."""
    return _bind(tensor, random.normal(tensor.shape, mean, std, dtype=tensor.dtype, device=tensor.device))


def constant(tensor: Tensor, value: float) -> Tensor:
    """``value`` everywhere."""
    return _bind(tensor, ops.full(tensor.shape, value, dtype=tensor.dtype, device=tensor.device))


def zeros(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant(tensor, 0.0)


def ones(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant(tensor, 1.0)


def xavier_uniform(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform, of standard deviation ``gain * sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio 2010)."""
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform(tensor, -bound, bound)


def xavier_normal(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """Normal, of standard deviation ``gain * sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio 2010)."""
    return normal(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))))


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"init: mode takes 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(tensor)[mode == "fan_out"]
    return calculate_gain(nonlinearity, a) / math.sqrt(fan) if fan else 0.0


def kaiming_uniform(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Uniform, of standard deviation ``gain / sqrt(fan)`` (He et al. 2015, arXiv:1502.01852).

    Args:
        tensor: a weight of at least 2 axes.
        a: the negative slope of the leaky ReLU that follows.
        mode: ``"fan_in"`` keeps the spread forward, ``"fan_out"`` backward.
        nonlinearity: what follows; see `calculate_gain`.
    """
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform(tensor, -bound, bound) if bound else tensor


def kaiming_normal(
    tensor: Tensor, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> Tensor:
    """Normal, of standard deviation ``gain / sqrt(fan)``; the arguments are those of `kaiming_uniform`."""
    return normal(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity))


__all__ = [
    "calculate_gain",
    "constant",
    "fans",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "ones",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
