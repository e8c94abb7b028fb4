"""How a fused kernel is launched on arrays of given strides: which axes become one, where the vectors run, how many parts.

Everything here follows from the program, the strides and the dialect's profile; sizes and strides are parameters of the
kernel, so that one text serves all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Source
from plugrad.graph.source.layout import Strides, collapse, contiguous_strides
from plugrad.graph.source.loops import Layout, kernel_text
from plugrad.graph.source.program import Place, Program
from plugrad.spec import Spec

_ROWS: Final = 32
"""Rows of columns that are worth one: their memory pages stay at hand."""


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch for arrays of certain strides.

    Attributes:
        source: the kernel.
        items: the work-items, along one axis.
        group: work-items of a group, of which ``items`` may be no multiple.
        reads: for each read of the program, the index of the input, or None for a count from 0 on, and the strides that
            follow its memory and first place; of a number None.
        numbers: the floats that follow.
        writes: for each of the program's that this kernel does, the index of the result, what is added to its first place,
            and the strides that follow its memory and first place.
        layouts: for each result its strides along its own axes, as this launch takes it.
        partial: what parts come to: spec and strides of each array, whose memory follows.
        tail: the numbers that end the parameters.
        after: where there are parts, the program that puts them together; its inputs are these, then those of the graph.
    """

    source: Source
    items: int
    group: int
    reads: tuple[tuple[int | None, Strides | None], ...]
    numbers: tuple[tuple[float, DType], ...]
    writes: tuple[tuple[int, int, Strides], ...]
    layouts: tuple[Strides, ...]
    partial: tuple[tuple[Spec, Strides], ...]
    tail: tuple[int, ...]
    after: Program | None


