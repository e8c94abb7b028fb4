"""Training steps in plugrad, PyTorch, JAX and tinygrad: time, memory, the first step, losses, and what plugrad's plan costs.

``python training.py PEER CASE`` measures one peer in this process and prints JSON; see `training_report` for the
whole, and `training_cases` for the steps.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from processes import threads
from training_cases import CASES, Case

PEERS = {
    "plugrad": ("training_plugrad", "captured"),
    "plugrad eager": ("training_plugrad", "eager"),
    "torch": ("training_torch", "default"),
    "torch fused": ("training_torch", "fused"),
    "torch channels last": ("training_torch", "channels_last"),
    "jax": ("training_jax", "default"),
    "jax channels last": ("training_jax", "channels_last"),
    "tinygrad": ("training_tinygrad", "default"),
}
"""A module and its variant."""

COMPARED = 5
"""Steps whose losses are kept."""

STEPS, SECONDS, AT_MOST = 20, 1.0, 2000
"""Timed steps: so many at least, for so long, at most so many."""


def memory(key: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process, bytes; 0 where the system does not tell."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def forget_peak() -> None:
    """Let ``VmHWM`` begin anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def one(peer: Any, step: Callable[[], Any]) -> tuple[float, float]:
    """Seconds until the call of a step returns, and until its result is there."""
    start = time.perf_counter()
    result = step()
    called = time.perf_counter() - start
    peer.wait(result)
    return called, time.perf_counter() - start


def compared(peer: Any, step: Callable[[], Any]) -> float:
    """The loss of a step; of long results the sum of the means of their beginnings."""
    return sum(float(np.mean(a.reshape(-1)[:65536], dtype=np.float64)) for a in peer.read(step()))


def measure(peer: Any, case: Case, variant: str, count: int) -> dict[str, Any]:
    """The figures of one peer on one case."""
    case.example()
    peer.prepare(count)
    forget_peak()
    idle = memory("VmRSS")
    step, nodes = peer.build(case, variant)
    start = time.perf_counter()
    losses = [compared(peer, step)]
    first = time.perf_counter() - start
    losses += [compared(peer, step) for _ in range(COMPARED - 1)]
    ready = time.perf_counter() - start
    began = time.perf_counter()
    while time.perf_counter() - began < SECONDS / 4:
        one(peer, step)
    began, times = time.perf_counter(), []
    while len(times) < STEPS or (time.perf_counter() - began < SECONDS and len(times) < AT_MOST):
        times.append(one(peer, step))
    calls, steps = zip(*times, strict=True)
    return {
        "median": float(np.median(steps)),
        "fastest": min(steps),
        "call": float(np.median(calls)),
        "steps": len(steps),
        "first": first,
        "ready": ready,
        "peak": memory("VmHWM") - idle,
        "losses": losses,
        "nodes": nodes(),
        "version": peer.describe(),
    }


def machine(count: int) -> dict[str, Any]:
    """The rates that the floors of all cases are made of."""
    import training_machine

    copies = {name: training_machine.copy(case.traffic(), count) for name, case in CASES.items()}
    return {"products": training_machine.products(), "copies": copies}


def main() -> None:
    """Measure what the arguments say."""
    name, *cases = sys.argv[1:]
    count = threads()
    found: Any
    if name == "machine":
        found = machine(count)
    elif name == "overhead":
        import training_overhead

        found = training_overhead.measure(CASES[cases[0]])
    else:
        module, variant = PEERS[name]
        found = measure(importlib.import_module(module), CASES[cases[0]], variant, count)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
