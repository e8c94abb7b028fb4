"""`checkpoint`: memory for time, by computing a part of the forward pass again in the backward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from plugrad import tree
from plugrad.autograd import engine
from plugrad.autograd.arguments import check_function, running, running_again
from plugrad.backend import current_device, use_device
from plugrad.dispatch.anomaly import note_line
from plugrad.dispatch.cells import Journal
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.record import Function, Origin, Slot, counter
from plugrad.dispatch.tracing import array_of
from plugrad.errors import GradientError

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def checkpoint(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """``fn(*args, **kwargs)``, of which the record keeps the arguments alone; backward computes the rest again.

    What ``fn`` saves for its gradient is freed when it returns, so that a chain of checkpoints needs the memory of
    its arguments and of one link (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016). Gradients
    reach the arguments and whatever else ``fn`` uses. Checkpoints nest, and can be differentiated to any order.

    Computing again repeats the first time: the modes, the current device and the tensors that ``fn`` rebound (the
    state of random numbers, running statistics) are as they were then, and what it rebinds is bound back
    afterwards. What else it reads, such as a module's parameters, must not have changed before backward.

    Args:
        fn: a function; its result may be any tree (see `plugrad.tree`).
        args: its arguments.
        kwargs: its arguments by name.

    Returns:
        What ``fn`` returns.

    Raises:
        GradientError: in backward, if ``fn`` does something else than the first time.
    """
    check_function("checkpoint", fn)
    if not local.modes.recording:
        return fn(*args, **kwargs)
    given = tree.map(_snapshot, (args, kwargs))
    modes, device, transforms = local.modes, current_device(), running()
    since = next(counter)
    with Journal() as rebound:
        leaves, structure = tree.flatten(fn(*args, **kwargs))
    followed = _followed(leaves, since)
    origins = [leaves[i]._node for i in followed]
    parents = engine.entries(origins, since)
    if not parents:
        # Nothing from outside is differentiated.
        return tree.unflatten(structure, leaves)
    specs = tuple(leaves[i].spec for i in followed)

    def again() -> list[Any]:
        """The leaves of the result, computed again."""
        args, kwargs = given
        with (
            running_again(transforms),
            changed(
                recording=True,
                autocast=modes.autocast,
                matmul_precision=modes.matmul_precision,
                fallback=modes.fallback,
            ),
            use_device(device),
            Journal() as now,
        ):
            try:
                rebound.undo()
                return tree.leaves(fn(*args, **kwargs))
            finally:
                now.undo()

    def back(cts: Sequence[Tensor], create: bool) -> list[Tensor | None]:
        start = next(counter)
        outs = again()
        same = _followed(outs, start) == followed and tuple(outs[i].spec for i in followed) == specs
        if same:
            ends: list[Origin] = [outs[i]._node for i in followed]
            same = engine.entries(ends, start) == parents
        if not same:
            raise GradientError(
                "checkpoint: computed again, the function gave other results or used other tensors than the first "
                "time; what it reads besides its arguments must stay as it was until backward"
            )
        found = engine.run(
            list(zip(ends, cts, strict=True)), parents, create=create, retain=create, since=start
        )
        return [found.get(p) for p in parents]

    node = Function("checkpoint", tuple(parents), specs, back)
    if modes.anomaly:
        note_line(node)
    for k, i in enumerate(followed):
        x = leaves[i]
        leaves[i] = wrap(array_of(x), x.spec, node if len(followed) == 1 else Slot(node, k))
    return tree.unflatten(structure, leaves)


def _snapshot(leaf: Any) -> Any:
    """A tensor as it is now, whatever its object is bound to later; anything else itself."""
    return wrap(array_of(leaf), leaf.spec, leaf._node) if isinstance(leaf, TensorData) else leaf


def _followed(leaves: Sequence[Any], since: int) -> list[int]:
    """Which leaves are tensors that were recorded after ``since``."""
    return [
        i
        for i, x in enumerate(leaves)
        if isinstance(x, TensorData) and x._node is not None and engine.made(x._node) >= since
    ]


__all__ = ["checkpoint"]
