"""Cases that could pass without having looked at anything do not."""

from __future__ import annotations

from typing import Any

import pytest

from plugrad import ops
from plugrad.backend import Kernel, KernelTable, register_backend
from plugrad_conformance.checks import all_cases
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject
from plugrad_numpy.backend import NumPyBackend


class Clobbering(NumPyBackend):
    """NumPy whose AdamW spoils a moment that it is told to write over before it has read it."""

    name = "clobbering_numpy"

    def __init__(self) -> None:
        self.kernels = KernelTable()
        self.kernels.merge(NumPyBackend.kernels)
        good = NumPyBackend.kernels._kernels[ops.adam_update][0]

        def bad(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
            if into is not None:
                into[1][...] = 0
            return good.function(*arrays, into=into, **attributes)

        self.kernels._kernels[ops.adam_update] = [Kernel(bad, good.when, good.inplace)]


def outcome(name: str, device: str) -> str:
    case = next(c for c in all_cases() if c.id == name)
    return str(run_case(case, Subject(device))["status"])


def test_several_results_written_over_their_operands() -> None:
    register_backend(Clobbering())
    assert outcome("into/adam_update/float32", "numpy") == "passed"
    assert outcome("into/adam_update/float32", Clobbering.name) == "failed"


def test_captured_cases_where_nothing_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome("captured/exp/float32", "numpy") == "passed"
    monkeypatch.setenv("PLUGRAD_JIT", "0")
    assert outcome("captured/exp/float32", "numpy") == "not_exercised"
