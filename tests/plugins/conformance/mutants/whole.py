"""Faults of a backend as a whole, written by hand: what goes wrong is not one kernel's result.

Those of a device with a queue are options of `plugins.conformance.mutants.queued.QueuedBackend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from plugins.conformance.mutants import record
from plugins.conformance.mutants.backend import Host, MutantBackend, Run, Signature
from plugins.conformance.mutants.queued import QueuedBackend
from plugrad import ops
from plugrad.backend import Backend, Capabilities, Kernel, KernelTable
from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import Kind
from plugrad.dtypes import float64
from plugrad.errors import PlugradError
from plugrad.spec import Device
from plugrad_conformance.checks.forward import own_dtype
from plugrad_conformance.subject import samples_of

Change = Callable[[Any, Run, Mapping[str, Any]], Run]


@dataclass(frozen=True, slots=True)
class Whole:
    """A fault of a backend.

    Attributes:
        meaning: what the backend does.
        make: makes it, under a name.
        killed_by: cases of the suite that notice it.
    """

    meaning: str
    make: Callable[[str], Backend]
    killed_by: tuple[str, ...]


class _Changed(KernelTable):
    """The kernels of another table, each changed."""

    def __init__(self, good: KernelTable, change: Change) -> None:
        super().__init__()
        self._good = good
        self._change = change

    def find(self, op: Any, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        found = self._good.find(op, specs, attributes)
        return found and replace(found, function=self._change(op, found.function, attributes))

    def __contains__(self, op: object) -> bool:
        return op in self._good

    def __iter__(self) -> Any:
        return iter(self._good)


def _with_kernels(change: Callable[[], Change]) -> Callable[[str], Backend]:
    """A backend whose kernels are all changed."""

    def make(name: str) -> Backend:
        backend = MutantBackend(name)
        backend.kernels = _Changed(backend.inner.kernels, change())  # type: ignore[assignment]
        return backend

    return make


def _without_fault(name: str) -> Backend:
    return MutantBackend(name)


# -- memory ---------------------------------------------------------------------------------------------------


class _KeepsUploads(MutantBackend):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.kept: list[Host] = []

    def from_host(self, value: Host, device: Device) -> Any:
        array = super().from_host(value, device)
        self.kept.append(array)
        return array


def _keeps_results() -> Change:
    kept: list[Any] = []

    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        del op, attributes

        def kernel(*arrays: Any, **given: Any) -> Any:
            out = run(*arrays, **given)
            kept.append(out)
            return out

        return kernel

    return change


class _SharesHost(MutantBackend):
    def from_host(self, value: Host, device: Device) -> Any:
        del device
        return value


class _Reversed(MutantBackend):
    """Takes what is not contiguous as if it were."""

    def from_host(self, value: Host, device: Device) -> Any:
        flat = value if value.flags.c_contiguous else np.ascontiguousarray(value.T).reshape(value.shape)
        return super().from_host(flat, device)


# -- what a result shares -------------------------------------------------------------------------------------


def _one_buffer() -> Change:
    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        """Every result of a signature is written into the same memory."""
        made: list[Any] = []

        def kernel(*arrays: Any, into: Any = None, **given: Any) -> Any:
            if into is not None:
                return run(*arrays, into=into, **given)
            out = run(*arrays, **given)
            if not isinstance(out, np.ndarray) or op.may_alias:
                return out
            if made and made[0].shape == out.shape:
                np.copyto(made[0], out)
            else:
                made[:] = [np.array(out)]
            return made[0]

        return kernel

    return change


def _cast_is_view() -> Change:
    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        if op is not ops.astype:
            return run

        def kernel(x: Any, *, into: Any = None, **given: Any) -> Any:
            if into is None and given["dtype"].numpy == x.dtype:
                return x
            return run(x, into=into, **given)

        return kernel

    return change


def _assignment_writes() -> Change:
    """Assignment to a slice writes into the tensor's memory, whoever else holds it."""

    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        if op is not ops.update_slice:
            return run

        def kernel(x: Any, value: Any, *, into: Any = None, **given: Any) -> Any:
            out = run(x, value, into=into, **given)
            if into is None and isinstance(x, np.ndarray) and x.flags.writeable:
                np.copyto(x, out)
                return x
            return out

        return kernel

    return change


# -- random numbers -------------------------------------------------------------------------------------------


def _next_counter(op: Op[..., Any]) -> Callable[[str], Backend]:
    """The counter of one op is the one after."""

    def wrap(signature: Signature, run: Run) -> Run:
        at = [o.name for o in signature.op.operands].index("counter")

        def kernel(*arrays: Any, **given: Any) -> Any:
            other = list(arrays)
            other[at] = np.array(other[at])
            other[at][:1] += 1
            return run(*other, **given)

        return kernel

    def make(name: str) -> Backend:
        backend = MutantBackend(name)
        backend.kernels.wraps[op] = wrap
        return backend

    return make


# -- errors ---------------------------------------------------------------------------------------------------


def _unusable() -> Change:
    """After a kernel has raised, each one raises."""
    raised: list[Exception] = []

    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        def kernel(*arrays: Any, **given: Any) -> Any:
            if raised:
                raise RuntimeError("the device is in an error state")
            try:
                return run(*arrays, **given)
            except PlugradError as error:
                raised.append(error)
                raise

        return kernel

    return change


def _silent_errors() -> Change:
    """A wrong index is taken for 0."""

    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        def kernel(*arrays: Any, **given: Any) -> Any:
            try:
                return run(*arrays, **given)
            except PlugradError:
                zeros = [
                    [np.zeros_like(v) for v in a]
                    if isinstance(a, list)
                    else np.zeros_like(a)
                    if isinstance(a, np.ndarray) and a.dtype.kind in "iu"
                    else a
                    for a in arrays
                ]
                return run(*zeros, **given)

        return kernel

    return change


