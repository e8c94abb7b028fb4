"""The checks, one file a kind. A check is a module with ``cases()`` and ``run(run)``; `CHECKS` names them all."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from plugrad_conformance.cases import Case
from plugrad_conformance.checks import (
    aliasing,
    captured,
    determinism,
    epilogues,
    errors,
    forward,
    into,
    large,
    layout,
    leaks,
    memory,
    plugin,
    properties,
    queue,
    several,
    sizes,
    special,
    speed,
    statistics,
    threads,
    training,
    vjp,
)

CHECKS: Final[dict[str, ModuleType]] = {
    "plugin": plugin,
    "memory": memory,
    "errors": errors,
    "random": statistics,
    "forward": forward,
    "sizes": sizes,
    "properties": properties,
    "vjp": vjp,
    "training": training,
    "aliasing": aliasing,
    "layout": layout,
    "special": special,
    "into": into,
    "large": large,
    "captured": captured,
    "epilogues": epilogues,
    "determinism": determinism,
    "queue": queue,
    "threads": threads,
    "devices": several,
    "leaks": leaks,
    "speed": speed,
}


def all_cases() -> Iterator[Case]:
    """Every case, in the order in which they run."""
    for module in CHECKS.values():
        yield from module.cases()
