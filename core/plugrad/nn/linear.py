"""Layers whose core is a product with a matrix, and what only changes shapes."""

from __future__ import annotations

import math
from typing import Any

from plugrad import ops
from plugrad.errors import ShapeError
from plugrad.nn import init
from plugrad.nn._common import DeviceLike, DTypeLike, check_positive, zero_parameter
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


class Identity(Module):
    """Gives what it gets."""

    def forward(self, x: Any) -> Any:
        """``x``."""
        return x


class Linear(Module):
    """``x @ weight.T + bias``: (..., in_features) to (..., out_features).

    Attributes:
        weight: (out_features, in_features), uniform in ±1 / sqrt(in_features) at first.
        bias: (out_features,), likewise; None without.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        super().__init__()
        check_positive("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = zero_parameter((out_features, in_features), dtype, device)
        self.bias: Tensor | None = None
        self.register_parameter("bias", zero_parameter((out_features,), dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform(self.weight, math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features)
            init.uniform(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """The product."""
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Flatten(Module):
    """The axes from ``start_axis`` to ``end_axis`` as one."""

    def __init__(self, start_axis: int = 1, end_axis: int = -1) -> None:
        super().__init__()
        self.start_axis, self.end_axis = start_axis, end_axis

    def forward(self, x: Tensor) -> Tensor:
        """``x`` in fewer axes."""
        ndim = max(x.ndim, 1)  # no axes become one
        start = self.start_axis + ndim if self.start_axis < 0 else self.start_axis
        end = self.end_axis + ndim if self.end_axis < 0 else self.end_axis
        if not 0 <= start <= end < ndim:
            raise ShapeError(
                f"Flatten: x has shape {x.shape}, and no axes {self.start_axis} to {self.end_axis} in this order"
            )
        merged = math.prod(x.shape[start : end + 1])
        return x.reshape((*x.shape[:start], merged, *x.shape[end + 1 :]))

    def extra_repr(self) -> str:
        """Axes."""
        return f"start_axis={self.start_axis}, end_axis={self.end_axis}"


class Unflatten(Module):
    """One axis as several."""

    def __init__(self, axis: int, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.axis, self.sizes = axis, tuple(sizes)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` in more axes."""
        if not -x.ndim <= self.axis < x.ndim:
            raise ShapeError(f"Unflatten: axis {self.axis} is out of range for shape {x.shape}")
        axis = self.axis % x.ndim
        known = math.prod(n for n in self.sizes if n != -1)
        sizes = tuple(x.shape[axis] // known if n == -1 and known else n for n in self.sizes)
        return x.reshape((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]))

    def extra_repr(self) -> str:
        """Axis and sizes."""
        return f"axis={self.axis}, sizes={self.sizes}"


__all__ = ["Flatten", "Identity", "Linear", "Unflatten"]
