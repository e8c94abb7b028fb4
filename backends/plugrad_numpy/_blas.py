"""Matrix products, and which BLAS kernels make them.

NumPy's OpenBLAS chooses its kernels by the processor's model, and on some Intel processors that it takes for
older ones it runs AVX2 kernels where AVX-512 ones are nearly twice as fast (242 and 452 GFLOP/s in float32 at
1024^3 on two cores). Nothing can change its choice once NumPy is imported. So where, and only where, that is
the case and the wheel ``scipy-openblas32`` is installed (``pip install 'plugrad[blas]'``), large products go
to that second copy of OpenBLAS, loaded with its core type chosen. On AMD's Zen 4, whose AVX-512 units are as
wide as its AVX2 ones, the two kinds are within 5 % of each other, so nothing is loaded.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from plugrad_numpy import _parallel

__all__ = ["can_limit", "describe", "gemm", "matmul", "single_threaded"]

Array = np.ndarray[Any, Any]

_CORE: Final = "SkylakeX"
_NARROW: Final = frozenset(
    {"Haswell", "Zen", "Excavator", "Sandybridge", "Nehalem", "Prescott", "Core2", "Penryn"}
)
"""Names of OpenBLAS's kernels for x86 that do without AVX-512."""
_WIDE: Final = frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})
_LARGE: Final = 1 << 20
"""The product of the three sizes from which a call through ctypes, 4 us dearer, is worth it."""
_ALONE: Final = 1 << 18
"""The product of the three sizes up to which OpenBLAS uses one thread by itself."""
_WORTH: Final = 1 << 21
"""The product of the three sizes that is worth a thread: 40 us of one core, as long as a thread takes to wake."""
_FINISH: Final = 32
"""Multiply-adds that what finishes a product costs as much as, by element."""


class OpenBLAS:
    """An OpenBLAS that the process has loaded.

    Attributes:
        core: the name of the kernels in use, such as ``Haswell`` or ``SkylakeX``.
        version: such as ``0.3.31``; empty where it does not say.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        prefix, suffix = next(
            (p, s)
            for p in ("scipy_openblas_", "openblas_")
            for s in ("64_", "")
            if hasattr(library, f"{p}get_corename{s}")
        )
        functions = [
            getattr(library, f"{prefix}{name}{suffix}")
            for name in ("get_corename", "get_config", "get_num_threads", "set_num_threads")
        ]
        for function in functions[:2]:
            function.restype = ctypes.c_char_p
        functions[3].argtypes, functions[3].restype = [ctypes.c_int], None
        self.core = (functions[0]() or b"").decode()
        found = re.search(r"OpenBLAS (\d+\.\d+\.\d+)", (functions[1]() or b"").decode())
        self.version = found[1] if found else ""
        self.get_threads, self.set_threads = functions[2], functions[3]
        self.products: dict[str, Any] = {}

    def enable_products(self) -> None:
        """Find the functions that `gemm` calls, of a library with 32-bit integers."""
        for char, kind, scalar in (("f", "s", ctypes.c_float), ("d", "d", ctypes.c_double)):
            function = getattr(self._library, f"scipy_cblas_{kind}gemm")
            integers, pointer = [ctypes.c_int] * 6, [ctypes.c_void_p, ctypes.c_int]
            function.argtypes = [*integers, scalar, *pointer, *pointer, scalar, *pointer]
            function.restype = None
            self.products[char] = function


class _Libraries:
    """NumPy's OpenBLAS and the second copy, each found when first wanted."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.ready = False
        self.numpy: OpenBLAS | None = None
        self.copy: OpenBLAS | None = None
        self.depth = 0
        self.threads: list[int] = []

    def find(self) -> None:
        """Look once; later calls return at once."""
        with self.lock:
            if not self.ready:
                self.numpy = _numpy_library()
                if self.numpy is not None and _narrow(self.numpy.core, _processor()):
                    self.copy = _second_copy(self.numpy.get_threads())
                self.ready = True

    def loaded(self) -> list[OpenBLAS]:
        """Those in use."""
        return [library for library in (self.numpy, self.copy) if library is not None]

    def after_fork(self) -> None:
        """In a forked child: nobody else holds the lock or runs `single_threaded`."""
        self.lock = threading.RLock()
        if self.depth:
            self.depth = 0
            for library, count in zip(self.loaded(), self.threads, strict=True):
                library.set_threads(count)


_libraries = _Libraries()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_libraries.after_fork)


