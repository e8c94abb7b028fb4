"""`NumPyBackend`: memory, and the table of kernels."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.dtypes import ALL, DType, as_dtype
from plugrad.errors import ArgumentError, DeviceError, DTypeError, PlugradError
from plugrad.spec import Device, Shape, Spec
from plugrad_numpy import _blas, kernels

Array = np.ndarray[Any, Any]


class NumPyBackend(Backend):
    """NumPy on the host's processor: one device."""

    name = "numpy"
    kernels = kernels.table

    def devices(self) -> Sequence[DeviceInfo]:
        """The host."""
        kernels, hint = _blas.describe()
        return [DeviceInfo(f"{_processor()}, NumPy {np.__version__}, {kernels}", hint)]

    def capabilities(self, device: Device) -> Capabilities:
        """Everything: NumPy broadcasts, takes scalars, and is the host's own memory."""
        del device
        return _CAPABILITIES

    def allocate(self, spec: Spec) -> Array:
        """An array of the spec, its elements unspecified."""
        return np.empty(spec.shape, spec.dtype.numpy)

    def from_host(self, value: Array, device: Device) -> Array:
        """A copy of ``value``, in row-major order."""
        del device
        return np.array(value, order="C")

    def to_host(self, array: Array) -> Array:
        """The array itself."""
        return np.asarray(array)

    def shape(self, array: Array) -> Shape:
        """The shape of the array."""
        return np.shape(array)

    def layout(self, array: Array) -> Array | None:
        """An array of one element's memory with the shape and the strides of ``array``."""
        array = np.asarray(array)
        expected = array.itemsize
        for stride, size in sorted(zip(array.strides, array.shape, strict=True)):
            if size > 1:
                if stride != expected:
                    return None
                expected *= size
        element = np.empty((), array.dtype)
        return np.lib.stride_tricks.as_strided(element, array.shape, array.strides, writeable=False)

    def place(self, block: Array | None, layout: Array) -> Array:
        """An array of the strides of ``layout``, in the memory of ``block`` or of its own."""
        if block is None or not layout.size:
            return np.empty_like(layout, subok=False)
        return np.ndarray(layout.shape, layout.dtype, block, strides=layout.strides)

    def is_view(self, array: Array, of: Array) -> bool:
        """Whether their memory overlaps."""
        return isinstance(array, np.ndarray) and isinstance(of, np.ndarray) and np.may_share_memory(array, of)

    def exclusive(self, array: Array, references: int) -> bool:
        """Whether the array owns its memory, and no view refers to it."""
        # An array with a base is a view, or foreign memory.
        return (
            type(array) is np.ndarray and array.base is None and sys.getrefcount(array) <= references + _OWN
        )

    def to_dlpack(self, array: Array, **options: Any) -> Any:
        """A capsule over the array's memory, read-only as tensors are.

        Consumers before DLPack 1.0 cannot be told so, and get a copy.
        """
        host = np.asarray(array)
        if host.dtype not in _DLPACK:
            raise DTypeError(f"DLPack: NumPy exports no {host.dtype}; cast it with astype")
        if (options.get("max_version") or (0, 0))[0] >= 1:
            host = host.view()
            host.flags.writeable = False
        elif options.get("copy") is False:
            raise ArgumentError(
                "DLPack: copy=False, but a consumer before DLPack 1.0 could write to what it gets; allow a copy"
            )
        else:
            host = host.copy()
        return host.__dlpack__(**options)

    def dlpack_device(self, array: Array) -> tuple[int, int]:
        """The CPU."""
        return np.asarray(array).__dlpack_device__()

    def from_dlpack(self, exporter: Any, device: Device, copy: bool | None) -> tuple[Array, Shape, DType]:
        """An array over the exporter's memory, or a copy."""
        del device
        try:
            array = np.from_dlpack(exporter)
        except PlugradError:
            raise
        except (BufferError, RuntimeError) as error:
            raise DeviceError(f"from_dlpack: NumPy cannot use this memory: {error}") from error
        if copy:
            array = array.copy()
        return array, array.shape, as_dtype(array.dtype)


def _own_references() -> int:
    """How many references `NumPyBackend.exclusive` adds by being called: Pythons differ in what a call holds."""

    class Probe:
        def exclusive(self, array: Array, references: int) -> int:
            return sys.getrefcount(array) - references

    holder = [np.empty(1)]
    array = holder[0]
    return Probe().exclusive(array, 2)


_OWN = _own_references()
_CAPABILITIES = Capabilities(
    dtypes=frozenset(ALL), broadcasting=True, scalars=True, host_memory=True, dlpack=True, placing=True
)
_DLPACK = frozenset(d.numpy for d in ALL if d.name != "bfloat16")


def _processor() -> str:
    """The processor's name, as the operating system gives it."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as f:
            for line in f:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
