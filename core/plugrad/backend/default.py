"""The backends of this process, and the device that it works on."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from plugrad.backend.interface import Backend
from plugrad.backend.loading import PluginEntry
from plugrad.backend.registry import Registry
from plugrad.backend.report import BackendReport
from plugrad.spec import Device

_default: Final = Registry()


def backend_of(device: Device) -> Backend:
    """The backend of ``device``; it is loaded if it was not yet.

    Raises:
        DeviceError: as `get_backend`.
    """
    return _default.backend_of(device)


def get_backend(name: str) -> Backend:
    """The backend of this name or alias; it is loaded if it was not yet.

    ``null`` is the core's own, which has no values.

    Raises:
        BackendUnavailable: if it cannot run here; the reason is given.
        BackendBroken: if its code raised; the cause is chained.
        BackendIncompatible: if it is written for another major version of the plugin interface.
        DeviceError: if no installed backend has the name, or several distributions claim it.
    """
    return _default.get(name)


def register_backend(backend: Backend) -> None:
    """Make a backend known to this process alone, without a distribution that brings it.

    For trying one out while it is written, and for tools and tests. Its devices are taken wherever a device
    is named; `devices` and `backends`, which tell what is installed, do not list them.

    Raises:
        BackendBroken: if it is no complete `Backend`.
        BackendUnavailable: if it finds no device.
        DeviceError: if a backend of its name is there already, installed or registered.
    """
    _default.add(backend)


def resolve_device(value: Device | str | None) -> Device:
    """The device that ``value`` means: a `Device`, ``"name"``, ``"name:index"``, or None for the current one.

    An alias gives the device under its backend's own name.

    Raises:
        DeviceError: as `get_backend`, or if the backend has no device of that index.
    """
    return _default.resolve(value)


def current_device() -> Device:
    """The device that tensors are made on where none is named.

    That is the one of the innermost `use_device` of this thread, else the one that the environment
    variable ``PLUGRAD_DEVICE`` named when a device was first needed, else ``numpy``.

    Raises:
        DeviceError: as `resolve_device`.
    """
    return _default.current()


def devices() -> tuple[Device, ...]:
    """The devices of all available backends, by name and index. Loads every backend."""
    return _default.devices()


def backends() -> list[BackendReport]:
    """Every installed backend with its state, by name. Loads them; never raises on account of one."""
    return _default.reports()


def extensions(kind: str) -> list[tuple[str, PluginEntry]]:
    """The entry points ``kind.NAME`` of the groups ``plugrad.plugin.v*``, with NAME; nothing is imported.

    Those for another major version of the plugin interface are among them (`PluginEntry.compatible`), but
    for a name that the same distribution registers for this one too.
    """
    return _default.extensions(kind)


class use_device:  # noqa: N801 - called like a function, as `open` is
    """Make a device the current one of this thread.

    A plain call sets it until it is set again; as a context manager it is set from the call to the end of
    the block, and then what was current before is again::

        use_device("mychip")

        with use_device("mychip:1") as device:
            ...

    Other threads, those started later included, keep the device of the process (see `current_device`).

    Attributes:
        device: the device.
    """

    def __init__(self, device: Device | str, *, registry: Registry = _default) -> None:
        """Set the current device.

        Args:
            device: a device, or its text.
            registry: where it is looked up, and whose current device it becomes: that of the process.

        Raises:
            DeviceError: as `resolve_device`; the current device stays.
        """
        self.device = registry.resolve(device)
        self._registry = registry
        self._before = [registry.swap(self.device)]
        self._entered = False

    def __enter__(self) -> Device:
        """The device; entered a second time, it is set again."""
        if self._entered:
            self._before.append(self._registry.swap(self.device))
        self._entered = True
        return self.device

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Set what was current before."""
        self._registry.swap(self._before.pop())

    def __repr__(self) -> str:
        return f"use_device({str(self.device)!r})"
