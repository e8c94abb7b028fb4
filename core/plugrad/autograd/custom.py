"""`custom_vjp`: a function whose derivative is given by hand."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugrad import tree
from plugrad.autograd import engine
from plugrad.autograd.arguments import check_function, fitting
from plugrad.dispatch.anomaly import note_line
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import local
from plugrad.dispatch.record import Function, Origin, Slot, counter
from plugrad.dispatch.tracing import array_of
from plugrad.errors import ArgumentError, GradientError
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


class custom_vjp:  # noqa: N801 - called like a function
    """A function with a derivative given by hand (as `jax.custom_vjp`)::

        @custom_vjp
        def clip_gradient(x, limit):
            return x

        def forward(x, limit):
            return x, limit

        def backward(limit, ct):
            return clip(ct, -limit, limit), None

        clip_gradient.defvjp(forward, backward)

    The function itself runs where nothing is differentiated. Else ``forward`` runs, on the same arguments, and
    returns the result and whatever ``backward`` needs; the gradient is what ``backward`` makes of that and of
    the cotangent of the result. Higher orders differentiate ``backward``: through the cotangent and through what
    it needs, of which a result of the function is differentiated by ``backward`` again, and what ``forward``
    computes under `no_grad` is constant.

    The record follows no tensor but the arguments: one that requires a gradient is passed as an argument,
    alone, in a nested list, tuple or dict, or as the parameter of a module.
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        """Make ``fun`` such a function.

        Args:
            fun: the function.
            nondiff_argnums: positions of arguments that ``backward`` takes first, as they are, and gives no
                cotangent for. Other arguments need not be tensors either; their cotangent is None.
        """
        self.fun = check_function("custom_vjp", fun)
        self.nondiff_argnums = tuple(nondiff_argnums)
        self._rules: tuple[Callable[..., Any], Callable[..., Any]] | None = None
        self._signature = inspect.signature(fun)
        functools.update_wrapper(self, fun, updated=())

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Give the derivative.

        Args:
            fwd: takes the arguments of the function, and returns ``(result, residuals)``; residuals are any
                tree.
            bwd: takes the arguments at ``nondiff_argnums``, the residuals, and the cotangent in the form of
                the result, with None in place of what is no floating tensor. It returns a tuple with the
                cotangent of each other argument, in its form; None anywhere in it is zero.
        """
        self._rules = check_function("defvjp", fwd), check_function("defvjp", bwd)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Apply the function.

        Raises:
            GradientError: if `defvjp` was not called, or a tensor that is not among the arguments needs a
                gradient; in backward, if a cotangent does not fit its argument.
        """
        name = self._name
        if self._rules is None:
            raise GradientError(f"{name}: give its derivative first, with {name}.defvjp(forward, backward)")
        if kwargs:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            if bound.kwargs:
                raise ArgumentError(f"{name}: custom_vjp takes no keyword-only arguments")
            args = bound.args
        if not local.modes.recording:
            return self.fun(*args)
        outside = {i % len(args) for i in self.nondiff_argnums if -len(args) <= i < len(args)}
        operands = _Operands([a for i, a in enumerate(args) if i not in outside])
        since = next(counter)
        if not operands.parents:
            result = self.fun(*args)
            self._check_closure(tree.tensors(result), since, ())
            return result
        return self._recorded(args, [args[i] for i in sorted(outside)], operands, since)

    def _recorded(self, args: Sequence[Any], fixed: list[Any], operands: _Operands, since: int) -> Any:
        assert self._rules is not None
        (forward, backward), name = self._rules, self._name
        given = forward(*args)
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise GradientError(f"{name}: forward returns (result, residuals), got {type(given).__name__}")
        leaves, structure = tree.flatten(given[0])
        kept, form = tree.flatten(given[1])
        self._check_closure(
            [x for x in (*leaves, *kept) if isinstance(x, TensorData)], since, operands.parents
        )
        floating = [i for i, x in enumerate(leaves) if isinstance(x, TensorData) and x.spec.dtype.is_floating]
        if not floating:
            return given[0]
        outs, taken = [leaves[i] for i in floating], tree.tensors(args)
        residuals = [_Residual(r, outs, taken, since) for r in kept]
        count = len(leaves)

        def back(cts: Sequence[Tensor], create: bool) -> list[Any]:
            made_by = node()
            assert made_by is not None
            values = tree.unflatten(form, [r.value(made_by if create else None) for r in residuals])
            by_leaf: list[Any] = [None] * count
            for i, ct in zip(floating, cts, strict=True):
                by_leaf[i] = ct
            return operands.cotangents(name, backward(*fixed, values, tree.unflatten(structure, by_leaf)))

        specs = tuple(leaves[i].spec for i in floating)
        function = Function(name, operands.parents, specs, back)
        # The node must not hold itself: it would wait for the cycle collector.
        node = weakref.ref(function)
        if local.modes.anomaly:
            note_line(function)
        for k, i in enumerate(floating):
            origin = function if len(floating) == 1 else Slot(function, k)
            leaves[i] = wrap(array_of(leaves[i]), leaves[i].spec, origin)
        return tree.unflatten(structure, leaves)

    def _check_closure(self, tensors: Sequence[Any], since: int, parents: Sequence[Origin | None]) -> None:
        entered = engine.entries([t._node for t in tensors if t._node is not None], since)
        if not set(entered) <= set(parents):
            raise GradientError(
                f"{self._name}: it uses a tensor that needs a gradient and is not among its arguments; pass it as "
                "an argument, or detach it"
            )

    @property
    def _name(self) -> str:
        return str(getattr(self, "__name__", type(self.fun).__name__))

    def __repr__(self) -> str:
        return f"<custom_vjp {self._name}>"


