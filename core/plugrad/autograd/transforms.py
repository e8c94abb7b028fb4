"""The transforms of functions: `grad`, `value_and_grad`, `vjp`, `jvp`, `jacobian`, `hessian`.

Names, signatures and meaning are those of JAX (https://docs.jax.dev/en/latest/jax.html#automatic-differentiation).
Each runs the function once under arguments of its own (`Arguments`) and walks the record that leaves. The
walk is recorded only where something outside could ask for its derivative: a transform around this one, or a
tensor that requires a gradient.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad import tree
from plugrad.autograd import engine
from plugrad.autograd.arguments import Arguments, check_function, fitting
from plugrad.convert import asarray
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.tracing import array_of
from plugrad.errors import ArgumentError, DTypeError, GradientError
from plugrad.ops.creation import ones_of, zeros, zeros_of
from plugrad.ops.movement import reshape, stack

if TYPE_CHECKING:
    from plugrad.spec import Spec
    from plugrad.tensor import Tensor


class Linearization:
    """A function at a point: what it gave, and the record from there back to the arguments.

    Attributes:
        arguments: what is differentiated with respect to.
        structure: the structure of the result.
        outs: its leaves, all floating tensors.
        aux: what the function returned beside it.
    """

    def __init__(self, arguments: Arguments, run: Callable[[], Any], *, has_aux: bool = False) -> None:
        call = arguments.call
        recording = local.modes.recording
        with arguments.entered(), changed(recording=True):
            result = run()
        self.aux: Any = None
        if has_aux:
            if not isinstance(result, (tuple, list)) or len(result) != 2:
                raise GradientError(f"{call}: with has_aux=True the function returns (result, aux)")
            result, self.aux = result
        self.arguments = arguments
        self.outs, self.structure = tree.flatten(result)
        for i, out in enumerate(self.outs):
            if isinstance(out, TensorData) and out.spec.dtype.is_floating:
                continue
            path = list(self.structure.paths("the result"))[i]
            if not isinstance(out, TensorData):
                raise GradientError(
                    f"{call}: {path} is {type(out).__name__}; the function must return tensors"
                )
            raise DTypeError(
                f"{call}: {path} is {out.spec.dtype}; takes floating dtypes: return it beside the result, "
                "with has_aux=True"
            )
        if not self.outs:
            raise GradientError(f"{call}: the function must return a tensor, got {result!r}")
        self._crossed, live = arguments.boundary(
            t._node for t in [*self.outs, *tree.tensors(self.aux)] if self._is_ours(t)
        )
        self._live = live and recording

    @property
    def specs(self) -> list[Spec]:
        """The specs of the leaves of the result."""
        return [o.spec for o in self.outs]

    def value(self) -> Any:
        """The result, followed by the record only where something outside can ask for its gradient."""
        return tree.unflatten(self.structure, [self._settled(o) for o in self.outs])

    def settled_aux(self) -> Any:
        """What the function returned beside the result, likewise."""
        return tree.map(lambda x: self._settled(x) if isinstance(x, TensorData) else x, self.aux)

    def _is_ours(self, x: Any) -> bool:
        return x._node is not None and engine.made(x._node) >= self.arguments.since

    def _settled(self, x: Any) -> Any:
        return wrap(array_of(x), x.spec) if self._is_ours(x) and not self._live else x

    def pull(self, cts: Sequence[Tensor | None], *, retain: bool) -> list[Tensor | None]:
        """The cotangents of the arguments, None where nothing was reached, from those of the result's leaves."""
        seeds = [
            (o._node, ct)
            for o, ct in zip(self.outs, cts, strict=True)
            if o._node is not None and ct is not None
        ]
        origins = self.arguments.origins
        create = local.modes.recording and (self._live or any(ct._node is not None for _, ct in seeds))
        if create or self._crossed:
            found = engine.run(seeds, origins, create=create, retain=retain, since=self.arguments.since)
        else:
            # All that is reached is ours.
            found = engine.run(seeds, retain=retain)
        return [found.get(o) for o in origins]


def _selected(call: str, args: Sequence[Any], argnums: int | Sequence[int]) -> dict[int, Any]:
    """The arguments to differentiate with respect to, by position."""
    try:
        numbers = (
            [operator.index(n) for n in argnums]
            if isinstance(argnums, (tuple, list))
            else [operator.index(argnums)]  # type: ignore[arg-type]
        )
    except TypeError:
        raise ArgumentError(f"{call}: argnums takes an int or a sequence of ints, got {argnums!r}") from None
    found: dict[int, Any] = {}
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise ArgumentError(
                f"{call}: argnums={argnums!r}, but the function was called with {len(args)} positional "
                "arguments; those to differentiate are passed by position"
            )
        if n % len(args) in found:
            raise ArgumentError(f"{call}: argnums={argnums!r} names argument {n % len(args)} twice")
        found[n % len(args)] = args[n]
    return found


