"""Running one case in this process, and the record of what came of it."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from typing import Any

from plugrad.dispatch.observer import Source
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
    before = Counter(WATCH.calls)
    start = time.perf_counter()
    status, message = "passed", ""
    missing = case.dtype in _DTYPES and case.dtype not in {d.name for d in subject.capabilities.dtypes}
    if missing:
        status, message = "unsupported", f"the device has no {case.dtype}"
    else:
        try:
            with subject.watched():
                CHECKS[case.kind].run(run)
        except Failure as failure:
            status, message = "failed", str(failure)
        except UnsupportedOp as error:
            status, message = "unsupported", str(error)
        except Exception as error:
            status = "failed"
            frames = traceback.extract_tb(error.__traceback__)
            where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "?"
            message = f"{type(error).__name__}: {error} (raised at {where})"
        else:
            message = run.told
            if run.not_exercised:
                status, message = "not_exercised", run.not_exercised
    seconds = time.perf_counter() - start
    ran = WATCH.calls - before
    sources = {s.value: 0 for s in Source}
    for (name, source), count in ran.items():
        if name == case.subject or (name.startswith(f"{case.op}.vjp") and case.direction == "vjp"):
            sources[source.value] += count
    return {
        "id": case.id,
        "kind": case.kind,
        "op": case.op or None,
        "direction": case.direction or None,
        "dtype": case.dtype or None,
        "level": None if case.level is None else int(case.level),
        "status": status,
        "message": message,
        "worst": run.worst.value,
        "unit": run.worst.unit,
        "seconds": round(seconds, 6),
        "samples": run.samples,
        "sources": sources,
    }