class _Operands:
    """The tensors in the arguments that the record follows.

    Attributes:
        parents: their origins.
    """

    def __init__(self, args: Sequence[Any]) -> None:
        parents: list[Origin] = []
        # By argument, by leaf: what its cotangent belongs to.
        self._structures: list[tree.Structure] = []
        self._places: list[list[tuple[int, Spec] | dict[str, tuple[int, Spec]] | None]] = []

        def place(x: Any) -> tuple[int, Spec] | None:
            if not isinstance(x, TensorData) or x._node is None:
                return None
            parents.append(x._node)
            return len(parents) - 1, x.spec

        for arg in args:
            leaves, structure = tree.flatten(arg)
            self._structures.append(structure)
            self._places.append(
                [
                    {n: at for n, t in x.__tensors__().items() if (at := place(t)) is not None}
                    if tree.owns_tensors(x)
                    else place(x)
                    for x in leaves
                ]
            )
        self.parents = tuple(parents)

    def cotangents(self, name: str, given: Any) -> list[Tensor | None]:
        """The cotangents of `parents` in what a backward function returned."""
        if not isinstance(given, (tuple, list)) or len(given) != len(self._structures):
            got = (
                f"{len(given)} cotangents"
                if isinstance(given, (tuple, list))
                else f"a {type(given).__name__}"
            )
            raise GradientError(
                f"{name}: backward returns a tuple of {len(self._structures)} cotangents, one for each "
                f"argument, got {got}"
            )
        found: list[Tensor | None] = [None] * len(self.parents)
        for i, (ct, structure, places) in enumerate(zip(given, self._structures, self._places, strict=True)):
            if ct is None:
                continue
            root = f"the cotangent of argument {i}"
            parts = tree.flatten_like(structure, ct, root)
            for part, at, path in zip(parts, places, structure.paths(root), strict=True):
                if part is None or at is None:
                    continue
                if isinstance(at, tuple):
                    found[at[0]] = fitting(name, part, at[1], path)
                    continue
                if not isinstance(part, dict) or not part.keys() <= at.keys():
                    raise GradientError(f"{name}: {path} takes a dict by names, some of {', '.join(at)}")
                for key, x in part.items():
                    if x is not None:
                        found[at[key][0]] = fitting(name, x, at[key][1], f"{path}[{key!r}]")
        return found


class _Residual:
    """What a forward function keeps for its backward: a tensor, or anything else.

    A result of the function is kept without its record, and is followed by the function's own node; any
    other tensor by the node that it has.
    """

    def __init__(self, leaf: Any, outs: Sequence[Any], args: Sequence[Any], since: int) -> None:
        self._leaf = leaf
        self._spec: Spec | None = None
        self._out: int | None = None
        self._several = len(outs) > 1
        if not isinstance(leaf, TensorData):
            return
        node, self._spec = leaf._node, leaf.spec
        if any(leaf is a for a in args) or (node is not None and engine.made(node) < since):
            return
        for i, out in enumerate(outs):
            if leaf is out or (node is not None and node is out._node):
                self._out = i
                self._leaf = wrap(array_of(leaf), leaf.spec)

    def value(self, node: Function | None) -> Any:
        """The leaf for backward, followed by the record if the ``node`` of the function is given."""
        if self._spec is None:
            return self._leaf
        array = array_of(self._leaf)
        if node is None:
            return wrap(array, self._spec)
        if self._out is None:
            return wrap(array, self._spec, self._leaf._node)
        return wrap(array, self._spec, Slot(node, self._out) if self._several else node)


__all__ = ["custom_vjp"]
