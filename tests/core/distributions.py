"""Small distributions made on the spot: installed plugins for tests, without a network and without pip."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

BACKEND_GROUP = "plugrad.backend.v1"
PLUGIN_GROUP = "plugrad.plugin.v1"


def install(
    folder: Path,
    distribution: str,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    *,
    version: str = "1.0",
) -> None:
    """Install a distribution into ``folder``, as an installer leaves it.

    Args:
        folder: a folder on ``sys.path``.
        distribution: its name.
        entry_points: by group, values by name.
        modules: sources by the module's name.
        version: its version.
    """
    for name, source in modules.items():
        (folder / f"{name}.py").write_text(source)
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    importlib.invalidate_caches()


@contextmanager
def site_folder(folder: Path) -> Iterator[Path]:
    """Put ``folder`` on ``sys.path`` while the block runs, and forget its modules afterwards."""
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    try:
        yield folder
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def backend_source(
    name: str, *, devices: int = 1, setup: str = "", create: str = "", kernels: str = ""
) -> str:
    """The source of a module with a backend that keeps NumPy arrays.

    Args:
        name: the backend's name.
        devices: how many devices it finds.
        setup: statements at import.
        create: statements of the hook, before it makes the backend.
        kernels: statements that register kernels in ``kernels``, for ops ``Named("add")``.
    """
    hook = "\n    ".join(create.splitlines())
    return f"""\
from dataclasses import dataclass

import numpy as np

from plugrad import dtypes
from plugrad.backend import Backend, Capabilities, DeviceInfo, KernelTable, hookimpl
from plugrad.errors import BackendUnavailable

created = []
kernels = KernelTable()

{setup}


@dataclass(frozen=True)
class Named:
    name: str


{kernels}


class HostBackend(Backend):
    name = {name!r}

    def __init__(self):
        self.kernels = kernels

    def devices(self):
        return [DeviceInfo(f"chip {{i}}", "[more] memory helps") for i in range({devices})]

    def capabilities(self, device):
        return Capabilities(frozenset((dtypes.float32, *dtypes.SIGNED)))

    def allocate(self, spec):
        return np.empty(spec.shape, spec.dtype.numpy)

    def from_host(self, value, device):
        return value.copy()

    def to_host(self, array):
        return array

    def shape(self, array):
        return array.shape


@hookimpl
def plugrad_create_backend():
    {hook}
    created.append(1)
    return HostBackend()
"""
