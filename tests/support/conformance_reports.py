"""A report of a conformance run that never was: every status, every kind, some thousand cases; always the same."""

from __future__ import annotations

import random
from typing import Any, Final

from plugrad.dispatch.statement import all_ops
from plugrad_conformance.report.document import digest
from plugrad_conformance.report.levels import count, level_reached

FAILURE: Final = "vjp/softmax/float32"
"""A case that failed, on L2."""

HOSTILE: Final = "layout/softmax/float32/transposed"
"""A case that failed with a message made to break pages."""

HOSTILE_MESSAGE: Final = (
    "<script>alert(1)</script><img src=x onerror=alert(2)> </script><!-- {{report}} {{script}} ' \" & \u2028"
)

UNSUPPORTED: Final = "forward/add/float16"
"""A case that the device does not support, on L3."""

WAIVED: Final = "special/pow/float32"
"""A case with a waiver, on L3."""

FLOATS: Final = ("float32", "float64", "float16", "bfloat16")
INTEGERS: Final = ("int32", "int64", "uint8", "bool")
LAYOUTS: Final = ("transposed", "stepped", "negative", "broadcast", "offset")
OTHERS: Final = {
    "memory": (0, ("host-is-copied", "zero-bytes", "round-trip", "guard-bands", "slices", "copy", "stats")),
    "plugin": (0, ("loads", "names-its-devices", "kernels-name-ops", "capabilities-hold")),
    "training": (2, ("multilayer-perceptron", "convolution", "transformer", "recurrent")),
    "queue": (4, ("read-after-write", "free-in-flight", "late-read")),
    "threads": (4, ("two-threads", "eight-threads")),
    "leak": (4, ("forward", "backward", "training")),
    "random": (4, ("bits", "uniform", "normal", "streams", "permutation")),
    "devices": (4, ("two-devices", "copy-between")),
}
_FIRST: Final = ("add", "softmax", "pow", "matmul", "conv", "log_softmax", "equal", "sum")


def make_report(ops: int = 400, *, seed: int = 3, faults: bool = True) -> dict[str, Any]:
    """A consistent report over at most ``ops`` ops: one that reaches L1, or without faults L4."""
    rng = random.Random(seed)
    every = list(all_ops())
    names = [*_FIRST, *(n for n in every if n not in _FIRST and ".vjp" not in n)][:ops]
    differentiable = {n.partition(".vjp")[0] for n in every if ".vjp" in n} | {"conv"}
    cases = [
        _case(rng, id, level, op) for op in names for id, level in _cases_of(op, op in differentiable, rng)
    ]
    for kind, (level, subjects) in OTHERS.items():
        cases += [_case(rng, f"{kind}/{s}", level, None) for s in subjects]
    waivers = []
    if faults:
        by_id = {c["id"]: c for c in cases}
        waivers = _break(by_id, rng)
    device: dict[str, Any] = {
        "name": "example:0",
        "backend": "example",
        "distribution": "plugrad-example-backend",
        "version": "0.3.1",
        "description": "Example accelerator with 8 units, driver 2.4",
        "dtypes": [*FLOATS, *INTEGERS],
        "devices": 2,
    }
    sources: dict[str, dict[str, int]] = {}
    for case in cases:
        if case["op"] is not None:
            of_op = sources.setdefault(case["op"], {"kernel": 0, "body": 0, "fallback": 0})
            for source, calls in case["sources"].items():
                of_op[source] += calls
    document: dict[str, Any] = {
        "format": 1,
        "plugrad": "0.1.0",
        "suite": f"{seed:02x}" * 32,
        "created": "2026-11-24T12:00:00Z",
        "device": device,
        "environment": {"python": "3.11.2", "platform": "Linux-6.1-x86_64", "numpy": "2.4.6"},
        "asked": {"level": "L4", "ops": [], "cases": None, "jobs": 2, "limit": 60.0},
        "filtered": False,
        "levels": count(cases, "L4"),
        "claimed": "L2",
        "waivers": waivers,
        "sources": sources,
        "seconds": 201.3,
        "cases": cases,
    }
    document["reached"] = level_reached(
        document["levels"], dtypes=device["dtypes"], devices=2, filtered=False
    )
    document["digest"] = digest(document)
    return document


