"""What ops do while a function is captured: each application becomes a node of a graph, and a tensor holds a symbol.

`plugrad.graph.capture` makes the trace. Here is what dispatch, and whoever makes a tensor of another's array, needs of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from plugrad.dispatch.anomaly import user_line
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import local as mode
from plugrad.errors import CaptureError

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op
    from plugrad.dispatch.record import Leaf, Origin
    from plugrad.spec import Spec, Tracked
    from plugrad.tensor import Tensor


def capture_error(message: str) -> CaptureError:
    """The error that says ``message`` and the user's line."""
    return CaptureError(f"{message} (at {user_line()})")


class Symbol:
    """What stands for an array in a tensor of a captured function. It belongs to a trace, and has no elements."""

    __slots__ = ()

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise capture_error(
            "a tensor of a captured function is used outside of it, where it has no value: return it from the function"
        )

    __array__ = __array_ufunc__ = __array_function__ = __len__ = __dlpack__ = _refuse


class Trace(Protocol):
    """A capture on its way."""

    def symbol_of(self, tensor: TensorData) -> Symbol:
        """What stands for the value of a tensor; one from outside becomes an input by reference."""

    def array_of(self, tensor: TensorData) -> Any:
        """The array of a tensor, or the symbol that it is bound to in this trace."""

    def bind(self, tensor: TensorData, array: Any, key: Spec | Tracked, node: Origin | None) -> bool:
        """Bind a tensor from outside to a symbol in this trace alone, so that other threads do not see it.

        Returns:
            Whether that was possible: it is not for a tensor made inside, nor where the key or the node changes.
        """

    def enter(self, tensor: TensorData) -> TensorData:
        """A tensor with the same key and origin that holds its symbol."""

    def apply(
        self, op: Op[..., Any], arrays: Sequence[Any], attributes: Mapping[str, Any], results: Any
    ) -> Any:
        """Add a node; symbols in the structure of ``results``, which holds specs."""

    def note(self, guarded: Any) -> None:
        """A Python object is read, whose attributes may change (see `plugrad.dispatch.epoch`)."""

    def made(self, guarded: Any) -> None:
        """Such an object is made inside."""

    def setting(self, guarded: Any, name: str) -> None:
        """An attribute of such an object is about to be set or deleted."""

    @property
    def since(self) -> int:
        """The number of the first origin made inside; older ones come from outside."""

    def grad_of(self, leaf: Leaf) -> Tensor | None:
        """The gradient that a leaf holds at this point."""


class _Local(threading.local):
    trace: Trace | None = None


local: Final = _Local()


def current() -> Trace:
    """The trace of this thread."""
    assert local.trace is not None
    return local.trace


def array_of(tensor: TensorData) -> Any:
    """The array of a tensor, for another tensor of the same value; while capturing, its symbol."""
    return current().symbol_of(tensor) if mode.modes.capturing else tensor._array


def copy_now(tensor: Tensor, what: str) -> Tensor:
    """Another tensor with the value that ``tensor`` has at this time, made outside of a captured function.

    Raises:
        CaptureError: naming ``what`` has happened, if a captured function has changed the tensor already.
    """
    if mode.modes.capturing and isinstance(current().array_of(tensor), Symbol):
        raise capture_error(
            f"{what} inside one call of a captured function; capture one step, or call it as it is"
        )
    return wrap(tensor._array, tensor.spec)


def made_of_host(array: Any, spec: Spec) -> Tensor:
    """A tensor over an array with values of the host. While capturing it is a constant of the function."""
    made = wrap(array, spec)
    return current().enter(made) if mode.modes.capturing else made  # type: ignore[return-value]


def entered(tensor: Any) -> Any:
    """A tensor of this value that holds its symbol; None as it is. For code that works with arrays."""
    return None if tensor is None else current().enter(tensor)


def refuse(what: str, fix: str, why: str = "where tensors have no values yet") -> None:
    """Raise if this thread captures.

    Raises:
        CaptureError: naming what cannot be done, and the way out.
    """
    if mode.modes.capturing:
        raise capture_error(f"{what} inside a captured function, {why}; {fix}")


def traced(op: Op[..., Any], results: Any) -> Callable[..., Any]:
    """What runs in the place of a kernel: it adds a node.

    Args:
        op: the op.
        results: the specs of what it gives, a single one, or in the structure of the kernel's results.
    """

    def apply(*arrays: Any, **attributes: Any) -> Any:
        return current().apply(op, arrays, attributes, results)

    return apply


def entering(run: Callable[..., Any]) -> Callable[..., Any]:
    """A runner whose operands hold symbols."""

    def enter(value: Any) -> Any:
        if isinstance(value, TensorData):
            return current().enter(value)
        return [current().enter(v) for v in value] if isinstance(value, list) else value

    return lambda *operands: run(*map(enter, operands))