def _numpy_library() -> OpenBLAS | None:
    """The OpenBLAS that NumPy is linked with; None where it is another BLAS or cannot be asked."""
    try:
        # A look-up in a loaded module searches the libraries it was linked with.
        return OpenBLAS(ctypes.CDLL(np._core._multiarray_umath.__file__))  # type: ignore[attr-defined]
    except (OSError, AttributeError, StopIteration):
        return None


def _processor() -> tuple[str, frozenset[str]]:
    """The processor's vendor and its features, as Linux names them; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "", frozenset()
    found = dict(re.findall(r"^(vendor_id|flags)\s*: (.*)$", text, re.MULTILINE))
    return found.get("vendor_id", ""), frozenset(found.get("flags", "").split())


def _narrow(core: str, processor: tuple[str, frozenset[str]]) -> bool:
    """Whether kernels of this name leave half of the processor unused."""
    vendor, features = processor
    return vendor == "GenuineIntel" and features >= _WIDE and core in _NARROW


def _copy_path() -> Path | None:
    """The library in the wheel ``scipy-openblas32``, not imported: importing it may load it."""
    spec = importlib.util.find_spec("scipy_openblas32")
    places = spec.submodule_search_locations if spec is not None else None
    names = [
        path for place in places or () for path in sorted(Path(place, "lib").glob("*scipy_openblas*.so"))
    ]
    return names[0] if names else None


def _second_copy(threads: int) -> OpenBLAS | None:
    """The second OpenBLAS with the kernels of `_CORE`, or None where it is absent or chose others."""
    path = _copy_path() if sys.platform == "linux" else None
    if path is None:
        return None
    before = os.environ.get("OPENBLAS_CORETYPE")
    os.environ["OPENBLAS_CORETYPE"] = _CORE
    try:
        copy = OpenBLAS(ctypes.CDLL(str(path)))
        copy.enable_products()
    except (OSError, AttributeError, StopIteration):
        return None
    finally:
        if before is None:
            del os.environ["OPENBLAS_CORETYPE"]
        else:
            os.environ["OPENBLAS_CORETYPE"] = before
    if copy.core != _CORE:
        return None
    copy.set_threads(threads)
    return copy


def describe() -> tuple[str, str]:
    """Which kernels make matrix products, and how to get better ones; the second is empty where these are the best."""
    _libraries.find()
    numpy, copy = _libraries.numpy, _libraries.copy
    if numpy is None:
        return "NumPy's BLAS, which does not name its kernels", ""
    used = numpy if copy is None else copy
    text = f"OpenBLAS {used.version}".rstrip() + f", {used.core} kernels, {used.get_threads()} threads"
    if copy is not None:
        return f"{text} (a second copy; NumPy's own has {numpy.core} kernels)", ""
    if _narrow(numpy.core, _processor()):
        return text, "this processor has AVX-512, which these kernels do not use: pip install 'plugrad[blas]'"
    return text, ""


def can_limit() -> bool:
    """Whether `single_threaded` has an effect: whether NumPy's BLAS is an OpenBLAS that can be asked."""
    if not _libraries.ready:
        _libraries.find()
    return _libraries.numpy is not None


class _SingleThreaded:
    """See `single_threaded`; entered and left without the cost of a generator."""

    def __enter__(self) -> None:
        if not _libraries.ready:
            _libraries.find()
        with _libraries.lock:
            if _libraries.depth == 0:
                loaded = _libraries.loaded()
                _libraries.threads = [library.get_threads() for library in loaded]
                for library in loaded:
                    library.set_threads(1)
            _libraries.depth += 1

    def __exit__(self, *_: object) -> None:
        with _libraries.lock:
            if _libraries.depth:
                _libraries.depth -= 1
                if _libraries.depth == 0:
                    for library, count in zip(_libraries.loaded(), _libraries.threads, strict=True):
                        library.set_threads(count)


_single_threaded = _SingleThreaded()


def single_threaded() -> _SingleThreaded:
    """A context within which each matrix product runs in the thread that calls it, so that threads can run one each.

    This holds for the process: products that other threads call meanwhile are slower, and equally right. The threads
    of an OpenBLAS that has just used them keep their cores busy for some 20 ms, waiting for more: that is why plans and
    large products run in such a context and make threads of their own.
    """
    return _single_threaded


Finish = Callable[[slice, slice], None]
"""Is called for each part of a product, its rows and columns, by the thread that made it, once it is there."""