def _cases_of(op: str, differentiable: bool, rng: random.Random) -> list[tuple[str, int]]:
    """The ids of an op's cases, each with its level."""
    found = []
    for dtype in FLOATS:
        found.append((f"forward/{op}/{dtype}", 1 if dtype == "float32" else 3))
        if differentiable:
            found.append((f"vjp/{op}/{dtype}", 2 if dtype == "float32" else 3))
    if rng.random() < 0.5 or op in _FIRST:
        found += [(f"forward/{op}/{dtype}", 3) for dtype in INTEGERS]
    found += [(f"special/{op}/{dtype}", 3) for dtype in FLOATS]
    subjects = (op, f"{op}.vjp") if differentiable else (op,)
    for subject in subjects:
        for dtype in ("float32", "float64"):
            found += [(f"layout/{subject}/{dtype}/{layout}", 3) for layout in LAYOUTS]
        found += [(f"into/{subject}/float32", 3), (f"determinism/{subject}/float32", 3)]
    return [*found, (f"error/{op}", 1)]


def _case(rng: random.Random, id: str, level: int, op: str | None) -> dict[str, Any]:
    kind, subject, *rest = id.split("/")
    dtype = rest[0] if rest else None
    vjp = kind == "vjp" or subject.endswith(".vjp")
    samples = rng.randint(3, 24)
    kernel = 0 if op is None or rng.random() < 0.1 else samples
    worst, unit = {
        "forward": (round(rng.random() ** 3 * 4, 3), "ULP"),
        "vjp": (round(rng.random(), 4), "bound"),
    }.get(kind, (None, None))
    if dtype in INTEGERS and worst is not None:
        worst = 0.0
    skipped = kind == "layout" and rest[1] == "negative" and rng.random() < 0.3
    return {
        "id": id,
        "kind": kind,
        "op": op,
        "direction": None if op is None else "vjp" if vjp else "forward",
        "dtype": dtype,
        "level": level,
        "status": "not_exercised" if skipped else "passed",
        "message": "the backend copies instead of making a view with a negative stride" if skipped else "",
        "worst": worst,
        "unit": unit,
        "seconds": round(rng.expovariate(80), 5),
        "samples": samples,
        "sources": {"kernel": kernel, "body": 0 if op is None else samples - kernel, "fallback": 0},
    }


def _break(cases: dict[str, dict[str, Any]], rng: random.Random) -> list[dict[str, Any]]:
    """Let some cases fail; the waivers among them."""
    failed = rng.sample([i for i, c in cases.items() if c["level"] > 1 and c["op"]], len(cases) // 400)
    for id in failed:
        message = f"sample 4: got {rng.random():.6g}, wanted {rng.random():.6g} at [3, 17]; the error is over the bound"
        cases[id].update(
            status="failed", message=message, worst=round(2 + rng.expovariate(0.1), 2), unit="bound"
        )
    wrong = (
        "sample 2 of softmax(x: float32[3, 5], axis=1):\n  got    0.2500012\n  wanted 0.25\n  at     [0, 4]"
    )
    cases[FAILURE].update(status="failed", message=wrong, worst=12.5, unit="bound")
    cases[HOSTILE].update(status="failed", message=HOSTILE_MESSAGE, worst="inf", unit="ULP")
    for id in (UNSUPPORTED, "vjp/conv/bfloat16", "vjp/conv/float16"):
        message = "UnsupportedOp: example:0 has no kernel for it in this dtype, and no body runs"
        cases[id].update(status="unsupported", message=message, worst=None, unit=None)
    reason = "the unit flushes subnormal numbers to zero"
    cases[WAIVED].update(status="waived", message=f"{reason}; got 0.0, wanted 1.4e-45", worst=4.0, unit="ULP")
    return [{"case": WAIVED, "reason": reason, "unexpected_pass": False}]
