"""How what a captured function costs grows with it: ``python growth.py NODES`` prints JSON, seconds by figure.

The function is a chain of products of small matrices with hyperbolic tangents between them, which no pass makes shorter.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
from processes import threads

import plugrad as pg
from plugrad.backend import backend_of, current_device

SIDE, REPLAYS = 16, 20


def measure(nodes: int) -> dict[str, float]:
    """Seconds of the capture with the first run, until a call is a replay, and of a replay, its call apart."""
    weight = pg.asarray(np.eye(SIDE, dtype=np.float32))
    x = pg.asarray(np.ones((SIDE, SIDE), np.float32))
    device = current_device()

    @pg.jit
    def chain(x: pg.Tensor) -> pg.Tensor:
        for _ in range(nodes // 2):
            x = pg.tanh(x @ weight)
        return x

    def timed() -> tuple[float, float]:
        start = time.perf_counter()
        chain(x)
        called = time.perf_counter() - start
        backend_of(device).synchronize(device)
        return called, time.perf_counter() - start

    first = timed()[1]
    ready = first + sum(timed()[1] for _ in range(3))
    calls, replays = zip(*(timed() for _ in range(REPLAYS)), strict=True)
    return {
        "first": first,
        "ready": ready,
        "call": float(np.median(calls)),
        "replay": float(np.median(replays)),
    }


if __name__ == "__main__":
    threads()
    print(json.dumps(measure(int(sys.argv[1]))))
