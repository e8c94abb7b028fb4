"""The large arrays reach what a backend does with such arrays alone: faults there are noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from plugrad_conformance.checks import all_cases
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject
from plugrad_numpy import _blas, _conv, _parallel, _winograd


def failed(*names: str) -> list[str]:
    cases = [c for c in all_cases() if c.kind == "large" and c.subject in names]
    assert len(cases) == len(names)
    records = [run_case(c, Subject("numpy")) for c in cases]
    return [r["id"] for r in records if r["status"] == "failed"]


NAMES = ("conv", "conv.vjp", "linear", "add", "tanh", "softmax.vjp", "adam_update")


@pytest.fixture(autouse=True)
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parallel._state, "size", 2)


def test_the_correct_one_passes() -> None:
    assert failed(*NAMES) == []


def _a_part_left_out(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The last part of what is spread over threads is not computed."""
    original = _parallel.run

    def run(work: Callable[[Any], Any], parts: Any) -> None:
        original(work, parts[:-1] if len(parts) > 1 else parts)

    monkeypatch.setattr(_parallel, "run", run)
    return "conv", "linear", "tanh", "adam_update"


def _another_kernel(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Minimal filtering computes with a transformed kernel that is not its own."""
    wrong = _winograd._KERNEL.copy()
    wrong[2, 2] = -wrong[2, 2]
    monkeypatch.setattr(_winograd, "_KERNEL", wrong)
    return "conv", "conv.vjp"


def _last_columns(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """A large product leaves out what its last thread would add."""
    original = _blas.gemm

    def gemm(a: Any, b: Any, *rest: Any) -> Any:
        out = original(a, b, *rest)
        if a.shape[0] * a.shape[1] * b.shape[1] > _blas._WORTH:
            out[-1, -1] = 0
        return out

    monkeypatch.setattr(_blas, "gemm", gemm)
    return ("linear",)


def _images_once_more(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Each thread's images of a convolution are those of the first."""
    original = _conv._run

    def run(work: Callable[[Any], Any], parts: Any) -> None:
        first = parts[0]
        original(work, [first if isinstance(first, slice) else p for p in parts])

    monkeypatch.setattr(_conv, "_run", run)
    return ("conv",)


@pytest.mark.parametrize(
    "fault",
    [_a_part_left_out, _another_kernel, _last_columns, _images_once_more],
    ids=lambda f: f.__name__.strip("_"),
)
def test_faults_of_large_arrays_are_noticed(
    fault: Callable[[pytest.MonkeyPatch], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = fault(monkeypatch)
    with np.errstate(all="ignore"):
        assert [n.split("/")[1] for n in failed(*names)] == _in_order(names)


def _in_order(names: tuple[str, ...]) -> list[str]:
    return [c.subject for c in all_cases() if c.kind == "large" and c.subject in names]
