"""What an op's record says of its kernels: names and dtypes of operands and results, valid values of attributes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plugrad.dispatch.op import Op
from plugrad.dispatch.settle import _infer, normalized
from plugrad.dispatch.statement import Call, Vjp
from plugrad.dtypes import DType, as_dtype, float32, float64, int64
from plugrad.spec import Device, Spec
from plugrad_conformance.checks._applying import on_reference, pulled
from plugrad_conformance.reference import Application
from plugrad_conformance.subject import rounded, rules, samples_of, stated_ops


def targets() -> list[Op[..., Any]]:
    """Every op and every rule that may have a kernel: a transparent op is its body, whatever the backend."""
    return [op for op in [*stated_ops(), *rules()] if not op.transparent]


def rule_of(op: Op[..., Any]) -> Vjp | None:
    """The rule that ``op`` computes, or None."""
    return None if op.owner is None else next(v for v in op.owner.vjps if v.op is op)


def result_names(op: Op[..., Any], attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The results of a call of a kernel: outputs and residuals, or the operands whose gradients they are."""
    rule = rule_of(op)
    if rule is None:
        return (*op.outputs, *(op.residuals if attributes.get("residuals") else ()))
    return tuple(attributes.get("wrt", rule.wrt))


def gives_tuple(op: Op[..., Any], attributes: Mapping[str, Any]) -> bool:
    """Whether a kernel returns a tuple of its results."""
    rule = rule_of(op)
    return rule.joint if rule is not None else len(result_names(op, attributes)) > 1


def results(op: Op[..., Any]) -> tuple[str, ...]:
    """Every result that the op can have."""
    rule = rule_of(op)
    return (*op.outputs, *op.residuals) if rule is None else rule.wrt


@functools.cache
def result_dtypes(op: Op[..., Any]) -> dict[str, DType]:
    """The dtypes of the results, for floating operands of float32, by the op's own rule."""
    if op.owner is not None:
        return dict.fromkeys(results(op), float32)  # what carries a gradient is floating
    for sample in samples_of(op, 0):
        application = Application.of(op, sample, [rounded(o, float32) for o in sample.operands], float32)
        attributes = dict(application.attributes)
        if op.residuals:
            attributes["residuals"] = True
        specs = [_spec(v) for v in application.operands]
        return {n: s.dtype for n, s in zip(results(op), _infer(op, specs, attributes), strict=True)}
    raise LookupError(f"{op.name} states no sample")


def _spec(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_spec(v) for v in value)
    if value is None:
        return None
    host = np.asarray(value)
    return Spec(host.shape, as_dtype(host.dtype), Device("null"))


def floating_results(op: Op[..., Any]) -> tuple[str, ...]:
    """The results that are floating."""
    return tuple(n for n, d in result_dtypes(op).items() if d.is_floating)


def floating_operands(op: Op[..., Any]) -> tuple[str, ...]:
    """The operands that may be floating; for a rule these are the cotangents, and what is floating of the owner's."""
    if op.owner is None:
        return tuple(o.name for o in op.operands if any(d.is_floating for d in op.dtypes[o.name]))
    inner = set(floating_operands(op.owner)) | set(floating_results(op.owner))
    return tuple(o.name for o in op.operands if is_cotangent(o.name) or o.name in inner)


@functools.cache
def vanishes(op: Op[..., Any]) -> bool:
    """Whether what the op gives is zero everywhere, as the gradients of roundings are: by its rule, on oracles."""
    if op.owner is None:
        return False
    rule = rule_of(op)
    assert rule is not None
    rng = np.random.default_rng(0)
    for sample in samples_of(op.owner, 0):
        hosts = [rounded(o, float32) for o in sample.operands]
        at = 0
        for operand, value in zip(op.owner.operands, hosts, strict=False):
            arrays = [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, np.ndarray)]
            for array in arrays:
                if operand.name in rule.wrt and array.dtype.kind not in "biu":
                    found, _, _ = pulled(op.owner, sample, hosts, _random(rng), on_reference, [at])
                    if found[0] is not None and found[0]._array.any():
                        return False
                at += 1
    return True


def _random(rng: np.random.Generator) -> Any:
    return lambda outs: [on_reference(np.asarray(rng.standard_normal(o.shape))) for o in outs]


def is_cotangent(name: str) -> bool:
    """Whether an operand of a rule is a cotangent."""
    return name == "ct" or name.startswith("ct_")


def from_outside(op: Op[..., Any]) -> tuple[str, ...]:
    """The operands whose memory layout the backend does not choose: all but results that the owner's kernel wrote."""
    own = () if op.owner is None else results(op.owner)
    return tuple(o.name for o in op.operands if o.name not in own)


def takes(op: Op[..., Any], dtype: DType) -> bool:
    """Whether an operand, or the result by its attribute, may have this dtype."""
    owner = op.owner or op
    return "dtype" in owner.attributes or any(dtype in owner.dtypes[o.name] for o in owner.operands)


def static_attributes(op: Op[..., Any]) -> tuple[str, ...]:
    """The attributes that say what is computed: not the device, the specs that a rule is given, or ``wrt``."""
    parameters = inspect.signature(op.__wrapped__).parameters  # type: ignore[attr-defined]
    return tuple(
        n
        for n in op.attributes
        if n not in ("device", "wrt", "residuals") and "Spec" not in str(parameters[n].annotation)
    )


def other_value(op: Op[..., Any], name: str, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """What an attribute is where it is ignored: its default in the op's normal form, else another of its type."""
    owner, value = op.owner or op, attributes[name]
    stated = inspect.signature(owner.__wrapped__).parameters  # type: ignore[attr-defined]
    default = stated[name].default if name in stated else inspect.Parameter.empty
    if default is inspect.Parameter.empty:
        return another(name, value)
    known = dict(zip((o.name for o in op.operands), specs, strict=True))
    own = {k: v for k, v in attributes.items() if k in op.attributes}
    if op is owner:
        # The device of the call is in the attributes already, in its normal form.
        return normalized(op, specs, {**own, name: default}, own.get("device", Device("null")))[name]
    if name not in owner.normalizers:
        return default
    try:
        return owner.normalizers[name](Call(owner, {**own, **known, name: default}), default)
    except AttributeError:
        return default  # a rule knows less of the operands than the op


def another(name: str, value: Any) -> Any:
    """Another value of the type of ``value``."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return 0 if value else 1
    if isinstance(value, float):
        return 0.0 if value else 1.0
    if isinstance(value, DType):
        return float64 if value is not float64 else int64
    if isinstance(value, tuple) and value:
        if name == "axes" and all(isinstance(v, int) for v in value):
            return tuple(sorted(value))
        return value[1:] if len(value) > 1 else (another(name, value[0]),)
    return value
