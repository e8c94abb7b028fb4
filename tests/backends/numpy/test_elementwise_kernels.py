"""Each form of each elementwise kernel and of the softmax family: small, in blocks, into an array, over an operand."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.op import Kind, Op
from plugrad.spec import Device, Spec
from plugrad_numpy.kernels import table
from support.oracles import assert_same
from support.samples import normalized, samples_of, stated_ops

DEVICE = Device("numpy")
LINES = (pg.softmax, pg.log_softmax, pg.logsumexp)
OPS = [
    op
    for op in stated_ops()
    if (op.kind is Kind.ELEMENTWISE or op in LINES) and op.sampler is not None and op in table
]


def arrays_of(op: Op[..., Any], dtype: str, repeat: int) -> list[tuple[list[Any], dict[str, Any]]]:
    """Operands and attributes of the op's samples, the floating ones in ``dtype``, stretched ``repeat``-fold."""

    def convert(value: Any) -> Any:
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        value = np.asarray(value)
        if value.dtype.kind == "f":
            value = value.astype(pg.dtypes.as_dtype(dtype).numpy)
        return np.stack([value] * repeat) if repeat > 1 else value

    found = []
    for sample in samples_of(op):
        operands = [convert(o) for o in sample.operands]
        given = [o for o in operands if isinstance(o, np.ndarray)]
        if repeat > 1 and len({a.shape for a in given}) > 1:
            continue
        if len({a.dtype for a in given if a.dtype != np.bool_}) > 1:
            continue
        if any(isinstance(o, float) for o in operands) and all(a.dtype.kind in "iu" for a in given):
            continue
        found.append((operands + [None] * (len(op.operands) - len(operands)), sample.attributes))
    return found


def with_defaults(op: Op[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    defaults = {n: p.default for n, p in inspect.signature(op.__wrapped__).parameters.items()}  # type: ignore[attr-defined]
    return {n: given.get(n, defaults[n]) for n in op.attributes}


def specs_of(values: list[Any]) -> list[Any]:
    """What the core shows to a kernel's ``when``: a Python number has the dtype that it is promoted to."""
    arrays = [v for v in values if isinstance(v, np.ndarray)]
    common = max((a.dtype for a in arrays), key=lambda d: d != np.bool_)

    def spec(value: Any) -> Any:
        if value is None:
            return None
        array = isinstance(value, np.ndarray)
        return Spec(
            value.shape if array else (), pg.dtypes.as_dtype(value.dtype if array else common), DEVICE
        )

    return [spec(v) for v in values]


def check(op: Op[..., Any], operands: list[Any], attributes: dict[str, Any]) -> Any:
    """The kernel's result, the same new, into a given array, and into each operand that it may overwrite."""
    kernel = table.find(op, specs_of(operands), attributes)
    assert kernel is not None
    before = [np.copy(a) if isinstance(a, np.ndarray) else a for a in operands]
    result = np.asarray(kernel.function(*operands, **attributes))
    into = np.empty(result.shape, result.dtype)
    given = kernel.function(*operands, into=into, **attributes)
    assert np.shares_memory(given, into) or not result.size
    assert_same(into, result, op.name)
    for a, b in zip(operands, before, strict=True):
        if isinstance(a, np.ndarray):
            assert_same(a, b, f"{op.name} changed an operand")
    for operand, a in zip(op.operands, operands, strict=True):
        if operand.name not in kernel.inplace or not isinstance(a, np.ndarray):
            continue
        if a.shape == result.shape and a.dtype == result.dtype:
            over = np.copy(a)
            kernel.function(*[over if x is a else x for x in operands], into=over, **attributes)
            assert_same(over, result, f"{op.name} into {operand.name}")
    return result


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("repeat", [1, 8000])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_forms_of_a_kernel(op: Op[..., Any], repeat: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for operands, given in arrays_of(op, dtype, repeat):
        if repeat > 1 and (not isinstance(operands[0], np.ndarray) or operands[0].size < 40_000):
            continue
        attributes = normalized(op, specs_of(operands), with_defaults(op, given))
        out = check(op, operands, attributes)
        if not op.differentiable or not any(
            isinstance(a, np.ndarray) and a.dtype.kind not in "biu" for a in operands
        ):
            continue
        values = dict(zip((o.name for o in op.operands), operands, strict=True))
        for vjp in op.vjps:
            followed = values[vjp.wrt[0]]
            if vjp.op not in table or not isinstance(followed, np.ndarray):
                continue
            ct = rng.standard_normal(out.shape).astype(out.dtype)
            full = {**values, "ct": ct, "out": out}
            result = check(
                vjp.op, [full[o.name] for o in vjp.op.operands], {n: attributes[n] for n in vjp.op.attributes}
            )
            assert result.dtype == ct.dtype
            assert result.shape == (ct.shape if op.kind is Kind.ELEMENTWISE else followed.shape)
