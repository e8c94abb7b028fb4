"""`Factor`: an axis along which an op does to each part what it does to the whole.

Cut the operands of a factor along its axes into parts of equal numbers of units, apply the op to each part: the results
are the parts of the results of the whole, or, for a result marked `SUM`, addends that make it up. So rows of a batch go
through many ops part by part, side by side and without leaving a cache, and a batch can lie on several devices.
The idea is that of the sharding rules of GSPMD (Xu et al. 2021) and of the named axes of einsum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.statement import Call, Kind
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op

SUM: Final = "sum"
"""Stands for the axis of a result whose parts are to be added."""


@dataclass(frozen=True, slots=True)
class Factor:
    """An axis of an op.

    Attributes:
        axes: by the name of an operand that is cut, the axis; of a sequence, of each of its tensors. A static attribute
            that is a spec or a shape has the axis along which the parts of what it describes are cut. What is not
            named is taken whole by each part.
        results: by result, residuals included, the axis along which the parts lie, or `SUM`.

    The number of parts divides the size of each axis.
    """

    axes: Mapping[str, int]
    results: tuple[int | str, ...]


Factors = Callable[[Any, Sequence[Spec]], Iterable[Factor]]
"""From a `Call`, as shape rules see it, and the specs of the results in one row, the factors, the first best."""


def factors_of(
    op: Op[..., Any], specs: Sequence[Any], attributes: Mapping[str, Any], results: Sequence[Spec]
) -> list[Factor]:
    """The factors of an application; those of an elementwise op, and of its rules, follow from broadcasting."""
    rule = op.factors
    if rule is None:
        if op.kind is not Kind.ELEMENTWISE:
            return []
        rule = elementwise
    names = (o.name for o in op.operands)
    return list(rule(Call(op, {**dict(zip(names, specs, strict=True)), **attributes}), results))


def elementwise(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
    """An axis of the result is an axis of the operands that have it, counted from the last."""
    shape = results[0].shape
    if any(r.shape != shape for r in results):
        return
    given = {k: s for k, s in vars(call).items() if isinstance(s, Spec)}
    for axis, size in enumerate(shape):
        back = len(shape) - axis
        axes = {k: s.ndim - back for k, s in given.items() if s.ndim >= back and s.shape[-back] != 1}
        if size > 1 and all(given[k].shape[a] == size for k, a in axes.items()):
            yield Factor(axes, (axis,) * len(results))


def aligned(*names: str, within: Callable[[Any], range | Iterable[int]] | None = None) -> Factors:
    """Axes of the first named operand that the others, and all results, have in the same place.

    Args:
        names: of operands, and of static attributes that are specs; absent ones are passed over.
        within: from a `Call`, which axes of the first; by default all.
    """

    def factors(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
        first: Spec = getattr(call, names[0])
        present = [n for n in names if getattr(call, n) is not None]
        for axis in range(first.ndim) if within is None else within(call):
            if first.shape[axis] > 1:
                yield Factor(dict.fromkeys(present, axis), (axis,) * len(results))

    return factors
