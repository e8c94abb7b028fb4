"""Cells: how a Tensor object is bound to another value, and what must be undone of it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Container
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.data import wrap
from plugrad.dispatch.modes import local as mode
from plugrad.dispatch.tracing import array_of, current

if TYPE_CHECKING:
    from plugrad.dispatch.data import TensorData
    from plugrad.dispatch.record import Leaf, Origin
    from plugrad.spec import Spec, Tracked
    from plugrad.tensor import Tensor


class _Local(threading.local):
    journals: tuple[Journal, ...] = ()


_local: Final = _Local()


def rebind(cell: TensorData, array: Any, key: Spec | Tracked, node: Origin | None) -> None:
    """Bind ``cell`` to another value. Whatever changes a tensor that exists changes it through here."""
    for journal in _local.journals:
        journal.note(cell)
    if mode.modes.capturing and current().bind(cell, array, key, node):
        return
    cell._array = array
    cell._key = key
    cell._node = node


def unwatched() -> bool:
    """Whether no journal of this thread is told what is rebound."""
    return not _local.journals


def grad_of(leaf: Leaf) -> Tensor | None:
    """The gradient that a leaf holds."""
    return current().grad_of(leaf) if mode.modes.capturing else leaf.grad


def set_grad(leaf: Leaf, value: Tensor | None) -> None:
    """Let a leaf hold another gradient. Whatever changes one changes it through here.

    It becomes a tensor of its own: rebinding ``.grad`` must never reach another tensor.
    """
    _hold(leaf, None if value is None else wrap(array_of(value), value.spec, value._node))


def _hold(leaf: Leaf, value: Tensor | None) -> None:
    for journal in _local.journals:
        journal.note_grad(leaf)
    leaf.grad = value


class Journal:
    """What cells were bound to before they were rebound while the block runs, for `undo`.

    It holds no cell, and forgets one that is gone. Gradients that leaves held are remembered likewise.
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[weakref.ref[TensorData], Any, Spec | Tracked, Origin | None]] = {}
        self._grads: dict[Leaf, Tensor | None] = {}

    def note(self, cell: TensorData) -> None:
        """Remember what ``cell`` is bound to, if it is the first time."""
        key, before = id(cell), self._before
        if key not in before:
            # The callback does not hold the journal: in a cycle the arrays would wait for the collector.
            journal = weakref.ref(self)
            reference = weakref.ref(cell, lambda _: _forget(journal(), key))
            array = current().array_of(cell) if mode.modes.capturing else cell._array
            before[key] = reference, array, cell._key, cell._node

    def note_grad(self, leaf: Leaf) -> None:
        """Remember the gradient that ``leaf`` holds, if it is the first time."""
        self._grads.setdefault(leaf, leaf.grad)

    def regraded(self, leaf: Leaf) -> bool:
        """Whether the gradient of ``leaf`` changed."""
        return leaf in self._grads

    def rebound(self) -> list[tuple[TensorData, Any]]:
        """The cells that were rebound and are still there, each with the array that it had."""
        return [
            (cell, array)
            for reference, array, *_ in self._before.values()
            if (cell := reference()) is not None
        ]

    def array_before(self, cell: TensorData) -> Any:
        """The array that ``cell`` had, rebound or not."""
        found = self._before.get(id(cell))
        return cell._array if found is None else found[1]

    def leaves(self) -> list[Leaf]:
        """The leaves whose gradient changed."""
        return list(self._grads)

    def undo(self, but: Container[int] = ()) -> None:
        """Bind every cell to what it was bound to before, and give every leaf the gradient that it had.

        Args:
            but: the identities of cells to leave as they are.
        """
        for leaf, grad in list(self._grads.items()):
            _hold(leaf, grad)
        for reference, *value in list(self._before.values()):
            cell = reference()
            if cell is not None and id(cell) not in but:
                rebind(cell, *value)

    def __enter__(self) -> Journal:
        _local.journals = (*_local.journals, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _local.journals = tuple(j for j in _local.journals if j is not self)


def _forget(journal: Journal | None, key: int) -> None:
    if journal is not None:
        journal._before.pop(key, None)
