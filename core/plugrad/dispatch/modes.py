"""The modes that change what an op call means, kept per thread and part of every signature."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Final

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
    """

    recording: bool = True
    anomaly: bool = False
    autocast: DType | None = None
    matmul_precision: str = "highest"
    fallback: Device | None = None


_interned: Final[dict[tuple[Any, ...], Modes]] = {}


def _intern(modes: Modes) -> Modes:
    return _interned.setdefault(tuple(getattr(modes, f.name) for f in fields(modes)), modes)


class _Local(threading.local):
    modes: Modes = _intern(Modes())


local: Final = _Local()


def change(**changes: Any) -> None:
    """Change modes of this thread until they are changed again."""
    local.modes = _intern(replace(local.modes, **changes))


@contextmanager
def changed(**changes: Any) -> Iterator[None]:
    """Change modes of this thread while the block runs."""
    before = local.modes
    local.modes = _intern(replace(before, **changes))
    try:
        yield
    finally:
        local.modes = before
