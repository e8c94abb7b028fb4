"""Clipping of gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable

from plugrad import ops
from plugrad.dispatch.modes import changed
from plugrad.errors import ArgumentError, GradientError
from plugrad.tensor import Tensor


def clip_grad_norm(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> Tensor:
    """Scale the gradients of ``parameters`` so that their norm, taken together, is at most ``max_norm``.

    Args:
        parameters: one parameter or several; those without a gradient are passed over.
        max_norm: the largest norm that is left as it is.
        norm_type: the p of the p-norm; ``math.inf`` for the largest absolute value.
        error_if_nonfinite: raise where the norm is NaN or infinite, instead of scaling by it.

    Returns:
        The norm before clipping, a 0-d tensor.

    Raises:
        ArgumentError: if ``max_norm`` is negative or ``norm_type`` is not above 0.
        GradientError: if the norm is not finite and ``error_if_nonfinite`` is set.
    """
    if not max_norm >= 0:
        raise ArgumentError(f"clip_grad_norm: max_norm takes a number of at least 0, got {max_norm}")
    if not norm_type > 0:
        raise ArgumentError(f"clip_grad_norm: norm_type takes a number above 0, got {norm_type}")
    owners = _with_gradient(parameters)
    if not owners:
        return ops.zeros(())
    with changed(recording=False, autocast=None):
        grads = [p.grad for p in owners if p.grad is not None]
        if norm_type == math.inf:
            norm = ops.max(ops.stack([ops.max(ops.abs(g)) for g in grads if g.size]))
        elif norm_type == 2:
            norm = ops.sqrt(ops.sum(ops.stack([ops.sum(g * g) for g in grads])))
        else:
            norm = ops.sum(ops.stack([ops.sum(ops.abs(g) ** norm_type) for g in grads])) ** (1 / norm_type)
        if error_if_nonfinite and not math.isfinite(float(norm)):
            raise GradientError(f"clip_grad_norm: the norm of the gradients is {float(norm)}")
        # The scale stays on the device: reading the norm would wait for everything before it.
        scale = ops.minimum(max_norm / (norm + 1e-6), 1.0)
        for p, g in zip(owners, grads, strict=True):
            p.grad = g * scale.astype(g.dtype)
    return norm


def clip_grad_value(parameters: Tensor | Iterable[Tensor], clip_value: float) -> None:
    """Bring each element of the gradients of ``parameters`` into [-``clip_value``, ``clip_value``].

    Raises:
        ArgumentError: if ``clip_value`` is negative.
    """
    if not clip_value >= 0:
        raise ArgumentError(f"clip_grad_value: clip_value takes a number of at least 0, got {clip_value}")
    with changed(recording=False, autocast=None):
        for p in _with_gradient(parameters):
            if p.grad is not None:
                p.grad = ops.maximum(ops.minimum(p.grad, clip_value), -clip_value)


def _with_gradient(parameters: Tensor | Iterable[Tensor]) -> list[Tensor]:
    given = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p for p in given if p.grad is not None]
