"""``large``: arrays that no cache of a core holds, which devices cut into blocks, spread over workers, and compute by other ways.

The samples of ops are small, and the arrays of ``sizes`` fill some work-groups. Here an elementwise op has 300,007 elements; what
is spread over workers, or goes the way of fewer multiplications, does so here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from plugrad import ops
from plugrad.dispatch.op import Kind, Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, forward, gradient
from plugrad_conformance.checks.forward import has_floats, op_of, own_dtype
from plugrad_conformance.checks.sizes import filled, forms, works_along
from plugrad_conformance.subject import samples_of, stated_ops

Host = np.ndarray[Any, Any]

ELEMENTS: Final = 300_007
"""A prime: more than 1 MB in float32, and no block of any size divides it."""

ALONG_AN_AXIS: Final[tuple[tuple[tuple[int, ...], int], ...]] = (((67, 4_099), 1), ((4_099, 67), 0))
"""No sum has many more terms than 4,000: of more, a sum one after the other would be further off than the bounds of gradients,
which do not grow with their number."""


def _structured(rng: np.random.Generator) -> dict[Op[..., Any], Callable[[], list[Sample]]]:
    """Samples of the ops whose operands' shapes depend on each other, each made when it is wanted."""

    def draw(*shape: int) -> Host:
        return rng.standard_normal(shape)

    def updates(op: Op[..., Any]) -> Callable[[], list[Sample]]:
        def made() -> list[Sample]:
            sample = forms(samples_of(op, 0))[0]
            shape = next(o.shape for o in sample.operands if isinstance(o, np.ndarray) and o.ndim)
            operands = [
                filled(o, (ELEMENTS,), rng) if isinstance(o, np.ndarray) and o.shape == shape else o
                for o in sample.operands
            ]
            return [Sample(*operands, **sample.attributes)]

        return made

    # Enough channels, pixels and products for minimal filtering, with a rest in each.
    filtered = (3, 33, 27, 26), (35, 33, 3, 3)
    return {
        ops.matrix_product: lambda: [
            Sample(draw(517, 130), draw(130, 515)),
            Sample(draw(33, 67, 35), draw(33, 35, 69)),
            Sample(draw(65, 9, 67), draw(67, 131)),
        ],
        ops.linear: lambda: [Sample(draw(1031, 67), draw(259, 67), draw(259))],
        ops.softmax: lambda: [Sample(draw(517, 259)), Sample(draw(1031, 67), axis=0)],
        ops.log_softmax: lambda: [Sample(draw(517, 259))],
        ops.layer_norm: lambda: [Sample(draw(1031, 131), draw(131), draw(131), normalized_shape=(131,))],
        ops.rms_norm: lambda: [Sample(draw(1031, 131), draw(131), normalized_shape=(131,))],
        ops.batch_norm_training: lambda: [Sample(draw(4, 35, 33, 31), draw(35), draw(35))],
        ops.batch_norm_inference: lambda: [
            Sample(draw(4, 35, 33, 31), draw(35), rng.uniform(0.5, 2.0, 35), draw(35), draw(35))
        ],
        ops.group_norm: lambda: [Sample(draw(4, 36, 33, 31), draw(36), draw(36), num_groups=6)],
        ops.cross_entropy: lambda: [Sample(draw(1031, 259), rng.integers(0, 259, 1031))],
        ops.conv: lambda: [
            Sample(draw(*filtered[0]), draw(*filtered[1]), draw(35), padding=1),
            Sample(draw(5, 12, 41, 43), draw(18, 4, 3, 3), groups=3, stride=2, padding=1),
            Sample(draw(3, 37, 35, 37), draw(37, 1, 3, 3), groups=37),
        ],
        ops.conv_transpose: lambda: [Sample(draw(5, 12, 21, 23), draw(12, 18, 3, 3), draw(18), stride=2)],
        ops.max_pool: lambda: [Sample(draw(5, 19, 63, 61), kernel_size=2, stride=2)],
        ops.avg_pool: lambda: [Sample(draw(5, 19, 63, 61), kernel_size=3, stride=2)],
        ops.embedding: lambda: [Sample(rng.integers(0, 1031, (67, 43)), draw(1031, 67))],
        ops.scaled_dot_product_attention: lambda: [
            Sample(draw(3, 5, 131, 33), draw(3, 5, 133, 33), draw(3, 5, 133, 35)),
            Sample(draw(3, 5, 131, 33), draw(3, 5, 131, 33), draw(3, 5, 131, 33), is_causal=True),
        ],
        ops.permute_dims: lambda: [Sample(draw(67, 71, 65), axes=(2, 0, 1))],
        ops.concat: lambda: [Sample([draw(257, 517), draw(259, 517)], axis=0)],
        **{op: updates(op) for op in (ops.adam_update, ops.sgd_momentum_update, ops.rmsprop_update)},
    }


def cases() -> Iterator[Case]:
    """Every elementwise op, every reduction, and those of `_structured`."""
    special = {op.name for op in _structured(np.random.default_rng(0))}
    for op in stated_ops():
        samples = samples_of(op, 0)
        if not (
            op.kind is Kind.ELEMENTWISE
            or op.name in special
            or (op.kind is Kind.REDUCTION and any(works_along(op, s) for s in samples))
        ):
            continue
        dtype = own_dtype(samples)
        yield Case("large", op.name, dtype, "", Level.L3, frozenset(), op.name, "forward")
        if op.differentiable and dtype == "float32":
            yield Case("large", f"{op.name}.vjp", dtype, "", Level.L3, frozenset(), op.name, "vjp")


def run(run: Run) -> None:
    """The op, or its gradient, at large arrays."""
    op, rng = op_of(run), run.rng()
    for sample in _samples(op, samples_of(op, run.case.seed), rng):
        if run.case.direction == "forward":
            forward(run, op, sample, float32)
        elif has_floats(sample):
            gradient(run, op, sample, float32, identity=False)


def _samples(op: Op[..., Any], samples: list[Sample], rng: np.random.Generator) -> list[Sample]:
    structured = _structured(rng)
    if op in structured:
        return structured[op]()
    if op.kind is Kind.ELEMENTWISE:
        form = forms(samples)[0]
        return [Sample(*(filled(o, (ELEMENTS,), rng) for o in form.operands), **form.attributes)]
    form = forms([s for s in samples if works_along(op, s)])[0]
    found = []
    for shape, axis in ALONG_AN_AXIS:
        given = axis if isinstance(form.attributes.get("axis", axis), int) else (axis,)
        value = filled(form.operands[0], shape, rng)
        found.append(Sample(value, **{**form.attributes, "axis": given}))
    return found