def _linearized(
    call: str,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool = False,
) -> Linearization:
    """``fn`` at ``args``, with respect to those that ``argnums`` selects, which are a dict by position."""
    arguments = Arguments(call, _selected(call, args, argnums), "args")
    passed = [arguments.value.get(i, a) for i, a in enumerate(args)]
    return Linearization(arguments, lambda: fn(*passed, **kwargs), has_aux=has_aux)


def _chosen(by_position: dict[int, Any], argnums: int | Sequence[int]) -> Any:
    """What belongs to the selected arguments: one for an int, a tuple for a sequence."""
    values = tuple(by_position.values())
    return values if isinstance(argnums, (tuple, list)) else values[0]


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that computes ``fn`` and its gradient.

    The gradient has the form of the argument: for a nested list, tuple or dict the same with a gradient in
    place of each tensor, for a module a dict of gradients by the names of its parameters (those that are
    frozen left out). Where ``fn`` does not depend on a tensor, its gradient is zeros. Python floats are taken
    as float32 tensors.

    A gradient is a tensor without a record, unless it can be differentiated further: inside another
    transform, or where ``fn`` uses a tensor from outside that requires a gradient, it is recorded like any
    computation. `no_grad` around the call keeps it from that.

    Args:
        fn: a function that returns a floating tensor of no axes.
        argnums: the position of the argument to differentiate with respect to, or several.
        has_aux: ``fn`` returns a pair, the tensor and something that is passed on.

    Returns:
        A function of the arguments of ``fn`` that returns ``(value, gradient)``, or, with ``has_aux``,
        ``((value, aux), gradient)``. For several ``argnums`` the gradient is a tuple.

    Raises:
        ArgumentError: if ``argnums`` names no argument.
        DTypeError: if an argument to differentiate holds anything but floating tensors.
        GradientError: if it holds no tensor, or ``fn`` does not return a floating tensor of no axes.
    """
    check_function("value_and_grad", fn)

    @_wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        at, gradient = _gradient("value_and_grad", fn, args, kwargs, argnums, has_aux)
        return ((at.value(), at.settled_aux()) if has_aux else at.value()), gradient

    return evaluate


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that computes the gradient of ``fn``; see `value_and_grad`.

    Args:
        fn: a function that returns a floating tensor of no axes.
        argnums: the position of the argument to differentiate with respect to, or several.
        has_aux: ``fn`` returns a pair, the tensor and something that is passed on.

    Returns:
        A function of the arguments of ``fn`` that returns the gradient, or, with ``has_aux``,
        ``(gradient, aux)``. For several ``argnums`` the gradient is a tuple.

    Raises:
        ArgumentError, DTypeError, GradientError: as `value_and_grad`.
    """
    check_function("grad", fn)

    @_wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        at, gradient = _gradient("grad", fn, args, kwargs, argnums, has_aux)
        return (gradient, at.settled_aux()) if has_aux else gradient

    return evaluate


def _gradient(
    call: str,
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
) -> tuple[Linearization, Any]:
    at = _linearized(call, fn, args, kwargs, argnums, has_aux)
    if at.structure.kind is not None or at.outs[0].spec.shape != ():
        got = f"shape {at.outs[0].spec.shape}" if at.structure.kind is None else at.structure.kind.__name__
        raise GradientError(
            f"{call}: the function must return one tensor of no axes, got {got}; reduce it with sum or mean, "
            "return the rest as aux (has_aux=True), or use vjp or jacobian"
        )
    cts = at.pull([ones_of(at.outs[0].spec)], retain=False)
    return at, _chosen(at.arguments.tree_of(cts), argnums)


def vjp(fn: Callable[..., Any], /, *primals: Any, has_aux: bool = False) -> tuple[Any, ...]:
    """The value of ``fn`` and the function that pulls cotangents back through it.

    Args:
        fn: a function that returns floating tensors, one or a nested list, tuple or dict of them.
        primals: its arguments, all differentiated; see `value_and_grad` for what they may be.
        has_aux: ``fn`` returns a pair, the result and something that is passed on.

    Returns:
        ``(value, pull)``, or, with ``has_aux``, ``(value, pull, aux)``. ``pull(ct)`` takes a cotangent of the
        form of the value and returns a tuple, the cotangent of each primal in its form. It can be called
        again, and differentiated; what the record saved is kept as long as ``pull`` is.

    Raises:
        DTypeError: if a primal or the result holds anything but floating tensors.
        GradientError: if there is no tensor among the primals, or a cotangent does not fit the value.
    """
    check_function("vjp", fn)
    arguments = Arguments("vjp", primals, "primals")
    at = Linearization(arguments, lambda: fn(*arguments.value), has_aux=has_aux)
    specs = at.specs

    def pull(ct: Any, /) -> tuple[Any, ...]:
        """The cotangents of the primals, from that of the value."""
        parts = tree.flatten_like(at.structure, ct, "ct")
        paths = at.structure.paths("ct")
        cts = [fitting("pull", c, s, p) for c, s, p in zip(parts, specs, paths, strict=True)]
        return arguments.tree_of(at.pull(cts, retain=True))  # type: ignore[no-any-return]

    value, aux = at.value(), at.settled_aux()
    at.aux = None
    return (value, pull, aux) if has_aux else (value, pull)


