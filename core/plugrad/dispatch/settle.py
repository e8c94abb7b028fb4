"""The slow road: everything that a signature decides is decided here, once.

Checks, promotion, the kernel or the body, the specs of the results, what is recorded. Errors are made here,
before any kernel runs, so the fast road only misses the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from plugrad.backend import backend_of
from plugrad.dispatch.anomaly import checked, noting_line
from plugrad.dispatch.conversion import (
    check_dtypes,
    check_results,
    checking_scalars,
    converted,
    device_of,
    flat,
    promotion,
    spec_of,
)
from plugrad.dispatch.data import wrap
from plugrad.dispatch.lowering import (
    apply_body,
    data_dependent,
    find_kernel,
    flatten,
    generated_body,
    inlined,
    observed,
    own_kernel,
)
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.observer import Source
from plugrad.dispatch.pullback import Pullback
from plugrad.dispatch.runner import kernel_runner
from plugrad.dispatch.statement import Call, Kind
from plugrad.dispatch.tracing import capture_error, entering, traced
from plugrad.spec import Device, Spec, Tracked

if TYPE_CHECKING:
    from plugrad.dispatch.op import Op

Run = Callable[..., Any]

_ABSTRACT: Final = Device("null")


def settle(op: Op[..., Any], keys: Sequence[Any], attributes: dict[str, Any]) -> Run:
    """The runner for a signature.

    Args:
        op: the op.
        keys: what stands for each operand: a `Spec`, a `Tracked`, the type of a scalar, None, or a tuple.
        attributes: its static attributes, as they were given.
    """
    modes = local.modes
    specs = [spec_of(k) for k in keys]
    device = device_of(op, keys, attributes)
    backend = backend_of(device)
    targets = promotion(op, specs, modes)
    run = converted(op, specs, targets, attributes, backend, device)
    if run is not None:
        return run
    specs = [Spec((), t, device) if isinstance(s, type) else s for s, t in zip(specs, targets, strict=True)]
    check_dtypes(op, specs, backend, device)
    attributes = normalized(op, specs, attributes, device)
    tracked = [
        tuple(isinstance(i, Tracked) for i in k) if isinstance(k, tuple) else isinstance(k, Tracked)
        for k in keys
    ]
    follows = modes.recording and any(any(t) if isinstance(t, tuple) else t for t in tracked)
    inner = op.owner is not None and follows
    if op.transparent or inner:
        if op.infer is not None:
            _infer(op, specs, attributes)
        return inlined(op, attributes)
    if op.data_dependent:
        if modes.capturing:
            raise capture_error(
                f"{op.name}: the shape of its result depends on the values, which a captured function does not know; "
                "mask with where, or call it outside"
            )
        return data_dependent(
            op, specs, attributes, backend, device, modes, [s.dtype for s in _infer(op, specs, attributes)]
        )
    wrt = {n for v in op.vjps for n in v.wrt}
    follows = follows and any(
        (any(t) if isinstance(t, tuple) else t) and o.name in wrt
        for o, t in zip(op.operands, tracked, strict=True)
    )
    results = _infer(op, specs, {**attributes, "residuals": follows} if op.residuals else attributes)
    if op.residuals:
        attributes = {**attributes, "residuals": follows}
    # A cast to integers is constant, whatever the op's record says of its other results.
    follows = follows and any(results[op.outputs.index(n)].dtype.is_floating for n in op.differentiable)
    check_results(op, results, backend, device)
    if modes.capturing:
        kernel = traced(op, results if len(results) > 1 else results[0])
    else:
        kernel = find_kernel(op, specs, attributes, backend, device, modes, results)
    outputs = results[: len(op.outputs)] if op.owner is None else results
    entry = None
    if follows:
        kept = {k: v for k, v in attributes.items() if k != "residuals"}
        named = dict(zip((*op.outputs, *op.residuals), results, strict=True))

        def find(
            rule: Op[..., Any],
            rule_specs: Sequence[Any],
            rule_attributes: dict[str, Any],
            operands: Mapping[int, Any],
        ) -> Any:
            if modes.capturing:
                return traced(rule, _given(abstract(rule, rule_specs, rule_attributes), operands))
            run = own_kernel(rule, rule_specs, rule_attributes, backend, device, modes)
            if run is not None:
                return run
            if backend.capabilities(device).generating:
                given = _given(abstract(rule, rule_specs, rule_attributes), operands)
                whole = op.kind is not Kind.ELEMENTWISE or all(
                    g.shape == results[0].shape for g in flat([given])
                )
                run = (
                    None
                    if not whole
                    else generated_body(rule, rule_specs, rule_attributes, given, backend, device, modes)
                )
            return observed(rule, Source.BODY, run, rule_specs, rule_attributes, device, modes)

        scalars = frozenset(o.name for o, k in zip(op.operands, keys, strict=True) if isinstance(k, type))
        entry = Pullback(op, kept, specs, tracked, named, scalars, find)
    letters = ["l" if isinstance(k, tuple) else "t" if isinstance(k, (Spec, Tracked)) else "s" for k in keys]
    run = kernel_runner(kernel, attributes, letters, outputs, entry)
    run = checking_scalars(run, op, keys, specs)
    if modes.capturing:
        return entering(run)
    if modes.anomaly:
        return checked(run, op)
    return run if modes.observer is None or entry is None else noting_line(run)


def normalized(
    op: Op[..., Any], specs: Sequence[Any], attributes: dict[str, Any], device: Device
) -> dict[str, Any]:
    """The attributes in their one form, as kernels and bodies get them, and ``device`` as the device it is.

    Raises:
        PlugradError: if an attribute is outside what the op takes.
    """
    if "device" in op.attributes:
        attributes = {**attributes, "device": device}
    if not op.normalizers:
        return attributes
    names = (o.name for o in op.operands)
    view = Call(op, {**dict(zip(names, specs, strict=True)), **attributes})
    for name, normalize in op.normalizers.items():
        value = normalize(view, getattr(view, name))
        setattr(view, name, value)
    return {name: getattr(view, name) for name in attributes}


def _infer(op: Op[..., Any], specs: Sequence[Any], attributes: dict[str, Any]) -> tuple[Spec, ...]:
    if op.infer is None:
        return _abstract(op, specs, attributes)
    names = (o.name for o in op.operands)
    results = op.infer(Call(op, {**dict(zip(names, specs, strict=True)), **attributes}))
    return results if isinstance(results, tuple) else (results,)


def _abstract(op: Op[..., Any], specs: Sequence[Any], attributes: dict[str, Any]) -> tuple[Spec, ...]:
    """The specs of the results, in one row."""
    results = abstract(op, specs, attributes)
    return tuple(flatten(results if isinstance(results, (tuple, list)) else [results]))


def abstract(op: Op[..., Any], specs: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """The specs of the results, found by running the body on the null device, which has no values.

    They are in the structure of the body's results.
    """
    assert op.body is not None

    def there(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(there(v) for v in value)
        if isinstance(value, Spec):
            return Spec(value.shape, value.dtype, _ABSTRACT)
        return _ABSTRACT if isinstance(value, Device) else value

    def empty(spec: Any) -> Any:
        if isinstance(spec, tuple):
            return [empty(s) for s in spec]
        return None if spec is None else wrap(None, there(spec))

    device = next((s.device for s in flat(specs)), None) or attributes["device"]
    with changed(recording=False, autocast=None, observer=None, capturing=False):
        results = apply_body(op, [empty(s) for s in specs], {k: there(v) for k, v in attributes.items()})

    def here(value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(here(v) for v in value)
        return value if value is None else Spec(value.spec.shape, value.spec.dtype, device)

    return here(results)


def _given(results: Any, operands: Mapping[int, Any]) -> Any:
    """What a kernel of a rule gives: what its body does, in the dtypes of the operands."""

    def like(result: Any, operand: Any) -> Any:
        if isinstance(result, (tuple, list)):
            return [like(r, o) for r, o in zip(result, operand, strict=True)]
        return result if result is None else result.with_dtype(operand.dtype)

    if isinstance(results, Spec) or (isinstance(results, list) and isinstance(operands.get(0), tuple)):
        return like(results, operands[0])
    return tuple(like(r, operands[i]) if i in operands else r for i, r in enumerate(results))
