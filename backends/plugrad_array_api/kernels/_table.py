"""`Kernels`: what every kernel has in common: ``into``, and arithmetic that raises no warnings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from plugrad.backend.kernels import Function, KernelTable, OpLike

Array = Any


def _written(result: Array, into: Array | None) -> Array:
    if into is not None:
        into[...] = result
        return into
    # A library over NumPy may give a scalar of NumPy's instead of a 0-d array.
    return np.asarray(result) if isinstance(result, np.generic) else result


class Kernels:
    """Registers functions that take arrays and attributes and give new arrays.

    Attributes:
        table: the kernels made of them, which take ``into`` as well.
    """

    def __init__(self) -> None:
        self.table = KernelTable()

    def __call__(self, *ops: OpLike) -> Callable[[Function], Function]:
        """A decorator that registers a function as the kernel of each of ``ops``."""

        def register(function: Function) -> Function:
            self.add(function, *ops)
            return function

        return register

    def add(self, function: Callable[..., Any], *ops: OpLike) -> None:
        """Register ``function`` as the kernel of each of ``ops``."""

        @functools.wraps(function)
        def kernel(*args: Any, into: Any = None, **attributes: Any) -> Any:
            # Of libraries over NumPy, which alone warn of overflow and of NaN. For others it costs a microsecond.
            with np.errstate(all="ignore"):
                result = function(*args, **attributes)
            if isinstance(result, tuple):
                return tuple(
                    _written(r, i) for r, i in zip(result, into or (None,) * len(result), strict=True)
                )
            return _written(result, into)

        self.table(*ops)(kernel)
