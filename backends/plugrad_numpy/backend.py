"""`NumPyBackend`: memory, and the table of kernels."""

from __future__ import annotations

import operator
import platform
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from plugrad.backend.interface import Backend, Capabilities, DeviceInfo
from plugrad.dtypes import ALL, DType, as_dtype
from plugrad.errors import ArgumentError, DeviceError, DTypeError, PlugradError
from plugrad.spec import Device, Shape, Spec
from plugrad_numpy import _blas, _parallel, _reuse, kernels
from plugrad_numpy.kernels._silent import is_quiet, quiet

Array = np.ndarray[Any, Any]


class _Row(np.ndarray[Any, Any]):
    """Memory that several arrays have parts of. It holds none of them: nothing collects a cycle through a base.

    Attributes:
        parts: the identities of these arrays, while all of them live. No others have it as their base but those that
            `joined` gives.
        watched: weak references to them.
    """

    parts: list[int] | None
    watched: list[weakref.ref[Array]]


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
        return _capabilities(_parallel.thread_count())

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

    def memory_stats(self, device: Device) -> dict[str, int]:
        """``pooled``: what is kept of results that are gone, for those to come."""
        del device
        return {"pooled": _reuse.held()}

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
            return _reuse.array_like(layout)
        return np.ndarray(layout.shape, layout.dtype, block, strides=layout.strides)

    def is_view(self, array: Array, of: Array) -> bool:
        """Whether their memory overlaps."""
        return isinstance(array, np.ndarray) and isinstance(of, np.ndarray) and np.may_share_memory(array, of)

    def exclusive(self, arrays: Sequence[Array | None], references: Sequence[int]) -> bool:
        """Whether each array owns its memory, a `Block`, or its own part of a `_Row`, and no view refers to it."""
        # An array with another base is a view, or foreign memory. Views of a part of a row have the part as their base, since
        # NumPy looks through arrays of the same type alone.
        if set(map(type, arrays)) != _ARRAYS:
            return not arrays
        if not _BASES.issuperset(map(type, map(_base, arrays))):
            return False
        return all(map(operator.le, map(sys.getrefcount, arrays), [r + _OWN for r in references]))

    def side_by_side(self, specs: Sequence[Spec]) -> Sequence[Array]:
        """Views of one row."""
        row = np.ndarray.__new__(_Row, sum(s.size for s in specs), specs[0].dtype.numpy)
        at, parts = 0, []
        for spec in specs:
            parts.append(np.ndarray(spec.shape, row.dtype, row, at * row.itemsize))
            at += spec.size
        scatter = partial(_scatter, weakref.ref(row))
        row.parts, row.watched = list(map(id, parts)), [weakref.ref(p, scatter) for p in parts]
        return parts

    def joined(self, arrays: Sequence[Array | None]) -> Array | None:
        """The row, where these are its parts."""
        row = getattr(arrays[0], "base", None)
        if type(row) is not _Row or row.parts != list(map(id, arrays)):
            return None
        return row.view(np.ndarray)

    def part(self, array: Array, axis: int, start: int, stop: int) -> Array:
        """A slice."""
        return array[(slice(None),) * axis + (slice(start, stop),)]

    def stretch(self, layout: Array, axis: int, size: int) -> Array:
        """An array of one element's memory, its strides in the order of those of ``layout``."""
        shape = (*layout.shape[:axis], size, *layout.shape[axis + 1 :])
        strides, step = [0] * len(shape), layout.itemsize
        for i in sorted(range(len(shape)), key=lambda i: (layout.strides[i], layout.shape[i], i)):
            strides[i] = step
            step *= shape[i]
        element = np.empty((), layout.dtype)
        return np.lib.stride_tricks.as_strided(element, shape, strides, writeable=False)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Without warnings, and with matrix products that leave the threads to `spread` and to the kernels."""
        if is_quiet():
            return function(*args)
        with _blas.single_threaded():
            return quiet(function, *args)

    def write(self, target: Array, array: Array) -> None:
        """A copy."""
        np.copyto(target, array)

    def spread(self, work: Callable[[int], None], count: int) -> None:
        """On threads, each of which makes its matrix products alone."""
        todo = iter(range(count))

        def parts() -> None:
            for i in todo:
                work(i)

        def worker(_: int) -> None:
            quiet(parts)

        workers = min(count, _parallel.thread_count())
        if workers < 2 or not _blas.can_limit():
            worker(0)
            return
        with _blas.single_threaded():
            _parallel.run(worker, range(workers))

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


def _scatter(row: weakref.ref[_Row], part: Any) -> None:
    """A part of a row is gone, so that another array may come to have its identity."""
    del part
    found = row()
    if found is not None:
        found.parts = None


def _own_references() -> int:
    """How many references to an array `NumPyBackend.exclusive` sees that it makes itself: Pythons differ in that."""
    holder = [np.empty(1)]
    (count,) = map(sys.getrefcount, holder)
    return count - 1


_OWN = _own_references()
_ARRAYS = {np.ndarray}
_BASES = frozenset((type(None), _Row, _reuse.Block))
_base = operator.attrgetter("base")
_CAPABILITIES = Capabilities(
    dtypes=frozenset(ALL),
    broadcasting=True,
    scalars=True,
    host_memory=True,
    dlpack=True,
    placing=True,
    joining=True,
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


@cache
def _capabilities(workers: int) -> Capabilities:
    return replace(_CAPABILITIES, workers=workers, cache=_second_level_cache())


def _second_level_cache() -> int:
    """Bytes of the cache that a core has to itself, as Linux tells; half a megabyte where nothing is told."""
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text(encoding="ascii").strip()
        return int(text.removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 19
