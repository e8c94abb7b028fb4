"""What a transform differentiates with respect to: the tensors in a tree of arguments, each under an origin
of the transform's own.

A tensor that the record does not follow becomes a fresh leaf, one that it does an alias, so that a transform
inside another differentiates its own argument and nothing else. The tensors of an owner, such as a module,
are differentiated where they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from plugrad import tree
from plugrad.autograd.engine import alias, made, parents_of
from plugrad.convert import asarray
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import local
from plugrad.dispatch.record import Leaf, Node, Origin, counter
from plugrad.dispatch.tracing import array_of
from plugrad.errors import ArgumentError, DTypeError, GradientError
from plugrad.ops.creation import zeros_of
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


class Primal(Leaf):
    """The leaf of a transform's argument. Once the transform is through, nothing asks for its gradient."""

    __slots__ = ()


class _Local(threading.local):
    running: tuple[frozenset[Origin], ...] = ()


_local: Final = _Local()
"""The transforms that are running, outermost first, each as the origins of its owners' tensors."""


def running() -> tuple[frozenset[Origin], ...]:
    """The transforms that run in this thread, for `running_again`."""
    return _local.running


@contextmanager
def running_again(transforms: tuple[frozenset[Origin], ...]) -> Iterator[None]:
    """Run as if inside ``transforms``."""
    before = _local.running
    _local.running = transforms
    try:
        yield
    finally:
        _local.running = before


