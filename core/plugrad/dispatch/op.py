"""`Op`, `@op` and `defvjp`: an op is stated once, and everything else reads that record.

The signature of the stated function is the signature of the op. A parameter whose annotation names
``Tensor`` is an operand (``Tensor | Scalar`` also takes Python scalars, ``Tensor | None`` may be absent,
``Sequence[Tensor]`` takes several); every other parameter is a static attribute.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from plugrad.dispatch.call import make_call
from plugrad.dispatch.statement import (
    Autocast,
    Infer,
    Kind,
    Normalizer,
    Operand,
    Scalar,
    Vjp,
    all_ops,
    register,
)
from plugrad.dtypes import ALL, DType
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.dispatch.factors import Factors
    from plugrad.dispatch.sample import ErrorSampler, Sampler

P = ParamSpec("P")
R = TypeVar("R")
Rule = Callable[..., Any]


class Op(Generic[P, R]):
    """A mathematical operation. Calling it applies it to tensors.

    Attributes:
        name: its name; ``"<op>.vjp"`` or ``"<op>.vjp.<operand>"`` for the op of a rule.
        kind: its family.
        body: the op written in other ops, or None: then it is a primitive.
        infer: from a `Call`, the specs of the results (and of the residuals where it asks for them).
            None means that they follow from running the body on the null device.
        dtypes: dtypes taken, by operand.
        promoted: names of the operands that are promoted to a common dtype.
        positional: names of the parameters that the body takes by position, operands and attributes.
        attributes: names of the static attributes; ``normalizers`` bring them to one form.
        outputs, residuals: names of the results, and of what is computed for the rule only when recording.
        differentiable: names of the outputs that carry gradients; empty for an op without derivative.
        autocast: its part under autocast.
        data_dependent: the shape of the result depends on the values.
        may_alias: the result may be a view of an operand.
        expression: for an elementwise primitive, its C99 expression over the operands' names.
        sampler: makes the samples that tests and the conformance suite run.
        errors: makes samples that the op refuses, beyond wrong dtypes and shapes that do not broadcast; or None.
        factors: the axes along which parts can be computed by themselves (see `plugrad.dispatch.factors`); None for an
            elementwise op, whose follow from its kind, and for one that has none.
        vjps: its rules.
        owner: for the op of a rule, the op that the rule belongs to.
    """

    __slots__ = (
        "__dict__",
        "attributes",
        "autocast",
        "body",
        "cache",
        "data_dependent",
        "differentiable",
        "dtypes",
        "errors",
        "expression",
        "factors",
        "infer",
        "kind",
        "may_alias",
        "name",
        "normalizers",
        "operands",
        "outputs",
        "owner",
        "positional",
        "promoted",
        "residuals",
        "sampler",
        "vjps",
    )

    name: str
    kind: Kind
    body: Callable[..., Any] | None
    infer: Infer | None
    dtypes: Mapping[str, tuple[DType, ...]]
    promoted: frozenset[str]
    operands: tuple[Operand, ...]
    positional: tuple[str, ...]
    attributes: tuple[str, ...]
    normalizers: Mapping[str, Normalizer]
    outputs: tuple[str, ...]
    residuals: tuple[str, ...]
    differentiable: tuple[str, ...]
    autocast: Autocast
    data_dependent: bool
    may_alias: bool
    expression: str | None
    sampler: Sampler | None
    errors: ErrorSampler | None
    factors: Factors | None
    vjps: tuple[Vjp, ...]
    owner: Op[..., Any] | None
    cache: dict[Any, Callable[..., Any]]

    if TYPE_CHECKING:

        def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
            """Apply the op."""

    @property
    def primitive(self) -> bool:
        """Whether the op has no body."""
        return self.body is None

    @property
    def transparent(self) -> bool:
        """Whether a call is replaced by the body: a composite without a rule."""
        return self.body is not None and not self.vjps and bool(self.differentiable) and self.owner is None

    @property
    def vjp(self) -> Op[..., Any]:
        """The op of the rule, where one rule serves all operands.

        Raises:
            AttributeError: if the op has no rule, or one for each operand (see `vjp_for`).
        """
        if len(self.vjps) == 1:
            return self.vjps[0].op
        raise AttributeError(
            f"{self.name} has a rule for each of {', '.join(v.wrt[0] for v in self.vjps)}: "
            f"use {self.name}.vjp_for(name)"
            if self.vjps
            else f"{self.name} has no rule"
        )

    def vjp_for(self, operand: str) -> Op[..., Any]:
        """The op of the rule that gives the cotangent of ``operand``.

        Raises:
            AttributeError: if no rule gives it.
        """
        for vjp in self.vjps:
            if operand in vjp.wrt:
                return vjp.op
        raise AttributeError(f"{self.name} has no rule for {operand!r}")

    def defvjp(self, *names: str, factors: Factors | None = None) -> Callable[[Rule], Rule]:
        """Register a rule: for one named operand, for several, or, without a name, for every operand.

        The parameters of the rule say what it needs: ``ct`` (``ct_<output>`` where several outputs carry
        gradients), operands, outputs and residuals by name, which are saved; ``name: Spec`` saves nothing
        and gives the spec of an operand; keyword-only parameters are attributes, ``wrt`` among them the
        operands whose cotangents are wanted. A rule for one named operand returns one cotangent; any
        other a tuple, in the order of ``wrt`` if it takes it, else one for each operand that it serves.
        ``factors`` are those of the op of the rule.
        """

        def add(rule: Rule) -> Rule:
            single = len(names) == 1
            wrt = names or tuple(o.name for o in self.operands)
            name = f"{self.name}.vjp.{names[0]}" if single else f"{self.name}.vjp"
            self.vjps += (Vjp(_rule_op(self, name, rule, factors), wrt, not single),)
            return rule

        return add

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> Any:
        return _by_name, (self.name,)


def _by_name(name: str) -> Op[..., Any]:
    return register[name]


def _parse(function: Callable[..., Any]) -> tuple[tuple[Operand, ...], tuple[str, ...]]:
    operands: list[Operand] = []
    attributes: list[str] = []
    for p in inspect.signature(function).parameters.values():
        annotation = str(p.annotation)
        if "Tensor" in annotation and p.kind is not p.KEYWORD_ONLY:
            operands.append(
                Operand(p.name, "Scalar" in annotation, "None" in annotation, "Sequence" in annotation)
            )
        else:
            attributes.append(p.name)
    return tuple(operands), tuple(attributes)


def _make(function: Callable[..., Any], fields: Mapping[str, Any]) -> Any:
    cls = type(function.__name__, (Op,), {"__slots__": (), "__doc__": function.__doc__})
    new: Any = object.__new__(cls)
    for key, value in fields.items():
        setattr(new, key, value)
    parameters = inspect.signature(function).parameters.values()
    new.positional = tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)
    new.cache = {}
    new.__name__ = new.name
    new.__module__ = function.__module__
    new.__wrapped__ = function
    # The call is a method of a class of its own, so that Python binds its arguments at C speed.
    cls.__call__ = make_call(new, function)  # type: ignore[method-assign]
    if new.name in register:
        raise ValueError(f"an op named {new.name!r} is stated already")
    register[new.name] = new
    return new


def _rule_op(owner: Op[..., Any], name: str, rule: Rule, factors: Factors | None) -> Op[..., Any]:
    operands: list[Operand] = []
    attributes: list[str] = []
    absent = {o.name for o in owner.operands if o.optional}
    several = {o.name for o in owner.operands if o.sequence}
    for p in inspect.signature(rule).parameters.values():
        if p.kind is p.KEYWORD_ONLY or "Spec" in str(p.annotation):
            attributes.append(p.name)
        else:
            operands.append(Operand(p.name, optional=p.name in absent, sequence=p.name in several))
    return _make(  # type: ignore[no-any-return]
        rule,
        {
            "name": name,
            "kind": owner.kind,
            "body": rule,
            "infer": None,
            "dtypes": {o.name: ALL for o in operands},
            "promoted": frozenset(),
            "operands": tuple(operands),
            "attributes": tuple(attributes),
            "normalizers": {},
            "outputs": (),
            "residuals": (),
            "differentiable": ("out",),
            "autocast": Autocast.KEEP,
            "data_dependent": False,
            "may_alias": True,
            "expression": None,
            "sampler": None,
            "errors": None,
            "factors": factors,
            "vjps": (),
            "owner": owner,
        },
    )


def op(
    *,
    kind: Kind = Kind.OTHER,
    infer: Infer | None = None,
    dtypes: tuple[DType, ...] | Mapping[str, tuple[DType, ...]] = ALL,
    promote: Sequence[str] | None = None,
    attributes: Mapping[str, Normalizer] | None = None,
    outputs: Sequence[str] = ("out",),
    residuals: Sequence[str] = (),
    differentiable: bool | Sequence[str] = True,
    autocast: Autocast = Autocast.KEEP,
    primitive: bool = False,
    data_dependent: bool = False,
    may_alias: bool = False,
    expression: str | None = None,
    samples: Sampler | None = None,
    errors: ErrorSampler | None = None,
    factors: Factors | None = None,
    namespace: str = "",
) -> Callable[[Callable[P, R]], Op[P, R]]:
    """State an op: a decorator for a function whose signature is the op's and whose code is its body.

    Args:
        kind: its family. An elementwise op broadcasts its operands and promotes them to one dtype.
        infer: the shape and dtype rule; see `Op.infer`.
        dtypes: the dtypes taken, for all operands or by operand.
        promote: the operands promoted to a common dtype; by default all of an elementwise op, else none.
        attributes: what brings a static attribute to one form, by attribute.
        outputs: names of the results.
        residuals: names of what the body also returns when its attribute ``residuals`` is True.
        differentiable: whether, or which of, the outputs carry gradients.
        autocast: its part under autocast.
        primitive: the function has a docstring and no body.
        data_dependent: the shape of the result depends on the values.
        may_alias: the result may be a view of an operand.
        expression: the C99 expression of an elementwise primitive.
        samples: see `plugrad.dispatch.sample`.
        errors: samples that the op refuses; see `plugrad.dispatch.sample.ErrorSample`.
        factors: the axes along which parts can be computed by themselves; see `Op.factors`.
        namespace: goes before the name, with a dot; a plugin's ops have one of their own.
    """

    def decorate(function: Callable[P, R]) -> Op[P, R]:
        operands, attribute_names = _parse(function)
        names = [o.name for o in operands]
        carrying = tuple(outputs) if differentiable is True else tuple(differentiable or ())
        taken = dtypes if isinstance(dtypes, Mapping) else dict.fromkeys(names, dtypes)
        default = names if kind is Kind.ELEMENTWISE else ()
        return _make(  # type: ignore[no-any-return]
            function,
            {
                "name": f"{namespace}.{function.__name__}" if namespace else function.__name__,
                "kind": kind,
                "body": None if primitive else function,
                "infer": infer,
                "dtypes": {n: taken.get(n, ALL) for n in names},
                "promoted": frozenset(default if promote is None else promote),
                "operands": operands,
                "attributes": tuple(a for a in attribute_names if a != "residuals"),
                "normalizers": dict(attributes or {}),
                "outputs": tuple(outputs),
                "residuals": tuple(residuals),
                "differentiable": carrying,
                "autocast": autocast,
                "data_dependent": data_dependent,
                "may_alias": may_alias,
                "expression": expression,
                "sampler": samples,
                "errors": errors,
                "factors": factors,
                "vjps": (),
                "owner": None,
            },
        )

    return decorate


__all__ = ["Autocast", "Kind", "Op", "Operand", "Scalar", "Spec", "Vjp", "all_ops", "op"]
