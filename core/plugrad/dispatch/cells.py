"""Cells: how a Tensor object is bound to another value, and what must be undone of it."""

from __future__ import annotations

import threading
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from plugrad.dispatch.data import TensorData
    from plugrad.dispatch.record import Origin
    from plugrad.spec import Spec, Tracked


class _Local(threading.local):
    journals: tuple[Journal, ...] = ()


_local: Final = _Local()


def rebind(cell: TensorData, array: Any, key: Spec | Tracked, node: Origin | None) -> None:
    """Bind ``cell`` to another value. Whatever changes a tensor that exists changes it through here."""
    for journal in _local.journals:
        journal.note(cell)
    cell._array = array
    cell._key = key
    cell._node = node


class Journal:
    """What cells were bound to before they were rebound while the block runs, for `undo`.

    It holds no cell, and forgets one that is gone.
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[weakref.ref[TensorData], Any, Spec | Tracked, Origin | None]] = {}

    def note(self, cell: TensorData) -> None:
        """Remember what ``cell`` is bound to, if it is the first time."""
        key, before = id(cell), self._before
        if key not in before:
            reference = weakref.ref(cell, lambda _: before.pop(key, None))
            before[key] = reference, cell._array, cell._key, cell._node

    def undo(self) -> None:
        """Bind every cell to what it was bound to before."""
        for reference, *value in list(self._before.values()):
            cell = reference()
            if cell is not None:
                rebind(cell, *value)

    def __enter__(self) -> Journal:
        _local.journals = (*_local.journals, self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _local.journals = tuple(j for j in _local.journals if j is not self)
