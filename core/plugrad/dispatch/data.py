"""`TensorData`: what a Tensor object holds, and how dispatch makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from plugrad.spec import Spec, Tracked

if TYPE_CHECKING:
    from plugrad.dispatch.record import Origin
    from plugrad.tensor import Tensor


class TensorData:
    """The data of a tensor: a cell that can be rebound to another value, never written through.

    Attributes:
        _array: the backend's array.
        _key: what stands for this value in a signature: its `Spec`, or ``spec.tracked`` if the record follows it.
        _node: the node of the record that made the value, or None.
    """

    __slots__ = ("__weakref__", "_array", "_key", "_node")

    _array: Any
    _key: Spec | Tracked
    _node: Origin | None

    @property
    def spec(self) -> Spec:
        """Shape, dtype and device."""
        return self._key.spec


class _Classes:
    tensor: Any = None


_classes: Final = _Classes()


def set_tensor_class(cls: type) -> None:
    """Name the public class that dispatch makes results of; called once, where it is defined."""
    _classes.tensor = cls


def tensor_class() -> type[Tensor]:
    """The public class of tensors."""
    return _classes.tensor  # type: ignore[no-any-return]


def wrap(array: Any, spec: Spec, node: Origin | None = None) -> Tensor:
    """A tensor over ``array``, made by ``node`` if the record follows it."""
    t = object.__new__(_classes.tensor)
    t._array = array
    t._key = spec if node is None else spec.tracked
    t._node = node
    return t  # type: ignore[no-any-return]
