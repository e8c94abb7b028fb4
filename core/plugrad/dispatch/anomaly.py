"""What `detect_anomaly` adds to a runner: a look at each result, and the user's line."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.backend import backend_of
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.record import Function, Node
from plugrad.errors import AnomalyError

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op

_PACKAGE: Final = str(Path(__file__).resolve().parents[1])


def user_line() -> str:
    """File, line and code of the innermost frame outside plugrad."""
    for frame in reversed(traceback.extract_stack()):
        if not frame.filename.startswith((_PACKAGE, "<")):
            return f"{frame.filename}:{frame.lineno}, in {frame.name}: {frame.line}"
    return "(no user code)"


def is_anomalous(tensor: TensorData) -> bool:
    """Whether a floating tensor holds NaN or an infinity."""
    spec = tensor.spec
    if not spec.dtype.is_floating or tensor._array is None:
        return False
    host = backend_of(spec.device).to_host(tensor._array)
    return not bool(np.isfinite(np.asarray(host, np.float64)).all())


def checked(run: Callable[..., Any], op: Op[..., Any]) -> Callable[..., Any]:
    """A runner that raises where ``op`` makes the first NaN or infinity, and notes the line on its node."""

    def run_checked(*operands: Any) -> Any:
        result = run(*operands)
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor._node, (Node, Function)):
                tensor._node.line = user_line()
            if is_anomalous(tensor) and not any(
                is_anomalous(x) for x in operands if isinstance(x, TensorData)
            ):
                raise AnomalyError(f"{op.name} made the first NaN or infinity, at {user_line()}")
        return result

    return run_checked
