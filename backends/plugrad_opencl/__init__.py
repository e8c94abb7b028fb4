"""The OpenCL backend of plugrad: kernels from the core's source templates, on every OpenCL device that works."""

from __future__ import annotations

from plugrad.backend.hookspecs import hookimpl
from plugrad_opencl.backend import OpenCLBackend

__all__ = ["OpenCLBackend", "plugrad_create_backend"]


@hookimpl
def plugrad_create_backend() -> OpenCLBackend:
    """Create the backend."""
    return OpenCLBackend()
