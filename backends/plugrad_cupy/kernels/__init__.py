"""The kernels: those of libraries, and the generated ones for the rest."""

from plugrad_cupy.kernels.linear_algebra import table

__all__ = ["table"]
