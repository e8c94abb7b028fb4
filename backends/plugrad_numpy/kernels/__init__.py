"""The kernels, one file a family; each file adds its own to the one table."""

from plugrad_numpy.kernels._table import table
from plugrad_numpy.kernels import creation, elementwise, linear_algebra, movement, reduction, searching  # isort: skip

__all__ = ["table", "creation", "elementwise", "linear_algebra", "movement", "reduction", "searching"]