def gemm(
    a: Array,
    b: Array,
    out: Array | None = None,
    bias: Array | None = None,
    finish: Finish | None = None,
) -> Array:
    """The matrix product of ``a`` (M, K) and ``b`` (K, N), both float32 or both float64, plus ``bias`` (N,).

    Views, transposed ones included, are passed without a copy. ``out`` does not overlap the operands. A large one is
    spread over `_parallel`'s threads, by its rows or its columns.
    """
    rows, columns = a.shape[0], b.shape[1]
    size = rows * (a.shape[1] if finish is None else a.shape[1] + _FINISH) * columns
    whole = slice(0, rows), slice(0, columns)
    if size <= _ALONE or _parallel.is_inside() or not can_limit():
        return _finished(a, b, out, bias, finish, whole)
    with single_threaded():
        least = -(-_WORTH * max(rows, columns) // size)
        parts = _parallel.pieces(max(rows, columns), max(least, 32))
        if len(parts) == 1 or a.dtype != b.dtype:
            return _finished(a, b, out, bias, finish, whole)
        result = np.empty((rows, columns), a.dtype) if out is None else out
        if rows >= columns:

            def rows_of(part: slice) -> None:
                _finished(a[part], b, result[part], bias, finish, (part, whole[1]))

            _parallel.run(rows_of, parts)
        else:

            def columns_of(part: slice) -> None:
                own = None if bias is None else bias[part]
                _finished(a, b[:, part], result[:, part], own, finish, (whole[0], part))

            _parallel.run(columns_of, parts)
    return result


def _finished(
    a: Array,
    b: Array,
    out: Array | None,
    bias: Array | None,
    finish: Finish | None,
    part: tuple[slice, slice],
) -> Array:
    """The product, bias added and finished by the thread that made it, while much of it is in its cache."""
    out = _product(a, b, out)
    if bias is not None:
        np.add(out, bias, out=out)
    if finish is not None:
        finish(*part)
    return out


def _product(a: Array, b: Array, out: Array | None = None) -> Array:
    """The product in the calling thread, if OpenBLAS is held to it."""
    if not _libraries.ready:
        _libraries.find()
    copy = _libraries.copy
    if copy is None or a.shape[0] * a.shape[1] * b.shape[1] < _LARGE or a.dtype != b.dtype:
        return np.matmul(a, b, out=out)
    function = copy.products.get(a.dtype.char)
    if out is None:
        out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    left, right, result = _layout(a), _layout(b), _layout(out)
    if (
        function is None
        or left is None
        or right is None
        or result is None
        or out.dtype != a.dtype
        or result[0]
    ):
        return np.matmul(a, b, out=out)
    transpose = (111, 112)
    function(
        101,
        transpose[left[0]],
        transpose[right[0]],
        *out.shape,
        a.shape[1],
        1.0,
        a.ctypes.data,
        left[1],
        b.ctypes.data,
        right[1],
        0.0,
        out.ctypes.data,
        result[1],
    )
    return out


def _layout(x: Array) -> tuple[bool, int] | None:
    """Whether BLAS takes ``x`` as transposed, and its leading dimension; None where it does not take it."""
    rows, columns = x.shape
    down, across = (step // x.itemsize for step in x.strides)
    if any(step % x.itemsize for step in x.strides) or not x.flags.aligned:
        return None
    if across == 1 and columns <= down <= 0x7FFFFFFF:
        return False, down
    if down == 1 and rows <= across <= 0x7FFFFFFF:
        return True, across
    return None


def matmul(a: Array, b: Array, out: Array | None = None) -> Array:
    """`numpy.matmul` of float32 or float64 arrays, stacks included; large products go where `gemm` sends them."""
    if a.ndim == b.ndim == 2:
        return gemm(a, b, out)
    if not _libraries.ready:
        _libraries.find()
    if _libraries.copy is None or a.ndim < 2 or b.ndim < 2:
        return np.matmul(a, b, out=out)
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if a.shape[-2] * a.shape[-1] * b.shape[-1] < _LARGE:
        return np.matmul(a, b, out=out)
    if out is None:
        out = np.empty((*stack, a.shape[-2], b.shape[-1]), np.result_type(a, b))
    a = np.broadcast_to(a, (*stack, *a.shape[-2:]))
    b = np.broadcast_to(b, (*stack, *b.shape[-2:]))
    for index in np.ndindex(stack):
        _product(a[index], b[index], out[index])
    return out
