"""Elementwise ops that follow a product, a convolution, a pool or a norm, applied by each thread to what it made of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final, Protocol

import numpy as np

from plugrad.graph.any_size import any_size
from plugrad.graph.ir import Graph, Node, Value
from plugrad.spec import Spec
from plugrad_numpy._parallel import scratch
from plugrad_numpy._patches import channels_first, channels_last
from plugrad_numpy.kernels._precision import is_low
from plugrad_numpy.kernels._table import table

Array = Any
Finish = Callable[..., None]

LEAST: Final = 1 << 18
"""Elements of a result from which a kernel less outweighs that threads meet at Python's lock once more."""

MOST: Final = 1 << 22
"""Elements of a result up to which parts of it are still in a cache when they are there."""

STEP: Final = 1 << 19
"""Elements of a block. In smaller ones threads wait for each other, as they take Python's lock more often."""

DEAR: Final = frozenset(("erf", "gelu"))
"""Ops of many steps, which take as long as the way to memory and back several times: their own kernels are as fast."""

_ALL: Final = slice(None)

_SIDE: Final = 4
"""The size of an axis of the arrays that kernels are chosen for: those of small arrays do not cut them once more."""


Shape = tuple[int, ...]


class View(Protocol):
    """How all arrays of a shape and a layout are seen, so that blocks are cut out of their first two axes."""

    def writable(self, array: Array) -> bool:
        """Whether `view` gives the memory of ``array`` itself."""
        ...

    def empty(self, dtype: Any) -> Array:
        """New memory."""
        ...

    def view(self, array: Array) -> Array:
        """An array of the shape, or that broadcasts to it."""
        ...


