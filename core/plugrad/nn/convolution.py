"""Convolutions over 1 to 3 spatial axes, and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad.nn import init
from plugrad.nn._common import DeviceLike, DTypeLike, Sizes, check_positive, each_axis, zero_parameter
from plugrad.nn.module import Module
from plugrad.tensor import Tensor

Padding = int | Sequence[int] | Sequence[tuple[int, int]]


class _Convolution(Module):
    axes: ClassVar[int]
    padding: Padding | str
    transposed: ClassVar[bool] = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes,
        padding: Padding | str,
        dilation: Sizes,
        groups: int,
        bias: bool,
        device: DeviceLike,
        dtype: DTypeLike,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_positive(name, in_channels=in_channels, out_channels=out_channels, groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"{name}: groups must divide in_channels and out_channels, got {groups}, {in_channels} and {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = each_axis(name, "kernel_size", kernel_size, self.axes)
        self.stride = each_axis(name, "stride", stride, self.axes)
        self.padding = padding
        self.dilation = each_axis(name, "dilation", dilation, self.axes)
        first, second = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = zero_parameter((first, second // groups, *self.kernel_size), dtype, device)
        self.bias: Tensor | None = None
        self.register_parameter("bias", zero_parameter((out_channels,), dtype, device) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        init.kaiming_uniform(self.weight, math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(init.fans(self.weight)[0])
            init.uniform(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        """Channels, sizes, and what is not the default."""
        text = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding != 0:
            text += f", padding={self.padding!r}"
        if self.dilation != (1,) * self.axes:
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        return text if self.bias is not None else f"{text}, bias=False"


class _Conv(_Convolution):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding | str = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the layer.

        Args:
            in_channels: channels of the input.
            out_channels: channels of the output.
            kernel_size: one size, or one for each spatial axis; so with the next three.
            stride: steps between positions.
            padding: zeros on both sides; or pairs (before, after), or ``"same"`` or ``"valid"``.
            dilation: steps between the elements of the kernel.
            groups: into how many independent parts the channels fall.
            bias: whether a bias is added.
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype
        )

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        return ops.conv(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class _ConvTranspose(_Convolution):
    transposed = True
    padding: Padding

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Sizes,
        stride: Sizes = 1,
        padding: Padding = 0,
        output_padding: Sizes = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Sizes = 1,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the layer; the arguments are those of the convolution that it is the adjoint of, in PyTorch's order."""
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, device, dtype
        )
        self.output_padding = each_axis(type(self).__name__, "output_padding", output_padding, self.axes, 0)

    def forward(self, x: Tensor) -> Tensor:
        """The transposed convolution."""
        return ops.conv_transpose(
            x,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            dilation=self.dilation,
            groups=self.groups,
        )


class Conv1d(_Conv):
    """Convolution (cross-correlation) of (N, C, L).

    Attributes:
        weight: (out_channels, in_channels / groups, k), uniform in ±1 / sqrt(fan_in) at first.
        bias: (out_channels,), likewise; None without.
    """

    axes = 1


class Conv2d(_Conv):
    """Convolution (cross-correlation) of (N, C, H, W).

    Attributes:
        weight: (out_channels, in_channels / groups, kH, kW), uniform in ±1 / sqrt(fan_in) at first.
        bias: (out_channels,), likewise; None without.
    """

    axes = 2


class Conv3d(_Conv):
    """Convolution (cross-correlation) of (N, C, D, H, W).

    Attributes:
        weight: (out_channels, in_channels / groups, kD, kH, kW), uniform in ±1 / sqrt(fan_in) at first.
        bias: (out_channels,), likewise; None without.
    """

    axes = 3


class ConvTranspose1d(_ConvTranspose):
    """Transposed convolution of (N, C, L); weight (in_channels, out_channels / groups, k)."""

    axes = 1


class ConvTranspose2d(_ConvTranspose):
    """Transposed convolution of (N, C, H, W); weight (in_channels, out_channels / groups, kH, kW)."""

    axes = 2


class ConvTranspose3d(_ConvTranspose):
    """Transposed convolution of (N, C, D, H, W); weight (in_channels, out_channels / groups, kD, kH, kW)."""

    axes = 3


__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]