# -- capabilities ---------------------------------------------------------------------------------------------


class Bare(MutantBackend):
    """The correct backend without what is optional."""

    def capabilities(self, device: Device) -> Capabilities:
        return Capabilities(super().capabilities(device).dtypes, broadcasting=True, scalars=True)

    def to_dlpack(self, array: Any, **options: Any) -> Any:
        return Backend.to_dlpack(self, array, **options)

    def dlpack_device(self, array: Any) -> tuple[int, int]:
        return Backend.dlpack_device(self, array)

    def from_dlpack(self, exporter: Any, device: Device, copy: bool | None) -> Any:
        return Backend.from_dlpack(self, exporter, device, copy)


def _claiming(**claims: Any) -> Callable[[str], Backend]:
    """A backend that claims what it does not do: these fields of its capabilities."""

    class Claims(Bare):
        def capabilities(self, device: Device) -> Capabilities:
            return replace(super().capabilities(device), **claims)

    return Claims


class _NoDouble(MutantBackend):
    """Claims float64, and keeps its values in float32."""

    def from_host(self, value: Host, device: Device) -> Any:
        array = super().from_host(value, device)
        if value.dtype == np.float64:
            with np.errstate(all="ignore"):
                array = array.astype(np.float32).astype(np.float64)
        return array


def _no_scalars() -> Change:
    """Kernels take arrays alone, and the capability says that they take numbers."""

    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        def kernel(*arrays: Any, **given: Any) -> Any:
            if any(isinstance(a, (bool, int, float)) for a in arrays):
                raise TypeError("a number is no array")
            return run(*arrays, **given)

        return kernel

    return change


def _no_broadcasting() -> Change:
    """Kernels take operands of one shape, and the capability says that they broadcast."""

    def change(op: Any, run: Run, attributes: Mapping[str, Any]) -> Run:
        def kernel(*arrays: Any, **given: Any) -> Any:
            shapes = {a.shape for a in arrays if isinstance(a, np.ndarray)}
            if op.kind is Kind.ELEMENTWISE and len(shapes) > 1:
                raise ValueError("operands of one shape are taken")
            return run(*arrays, **given)

        return kernel

    return change


class _ChangesItsMind(MutantBackend):
    """Has float64 every other time that it is asked."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.asked = 0

    def capabilities(self, device: Device) -> Capabilities:
        can = super().capabilities(device)
        self.asked += 1
        return replace(can, dtypes=can.dtypes - {float64}) if self.asked % 2 else can


RANDOM: Final = tuple(
    op for op in record.targets() if op.kind is Kind.RANDOM and "counter" in [o.name for o in op.operands]
)

CORRECT: Final[dict[str, Callable[[str], Backend]]] = {
    "the wrapper": _without_fault,
    "the wrapper without what is optional": Bare,
    "the queue": QueuedBackend,
}
"""Without a fault: these pass."""

WHOLE: Final = (
    Whole(
        "a read does not wait for what it reads",
        lambda name: QueuedBackend(name, reads_wait=False),
        ("queue/read-after-write", "queue/reads-out-of-order"),
    ),
    Whole(
        "an upload returns before the host's memory is read",
        lambda name: QueuedBackend(name, uploads_copy=False),
        ("memory/host-is-copied", "queue/host-memory-reused"),
    ),
    Whole(
        "memory is used again while the queue still reads it",
        lambda name: QueuedBackend(name, keeps_operands=False),
        ("queue/freed-in-flight",),
    ),
    Whole(
        "an error of the queue is never told",
        lambda name: QueuedBackend(name, tells_errors=False),
        ("errors/gather_nd",),
    ),
    Whole("uploads leak", _KeepsUploads, ("leaks/add/float32",)),
    Whole("results of kernels leak", _with_kernels(_keeps_results), ("leaks/add/float32",)),
    Whole("an array is the host's own memory", _SharesHost, ("memory/host-is-copied",)),
    Whole("the host's strides are ignored", _Reversed, ("memory/strided-host",)),
    *(
        Whole(
            f"{op.name}: the counter is off by one",
            _next_counter(op),
            (f"forward/{op.name}/{own_dtype(samples_of(op, 0))}",),
        )
        for op in RANDOM
    ),
    Whole("after an error no kernel runs", _with_kernels(_unusable), ("errors/gather_nd",)),
    Whole("an error is not raised", _with_kernels(_silent_errors), ("errors/gather_nd",)),
    Whole("a cast is a view of its operand", _with_kernels(_cast_is_view), ("aliasing/astype/float32",)),
    Whole("an assignment writes into shared memory", _with_kernels(_assignment_writes), ("aliasing/views",)),
    Whole("results share one buffer", _with_kernels(_one_buffer), ("aliasing/add/float32",)),
    Whole("DLPack is claimed", _claiming(dlpack=True), ("memory/capabilities",)),
    Whole("copies between devices are claimed", _claiming(copy=True), ("memory/capabilities",)),
    Whole("float64 is claimed", _NoDouble, ("memory/round-trip/float64",)),
    Whole("numbers as operands are claimed", _with_kernels(_no_scalars), ("forward/add/float32",)),
    Whole("broadcasting is claimed", _with_kernels(_no_broadcasting), ("forward/add/float32",)),
    Whole("capabilities change", _ChangesItsMind, ("memory/capabilities",)),
)
"""By hand; each with cases that notice it."""
