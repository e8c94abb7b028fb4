"""``special``: NaN, infinities, zeros of both signs, and numbers of all magnitudes, position by position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from plugrad.dispatch.op import Kind, Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import FLOATING, DType, as_dtype, finfo
from plugrad_conformance.cases import Case, Level, needed
from plugrad_conformance.checks._applying import Run, forward, gradient
from plugrad_conformance.checks.forward import has_floats, op_of, takes
from plugrad_conformance.measure import same_zeros
from plugrad_conformance.reference import Application
from plugrad_conformance.subject import names_missing_dtype, samples_of, stated_ops
from plugrad_conformance.tolerances import OPEN_ZEROS

Host = np.ndarray[Any, Any]

EVERYWHERE = (Kind.ELEMENTWISE, Kind.REDUCTION, Kind.SCAN, Kind.SORTING, Kind.MOVEMENT, Kind.INDEXING)
"""Families in which an infinity has one meaning; in the others only NaN is sent through."""


NAN_ALONE: Final = frozenset(("linear_recurrence", "prod", "cumulative_prod"))
"""Ops of those families whose meaning an infinity lacks: products are taken in an order that is not said."""

KEPT: Final = {"searchsorted": frozenset((0,))}
"""By op, operands whose values stay as they are: an order that NaN would break is asked of them."""

OPEN_GRADIENTS: Final[dict[str, Callable[[Sample], bool]]] = {
    "scaled_dot_product_attention": lambda s: s.attributes.get("is_causal", False) or _masked(s),
    "conv_weight": lambda s: bool({"padding", "groups"} & s.attributes.keys()),
    "cross_entropy": lambda s: "ignore_index" in s.attributes or bool((s.operands[1] < 0).any()),
    "rnn_sequence": lambda s: s.attributes.get("nonlinearity") == "relu",
}
"""Samples whose rules multiply by zeros that stand for what is masked, ignored or padded: whether a NaN comes through is
not said."""


def _masked(sample: Sample) -> bool:
    return any(isinstance(o, np.ndarray) and o.dtype.kind == "b" for o in sample.operands)


def cases() -> Iterator[Case]:
    """Every op with a floating operand, in each floating dtype that it takes."""
    for op in stated_ops():
        samples = [s for s in samples_of(op, 0) if has_floats(s)]
        for d in FLOATING:
            if any(takes(op, s, d.name) for s in samples):
                yield Case("special", op.name, d.name, "", Level.L3, needed(d.name), op.name, "forward")
        if samples and op.differentiable:
            yield Case("special", f"{op.name}.vjp", "float32", "", Level.L3, frozenset(), op.name, "vjp")


def values(dtype: DType) -> Host:
    """The special values: what is not finite, zeros, and magnitudes from the smallest normal number to large ones."""
    tiny = finfo(dtype).smallest_normal
    plain = [1.0, -1.0, 0.5, -0.5, 2.0, 3.0, -3.0, 20.0, -20.0, 80.0, -80.0, 1e4, -1e4, tiny, -tiny, 1e-3]
    return np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, *plain])


def run(run: Run) -> None:
    """Elementwise ops on the product of the values, others with the values in the places of a sample's own.

    Of a gradient, one cotangent is NaN: it must come through, and no further than the rule takes it.
    """
    op, dtype = op_of(run), as_dtype(run.case.dtype)
    rng = run.rng()
    forms: set[str] = set()
    for sample in samples_of(op, run.case.seed):
        if not has_floats(sample) or names_missing_dtype(sample, run.subject):
            continue
        if not takes(op, sample, dtype.name):
            continue
        if run.case.direction == "vjp":
            _gradients(run, op, sample, dtype, rng)
        elif op.kind is Kind.ELEMENTWISE:
            form = f"{[type(o).__name__ for o in sample.operands]} {sample.attributes}"
            if form not in forms:
                forms.add(form)
                operands = product(sample, values(dtype), rng)
                forward(run, op, sample, dtype, operands=operands, check=_zeros(op))
        elif (op.kind in EVERYWHERE or op.name == "astype") and op.name not in NAN_ALONE:
            if _undefined(op, sample):
                continue
            kept = KEPT.get(op.name, frozenset())
            sown = [o if i in kept else _sown(o, values(dtype), rng) for i, o in enumerate(sample.operands)]
            forward(run, op, sample, dtype, operands=sown)
            sown = [o if i in kept else _halved(o, rng) for i, o in enumerate(sample.operands)]
            forward(run, op, sample, dtype, operands=sown)
        else:
            for operands in list(_with_nan(sample.operands, rng))[: _reach(op)]:
                forward(run, op, sample, dtype, operands=operands)


def _reach(op: Op[..., Any]) -> int | None:
    """Into how many operands a NaN goes: of a contraction one, as zeros that pad or mask meet the others."""
    return 1 if op.kind is Kind.CONTRACTION else None


def _gradients(run: Run, op: Op[..., Any], sample: Sample, dtype: DType, rng: np.random.Generator) -> None:
    """One cotangent is NaN, then half of them, then one element of the first operand."""
    if op.name in OPEN_GRADIENTS and OPEN_GRADIENTS[op.name](sample):
        return
    gradient(run, op, sample, dtype, ct=lambda ct: next(_with_nan([ct], rng), [ct])[0], identity=False)
    gradient(run, op, sample, dtype, ct=lambda ct: _halved(ct, rng), identity=False)
    for operands in list(_with_nan(sample.operands, rng))[:1]:
        gradient(run, op, sample, dtype, operands=operands, identity=False)


def _undefined(op: Op[..., Any], sample: Sample) -> bool:
    """Whether the sample casts to integers: what is not finite has no value there."""
    return op.name == "astype" and not as_dtype(sample.attributes["dtype"]).is_floating


def product(sample: Sample, special: Host, rng: np.random.Generator) -> list[Any]:
    """Operands of an elementwise op that meet every combination of the values; others are drawn from the sample's."""
    arrays = [isinstance(o, (np.ndarray, np.generic)) for o in sample.operands]
    floating = [a and np.asarray(o).dtype.kind == "f" for a, o in zip(arrays, sample.operands, strict=True)]
    count, seen = sum(floating), 0
    operands: list[Any] = []
    for value, is_array, is_floating in zip(sample.operands, arrays, floating, strict=True):
        if is_floating:
            shape = [1] * count
            shape[seen] = special.size
            operands.append(special.reshape(shape))
            seen += 1
        elif is_array:
            source = np.asarray(value).reshape(-1)
            drawn = rng.choice(source, special.size) if source.size else np.zeros(special.size, source.dtype)
            operands.append(drawn)
        else:
            operands.append(value)
    return operands


