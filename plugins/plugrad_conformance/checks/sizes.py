"""``sizes``: arrays of one element, of odd sizes, and larger than a work-group; the samples of ops are small."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.dispatch.op import Kind, Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, forward, gradient
from plugrad_conformance.checks.forward import has_floats, op_of, own_dtype
from plugrad_conformance.subject import samples_of, stated_ops

Host = np.ndarray[Any, Any]

ELEMENTWISE: Final[tuple[tuple[int, ...], ...]] = ((1,), (255,), (257,), (1031,), (4, 257), (33, 1, 65))
ALONG_AN_AXIS: Final[tuple[tuple[tuple[int, ...], int], ...]] = (
    ((1,), 0),
    ((1031,), 0),
    ((3, 1031), 1),
    ((1031, 3), 0),
    ((5, 257, 3), 1),
)
FAMILIES: Final = (Kind.REDUCTION, Kind.SCAN, Kind.SORTING)


def _structured(rng: np.random.Generator) -> dict[Op[..., Any], list[Sample]]:
    """Samples of the ops whose operands' shapes depend on each other."""

    def draw(*shape: int) -> Host:
        return rng.standard_normal(shape)

    rows = draw(7, 1031)
    peaked = draw(1, 5, 31, 35)
    peaked[..., -1, -1] = 9.0  # so that the last gradient is not 0
    return {
        ops.matrix_product: [
            Sample(draw(65, 129), draw(129, 33)),
            Sample(draw(1, 1031), draw(1031, 1)),
            Sample(draw(3, 17, 31), draw(3, 31, 65)),
        ],
        ops.linear: [Sample(draw(67, 130), draw(35, 130), draw(35))],
        ops.softmax: [Sample(rows), Sample(rows, axis=0)],
        ops.log_softmax: [Sample(rows)],
        ops.layer_norm: [Sample(rows, draw(1031), draw(1031), normalized_shape=(1031,))],
        ops.rms_norm: [Sample(rows, draw(1031), normalized_shape=(1031,))],
        ops.cross_entropy: [Sample(rows, rng.integers(0, 1031, 7))],
        ops.conv: [
            Sample(draw(2, 17, 19, 23), draw(9, 17, 3, 3), draw(9), padding=1),
            Sample(draw(2, 4, 301), draw(6, 2, 5), groups=2, stride=2),
        ],
        ops.max_pool: [Sample(peaked, kernel_size=3, stride=2)],
        ops.avg_pool: [Sample(draw(1, 5, 31, 35), kernel_size=3, stride=2)],
        ops.batch_norm_training: [Sample(draw(9, 5, 17, 13), draw(5), draw(5))],
        ops.batch_norm_inference: [
            Sample(draw(3, 5, 17, 13), draw(5), rng.uniform(0.5, 2.0, 5), draw(5), draw(5))
        ],
        ops.group_norm: [Sample(draw(3, 15, 7), draw(15), draw(15), num_groups=5)],
        ops.conv_transpose: [Sample(draw(2, 3, 33), draw(3, 5, 3), draw(5))],
        ops.conv_weight: [Sample(draw(2, 3, 35), draw(2, 5, 33), kernel_size=3)],
        ops.embedding: [
            Sample(rng.integers(0, 61, (7, 43)), draw(61, 19)),
            Sample(rng.integers(0, 61, (7, 43)), draw(61, 19), padding_idx=7),
        ],
        ops.gather_nd: [Sample(draw(61, 19), [rng.integers(0, 61, 301)])],
        ops.update_nd: [Sample(draw(61, 19), [rng.permutation(61)[:35]], draw(35, 19))],
        ops.select: [Sample(draw(35, 67), index=-1)],
        ops.scatter_slice: [Sample(draw(34, 10), shape=(67, 19), bounds=((0, 67, 2), (18, None, -2)))],
        ops.broadcast_to: [Sample(draw(67, 1, 35), shape=(67, 9, 35))],
        ops.rnn_sequence: [Sample(draw(3, 2, 5), draw(2, 7), draw(7, 5), draw(7, 7), draw(7), draw(7))],
        ops.take: [Sample(draw(61, 19), rng.integers(-61, 61, 301), axis=0)],
        ops.concat: [Sample([draw(17, 257), draw(16, 257)], axis=0)],
        ops.permute_dims: [Sample(draw(67, 35, 9), axes=(2, 0, 1))],
        ops.scaled_dot_product_attention: [
            Sample(draw(1, 3, 65, 17), draw(1, 3, 67, 17), draw(1, 3, 67, 33)),
        ],
    }


