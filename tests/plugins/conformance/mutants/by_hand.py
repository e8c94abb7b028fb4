"""Running the faults written by hand: of whole backends, of the core, of processes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from plugins.conformance.mutants.backend import GOOD
from plugins.conformance.mutants.processes import ProcessFault, record_of
from plugins.conformance.mutants.whole import Whole
from plugrad.backend import Backend, register_backend
from plugrad_conformance.cases import Case
from plugrad_conformance.checks import all_cases
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject

_known: dict[str, Case] = {}


def case(name: str) -> Case:
    """The case of a name."""
    if not _known:
        _known.update((c.id, c) for c in all_cases())
    return _known[name]


def whole(fault: Whole, name: str) -> list[str]:
    """The cases of a fault of a backend that do not notice it."""
    return _unnoticed(fault.make, name, fault.killed_by)


def correct(make: Callable[[str], Backend], name: str, cases: Sequence[str]) -> list[str]:
    """The cases that fail on a backend without a fault, with what they say."""
    register_backend(make(name))
    subject = Subject(name)
    told = [(c, run_case(case(c), subject)) for c in cases]
    return [f"{c}: {r['message']}" for c, r in told if r["status"] not in ("passed", "not_exercised")]


def _unnoticed(make: Callable[[str], Backend], name: str, cases: Sequence[str]) -> list[str]:
    register_backend(make(name))
    subject = Subject(name)
    return [c for c in cases if run_case(case(c), subject)["status"] != "failed"]


def core(block: Callable[[], AbstractContextManager[None]], cases: Sequence[str]) -> list[str]:
    """The cases that do not notice a fault of the core, on a correct backend, or fail without it."""
    subject = Subject(GOOD)
    with block():
        unnoticed = [c for c in cases if run_case(case(c), subject)["status"] != "failed"]
    return unnoticed + [c for c in cases if run_case(case(c), subject)["status"] != "passed"]


def process(fault: ProcessFault) -> bool:
    """Whether the record of the case tells of the fault."""
    with tempfile.TemporaryDirectory() as folder:
        record = record_of(fault, Path(folder))
    return record["status"] == "failed" and fault.told in record["message"]
