"""The checks, one file a kind. A check is a module with ``cases()`` and ``run(run)``; `CHECKS` names them all."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from plugrad_conformance.cases import Case
from plugrad_conformance.checks import forward, vjp

CHECKS: Final[dict[str, ModuleType]] = {"forward": forward, "vjp": vjp}


def all_cases() -> Iterator[Case]:
    """Every case, in the order in which they run."""
    for module in CHECKS.values():
        yield from module.cases()
