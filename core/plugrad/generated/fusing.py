"""Kernels generated from graphs: what `plugrad.graph.source` writes, launched on arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from plugrad.backend.kernels import Kernel
from plugrad.dtypes import DType
from plugrad.generated.array import StridedArray, empty
from plugrad.generated.kernels._run import number_of
from plugrad.graph.ir import Graph
from plugrad.graph.source import Dialect, Launch, Program, launch_of, program_of
from plugrad.spec import Spec

_LAUNCHES: Final = 64
"""Layouts of operands that a kernel remembers."""

_ARGUMENTS: Final = 96
"""Parameters of a kernel at most: every device takes 1024 bytes of them."""


def generate(graph: Graph, dialect: Dialect) -> Kernel | None:
    """A kernel for a graph; None where it is no program."""
    program = program_of(graph, dialect)
    if program is None or 4 * (len(program.reads) + len(program.writes)) + len(program.numbers) > _ARGUMENTS:
        return None
    return Kernel(Generated(program), inplace=_inplace(program), partial=True)


def _inplace(program: Program) -> tuple[str, ...]:
    """The operands that results may be written over: what is read where it is written, in one turn over all."""
    if program.reduced or len(program.writes) > len(program.graph.outputs):
        return ()
    outputs = {v.spec for v in program.graph.outputs}
    sizes = {s.dtype.itemsize for s in outputs}
    found = []
    for i, value in enumerate(program.graph.inputs):
        reads = [axes for v, axes in program.reads if v is value]
        same = any(value.spec.shape == s.shape for s in outputs) and sizes == {value.spec.dtype.itemsize}
        if same and value.spec.shape == program.shape and reads == [program.identity()]:
            found.append(str(i))
    return tuple(found)


class Generated:
    """Runs a program on arrays.

    Attributes:
        program: what is computed.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._specs: Final = [v.spec for v in program.graph.outputs]
        self._launches: OrderedDict[Any, _Bound] = OrderedDict()

    def __call__(self, *arrays: Any, into: Any = None) -> Any:
        """The results.

        Args:
            arrays: the operands; a Python number for one without axes.
            into: where the result goes, or a tuple where there are several, with None for what is to be allocated.
        """
        single = len(self._specs) == 1
        places: Sequence[Any] = (into,) if single else (into or (None,) * len(self._specs))
        key = (
            *(x.strides if type(x) is StridedArray else None for x in arrays),
            *(None if p is None else p.strides for p in places),
        )
        bound = self._launches.get(key)
        if bound is None:
            bound = self._settle(key, len(arrays))
        results = bound(arrays, places, self._specs)
        return results[0] if single else tuple(results)

    def _settle(self, key: Any, operands: int) -> _Bound:
        launch = launch_of(self.program, key[:operands], key[operands:])
        bound = self._launches[key] = _Bound(
            launch, [v.spec.dtype for v in self.program.graph.inputs], self.program.dialect
        )
        if len(self._launches) > _LAUNCHES:
            self._launches.popitem(last=False)
        return bound


class _Bound:
    """A launch with all that does not change from call to call."""

    def __init__(self, launch: Launch, dtypes: Sequence[DType], dialect: Dialect) -> None:
        self._launch: Final = launch
        self._dtypes: Final = dtypes
        self._reads: Final = launch.reads
        self._numbers: Final = [number_of(value, dtype, dialect) for value, dtype in launch.numbers]
        self._after: Final = None if launch.after is None else Generated(launch.after)

    def __call__(self, arrays: Sequence[Any], places: Sequence[Any], specs: Sequence[Spec]) -> list[Any]:
        launch = self._launch
        device = next(x.device for x in (*arrays, *places) if type(x) is StridedArray)
        results = list(places)
        for i, spec in enumerate(specs):
            if results[i] is None:
                memory = device.allocate(spec.nbytes)
                results[i] = StridedArray(device, memory, spec.dtype, spec.shape, launch.layouts[i])
        arguments: list[Any] = []
        for index, strides in self._reads:
            if index is None:
                arguments += (0, *(strides or ()))
            elif strides is None:
                arguments.append(number_of(arrays[index], self._dtypes[index], device.dialect))
            else:
                x = arrays[index]
                arguments += (x.memory, x.start, *strides)
        arguments += self._numbers
        for place, more, steps in launch.writes:
            arguments += (results[place].memory, results[place].start + more, *steps)
        partial = []
        for spec, strides in launch.partial:
            part = empty(device, spec.shape, spec.dtype)
            partial.append(StridedArray(device, part.memory, spec.dtype, spec.shape, strides))
            arguments.append(part.memory)
        arguments += launch.tail
        device.launch(launch.source, (launch.items,), (launch.group,), arguments)
        if self._after is not None:
            rest = [i for i in range(len(specs)) if i not in {w for w, _, _ in launch.writes}]
            into = tuple(results[i] for i in rest)
            self._after(*partial, *arrays, into=into if len(into) > 1 else into[0])
        return results
