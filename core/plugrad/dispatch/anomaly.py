"""What `detect_anomaly` adds to a runner: a look at each result, and the user's line. An `Observer` wants the line too."""

from __future__ import annotations

import linecache
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.backend import backend_of
from plugrad.backend.null import Nothing
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.record import Function, Node, Slot
from plugrad.dispatch.statement import Kind
from plugrad.errors import AnomalyError

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op

_PACKAGE: Final = str(Path(__file__).resolve().parents[1]) + os.sep
# The names of the code that dispatch writes for signatures.
_WRITTEN: Final = ("<call of ", "<runner ", "<pullback of ")


class _Local(threading.local):
    line: str | None = None


_local: Final = _Local()


@contextmanager
def on_behalf_of(line: str | None) -> Iterator[None]:
    """While the block runs, results are not looked at, and what is recorded counts as made at ``line``.

    A rule may make an infinity on the way to a finite result, so that a backward looks at the result alone.
    With None nothing changes.
    """
    before = _local.line
    _local.line = before if line is None else line
    try:
        yield
    finally:
        _local.line = before


def line_of_backward() -> str | None:
    """The line that made what backward is passing through on this thread, where its node remembers it."""
    return _local.line


def user_line(frame: FrameType | None = None) -> str:
    """File, line and code of the innermost frame outside plugrad, from ``frame`` or the caller on."""
    frame = frame or sys._getframe(1)
    while frame is not None:
        code, name = frame.f_code, frame.f_code.co_filename
        if not name.startswith((_PACKAGE, *_WRITTEN)):
            source = linecache.getline(name, frame.f_lineno, frame.f_globals).strip()
            return f"{name}:{frame.f_lineno}, in {code.co_name}: {source}"
        frame = frame.f_back
    return "(no user code)"


def note_line(origin: Any) -> None:
    """Let a node remember the user's line that made it."""
    node = origin.node if isinstance(origin, Slot) else origin
    if isinstance(node, (Node, Function)):
        node.line = _local.line or user_line()


def noting_line(run: Callable[..., Any]) -> Callable[..., Any]:
    """A runner that notes the line on its node."""

    def run_noting(*operands: Any) -> Any:
        result = run(*operands)
        for tensor in result if isinstance(result, tuple) else (result,):
            note_line(tensor._node)
        return result

    return run_noting


def is_anomalous(value: Any) -> bool:
    """Whether a floating tensor holds NaN or an infinity, a number is infinite, or one of a sequence of these.

    An infinity is written as a number on purpose, to mask by; with NaN an op makes the first one.
    """
    if isinstance(value, float):
        return math.isinf(value)
    if isinstance(value, (list, tuple)):
        return any(map(is_anomalous, value))
    if not isinstance(value, TensorData) or not value.spec.dtype.is_floating:
        return False
    if value._array is None or isinstance(value._array, Nothing):
        return False
    host = backend_of(value.spec.device).to_host(value._array)
    return not bool(np.isfinite(np.asarray(host, np.float64)).all())


def checked(run: Callable[..., Any], op: Op[..., Any]) -> Callable[..., Any]:
    """A runner that raises where ``op`` makes the first NaN or infinity, and notes the line on its node.

    An op that makes a tensor from nothing makes what it was asked for.
    """

    def run_checked(*operands: Any) -> Any:
        result = run(*operands)
        several = result if isinstance(result, tuple) else (result,)
        for tensor in several:
            note_line(tensor._node)
        if (
            op.kind is not Kind.CREATION
            and _local.line is None
            and is_anomalous(several)
            and not is_anomalous(operands)
        ):
            raise AnomalyError(f"{op.name} made the first NaN or infinity, at {user_line()}")
        return result

    return run_checked
