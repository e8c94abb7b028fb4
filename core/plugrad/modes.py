"""The modes that people set: what is recorded, what is checked, and in which precision ops compute.

Each belongs to the thread that sets it; a new thread starts without any. Each is a context manager, and a
decorator that sets the mode while the function runs::

    with plugrad.no_grad():
        ...

    @plugrad.autocast("bfloat16")
    def forward(x): ...
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from plugrad.backend import resolve_device
from plugrad.dispatch.lowering import fallbacks
from plugrad.dispatch.modes import change, changed, local
from plugrad.dtypes import DType, as_dtype, bfloat16, float16
from plugrad.errors import ArgumentError
from plugrad.spec import Device

P = ParamSpec("P")
R = TypeVar("R")


class _Local(threading.local):
    def __init__(self) -> None:
        self.blocks: list[changed] = []


_local: Final = _Local()
"""The blocks that this thread is in, outermost first."""


class _Mode:
    """A change of modes for a block or a function."""

    def __init__(self, **changes: Any) -> None:
        self._changes = changes

    def __enter__(self) -> Self:
        block = changed(**self._changes)
        block.__enter__()
        _local.blocks.append(block)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _local.blocks.pop().__exit__()

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """``fn`` under this mode.

        Raises:
            ArgumentError: if it is no function, or one that is left before it is through: a generator or a
                coroutine.
        """
        name = type(self).__name__
        if not callable(fn):
            raise ArgumentError(f"{name}: decorates a function, got {type(fn).__name__}")
        if any(
            is_kind(fn)
            for is_kind in (
                inspect.isgeneratorfunction,
                inspect.iscoroutinefunction,
                inspect.isasyncgenfunction,
            )
        ):
            raise ArgumentError(
                f"{name}: {getattr(fn, '__name__', fn)} is a generator or coroutine, which other code runs in "
                f"between: write `with {name}(...):` inside it"
            )
        changes = self._changes

        @functools.wraps(fn, updated=())
        def under(*args: P.args, **kwargs: P.kwargs) -> R:
            with changed(**changes):
                return fn(*args, **kwargs)

        return under


class no_grad(_Mode):  # noqa: N801 - called like a function, as the others are
    """Ops are not recorded: their results need no gradient.

    `backward` and the transforms record what they need nevertheless; what the transforms return is constant.
    """

    def __init__(self) -> None:
        super().__init__(recording=False)


class enable_grad(_Mode):  # noqa: N801
    """Ops on tensors that need a gradient are recorded, inside a `no_grad` too."""

    def __init__(self) -> None:
        super().__init__(recording=True)


class detect_anomaly(_Mode):  # noqa: N801
    """Raise `AnomalyError` where the first NaN or infinity is made.

    An op that makes one from finite operands is named at once, with the line of user code that applied it.
    In a backward, the op whose derivative made it is named, with the line that applied that op in the forward
    pass, if the forward pass ran in this mode too. An op is judged by its result, not by what happens on
    the way there. Every result is read back to the host: for finding errors, not for training.
    """

    def __init__(self) -> None:
        super().__init__(anomaly=True)


class autocast(_Mode):  # noqa: N801
    """Compute what gains by it in 16 bits (mixed precision: Micikevicius et al., 2018, arXiv:1710.03740).

    Ops made of matrix products (`matmul`, `conv`, ...) cast float32 operands to the 16-bit dtype; ops that
    lose too much there (`exp`, `softmax`, sums, norms, losses, ...) cast 16-bit operands to float32; all
    others compute in the dtype they are given. float64 is left alone. Gradients have the dtype of what they
    belong to.
    """

    def __init__(self, dtype: DType | str | None, enabled: bool = True) -> None:
        """Choose the dtype.

        Args:
            dtype: ``"bfloat16"``, ``"float16"`` (whose narrow range asks for loss scaling), or None for none.
            enabled: False is the same as None.

        Raises:
            DTypeError: if there is no such dtype.
            ArgumentError: for any other dtype.
        """
        target = None if dtype is None else as_dtype(dtype)
        if target not in (None, bfloat16, float16):
            raise ArgumentError(f"autocast: takes bfloat16, float16 or None, got {target}")
        super().__init__(autocast=target if enabled else None)


class fallback(_Mode):  # noqa: N801
    """Run primitives that a tensor's own device has no kernel for on another device, through the host.

    Without it such an op is an error. `fallback_counts` says how often it happened.
    """

    def __init__(self, device: Device | str | None) -> None:
        """Choose the device.

        Args:
            device: the device, or None for none.

        Raises:
            DeviceError: if there is no such device.
        """
        super().__init__(fallback=None if device is None else resolve_device(device))


def fallback_counts() -> dict[str, int]:
    """How often each op ran on the device that `fallback` names, in this process so far."""
    return dict(fallbacks)


class set_matmul_precision(_Mode):  # noqa: N801
    """Choose how ops made of matrix products treat float32.

    A plain call sets it for this thread until it is set again; as a context manager it is set until the end
    of the block, and as a decorator while the function runs::

        set_matmul_precision("high")

        with set_matmul_precision("highest"):
            ...
    """

    def __init__(self, precision: str) -> None:
        """Set the precision.

        Args:
            precision: ``"highest"``, the default, computes in float32; ``"high"`` lets a backend round the
                operands to fewer bits where its hardware is faster with them, such as TensorFloat-32.

        Raises:
            ArgumentError: for anything else.
        """
        if precision not in ("highest", "high"):
            raise ArgumentError(f"set_matmul_precision: takes 'highest' or 'high', got {precision!r}")
        super().__init__(matmul_precision=precision)
        self._before: str | None = local.modes.matmul_precision
        change(matmul_precision=precision)

    def _unset(self) -> None:
        """Take back what the call set, once."""
        if self._before is not None:
            change(matmul_precision=self._before)
            self._before = None

    def __enter__(self) -> Self:
        self._unset()
        return super().__enter__()

    def __call__(self, fn: Callable[P, R], /) -> Callable[P, R]:
        """``fn`` under this precision; what the call set is taken back."""
        self._unset()
        return super().__call__(fn)


def get_matmul_precision() -> str:
    """``"highest"`` or ``"high"``: what `set_matmul_precision` has set for this thread."""
    return local.modes.matmul_precision


__all__ = [
    "autocast",
    "detect_anomaly",
    "enable_grad",
    "fallback",
    "fallback_counts",
    "get_matmul_precision",
    "no_grad",
    "set_matmul_precision",
]
