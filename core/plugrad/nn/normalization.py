"""Layers that normalise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from plugrad import ops
from plugrad.errors import ArgumentError, ShapeError
from plugrad.nn._common import DeviceLike, DTypeLike, check_positive, one_parameter, zero_parameter
from plugrad.nn.module import Module
from plugrad.tensor import Tensor


class _BatchNorm(Module):
    taken: ClassVar[tuple[int, ...]]

    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        """Make the layer.

        Args:
            num_features: channels C.
            eps: keeps the divisor from 0.
            momentum: the weight of the batch in the running statistics; None for their plain average.
            affine: whether there are weight and bias.
            track_running_stats: whether there are running statistics; without, evaluation uses the batch's too.
            device: where the parameters are.
            dtype: of the parameters, float32 by default.
        """
        super().__init__()
        check_positive(type(self).__name__, num_features=num_features)
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        shape = (num_features,)
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.register_parameter("weight", one_parameter(shape, dtype, device) if affine else None)
        self.register_parameter("bias", zero_parameter(shape, dtype, device) if affine else None)
        tracked = track_running_stats
        self.register_buffer(
            "running_mean", ops.zeros(shape, dtype=dtype, device=device) if tracked else None
        )
        self.register_buffer("running_var", ops.ones(shape, dtype=dtype, device=device) if tracked else None)
        self.register_buffer(
            "num_batches_tracked", ops.zeros((), dtype="int64", device=device) if tracked else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """The normalised batch; in training mode the running statistics move."""
        if x.ndim not in self.taken:
            raise ShapeError(
                f"{type(self).__name__}: takes {' or '.join(map(str, self.taken))} axes (N, C, ...), got shape {x.shape}"
            )
        count = self.num_batches_tracked if self.training else None
        momentum: float | Tensor = 0.0 if self.momentum is None else self.momentum
        if count is not None and self.momentum is None and self.running_mean is not None:
            momentum = 1 / (count + 1).astype(self.running_mean.dtype)
        out = ops.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training or not self.track_running_stats,
            momentum=momentum,
            eps=self.eps,
        )
        if count is not None:
            count.assign(count + 1)
        return out

    def extra_repr(self) -> str:
        """Settings."""
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L) (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    taken = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of (N, C, H, W) (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    taken = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of (N, C, D, H, W) (Ioffe and Szegedy 2015, arXiv:1502.03167)."""

    taken = (5,)


class LayerNorm(Module):
    """Normalisation over the last axes (Ba et al. 2016, arXiv:1607.06450).

    Attributes:
        weight: of ``normalized_shape``, 1 at first; None without ``elementwise_affine``.
        bias: likewise, 0 at first; None without.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.register_parameter("weight", one_parameter(shape, dtype, device) if elementwise_affine else None)
        has_bias = elementwise_affine and bias
        self.register_parameter("bias", zero_parameter(shape, dtype, device) if has_bias else None)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised tensor."""
        return ops.layer_norm(x, self.normalized_shape, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


class RMSNorm(Module):
    """Division by the root mean square of the last axes (Zhang and Sennrich 2019, arXiv:1910.07467).

    Attributes:
        weight: of ``normalized_shape``, 1 at first; None without ``elementwise_affine``.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        super().__init__()
        shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.normalized_shape, self.eps = shape, eps
        self.weight: Tensor | None = None
        self.register_parameter("weight", one_parameter(shape, dtype, device) if elementwise_affine else None)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised tensor."""
        return ops.rms_norm(x, self.normalized_shape, self.weight, eps=self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.weight is not None}"


class GroupNorm(Module):
    """Normalisation over groups of channels of (N, C, ...) (Wu and He 2018, arXiv:1803.08494).

    Attributes:
        weight: (num_channels,), 1 at first; None without ``affine``.
        bias: likewise, 0 at first.
    """

    def __init__(
        self,
        num_groups: int,
        num_channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: DeviceLike = None,
        dtype: DTypeLike = None,
    ) -> None:
        super().__init__()
        check_positive("GroupNorm", num_groups=num_groups, num_channels=num_channels)
        if num_channels % num_groups:
            raise ArgumentError(
                f"GroupNorm: num_groups must divide num_channels, got {num_groups} and {num_channels}"
            )
        self.num_groups, self.num_channels, self.eps = num_groups, num_channels, eps
        self.weight: Tensor | None = None
        self.bias: Tensor | None = None
        self.register_parameter("weight", one_parameter((num_channels,), dtype, device) if affine else None)
        self.register_parameter("bias", zero_parameter((num_channels,), dtype, device) if affine else None)

    def forward(self, x: Tensor) -> Tensor:
        """The normalised tensor."""
        return ops.group_norm(x, self.num_groups, self.weight, self.bias, eps=self.eps)

    def extra_repr(self) -> str:
        """Settings."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.weight is not None}"


__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "LayerNorm", "RMSNorm"]
