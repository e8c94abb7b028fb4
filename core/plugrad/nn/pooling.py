"""Pools over 1 to 3 spatial axes."""

from __future__ import annotations

from typing import Any, ClassVar

from plugrad import ops
from plugrad.errors import ArgumentError, ShapeError
from plugrad.nn.module import Module
from plugrad.tensor import Tensor

Sizes = int | tuple[int, ...]


class _Pool(Module):
    axes: ClassVar[int]

    def _check(self, x: Tensor) -> None:
        if x.ndim != self.axes + 2:
            raise ShapeError(
                f"{type(self).__name__}: takes (N, C) and {self.axes} spatial axes, got shape {x.shape}"
            )


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Any = 0,
        dilation: Sizes = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """The largest of each window."""
        self._check(x)
        return ops.max_pool(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            ceil_mode=self.ceil_mode,
        )

    def extra_repr(self) -> str:
        """Sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Sizes,
        stride: Sizes | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        """The mean of each window."""
        self._check(x)
        return ops.avg_pool(
            x,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad,
        )

    def extra_repr(self) -> str:
        """Sizes."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxPool1d(_MaxPool):
    """The largest of each window of (N, C, L)."""

    axes = 1


class MaxPool2d(_MaxPool):
    """The largest of each window of (N, C, H, W)."""

    axes = 2


class MaxPool3d(_MaxPool):
    """The largest of each window of (N, C, D, H, W)."""

    axes = 3


class AvgPool1d(_AvgPool):
    """The mean of each window of (N, C, L)."""

    axes = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of (N, C, H, W)."""

    axes = 2


class AvgPool3d(_AvgPool):
    """The mean of each window of (N, C, D, H, W)."""

    axes = 3


class AdaptiveAvgPool2d(_Pool):
    """Means over (N, C, H, W) such that the result is (N, C, output_size); sizes that divide H and W."""

    axes = 2

    def __init__(self, output_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.output_size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        if len(self.output_size) != 2 or any(n < 1 for n in self.output_size):
            raise ArgumentError(f"AdaptiveAvgPool2d: output_size takes one or two sizes, got {output_size!r}")

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        self._check(x)
        h, w = self.output_size
        if x.shape[2] % h or x.shape[3] % w:
            raise ShapeError(
                f"AdaptiveAvgPool2d: output_size {self.output_size} must divide the spatial sizes {x.shape[2:]}"
            )
        if self.output_size == (1, 1):
            return ops.mean(x, axis=(2, 3), keepdims=True)
        return ops.avg_pool(x, (x.shape[2] // h, x.shape[3] // w))

    def extra_repr(self) -> str:
        """The size."""
        return f"output_size={self.output_size}"


__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
]
