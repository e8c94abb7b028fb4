"""`Backend`: what a plugin implements. Memory plus a table of kernels; no op is named here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.backend.kernels import Array, Kernel, KernelTable
from plugrad.dtypes import DType
from plugrad.errors import DeviceError
from plugrad.spec import Device, Shape, Spec

if TYPE_CHECKING:
    from plugrad.graph.ir import Graph


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a device can do. A later version adds only fields whose default is False or empty.

    Attributes:
        dtypes: the dtypes that the device stores and computes.
        broadcasting: elementwise kernels take operands whose shapes broadcast together. Where this is
            False the core broadcasts them first, by the kernel of ``broadcast_to``.
        scalars: elementwise kernels take Python scalars, which are weak, as operands. Where this is
            False the core makes a 0-d array of the promoted dtype first.
        host_memory: ``to_host`` shares memory instead of copying.
        dlpack: ``to_dlpack`` and ``from_dlpack`` work.
        copy: ``copy_from`` moves an array from another device of this backend without the host.
        placing: ``layout``, ``place``, ``is_view`` and ``exclusive`` work, so that plans reuse memory.
        joining: ``side_by_side`` and ``joined`` work, so that several small updates are computed as one.
        compiling: ``compile`` takes whole graphs.
        generating: ``generate`` makes one kernel of several ops. Bodies of composites are then preferred over kernels
            where all that they come down to fuses, and run as few generated kernels in eager mode too.
        workers: how many parts of a graph are best computed side by side by ``spread``; from 1 on, ``part``,
            ``stretch`` and ``write`` work too. 0 keeps every op whole.
        cache: bytes of fast memory that each worker has to itself; parts are cut so that they fit into it.
    """

    dtypes: frozenset[DType]
    broadcasting: bool = False
    scalars: bool = False
    host_memory: bool = False
    dlpack: bool = False
    copy: bool = False
    placing: bool = False
    joining: bool = False
    compiling: bool = False
    generating: bool = False
    workers: int = 0
    cache: int = 0


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device as it is shown to people.

    Attributes:
        description: what it is: the processor, its driver and version.
        hint: how to get more out of it, or the empty string.
    """

    description: str
    hint: str = ""


class Backend(ABC):
    """A named plugin: memory plus a table of kernels.

    A backend makes itself known by an entry point in the group ``plugrad.backend.v1`` (see
    `plugrad.backend.hookspecs`). It raises `BackendUnavailable`, with the reason, from its constructor
    where it cannot run.

    Attributes:
        name: the backend's name, stated by its class. It is the name of one of its entry points; the
            others are aliases.
        kernels: its kernels by op.
    """

    name: str
    kernels: KernelTable

    @abstractmethod
    def devices(self) -> Sequence[DeviceInfo]:
        """The devices, by index."""

    @abstractmethod
    def capabilities(self, device: Device) -> Capabilities:
        """What ``device`` can do; constant while the process runs."""

    @abstractmethod
    def allocate(self, spec: Spec) -> Array:
        """A new array of this spec whose elements are unspecified. It may hold 0 elements."""

    @abstractmethod
    def from_host(self, value: np.ndarray[Any, Any], device: Device) -> Array:
        """A new array with the elements of ``value``, which may have any strides.

        Returns when the memory of ``value`` may be reused. The array never shares it.
        """

    @abstractmethod
    def to_host(self, array: Array) -> np.ndarray[Any, Any]:
        """The elements of ``array``, once they are computed; nobody writes to what is returned."""

    @abstractmethod
    def shape(self, array: Array) -> Shape:
        """The shape of ``array``: asked of the result of an op whose shape depends on data."""

    def synchronize(self, device: Device) -> None:
        """Return when all that ``device`` was given is done; a synchronous backend has nothing to do."""
        del device

    def memory_stats(self, device: Device) -> dict[str, int]:
        """Bytes by name (``live``, ``pooled``, ``peak``, ...), as far as they are known."""
        del device
        return {}

    def copy_from(self, array: Array, source: Device, target: Device) -> Array:
        """A copy of ``array`` on another device of this backend (capability ``copy``)."""
        del array
        raise DeviceError(f"backend {self.name!r} cannot copy from {source} to {target}")

    def to_dlpack(self, array: Array, **options: Any) -> Any:
        """A DLPack capsule that shares the memory of ``array`` (capability ``dlpack``)."""
        del array, options
        raise DeviceError(f"backend {self.name!r} has no DLPack")

    def dlpack_device(self, array: Array) -> tuple[int, int]:
        """The DLPack device type and id of ``array`` (capability ``dlpack``)."""
        del array
        raise DeviceError(f"backend {self.name!r} has no DLPack")

    def from_dlpack(self, exporter: Any, device: Device, copy: bool | None) -> tuple[Array, Shape, DType]:
        """An array over the memory of an object with ``__dlpack__`` (capability ``dlpack``)."""
        del exporter, device, copy
        raise DeviceError(f"backend {self.name!r} has no DLPack")

    def layout(self, array: Array) -> Any | None:
        """The shape, dtype and memory layout of an array, which `place` takes (capability ``placing``).

        It holds none of the array's memory. None where the layout has gaps or overlaps.
        """
        del array
        raise DeviceError(f"backend {self.name!r} cannot place arrays")

    def place(self, block: Array | None, layout: Any) -> Array:
        """An array of a layout, its elements unspecified (capability ``placing``).

        Args:
            block: uint8, one axis, at least as many bytes as the array has: it lies in that memory, from its
                beginning; None allocates.
            layout: what `layout` gave.
        """
        del block, layout
        raise DeviceError(f"backend {self.name!r} cannot place arrays")

    def is_view(self, array: Array, of: Array) -> bool:
        """Whether ``array`` shares memory with ``of`` (capability ``placing``)."""
        del array, of
        raise DeviceError(f"backend {self.name!r} cannot tell views")

    def exclusive(self, arrays: Sequence[Array | None], references: Sequence[int]) -> bool:
        """Whether nothing else reaches the memory of any of the arrays: then it may be written to (capability ``placing``).

        Args:
            arrays: the arrays; no memory can be written to where one is None.
            references: how many references to each object the caller knows of, that of ``arrays`` among them.
        """
        del arrays, references
        return False

    def compile(self, graph: Graph) -> Callable[[Sequence[Array]], Sequence[Array]]:
        """What computes a whole graph (capability ``compiling``).

        Args:
            graph: lowered: the backend has a kernel for each node (`plugrad.graph.ir`). What cells held before stands
                among the inputs, what they are to hold among the outputs.

        Returns:
            A function from the arrays of the inputs, which it may not write to, to those of the outputs, which are new
            ones at each call. Threads may call it at the same time.
        """
        del graph
        raise DeviceError(f"backend {self.name!r} compiles no graphs")

    def side_by_side(self, specs: Sequence[Spec]) -> Sequence[Array]:
        """Row-major arrays of one dtype, one directly behind the other in memory (capability ``joining``)."""
        del specs
        raise DeviceError(f"backend {self.name!r} cannot join arrays")

    def joined(self, arrays: Sequence[Array | None]) -> Array | None:
        """The elements of arrays as an array of one axis that shares their memory (capability ``joining``).

        None where they are not those that one call of ``side_by_side`` gave, all of them, in order.
        """
        del arrays
        raise DeviceError(f"backend {self.name!r} cannot join arrays")

    def part(self, array: Array, axis: int, start: int, stop: int) -> Array:
        """A view of ``array`` from ``start`` to before ``stop`` along an axis (capability ``workers``)."""
        del array, axis, start, stop
        raise DeviceError(f"backend {self.name!r} cannot cut arrays")

    def stretch(self, layout: Any, axis: int, size: int) -> Any:
        """The layout with another size of one axis, its axes in the same order in memory (capability ``workers``)."""
        del layout, axis, size
        raise DeviceError(f"backend {self.name!r} cannot cut arrays")

    def generate(self, graph: Graph) -> Kernel | None:
        """A kernel that computes a small graph (capability ``generating``), or None where none is made of it.

        Args:
            graph: nodes that `plugrad.graph.source.fuses` accepts, in ops of which each has one result; nothing in it is
                empty, and no constants are.

        Returns:
            A kernel that takes the arrays of the graph's inputs by position, an input without axes also as a Python
            number, and gives those of the outputs: one, or a tuple. Operands are named ``"0"``, ``"1"``, ... by their
            places in its ``inplace``.
        """
        del graph
        raise DeviceError(f"backend {self.name!r} generates no kernels")

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)``, the run of a plan: a backend that can make many kernels cheaper at once does so here.

        Within it, `Kernel.bare` is called in the place of `Kernel.function`.
        """
        return function(*args)

    def write(self, target: Array, array: Array) -> None:
        """Write the elements of ``array`` over those of ``target``, which has its shape (capability ``workers``)."""
        del target, array
        raise DeviceError(f"backend {self.name!r} cannot cut arrays")

    def spread(self, work: Callable[[int], None], count: int) -> None:
        """Call ``work`` with each number below ``count``, side by side; return when all are done (capability ``workers``).

        Kernels that are called within keep to one worker. Raises what the first that failed raised.
        """
        for i in range(count):
            work(i)