def _zeros(op: Op[..., Any]) -> Any:
    if op.name in OPEN_ZEROS:
        return None

    def check(application: Application, got: list[Host], wanted: list[Host]) -> None:
        del application
        for g, w in zip(got, wanted, strict=True):
            if w.dtype.kind == "f" and g.dtype.kind not in "biu":
                same_zeros(op.name, g, w)

    return check


def _sown(value: Any, special: Host, rng: np.random.Generator) -> Any:
    """A floating operand with a third of its elements replaced."""
    if isinstance(value, list):
        return [_sown(v, special, rng) for v in value]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return np.where(rng.random(value.shape) < 0.34, rng.choice(special, value.shape), value)


def _halved(value: Any, rng: np.random.Generator) -> Any:
    """A floating array with NaN in about half of its places."""
    if isinstance(value, list):
        return [_halved(v, rng) for v in value]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    return np.where(rng.random(value.shape) < 0.5, np.nan, value)


def _with_nan(operands: Sequence[Any], rng: np.random.Generator) -> Iterator[list[Any]]:
    """The operands with one NaN in one of them, for each floating one with elements; not in a number that sets a step."""
    for i, value in enumerate(operands):
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.size and (value.ndim or not i):
            changed = value.copy()
            changed.reshape(-1)[rng.integers(value.size)] = np.nan
            yield [*operands[:i], changed, *operands[i + 1 :]]
