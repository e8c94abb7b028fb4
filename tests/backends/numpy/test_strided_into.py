"""Elementwise kernels write to ``into`` whose elements are not side by side, in rows long enough for vector code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from plugrad import dtypes
from plugrad.dispatch.op import Kind, Op
from plugrad.dtypes import DType
from plugrad.spec import Device, Spec
from plugrad_numpy.kernels import table
from support.samples import stated_ops

OPS = [op for op in stated_ops() if op.kind is Kind.ELEMENTWISE and op in table and not op.attributes]
SHAPE = (3, 200)


def operand(dtype: DType, rng: np.random.Generator, order: Any) -> Any:
    if not dtype.is_floating:
        return np.asarray(rng.integers(0, 2, SHAPE).astype(dtype.numpy), order=order)
    x = rng.uniform(0.05, 0.9, SHAPE).astype(dtype.numpy)
    x[:, ::7] = np.nan
    x[:, 3::11] = np.inf
    x[:, 5::13] *= -1
    return np.asarray(x, order=order)


def targets(like: Any) -> Iterator[Any]:
    """Arrays to write to, which hold something else before."""
    filled = np.ones if like.dtype == np.bool_ else np.zeros
    rows, columns = like.shape
    yield filled((columns, rows), like.dtype).T
    for step in (2, -1, -3):
        yield filled((rows, columns * abs(step)), like.dtype)[:, ::step]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_strided_into(op: Op[..., Any], order: str) -> None:
    rng = np.random.default_rng(0)
    tried = 0
    for dtype in (dtypes.float32, dtypes.float64, dtypes.int64, dtypes.bool):
        if not all(dtype in op.dtypes[o.name] for o in op.operands):
            continue
        arrays = [operand(dtype, rng, order) for _ in op.operands]
        kernel = table.find(op, [Spec(SHAPE, dtype, Device("numpy")) for _ in arrays], {})
        assert kernel is not None
        expected = kernel.function(*arrays)
        for into in targets(expected):
            assert kernel.function(*arrays, into=into) is into
            if expected.dtype.kind == "f":  # vector code may round otherwise
                eps = np.finfo(expected.dtype).eps
                np.testing.assert_allclose(into, expected, rtol=4 * eps, atol=4 * eps)
            else:
                np.testing.assert_array_equal(into, expected)
            tried += 1
    assert tried
