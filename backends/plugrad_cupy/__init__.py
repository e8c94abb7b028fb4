"""The CUDA backend of plugrad: kernels from the core's source templates, compiled by NVRTC and launched by CuPy."""

from __future__ import annotations

from plugrad.backend.hookspecs import hookimpl
from plugrad_cupy.backend import CuPyBackend

__all__ = ["CuPyBackend", "plugrad_create_backend"]


@hookimpl
def plugrad_create_backend() -> CuPyBackend:
    """Create the backend."""
    return CuPyBackend()
