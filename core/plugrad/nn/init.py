"""Initialisation of parameters. Each function binds a tensor to new values and returns it; formulas are PyTorch's.

They record nothing, and draw from the default generator of `plugrad.random` unless another one is given.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from plugrad import ops, random
from plugrad.convert import asarray, to_host
from plugrad.dispatch.modes import changed
from plugrad.errors import ArgumentError, ShapeError
from plugrad.random import Generator
from plugrad.tensor import Tensor

_GAINS: Final = {
    "linear": 1.0,
    "conv": 1.0,
    "sigmoid": 1.0,
    "tanh": 5 / 3,
    "relu": math.sqrt(2),
    "selu": 0.75,
}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which a nonlinearity shrinks the spread of what goes through it, undone.

    Args:
        nonlinearity: ``"linear"``, ``"conv"``, ``"sigmoid"``, ``"tanh"``, ``"relu"``, ``"leaky_relu"`` or ``"selu"``.
        param: the negative slope of ``"leaky_relu"``, 0.01 by default.

    Raises:
        ArgumentError: for another nonlinearity.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ArgumentError(
            f"init: nonlinearity takes {', '.join(map(repr, [*_GAINS, 'leaky_relu']))}, got {nonlinearity!r}"
        )
    return _GAINS[nonlinearity]


def fans(tensor: Tensor) -> tuple[int, int]:
    """How many inputs an output of a weight (out, in, spatial ...) has, and the reverse.

    Every position of a kernel counts.

    Raises:
        ShapeError: for fewer than 2 axes.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"init: takes a weight of at least 2 axes, (out, in, ...), got shape {tensor.shape}")
    positions = math.prod(tensor.shape[2:])
    return tensor.shape[1] * positions, tensor.shape[0] * positions


def _bind(tensor: Tensor, value: Tensor) -> Tensor:
    with changed(recording=False):
        return tensor.assign(value)


def uniform(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b).

    Raises:
        ArgumentError: if ``a`` is not less than ``b``.
    """
    return _bind(
        tensor,
        random.uniform(tensor.shape, a, b, dtype=tensor.dtype, device=tensor.device, generator=generator),
    )


def normal(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Of the normal distribution of this mean and standard deviation.

    Raises:
        ArgumentError: if ``std`` is negative.
    """
    if not std >= 0:
        raise ArgumentError(f"init: std takes a number of at least 0, got {std}")
    return _bind(
        tensor,
        random.normal(tensor.shape, mean, std, dtype=tensor.dtype, device=tensor.device, generator=generator),
    )


def constant(tensor: Tensor, val: float) -> Tensor:
    """``val`` everywhere."""
    return _bind(tensor, ops.full(tensor.shape, val, dtype=tensor.dtype, device=tensor.device))


def zeros(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant(tensor, 0.0)


def ones(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant(tensor, 1.0)


def _spread(tensor: Tensor, std: float, generator: Generator | None) -> Tensor:
    """Uniform around 0, of this standard deviation."""
    bound = math.sqrt(3) * std
    return uniform(tensor, -bound, bound, generator) if bound else zeros(tensor)


def _xavier_std(tensor: Tensor, gain: float) -> float:
    total = sum(fans(tensor))
    return gain * math.sqrt(2 / total) if total else 0.0


def xavier_uniform(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform, of standard deviation ``gain * sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio 2010).

    Raises:
        ShapeError: for fewer than 2 axes.
    """
    return _spread(tensor, _xavier_std(tensor, gain), generator)


def xavier_normal(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal, of standard deviation ``gain * sqrt(2 / (fan_in + fan_out))`` (Glorot and Bengio 2010).

    Raises:
        ShapeError: for fewer than 2 axes.
    """
    return normal(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ArgumentError(f"init: mode takes 'fan_in' or 'fan_out', got {mode!r}")
    fan = fans(tensor)[mode == "fan_out"]
    gain = calculate_gain(nonlinearity, a)
    return gain / math.sqrt(fan) if fan else 0.0


def kaiming_uniform(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform, of standard deviation ``gain / sqrt(fan)`` (He et al. 2015, arXiv:1502.01852).

    Args:
        tensor: a weight of at least 2 axes.
        a: the negative slope of the leaky ReLU that follows.
        mode: ``"fan_in"`` keeps the spread forward, ``"fan_out"`` backward.
        nonlinearity: what follows; see `calculate_gain`.
        generator: what to draw from.

    Raises:
        ShapeError: for fewer than 2 axes.
        ArgumentError: for another mode or nonlinearity.
    """
    return _spread(tensor, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_normal(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal, of standard deviation ``gain / sqrt(fan)``; the arguments are those of `kaiming_uniform`.

    Raises:
        ShapeError: for fewer than 2 axes.
        ArgumentError: for another mode or nonlinearity.
    """
    return normal(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer, times ``gain`` (Saxe et al. 2014, arXiv:1312.6120).

    Further axes count as columns. It is computed on the host.

    Raises:
        ShapeError: for fewer than 2 axes.
    """
    fans(tensor)
    rows = tensor.shape[0]
    drawn = random.normal(tensor.shape, dtype="float32", device=tensor.device, generator=generator)
    matrix = to_host(drawn).astype(np.float64).reshape(rows, math.prod(tensor.shape[1:]))
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    q, r = np.linalg.qr(tall)
    # With a positive diagonal of r the distribution is uniform (Mezzadri 2007, arXiv:math-ph/0609050).
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    value = (q if tall is matrix else q.T).reshape(tensor.shape) * gain
    return _bind(tensor, asarray(value, dtype=tensor.dtype, device=tensor.device))


__all__ = [
    "calculate_gain",
    "constant",
    "fans",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]
