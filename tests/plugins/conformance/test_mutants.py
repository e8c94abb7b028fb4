"""The suite notices backends with a fault: a few of each kind here, all of them by ``mutants/hunt.py``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from plugins.conformance.mutants import by_hand, page, record
from plugins.conformance.mutants.core_faults import CORE_FAULTS
from plugins.conformance.mutants.faults import FAULTS, GARBAGE, Fault, Mutant, contiguous, memory_of, mutants
from plugins.conformance.mutants.hunting import Hunter
from plugins.conformance.mutants.processes import PROCESS_FAULTS, ProcessFault
from plugins.conformance.mutants.whole import CORRECT, WHOLE, Whole
from plugrad.dispatch.statement import all_ops
from plugrad_conformance.cases import Case

FEW = (
    "layer_norm.vjp",
    "softmax",
    "softmax.vjp.x",
    "add",
    "multiply.vjp.x1",
    "gather_nd",
    "sum",
    "permute_dims",
)
PAGE = Path(__file__).resolve().parents[3] / "docs" / "explanation" / "what-the-suite-catches.md"


@pytest.fixture(scope="module")
def hunter() -> Hunter:
    return Hunter()


# -- without a fault --


def test_the_correct_backend_passes_through_the_wrapper(hunter: Hunter) -> None:
    owners = {(all_ops()[n].owner or all_ops()[n]).name for n in FEW}
    hunter.wrapped()
    try:
        assert hunter.baseline(hunter.cases(owners)) == []
    finally:
        hunter.unwrapped()


@pytest.mark.parametrize("what", CORRECT)
def test_a_correct_backend_passes_what_others_fail(what: str) -> None:
    cases = sorted({c for w in WHOLE for c in w.killed_by if not c.startswith("leaks/")})
    assert by_hand.correct(CORRECT[what], f"correct{list(CORRECT).index(what)}", cases) == []


# -- generated --


def some(fault: Fault) -> list[Mutant]:
    """Up to three mutants with a fault, of three ops."""
    found = []
    known = page.reasons()
    for op in (all_ops()[n] for n in FEW):
        made = [Mutant(op, fault, p) for p in fault.places(op)]
        found += [m for m in made if m.id not in known][:1]
    return found[:3]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_each_kind_of_fault_is_noticed(fault: Fault, hunter: Hunter) -> None:
    chosen = some(fault)
    assert chosen
    for mutant in chosen:
        verdict = hunter.hunt(mutant)
        assert verdict.killed_by is not None, f"{mutant.id}: {verdict.message}"


def test_a_survivor_survives(hunter: Hunter) -> None:
    """What is not noticed is told, and whether it could have been: so a hunt can come out otherwise."""
    mutant = next(m for m in mutants() if m.id == "sgd_update: strides ignored (lr)")
    verdict = hunter.hunt(mutant)
    assert verdict.killed_by is None
    assert verdict.message == "never differs"
    assert page.shortfalls([verdict], complete=False) == []
    assert page.shortfalls([hunter.hunt(some(FAULTS[0])[0])], complete=False) == []


def test_the_backend_is_correct_again_after_a_hunt(hunter: Hunter) -> None:
    mutant = some(FAULTS[0])[0]
    assert hunter.hunt(mutant).killed_by
    cases: list[Case] = [c for c in hunter.ordered(mutant) if c.op][:3]
    assert hunter.baseline(cases) == []


def test_every_op_and_rule_that_may_have_a_kernel_has_mutants() -> None:
    made = {m.op for m in mutants()}
    assert made == set(record.targets())
    assert {m.fault for m in mutants()} == set(FAULTS)


def test_memory_read_as_if_it_were_contiguous() -> None:
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert contiguous(base) is base
    np.testing.assert_array_equal(contiguous(base.T), base.reshape(4, 3))
    np.testing.assert_array_equal(contiguous(base[:, ::2]), base.reshape(-1)[:6].reshape(3, 2))
    np.testing.assert_array_equal(contiguous(base[::-1, ::-1])[0], [11, GARBAGE, GARBAGE, GARBAGE])
    np.testing.assert_array_equal(memory_of(base[1:, ::2]), np.arange(12))


# -- by hand --


@pytest.mark.parametrize("fault", WHOLE, ids=lambda w: w.meaning)
def test_faults_of_whole_backends_are_noticed(fault: Whole) -> None:
    assert by_hand.whole(fault, f"faulty_whole{WHOLE.index(fault)}") == []


@pytest.mark.parametrize("meaning", CORE_FAULTS)
def test_faults_of_the_core_are_noticed(meaning: str) -> None:
    block, cases = CORE_FAULTS[meaning]
    assert by_hand.core(block, cases) == []


@pytest.mark.parametrize("fault", PROCESS_FAULTS, ids=lambda f: f.meaning)
def test_faults_that_take_the_process_along_are_noticed(fault: ProcessFault) -> None:
    assert by_hand.process(fault)


# -- the page --


def test_reasons_are_of_mutants_that_there_are() -> None:
    known = page.reasons()
    assert set(known) <= {m.id for m in mutants()}
    assert all(reason.strip() for reason in known.values())


def test_the_page_tells_of_every_fault_and_survivor() -> None:
    text = PAGE.read_text(encoding="utf-8")
    made = text.partition(page.BEGIN)[2].partition(page.END)[0]
    for fault in FAULTS:
        assert f"| {fault.name} | {fault.meaning} |" in made
    for name, reason in page.reasons().items():
        assert f"| `{name}` | {reason} |" in made
    meanings = [w.meaning for w in WHOLE] + [f.meaning for f in PROCESS_FAULTS] + list(CORE_FAULTS)
    for meaning in meanings:
        assert f"| {meaning} |" in made
