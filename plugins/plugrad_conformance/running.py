"""Running one case in this process, and the record of what came of it."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from typing import Any

from plugrad.dispatch.observer import Source
from plugrad.dispatch.statement import all_ops
from plugrad.dtypes import ALL
from plugrad.errors import UnsupportedOp
from plugrad_conformance.cases import Case
from plugrad_conformance.checks import CHECKS
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure
from plugrad_conformance.subject import WATCH, Subject

_DTYPES = frozenset(d.name for d in ALL)


def run_case(case: Case, subject: Subject) -> dict[str, Any]:
    """Run a case on a device.

    Returns:
        Its record, as it stands in a report.
    """
    run = Run(case, subject)
    if case.op in (stated := all_ops()):
        # A rule that runs as its body is told of when its op is settled: each case settles it anew, so that what it
        # counts does not hang on the cases before it.
        stated[case.op].cache.clear()
    before = Counter(WATCH.calls)
    start = time.perf_counter()
    status, message = _outcome(run)
    seconds = time.perf_counter() - start
    sources = {s.value: 0 for s in Source}
    for (name, source), count in (WATCH.calls - before).items():
        if name == case.subject or (case.direction == "vjp" and name.startswith(f"{case.op}.vjp")):
            sources[source.value] += count
    if status == "passed" and sources[Source.FALLBACK]:
        status, message = "failed", "another device computed it: the fallback was used"
    return record(case, status, message, seconds=seconds, run=run, sources=sources)


def _outcome(run: Run) -> tuple[str, str]:
    """The status, and what is to be said of it."""
    case = run.case
    if case.dtype in _DTYPES and case.dtype not in {d.name for d in run.subject.capabilities.dtypes}:
        return "unsupported", f"the device has no {case.dtype}"
    try:
        with run.subject.watched():
            CHECKS[case.kind].run(run)
    except Failure as failure:
        return "failed", str(failure)
    except UnsupportedOp as error:
        return "unsupported", str(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = f" (raised at {frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        return "failed", f"{type(error).__name__}: {error}{where}"
    if run.not_exercised:
        return "not_exercised", run.not_exercised
    if not run.samples:
        return "not_exercised", "no sample applies to the device"
    return "passed", run.told


def record(
    case: Case,
    status: str,
    message: str,
    *,
    seconds: float = 0.0,
    run: Run | None = None,
    sources: dict[str, int] | None = None,
) -> dict[str, Any]:
    """What a report says of a case."""
    return {
        "id": case.id,
        "kind": case.kind,
        "op": case.op or None,
        "direction": case.direction or None,
        "dtype": case.dtype or None,
        "level": None if case.level is None else int(case.level),
        "status": status,
        "message": message,
        "worst": None if run is None else run.worst.value,
        "unit": None if run is None else run.worst.unit,
        "seconds": round(seconds, 6),
        "samples": 0 if run is None else run.samples,
        "sources": sources or {s.value: 0 for s in Source},
    }
