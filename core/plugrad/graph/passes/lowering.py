"""Ops that a device has no kernel for are replaced by their bodies, down to what it has kernels for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.lowering import apply_body, with_modes
from plugrad.dispatch.modes import Modes, changed
from plugrad.dispatch.statement import register
from plugrad.dispatch.tracing import local as tracing
from plugrad.errors import UnsupportedOp
from plugrad.graph.ir import Composed, Graph, Node, Operand, Value
from plugrad.graph.rewrite import Rewriter, specs_of
from plugrad.graph.source.program import fuses

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.dispatch.op import Op


def lower(graph: Graph, backend: Backend, modes: Modes, *, exact: bool = False) -> Graph:
    """The graph in ops that ``backend`` has kernels for.

    Where the device generates kernels, an op that has one is replaced by its body nevertheless if all that this comes down
    to fuses: it is better part of a fused region. Other ops with kernels, as products, stay.

    Args:
        graph: any graph.
        backend: of the device.
        modes: kernels are chosen by ``matmul_precision``.
        exact: whether results are to be those of eager mode bit for bit: then what has a kernel stays.

    Raises:
        UnsupportedOp: for a primitive without a kernel.
    """
    device = graph.device
    generating = not exact and device is not None and backend.capabilities(device).generating
    lowering = _Lowering(graph, backend, modes, generating)
    before, tracing.trace = tracing.trace, lowering
    try:
        for node in graph.nodes:
            if isinstance(node.op, Composed):
                lowering.copy(node)
                continue
            form = lowering.place(
                node.op, lowering.operands(node), node.attributes, specs_of(node.form), node.line
            )
            lowering.replace(node, form)
    finally:
        tracing.trace = before
    return lowering.finish()


class _StaysWholeError(Exception):
    """A body that is tried does not fuse."""


class _Lowering(Rewriter):
    """A rewriter that is a trace too: bodies run on symbols of the new graph."""

    def __init__(self, source: Graph, backend: Backend, modes: Modes, generating: bool) -> None:
        super().__init__(source)
        self._generating = generating
        self._trying = 0
        self._backend = backend
        self._modes = modes
        self._line = ""
        self.since = 0

    def place(
        self,
        op: Op[..., Any],
        operands: Sequence[Operand],
        attributes: Mapping[str, Any],
        results: Any,
        line: str,
    ) -> Any:
        """Add a node, or the nodes of its body."""
        node = Node(op, operands, attributes)
        given = dict(attributes)
        if self._backend.kernels.find(op, node.specs(), with_modes(given, self._modes)) is None:
            if op.body is None:
                raise UnsupportedOp(
                    f"{op.name}: the device has no kernel for it, and it is a primitive, without a body"
                    + (f" ({line})" if line else "")
                )
            return self._of_body(node, results, line)
        if self._generating and op.body is not None:
            mark = len(self.graph.nodes)
            self._trying += 1
            try:
                return self._of_body(node, results, line)
            except _StaysWholeError:
                del self.graph.nodes[mark:]
            finally:
                self._trying -= 1
        form = self.add(op, operands, attributes, results, line)
        if self._trying and not fuses(self.graph.nodes[-1]):
            raise _StaysWholeError
        return form

    def _of_body(self, node: Node, results: Any, line: str) -> Any:
        """The nodes of a body."""
        self._line = line
        tensors = [_tensor(o, s) for o, s in zip(node.operands, node.specs(), strict=True)]
        with changed(
            capturing=True,
            recording=False,
            autocast=None,
            anomaly=False,
            observer=None,
            matmul_precision=self._modes.matmul_precision,
        ):
            return _arrays(_cast(apply_body(node.op, tensors, dict(node.attributes)), results))

    def symbol_of(self, tensor: TensorData) -> Value:
        """The value that a tensor of a body holds."""
        value: Value = tensor._array
        return value

    def array_of(self, tensor: TensorData) -> Any:
        """The value that a tensor of a body holds."""
        return tensor._array

    def bind(self, tensor: Any, array: Any, key: Any, node: Any) -> bool:
        """Bodies bind nothing from outside."""
        del tensor, array, key, node
        return False

    def enter(self, tensor: TensorData) -> TensorData:
        """The tensor itself; one that the body made of numbers is a constant."""
        if isinstance(tensor._array, Value):
            return tensor
        return wrap(self.graph.constant(tensor._array, tensor.spec), tensor.spec)

    def apply(
        self, op: Op[..., Any], arrays: Sequence[Any], attributes: Mapping[str, Any], results: Any
    ) -> Any:
        """An application inside a body."""
        operands = [tuple(a) if isinstance(a, list) else a for a in arrays]
        return self.place(op, operands, attributes, results, self._line)

    def note(self, guarded: Any) -> None:
        """Bodies read no objects."""
        del guarded

    def made(self, guarded: Any) -> None:
        """Bodies make no objects."""
        del guarded
        raise AssertionError("a body makes no module")

    def setting(self, guarded: Any, name: str) -> None:
        """Bodies set nothing."""
        del guarded, name
        raise AssertionError("a body sets no attribute")

    def grad_of(self, leaf: Any) -> Any:
        """Bodies have no leaves."""
        del leaf
        raise AssertionError("a body reads no gradient")


def _tensor(operand: Operand, spec: Any) -> Any:
    if isinstance(operand, tuple):
        return [wrap(v, v.spec) for v in operand]
    if isinstance(operand, (bool, int, float)):
        return register["full"](shape=(), fill_value=operand, dtype=spec.dtype, device=spec.device)
    return None if operand is None else wrap(operand, operand.spec)


def _cast(tensors: Any, specs: Any) -> Any:
    """What a body gives in the dtypes of ``specs``: a rule's body may compute in a wider one."""
    if isinstance(tensors, (tuple, list)):
        return type(tensors)(_cast(t, s) for t, s in zip(tensors, specs, strict=True))
    if tensors is None or tensors.spec.dtype is specs.dtype:
        return tensors
    return register["astype"](tensors, specs.dtype)


def _arrays(results: Any) -> Any:
    if isinstance(results, (tuple, list)):
        return type(results)(_arrays(r) for r in results)
    return None if results is None else results._array
