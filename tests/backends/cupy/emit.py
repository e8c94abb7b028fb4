"""Prints, as JSON, the texts of all kernels that the CUDA backend launches for the suite's cases and the benchmark's models.

Run on the stand-in, dry: what cases find does not count, as nothing is computed.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import cupy

import plugrad as pg
from plugrad_conformance.checks import all_cases
from plugrad_conformance.running import run_case
from plugrad_conformance.subject import Subject

KINDS = ("forward", "vjp", "captured", "sizes")


def main() -> None:
    """Run what launches kernels."""
    warnings.simplefilter("ignore")  # of numbers that were never computed
    subject = Subject("cupy")
    cupy.settings.dry = True
    for case in all_cases():
        if case.kind in KINDS:
            run_case(case, subject)
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    from training_cases import CASES
    from training_plugrad import build

    with pg.use_device("cupy"):
        for case in CASES.values():
            step, _ = build(case, "captured")
            for _ in range(2):
                step()
    json.dump(cupy.texts, sys.stdout)


if __name__ == "__main__":
    main()
