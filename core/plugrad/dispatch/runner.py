"""Runners: the straight-line code that a settled signature runs.

One template, written out for the number of operands and results, so that nothing is decided at a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from plugrad.dispatch.data import tensor_class
from plugrad.dispatch.pullback import Pullback
from plugrad.dispatch.record import Node, Slot, counter
from plugrad.spec import Spec

Kernel = Callable[..., Any]


@cache
def _code(
    operands: str, outputs: int, carrying: tuple[int, ...], saved: tuple[str, ...], followed: bool
) -> Any:
    """The factory of a runner.

    Args:
        operands: one letter each: ``t`` tensor, ``s`` scalar or absent (passed on), ``l`` list of tensors.
        outputs: how many results the op has; residuals follow them.
        carrying: indices of the results that carry gradients, when recorded.
        saved: an expression per saved value, in terms of ``a<i>`` (operands) and ``r<i>`` (results).
        followed: whether the application is recorded.
    """
    n = len(operands)
    xs = ", ".join(f"x{i}" for i in range(n))
    load = {"t": "x{i}._array", "s": "x{i}", "l": "[x._array for x in x{i}]"}
    lines = ["def make(kernel, new, Tensor, Node, Slot, count, pullback, keys):", f" def run({xs}):"]
    lines += [f"  a{i} = " + load[o].format(i=i) for i, o in enumerate(operands)]
    call = f"kernel({', '.join(f'a{i}' for i in range(n))})"
    total = outputs + sum(1 for s in set(saved) if s.startswith("r") and int(s[1:]) >= outputs)
    many = outputs > 1 or total > 1 or any(s.startswith("r") and int(s[1:]) >= outputs for s in saved)
    lines.append(f"  r = {call}" if many else f"  r0 = {call}")
    if many:
        lines += [f"  r{i} = r[{i}]" for i in range(outputs)]
        lines += [f"  {s} = r[{s[1:]}]" for s in sorted(set(saved)) if s[0] == "r" and int(s[1:]) >= outputs]
    if followed:
        parents = {"t": "x{i}._node, ", "s": "None, ", "l": "*[x._node for x in x{i}], "}
        lines += [
            "  node = new(Node)",
            "  node.pullback = pullback",
            "  node.parents = (" + "".join(parents[o].format(i=i) for i, o in enumerate(operands)) + ")",
            "  node.saved = (" + "".join(f"{s}, " for s in saved) + ")",
            "  node.seq = count()",
        ]
    for i in range(outputs):
        node = "None"
        if followed and i in carrying:
            node = "node" if len(carrying) == 1 else f"Slot(node, {carrying.index(i)})"
        lines += [
            f"  t{i} = new(Tensor)",
            f"  t{i}._array = r{i}",
            f"  t{i}._key = keys[{i}]" if outputs > 1 else "  t0._key = keys",
            f"  t{i}._node = {node}",
        ]
    lines.append("  return " + (", ".join(f"t{i}" for i in range(outputs)) if outputs > 1 else "t0"))
    lines.append(" return run")
    scope: dict[str, Any] = {}
    exec(compile("\n".join(lines), f"<runner {operands} -> {outputs}>", "exec"), scope)
    return scope["make"]


def kernel_runner(
    kernel: Kernel,
    attributes: dict[str, Any],
    operands: Sequence[str],
    outputs: Sequence[Spec],
    pullback: Pullback | None,
) -> Callable[..., Any]:
    """A runner that calls ``kernel`` on the operands' arrays and wraps the results.

    With ``pullback`` the application is recorded; the kernel then returns the op's residuals too.
    """
    carrying: tuple[int, ...] = ()
    saved: tuple[str, ...] = ()
    keys: list[Any] = list(outputs)
    if pullback is not None:
        op = pullback.op
        carrying = tuple(op.outputs.index(n) for n in op.differentiable)
        names = [o.name for o in op.operands]
        results = [*op.outputs, *op.residuals]
        saved = tuple(f"a{names.index(n)}" if n in names else f"r{results.index(n)}" for n in pullback.saved)
        for i in carrying:
            keys[i] = outputs[i].tracked
    make = _code("".join(operands), len(outputs), carrying, saved, pullback is not None)
    bound = partial(kernel, **attributes) if attributes else kernel
    run: Callable[..., Any] = make(
        bound,
        object.__new__,
        tensor_class(),
        Node,
        Slot,
        counter.__next__,
        pullback,
        tuple(keys) if len(keys) > 1 else keys[0],
    )
    return run
