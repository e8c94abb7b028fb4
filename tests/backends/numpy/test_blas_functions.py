"""Matrix products through either OpenBLAS, and the choice between them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from plugrad_numpy import _blas

Array = np.ndarray[Any, Any]

WIDE = ("GenuineIntel", _blas._WIDE | {"fma"})


@pytest.fixture
def copy(monkeypatch: pytest.MonkeyPatch) -> _blas.OpenBLAS:
    """The second copy of OpenBLAS in use, whatever the processor; products of any size go there."""
    found = _blas._second_copy(1)
    if found is None:
        pytest.skip("scipy-openblas32 is not installed, or this processor cannot run its AVX-512 kernels")
    _blas._libraries.find()
    monkeypatch.setattr(_blas._libraries, "copy", found)
    monkeypatch.setattr(_blas, "_LARGE", 0)
    return found


def operands(dtype: Any, transposed: str) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((37, 23)).astype(dtype), rng.standard_normal((23, 41)).astype(dtype)
    if "a" in transposed:
        a = a.T.copy().T
    if "b" in transposed:
        b = b.T.copy().T
    if "s" in transposed:
        a, b = a.repeat(2, 1)[:, ::2], b.repeat(2, 0)[::2]
    return a, b


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab", "s"])
def test_gemm(copy: _blas.OpenBLAS, dtype: Any, transposed: str) -> None:
    a, b = operands(dtype, transposed)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    got = _blas.gemm(a, b)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=10 * tolerance)
    for out in (
        np.full((37, 41), np.nan, dtype),
        np.full((37, 50), np.nan, dtype)[:, 5:46],
        np.full((41, 37), 9, dtype).T,
    ):
        assert _blas.gemm(a, b, out) is out
        np.testing.assert_allclose(out, wanted, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize(
    ("rows", "inner", "columns"), [(1, 1, 1), (1, 5, 7), (5, 1, 7), (5, 7, 1), (0, 3, 4), (3, 0, 4)]
)
def test_gemm_of_thin_and_empty(copy: _blas.OpenBLAS, rows: int, inner: int, columns: int) -> None:
    a, b = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)
    np.testing.assert_array_equal(_blas.gemm(a, b), np.full((rows, columns), inner, np.float32))
    np.testing.assert_array_equal(_blas.gemm(b.T, a.T), np.full((columns, rows), inner, np.float32))


def test_gemm_calls_the_copy(copy: _blas.OpenBLAS, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for char, function in list(copy.products.items()):
        monkeypatch.setitem(
            copy.products,
            char,
            lambda *given, char=char, function=function: (calls.append(char), function(*given)),
        )
    a, b = operands(np.float32, "ab")
    _blas.gemm(a, b)
    _blas.gemm(a.astype(np.float64), b.astype(np.float64))
    assert calls == ["f", "d"]
    # A mixture of dtypes, or integers, is NumPy's.
    np.testing.assert_allclose(_blas.gemm(a, b.astype(np.float64)), a @ b.astype(np.float64))
    _blas.gemm(a.astype(np.int64), b.astype(np.int64))
    assert calls == ["f", "d"]


@pytest.mark.parametrize(
    ("left", "right"),
    [((4, 5), (5, 6)), ((3, 4, 5), (5, 6)), ((2, 1, 4, 5), (3, 5, 6)), ((5,), (5, 6)), ((4, 5), (5,))],
)
def test_matmul_of_stacks(copy: _blas.OpenBLAS, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    wanted = np.matmul(a, b)
    np.testing.assert_allclose(_blas.matmul(a, b), wanted, rtol=1e-13, atol=1e-13)
    out = np.empty(wanted.shape)
    assert _blas.matmul(a, b, out) is out
    np.testing.assert_allclose(out, wanted, rtol=1e-13, atol=1e-13)


def test_the_copy_is_used_where_numpy_leaves_avx512_idle() -> None:
    assert _blas._narrow("Haswell", WIDE)
    assert not _blas._narrow("SkylakeX", WIDE)
    assert not _blas._narrow("Haswell", ("AuthenticAMD", WIDE[1]))
    assert not _blas._narrow("Haswell", ("GenuineIntel", WIDE[1] - {"avx512vl"}))
    assert not _blas._narrow("Haswell", ("", frozenset()))


def test_description_and_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    text, hint = _blas.describe()
    assert text
    numpy = _blas._libraries.numpy
    if numpy is None:
        pytest.skip("NumPy is linked with another BLAS")
    monkeypatch.setattr(_blas._libraries, "copy", None)
    monkeypatch.setattr(numpy, "core", "Haswell")
    monkeypatch.setattr(_blas, "_processor", lambda: WIDE)
    text, hint = _blas.describe()
    assert "Haswell" in text
    assert "plugrad[blas]" in hint
    monkeypatch.setattr(numpy, "core", "SkylakeX")
    text, hint = _blas.describe()
    assert "SkylakeX" in text
    assert not hint


@pytest.mark.parametrize("before", [None, "Zen"])
def test_loading_the_copy_leaves_the_environment_as_it_was(
    before: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is None:
        monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    else:
        monkeypatch.setenv("OPENBLAS_CORETYPE", before)
    environment = dict(os.environ)
    _blas._second_copy(1)
    assert dict(os.environ) == environment


def test_an_absent_copy_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blas, "_copy_path", lambda: None)
    assert _blas._second_copy(1) is None


def threads() -> list[int]:
    return [library.get_threads() for library in _blas._libraries.loaded()]


def test_single_threaded_nests_and_restores() -> None:
    if not _blas.can_limit():
        pytest.skip("NumPy is linked with another BLAS")
    before = threads()

    def work() -> None:
        with _blas.single_threaded():
            assert set(threads()) == {1}
            with _blas.single_threaded():
                pass
            assert set(threads()) == {1}
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert threads() == before


def test_single_threaded_in_several_threads() -> None:
    _blas.can_limit()
    before = threads()
    a = np.ones((64, 64))
    failures: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                with _blas.single_threaded():
                    np.testing.assert_array_equal(a @ a, np.full((64, 64), 64.0))
        except BaseException as error:
            failures.append(error)

    several = [threading.Thread(target=work) for _ in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert not failures
    assert threads() == before


FORKED = """
import os, numpy as np
from plugrad_numpy import _blas, _conv, _parallel
_parallel._state.size = 2
kwargs = dict(stride=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), groups=1)
x, w = np.ones((8, 32, 24, 24), np.float32), np.ones((32, 32, 3, 3), np.float32)
y = _conv.conv(x, w, **kwargs)
count = [library.get_threads() for library in _blas._libraries.loaded()]
with _blas.single_threaded():
    child = os.fork()
    if child == 0:
        again = _conv.conv(x, w, **kwargs)
        now = [library.get_threads() for library in _blas._libraries.loaded()]
        os._exit(0 if (again == y).all() and now == count else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes() -> None:
    # Python 3.12 warns of a fork among threads: here that is the point.
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 0