class Matrix:
    """As a matrix of rows."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape

    def writable(self, array: Array) -> bool:
        """Whether the rows lie side by side."""
        return bool(array.flags.c_contiguous)

    def empty(self, dtype: Any) -> Array:
        """Row-major memory."""
        return np.empty(self._shape, dtype)

    def view(self, array: Array) -> Array:
        """(rows, columns), either of which may be 1."""
        return array.reshape(prod(array.shape[:-1]), array.shape[-1])

    @staticmethod
    def takes(shape: Shape, of: Shape) -> bool:
        """Whether an operand of this shape, of as many axes as ``of``, can be seen so."""
        return prod(shape[:-1]) == 1 or shape[:-1] == of[:-1]


class Images:
    """As images, (N, *S, C), or (N, C, *S) where they are like an array of that order in memory."""

    def __init__(self, shape: Shape, like: Array | None = None) -> None:
        self._shape, self._like = shape, like
        self._last = like is None or not like.flags.c_contiguous

    def writable(self, array: Array) -> bool:
        """Any array is."""
        del array
        return True

    def empty(self, dtype: Any) -> Array:
        """Channels-last memory, or as what they are like."""
        if self._like is not None:
            return np.empty_like(self._like, dtype, subok=False)
        batch, channels, *space = self._shape
        return channels_first(np.empty((batch, *space, channels), dtype))

    def view(self, array: Array) -> Array:
        """The axes in another order."""
        return channels_last(array) if self._last else array

    @staticmethod
    def takes(shape: Shape, of: Shape) -> bool:
        """Any operand will do."""
        del shape, of
        return True


def same(shape: Shape, of: Shape) -> bool:
    """Whether an operand has all of the shape, or one element: for a `View` in which axes lie together."""
    return shape == of or prod(shape) == 1


class Tail:
    """The nodes of a tail, ready to run on blocks of their results.

    Attributes:
        shape: that of the op's result and of all outputs.
        count: how many outputs there are.
    """

    def __init__(self, graph: Graph, takes: Callable[[Shape, Shape], bool]) -> None:
        """Prepare a tail.

        Args:
            graph: its first input is the result of the op.
            takes: whether an operand of a shape can be seen as the result is.

        Raises:
            NotImplementedError: for a tail that is left to kernels of its own: of 16-bit floats, which are rounded once an
                op; of a small result, or a very large one; of an op that gains nothing; with an operand that no blocks are cut
                out of.
        """
        head, *others = graph.inputs
        specs = [v.spec for v in (*graph.outputs, *others)]
        self.shape: Final = head.spec.shape
        self.count: Final = len(graph.outputs)
        self._dtypes: Final = [s.dtype.numpy for s in specs[: self.count]]
        last = graph.nodes[-1].form
        if not (LEAST <= head.spec.size <= MOST or any_size()):
            raise NotImplementedError
        if any(is_low(v.spec.dtype.numpy) for v in (head, *others, *(n.form for n in graph.nodes))):
            raise NotImplementedError
        if any((n.op.owner or n.op).name in DEAR for n in graph.nodes):
            raise NotImplementedError
        if not all(takes(self._full(s.shape), self.shape) for s in specs):
            raise NotImplementedError
        if head not in graph.outputs and last.spec.dtype is not head.spec.dtype:
            raise NotImplementedError
        self._spare: Final[list[np.dtype[Any]]] = []
        self._first: Final = len(specs)
        # The arrays of a block stand in a row: outputs, other inputs, spare memory. The last output is the last result.
        at = {v: i for i, v in enumerate((*graph.outputs, *others))}
        self._head: Final = at.setdefault(head, graph.outputs.index(last))
        readers = {v: n for n in graph.nodes for v in n.reads()}
        self._steps: Final = [self._step(n, at, readers, graph) for n in graph.nodes]

    def _full(self, shape: Shape) -> Shape:
        """A shape with as many axes as the result has."""
        return (1,) * (len(self.shape) - len(shape)) + shape

    def _step(
        self, node: Node, at: dict[Value, int], readers: dict[Value, Node], graph: Graph
    ) -> Callable[[list[Array]], None]:
        """What runs a node on the arrays of a block."""
        kernel = table.find(node.op, [self._small(s) for s in node.specs()], node.attributes)
        if kernel is None:
            raise NotImplementedError
        reads = list(node.reads())
        named = zip(node.op.operands, node.operands, strict=True)
        over = [v for o, v in named if isinstance(v, Value) and o.name in kernel.inplace]
        result: Value = node.form
        if result not in at:
            # Over what is read here for the last time, where the kernel may, and where it is not wanted.
            free = [v for v in over if readers[v] is node and over.count(v) == reads.count(v)]
            free = [v for v in free if v not in graph.outputs and v.spec.dtype is result.spec.dtype]
            free = [v for v in free if not self.count <= at[v] < self._first]
            at[result] = at[free[0]] if free else self._new(result)
        into = at[result]
        operands: list[tuple[int | None, Any]] = [
            (at[o], None) if isinstance(o, Value) else (None, o) for o in node.operands
        ]
        copy = None
        if any(at[v] == into and over.count(v) != reads.count(v) for v in reads):
            copy = self._new(result)
            operands = [(copy, None) if i == into else (i, o) for i, o in operands]
        function, bare, attributes = kernel.function, kernel.bare, node.attributes

        def step(arrays: list[Array]) -> None:
            if copy is not None:
                np.copyto(arrays[copy], arrays[into])
            given = [o if i is None else arrays[i] for i, o in operands]
            if bare is None:
                function(*given, **attributes, into=arrays[into])
            else:
                bare(*given, arrays[into], **attributes)

        return step

    def _small(self, spec: Any) -> Any:
        """A spec of the kind of ``spec``, of few elements."""
        if not isinstance(spec, Spec):
            return spec
        return spec.with_shape(tuple(min(n, _SIDE) for n in self._full(spec.shape)))

    def _new(self, value: Value) -> int:
        self._spare.append(value.spec.dtype.numpy)
        return self._first + len(self._spare) - 1

    def run(
        self, product: Callable[[Array, Finish], object], others: Sequence[Array], into: Any, seen: View
    ) -> Any:
        """The outputs.

        Args:
            product: writes the result of the op to an array, and calls a function for each block of it.
            others: the other inputs of the tail.
            into: where the output goes, or a tuple for several; or None.
            seen: how blocks are cut.
        """
        places = [None] * self.count if into is None else [into] if self.count == 1 else list(into)
        outputs = [
            seen.empty(dtype) if place is None or not seen.writable(place) else place
            for place, dtype in zip(places, self._dtypes, strict=True)
        ]
        views = [seen.view(a) for a in outputs]
        for array in others:
            one = array.size == 1 and views[0].size != 1
            shape = (1,) * views[0].ndim if one else self._full(array.shape)
            views.append(array.reshape(shape) if one else seen.view(array.reshape(shape)))
        spare = [(f"tail.{i}", dtype) for i, dtype in enumerate(self._spare)]

        def finish(first: slice, second: slice = _ALL) -> None:
            width = len(range(views[0].shape[1])[second]) * prod(views[0].shape[2:])
            step = max(1, STEP // max(1, width))
            for start in range(first.start, first.stop, step):
                cut = slice(start, min(start + step, first.stop))
                arrays = [v[cut if len(v) != 1 else _ALL, second if v.shape[1] != 1 else _ALL] for v in views]
                arrays += [scratch(slot, arrays[0].shape, dtype) for slot, dtype in spare]
                for node in self._steps:
                    node(arrays)

        product(outputs[self._head], finish)
        for place, array in zip(places, outputs, strict=True):
            if place is not None and array is not place:
                np.copyto(place, array)
        if into is not None:
            return into
        return outputs[0] if self.count == 1 else tuple(outputs)


def tail_of(graph: Graph, takes: Callable[[Shape, Shape], bool]) -> Tail | None:
    """The tail, or None where it is left to kernels of its own; see `Tail`."""
    try:
        return Tail(graph, takes)
    except NotImplementedError:
        return None


def tail_of_images(graph: Graph) -> Tail | None:
    """The tail of (N, C, *S), or None. Images are spread over threads: of a single one, a kernel of its own is."""
    return tail_of(graph, Images.takes) if graph.inputs[0].spec.shape[0] > 1 else None
