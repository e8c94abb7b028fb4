"""The NumPy backend of plugrad: kernels on NumPy arrays, in the host's memory."""

from __future__ import annotations

from plugrad.backend.hookspecs import hookimpl
from plugrad_numpy.backend import NumPyBackend

__all__ = ["NumPyBackend", "plugrad_create_backend"]


@hookimpl
def plugrad_create_backend() -> NumPyBackend:
    """Create the backend."""
    return NumPyBackend()
