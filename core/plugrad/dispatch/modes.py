"""The modes that change what an op call means, kept per thread and part of every signature."""

from __future__ import annotations

import threading
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from plugrad.dispatch.observer import Observer
from plugrad.dtypes import DType
from plugrad.spec import Device


@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """One combination of modes. Interned by `change`, so that a signature compares it by identity.

    Attributes:
        recording: whether ops on tensors that need gradients are recorded.
        anomaly: whether each result is checked for NaN and infinity, and each node remembers its line.
        autocast: the 16-bit dtype that GEMM-like ops compute in, or None.
        matmul_precision: ``"highest"`` or ``"high"``; kernels choose by it (see `KernelTable`).
        fallback: the device that runs primitives which the tensors' own device has no kernel for, or None.
        capturing: whether ops make nodes of a graph instead of values (see `plugrad.dispatch.tracing`).
        observer: who is told what computes each op, or None. Modes are kept for good, and their observer too.
    """

    recording: bool = True
    anomaly: bool = False
    autocast: DType | None = None
    matmul_precision: str = "highest"
    fallback: Device | None = None
    capturing: bool = False
    observer: Observer | None = None


_interned: Final[dict[tuple[Any, ...], Modes]] = {}


def _intern(modes: Modes) -> Modes:
    return _interned.setdefault(tuple(getattr(modes, f.name) for f in fields(modes)), modes)


class _Local(threading.local):
    modes: Modes = _intern(Modes())


local: Final = _Local()


def change(**changes: Any) -> None:
    """Change modes of this thread until they are changed again."""
    local.modes = _intern(replace(local.modes, **changes))


_changes: Final[dict[tuple[Any, ...], Modes]] = {}
"""What `changed` leads to: from modes and the changes. There are few of either."""


class changed:  # noqa: N801 - called like a function
    """Change modes of this thread while a block runs."""

    __slots__ = ("_before", "_changes")

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def __enter__(self) -> None:
        before = local.modes
        self._before = before
        key = (before, *self._changes.items())
        modes = _changes.get(key)
        if modes is None:
            modes = _changes[key] = _intern(replace(before, **self._changes))
        local.modes = modes

    def __exit__(self, *_: object) -> None:
        local.modes = self._before
