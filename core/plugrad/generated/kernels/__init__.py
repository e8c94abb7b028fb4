"""The kernels, one file a family."""

from plugrad.generated.kernels import (
    attention,
    convolution,
    creation,
    elementwise,
    indexing,
    linear_algebra,
    movement,
    pooling,
    reduction,
    scan,
    sequence,
    sorting,
)
from plugrad.generated.kernels._table import table

__all__ = [
    "attention",
    "convolution",
    "creation",
    "elementwise",
    "indexing",
    "linear_algebra",
    "movement",
    "pooling",
    "reduction",
    "scan",
    "sequence",
    "sorting",
    "table",
]
