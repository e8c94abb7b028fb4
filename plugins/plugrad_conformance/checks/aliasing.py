"""``aliasing``: a tensor's value is immutable, whatever memory it shares: views, assignments, what backward saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

import plugrad as pg
from plugrad import ops, optim
from plugrad.dtypes import float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, place_on
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
    """By name what views and assignments must leave alone, and every op whose result may be no view of an operand."""
    for name in NAMED:
        yield Case("aliasing", name, level=Level.L2)
    for op in stated_ops():
        if op.operands and not op.may_alias and not op.transparent:
            yield Case(
                "aliasing",
                op.name,
                own_dtype(samples_of(op, 0)),
                "",
                Level.L3,
                frozenset(),
                op.name,
                "forward",
            )


def run(run: Run) -> None:
    """Where the case is of an op: write over its result, and look at the operands."""
    if run.case.subject in NAMED:
        NAMED[run.case.subject](run)
        run.samples += 1
        return
    op, subject = op_of(run), run.subject
    for sample in samples_of(op, run.case.seed):
        if names_missing_dtype(sample, subject):
            continue
        operands = placed([rounded(o, float32) for o in sample.operands], place_on(subject))
        for result in tensors(sample.apply(op, operands)):
            # A result without axes may be a scalar of the device's library, which nobody writes to.
            if not result.size or not result.ndim or result.dtype.kind == "bool":
                continue
            for i, operand in enumerate(tensors(operands)):
                if operand.size and writes_through(subject, result, operand):
                    raise Failure(
                        f"{sample}: the result shares memory with operand {i}, and {op.name} is no view"
                    )
        run.samples += 1


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
