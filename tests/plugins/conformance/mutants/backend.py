"""`MutantBackend`: a correct backend, and one op of it whose kernel may be made faulty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from plugrad.backend import (
    Backend,
    Capabilities,
    DeviceInfo,
    Kernel,
    KernelTable,
    get_backend,
    register_backend,
)
from plugrad.dispatch.conversion import scalar_tensor
from plugrad.dispatch.data import wrap
from plugrad.dispatch.lowering import apply_body
from plugrad.dispatch.modes import changed
from plugrad.dispatch.op import Op
from plugrad.spec import Device, Shape, Spec

Host = np.ndarray[Any, Any]
Run = Callable[..., Any]
GOOD: Final = "numpy"


@dataclass(frozen=True, slots=True)
class Signature:
    """What a kernel is found for.

    Attributes:
        op: the op.
        specs: the specs of its operands.
        attributes: its static attributes in their normal form, and the modes that kernels are chosen by.
        find: the correct kernel's function for other attributes.
    """

    op: Op[..., Any]
    specs: Sequence[Any]
    attributes: Mapping[str, Any]
    find: Callable[[Mapping[str, Any]], Run]


Wrap = Callable[[Signature, Run], Run]
"""From a signature and a correct kernel, a kernel in its place."""


def copied(value: Any, into: Any) -> Any:
    """``value``, an array or a tuple of them, brought into the memory that a plan allocated, where it did."""
    if into is None:
        return value
    if isinstance(into, tuple):
        return tuple(copied(v, i) for v, i in zip(value, into, strict=True))
    np.copyto(into, value, casting="unsafe")
    return into


def of_body(op: Op[..., Any], specs: Sequence[Any]) -> Run:
    """A kernel that computes ``op`` by its body.

    What a rule gives has, from a kernel, the dtype of the operand that it is the gradient of.
    """
    vjp = None if op.owner is None else next(v for v in op.owner.vjps if v.op is op)

    def tensor(array: Any, spec: Any) -> Any:
        if isinstance(spec, tuple):
            return [wrap(a, s) for a, s in zip(array, spec, strict=True)]
        if isinstance(array, (bool, int, float)):
            return scalar_tensor(array, spec.dtype, spec.device, op.name)
        return None if spec is None else wrap(array, spec)

    def array_of(result: Any, spec: Any) -> Any:
        if isinstance(result, (tuple, list)):
            each = spec if isinstance(spec, tuple) else [spec] * len(result)
            return tuple(array_of(r, s) for r, s in zip(result, each, strict=True))
        if result is None:
            return None
        return (result if spec is None else result.astype(spec.dtype, copy=False))._array

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        with changed(recording=False, anomaly=False, autocast=None):
            operands = [tensor(a, s) for a, s in zip(arrays, specs, strict=True)]
            result = apply_body(op, operands, attributes)
            if vjp is None:
                return copied(array_of(result, None), into)
            known = {**attributes, **dict(zip((o.name for o in op.operands), specs, strict=True))}
            wrt = attributes.get("wrt", vjp.wrt)
            wanted = tuple(known.get(n) or specs[0] for n in wrt)
            return copied(array_of(result, wanted if vjp.joint else wanted[0]), into)

    return kernel


class MutantTable(KernelTable):
    """The correct backend's kernels; those of mutated ops are wrapped.

    Attributes:
        wraps: what wraps the kernels of an op, by op.
    """

    def __init__(self, good: KernelTable) -> None:
        super().__init__()
        self.good = good
        self.wraps: dict[Op[..., Any], Wrap] = {}

    def find(self, op: Any, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        """The correct kernel, or, for a mutated op, the wrapped one: made of the body where there is no other."""
        found = self.good.find(op, specs, attributes)
        change = self.wraps.get(op)
        if change is None:
            return found
        if found is None:
            if op.body is None:
                return None
            found = Kernel(of_body(op, specs))

        def again(other: Mapping[str, Any]) -> Run:
            kernel = self.good.find(op, specs, other)
            return of_body(op, specs) if kernel is None else kernel.function

        return replace(found, function=change(Signature(op, specs, attributes, again), found.function))

    def __contains__(self, op: object) -> bool:
        return op in self.wraps or op in self.good

    def __iter__(self) -> Any:
        return iter(dict.fromkeys([*self.good, *self.wraps]))

    def __len__(self) -> int:
        return len(dict.fromkeys([*self.good, *self.wraps]))

    def count(self, op: Any) -> int:
        """How many kernels of ``op`` there are."""
        return max(self.good.count(op), int(op in self.wraps))


class MutantBackend(Backend):
    """The correct backend's memory under another name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inner = get_backend(GOOD)
        self.kernels: MutantTable = MutantTable(self.inner.kernels)

    def devices(self) -> Sequence[DeviceInfo]:
        return [DeviceInfo("a backend under mutation")]

    def capabilities(self, device: Device) -> Capabilities:
        return self.inner.capabilities(device)

    def allocate(self, spec: Spec) -> Any:
        return self.inner.allocate(spec)

    def from_host(self, value: Host, device: Device) -> Any:
        return self.inner.from_host(value, device)

    def to_host(self, array: Any) -> Host:
        return self.inner.to_host(array)

    def shape(self, array: Any) -> Shape:
        return self.inner.shape(array)

    def to_dlpack(self, array: Any, **options: Any) -> Any:
        return self.inner.to_dlpack(array, **options)

    def dlpack_device(self, array: Any) -> tuple[int, int]:
        return self.inner.dlpack_device(array)

    def from_dlpack(self, exporter: Any, device: Device, copy: bool | None) -> Any:
        return self.inner.from_dlpack(exporter, device, copy)

    def mutate(self, op: Op[..., Any], change: Wrap | None) -> None:
        """Wrap the kernels of ``op``, or with None leave them as they are, and forget what was settled with them."""
        if change is None:
            self.kernels.wraps.pop(op, None)
        else:
            self.kernels.wraps[op] = change
        # A rule's kernel is settled with its owner, and a body's calls are settled anew from it.
        for kin in (op, op.owner):
            if kin is not None:
                kin.cache.clear()


def registered(name: str) -> MutantBackend:
    """A new mutant backend, known to this process."""
    backend = MutantBackend(name)
    register_backend(backend)
    return backend


def unchanged(signature: Signature, run: Run) -> Run:
    """No fault: the kernel through the same wrapper."""
    del signature

    def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
        return run(*arrays, **attributes) if into is None else run(*arrays, into=into, **attributes)

    return kernel
