"""Pools over 1 to 3 spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from plugrad import ops
from plugrad.errors import ShapeError
from plugrad.nn._common import Sizes, each_axis
from plugrad.nn.module import Module
from plugrad.tensor import Tensor

Padding = int | Sequence[int] | Sequence[tuple[int, int]]


class _Pool(Module):
    axes: ClassVar[int]

    def _set_window(self, kernel_size: Sizes, stride: Sizes | None, dilation: Sizes = 1) -> None:
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        for key, value in {"kernel_size": kernel_size, "stride": self.stride, "dilation": dilation}.items():
            each_axis(type(self).__name__, key, value, self.axes)

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
        padding: Padding = 0,
        dilation: Sizes = 1,
        *,
        ceil_mode: bool = False,
    ) -> None:
        """Make the layer.

        Args:
            kernel_size: of the window; one size, or one for each spatial axis; so with the next three.
            stride: how far the window moves, by default its size.
            padding: on both sides, or pairs (before, after), of what is smaller than every element.
            dilation: the distance of the window's elements.
            ceil_mode: add a last window where some of the input would be left over.
        """
        super().__init__()
        self._set_window(kernel_size, stride, dilation)
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
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        """Make the layer.

        Args:
            kernel_size: of the window; one size, or one for each spatial axis; so with the next two.
            stride: how far the window moves, by default its size.
            padding: zeros on both sides, or pairs (before, after).
            ceil_mode: add a last window where some of the input would be left over.
            count_include_pad: whether the mean counts the padding.
        """
        super().__init__()
        self._set_window(kernel_size, stride)
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
    """The largest of each window of (N, C, L): (N, C, out), see `plugrad.max_pool`."""

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
    """Means over equal parts of (N, C, H, W), to (N, C, *output_size); the sizes must divide H and W."""

    axes = 2

    def __init__(self, output_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.output_size = each_axis("AdaptiveAvgPool2d", "output_size", output_size, self.axes)

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        self._check(x)
        h, w = self.output_size
        if x.shape[2] % h or x.shape[3] % w:
            raise ShapeError(
                f"AdaptiveAvgPool2d: x has shape {x.shape}; takes spatial sizes that {self.output_size} divides, or "
                "output_size=1: parts of unequal size are not supported"
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
