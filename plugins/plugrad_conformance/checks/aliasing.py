"""``aliasing``: a tensor's value is immutable, whatever memory it shares: views, assignments, what backward saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad import ops, optim
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, floating_at, place_on, pulled
from plugrad_conformance.checks.forward import op_of, own_dtype
from plugrad_conformance.checks.layout import writes_through
from plugrad_conformance.measure import Failure
from plugrad_conformance.subject import (
    names_missing_dtype,
    placed,
    rounded,
    samples_of,
    stated_ops,
    tensors,
)


def cases() -> Iterator[Case]:
    """By name what views and assignments must leave alone, and every op and gradient, whose results nothing may change."""
    for name in NAMED:
        yield Case("aliasing", name, level=Level.L2)
    for op in stated_ops():
        if op.transparent or not op.operands:
            continue
        dtype = own_dtype(samples_of(op, 0))
        yield Case("aliasing", op.name, dtype, "", Level.L3, frozenset(), op.name, "forward")
        if op.differentiable:
            yield Case("aliasing", f"{op.name}.vjp", "float32", "", Level.L3, frozenset(), op.name, "vjp")


def run(run: Run) -> None:
    """Where the case is of an op: apply it again, and look at the first result; write over it, and look at the operands."""
    if run.case.subject in NAMED:
        NAMED[run.case.subject](run)
        run.samples += 1
        return
    op, subject = op_of(run), run.subject
    for sample in samples_of(op, run.case.seed):
        if names_missing_dtype(sample, subject):
            continue
        hosts = [rounded(o, float32) for o in sample.operands]
        run.samples += 1
        _outlives(run, op, sample, hosts)
        if run.case.direction == "vjp" or op.may_alias:
            continue
        operands = placed(hosts, place_on(subject))
        for result in tensors(sample.apply(op, operands)):
            # A result without axes may be a scalar of the device's library, which nobody writes to.
            if not result.size or not result.ndim or result.dtype.kind == "bool":
                continue
            for i, operand in enumerate(tensors(operands)):
                if operand.size and writes_through(subject, result, operand):
                    raise Failure(
                        f"{sample}: the result shares memory with operand {i}, and {op.name} is no view"
                    )


def _outlives(run: Run, op: Op[..., Any], sample: Sample, hosts: list[Any]) -> None:
    """What an op gave stays when it is applied again, to other values: kernels have no memory that they give twice."""
    subject, rng = run.subject, run.rng()

    def results(values: list[Any]) -> list[pg.Tensor]:
        if run.case.direction == "forward":
            return tensors(sample.apply(op, placed(values, place_on(subject))))
        found, _, _ = pulled(op, sample, values, _random_cts(rng), place_on(subject), floating_at(values))
        return [t for t in found if t is not None]

    if run.case.direction == "vjp" and not floating_at(hosts):
        return
    first = results(hosts)
    before = [np.array(subject.host(t)) for t in first]
    results([_turned(h) for h in hosts])
    for tensor, host in zip(first, before, strict=True):
        if np.ascontiguousarray(subject.host(tensor)).tobytes() != host.tobytes():
            raise Failure(f"{sample}: a result changes when {op.name} is applied again")


def _random_cts(rng: np.random.Generator) -> Callable[[list[pg.Tensor]], list[pg.Tensor]]:
    return lambda outs: [
        pg.asarray(np.asarray(rng.standard_normal(o.shape)).astype(o.dtype.numpy), device=o.device)
        for o in outs
    ]


def _turned(value: Any) -> Any:
    """Other elements for an array, that an op takes too: integers, which may be indices, in other places."""
    if isinstance(value, list):
        return [_turned(v) for v in value]
    if not isinstance(value, np.ndarray):
        return value
    turned = np.roll(value, 1)
    if value.dtype.kind not in "iu":
        turned = ~turned if value.dtype.kind == "b" else turned * turned.dtype.type(0.5)
    return np.asarray(turned)


def _is(what: str, tensor: pg.Tensor, wanted: object) -> None:
    got = tensor.numpy()
    if not np.array_equal(got, np.asarray(wanted, got.dtype)):
        raise Failure(f"{what}: got {got.tolist()}, wanted {np.asarray(wanted).tolist()}")


def _base(run: Run) -> pg.Tensor:
    return run.subject.tensor(np.arange(12.0).reshape(3, 4), "float32")


def _views(run: Run) -> None:
    """Views keep their values when what they were made from is assigned to, and the other way round."""
    wide = np.arange(12.0).reshape(3, 4)
    makers: dict[str, tuple[Callable[[pg.Tensor], pg.Tensor], np.ndarray]] = {
        "a slice": (lambda x: x[1:, ::2], wide[1:, ::2]),
        "a reversed slice": (lambda x: x[::-1], wide[::-1]),
        "a row": (lambda x: x[1], wide[1]),
        "a reshape": (lambda x: x.reshape((4, 3)), wide.reshape(4, 3)),
        "a transpose": (lambda x: ops.permute_dims(x, (1, 0)), wide.T),
        "an expansion": (lambda x: ops.expand_dims(x, axis=0), wide[None]),
    }
    for what, (make, wanted) in makers.items():
        x = _base(run)
        y = make(x)
        x[...] = -1.0
        _is(f"{what}, after its source was assigned to", y, wanted)
        x = _base(run)
        y = make(x)
        x[:1] = -1.0
        x[:, 1:] = -2.0
        _is(f"{what}, after parts of its source were assigned to", y, wanted)
        x = _base(run)
        y = make(x)
        y[:1] = 5.0
        y[..., 1:] = 6.0
        _is(f"the source of {what}, after parts of that were assigned to", x, wide)
        x = _base(run)
        y = make(x)
        y += 100.0
        _is(f"the source of {what}, after that was added to", x, wide)
        y[...] = 5.0
        _is(f"the source of {what}, after that was assigned to", x, wide)


def _chained(run: Run) -> None:
    """Views of views."""
    x = _base(run)
    y = ops.permute_dims(x[1:], (1, 0))
    z = y.reshape((8,))[::2]
    x += 1.0
    y[0] = 0.0
    _is(
        "a view of views, after what it came from was assigned to",
        z,
        np.arange(12.0).reshape(3, 4)[1:].T.reshape(8)[::2],
    )


def _saved(run: Run) -> None:
    """Backward takes the values of its forward, whatever was assigned since."""
    x = _base(run).requires_grad_()
    w = _base(run)
    y = (x * w).sum()
    w += 100.0
    w[0] = 0.0
    y.backward()
    assert x.grad is not None
    _is("a gradient, after the factor was assigned to", x.grad, np.arange(12.0).reshape(3, 4))


def _saved_result(run: Run) -> None:
    """A saved result, too."""
    x = run.subject.tensor(np.zeros(3), "float32").requires_grad_()
    y = pg.exp(x)
    loss = y.sum()
    z = y.detach()
    z += 50.0
    z[0] = 9.0
    loss.backward()
    assert x.grad is not None
    _is("a gradient, after the detached result was assigned to", x.grad, np.ones(3))


def _gradients(run: Run) -> None:
    """Gradients are tensors of their own."""
    x, y = _base(run).requires_grad_(), _base(run).requires_grad_()
    (x + y).sum().backward()
    assert x.grad is not None
    assert y.grad is not None
    with pg.no_grad():
        x.grad += 5.0
        x.grad[0] = 0.0
    _is("the gradient of the other term, after one was assigned to", y.grad, np.ones((3, 4)))


def _steps(run: Run) -> None:
    """An optimizer's step changes its parameters and nothing that was read from them before."""
    p = _base(run).requires_grad_()
    before, view = p.detach() * 1.0, p.detach()[1]
    optimizer = optim.SGD([p], lr=1.0)
    (p * 2.0).sum().backward()
    optimizer.step()
    wide = np.arange(12.0).reshape(3, 4)
    _is("the parameter after a step", p.detach(), wide - 2)
    _is("a copy of the parameter from before the step", before, wide)
    _is("a view of the parameter from before the step", view, wide[1])


NAMED: Final[dict[str, Callable[[Run], None]]] = {
    "views": _views,
    "views-of-views": _chained,
    "saved-operands": _saved,
    "saved-results": _saved_result,
    "gradients": _gradients,
    "optimizer-steps": _steps,
}
