"""Backward: walk the record from results to leaves, without recursion.

Origins are numbered in the order of their making, so the largest number waiting is always one whose
consumers have all been seen. A heap gives that order, and nothing is kept of the graph beyond it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Final

from plugrad.dispatch.anomaly import is_anomalous, on_behalf_of
from plugrad.dispatch.cells import grad_of, set_grad
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.record import Function, Leaf, Node, Origin, Slot
from plugrad.dispatch.tracing import array_of, capture_error, current, entered
from plugrad.errors import AnomalyError, GradientError
from plugrad.ops.arithmetic import add
from plugrad.ops.creation import ones_of, zeros_of

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

_accumulating: Final = threading.RLock()
"""Held while a gradient is added to ``.grad``: threads may share leaves."""


def parents_of(origin: Origin) -> tuple[Origin | None, ...]:
    """What an origin was made from."""
    if isinstance(origin, (Node, Function)):
        return origin.parents
    return (origin.node,) if isinstance(origin, Slot) else ()


def made(origin: Origin) -> int:
    """The number of the op application or leaf that an origin is of."""
    return origin.node.seq if isinstance(origin, Slot) else origin.seq


def reachable(starts: Iterable[Origin], since: int = 0) -> set[Origin]:
    """Every origin that ``starts`` were made from, themselves included; not beyond those made before ``since``."""
    seen = set(starts)
    stack = list(seen)
    while stack:
        origin = stack.pop()
        if origin.seq < since or made(origin) < since:
            continue
        for parent in parents_of(origin):
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen


def entries(starts: Iterable[Origin], since: int) -> list[Origin]:
    """Those made before ``since`` that the record below ``starts`` came from, the oldest first."""
    return sorted((o for o in reachable(starts, since) if made(o) < since), key=lambda o: o.seq)


def leading_to(starts: Iterable[Origin], inputs: Iterable[Origin], since: int) -> set[Origin]:
    """Those origins below ``starts`` that were made from one of ``inputs``, and ``inputs`` themselves.

    Others made before ``since`` are not among them.
    """
    wanted = set(inputs)
    for origin in sorted(reachable(starts, since), key=lambda o: o.seq):
        if any(p in wanted for p in parents_of(origin)) and made(origin) >= since:
            wanted.add(origin)
    return wanted


def run(
    seeds: Sequence[tuple[Origin, Tensor]],
    inputs: Sequence[Origin] | None = None,
    *,
    create: bool = False,
    retain: bool = False,
    since: int = 0,
) -> dict[Origin, Tensor]:
    """Propagate cotangents from ``seeds``.

    Args:
        seeds: where to start, with the cotangent of each.
        inputs: whose cotangents are returned, also where one is made from another. None means all leaves.
        create: record the backward too, so that it can be differentiated.
        retain: keep what the record saved, for another backward.
        since: with ``inputs``, the walk does not enter what was made before this number: it stops at
            those inputs, and other origins of that age are constants.

    Returns:
        The cotangent of each leaf or input that was reached.
    """
    needed = None if inputs is None else leading_to([o for o, _ in seeds], inputs, since)
    # A rule computes in the dtypes of what was saved.
    with changed(recording=create, autocast=None):
        return _walk(seeds, frozenset(inputs or ()), needed, create, retain or create, since)


def _walk(
    seeds: Sequence[tuple[Origin, Tensor]],
    inputs: Collection[Origin],
    needed: Collection[Origin] | None,
    create: bool,
    retain: bool,
    since: int,
) -> dict[Origin, Tensor]:
    found: dict[Origin, Any] = {}
    cts: dict[Origin, Any] = {}
    heap: list[tuple[int, Any]] = []
    anomaly, observed = local.modes.anomaly, local.modes.observer is not None
    capturing = local.modes.capturing
    plain = needed is None and not create and not anomaly and not observed and not capturing

    def give(origin: Origin, ct: Tensor) -> None:
        if type(origin) is Slot:
            if origin in inputs:
                before = found.get(origin)
                found[origin] = ct if before is None else add(before, ct)
                if origin.node.seq < since:
                    return
            slots = cts.get(origin.node)
            if slots is None:
                cts[origin.node] = slots = [None] * len(origin.node.outputs)
                heappush(heap, (-origin.node.seq, origin.node))
            before = slots[origin.index]
            slots[origin.index] = ct if before is None else add(before, ct)
            return
        into = found if isinstance(origin, Leaf) else cts
        before = into.get(origin)
        if before is not None:
            into[origin] = add(before, ct)
            return
        into[origin] = ct
        if into is cts:
            heappush(heap, (-origin.seq, origin))

    for origin, ct in seeds:
        if needed is None or origin in needed:
            give(origin, ct)
    while heap:
        node = heappop(heap)[1]
        ct = cts.pop(node)
        if node in inputs:
            found[node] = ct
            if node.seq < since:
                continue
        if type(ct) is list:
            given = tuple(zeros_of(s) if c is None else c for c, s in zip(ct, node.outputs, strict=True))
        else:
            given = (ct,)
        parents = node.parents
        if capturing and node.seq < current().since:
            raise capture_error(
                f"a backward inside a captured function reaches what {node.name} computed outside: detach that tensor, "
                "compute it inside, or call backward on a result"
            )
        if capturing:
            given = tuple(entered(c) for c in given)
        if plain and type(node) is Node and node.saved is not None:
            results = node.pullback.first(node.saved, *given)
        elif anomaly:
            results = _watched(node, given, create, needed)
        elif observed:
            with on_behalf_of(getattr(node, "line", None) or None):
                results = node.pull(given, create, needed)
        else:
            results = node.pull(given, create, needed)
        if not retain:
            node.saved = None
            node.parents = ()
        for parent, result in zip(parents, results, strict=True):
            if parent is None or result is None or (needed is not None and parent not in needed):
                continue
            if type(parent) is Node and parent not in cts:
                cts[parent] = result
                heappush(heap, (-parent.seq, parent))
            else:
                give(parent, result)
    return found


def _watched(
    node: Node | Function, given: Sequence[Tensor], create: bool, needed: Collection[Origin] | None
) -> Sequence[Any]:
    """The cotangents of the operands of ``node``, looked at for the first NaN or infinity."""
    line = getattr(node, "line", "") or "(a line outside detect_anomaly)"
    with on_behalf_of(line if type(node) is Node else None):
        results = node.pull(given, create, needed)
    if any(is_anomalous(r) for r in results if r is not None) and not any(map(is_anomalous, given)):
        raise AnomalyError(f"backward of {node.name} made the first NaN or infinity; applied at {line}")
    return results


def backward(
    x: Tensor,
    gradient: Tensor | None,
    *,
    retain: bool = False,
    create: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Accumulate the gradient of ``x`` into the leaves; see `Tensor.backward`."""
    if x._node is None:
        raise GradientError(
            "backward: this tensor is not recorded; nothing that it was made from has requires_grad=True"
        )
    targets = None
    if inputs is not None:
        targets = [i._node for i in inputs if isinstance(i, TensorData) and isinstance(i._node, Leaf)]
        if len(targets) != len(inputs):
            raise GradientError("backward: inputs takes leaves that require a gradient")
    given = seed(x, gradient)
    found = run([(x._node, given)], targets, create=create, retain=retain)
    with _accumulating:
        for origin, ct in found.items():
            if isinstance(origin, Leaf):
                before = grad_of(origin)
                if before is not None:
                    with changed(recording=create):
                        ct = add(before, ct)
                set_grad(origin, ct)


def seed(x: Tensor, gradient: Tensor | None) -> Tensor:
    """The cotangent that a backward from ``x`` starts with."""
    if gradient is None:
        if x.spec.size != 1:
            raise GradientError(
                f"backward: a tensor of shape {x.spec.shape} needs the gradient argument, its cotangent; "
                "only a tensor of one element starts with 1"
            )
        return ones_of(x.spec)
    if not isinstance(gradient, TensorData) or gradient.spec is not x.spec:
        got = repr(gradient.spec) if isinstance(gradient, TensorData) else type(gradient).__name__
        raise GradientError(f"backward: gradient takes a tensor like this one, {x.spec!r}, got {got}")
    return gradient


def alias(x: Tensor) -> Tensor:
    """``x`` under an origin of its own, from which gradients pass on to that of ``x``."""

    def back(cts: Sequence[Tensor], create: bool) -> list[Tensor]:
        del create
        return [cts[0]]

    return wrap(array_of(x), x.spec, Function("alias", (x._node,), (x.spec,), back))
