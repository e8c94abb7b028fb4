"""The kernels, one file a family."""

from plugrad.generated.kernels import (
    convolution,
    creation,
    elementwise,
    indexing,
    linear_algebra,
    movement,
    reduction,
    scan,
    sorting,
)
from plugrad.generated.kernels._table import table

__all__ = [
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "linear_algebra",
    "movement",
    "reduction",
    "scan",
    "sorting",
    "table",
]
