"""Stands in for CuPy where there is no GPU: the part of its interface that `plugrad_cupy` uses, on the host's memory.

Kernels are compiled by the host's C++ compiler (see `cupy._compiling`) and run thread by thread when they are launched;
everything else is NumPy. `cupy.recorded` gives in order what the device was asked: tests read it. Where `cupy.settings.dry`
is set, kernels are neither compiled nor run, only kept, in `cupy.texts`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, Final

import numpy as np

from cupy import _cuda as cuda
from cupy._compiling import compiled
from cupy._log import recorded

__all__ = ["RawModule", "cuda", "matmul", "ndarray", "recorded", "settings", "texts"]
__version__ = "14.0.0"
_one_at_a_time: Final = threading.Lock()

settings: Final = SimpleNamespace(dry=False)
texts: Final[dict[str, str]] = {}
"""The texts that were launched, with the kernel's name in each."""


def ndarray(
    shape: Sequence[int], dtype: Any, memptr: cuda.MemoryPointer, strides: Sequence[int]
) -> SimpleNamespace:
    """An array over memory; strides in bytes."""
    host = np.ndarray(0, np.uint8) if memptr is None else memptr.mem.array
    offset = 0 if memptr is None else memptr.offset
    array = np.lib.stride_tricks.as_strided(
        host[offset:].view(dtype) if host.size else host.view(dtype), shape, strides
    )
    return SimpleNamespace(array=array, shape=tuple(shape), dtype=np.dtype(dtype))


def matmul(x1: Any, x2: Any, out: Any) -> Any:
    """A product of matrices, by cuBLAS: floats are added up in float32 at least."""
    cuda.on_stream("matmul", x1.shape, x2.shape)
    wide = np.promote_types(out.dtype, np.float32) if out.dtype.kind not in "iub" else out.dtype
    out.array[...] = np.matmul(x1.array.astype(wide), x2.array.astype(wide))
    return out


class RawModule:
    """A text of kernels."""

    def __init__(self, *, code: str, options: tuple[str, ...] = (), backend: str = "nvrtc") -> None:
        self._code = code
        assert backend == "nvrtc"
        assert all(isinstance(o, str) for o in options)

    def get_function(self, name: str) -> Any:
        """The kernel of a name, which is compiled when it is called."""
        run: Any = None

        def kernel(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            nonlocal run
            cuda.on_stream("launch", name, grid, block)
            texts.setdefault(self._code, name)
            if run is None and not settings.dry:
                try:
                    run = compiled(self._code, name)
                except RuntimeError as error:
                    raise cuda.compiler.CompileException(str(error)) from error
            if max(block) > 1024 or not all(1 <= n < 2**31 for n in grid) or any(n > 65535 for n in grid[1:]):
                raise cuda.driver.CUDADriverError("CUDA_ERROR_INVALID_VALUE: invalid argument")
            held = [_argument(a) for a in args]
            pointers = (ctypes.c_void_p * len(held))(*(ctypes.addressof(h) for h in held))
            sizes = [(ctypes.c_uint * 3)(*[*row, 1, 1][:3]) for row in (grid, block)]
            if run is not None:
                with _one_at_a_time:
                    run(*sizes, pointers)

        return kernel


def _argument(value: Any) -> Any:
    """A number as CuPy passes it: NumPy's scalars by their dtype, nothing else that would have to be guessed."""
    if not isinstance(value, np.generic):
        raise TypeError(f"unsupported type {type(value).__name__}")
    return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
