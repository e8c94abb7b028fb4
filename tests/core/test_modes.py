"""The modes that people set: blocks, decorators, nesting, threads, and what they refuse."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import plugrad as pg
from plugrad.dispatch.modes import local
from plugrad.errors import ArgumentError, DeviceError, DTypeError
from plugrad.modes import (
    autocast,
    detect_anomaly,
    enable_grad,
    fallback,
    get_matmul_precision,
    no_grad,
    set_matmul_precision,
)
from plugrad.spec import Device

CASES: list[tuple[Callable[[], Any], str, Any]] = [
    (no_grad, "recording", False),
    (detect_anomaly, "anomaly", True),
    (lambda: autocast("bfloat16"), "autocast", pg.dtypes.bfloat16),
    (lambda: autocast(pg.dtypes.float16), "autocast", pg.dtypes.float16),
    (lambda: fallback("null"), "fallback", Device("null")),
    (lambda: set_matmul_precision("high"), "matmul_precision", "high"),
]


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    before = local.modes
    yield
    assert local.modes is before


@pytest.mark.parametrize(("make", "field", "value"), CASES)
def test_a_block_sets_a_mode_and_restores_what_was(make: Callable[[], Any], field: str, value: Any) -> None:
    before = getattr(local.modes, field)
    with make():
        assert getattr(local.modes, field) == value
    assert getattr(local.modes, field) == before
    with pytest.raises(KeyError), make():
        raise KeyError
    assert getattr(local.modes, field) == before


@pytest.mark.parametrize(("make", "field", "value"), CASES)
def test_a_decorator_sets_it_while_the_function_runs(make: Callable[[], Any], field: str, value: Any) -> None:
    before = getattr(local.modes, field)

    @make()
    def named(depth: int) -> list[Any]:
        """What it does."""
        return [getattr(local.modes, field)] + (named(depth - 1) if depth else [])

    assert getattr(local.modes, field) == before
    assert named(2) == [value] * 3
    assert getattr(local.modes, field) == before
    assert (named.__name__, named.__doc__) == ("named", "What it does.")


@pytest.mark.parametrize(("make", "field", "value"), CASES)
def test_one_object_can_be_entered_again(make: Callable[[], Any], field: str, value: Any) -> None:
    before, mode = getattr(local.modes, field), make()
    with mode:
        with mode:
            assert getattr(local.modes, field) == value
        assert getattr(local.modes, field) == value
    assert getattr(local.modes, field) == before
    with mode:
        assert getattr(local.modes, field) == value


def test_modes_nest_independently() -> None:
    with no_grad(), autocast("float16"):
        with enable_grad(), autocast(None):
            assert (local.modes.recording, local.modes.autocast) == (True, None)
        assert (local.modes.recording, local.modes.autocast) == (False, pg.dtypes.float16)
        with autocast("bfloat16", enabled=False):
            assert local.modes.autocast is None


def test_a_thread_starts_without_modes_and_keeps_its_own() -> None:
    seen: list[bool] = []
    inside, outside = threading.Event(), threading.Event()

    def other() -> None:
        seen.append(local.modes.recording)
        with no_grad():
            inside.set()
            outside.wait(10)
            seen.append(local.modes.recording)

    with no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        inside.wait(10)
    seen.append(local.modes.recording)
    outside.set()
    thread.join()
    assert seen == [True, True, False]


def test_matmul_precision_holds_until_it_is_set_again() -> None:
    assert get_matmul_precision() == "highest"
    set_matmul_precision("high")
    try:
        with no_grad():
            assert get_matmul_precision() == "high"
        with set_matmul_precision("highest"):
            assert get_matmul_precision() == "highest"
        assert get_matmul_precision() == "high"
    finally:
        set_matmul_precision("highest")


def test_recording_stops_and_starts() -> None:
    x = pg.ones(3).requires_grad_()
    with no_grad():
        assert not (x + x).requires_grad
        with enable_grad():
            assert (x + x).requires_grad
    assert (x + x).requires_grad


def test_autocast_casts_what_gains_and_gradients_fit_what_they_belong_to() -> None:
    a, b = pg.ones((2, 3)).requires_grad_(), pg.ones((3, 4)).requires_grad_()
    with autocast("bfloat16"):
        y = a @ b
        assert y.dtype.name == "bfloat16"
        assert pg.exp(y).dtype.name == "float32"
        total = pg.sum(pg.exp(y))
        total.backward()
    assert a.grad is not None
    assert b.grad is not None
    assert (a.grad.dtype.name, a.grad.shape) == ("float32", (2, 3))
    assert (b.grad.dtype.name, b.grad.shape) == ("float32", (3, 4))


def _generator() -> Iterator[int]:
    yield 1


async def _coroutine() -> None:
    pass


async def _stream() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("fn", [_generator, _coroutine, _stream])
def test_what_is_left_halfway_is_not_decorated(fn: Any) -> None:
    with pytest.raises(ArgumentError, match=r"no_grad: _\w+ is a generator or coroutine.*inside it"):
        no_grad()(fn)


def test_only_functions_are_decorated() -> None:
    with pytest.raises(ArgumentError, match="enable_grad: decorates a function, got int"):
        enable_grad()(3)  # type: ignore[arg-type]


def test_bad_options() -> None:
    with pytest.raises(ArgumentError, match="autocast: takes bfloat16, float16 or None, got float32"):
        autocast("float32")
    with pytest.raises(DTypeError):
        autocast("float17")
    with pytest.raises(ArgumentError, match="takes 'highest' or 'high', got 'low'"):
        set_matmul_precision("low")
    with pytest.raises(DeviceError, match="nowhere"):
        fallback("nowhere")
