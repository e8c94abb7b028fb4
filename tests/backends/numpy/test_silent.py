"""Kernels raise no floating-point warning and leave the caller's settings alone, from any number of threads."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad_numpy.kernels._silent import again, run, silent

BIG = np.full((300, 400), 3e38, np.float32)


def test_silent_whatever_the_caller_has_set() -> None:
    x = pg.asarray(BIG, device="numpy")
    for state in ("raise", "warn", "ignore"):
        with np.errstate(all=state), warnings.catch_warnings():
            warnings.simplefilter("error")
            before = np.geterr()
            assert np.isinf((x + x).numpy()).all()
            assert np.isnan((x - x).log().sqrt().numpy() - (x / 0.0 - x / 0.0).numpy()).all()
            assert np.isinf(pg.exp(x).numpy()).all()
            assert np.isinf(pg.astype(x, "float16").numpy()).all()
            assert np.geterr() == before


def test_the_caller_is_still_told_of_its_own() -> None:
    x = pg.asarray(BIG, device="numpy")
    (x + x).numpy()
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        BIG + BIG


def test_many_threads_at_once() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            x = pg.asarray(BIG, device="numpy")
            for _ in range(30):
                assert np.isinf((x + x).numpy()).all()
                assert np.isinf(pg.exp(x).numpy()).all()
                assert np.isinf(pg.square(x).numpy()).all()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_kernel_below_a_kernel() -> None:
    @silent
    def outer(x: Any) -> Any:
        return inner(x) + x

    @silent
    def inner(x: Any) -> Any:
        return x + x

    assert np.isinf(outer(BIG)).all()


def test_errors_of_kernels_pass_once() -> None:
    calls = []

    class OwnError(RuntimeError):
        pass

    @silent
    def fails() -> None:
        calls.append(1)
        raise OwnError("mine")

    with pytest.raises(OwnError, match="mine"):
        fails()
    assert len(calls) == 1


def test_again_runs_in_a_context_of_its_own() -> None:
    def busy() -> Any:
        try:
            return run(np.add, BIG, BIG)
        except RuntimeError as error:
            return again(error, np.add, BIG, BIG)

    assert np.isinf(run(busy)).all()
