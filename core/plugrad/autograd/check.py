"""`gradcheck`: gradients against central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import tree
from plugrad.autograd.arguments import check_function
from plugrad.autograd.transforms import vjp
from plugrad.convert import asarray, to_host
from plugrad.dispatch.cells import rebind
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import changed
from plugrad.dispatch.tracing import array_of
from plugrad.dtypes import float64
from plugrad.errors import ArgumentError, DTypeError, GradientError

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

Host = np.ndarray[Any, Any]
Inputs = dict[Any, Any]
"""The arguments by position, and the cotangents of lower orders by name."""
Function = Callable[[Inputs], Any]


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    order: int = 1,
) -> bool:
    """Hold the derivatives of ``fn`` against central differences, element by element of its inputs.

    The results are paired with cotangents drawn at random (the same at every call), and the derivative of
    that number with respect to each element is compared with ``(f(x + eps) - f(x - eps)) / (2 eps)``. Of order 2,
    the function that pulls cotangents back is then checked in the same way, with respect to the inputs and to the
    cotangents; and so on.

    Args:
        fn: a function. Floating tensors in its result are checked, the rest is left out.
        inputs: its arguments, a tuple or list of trees; anything else is the only argument. Floating tensors
            among them are float64; Python floats are made so. The rest is constant.
        eps: the step.
        atol: how far a derivative may be off.
        rtol: how far it may be off besides, relative to the central difference.
        order: the highest order to check.

    Returns:
        True.

    Raises:
        GradientError: where a derivative is off. It names the order, the input, the index of the element, what
            was expected and what was found.
        DTypeError: if a floating input is not float64.
        ArgumentError: if ``order`` is less than 1, or there is nothing to differentiate.
    """
    check_function("gradcheck", fn)
    if not isinstance(order, int) or isinstance(order, bool) or order < 1:
        raise ArgumentError(f"gradcheck: order takes an int of at least 1, got {order!r}")
    args = list(inputs) if isinstance(inputs, (tuple, list)) else [inputs]
    point = tree.map(_own, dict(enumerate(args)))
    _cells(point)
    rng = np.random.default_rng(0)
    function: Function = lambda at: fn(*at.values())  # noqa: E731
    for level in range(1, order + 1):
        specs = [o.spec for o in _floating(function(point))]
        if not specs:
            raise ArgumentError("gradcheck: there is no floating tensor in the result")
        cts = [asarray(rng.standard_normal(s.shape), dtype=s.dtype, device=s.device) for s in specs]
        _compare(function, point, cts, level, eps, atol, rtol)
        function, point = _one_order_up(function, point, f"cotangent {level}", cts)
    return True


def _own(leaf: Any) -> Any:
    """A floating tensor as one of our own, a Python float as a tensor; anything else itself."""
    if isinstance(leaf, float):
        return asarray(leaf, dtype=float64)
    return wrap(array_of(leaf), leaf.spec) if _is_floating(leaf) else leaf


def _is_floating(leaf: Any) -> bool:
    return isinstance(leaf, TensorData) and leaf.spec.dtype.is_floating


def _floating(result: Any) -> list[Tensor]:
    return [x for x in tree.leaves(result) if _is_floating(x)]


def _pulled(function: Function, point: Inputs, cts: Sequence[Tensor]) -> list[Tensor]:
    """The cotangents of the floating tensors in ``point``, those of owners last."""
    leaves, structure = tree.flatten(point)
    places = [i for i, x in enumerate(leaves) if _is_floating(x)]

    def at(tensors: Sequence[Tensor], owners: Sequence[Any]) -> list[Tensor]:
        del owners
        replaced = dict(zip(places, tensors, strict=True))
        return _floating(
            function(tree.unflatten(structure, [replaced.get(i, x) for i, x in enumerate(leaves)]))
        )

    _, pull = vjp(at, [leaves[i] for i in places], [x for x in leaves if tree.owns_tensors(x)])
    return tree.leaves(pull(list(cts)))


def _one_order_up(
    function: Function, point: Inputs, name: str, cts: Sequence[Tensor]
) -> tuple[Function, Inputs]:
    """The function that pulls cotangents back through ``function``, and the point with them."""

    def pulling(at: Inputs) -> list[Tensor]:
        return _pulled(function, {k: v for k, v in at.items() if k != name}, at[name])

    return pulling, {**point, name: list(cts)}


def _cells(point: Inputs) -> list[tuple[TensorData, str]]:
    """The tensors to move and their names, in the order of `_pulled`."""
    leaves, structure = tree.flatten(point)
    paths = list(structure.paths("inputs"))
    cells = [(x, p) for x, p in zip(leaves, paths, strict=True) if _is_floating(x)]
    for leaf, path in zip(leaves, paths, strict=True):
        if tree.owns_tensors(leaf):
            cells += [(t, f"{path}[{n!r}]") for n, t in leaf.__tensors__().items() if t._node is not None]
    if not cells:
        raise ArgumentError("gradcheck: there is no floating tensor among the inputs")
    for cell, path in cells:
        if cell.spec.dtype is not float64:
            raise DTypeError(
                f"gradcheck: {path} is {cell.spec.dtype}; central differences need float64: cast it with astype"
            )
    return cells


def _compare(
    function: Function,
    point: Inputs,
    cts: Sequence[Tensor],
    level: int,
    eps: float,
    atol: float,
    rtol: float,
) -> None:
    """Raise where a derivative of ``function`` is off."""
    cells = _cells(point)
    weights = [to_host(ct) for ct in cts]

    def paired() -> float:
        with changed(recording=False):
            outs = _floating(function(point))
        return float(sum((to_host(o) * w).sum() for o, w in zip(outs, weights, strict=True)))

    for (cell, name), gradient in zip(cells, _pulled(function, point, cts), strict=True):
        found, at = to_host(gradient), to_host(cell)
        for index in np.ndindex(at.shape):
            sides = [_moved(cell, at, index, step, paired) for step in (eps, -eps)]
            expected, got = (sides[0] - sides[1]) / (2 * eps), float(found[index])
            # A NaN fails too.
            if not abs(got - expected) <= atol + rtol * abs(expected):
                raise GradientError(
                    f"gradcheck: the derivative of order {level} with respect to {name} at index {index} is "
                    f"{got:.9g}; expected {expected:.9g} by central differences (atol={atol}, rtol={rtol})"
                )


def _moved(
    cell: TensorData, at: Host, index: tuple[int, ...], step: float, value: Callable[[], float]
) -> float:
    """``value`` with one element of ``cell`` moved."""
    before, host = cell._array, at.copy()
    host[index] += step
    try:
        rebind(cell, asarray(host, device=cell.spec.device)._array, cell._key, cell._node)
        return value()
    finally:
        rebind(cell, before, cell._key, cell._node)


__all__ = ["gradcheck"]
