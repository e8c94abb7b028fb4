"""What the record saves is freed as backward passes it, on a device whose memory is the host's."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import grad, value_and_grad, vjp
from plugrad.backend import backend_of, resolve_device
from plugrad.dispatch.data import wrap
from plugrad.dispatch.record import Function

SIZE = 1 << 16
LENGTH = 16


@pytest.fixture(autouse=True)
def _measured(device: str) -> Iterator[None]:
    where = resolve_device(device)
    if not backend_of(where).capabilities(where).host_memory:
        pytest.skip("the memory of this device is not the host's")
    gc.collect()
    gc.disable()
    with pg.use_device(device):
        tracemalloc.start()
        yield
        tracemalloc.stop()
    gc.enable()


def in_use() -> float:
    """Memory in use, in tensors of the chain."""
    return tracemalloc.get_traced_memory()[0] / (8 * SIZE)


def chain(x: Any) -> Any:
    for _ in range(LENGTH):
        x = pg.tanh(x)  # saves its result
    return x


def start() -> pg.Tensor:
    return pg.asarray(np.full(SIZE, 0.5))


def test_saved_values_are_freed_as_backward_passes() -> None:
    pg.sum(chain(start().requires_grad_())).backward()  # what is settled once is kept
    x = start().requires_grad_()
    before = in_use()
    h, seen = x, []

    def back(cts: Any, create: bool) -> Any:
        seen.append(in_use() - before)
        return [cts[0]]

    def measured(h: Any) -> Any:
        return wrap(h._array, h.spec, Function("measure", (h._node,), (h.spec,), back))

    for _ in range(LENGTH):
        h = measured(pg.tanh(h))
    recorded = in_use() - before
    assert LENGTH <= recorded < LENGTH + 1
    end = pg.sum(h)
    del h
    end.backward()
    left = in_use() - before
    # One cotangent comes in as the saved values go.
    np.testing.assert_allclose(seen, np.arange(LENGTH, 0, -1), atol=2.5)
    assert seen[-1] < 3.5
    assert left < 1.1  # the gradient


@pytest.mark.parametrize(
    "use",
    [
        lambda x: chain(x.requires_grad_()),
        lambda x: pg.sum(chain(x.requires_grad_())).backward(),
        lambda x: grad(lambda x: pg.sum(chain(x)))(x),
        lambda x: value_and_grad(lambda x: pg.sum(chain(x)))(x),
        lambda x: vjp(chain, x)[1](x),
        lambda x: grad(lambda x: pg.sum(grad(lambda x: pg.sum(chain(x)))(x)))(x),
    ],
)
def test_everything_is_freed_without_the_collector(use: Callable[[Any], Any]) -> None:
    use(start())  # what is settled once is kept
    before = in_use()
    result = use(start())
    del result
    assert in_use() - before < 0.1


def test_backward_needs_little_more_than_what_was_saved() -> None:
    x = start().requires_grad_()
    pg.sum(chain(x)).backward()
    x.grad = None
    before = in_use()
    end = pg.sum(chain(x))
    tracemalloc.reset_peak()
    end.backward()
    peak = tracemalloc.get_traced_memory()[1] / (8 * SIZE) - before
    assert peak < LENGTH + 4
