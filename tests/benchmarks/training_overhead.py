"""What replay costs beside the kernels: a plan of kernels that give at once what they computed the first time."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import training_plugrad
from training_cases import Case

from plugrad.graph import plan


def _remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    result: list[Any] = []

    def run(*args: Any, **kwargs: Any) -> Any:
        if not result:
            result.append(function(*args, **kwargs))
        return result[0]

    return run


def measure(case: Case, replays: int = 200) -> dict[str, float]:
    """Nodes of the plan, seconds of the first call, which captures and plans, and seconds of a replay without kernels.

    A replay binds cells and runs the line of calls. A call of a kernel that remembers is a part of it, so that the
    figure is above what it stands for.
    """
    found = plan.kernel_of

    def remembering(*args: Any) -> Any:
        return dataclasses.replace(kernel := found(*args), function=_remembering(kernel.function), bare=None)

    step, nodes = training_plugrad.build(case, "captured")
    plan.kernel_of = remembering
    start = time.perf_counter()
    step()
    first = time.perf_counter() - start
    times = []
    for _ in range(replays):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"nodes": nodes(), "first": first, "seconds": float(np.median(times))}
