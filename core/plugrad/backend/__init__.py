"""What a plugin implements (`interface`, `kernels`, `hookspecs`), and how backends are found and loaded."""

from plugrad.backend.default import (
    backend_of,
    backends,
    current_device,
    devices,
    extensions,
    get_backend,
    register_backend,
    resolve_device,
    use_device,
)
from plugrad.backend.hookspecs import API, hookimpl
from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.backend.kernels import Array, Kernel, KernelTable
from plugrad.backend.loading import PluginEntry, State, load_hooks
from plugrad.backend.registry import Registry
from plugrad.backend.report import BackendReport, DeviceReport, Note

__all__ = [
    "API",
    "Array",
    "Backend",
    "BackendReport",
    "Capabilities",
    "DeviceInfo",
    "DeviceReport",
    "Kernel",
    "KernelTable",
    "Note",
    "PluginEntry",
    "Registry",
    "State",
    "backend_of",
    "backends",
    "current_device",
    "devices",
    "extensions",
    "get_backend",
    "hookimpl",
    "load_hooks",
    "register_backend",
    "resolve_device",
    "use_device",
]
