"""A backend of plugrad over any library that follows the Python array API standard, 2023.12 or newer.

`ArrayAPIBackend` is the backend, to be derived from; `kernels_of` makes its table of kernels, for a backend that wants
these and is not one of that class.
"""

from __future__ import annotations

from plugrad_array_api.backend import ArrayAPIBackend
from plugrad_array_api.kernels import kernels_of

__all__ = ["ArrayAPIBackend", "kernels_of"]