def launch_of(
    program: Program, inputs: Sequence[Strides | None], outputs: Sequence[Strides | None]
) -> Launch:
    """The launch of a program.

    Args:
        program: the program.
        inputs: the strides of each input, along its own axes; None for a Python number.
        outputs: those of each result; None for one whose layout is free.
    """
    profile = program.dialect.profile
    order = _order(program, inputs, outputs)
    reads = [_along_space(program, p, inputs) for p in program.reads]
    layouts = [_own_strides(program, i, order) if s is None else s for i, s in enumerate(outputs)]
    writes = [_spread(program, w.place, layouts[w.output]) for w in program.writes]
    kept, reduced = ([a for a in order if (a in program.reduced) is r] for r in (False, True))
    along = bool(reduced) and order[-1] in program.reduced
    given = [s for s in (*reads, *writes) if s is not None]

    def collapsed(axes: list[int]) -> tuple[tuple[int, ...], list[Strides]]:
        return collapse([program.shape[a] for a in axes], [[s[a] for a in axes] for s in given])

    (k_sizes, k_steps), (j_sizes, j_steps) = collapsed(kept), collapsed(reduced)
    if not k_sizes and not along:
        k_sizes, k_steps = (1,), [(0,) for _ in given]
    lane = len(k_sizes) - 1 if not along else len(k_sizes) + len(j_sizes) - 1
    steps = iter([(*k, *j) for k, j in zip(k_steps, j_steps, strict=True)])

    def letters(strides: Strides | None) -> tuple[str, Strides | None]:
        if strides is None:
            return "n", None
        own = next(steps)
        text = "".join("0" if s == 0 else "1" if s == 1 and i == lane else "s" for i, s in enumerate(own))
        return text, tuple(s for s, c in zip(own, text, strict=True) if c == "s")

    read_letters = [letters(s) for s in reads]
    write_letters = [letters(s) for s in writes]
    outer, n = math.prod(k_sizes[:-1]), k_sizes[-1] if k_sizes else 1
    chunk, items = 1, outer * n
    if not along:
        chunk = profile.lanes if reduced else _chunk(outer * n, profile.items, profile.chunk, profile.lanes)
        items = outer * -(-n // chunk)
    block = _block(program, along, items, j_sizes) if reduced else 0
    blocks = -(-j_sizes[0] // block) if block else 1
    split = blocks > 1
    layout = Layout(
        len(k_sizes),
        len(j_sizes),
        along,
        tuple(t for t, _ in read_letters),
        tuple(
            t if w.full else t[: len(k_sizes)]
            for (t, _), w in zip(write_letters, program.writes, strict=True)
        ),
        split,
    )
    total = items * blocks
    group = min(profile.group, total)
    return Launch(
        program.source(layout, kernel_text),
        total,
        group,
        tuple(
            (None if v.node is not None else program.graph.inputs.index(v), s)
            for (v, _), (_, s) in zip(program.reads, read_letters, strict=True)
        ),
        tuple(program.numbers),
        tuple(
            (w.output, w.first * layouts[w.output][w.axis] if w.first else 0, s or ())
            for w, (_, s) in zip(program.writes, write_letters, strict=True)
            if w.full or not split
        ),
        tuple(layouts),
        tuple(_partial(program, blocks, order)) if split else (),
        (*k_sizes, *j_sizes, chunk, -(-n // chunk), block, items, total),
        program.combined(blocks) if split else None,
    )


def _along_space(program: Program, place: Place, inputs: Sequence[Strides | None]) -> Strides | None:
    value, axes = place
    if value.node is not None:  # a count
        return _spread(program, place, (1,) * len(axes))
    own = inputs[program.graph.inputs.index(value)]
    return None if own is None else _spread(program, place, own)


def _spread(program: Program, place: Place, own: Strides) -> Strides:
    """The strides of a value along the axes of the space."""
    found = [0] * len(program.shape)
    for axis, stride in zip(place[1], own, strict=True):
        if axis is not None:
            found[axis] += stride
    return tuple(found)


def _order(
    program: Program, inputs: Sequence[Strides | None], outputs: Sequence[Strides | None]
) -> list[int]:
    """The axes of the space, none of size 1, from the one of the largest stride to that of the smallest.

    It is the order in memory of the first result that is given, else of the largest operand.
    """
    axes = [a for a, n in enumerate(program.shape) if n != 1]
    given = [(w.place, outputs[w.output]) for w in program.writes if w.full]
    found = [_spread(program, place, s) for place, s in given if s is not None]
    if not found:
        reads = [_along_space(program, p, inputs) for p in program.reads if p[0].node is None]
        found = [s for s in reads if s is not None and all(s[a] for a in axes)]
    if not found or not all(found[0][a] for a in axes):
        return axes
    return sorted(axes, key=lambda a: -abs(found[0][a]))


def _own_strides(program: Program, output: int, order: Sequence[int]) -> Strides:
    """The strides of a new result without gaps, its axes in the order of those of the space."""
    shape = program.graph.outputs[output].spec.shape
    write, *rest = (w for w in program.writes if w.output == output)
    if rest:
        return contiguous_strides(shape)
    axes = write.place[1]
    steps: dict[int, int] = {}
    step = 1
    for axis in reversed([a for a in order if a in axes]):
        steps[axis] = step
        step *= program.shape[axis]
    return tuple(0 if a is None else steps[a] for a in axes)


def _partial(program: Program, blocks: int, order: Sequence[int]) -> list[tuple[Spec, Strides]]:
    kept = [a for a in order if a not in program.reduced]
    steps = {a: math.prod(program.shape[b] for b in kept[i + 1 :]) for i, a in enumerate(kept)}
    count = math.prod(program.shape[a] for a in kept)
    strides = (count, *(steps[a] for a in program.kept))
    return [(program.partial(node, blocks), strides) for node in program.stage]


def _chunk(size: int, items: int, most: int, lanes: int) -> int:
    """Elements of a line for one work-item: as many as keep enough work-items busy."""
    even = -(-size // (items * lanes)) * lanes
    return max(min(even, most), min(most, 16 * lanes))


def _block(program: Program, along: bool, items: int, sizes: Sequence[int]) -> int:
    """Places of the first axis reduced that make a part; 0 where the whole is taken at once."""
    profile, first = program.dialect.profile, sizes[0]
    if not program.splits or first == 1:
        return 0
    rest = math.prod(sizes[1:])
    if along:
        wanted = min(-(-profile.items // items), first * rest // profile.part)
        if wanted < 2:
            return 0
        block = -(-first // wanted)
        return -(-block // profile.lanes) * profile.lanes if len(sizes) == 1 else block
    if first < 4 * _ROWS:
        return 0
    return max(_ROWS, math.isqrt(first))
