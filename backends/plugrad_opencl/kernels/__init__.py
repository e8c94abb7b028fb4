"""The kernels, one file a family."""

from plugrad_opencl.kernels import (
    convolution,
    creation,
    elementwise,
    indexing,
    linear_algebra,
    movement,
    pooling,
    reduction,
    scan,
    sorting,
)
from plugrad_opencl.kernels._table import table

__all__ = [
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "linear_algebra",
    "movement",
    "pooling",
    "reduction",
    "scan",
    "sorting",
    "table",
]
