"""Trees: tensors in nested lists, tuples, named tuples, dicts and registered classes.

A tree is a leaf, or a container of trees. `flatten` takes it apart into its leaves and its `Structure`,
`unflatten` puts it together again. None is a tree without leaves. Anything else that is no container is a
leaf, an object that owns tensors among them: it has a method ``__tensors__`` that gives its tensors by
name, as a module gives its parameters, and it stays the object that it is. `plugrad.grad` and the other
transforms differentiate with respect to its tensors where they are, and a gradient has a dict by these names
in its place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from plugrad.dispatch.data import TensorData
from plugrad.errors import ArgumentError

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

C = TypeVar("C")

Flatten = Callable[[Any], tuple[Iterable[Any], Any]]
Unflatten = Callable[[Any, Sequence[Any]], Any]


class TensorOwner(Protocol):
    """An object that owns tensors, such as a module."""

    def __tensors__(self) -> Mapping[str, Tensor]:
        """The tensors by name: the objects that it works with, not copies."""
        ...


@dataclass(frozen=True, slots=True)
class Structure:
    """What is left of a tree without its leaves. Structures of the same containers are equal.

    Attributes:
        kind: the class of the container; None for a leaf.
        keys: the keys of a dict, the names of a named tuple, else the indices of the children.
        children: the structures of the children, in the order of ``keys``.
        extra: what a registered class keeps beside its children.
    """

    kind: type | None
    keys: tuple[Hashable, ...] = ()
    children: tuple[Structure, ...] = ()
    extra: Any = None

    @property
    def size(self) -> int:
        """Number of leaves."""
        return 1 if self.kind is None else sum(c.size for c in self.children)

    def paths(self, root: str = "") -> Iterator[str]:
        """How each leaf is reached from ``root``, as one writes it in Python: ``root[0]['w']``."""
        if self.kind is None:
            yield root
        for key, child in zip(self.keys, self.children, strict=True):
            yield from child.paths(self.step(root, key))

    def step(self, path: str, key: Hashable) -> str:
        """The path of a child of the container at ``path``."""
        return f"{path}.{key}" if self.kind is not None and _is_named(self.kind) else f"{path}[{key!r}]"


_LEAF: Final = Structure(None)
_EMPTY: Final = Structure(type(None))
_registered: Final[dict[type, tuple[Flatten, Unflatten]]] = {}


def register_container(
    kind: type[C],
    flatten: Callable[[C], tuple[Iterable[Any], Any]],
    unflatten: Callable[[Any, Sequence[Any]], C],
) -> None:
    """Make a class a container of trees::

        @dataclass
        class State:
            position: Tensor
            velocity: Tensor

        register_container(State, lambda s: ((s.position, s.velocity), None), lambda _, xs: State(*xs))

    Args:
        kind: the class; subclasses are not included.
        flatten: from an instance, its children, which are trees, and whatever else makes it up, which is
            compared with ``==``.
        unflatten: from that and the children, an instance.

    Raises:
        ArgumentError: if the class is a container already, or its instances own tensors.
    """
    if kind in (list, tuple, dict, OrderedDict, type(None)) or kind in _registered or _is_named(kind):
        raise ArgumentError(f"register_container: {kind.__name__} is a container already")
    if issubclass(kind, TensorData) or hasattr(kind, "__tensors__"):
        raise ArgumentError(
            f"register_container: {kind.__name__} is a leaf, as a tensor or as an owner of tensors"
        )
    _registered[kind] = flatten, unflatten


def _is_named(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _open(tree: Any) -> tuple[tuple[Hashable, ...], Sequence[Any], Any] | None:
    """The keys, children and extra of a container; None for a leaf."""
    kind = type(tree)
    if kind is list or kind is tuple:
        return tuple(range(len(tree))), tree, None
    if kind is dict or kind is OrderedDict:
        return tuple(tree), list(tree.values()), None
    if tree is None:
        return (), (), None
    if _is_named(kind):
        return tuple(kind._fields), tree, None
    if kind in _registered:
        given, extra = _registered[kind][0](tree)
        children = list(given)
        return tuple(range(len(children))), children, extra
    return None


def owns_tensors(leaf: Any) -> bool:
    """Whether an object is a `TensorOwner`."""
    return hasattr(type(leaf), "__tensors__")


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves of a tree, in order, and its structure."""
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


