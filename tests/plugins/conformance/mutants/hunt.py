"""Hunt every mutant on two processes, and write the page that tells what became of them.

python tests/plugins/conformance/mutants/hunt.py [--op NAME ...] [--fault NAME ...] [--json FILE]

With --op or --fault the page stays as it is, and faults written by hand are left out.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE: Final = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[3]))

from plugins.conformance.mutants import by_hand, hunting, page  # noqa: E402
from plugins.conformance.mutants.core_faults import CORE_FAULTS  # noqa: E402
from plugins.conformance.mutants.faults import mutants  # noqa: E402
from plugins.conformance.mutants.processes import CASE, PROCESS_FAULTS  # noqa: E402
from plugins.conformance.mutants.whole import CORRECT, WHOLE  # noqa: E402
from plugrad.dispatch.statement import all_ops  # noqa: E402

JOBS: Final = 2
PAGE: Final = HERE.parents[4] / "docs" / "explanation" / "what-the-suite-catches.md"
_hunter: hunting.Hunter | None = None


def hunter() -> hunting.Hunter:
    """This process's hunter."""
    global _hunter
    if _hunter is None:
        _hunter = hunting.Hunter()
    return _hunter


def check(name: str) -> tuple[int, list[str]]:
    """Run the cases of an op, or with the empty name those of none, on the correct backend, wrapped."""
    h = hunter()
    h.wrapped()
    cases = h.cases([name]) if name else h.whole
    try:
        return len(cases), h.baseline(cases)
    finally:
        h.unwrapped()


def hunt(job: tuple[str, tuple[str, ...]]) -> list[hunting.Verdict]:
    """Hunt the mutants of an op, those of some faults or of all."""
    name, faults = job
    op = all_ops()[name]
    return [hunter().hunt(m) for m in mutants() if m.op is op and (not faults or m.fault.name in faults)]


def main() -> int:
    """0 where the aims are met, 1 where they are not."""
    parser = argparse.ArgumentParser(description="Hunt mutants with the conformance suite.")
    parser.add_argument(
        "--op", action="append", default=[], help="an op, or the op of a rule; all by default"
    )
    parser.add_argument("--fault", action="append", default=[], help="a kind of fault; all by default")
    parser.add_argument("--json", type=Path, help="where to write every verdict")
    given = parser.parse_args()
    start = time.monotonic()
    names = list(dict.fromkeys(m.op.name for m in mutants() if not given.op or m.op.name in given.op))
    with multiprocessing.get_context("spawn").Pool(JOBS) as pool:
        owners = list(dict.fromkeys((all_ops()[n].owner or all_ops()[n]).name for n in names))
        count = 0
        wrong: list[str] = []
        for ran, failed in pool.imap_unordered(check, ["", *owners]):
            count += ran
            wrong += failed
        print(f"the correct backend: {count} cases, {len(wrong)} fail, {time.monotonic() - start:.0f} s")
        for line in wrong:
            print("  ", line)
        if wrong:
            return 1
        faults = tuple(given.fault)
        verdicts = []
        for found in pool.imap_unordered(hunt, [(n, faults) for n in names]):
            verdicts += found
    order = {m.id: i for i, m in enumerate(mutants())}
    verdicts.sort(key=lambda v: order[v.id])
    if given.json:
        given.json.write_text(json.dumps([asdict(v) for v in verdicts], indent=1))
    total, killed = Counter(v.fault for v in verdicts), Counter(v.fault for v in verdicts if v.killed_by)
    for fault, n in total.items():
        print(f"{fault:20} {killed[fault]:4} / {n:4}")
    complete = not given.op and not given.fault
    wrong = page.shortfalls(verdicts, complete=complete)
    if complete:
        rows, unnoticed = written_by_hand()
        wrong += unnoticed
        page.write(PAGE, page.table(verdicts, rows))
    print(f"{sum(killed.values())} / {sum(total.values())} in {time.monotonic() - start:.0f} s")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


def written_by_hand() -> tuple[dict[str, list[tuple[str, str]]], list[str]]:
    """What notices the faults that are written by hand, by group, and those that are not noticed."""
    rows: dict[str, list[tuple[str, str]]] = {}
    unnoticed: list[str] = []

    def take(group: str, meaning: str, cases: Sequence[str], missed: Sequence[str]) -> None:
        rows.setdefault(group, []).append((meaning, cases[0]))
        unnoticed.extend(f"not noticed: {meaning}: {c}" for c in missed)

    every = sorted({c for w in WHOLE for c in w.killed_by})
    for i, (what, make) in enumerate(CORRECT.items()):
        unnoticed.extend(
            f"{what}, without a fault: {told}" for told in by_hand.correct(make, f"right{i}", every)
        )
    for i, fault in enumerate(WHOLE):
        take(
            "Faults of a backend as a whole",
            fault.meaning,
            fault.killed_by,
            by_hand.whole(fault, f"wrong{i}"),
        )
    for process in PROCESS_FAULTS:
        missed = () if by_hand.process(process) else (CASE,)
        take("Faults that take the process along, noticed by what runs it", process.meaning, (CASE,), missed)
    for meaning, (block, cases) in CORE_FAULTS.items():
        take("Faults of the core", meaning, cases, by_hand.core(block, cases))
    return rows, unnoticed


if __name__ == "__main__":
    sys.exit(main())
