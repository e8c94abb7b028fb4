"""Measurements run in processes of their own, which all get the same threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NPROC",
    "POCL_MAX_PTHREAD_COUNT",
)
"""What OpenMP, OpenBLAS, MKL, XLA and PoCL read."""


def measured(
    script: str, arguments: list[str], threads: int, variables: Mapping[str, str] | None = None
) -> Any:
    """What a script of this folder prints as JSON in the last line of its output.

    Args:
        script: the file.
        arguments: what it is called with.
        threads: how many it has.
        variables: of the environment, beside those that are here.
    """
    environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads)), **(variables or {})}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / script), *arguments],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def threads() -> int:
    """In such a process: its threads, after leaving to it that many processors and no more."""
    count = int(os.environ[_THREADS[0]])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
    return count