def cases() -> Iterator[Case]:
    """Forward is level 1, gradients are level 2."""
    special = {op.name for op in _structured(np.random.default_rng(0))}
    for op in stated_ops():
        samples = samples_of(op, 0)
        if (
            op.kind is not Kind.ELEMENTWISE
            and op.name not in special
            and not any(works_along(op, s) for s in samples)
        ):
            continue
        dtype = own_dtype(samples)
        yield Case("sizes", op.name, dtype, "", Level.L1, frozenset(), op.name, "forward")
        if op.differentiable and dtype == "float32":
            yield Case("sizes", f"{op.name}.vjp", dtype, "", Level.L2, frozenset(), op.name, "vjp")


def run(run: Run) -> None:
    """The op, or its gradient, at its larger samples."""
    op, rng = op_of(run), run.rng()
    for sample in larger(op, samples_of(op, run.case.seed), rng):
        if run.case.direction == "forward":
            forward(run, op, sample, float32)
        elif has_floats(sample) and sample.attributes.get("stable", True):
            gradient(run, op, sample, float32, identity=False)


def larger(op: Op[..., Any], samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
    """Larger samples: of an elementwise op, or one along an axis, with the values of its own samples."""
    structured = _structured(rng)
    if op in structured:
        return structured[op]
    found: list[Sample] = []
    if op.kind is Kind.ELEMENTWISE:
        for form in forms(samples):
            for shape in ELEMENTWISE:
                operands = [filled(o, shape, rng) for o in form.operands]
                found.append(Sample(*operands, **form.attributes))
        return found
    for form in forms([s for s in samples if works_along(op, s)]):
        for shape, axis in ALONG_AN_AXIS:
            value = filled(form.operands[0], shape, rng)
            given = axis if isinstance(form.attributes.get("axis", axis), int) else (axis,)
            found.append(Sample(value, **{**form.attributes, "axis": given}))
    return found


def forms(samples: list[Sample]) -> list[Sample]:
    """The samples that differ in more than their values and shapes."""
    forms: dict[str, Sample] = {}
    for sample in samples:
        if all(not isinstance(o, np.ndarray) or o.size for o in sample.operands):
            kinds = [o.dtype.kind if isinstance(o, np.ndarray) else repr(o) for o in sample.operands]
            rest = {k: v for k, v in sample.attributes.items() if k != "axis"}
            forms.setdefault(f"{kinds} {rest}", sample)
    return list(forms.values())


def works_along(op: Op[..., Any], sample: Sample) -> bool:
    """Whether the sample is of one operand with axes, and the op works along an axis."""
    return (
        op.kind in FAMILIES
        and "axis" in op.attributes
        and len(sample.operands) == 1
        and isinstance(sample.operands[0], np.ndarray)
        and sample.operands[0].ndim > 0
        and "k" not in op.attributes
    )


def filled(value: Any, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """An array of ``shape`` with values like those of ``value``; what is no array stays."""
    if not isinstance(value, (np.ndarray, np.generic)):
        return value
    source = np.asarray(value).reshape(-1)
    drawn = rng.choice(source, shape)
    if source.dtype.kind == "f":
        # Between the values that are there: so the domain is kept, and hardly two are equal.
        other = rng.choice(source, shape)
        drawn = drawn + (other - drawn) * rng.random(shape) * 0.5
    return drawn
