"""Updates of optimizers, in chunks: no pass makes an array of the parameter's size.

Each is made of as few ufuncs as there are. Large parameters are spread over threads, in chunks so long that the threads
seldom meet at the interpreter lock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad_numpy import _parallel
from plugrad_numpy._chunks import memory_order
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels._table import table

Array = Any
Update = Callable[..., None]
"""Takes the operands, the results, and a scratch array for each of those that `_run` is asked for."""

CHUNK: Final = 1 << 18
"""Elements of a chunk. Adam with 2^20 elements of float32 takes 1.0 ms on two threads, and 3.3 ms in chunks of 2^14; on
one thread 1.8 and 2.2 ms."""

_SHARED: Final = 1 << 18
"""Elements from which the work is shared among threads."""

_WORTH: Final = 1 << 15
"""Elements that a thread works through while another wakes up."""

_SMALL: Final = 1 << 14
"""Elements up to which fresh memory costs less than that of `scratch`."""


def _wide(specs: Any, attributes: Any) -> bool:
    """These kernels take float32 and float64; 16-bit parameters go through the body."""
    del attributes
    return bool(specs[0].dtype.itemsize >= 4)


@lru_cache(256)
def _constant(value: float, dtype: Any) -> Array:
    """``value`` as an array of 0 axes, which a ufunc takes 0.3 us faster than a number."""
    return np.asarray(value, dtype)


def _results(like: Array, into: Any, count: int) -> Sequence[Array]:
    if into is None:
        return [np.empty_like(like, subok=False) for _ in range(count)]
    return into if isinstance(into, (tuple, list)) else (into,)


def _decayed(param: Array, grad: Array, weight_decay: Array | None, spare: Array) -> Array:
    """The gradient with the decay added, in ``spare`` where there is any."""
    if weight_decay is None:
        return grad
    np.multiply(param, weight_decay, spare)
    return np.add(spare, grad, spare)


def _run(update: Update, operands: Sequence[Array], results: Sequence[Array], spares: int) -> None:
    """Call ``update`` on chunks of everything, all of one shape and dtype."""
    first = results[0]
    size, dtype = first.size, first.dtype
    direct = True
    for a in (*operands, *results):
        direct = direct and a.flags.c_contiguous
    if direct and size <= _SMALL:
        # As it is: what follows costs more than the arithmetic of a small parameter.
        update(operands, results, [np.empty(first.shape, dtype) for _ in range(spares)])
        return
    order = None if direct else memory_order(first)
    flat = [_flat(a, order) for a in operands]
    outs = [r.reshape(-1) if direct else _target(r, order) for r in results]

    def work(part: slice) -> None:
        length = part.stop - part.start
        count = -(-length // CHUNK)
        for i in range(count):
            cut = slice(part.start + length * i // count, part.start + length * (i + 1) // count)
            made = [scratch(str(k), (cut.stop - cut.start,), dtype) for k in range(spares)]
            update([a[cut] for a in flat], [a[cut] for a in outs], made)

    if size < _SHARED or _parallel.is_inside():
        work(slice(0, size))
    else:
        _parallel.run(work, _parallel.pieces(size, _WORTH))
    if direct:
        return
    for r, o in zip(results, outs, strict=True):
        if not np.may_share_memory(r, o):
            np.copyto(
                r if order is None else r.transpose(order),
                o.reshape([r.shape[i] for i in order or range(r.ndim)]),
            )


def _flat(array: Array, order: tuple[int, ...] | None) -> Array:
    """The elements in the order of memory of the first result; a copy where this one's is another."""
    return (array if order is None else array.transpose(order)).reshape(-1)


def _target(array: Array, order: tuple[int, ...] | None) -> Array:
    """Where the elements of a result go in that order: a view, or new memory where there can be none."""
    ordered = array if order is None else array.transpose(order)
    return ordered.reshape(-1) if ordered.flags.c_contiguous else np.empty(array.size, array.dtype)


@table(ops.sgd_update, when=_wide, inplace=("param",), spreads=True)
@silent
def _(param: Array, grad: Array, lr: Array, *, weight_decay: float, into: Array | None = None) -> Array:
    rate = float(lr)
    results = _results(param, into, 1)
    step = np.asarray(rate, param.dtype)
    keep = np.asarray(1 - rate * weight_decay, param.dtype) if weight_decay else None

    def update(given: Sequence[Array], out: Sequence[Array], spare: Sequence[Array]) -> None:
        (p, g), (p_new,), (t,) = given, out, spare
        np.multiply(g, step, t)
        if keep is not None:
            p = np.multiply(p, keep, p_new)
        np.subtract(p, t, p_new)

    _run(update, (param, grad), results, 1)
    return results[0]


@table(ops.sgd_momentum_update, when=_wide, inplace=("param", "velocity"), spreads=True)
@silent
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
    dtype = param.dtype
    rate = np.asarray(float(lr), dtype)
    share = None if not dampening or float(step) == 1 else _constant(1.0 - dampening, dtype)
    decay = _constant(weight_decay, dtype) if weight_decay else None
    kept = _constant(momentum, dtype)
    results = _results(param, into, 2)

    def update(given: Sequence[Array], out: Sequence[Array], spare: Sequence[Array]) -> None:
        (p, g, v), (p_new, v_new), (t, *more) = given, out, spare
        g = _decayed(p, g, decay, more[0] if more else t)
        np.multiply(v, kept, v_new)
        np.add(v_new, g if share is None else np.multiply(g, share, t), v_new)
        if nesterov:
            np.multiply(v_new, kept, t)
            np.add(t, g, t)
            np.multiply(t, rate, t)
        else:
            np.multiply(v_new, rate, t)
        np.subtract(p, t, p_new)

    # The decayed gradient is read after ``t`` is written.
    _run(update, (param, grad, velocity), results, 2 if decay is not None and nesterov else 1)
    return tuple(results)


@table(ops.adam_update, when=_wide, inplace=("param", "mean", "square"), spreads=True)
@silent
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
    dtype = param.dtype
    rate, count = float(lr), float(step)
    root = math.sqrt(1 - beta2**count)
    # size * m / (sqrt(v) / root + eps), with root taken out of the denominator.
    size = np.asarray(rate / (1 - beta1**count) * root, dtype)
    least = np.asarray(eps * root, dtype)
    keep = np.asarray(1 - rate * weight_decay, dtype) if decoupled and weight_decay else None
    decay = _constant(weight_decay, dtype) if weight_decay and not decoupled else None
    kept1, kept2 = _constant(beta1, dtype), _constant(beta2, dtype)
    share1, share2 = _constant(1 - beta1, dtype), _constant(1 - beta2, dtype)
    results = _results(param, into, 3)

    def update(given: Sequence[Array], out: Sequence[Array], spare: Sequence[Array]) -> None:
        (p, g, m, v), (p_new, m_new, v_new), (t, *more) = given, out, spare
        if decay is not None:
            g = _decayed(p, g, decay, more[0])
        np.multiply(g, share1, t)
        np.multiply(m, kept1, m_new)
        np.add(m_new, t, m_new)
        np.multiply(g, g, t)
        np.multiply(t, share2, t)
        np.multiply(v, kept2, v_new)
        np.add(v_new, t, v_new)
        np.sqrt(v_new, t)
        np.add(t, least, t)
        np.divide(m_new, t, t)
        np.multiply(t, size, t)
        if keep is not None:
            p = np.multiply(p, keep, p_new)
        np.subtract(p, t, p_new)

    _run(update, (param, grad, mean, square), results, 1 if decay is None else 2)
    return tuple(results)
