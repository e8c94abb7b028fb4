"""Updates of optimizers, in chunks that stay in cache from the first pass over them to the last."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from plugrad import ops
from plugrad_numpy.kernels._table import table

Array = Any

CHUNK = 16384
"""Elements of a chunk: five float32 arrays of it fill a third of a megabyte."""


def _wide(specs: Any, attributes: Any) -> bool:
    """These kernels take float32 and float64; 16-bit parameters go through the body."""
    del attributes
    return bool(specs[0].dtype.itemsize >= 4)


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1)


def _chunks(*arrays: Array) -> Iterator[list[Array]]:
    """The arrays, all of one size, a chunk of each at a time."""
    for start in range(0, arrays[0].size, CHUNK):
        yield [a[start : start + CHUNK] for a in arrays]


def _results(like: Array, into: Any, count: int) -> list[Array]:
    if into is None:
        return [np.empty(np.shape(like), like.dtype) for _ in range(count)]
    return list(into) if isinstance(into, (tuple, list)) else [into]


def _gradient(grad: Array, param: Array, weight_decay: float, scratch: Array) -> Array:
    """The gradient with the decay added, in ``scratch`` where there is any."""
    if not weight_decay:
        return grad
    np.multiply(param, weight_decay, out=scratch)
    scratch += grad
    return scratch


def _run(function: Any, operands: tuple[Array, ...], results: list[Array], scratch: int) -> None:
    """Run ``function(operands, results, scratch)`` on the chunks of flat views of everything."""
    dtype = operands[0].dtype
    if results[0].size <= CHUNK and all(a.flags.c_contiguous for a in (*operands, *results)):
        # One chunk, as it is: what follows costs more than the arithmetic of a small parameter.
        shape = results[0].shape
        function(operands, results, [np.empty(shape, dtype) for _ in range(scratch)])
        return
    flats = [_flat(a) for a in operands]
    outs = [r.reshape(-1) if r.flags.c_contiguous else np.empty(r.size, dtype) for r in results]
    spare = [np.empty(min(CHUNK, outs[0].size), dtype) for _ in range(scratch)]
    for chunk in _chunks(*flats, *outs):
        n = chunk[0].size
        function(chunk[: len(flats)], chunk[len(flats) :], [s[:n] for s in spare])
    for r, o in zip(results, outs, strict=True):
        if not r.flags.c_contiguous:
            np.copyto(r, o.reshape(r.shape))


@table(ops.sgd_update, when=_wide, inplace=("param",))
def _(param: Array, grad: Array, lr: Array, *, weight_decay: float, into: Array | None = None) -> Array:
    rate = float(lr)
    results = _results(param, into, 1)

    def update(given: Sequence[Array], out: Sequence[Array], scratch: Sequence[Array]) -> None:
        p, g = given
        np.multiply(_gradient(g, p, weight_decay, scratch[0]), rate, out=scratch[0])
        np.subtract(p, scratch[0], out=out[0])

    _run(update, (param, grad), results, 1)
    return results[0]


@table(ops.sgd_momentum_update, when=_wide, inplace=("param", "velocity"))
def _(
    param: Array,
    grad: Array,
    velocity: Array,
    step: Array,
    lr: Array,
    *,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    into: Any = None,
) -> Any:
    rate = float(lr)
    share = 1.0 if float(step) == 1 else 1.0 - dampening
    results = _results(param, into, 2)

    def update(given: Sequence[Array], out: Sequence[Array], scratch: Sequence[Array]) -> None:
        (p, g, v), (p_new, v_new), (s, t) = given, out, scratch
        g = _gradient(g, p, weight_decay, s)
        np.multiply(v, momentum, out=v_new)
        if share == 1:
            v_new += g
        else:
            np.multiply(g, share, out=t)
            v_new += t
        if nesterov:
            np.multiply(v_new, momentum, out=t)
            t += g
            t *= rate
        else:
            np.multiply(v_new, rate, out=t)
        np.subtract(p, t, out=p_new)

    _run(update, (param, grad, velocity), results, 2)
    return tuple(results)


@table(ops.adam_update, when=_wide, inplace=("param", "mean", "square"))
def _(
    param: Array,
    grad: Array,
    mean: Array,
    square: Array,
    step: Array,
    lr: Array,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    into: Any = None,
) -> Any:
    rate, count = float(lr), float(step)
    size = rate / (1 - beta1**count)
    root = 1 / math.sqrt(1 - beta2**count)
    decay = 0.0 if decoupled else weight_decay
    keep = 1 - rate * weight_decay if decoupled else 1.0
    results = _results(param, into, 3)

    # size * m / (root * sqrt(v) + eps), with root taken out of the denominator.
    size, eps = size / root, eps / root
    rest1, rest2 = 1 - beta1, 1 - beta2

    def update(given: Sequence[Array], out: Sequence[Array], scratch: Sequence[Array]) -> None:
        (p, g, m, v), (p_new, m_new, v_new), (s, t) = given, out, scratch
        g = _gradient(g, p, decay, s)
        np.multiply(m, beta1, m_new)
        np.multiply(g, rest1, t)
        np.add(m_new, t, m_new)
        np.multiply(g, g, t)
        np.multiply(t, rest2, t)
        np.multiply(v, beta2, v_new)
        np.add(v_new, t, v_new)
        np.sqrt(v_new, t)
        np.add(t, eps, t)
        np.divide(m_new, t, t)
        np.multiply(t, size, t)
        if keep != 1:
            p = np.multiply(p, keep, p_new)
        np.subtract(p, t, p_new)

    _run(update, (param, grad, mean, square), results, 2)
    return tuple(results)
