"""Bodies of composites, and of rules, as generated kernels in eager mode: captured once for a signature, and made ready.

Importing this module lets dispatch make them (`plugrad.dispatch.lowering.bodies`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.lowering import bodies
from plugrad.dispatch.modes import Modes
from plugrad.dispatch.statement import register
from plugrad.errors import UnsupportedOp
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.memory import kernel_of
from plugrad.graph.passes import Context, run_passes
from plugrad.graph.rewrite import values_of
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.op import Op


def make(
    op: Op[..., Any],
    specs: Sequence[Any],
    attributes: Mapping[str, Any],
    results: Any,
    backend: Backend,
    modes: Modes,
) -> Callable[..., Any]:
    """What computes an op's arrays as its body does.

    Args:
        op: a composite, or the op of a rule, which the backend has no kernel for.
        specs: the specs of its operands.
        attributes: its static attributes.
        results: the specs of its results, in the structure of what it gives.
        backend: of the device.
        modes: kernels are chosen by ``matmul_precision``.

    Raises:
        UnsupportedOp: for a primitive without a kernel.
        CaptureError: for a body that looks at values.
    """
    graph = Graph()
    operands = [_operand(graph, s) for s in specs]
    form = graph.add(op, operands, attributes, results)
    graph.outputs = values_of(form)
    if len(graph.outputs) != len(_flat(results)):
        raise UnsupportedOp(f"{op.name}: a result is absent")
    ready = run_passes(graph, Context(backend, modes))
    return _Line(ready, specs, form, backend, modes)


def _operand(graph: Graph, spec: Any) -> Any:
    if isinstance(spec, tuple):
        return tuple(graph.input(s) for s in spec)
    return None if spec is None else graph.input(spec)


def _flat(form: Any) -> list[Any]:
    if isinstance(form, (tuple, list)):
        return [v for part in form for v in _flat(part)]
    return [form]


class _Line:
    """Kernel calls one after the other, on arrays."""

    def __init__(self, graph: Graph, specs: Sequence[Any], form: Any, backend: Backend, modes: Modes) -> None:
        self._specs: Final = specs
        self._form: Final = form
        self._full: Final = backend.kernels.find(register["full"], [], {"shape": ()})
        places: dict[Value, int] = {v: i for i, v in enumerate((*graph.inputs, *graph.constants))}
        self._constants: Final = list(graph.constants.values())
        self._calls: Final[list[tuple[Any, ...]]] = []
        last = {v: i for i, n in enumerate(graph.nodes) for v in n.reads()}
        for i, node in enumerate(graph.nodes):
            for value in node.results:
                places[value] = len(places)
            dead = [v for v in dict.fromkeys((*node.reads(), *node.results)) if last.get(v, i) <= i]
            gone = [places[v] for v in dead if v not in graph.outputs and v not in graph.constants]
            kernel = kernel_of(node, backend, modes)
            targets = [places[v] for v in node.results]
            self._calls.append(
                (kernel.function, _pattern(node, places), node.attributes, targets, _nested(node), gone)
            )
        self._outputs: Final = [places[v] for v in graph.outputs]
        self._slots: Final = len(places)

    def __call__(self, *arrays: Any, into: Any = None, **attributes: Any) -> Any:
        """The results, in the structure of what the op gives."""
        del into, attributes
        slots: list[Any] = []
        for array, spec in zip(arrays, self._specs, strict=True):
            if isinstance(spec, tuple):
                slots += array
            elif spec is not None:
                slots.append(self._number(array, spec) if isinstance(array, (bool, int, float)) else array)
        slots += self._constants
        slots += [None] * (self._slots - len(slots))
        for function, pattern, given, targets, nested, gone in self._calls:
            made = function(*[_filled(p, slots) for p in pattern], **given)
            if nested is None:
                slots[targets[0]] = made
            else:
                for target, array in zip(targets, _flat_arrays(made, nested), strict=True):
                    slots[target] = array
            for place in gone:
                slots[place] = None
        outputs = iter([slots[i] for i in self._outputs])
        return _formed(self._form, outputs)

    def _number(self, value: float, spec: Spec) -> Any:
        assert self._full is not None
        return self._full.function(shape=(), fill_value=value, dtype=spec.dtype, device=spec.device)


def _pattern(node: Node, places: Mapping[Value, int]) -> list[Any]:
    """For each operand the place of a value, those of a sequence, or a number in a list of its own."""
    found: list[Any] = []
    for operand in node.operands:
        if isinstance(operand, Value):
            found.append(places[operand])
        elif isinstance(operand, tuple):
            found.append(tuple(places[v] for v in operand))
        else:
            found.append([operand])
    return found


def _filled(pattern: Any, slots: Sequence[Any]) -> Any:
    if type(pattern) is int:
        return slots[pattern]
    return [slots[i] for i in pattern] if type(pattern) is tuple else pattern[0]


def _nested(node: Node) -> Any:
    """The structure of a node's results; None for a single one."""
    return node.form if isinstance(node.form, (tuple, list)) else None


def _flat_arrays(made: Any, form: Any) -> list[Any]:
    """The arrays of a structure of results, absent ones left out."""
    found: list[Any] = []
    for array, part in zip(made, form, strict=True):
        if isinstance(part, (tuple, list)):
            found += _flat_arrays(array, part)
        elif part is not None:
            found.append(array)
    return found


def _formed(form: Any, arrays: Any) -> Any:
    if isinstance(form, (tuple, list)):
        return type(form)(_formed(part, arrays) for part in form)
    return next(arrays)


bodies.make = make
