"""The samples of every op, as operands on a device."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import plugrad as pg
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dispatch.statement import Call, all_ops


def stated_ops() -> list[Op[..., Any]]:
    """Every op but those of rules."""
    return [op for op in all_ops().values() if op.owner is None]


def samples_of(op: Op[..., Any]) -> list[Sample]:
    """The samples of ``op``, the same at every call."""
    assert op.sampler is not None, f"{op.name} states no samples"
    return list(op.sampler(np.random.default_rng(zlib.crc32(op.name.encode()))))


def rounds(op: Op[..., Any], sample: Sample) -> bool:
    """Whether the op rounds float64 operands, which no finite difference of them sees through."""
    return op.name == "astype" and sample.attributes["dtype"] in ("float32", "float16", "bfloat16")


def operands(sample: Sample, dtype: str, device: str, *, requires_grad: bool = False) -> list[Any]:
    """The operands of a sample on ``device``, the floating ones in ``dtype``."""

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(v) for v in value]
        if not isinstance(value, (np.ndarray, np.generic)):
            return value
        host = np.asarray(value)
        if host.dtype.kind != "f":
            return pg.asarray(host, device=device)
        return pg.asarray(host, dtype=dtype, device=device).requires_grad_(requires_grad)

    return [convert(o) for o in sample.operands]


def flat(values: Any) -> Iterator[Any]:
    """The tensors in nested lists and tuples."""
    for v in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(v, (list, tuple)):
            yield from flat(v)
        elif isinstance(v, pg.Tensor):
            yield v


def normalized(op: Op[..., Any], args: list[Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes in the form in which the core hands them to bodies and kernels."""

    def spec(value: Any) -> Any:
        return tuple(map(spec, value)) if isinstance(value, list) else getattr(value, "spec", value)

    call = Call(op, {**{o.name: spec(a) for o, a in zip(op.operands, args, strict=True)}, **attributes})
    for name, normalize in op.normalizers.items():
        setattr(call, name, normalize(call, getattr(call, name)))
    return {name: getattr(call, name) for name in attributes}
