"""What is wanted of an application: by the oracle of the op, and by the op's rule on a device made of oracles.

`REFERENCE` is a device of this process alone. It keeps float64 arrays, and its kernels, of primitives alone, are the
oracles. The rule of an op that is evaluated there is the mathematics that the core states, computed by what no backend
shares; finite differences of the oracle itself (`pairing`) hold that rule to the op's meaning.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from plugrad.backend import Backend, Capabilities, DeviceInfo, Kernel, KernelTable, register_backend
from plugrad.dispatch.conversion import promotion
from plugrad.dispatch.modes import Modes
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dispatch.settle import normalized
from plugrad.dispatch.statement import Kind
from plugrad.dtypes import ALL, DType, as_dtype, float64
from plugrad.spec import Device, Shape, Spec
from plugrad_conformance.oracles import ORACLES
from plugrad_conformance.oracles.high_precision import HIGH_PRECISION, evaluate
from plugrad_conformance.tolerances import TABLE, Terms

Host = np.ndarray[Any, Any]

_NULL: Final = Device("null")


def floats(value: Any) -> Any:
    """An array as oracles take it: float64 where it is floating."""
    if isinstance(value, list):
        return [floats(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biu":
        return value.astype(np.float64)
    return value


def call_oracle(
    op: Op[..., Any], operands: Sequence[Any], attributes: Mapping[str, Any], dtype: DType
) -> list[Host]:
    """The results of the oracle of ``op``, floating ones in float64."""
    oracle = ORACLES[op.name]
    given = {k: v for k, v in attributes.items() if k not in ("device", "residuals", "matmul_precision")}
    if "floating" in inspect.signature(oracle).parameters:
        given["floating"] = dtype
    with np.errstate(all="ignore"):
        results = oracle(*operands, **given)
    return [np.asarray(r) for r in (results if isinstance(results, tuple) else (results,))]


@dataclass(frozen=True, slots=True)
class Application:
    """A sample as a kernel would get it.

    Attributes:
        op: the op.
        operands: host arrays of the promoted dtypes; None for an absent one, lists for sequences.
        attributes: the static attributes in their normal form.
        dtype: the floating dtype under test.
    """

    op: Op[..., Any]
    operands: list[Any]
    attributes: dict[str, Any]
    dtype: DType

    @classmethod
    def of(cls, op: Op[..., Any], sample: Sample, operands: Sequence[Any], dtype: DType) -> Application:
        """From the operands of a sample: host arrays, Python scalars, None, lists."""
        given = list(operands)
        names = [o.name for o in op.operands]
        stated = inspect.signature(op.__wrapped__).parameters  # type: ignore[attr-defined]
        defaults = {n: p.default for n, p in stated.items() if p.default is not p.empty}
        attributes = {k: v for k, v in {**defaults, **sample.attributes}.items() if k in op.attributes}
        values: list[Any] = []
        for name in names:
            if given:
                values.append(given.pop(0))
            else:
                values.append(sample.attributes.get(name))
        specs = [_spec(v) for v in values]
        targets = promotion(op, specs, Modes())
        cast = [_cast(v, t) for v, t in zip(values, targets, strict=True)]
        settled = [
            Spec((), t, _NULL) if isinstance(s, type) else s for s, t in zip(specs, targets, strict=True)
        ]
        settled = [
            Spec(np.shape(v), t, _NULL) if isinstance(v, np.ndarray) else s
            for v, s, t in zip(cast, settled, targets, strict=True)
        ]
        return cls(op, cast, normalized(op, settled, attributes, _NULL), dtype)

    def oracle(self, change: Callable[[Host], Host] | None = None) -> list[Host]:
        """What the oracle gives; ``change`` is applied to the floating operands first."""

        def prepared(value: Any) -> Any:
            if isinstance(value, list):
                return [prepared(v) for v in value]
            wide = floats(value)
            return change(wide) if change is not None and wide is not value else wide

        # A float64 operand is its own float64 array; a copy tells that it is floating.
        return call_oracle(self.op, [prepared(v) for v in self.operands], self.attributes, self.dtype)

    def exact(self) -> tuple[list[Host], list[Host | None]]:
        """What the oracle gives, and the tails of what float64 cannot hold."""
        name = self.op.name
        if self.dtype.name == "float64" and name in HIGH_PRECISION:
            attributes = {k: v for k, v in self.attributes.items() if k != "device"}
            head, tail = evaluate(name, [floats(v) for v in self.operands], attributes)
            return [head], [tail]
        results = self.oracle()
        return results, [None] * len(results)

    def largest(self, shape: Shape) -> Host:
        """The largest magnitude among the floating operands: at each place where they broadcast to ``shape``."""
        arrays = [np.abs(floats(v)) for v in _arrays(self.operands) if v.dtype.kind not in "biu"]
        with np.errstate(all="ignore"):
            arrays = [np.where(np.isfinite(a), a, 0.0) for a in arrays]
            if self.op.kind is Kind.ELEMENTWISE and arrays:
                return np.asarray(np.broadcast_to(functools.reduce(np.maximum, arrays), shape))
            return np.asarray(max((float(a.max(initial=0.0)) for a in arrays), default=0.0))

    def terms(self) -> list[tuple[Host, Host]] | None:
        """By result, the sum of the magnitudes of its terms and how many there are; None where that is not asked."""
        if not isinstance(TABLE.get(self.op.name), Terms):
            return None
        magnitudes, counts = self.oracle(np.abs), self.oracle(np.ones_like)
        if self.op.name in _UNCOUNTED:
            size = max(v.size for v in self.operands if isinstance(v, np.ndarray))
            counts = [np.full(m.shape, float(size)) for m in magnitudes]
        return list(zip(magnitudes, counts, strict=True))


_UNCOUNTED: Final = frozenset(("mean", "avg_pool", "prod", "cumulative_prod"))
"""Averages and products: the oracle of ones does not count their terms, so all elements count."""


def _arrays(values: Sequence[Any]) -> list[Host]:
    return [a for v in values for a in (v if isinstance(v, list) else [v]) if isinstance(a, np.ndarray)]


def _spec(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(_spec(v) for v in value)
    if isinstance(value, (bool, int, float)):
        return type(value)
    return Spec(np.shape(value), as_dtype(value.dtype), _NULL)


def _cast(value: Any, target: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_cast(v, t) for v, t in zip(value, target, strict=True)]
    with np.errstate(all="ignore"):
        return np.asarray(value).astype(target.numpy)


class _Oracles(KernelTable):
    """The oracles of primitives as kernels."""

    def find(self, op: Any, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        if not isinstance(op, Op) or op.body is not None:
            return None
        floating = next((s.dtype for s in _flat(specs) if s.dtype.is_floating), None)
        stated = attributes.get("dtype")
        target = stated if isinstance(stated, DType) else floating

        def run(*arrays: Any, into: Any = None, **given: Any) -> Any:
            del into
            # Whatever dtype the spec names, the array stays float64: what is wanted is the exact value.
            results = call_oracle(op, [floats(a) for a in arrays], given, target or float64)
            return tuple(results) if len(results) > 1 else results[0]

        return Kernel(run)

    def __contains__(self, op: object) -> bool:
        return isinstance(op, Op) and op.body is None


def _flat(specs: Sequence[Any]) -> list[Spec]:
    return [s for x in specs for s in (x if isinstance(x, tuple) else (x,)) if isinstance(s, Spec)]


class _Reference(Backend):
    name = "conformance-reference"

    def __init__(self) -> None:
        self.kernels = _Oracles()

    def devices(self) -> Sequence[DeviceInfo]:
        return [DeviceInfo("oracles in float64")]

    def capabilities(self, device: Device) -> Capabilities:
        del device
        return Capabilities(frozenset(ALL), broadcasting=True)

    def allocate(self, spec: Spec) -> Host:
        return np.empty(spec.shape, spec.dtype.numpy)

    def from_host(self, value: Host, device: Device) -> Host:
        del device
        return np.array(value)

    def to_host(self, array: Host) -> Host:
        return array

    def shape(self, array: Host) -> Shape:
        shape: Shape = array.shape
        return shape


REFERENCE: Final = Device(_Reference.name)
register_backend(_Reference())
