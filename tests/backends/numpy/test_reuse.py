"""Large results that leave a plan lie in memory that earlier ones gave back, and never in memory that is in use."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import plugrad as pg
from plugrad.backend import backend_of, resolve_device
from plugrad_numpy import _reuse

SIZE = _reuse.LEAST // 4


def address(x: pg.Tensor) -> int:
    return int(x.numpy().__array_interface__["data"][0])


def pooled() -> int:
    device = resolve_device("numpy")
    return backend_of(device).memory_stats(device)["pooled"]


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    gc.collect()
    _reuse.clear()
    yield
    _reuse.clear()
    assert pooled() == 0


def test_memory_is_used_again_when_nothing_holds_it() -> None:
    f = pg.jit(lambda x: pg.gelu(x))
    x = pg.random.normal((SIZE,), device="numpy")
    f(x)
    y = f(x)
    where = address(y)
    assert pooled() == 0
    del y
    assert pooled() == 4 * SIZE
    z = f(x)
    assert address(z) == where
    np.testing.assert_array_equal(z.numpy(), f(x).numpy())
    assert address(f(x)) != where


def test_a_view_an_export_and_a_host_array_hold_it() -> None:
    f = pg.jit(lambda x: pg.exp(x))
    x = pg.random.normal((SIZE,), device="numpy")
    f(x)
    for held in (
        lambda y: y[5:],
        lambda y: pg.reshape(y, (4, -1)),
        lambda y: y.numpy(),
        lambda y: y.numpy()[3:7],
        lambda y: np.from_dlpack(y),
        lambda y: memoryview(y.numpy()),
    ):
        y = f(x)
        kept = held(y)
        was = np.array(kept.numpy() if isinstance(kept, pg.Tensor) else kept)
        del y
        assert pooled() == 0
        others = [f(x * i) for i in range(3)]
        np.testing.assert_array_equal(kept.numpy() if isinstance(kept, pg.Tensor) else np.asarray(kept), was)
        del kept, others
        gc.collect()
        _reuse.clear()


def test_a_cell_that_holds_it_is_written_over_only_where_nothing_else_does() -> None:
    state = pg.zeros((SIZE,), device="numpy")

    @pg.jit
    def step() -> None:
        state.assign(state + 1)

    for _ in range(3):
        step()
    where, seen = address(state), []
    gc.collect()
    step()
    for i in range(3):
        view = state[1:]
        seen.append((view, 4 + i))
        step()
    assert where
    for view, value in seen:
        np.testing.assert_array_equal(view.numpy(), value)


def test_what_is_kept_is_bounded_and_given_back_when_sizes_change() -> None:
    backend, device = backend_of(resolve_device("numpy")), resolve_device("numpy")

    def made(size: int) -> np.ndarray:
        return backend.place(None, backend.layout(backend.allocate(pg.zeros((size,), device=device).spec)))

    many = [made(SIZE * 16) for _ in range(20)]
    total = sum(a.nbytes for a in many)
    assert total > _reuse.MOST
    del many
    assert _reuse.MOST - (64 << 20) < pooled() <= _reuse.MOST
    other = made(SIZE + 64)
    assert pooled() == 0, "what is of no use is let go of before the process grows"
    del other
    assert pooled() == 4 * SIZE + 256
    small = made(SIZE // 2)
    assert small.base is None
    assert pooled() == 4 * SIZE + 256


def test_threads_never_share_it() -> None:
    f = pg.jit(lambda x: x * 2)
    arguments = [pg.full((SIZE,), float(i), device="numpy") for i in range(4)]
    wrong: list[float] = []

    def run(i: int) -> None:
        for _ in range(20):
            y = f(arguments[i])
            if not (y.numpy() == 2.0 * i).all():
                wrong.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
