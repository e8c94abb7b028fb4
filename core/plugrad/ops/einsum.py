"""`einsum`: sums of products, named by subscripts and made of matrix products.

A plan is made once for an equation and the shapes: which axes of each operand are taken on a diagonal, dropped
or summed, and in which order operands are contracted two by two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Final

from plugrad.dispatch.data import TensorData
from plugrad.dtypes import NUMERIC, promote
from plugrad.errors import ArgumentError, DeviceError, DTypeError, ShapeError
from plugrad.ops._rules import size
from plugrad.ops.arithmetic import multiply
from plugrad.ops.broadcasting import sum
from plugrad.ops.casting import astype
from plugrad.ops.linear_algebra import matrix_product
from plugrad.ops.movement import matrix_transpose, permute_dims, reshape
from plugrad.ops.slicing import WHOLE, strided_slice
from plugrad.spec import Shape

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Labels = tuple[str, ...]

_LETTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")


def einsum(equation: str, /, *operands: Tensor) -> Tensor:
    """Sum of products over the axes that ``equation`` names (the Einstein summation of `numpy.einsum`).

    Args:
        equation: the subscripts of the operands, separated by commas, one letter an axis, and after ``->`` those
            of the result. Axes of one letter have one size, or 1, which broadcasts. A letter that the result
            lacks is summed over; one that an operand has twice means its diagonal. ``...`` stands for any
            number of axes, which broadcast from the right. Without ``->`` the result has the axes of ``...``,
            then every letter that occurs once, in alphabetical order.
        operands: tensors of numeric dtypes, which promote, on one device.

    Returns:
        A tensor with one axis for each letter of the result.

    Raises:
        ArgumentError: if the equation is not of this form, or names another number of operands.
        ShapeError: if an operand has not one axis for each letter, or two sizes of one letter differ.
        DTypeError: if an operand is no tensor of a numeric dtype.

    Operands are contracted two by two as matrix products: next come always the two whose result outgrows them
    least. 16-bit floats accumulate in float32.
    """
    tensors = _checked(equation, operands)
    plan = _plan(equation, tuple(t.spec.shape for t in tensors))
    waiting = [_prepared(t, p) for t, p in zip(tensors, plan.operands, strict=True)]
    for step in plan.steps:
        right, left = waiting.pop(step.right), waiting.pop(step.left)
        waiting.append(_contracted(left, right, step))
    (result,) = waiting
    return _arranged(result, plan.order)


@dataclass(frozen=True, slots=True)
class _Operand:
    """What is done with an operand first.

    Attributes:
        dropped: its shape without the axes of size 1 that another operand broadcasts; None if it has none.
        diagonals: what moves the axes of a letter to the end, and their size and number, letter by letter.
        summed: the axes that nobody else has and the result lacks.
    """

    dropped: Shape | None
    diagonals: tuple[tuple[tuple[int, ...], int, int], ...]
    summed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Step:
    """A contraction of two of the tensors that wait.

    Attributes:
        left, right: which two, the left one first.
        batch, rows, inner, columns: the positions in the left (the right for columns) of the axes that both have and
            that are kept, that the left one has alone, that both have and that are summed, that the right one has.
        right_batch, right_inner: those axes in the right.
        shape: of the result: batch, rows, columns.
    """

    left: int
    right: int
    batch: tuple[int, ...]
    rows: tuple[int, ...]
    inner: tuple[int, ...]
    columns: tuple[int, ...]
    right_batch: tuple[int, ...]
    right_inner: tuple[int, ...]
    shape: Shape


@dataclass(frozen=True, slots=True)
class _Plan:
    operands: tuple[_Operand, ...]
    steps: tuple[_Step, ...]
    order: tuple[int, ...]


# -- what runs --------------------------------------------------------------------------------------------


def _checked(equation: str, operands: Sequence[Tensor]) -> list[Tensor]:
    """The operands, promoted."""
    if not isinstance(equation, str):
        raise ArgumentError(
            f"einsum: takes an equation such as 'ij,jk->ik' first, got {type(equation).__name__}"
        )
    if not operands:
        raise _fail(equation, "takes at least one operand, got none")
    for i, x in enumerate(operands):
        if not isinstance(x, TensorData):
            raise DTypeError(
                f"einsum: operand {i} is {type(x).__name__}, takes a tensor: wrap it with plugrad.asarray"
            )
        if x.dtype not in NUMERIC:
            raise DTypeError(f"einsum: operand {i} is {x.dtype}, takes a numeric dtype; cast it with astype")
    devices = {x.device: None for x in operands}
    if len(devices) > 1:
        raise DeviceError(
            f"einsum: the operands are on {' and '.join(map(str, devices))}; move them to one device with .to(device)"
        )
    common = promote(*(x.dtype for x in operands))
    return [x if x.dtype is common else astype(x, common) for x in operands]


def _arranged(x: Tensor, order: tuple[int, ...]) -> Tensor:
    return x if order == tuple(range(len(order))) else permute_dims(x, order)


def _shaped(x: Tensor, shape: Shape) -> Tensor:
    return x if x.spec.shape == shape else reshape(x, shape)


def _prepared(x: Tensor, operand: _Operand) -> Tensor:
    if operand.dropped is not None:
        x = reshape(x, operand.dropped)
    for order, length, count in operand.diagonals:
        x = _arranged(x, order)
        outer = x.spec.shape[:-count]
        # The diagonal of `count` axes of one size: every (1 + n + n^2 + ...)-th element of them laid out in a line.
        line = reshape(x, (*outer, length**count))
        step = 1
        for _ in range(count - 1):
            step = step * length + 1
        x = strided_slice(line, (*(WHOLE,) * len(outer), (None, None, step)))
    return sum(x, axis=operand.summed, dtype=x.dtype) if operand.summed else x


def _contracted(left: Tensor, right: Tensor, step: _Step) -> Tensor:
    a, b = left.spec.shape, right.spec.shape
    batch = tuple(a[i] for i in step.batch)
    rows, columns = size([a[i] for i in step.rows]), size([b[i] for i in step.columns])
    inner = size([a[i] for i in step.inner])
    one = _matrices(left, step.batch, step.rows, step.inner, (*batch, rows, inner))
    two = _matrices(right, step.right_batch, step.right_inner, step.columns, (*batch, inner, columns))
    product = matrix_product(one, two) if step.inner else multiply(one, two)
    return _shaped(product, step.shape)


def _matrices(
    x: Tensor, batch: tuple[int, ...], rows: tuple[int, ...], columns: tuple[int, ...], shape: Shape
) -> Tensor:
    """The axes of ``x`` as (batch..., rows, columns), without moving elements where that can be."""
    order, turned = (*batch, *rows, *columns), (*batch, *columns, *rows)
    if order != turned == tuple(range(len(turned))):
        return matrix_transpose(_shaped(x, (*shape[:-2], shape[-1], shape[-2])))
    return _shaped(_arranged(x, order), shape)


# -- the plan ---------------------------------------------------------------------------------------------


def _fail(equation: str, message: str) -> ArgumentError:
    return ArgumentError(f"einsum: {equation!r}: {message}")


def _split(equation: str, count: int) -> tuple[list[str], str | None]:
    """The subscripts of the operands, and of the result if it is given."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != count:
        raise _fail(equation, f"has subscripts of {len(terms)} operands, got {count}")
    for term in [*terms, output]:
        left = term.replace("...", "", 1)
        for character in left:
            if character not in _LETTERS:
                raise _fail(
                    equation,
                    f"{character!r} in subscript {term!r}; takes letters, and '...' once in each subscript",
                )
    return terms, output if arrow else None


