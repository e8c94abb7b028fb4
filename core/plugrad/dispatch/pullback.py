"""`Pullback`: what a signature settles for the backward of a recorded application.

At first order a rule runs as the backend's kernel, where it has one, else as its body. When backward is
recorded too, the body always runs, in recorded ops, so that every higher order falls out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from plugrad.dispatch.conversion import scalar_tensor
from plugrad.dispatch.data import wrap
from plugrad.dispatch.record import Node, Origin, Slot
from plugrad.dispatch.statement import Kind, Vjp, register
from plugrad.errors import ShapeError
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op
    from plugrad.tensor import Tensor

Run = Callable[[Sequence[Any], Sequence["Tensor"]], Sequence[Any]]
FindKernel = Callable[
    ["Op[..., Any]", Sequence[Any], dict[str, Any], Mapping[int, Any]], Callable[..., Any] | None
]
"""From a rule, the specs of its operands, its attributes, and by result the operand that it is the cotangent of."""


class Pullback:
    """The rules of an op, bound to one signature.

    Attributes:
        op: the op.
        attributes: its normalised static attributes.
        specs: the specs of the operands by name: None for an absent one, a tuple for a sequence.
        scalars: names of the operands that were Python scalars.
        outputs: the specs of the results and residuals by name.
        carrying: the specs of the results that carry gradients.
        places: where each operand stands among the parents of a node: its start and stop.
        cts: the names that the rules give the cotangents, and their indices.
        saved: names of the saved values, in the order of `Node.saved`.
    """

    def __init__(
        self,
        op: Op[..., Any],
        attributes: dict[str, Any],
        specs: Sequence[Any],
        tracked: Sequence[Any],
        outputs: dict[str, Spec],
        scalars: Collection[str],
        find_kernel: FindKernel,
    ) -> None:
        names = tuple(o.name for o in op.operands)
        self.op = op
        self.attributes = attributes
        self.specs = dict(zip(names, specs, strict=True))
        self.scalars = scalars
        self.outputs = outputs
        self.carrying = tuple(outputs[n] for n in op.differentiable)
        self.places: dict[str, tuple[int, int]] = {}
        at = 0
        for n, t in zip(names, tracked, strict=True):
            width = len(t) if isinstance(t, tuple) else 1
            self.places[n] = (at, at + width)
            at += width
        followed = {n for n, t in zip(names, tracked, strict=True) if (any(t) if isinstance(t, tuple) else t)}
        single = len(op.differentiable) == 1
        self.cts = {"ct": 0} if single else {f"ct_{n}": i for i, n in enumerate(op.differentiable)}
        rules = [v for v in op.vjps if followed.intersection(v.wrt)]
        wanted = {o.name for v in rules for o in v.op.operands if o.name not in self.cts}
        if op.residuals:
            # Where a higher order wants the derivative of a residual, the body computes it again.
            wanted.update(n for n, s in self.specs.items() if s is not None)
        self.saved = tuple(n for n in (*names, *op.outputs, *op.residuals) if n in wanted)
        self.index = {n: i for i, n in enumerate(self.saved)}
        self.rules = [
            BoundRule(self, v, tuple(n for n in v.wrt if n in followed), find_kernel) for v in rules
        ]

        self.first = _first_order(self, len(op.differentiable), at)

    def __call__(
        self, node: Node, cts: Sequence[Tensor], create: bool, needed: Collection[Origin] | None
    ) -> Sequence[Any]:
        """The cotangents of the operands of ``node``, one per parent, None where none is wanted."""
        saved, parents = node.saved, node.parents
        assert saved is not None
        if needed is None and not create:
            return self.first(saved, *cts)
        out: list[Any] = [None] * len(parents)
        for rule in self.rules:
            if needed is not None and not any(p in needed for a, b in rule.places for p in parents[a:b]):
                continue
            results = rule.body(saved, cts, node) if create else rule.run(saved, cts)
            for spec, (start, stop), ct in zip(rule.specs, rule.places, results, strict=True):
                if isinstance(spec, tuple):
                    out[start:stop] = ct
                elif ct is not None:
                    out[start] = ct if ct._key.spec is spec else rule.fit(ct, spec)
        return out

    def value(self, saved: Sequence[Any], name: str, node: Node | None) -> Any:
        """A saved value as a tensor, which the record follows again where its ``node`` is given."""
        if name in self.specs:
            spec = self.specs[name]
            if spec is None:
                return None
            array = saved[self.index[name]]
            start, stop = self.places[name]
            origins = (None,) * (stop - start) if node is None else node.parents[start:stop]
            if isinstance(spec, tuple):
                return [wrap(a, s, o) for a, s, o in zip(array, spec, origins, strict=True)]
            if name in self.scalars:
                # What was a Python scalar is a 0-d tensor to the rule.
                return scalar_tensor(array, spec.dtype, spec.device, self.op.name)
            return wrap(array, spec, origins[0])
        if node is not None and name in self.op.residuals:
            return self.residual(node, name)
        array = saved[self.index[name]]
        if node is None or name not in self.op.differentiable:
            return wrap(array, self.outputs[name])
        if len(self.op.differentiable) == 1:
            return wrap(array, self.outputs[name], node)
        return wrap(array, self.outputs[name], Slot(node, self.op.differentiable.index(name)))

    def residual(self, node: Node, name: str) -> Any:
        """A residual computed again by the body, so that it can be differentiated."""
        assert self.op.body is not None
        assert node.saved is not None
        values = {**{n: self.value(node.saved, n, node) for n in self.specs}, **self.attributes}
        args = [values.pop(n) for n in self.op.positional]
        results = self.op.body(*args, **values, residuals=True)
        return results[len(self.op.outputs) + self.op.residuals.index(name)]


class BoundRule:
    """A rule with everything that a signature fixes: what it reads, its attributes, its kernel.

    Attributes:
        wrt: the operands whose cotangents are wanted, in the order of the results.
        places: where each stands among the parents.
        specs: the specs of ``wrt``.
        kept: the indices of these among the rule's results.
        run: the rule at first order: from the saved values and the cotangents, those of ``wrt``.
    """

    def __init__(self, pullback: Pullback, vjp: Vjp, wrt: tuple[str, ...], find_kernel: FindKernel) -> None:
        assert vjp.op.body is not None
        self.pullback = pullback
        self.op = vjp.op
        self.rule = vjp.op.body
        self.wrt = wrt
        self.places = [pullback.places[n] for n in wrt]
        # Operand by operand of the rule: its index among the cotangents or None, and its name.
        self.arguments = [(pullback.cts.get(o.name), o.name) for o in vjp.op.operands]
        self.positional = [(pullback.cts.get(n), n) for n in vjp.op.positional]
        self.attributes: dict[str, Any] = {}
        for name in vjp.op.attributes:
            if name == "wrt":
                self.attributes["wrt"] = wrt
            elif name in pullback.attributes:
                self.attributes[name] = pullback.attributes[name]
            else:
                self.attributes[name] = pullback.specs[name]
        # Which of the rule's results are kept: all of them, unless it serves operands that are not followed.
        full = wrt if "wrt" in self.attributes else vjp.wrt
        self.joint = vjp.joint
        self.kept = [full.index(n) for n in wrt]
        self.specs = [pullback.specs[n] for n in wrt]
        known = {**pullback.outputs, **pullback.specs}
        specs = [pullback.carrying[i] if i is not None else known[n] for i, n in self.arguments]
        kernel = find_kernel(vjp.op, specs, self.attributes, dict(zip(self.kept, self.specs, strict=True)))
        self.run = self._of_body() if kernel is None else self._of_kernel(kernel)

    def body(self, saved: Sequence[Any], cts: Sequence[Tensor], node: Node | None) -> Sequence[Any]:
        """The rule as it is written, in ops; recorded where ``node`` is given."""
        value, attributes = self.pullback.value, dict(self.attributes)
        results = self.rule(
            *[
                cts[i] if i is not None else attributes.pop(n) if n in attributes else value(saved, n, node)
                for i, n in self.positional
            ],
            **attributes,
        )
        return [results[i] for i in self.kept] if self.joint else (results,)

    def _of_body(self) -> Run:
        if [i for i, _ in self.positional] == list(range(len(self.pullback.carrying))):
            # Nothing but cotangents, in order: the rule runs on them as they are.
            rule, attributes, joint, kept = self.rule, self.attributes, self.joint, self.kept

            def run(saved: Sequence[Any], cts: Sequence[Tensor]) -> Sequence[Any]:
                del saved
                results = rule(*cts, **attributes)
                return [results[i] for i in kept] if joint else (results,)

            return run
        return lambda saved, cts: self.body(saved, cts, None)

    def _of_kernel(self, kernel: Callable[..., Any]) -> Run:
        attributes, kept, joint = self.attributes, self.kept, self.joint
        arguments = [(i, self.pullback.index.get(n)) for i, n in self.arguments]
        shapes = [self._given(s) for s in self.specs]

        def run(saved: Sequence[Any], cts: Sequence[Tensor]) -> Sequence[Any]:
            results: Any = kernel(
                *[saved[k] if i is None else cts[i]._array for i, k in arguments],  # type: ignore[index]
                **attributes,
            )
            if not joint:
                return (_wrapped(results, shapes[0]),)
            return [_wrapped(results[i], s) for i, s in zip(kept, shapes, strict=True)]

        return run

    def _given(self, spec: Any) -> Any:
        """The spec of what a kernel of the rule gives: an elementwise one does not sum what was broadcast."""
        if isinstance(spec, Spec) and self.pullback.op.kind is Kind.ELEMENTWISE:
            return spec.with_shape(self.pullback.carrying[0].shape)
        return spec

    def fit(self, ct: Tensor, spec: Spec) -> Tensor:
        """``ct`` brought to the spec of the operand that it belongs to: cast, and summed where that was broadcast.

        Raises:
            ShapeError: if the rule gives another shape for an op that does not broadcast.
        """
        if ct.spec.dtype is not spec.dtype:
            ct = register["astype"](ct, spec.dtype)
        if ct.spec.shape == spec.shape:
            return ct
        if self.pullback.op.kind is not Kind.ELEMENTWISE:
            raise ShapeError(
                f"{self.op.name}: the rule gives a cotangent of shape {ct.spec.shape} for {spec}"
            )
        return register["sum_to"](ct, spec.shape)  # type: ignore[no-any-return]


def _first_order(pullback: Pullback, outputs: int, operands: int) -> Callable[..., Sequence[Any]]:
    """The rules of a pullback at first order, as straight-line code: from what was saved and the cotangents,
    the cotangents of the operands.
    """
    cts = ", ".join(f"c{i}" for i in range(outputs))
    lines = [f"def first(saved, {cts}):"]
    scope: dict[str, Any] = {}
    places = ["None"] * operands
    for k, rule in enumerate(pullback.rules):
        scope[f"run{k}"], scope[f"fit{k}"] = rule.run, rule.fit
        lines.append(f" r{k} = run{k}(saved, ({cts},))")
        for i, (spec, (start, stop)) in enumerate(zip(rule.specs, rule.places, strict=True)):
            name = f"r{k}_{i}"
            lines.append(f" {name} = r{k}[{i}]")
            if isinstance(spec, tuple):
                places[start:stop] = [f"{name}[{j}]" for j in range(stop - start)]
                continue
            scope[f"spec{k}_{i}"] = spec
            lines.append(
                f" if {name} is not None and {name}._key.spec is not spec{k}_{i}: {name} = fit{k}({name}, spec{k}_{i})"
            )
            places[start] = name
    lines.append(" return (" + "".join(f"{p}, " for p in places) + ")")
    exec(compile("\n".join(lines), f"<pullback of {pullback.op.name}>", "exec"), scope)
    return scope["first"]  # type: ignore[no-any-return]


def _wrapped(array: Any, spec: Any) -> Any:
    if array is None:
        return None
    if isinstance(spec, tuple):
        return [wrap(array[i], s) for i, s in enumerate(spec)]
    return wrap(array, spec)
