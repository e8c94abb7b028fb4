"""The checks, one file a kind. A check is a module with ``cases()`` and ``run(run)``; `CHECKS` names them all."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from plugrad_conformance.cases import Case
from plugrad_conformance.checks import determinism, forward, into, layout, sizes, special, vjp

CHECKS: Final[dict[str, ModuleType]] = {
    "forward": forward,
    "sizes": sizes,
    "vjp": vjp,
    "layout": layout,
    "special": special,
    "into": into,
    "determinism": determinism,
}


def all_cases() -> Iterator[Case]:
    """Every case, in the order in which they run."""
    for module in CHECKS.values():
        yield from module.cases()