def _labels(equation: str, index: int, term: str, shape: Shape) -> Labels:
    """One label for each axis: letters, and for those of ``...`` their number from the right."""
    before, dots, after = term.partition("...")
    letters = len(before) + len(after)
    if len(shape) < letters or (not dots and len(shape) > letters):
        takes = f"at least {letters}" if dots else str(letters)
        raise ShapeError(
            f"einsum: {equation!r}: subscript {term!r} of operand {index} takes {takes} axes, got shape {shape}"
        )
    rest = len(shape) - letters
    return (*before, *(f".{i}" for i in reversed(range(rest))), *after)


def _sizes(equation: str, labels: Sequence[Labels], shapes: Sequence[Shape]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    owner: dict[str, int] = {}
    for index, (names, shape) in enumerate(zip(labels, shapes, strict=True)):
        own: dict[str, int] = {}
        for name, n in zip(names, shape, strict=True):
            shown = f"{name!r}" if name in _LETTERS else "of '...'"
            if own.setdefault(name, n) != n:
                raise ShapeError(
                    f"einsum: {equation!r}: the axes {shown} of operand {index} have sizes {own[name]} and {n}; "
                    "a diagonal takes one size"
                )
            if sizes.get(name, 1) == 1:
                sizes[name], owner[name] = n, index
            elif n not in (1, sizes[name]):
                raise ShapeError(
                    f"einsum: {equation!r}: axis {shown} has size {sizes[name]} in operand {owner[name]} "
                    f"and {n} in operand {index}"
                )
    return sizes


def _result(equation: str, labels: Sequence[Labels], output: str | None) -> Labels:
    """The labels of the result."""
    counts = Counter(name for names in labels for name in names)
    dotted = sorted((n for n in counts if n not in _LETTERS), key=lambda n: -int(n[1:]))
    if output is None:
        return (*dotted, *sorted(n for n, c in counts.items() if c == 1 and n in _LETTERS))
    before, dots, after = output.partition("...")
    for letter in before + after:
        if letter not in counts:
            raise _fail(equation, f"the result has {letter!r}, which no operand has")
        if (before + after).count(letter) > 1:
            raise _fail(equation, f"the result has {letter!r} twice; takes it once")
    if dotted and not dots:
        raise _fail(
            equation,
            f"the result lacks '...', which stands for {len(dotted)} axes; name it, or sum them first",
        )
    return (*before, *dotted, *after)


def _first(names: Labels, shape: Shape, sizes: dict[str, int], used: set[str]) -> tuple[_Operand, Labels]:
    """What is done with an operand first, and the labels that it then has."""
    broadcast = [n == 1 and sizes[name] != 1 for name, n in zip(names, shape, strict=True)]
    left = [name for name, drop in zip(names, broadcast, strict=True) if not drop]
    dropped = (
        tuple(n for n, drop in zip(shape, broadcast, strict=True) if not drop) if any(broadcast) else None
    )
    diagonals = []
    for name, count in Counter(left).items():
        if count > 1:
            there = [i for i, n in enumerate(left) if n == name]
            others = [i for i in range(len(left)) if i not in there]
            diagonals.append(((*others, *there), sizes[name], count))
            left = [*(left[i] for i in others), name]
    summed = tuple(i for i, name in enumerate(left) if name not in used)
    kept = tuple(name for name in left if name in used)
    return _Operand(dropped, tuple(diagonals), summed), kept


def _step(
    left: int, right: int, waiting: Sequence[Labels], result: Labels, sizes: dict[str, int]
) -> tuple[_Step, Labels]:
    a, b = waiting[left], waiting[right]
    elsewhere = set(result).union(*(w for i, w in enumerate(waiting) if i not in (left, right)))
    batch = [n for n in a if n in b and n in elsewhere]
    inner = [n for n in a if n in b and n not in elsewhere]
    rows = [n for n in a if n not in b]
    columns = [n for n in b if n not in a]

    def where(names: Sequence[str], within: Labels) -> tuple[int, ...]:
        return tuple(within.index(n) for n in names)

    kept = (*batch, *rows, *columns)
    step = _Step(
        left,
        right,
        where(batch, a),
        where(rows, a),
        where(inner, a),
        where(columns, b),
        where(batch, b),
        where(inner, b),
        tuple(sizes[n] for n in kept),
    )
    return step, kept


def _next(waiting: Sequence[Labels], result: Labels, sizes: dict[str, int]) -> tuple[int, int]:
    """Which two to contract: those whose result outgrows them least, and of these the cheapest."""

    def cost(pair: tuple[int, int]) -> tuple[int, int]:
        a, b = (waiting[i] for i in pair)
        step, _ = _step(*pair, waiting, result, sizes)
        before = size([sizes[n] for n in a]) + size([sizes[n] for n in b])
        return size(step.shape) - before, size([sizes[n] for n in {*a, *b}])

    return min(combinations(range(len(waiting)), 2), key=cost)


@lru_cache(maxsize=1024)
def _plan(equation: str, shapes: tuple[Shape, ...]) -> _Plan:
    terms, output = _split(equation, len(shapes))
    labels = [_labels(equation, i, t, s) for i, (t, s) in enumerate(zip(terms, shapes, strict=True))]
    sizes = _sizes(equation, labels, shapes)
    result = _result(equation, labels, output)
    # Who has a letter, those left out where it has size 1 and broadcasts.
    owners = [
        {name for name, n in zip(names, shape, strict=True) if n == sizes[name]}
        for names, shape in zip(labels, shapes, strict=True)
    ]
    operands, waiting, steps = [], [], []
    for i, (names, shape) in enumerate(zip(labels, shapes, strict=True)):
        used = set(result).union(*owners[:i], *owners[i + 1 :])
        operand, kept = _first(names, shape, sizes, used)
        operands.append(operand)
        waiting.append(kept)
    while len(waiting) > 1:
        left, right = _next(waiting, result, sizes)
        step, kept = _step(left, right, waiting, result, sizes)
        steps.append(step)
        del waiting[right], waiting[left]
        waiting.append(kept)
    return _Plan(tuple(operands), tuple(steps), tuple(waiting[0].index(n) for n in result))


__all__ = ["einsum"]