class Arguments:
    """The tensors in a tree that a transform differentiates with respect to.

    Attributes:
        call, name: the name of the transform, and of the tree, for errors.
        since: the number of the first origin made for the transform; older ones come from outside.
        origins: one per tensor; a tensor that an owner shares with another is one.
        specs: one per origin.
        value: the tree with its tensors under these origins, to be passed on.
        owned: those of the origins that are an owner's.
    """

    def __init__(self, call: str, arguments: Any, name: str) -> None:
        self.call = call
        self.name = name
        self.since = next(counter)
        self.origins: list[Origin] = []
        self.specs: list[Spec] = []
        leaves, self._structure = tree.flatten(arguments)
        # Leaf by leaf of the tree: the index of its origin, or those of an owner's tensors by name.
        self._places: list[int | dict[str, int]] = []
        self.owned: frozenset[Origin] = frozenset()
        self.value = tree.unflatten(self._structure, [self._enter(i, x) for i, x in enumerate(leaves)])
        if not self.origins:
            raise GradientError(
                f"{call}: there is no tensor to differentiate with respect to in {name}"
                + ("; every parameter is frozen (requires_grad is False)" if self._places else "")
            )

    def _enter(self, index: int, leaf: Any) -> Any:
        if isinstance(leaf, float):
            leaf = asarray(leaf)
        if isinstance(leaf, TensorData):
            if not leaf.spec.dtype.is_floating:
                raise DTypeError(
                    f"{self.call}: {self._path(index)} is {leaf.spec.dtype}; takes floating dtypes: cast it with astype, or "
                    "leave it out of what is differentiated"
                )
            spec = leaf.spec
            if leaf._node is not None and local.modes.recording:
                entered = alias(leaf)  # type: ignore[arg-type]
            else:
                entered = wrap(array_of(leaf), spec, Primal(spec))
            assert entered._node is not None
            self._places.append(len(self.origins))
            self.origins.append(entered._node)
            self.specs.append(spec)
            return entered
        if tree.owns_tensors(leaf):
            places: dict[str, int] = {}
            known = {o: i for i, o in enumerate(self.origins)}
            for name, tensor in leaf.__tensors__().items():
                origin = tensor._node
                if origin is None:
                    continue
                if origin not in known:
                    known[origin] = len(self.origins)
                    self.origins.append(origin)
                    self.specs.append(tensor.spec)
                places[name] = known[origin]
            self._places.append(places)
            self.owned |= {self.origins[i] for i in places.values()}
            return leaf
        fix = "leave it out of what is differentiated"
        if isinstance(leaf, int):
            fix = "write it as a float, or leave it out"
        elif hasattr(leaf, "__array__"):
            fix = "wrap it with plugrad.asarray"
        raise DTypeError(
            f"{self.call}: {self._path(index)} is {type(leaf).__name__}; takes floating tensors: {fix}"
        )

    def _path(self, index: int) -> str:
        return list(self._structure.paths(self.name))[index]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Run inside this transform."""
        with running_again((*_local.running, self.owned)):
            yield

    def tree_of(self, values: Sequence[Tensor | None]) -> Any:
        """A tree of the arguments' form with ``values``, one per origin, each a tensor of its own; None is zeros."""

        def own(index: int) -> Tensor:
            x = values[index]
            return zeros_of(self.specs[index]) if x is None else wrap(array_of(x), x._key.spec, x._node)

        return tree.unflatten(
            self._structure,
            [own(p) if isinstance(p, int) else {n: own(i) for n, i in p.items()} for p in self._places],
        )

    def match(self, given: Any, name: str) -> list[Tensor]:
        """One tensor per origin, from a tree of the form of the arguments.

        Raises:
            ArgumentError, GradientError: if its containers, shapes, dtypes or devices are others.
        """
        parts = tree.flatten_like(self._structure, given, name)
        paths = list(self._structure.paths(name))
        found: dict[int, Tensor] = {}
        for place, part, path in zip(self._places, parts, paths, strict=True):
            if isinstance(place, int):
                found.setdefault(place, fitting(self.call, part, self.specs[place], path))
                continue
            if not isinstance(part, dict) or part.keys() != place.keys():
                got = (
                    f"the keys {', '.join(map(str, part))}" if isinstance(part, dict) else type(part).__name__
                )
                raise ArgumentError(f"{path}: takes a dict of tensors by name, {', '.join(place)}; got {got}")
            for key, i in place.items():
                found.setdefault(i, fitting(self.call, part[key], self.specs[i], f"{path}[{key!r}]"))
        return [found[i] for i in range(len(self.origins))]

    def boundary(self, starts: Iterable[Origin]) -> tuple[bool, bool]:
        """How far the record below ``starts`` reaches beyond these arguments.

        Returns:
            Whether it reaches anything made before the transform began; and whether a gradient with respect to
            something out there can still be asked for.
        """
        own, owned, since, running = set(self.origins), self.owned, self.since, _local.running
        crossed = False
        stack = list(starts)
        seen = set(stack)
        while stack:
            origin = stack.pop()
            if type(origin) is Node:
                parents = origin.parents
            elif isinstance(origin, Leaf):
                if origin in own:
                    if any(origin in outer for outer in running):
                        return True, True
                    continue
                if type(origin) is Leaf:
                    return True, True
                parents = ()
            else:
                parents = parents_of(origin)
            if origin.seq < since and made(origin) < since:
                # An owner's tensor is our own where we use it, and not where something older did.
                if running or not owned.isdisjoint(parents):
                    return True, True
                crossed = True
            for parent in parents:
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
        return crossed, False


def fitting(call: str, value: Any, spec: Spec, path: str) -> Tensor:
    """``value`` as a tensor of ``spec``: itself, or a Python number as one of no axes.

    Raises:
        GradientError: if it is anything else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and spec.shape == ():
        return asarray(value, dtype=spec.dtype, device=spec.device)
    if isinstance(value, TensorData) and value.spec is spec:
        return value  # type: ignore[return-value]
    got = repr(value.spec) if isinstance(value, TensorData) else type(value).__name__
    raise GradientError(f"{call}: {path} takes a tensor of {spec!r}, got {got}")


def check_function(call: str, fn: Any) -> Callable[..., Any]:
    """``fn``, if it can be called.

    Raises:
        ArgumentError: if it cannot.
    """
    if callable(fn):
        return fn  # type: ignore[no-any-return]
    hint = "; a result that is computed already has .backward()" if isinstance(fn, TensorData) else ""
    raise ArgumentError(f"{call}: takes a function, got {type(fn).__name__}{hint}")
