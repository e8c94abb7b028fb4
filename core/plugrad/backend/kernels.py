"""`KernelTable`: which kernel of a backend runs which op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.graph.ir import Graph

Array = Any
"""A backend's own array; the core hands it from kernel to kernel and never looks inside."""

Function = TypeVar("Function", bound=Callable[..., Any])


class OpLike(Protocol):
    """What the table needs to know of an op."""

    @property
    def name(self) -> str:
        """The op's name, such as ``tanh`` or ``tanh.vjp``."""
        ...


When = Callable[[Sequence[Any], Any], bool]

Epilogue = Callable[["Graph"], Callable[..., Any] | None]
"""From a *tail*, what computes the op and the tail at once, or None where the kernel has no way that is faster.

A tail is a graph of elementwise nodes that follow the op. Its first input is the op's result; the others have the shape of
that, or broadcast to it; all its nodes give that shape. Its outputs, in their order, are what is wanted: the op's result is
among them only where others read it. What is given takes the operands of the op, then the other inputs of the tail, by
position, and the op's attributes and ``into=`` by keyword, as a kernel does. Of an op of several results the tail follows the
first, and all others come after the tail's outputs. It gives what the nodes one after the other give, within the tolerance of
the ops.
"""


@dataclass(frozen=True, slots=True)
class Kernel:
    """One backend's implementation of one op.

    Attributes:
        function: takes the backend's arrays by position (promoted, None for an absent optional operand, a
            list for a sequence of tensors), the op's static attributes by keyword (axes normalised), and
            ``into=``, an array or a tuple of arrays for the results, or None. They are row-major, or of the
            layout of what the kernel gave for such operands before. Returns an array, or a tuple of arrays
            for an op of several results.
        when: given the specs of the operands and the attributes, whether this kernel takes them.
        inplace: names of the operands that ``into`` may overlap.
        bare: where it is cheaper than ``function``, the kernel as it is called within `Backend.call`: it takes what goes
            to ``into`` by position, after the operands.
        spreads: it works on the device's workers side by side by itself, and best on whole arrays: it is not cut.
        partial: of several results, ``into`` may hold None for those that are to be allocated.
        allocates: it takes no ``into`` that it writes to: its results are always in memory of their own, and it is not cut.
        epilogue: makes what computes the op and elementwise ops that follow it, without memory in between.
    """

    function: Callable[..., Any]
    when: When | None = None
    inplace: tuple[str, ...] = ()
    bare: Callable[..., Any] | None = None
    spreads: bool = False
    partial: bool = False
    epilogue: Epilogue | None = None
    allocates: bool = False


class KernelTable:
    """A backend's kernels by op. The table is called to register one::

        kernels = KernelTable()

        @kernels(ops.tanh)
        def _(x, *, into=None): ...

        @kernels(ops.conv, when=lambda specs, attrs: attrs.groups == 1)
        def _(x, weight, bias, *, stride, padding, dilation, groups, into=None): ...

    Of several kernels of an op, the first registered whose ``when`` accepts is chosen, once per signature.
    """

    def __init__(self) -> None:
        self._kernels: dict[OpLike, list[Kernel]] = {}

    def __call__(
        self,
        *ops: OpLike,
        when: When | None = None,
        inplace: Sequence[str] = (),
        bare: Callable[..., Any] | None = None,
        spreads: bool = False,
        epilogue: Epilogue | None = None,
    ) -> Callable[[Function], Function]:
        """A decorator that registers a function as the kernel of each of ``ops``."""

        def register(function: Function) -> Function:
            for op in ops:
                self.add(op, Kernel(function, when, tuple(inplace), bare, spreads, epilogue=epilogue))
            return function

        return register

    def add(self, op: OpLike, kernel: Kernel) -> None:
        """Register ``kernel`` for ``op``, after those that stand there already."""
        self._kernels.setdefault(op, []).append(kernel)

    def merge(self, other: KernelTable, without: Sequence[OpLike] = ()) -> None:
        """Take every kernel of ``other``, after one's own, but those of the ops ``without``."""
        for op, kernels in other._kernels.items():
            if op not in without:
                self._kernels.setdefault(op, []).extend(kernels)

    def find(self, op: OpLike, specs: Sequence[Any], attributes: Mapping[str, Any]) -> Kernel | None:
        """The first kernel of ``op`` that takes these specs and attributes, or None.

        ``specs`` follows the operands: a `Spec`, None for an absent one, a list for a sequence of tensors.
        """
        for kernel in self._kernels.get(op, ()):
            if kernel.when is None or kernel.when(specs, SimpleNamespace(**attributes)):
                return kernel
        return None

    def count(self, op: OpLike) -> int:
        """How many kernels of ``op`` there are."""
        return len(self._kernels.get(op, ()))

    def __iter__(self) -> Iterator[OpLike]:
        """The ops that have a kernel."""
        return iter(self._kernels)

    def __contains__(self, op: object) -> bool:
        return op in self._kernels

    def __len__(self) -> int:
        return len(self._kernels)


__all__ = ["Array", "Epilogue", "Kernel", "KernelTable", "Spec"]
