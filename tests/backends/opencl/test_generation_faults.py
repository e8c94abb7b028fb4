"""Faults of generated kernels, put in one at a time: the suite's captured cases notice each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from plugrad.generated import fusing
from plugrad.graph.source import loops
from plugrad.graph.source.program import Program
from plugrad_conformance.checks import all_cases
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject

OPS = ("softmax", "layer_norm", "gelu", "cross_entropy", "logsumexp", "mean", "dropout_mask")


@pytest.fixture(scope="module")
def subject(device: str) -> Subject:
    return Subject(device)


def failed(subject: Subject) -> list[str]:
    cases = [c for c in all_cases() if c.kind == "captured" and c.op in OPS and c.dtype in ("", "float32")]
    assert len(cases) >= len(OPS)
    records = [run_case(c, subject) for c in cases]
    return [r["id"] for r in records if r["status"] == "failed"]


def test_the_correct_ones_pass(subject: Subject) -> None:
    assert failed(subject) == []


def _other_rows(patch: pytest.MonkeyPatch) -> None:
    """A reduction runs along the first row for every row."""
    original = fusing.launch_of

    def launch_of(program: Program, inputs: Any, outputs: Any) -> Any:
        launch = original(program, inputs, outputs)
        if not program.reduced or not launch.reads or not launch.reads[0][1]:
            return launch
        (index, strides), *rest = launch.reads
        return replace(launch, reads=((index, (0,) * len(strides or ())), *rest))

    patch.setattr(fusing, "launch_of", launch_of)


def _one_place_short(patch: pytest.MonkeyPatch) -> None:
    """What the vectors leave of a line is one place short."""
    original = loops._Loops._lines

    def lines(self: Any, scope: Any, axis: str, start: str, stop: str, body: Callable[..., None]) -> None:
        original(self, scope, axis, start, f"{stop} - (n_{axis} > 2)", body)

    patch.setattr(loops._Loops, "_lines", lines)


def _last_addend(patch: pytest.MonkeyPatch) -> None:
    """A sum is the last of its addends."""
    patch.setattr(loops, "_STEPS", {"sum": "{v}", "prod": "{v}"})


def _not_written(patch: pytest.MonkeyPatch) -> None:
    """What is read outside of a region does not leave it: an operand is given in its place."""
    original = fusing._Bound.__call__

    def call(self: Any, arrays: Any, places: Any, specs: Any) -> Any:
        results = original(self, arrays, places, specs)
        same = next((a for a in arrays if getattr(a, "shape", None) == results[0].shape), None)
        return results if same is None or same.dtype is not results[0].dtype else [same, *results[1:]]

    patch.setattr(fusing._Bound, "__call__", call)


FAULTS = (_other_rows, _one_place_short, _last_addend, _not_written)


@pytest.fixture(params=FAULTS, ids=lambda f: f.__name__.strip("_"))
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    request.param(monkeypatch)
    return request.param.__doc__ or ""


def test_each_fault_is_noticed(fault: str, subject: Subject) -> None:
    assert failed(subject), f"not noticed: {fault}"
