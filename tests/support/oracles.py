"""What numeric tests compare with: distances in units of the last place, and special values with their signs."""

from __future__ import annotations

from typing import Any

import numpy as np

import plugrad as pg
from plugrad.dispatch.op import Op
from plugrad.dispatch.settle import apply_body

FLOATING = ["float16", "bfloat16", "float32", "float64"]


def ulps(got: np.ndarray, reference: np.ndarray) -> float:
    """The largest distance of ``got`` from ``reference``, a wider dtype, in units of the last place of ``got``.

    Values that both round to the same infinity, and NaN in both, have distance 0.
    """
    rounded = reference.astype(got.dtype)
    unequal = (got != rounded) & ~(np.isnan(got) & np.isnan(rounded))
    if not unequal.any():
        return 0.0
    g, r = got[unequal], reference[unequal]
    unit = np.spacing(np.abs(r.astype(got.dtype)))
    return float(np.max(np.abs(g.astype(reference.dtype) - r) / unit.astype(reference.dtype)))


def by_body(op: Op[..., Any], *operands: Any, **attributes: Any) -> Any:
    """The op's body applied to tensors, whatever kernels the device has."""
    return apply_body(op, operands, attributes)


def tensor(values: Any, dtype: str, device: str) -> pg.Tensor:
    """``values`` in ``dtype`` on ``device``; what is too large for it is an infinity."""
    with np.errstate(over="ignore"):
        return pg.asarray(np.asarray(values, pg.dtypes.as_dtype(dtype).numpy), device=device)


def assert_same(got: Any, expected: Any, message: str = "") -> None:
    """Equal elements, once ``expected`` is rounded to their dtype: NaN equals NaN, and zeros have the same sign."""
    host = got.numpy() if isinstance(got, pg.Tensor) else np.asarray(got)
    wanted = np.asarray(expected).astype(host.dtype)
    floating = host.dtype.kind not in "biu"
    if floating:
        host, wanted = host.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_array_equal(host, wanted, err_msg=message)
    if floating:
        zero = host == 0
        np.testing.assert_array_equal(
            np.signbit(host)[zero], np.signbit(wanted)[zero], err_msg=f"sign of zero: {message}"
        )
