"""What one op costs in eager mode: add of two 8x8 float32 tensors, and a chain of 100, forward and backward.

``python eager.py PEER`` prints JSON: seconds per op, by figure.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

CHAIN = 100


def per_call(function: Callable[[], object], calls: int, repeats: int = 15) -> float:
    """The median over ``repeats`` of the mean seconds of a call."""
    for _ in range(calls // 4 + 1):
        function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        times.append((time.perf_counter() - start) / calls)
    return float(np.median(times))


def plugrad(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The figures of plugrad."""
    import plugrad as pg

    x, y = pg.asarray(a), pg.asarray(b)
    leaf = pg.asarray(a).requires_grad_()
    ct = pg.asarray(np.ones_like(a))

    def chain() -> object:
        z = leaf
        for _ in range(CHAIN):
            z = z + y
        leaf.grad = None
        z.backward(ct)
        return leaf.grad

    return {
        "add": per_call(lambda: x + y, 5000),
        "add, recorded": per_call(lambda: leaf + y, 5000),
        "chain, forward and backward, per op": per_call(chain, 50) / CHAIN,
    }


def torch(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The figures of PyTorch."""
    import torch

    x, y = torch.from_numpy(a), torch.from_numpy(b)
    leaf = torch.from_numpy(a.copy()).requires_grad_()
    ct = torch.ones_like(x)

    def chain() -> object:
        z = leaf
        for _ in range(CHAIN):
            z = z + y
        leaf.grad = None
        z.backward(ct)
        return leaf.grad

    return {
        "add": per_call(lambda: x + y, 5000),
        "add, recorded": per_call(lambda: leaf + y, 5000),
        "chain, forward and backward, per op": per_call(chain, 50) / CHAIN,
    }


def autograd(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """The figures of HIPS autograd."""
    from autograd.core import make_vjp

    def chain(x: np.ndarray) -> np.ndarray:
        for _ in range(CHAIN):
            x = x + b
        return x

    ct = np.ones_like(a)

    def both() -> object:
        pull, _ = make_vjp(chain, a)
        return pull(ct)

    return {"chain, forward and backward, per op": per_call(both, 50) / CHAIN}


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    operands = [generator.standard_normal((8, 8)).astype(np.float32) for _ in range(2)]
    print(json.dumps({"plugrad": plugrad, "torch": torch, "autograd": autograd}[sys.argv[1]](*operands)))