# A closure that calls itself would be a reference cycle, which keeps tensors alive until it is collected:
# hence functions of the module below.


def _take_apart(tree: Any, leaves: list[Any]) -> Structure:
    opened = _open(tree)
    if opened is None:
        leaves.append(tree)
        return _LEAF
    if tree is None:
        return _EMPTY
    keys, children, extra = opened
    return Structure(type(tree), keys, tuple([_take_apart(c, leaves) for c in children]), extra)


def unflatten(structure: Structure, leaves: Iterable[Any]) -> Any:
    """The tree of a structure and its leaves.

    Raises:
        ArgumentError: if there are more or fewer leaves than the structure has.
    """
    given = list(leaves)
    if len(given) != structure.size:
        raise ArgumentError(f"unflatten: the structure has {structure.size} leaves, got {len(given)}")
    return _put_together(structure, iter(given))


def _put_together(s: Structure, leaves: Iterator[Any]) -> Any:
    kind = s.kind
    if kind is None:
        return next(leaves)
    children = [_put_together(c, leaves) for c in s.children]
    if kind is list:
        return children
    if kind is tuple:
        return tuple(children)
    if kind is dict or kind is OrderedDict:
        return kind(zip(s.keys, children, strict=True))
    if kind is type(None):
        return None
    if kind in _registered:
        return _registered[kind][1](s.extra, children)
    return kind(*children)


def flatten_like(structure: Structure, tree: Any, name: str) -> list[Any]:
    """The parts of ``tree`` that stand where ``structure`` has its leaves; they may be trees themselves.

    The order of keys of a dict does not matter.

    Args:
        structure: the structure.
        tree: a tree that has its containers.
        name: what the tree is, for the error.

    Raises:
        ArgumentError: where a container differs.
    """
    parts: list[Any] = []
    _take_apart_like(structure, tree, name, parts)
    return parts


def _take_apart_like(s: Structure, tree: Any, path: str, parts: list[Any]) -> None:
    if s.kind is None:
        parts.append(tree)
        return
    opened = _open(tree)
    if opened is None or type(tree) is not s.kind:
        raise ArgumentError(f"{path}: takes {_described(s)}, got {type(tree).__name__}")
    keys, children, extra = opened
    if set(keys) != set(s.keys) or extra != s.extra:
        raise ArgumentError(f"{path}: takes {_described(s)}, got {_described(Structure(s.kind, keys))}")
    by_key = dict(zip(keys, children, strict=True))
    for key, child in zip(s.keys, s.children, strict=True):
        _take_apart_like(child, by_key[key], s.step(path, key), parts)


def _described(s: Structure) -> str:
    assert s.kind is not None
    if s.kind is type(None):
        return "None"
    if issubclass(s.kind, dict):
        return f"a {s.kind.__name__} with the keys {', '.join(repr(k) for k in s.keys) or '(none)'}"
    return f"a {s.kind.__name__} of {len(s.keys)}"


def leaves(tree: Any) -> list[Any]:
    """The leaves of a tree, in order."""
    return flatten(tree)[0]


def tensors(tree: Any) -> list[Tensor]:
    """The tensors of a tree, in order, those of owners among them; other leaves are left out."""
    found: list[Any] = []
    for leaf in leaves(tree):
        if isinstance(leaf, TensorData):
            found.append(leaf)
        elif owns_tensors(leaf):
            found += leaf.__tensors__().values()
    return found


def map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree of what ``function`` gives for each leaf, together with the parts of ``others`` in its place.

    Raises:
        ArgumentError: where one of ``others`` has other containers than ``tree``.
    """
    own, structure = flatten(tree)
    beside = [flatten_like(structure, o, f"map: tree {i}") for i, o in enumerate(others, 1)]
    return unflatten(structure, [function(*row) for row in zip(own, *beside, strict=True)])


__all__ = [
    "Structure",
    "TensorOwner",
    "flatten",
    "flatten_like",
    "leaves",
    "map",
    "owns_tensors",
    "register_container",
    "tensors",
    "unflatten",
]
