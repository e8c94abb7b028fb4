"""Hunt every mutant on two processes, and write the page that tells what became of them.

python tests/plugins/conformance/mutants/hunt.py [--op NAME ...] [--fault NAME ...] [--json FILE] [--no-page]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
HERE: Final = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parents[3]))

from plugins.conformance.mutants import hunting  # noqa: E402
from plugins.conformance.mutants.faults import mutants  # noqa: E402
from plugrad.dispatch.statement import all_ops  # noqa: E402

JOBS: Final = 2
_hunter: hunting.Hunter | None = None


def hunter() -> hunting.Hunter:
    """This process's hunter."""
    global _hunter
    if _hunter is None:
        _hunter = hunting.Hunter()
    return _hunter


def check(names: list[str]) -> tuple[dict[str, float], list[str]]:
    """Run the cases of some ops, or with the empty name those of none, on the correct backend, wrapped."""
    h = hunter()
    h.wrapped()
    try:
        wrong = h.baseline([c for n in names for c in (h.cases([n]) if n else h.whole)])
    finally:
        h.unwrapped()
    return h.seconds, wrong


def hunt(job: tuple[str, tuple[str, ...], dict[str, float]]) -> list[hunting.Verdict]:
    """Hunt the mutants of an op, those of some faults or of all."""
    name, faults, seconds = job
    h = hunter()
    h.seconds = seconds
    op = all_ops()[name]
    return [h.hunt(m) for m in mutants() if m.op is op and (not faults or m.fault.name in faults)]


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
        seconds: dict[str, float] = {}
        wrong: list[str] = []
        for took, failed in pool.imap_unordered(check, [[n] for n in ("", *owners)]):
            seconds.update(took)
            wrong += failed
        print(
            f"the correct backend: {len(seconds)} cases pass, {len(wrong)} fail, {time.monotonic() - start:.0f} s"
        )
        for line in wrong:
            print("  ", line)
        if wrong:
            return 1
        faults = tuple(given.fault)
        verdicts = []
        for found in pool.imap_unordered(hunt, [(n, faults, seconds) for n in names]):
            verdicts += found
    if given.json:
        given.json.write_text(json.dumps([asdict(v) for v in verdicts], indent=1))
    total, killed = Counter(v.fault for v in verdicts), Counter(v.fault for v in verdicts if v.killed_by)
    for fault, n in total.items():
        print(f"{fault:20} {killed[fault]:4} / {n:4}")
    print(f"{sum(killed.values())} / {sum(total.values())} in {time.monotonic() - start:.0f} s")
    for v in verdicts:
        if v.killed_by is None:
            print(f"survivor: {v.id}: {v.message}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