def jvp(
    fn: Callable[..., Any],
    primals: Sequence[Any],
    tangents: Sequence[Any],
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """The value of ``fn`` and its directional derivative, computed as a vjp of a vjp.

    Pulling back is linear in the cotangent, so that its own vjp carries tangents forward (Townsend, "A new
    trick for calculating Jacobian vector products", 2017).

    Args:
        fn: as for `vjp`.
        primals: a tuple or list of its arguments, all differentiated.
        tangents: a tuple or list of the direction, of the form, shapes and dtypes of ``primals``; a dict
            of tensors by name for a module.
        has_aux: ``fn`` returns a pair, the result and something that is passed on.

    Returns:
        ``(value, tangent)``, or, with ``has_aux``, ``(value, tangent, aux)``; the tangent has the form of the
        value.

    Raises:
        ArgumentError, GradientError: if ``tangents`` do not fit ``primals``.
        DTypeError: if a primal or the result holds anything but floating tensors.
    """
    check_function("jvp", fn)
    for name, given in (("primals", primals), ("tangents", tangents)):
        if not isinstance(given, (tuple, list)):
            raise ArgumentError(f"jvp: {name} takes a tuple or list of arguments, got {type(given).__name__}")
    arguments = Arguments("jvp", tuple(primals), "primals")
    direction = arguments.match(tuple(tangents), "tangents")
    at = Linearization(arguments, lambda: fn(*arguments.value), has_aux=has_aux)
    # The cotangents that the first vjp starts with do not matter: it is linear in them.
    starts = Arguments("jvp", [zeros_of(s) for s in at.specs], "cts")
    with starts.entered(), changed(recording=True):
        cts = at.pull(starts.value, retain=True)
    tangent: list[Tensor | None] = [None] * len(at.outs)
    reached = [(ct, t) for ct, t in zip(cts, direction, strict=True) if ct is not None]
    if reached:
        back = Linearization(starts, lambda: [ct for ct, _ in reached])
        tangent = back.pull([t for _, t in reached], retain=False)
    result = tree.unflatten(at.structure, starts.tree_of(tangent))
    return (at.value(), result, at.settled_aux()) if has_aux else (at.value(), result)


def jacobian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that computes the Jacobian of ``fn``, one vjp for each element of its result.

    Args:
        fn: a function that returns floating tensors, one or a nested list, tuple or dict of them.
        argnums: the position of the argument to differentiate with respect to, or several.

    Returns:
        A function of the arguments of ``fn``. It returns, in place of each tensor of the result, a tree of the
        form of the argument (a tuple of these for several ``argnums``) with tensors of the shape of the
        result's tensor followed by that of the argument's.

    Raises:
        ArgumentError, DTypeError, GradientError: as `vjp`, and if ``argnums`` names no argument.
    """
    check_function("jacobian", fn)

    @_wraps(fn)
    def evaluate(*args: Any, **kwargs: Any) -> Any:
        at = _linearized("jacobian", fn, args, kwargs, argnums)
        blocks = [_chosen(at.arguments.tree_of(_rows(at, k)), argnums) for k in range(len(at.outs))]
        return tree.unflatten(at.structure, blocks)

    return evaluate


def _rows(at: Linearization, k: int) -> list[Tensor | None]:
    """The Jacobian of one tensor of the result, by argument."""
    spec, arguments = at.specs[k], at.arguments
    rows: list[list[Tensor]] = [[] for _ in arguments.origins]
    for i in range(spec.size):
        cts: list[Tensor | None] = [None] * len(at.outs)
        cts[k] = _one_hot(spec, i)
        for row, ct, s in zip(rows, at.pull(cts, retain=True), arguments.specs, strict=True):
            row.append(zeros_of(s) if ct is None else ct)
    return [
        reshape(stack(row), (*spec.shape, *s.shape))
        if row
        else zeros((*spec.shape, *s.shape), dtype=s.dtype, device=s.device)
        for row, s in zip(rows, arguments.specs, strict=True)
    ]


def _one_hot(spec: Spec, index: int) -> Tensor:
    host = np.zeros(spec.size, spec.dtype.numpy)
    host[index] = 1
    return asarray(host.reshape(spec.shape), device=spec.device)


def hessian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that computes the second derivatives of ``fn``: the Jacobian of its Jacobian.

    Args:
        fn: as for `jacobian`; usually one that returns a tensor of no axes.
        argnums: the position of the argument to differentiate with respect to, or several.

    Returns:
        A function of the arguments of ``fn``. For one tensor argument it returns a tensor of the shape of the
        result followed twice by that of the argument; else trees as `jacobian` nests them.

    Raises:
        ArgumentError, DTypeError, GradientError: as `jacobian`.
    """
    check_function("hessian", fn)
    return jacobian(jacobian(fn, argnums), argnums)


def _wraps(fn: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    # Without its attributes: ``fn`` may be a module.
    return functools.wraps(fn, updated=())


__all__ = ["grad", "hessian", "jacobian", "jvp", "value_and_grad", "vjp"]
