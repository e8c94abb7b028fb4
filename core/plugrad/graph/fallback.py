"""A device with the fallback that a user switched on: primitives that it has no kernel for, another device computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from plugrad.backend.kernels import Kernel, KernelTable, OpLike
from plugrad.dispatch.lowering import find_kernel
from plugrad.errors import UnsupportedOp

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend, Capabilities
    from plugrad.dispatch.modes import Modes
    from plugrad.dispatch.op import Op
    from plugrad.spec import Device


def with_fallback(backend: Backend, device: Device, modes: Modes) -> Backend:
    """``backend``, whose table gives for a primitive that it lacks what runs on the fallback of ``modes``, if there is one.

    Each run is counted for `plugrad.fallback_counts`, as in eager mode.
    """
    if modes.fallback is None or modes.fallback == device:
        return backend
    return cast("Backend", _FallingBack(backend, _Table(backend, device, modes)))


class _FallingBack:
    """A backend with another table. It compiles no graphs: these may hold ops that its compiler does not know."""

    def __init__(self, backend: Backend, kernels: KernelTable) -> None:
        self._backend = backend
        self.kernels = kernels

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def capabilities(self, device: Device) -> Capabilities:
        """Those of the backend, but for compiling."""
        return replace(self._backend.capabilities(device), compiling=False)


class _Table(KernelTable):
    """The kernels of a backend, and those of the fallback for primitives without one."""

    def __init__(self, backend: Backend, device: Device, modes: Modes) -> None:
        super().__init__()
        self._backend, self._device = backend, device
        self._modes = replace(modes, observer=None)

    def find(self, op: OpLike, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        """The kernel of the backend, or for a primitive without one what computes it on the other device."""
        found = self._backend.kernels.find(op, specs, attributes)
        stated = cast("Op[..., Any]", op)
        if found is not None or stated.body is not None:
            return found
        given = {k: v for k, v in attributes.items() if k != "matmul_precision"}
        try:
            run = find_kernel(stated, specs, given, self._backend, self._device, self._modes, ())
        except UnsupportedOp:
            return None
        return Kernel(run, allocates=True)
