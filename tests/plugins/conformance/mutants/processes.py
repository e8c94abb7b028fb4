"""Faults that take the process along, or keep it: they are noticed from outside, by what runs the cases."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plugrad_conformance.session import Worker
from plugrad_conformance.suite import Suite
from support.conformance_chips import install_chip, source


@dataclass(frozen=True, slots=True)
class ProcessFault:
    """A fault of a backend's module.

    Attributes:
        meaning: what the backend does.
        text: the module.
        told: what stands in the record of the case.
        limit: seconds for a case, and for loading the backend where that is what hangs.
        loads: whether the backend loads.
    """

    meaning: str
    text: str
    told: str
    limit: float = 120.0
    loads: bool = True


CASE: Final = "forward/exp/float32"


def _kernel(statement: str) -> str:
    return source(kernels=f'@kernel("exp")\ndef _(x, *, into=None):\n    {statement}\n    return np.exp(x)\n')


PROCESS_FAULTS: Final = (
    ProcessFault("a kernel ends the process", _kernel("os._exit(3)"), "died (exit code 3)"),
    ProcessFault("a kernel crashes", _kernel("os.kill(os.getpid(), signal.SIGSEGV)"), "died (SIGSEGV)"),
    ProcessFault("a kernel hangs", _kernel("time.sleep(1000)"), "took more than 2 s", limit=2.0),
    ProcessFault(
        "the probe for devices hangs", source(first="time.sleep(1000)"), "to load", limit=2.0, loads=False
    ),
)
"""By hand; `CASE` notices each."""


def record_of(fault: ProcessFault, folder: Path) -> dict[str, Any]:
    """The record of `CASE` in a worker of its own, on a backend that is installed into ``folder``."""
    install_chip(folder, fault.text)
    case = next(c for c in Suite().listed() if c.id == CASE)
    sys.path.insert(0, str(folder))
    worker = Worker("chip", folder / "log", 120.0 if fault.loads else fault.limit)
    try:
        return worker.run(case, fault.limit)
    finally:
        worker.stop()
        sys.path.remove(str(folder))
