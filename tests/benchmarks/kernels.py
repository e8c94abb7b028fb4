"""Heavy ops alone: products, convolution with its gradients, an activation, a softmax.

``python kernels.py PEER`` prints JSON: seconds of a call, by figure. plugrad runs on the device that ``PLUGRAD_DEVICE`` names.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from processes import threads

SECONDS, CALLS = 1.0, 5
"""Each figure is measured for so long, and so many calls at least."""

SIDES, IMAGES, WEIGHTS = (512, 1024), (32, 64, 28, 28), (64, 64, 3, 3)
LONG, TABLE = (1 << 24,), (16384, 1024)

Calls = Iterator[tuple[str, Callable[[], Any]]]
Wait = Callable[[Any], Any]


def median(function: Callable[[], Any], wait: Wait) -> float:
    """The median of the seconds from a call until its result is there."""
    for _ in range(3):
        wait(function())
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < CALLS or time.perf_counter() - began < SECONDS:
        start = time.perf_counter()
        wait(function())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def normal(shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Numbers to work on."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def plugrad() -> tuple[Calls, Wait]:
    """Op by op, each result in new memory."""
    import plugrad as pg
    from plugrad.backend import backend_of, current_device

    def calls() -> Calls:
        for n in SIDES:
            a, b = pg.asarray(normal((n, n))), pg.asarray(normal((n, n), 1))
            yield f"product {n}x{n}", lambda a=a, b=b: pg.matmul(a, b)
        x, w = pg.asarray(normal(IMAGES)), pg.asarray(normal(WEIGHTS))
        y, of_x = pg.vjp(lambda x: pg.conv(x, w, padding=1), x)
        _, of_w = pg.vjp(lambda w: pg.conv(x, w, padding=1), w)
        yield "conv", lambda: pg.conv(x, w, padding=1)
        yield "conv, of the data", lambda: of_x(y)
        yield "conv, of the weight", lambda: of_w(y)
        long, table = pg.asarray(normal(LONG)), pg.asarray(normal(TABLE))
        yield "GELU of 16M", lambda: pg.gelu(long, approximate="tanh")
        yield "softmax 16384x1024", lambda: pg.softmax(table, axis=-1)

    device = current_device()
    return calls(), lambda _: backend_of(device).synchronize(device)


def torch(variant: str) -> tuple[Calls, Wait]:
    """As plugrad; ``out`` writes into memory that is there, and has images in channels-last."""
    import torch as pt
    from torch.nn import functional as F

    pt.set_num_threads(threads())
    into = variant == "out"
    aten = pt.ops.aten

    def array(shape: tuple[int, ...], seed: int = 0) -> Any:
        return pt.from_numpy(normal(shape, seed))

    def image(shape: tuple[int, ...]) -> Any:
        return array(shape).to(memory_format=pt.channels_last) if into else array(shape)

    def gradient(mask: list[bool], y: Any, x: Any, w: Any) -> Any:
        return aten.convolution_backward(y, x, w, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, mask)

    def calls() -> Calls:
        for n in SIDES:
            a, b, c = array((n, n)), array((n, n), 1), pt.empty(n, n)
            yield f"product {n}x{n}", lambda a=a, b=b, c=c: pt.mm(a, b, out=c) if into else pt.mm(a, b)
        x, w = image(IMAGES), image(WEIGHTS)
        y = F.conv2d(x, w, padding=1)
        yield "conv", lambda: F.conv2d(x, w, padding=1)
        yield "conv, of the data", lambda: gradient([True, False, False], y, x, w)
        yield "conv, of the weight", lambda: gradient([False, True, False], y, x, w)
        long, table = array(LONG), array(TABLE)
        long_out, table_out = pt.empty_like(long), pt.empty_like(table)
        if into:
            yield "GELU of 16M", lambda: aten.gelu.out(long, approximate="tanh", out=long_out)
            yield "softmax 16384x1024", lambda: pt.softmax(table, -1, out=table_out)
        else:
            yield "GELU of 16M", lambda: F.gelu(long, approximate="tanh")
            yield "softmax 16384x1024", lambda: pt.softmax(table, -1)

    return calls(), lambda _: None


def tinygrad() -> tuple[Calls, Wait]:
    """Each call captured by `TinyJit`, which is the fastest that it has."""
    os.environ.setdefault("DEV", "CL")
    from tinygrad import Device, Tensor, TinyJit

    def jitted(function: Callable[..., Any], *arrays: Any) -> Callable[[], Any]:
        call = TinyJit(lambda *xs: function(*xs).realize())
        return lambda: call(*arrays)

    def array(shape: tuple[int, ...], seed: int = 0) -> Any:
        return Tensor(normal(shape, seed)).realize()

    def calls() -> Calls:
        for n in SIDES:
            yield f"product {n}x{n}", jitted(lambda a, b: a @ b, array((n, n)), array((n, n), 1))
        x, w = array(IMAGES), array(WEIGHTS)
        y = x.conv2d(w, padding=1).realize()
        yield "conv", jitted(lambda x, w: x.conv2d(w, padding=1), x, w)

        def of(which: str) -> Callable[..., Any]:
            def gradient(x: Any, w: Any, y: Any) -> Any:
                return x.conv2d(w, padding=1).gradient(x if which == "x" else w, gradient=y)[0]

            return gradient

        yield "conv, of the data", jitted(of("x"), x, w, y)
        yield "conv, of the weight", jitted(of("w"), x, w, y)
        yield "GELU of 16M", jitted(lambda x: x.gelu(), array(LONG))
        yield "softmax 16384x1024", jitted(lambda x: x.softmax(-1), array(TABLE))

    return calls(), lambda _: Device[Device.DEFAULT].synchronize()


PEERS = {
    "plugrad": plugrad,
    "torch": lambda: torch("default"),
    "torch out": lambda: torch("out"),
    "tinygrad": tinygrad,
}


if __name__ == "__main__":
    threads()
    figures, wait = PEERS[sys.argv[1]]()
    print(json.dumps({name: median(call, wait) for name, call in figures}))
