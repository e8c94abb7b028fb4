"""`ArrayAPIBackend`: memory of an array library, by the functions of the standard, and the kernels over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.backend.kernels import Array, KernelTable
from plugrad.dtypes import ALL, DType
from plugrad.errors import ArgumentError, BackendUnavailable
from plugrad.spec import Device, Shape, Spec
from plugrad_array_api.kernels import kernels_of

_HOST: Final = 1
"""DLPack's number for the host's memory."""


class ArrayAPIBackend(Backend):
    """A backend over a namespace of the Python array API standard, 2023.12 or newer. Derive from it and name it::

        class StrictBackend(ArrayAPIBackend):
            name = "strict"

            def __init__(self):
                super().__init__(array_api_strict)

    Values come from the host through ``asarray``, and go back through DLPack, or the buffer protocol where a dtype has
    none in DLPack. A library with ways of its own overrides `from_host` and `to_host`; one that computes while Python
    goes on overrides `synchronize`.

    Args:
        xp: the namespace: the module, or what ``array.__array_namespace__()`` gives.
        devices: the library's devices in the order of plugrad's indices. By default those that
            ``__array_namespace_info__`` lists, the default one first; the default one alone where there is no such
            function.
        dtypes: the library's dtypes by plugrad's names, for all devices. By default those that
            ``__array_namespace_info__`` lists for each device, and ``float16`` and ``bfloat16`` where the namespace
            has attributes of these names, which the standard has not.
        kernels: kernels of one's own, tried before those of `kernels_of`.

    Raises:
        ArgumentError: if the namespace lacks a function of the standard, or no dtype is found.
    """

    def __init__(
        self,
        xp: Any,
        *,
        devices: Sequence[Any] | None = None,
        dtypes: Mapping[str, Any] | None = None,
        kernels: KernelTable | None = None,
    ) -> None:
        self.namespace = xp
        self._devices = tuple(_devices(xp) if devices is None else devices)
        found = [dict(dtypes) if dtypes is not None else _dtypes(xp, d) for d in self._devices]
        self._dtypes = {name: dtype for of_device in found for name, dtype in of_device.items()}
        if not self._dtypes and self._devices:
            raise ArgumentError(f"{_name(xp)}: no dtypes are found; name them with dtypes=")
        self._capabilities = [
            Capabilities(
                dtypes=frozenset(d for d in ALL if d.name in of_device),
                broadcasting=True,
                copy=len(self._devices) > 1,
                host_memory=self._on_host(device, of_device),
            )
            for device, of_device in zip(self._devices, found, strict=True)
        ]
        self.kernels = KernelTable()
        if kernels is not None:
            self.kernels.merge(kernels)
        self.kernels.merge(kernels_of(xp, dtypes=self._dtypes, devices=self._devices))

    def _on_host(self, device: Any, dtypes: Mapping[str, Any]) -> bool:
        """Whether the device's memory is the host's; where the library does not say, it is not."""
        probe = self.namespace.empty((1,), dtype=next(iter(dtypes.values())), device=device)
        try:
            return bool(probe.__dlpack_device__()[0] == _HOST)
        except (AttributeError, BufferError, NotImplementedError, RuntimeError, ValueError):
            return False

    def devices(self) -> Sequence[DeviceInfo]:
        """The library's devices.

        Raises:
            BackendUnavailable: if it has none.
        """
        if not self._devices:
            raise BackendUnavailable(f"{_name(self.namespace)} finds no device")
        text = " ".join(filter(None, (_name(self.namespace), getattr(self.namespace, "__version__", ""))))
        return [DeviceInfo(text if d is None else f"{text}, {d}") for d in self._devices]

    def capabilities(self, device: Device) -> Capabilities:
        """The dtypes of the device; elementwise kernels broadcast."""
        return self._capabilities[device.index]

    def dtype(self, dtype: DType) -> Any:
        """The library's dtype."""
        return self._dtypes[dtype.name]

    def device(self, device: Device) -> Any:
        """The library's device; None for its default one where its devices are not known."""
        return self._devices[device.index]

    def allocate(self, spec: Spec) -> Array:
        """What ``empty`` gives."""
        return self.namespace.empty(spec.shape, dtype=self.dtype(spec.dtype), device=self.device(spec.device))

    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> Array:
        """A copy of ``value``, in row-major order, as ``asarray`` takes it."""
        # Copied here: whether asarray may share is for each library to say, and not all take copy=.
        return self.namespace.asarray(np.array(value, order="C"), device=self.device(device))

    def to_host(self, array: Array) -> np.ndarray[Any, Any]:
        """The elements, in the array's own memory where that is the host's."""
        try:
            if array.__dlpack_device__()[0] == _HOST:
                return np.from_dlpack(array)
            return np.from_dlpack(array, device="cpu")
        except BufferError:
            return np.asarray(array)

    def shape(self, array: Array) -> Shape:
        """The shape of ``array``."""
        return tuple(array.shape)

    def copy_from(self, array: Array, source: Device, target: Device) -> Array:
        """A copy on another device, by the array's method ``to_device``."""
        del source
        return array.to_device(self.device(target))


def _name(xp: Any) -> str:
    return str(getattr(xp, "__name__", type(xp).__name__))


def _info(xp: Any) -> Any:
    info = getattr(xp, "__array_namespace_info__", None)
    return None if info is None else info()


def _devices(xp: Any) -> Sequence[Any]:
    info = _info(xp)
    if info is None:
        return (None,)
    default, listed = info.default_device(), list(info.devices())
    first = [d for d in listed if d == default]
    return [*first, *(d for d in listed if d != default)]


def _dtypes(xp: Any, device: Any) -> dict[str, Any]:
    """The library's dtypes on a device by plugrad's names."""
    info = _info(xp)
    listed = {} if info is None else info.dtypes(device=device)
    names = {d.name for d in ALL}
    found = {name: dtype for name, dtype in listed.items() if name in names}
    if info is None:
        found = {name: getattr(xp, name) for name in names if hasattr(xp, name)}
    for name in ("float16", "bfloat16"):
        if hasattr(xp, name):
            found.setdefault(name, getattr(xp, name))
    return found
