"""Which cases of the suite notice a mutant: the cases of its op, likely ones first, until one fails."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from plugins.conformance.mutants import record
from plugins.conformance.mutants.backend import MutantBackend, Run, Signature, registered, unchanged
from plugins.conformance.mutants.faults import Mutant
from plugrad.dispatch.op import Op
from plugrad_conformance.cases import Case
from plugrad_conformance.checks import CHECKS, all_cases
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import WATCH, Subject

NAME: Final = "mutant"
LIMIT: Final = 60.0
"""Seconds for a case; a mutant that hangs is noticed."""

KINDS: Final = (
    "errors",
    "random",
    "forward",
    "sizes",
    "vjp",
    "training",
    "aliasing",
    "layout",
    "special",
    "into",
    "determinism",
)
"""The kinds of test that look at what ops compute."""

LIKELY: Final = {
    "strides ignored": ("layout",),
    "tail dropped": ("sizes",),
    "NaN swallowed": ("special",),
    "one buffer": ("aliasing",),
    "past the end": ("into",),
    "into ignored": ("into",),
}
"""The kinds that are tried first; for other faults those of plain results."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        op, fault, place: the mutant.
        killed_by: the first case that failed, or None.
        message: what that case said; of a survivor, whether a kernel ever did something else than the correct one.
        cases: how many cases ran.
        raised: the case failed because the mutant, on what it made of its call, raised.
    """

    op: str
    fault: str
    place: str
    killed_by: str | None
    message: str
    cases: int
    raised: bool = False

    @property
    def id(self) -> str:
        """The mutant's name."""
        return f"{self.op}: {self.fault}" + (f" ({self.place})" if self.place else "")


class Hunter:
    """A mutant backend of this process, and the cases to run on it.

    Attributes:
        backend: the backend.
    """

    def __init__(self) -> None:
        self.backend: MutantBackend = registered(NAME)
        self.subject = Subject(NAME)
        self.by_op: dict[str, list[Case]] = {}
        self.whole: list[Case] = []
        for case in all_cases():
            if case.kind in KINDS and case.kind in CHECKS:
                (self.by_op.setdefault(case.op, []) if case.op else self.whole).append(case)

    def cases(self, ops: Iterable[str] | None = None) -> list[Case]:
        """The cases of some ops; those of all, and those of none, by default."""
        if ops is None:
            return [*(c for cases in self.by_op.values() for c in cases), *self.whole]
        return [c for name in ops for c in self.by_op.get(name, ())]

    def wrapped(self) -> None:
        """Wrap every kernel, without a fault."""
        for op in record.targets():
            self.backend.mutate(op, unchanged)

    def unwrapped(self) -> None:
        """Take every wrapper off."""
        for op in record.targets():
            self.backend.mutate(op, None)

    def run(self, case: Case) -> dict[str, Any]:
        """Run a case, within the limit, and without warnings of what mutants compute."""
        WATCH.device = self.subject.device  # other devices may have been subjects since
        with warnings.catch_warnings(), limit(LIMIT):
            warnings.simplefilter("ignore")
            return run_case(case, self.subject)

    def baseline(self, cases: Iterable[Case]) -> list[str]:
        """Run cases on the correct backend; the names of those that fail there, with what they say."""
        wrong = []
        for case in cases:
            result = self.run(case)
            if result["status"] not in ("passed", "not_exercised"):
                wrong.append(f"{case.id}: {result['status']}: {result['message']}")
        return wrong

    def hunt(self, mutant: Mutant) -> Verdict:
        """Run the cases of the mutant's op until one fails."""
        self.backend.mutate(mutant.op, mutant.wrap)
        try:
            for count, case in enumerate(order := self.ordered(mutant), 1):
                result = self.run(case)
                if result["status"] in ("failed", "unsupported"):
                    return self._verdict(mutant, case.id, result["message"], count)
            differs = self.differs(mutant, order)
            return self._verdict(
                mutant, None, "differs, unnoticed" if differs else "never differs", len(order)
            )
        finally:
            self.backend.mutate(mutant.op, None)

    def ordered(self, mutant: Mutant) -> list[Case]:
        """The cases of the mutant's op, the likely ones first; then the cases of no op."""
        owner: Op[..., Any] = mutant.op.owner or mutant.op
        direction = "forward" if mutant.op.owner is None else "vjp"
        likely = LIKELY.get(mutant.fault.name, ("forward", "vjp"))
        double = mutant.fault.name == "tenth digit"

        def key(case: Case) -> tuple[bool, bool, bool]:
            other = double and case.dtype != "float64"
            return case.direction != direction, other, case.kind not in likely

        return [*sorted(self.by_op.get(owner.name, ()), key=key), *self.whole]

    def differs(self, mutant: Mutant, cases: Sequence[Case]) -> bool:
        """Whether in any of the cases a kernel of the mutant does something else than the correct one."""
        found: list[bool] = []

        def wrap(signature: Signature, run: Run) -> Run:
            faulty = mutant.wrap(signature, run)

            def kernel(*arrays: Any, into: Any = None, **attributes: Any) -> Any:
                wanted, before = _bytes(run(*arrays, **attributes)), _bytes(arrays)
                got = faulty(*arrays, into=into, **attributes)
                # Memory to write into may be an operand's.
                if _bytes(got) != wanted or (into is None and _bytes(arrays) != before):
                    found.append(True)
                return got

            return kernel

        self.backend.mutate(mutant.op, wrap)
        for case in cases:
            self.run(case)
            if found:
                return True
        return False

    @staticmethod
    def _verdict(mutant: Mutant, killed_by: str | None, message: str, cases: int) -> Verdict:
        raised = "Error: " in message and "(raised at " in message
        return Verdict(
            mutant.op.name, mutant.fault.name, mutant.place, killed_by, message[:400], cases, raised
        )


def _bytes(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_bytes(v) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        host = np.asarray(value)
        return host.dtype, host.shape, host.tobytes()
    return value


@contextmanager
def limit(seconds: float) -> Any:
    """A block that raises TimeoutError when it takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds:g} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
