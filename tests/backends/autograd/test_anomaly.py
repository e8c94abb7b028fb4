"""`detect_anomaly` names the op and the line of user code that made the first NaN or infinity."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import checkpoint, custom_vjp, grad, gradcheck, hessian, jvp, value_and_grad
from plugrad.dispatch.op import op
from plugrad.dispatch.statement import register
from plugrad.dtypes import FLOATING
from plugrad.errors import AnomalyError
from plugrad.modes import detect_anomaly
from plugrad.ops._rules import like
from plugrad.tensor import Tensor


@pytest.fixture(autouse=True)
def _device(device: str) -> Iterator[None]:
    with pg.use_device(device):
        yield


def tensor(*values: float) -> pg.Tensor:
    return pg.asarray(np.array(values))


def raised(run: Callable[[], Any]) -> tuple[str, str]:
    """The message of the error that ``run`` raises under detect_anomaly, and the source line that it names."""
    with detect_anomaly(), pytest.raises(AnomalyError) as error:
        run()
    message = str(error.value)
    place = re.search(r"(?:at|applied at) (\S+):(\d+), in (\S+): (.*)$", message)
    assert place is not None, message
    assert place[1] == __file__
    source = linecache.getline(__file__, int(place[2])).strip()
    assert place[4] == source
    return message, source


class Model:
    """A module of this test's own."""

    def __init__(self) -> None:
        self.scale = tensor(1.0, 0.0).requires_grad_()

    def __tensors__(self) -> dict[str, pg.Tensor]:
        return {"scale": self.scale}

    def __call__(self, x: Any) -> Any:
        h = x * self.scale
        return pg.log(h)  # in the module

    def root(self, x: Any) -> Any:
        h = x * self.scale
        r = pg.sqrt(h)  # the root in the module
        return r * 2.0


# -- forward ----------------------------------------------------------------------------------------------


def test_forward_names_the_op_and_the_line_at_once() -> None:
    x = tensor(1.0, 0.0)

    def run() -> None:
        y = x * 2.0
        z = 1.0 / y  # here
        pg.sum(z)

    message, source = raised(run)
    assert message.startswith("divide made the first NaN or infinity, at ")
    assert source == "z = 1.0 / y  # here"


def test_forward_through_a_transform_a_module_and_a_checkpoint() -> None:
    model, x = Model(), tensor(1.0, 2.0)
    for run in (
        lambda: model(x),
        lambda: grad(lambda m: pg.sum(m(x)))(model),
        lambda: hessian(lambda m: pg.sum(m(x)))(model),
        lambda: jvp(lambda x: model(x), (x,), (x,)),
        lambda: checkpoint(model, x),
        lambda: checkpoint(lambda: checkpoint(model, x)),
    ):
        message, source = raised(run)
        assert message.startswith("log made the first NaN or infinity")
        assert source == "return pg.log(h)  # in the module"


@pytest.fixture
def safe_reciprocal() -> Iterator[Any]:
    """An op with a rule and a body that makes an infinity on the way, and that no backend has a kernel for."""

    @op(infer=like("x"), dtypes=FLOATING, namespace="test")
    def safe_reciprocal(x: Tensor, limit: float) -> Tensor:
        y = 1.0 / x
        return pg.where(y > limit, limit, y)

    @safe_reciprocal.defvjp("x")
    def _(ct: Tensor, x: Tensor, *, limit: float) -> Tensor:
        d = -1.0 / (x * x)
        return ct * pg.where(d < -limit, 0.0, d)

    yield safe_reciprocal
    for name in ("test.safe_reciprocal", "test.safe_reciprocal.vjp.x"):
        del register[name]


def test_an_op_is_judged_by_its_result(safe_reciprocal: Any) -> None:
    x = tensor(0.0, 2.0)
    with detect_anomaly():
        assert safe_reciprocal(x, 9.0).numpy().tolist() == [9.0, 0.5]
        for create in (False, True):
            leaf = tensor(0.0, 2.0).requires_grad_()
            pg.sum(safe_reciprocal(leaf, 9.0)).backward(create_graph=create)
            assert leaf.grad is not None
            assert leaf.grad.detach().numpy().tolist() == [0.0, -0.25]
            leaf.grad = None
    # Not the op of the body, but the one that was applied.
    message, source = raised(lambda: safe_reciprocal(x, float("inf")))
    assert message.startswith("test.safe_reciprocal made the first")
    assert "raised(lambda: safe_reciprocal" in source


def test_what_came_in_is_not_made() -> None:
    with detect_anomaly():
        x = tensor(np.inf, np.nan, 1.0)
        y = pg.concat([x * 2.0, x])
        pg.sum(y)
        masked = pg.where(tensor(1.0, -1.0) > 0.0, tensor(1.0, 2.0), float("-inf"))
        pg.exp(masked)
        pg.full((2,), float("inf"))
        pg.asarray(float("nan")) + 1.0


def test_a_nan_that_a_composite_writes_is_made_where_it_was_applied() -> None:
    # The variance of one value with Bessel's correction.
    message, source = raised(lambda: pg.std(tensor(1.0), correction=1.0))
    assert message.startswith("divide made the first")
    assert "pg.std(tensor(1.0)" in source


def test_nothing_is_raised_outside() -> None:
    x = tensor(0.0).requires_grad_()
    with np.errstate(all="ignore"):
        y = pg.log(x)
        y.backward(tensor(1.0))
    assert x.grad is not None


# -- backward ---------------------------------------------------------------------------------------------


def test_backward_names_the_op_and_its_line_in_the_forward_pass() -> None:
    x = tensor(1.0, 0.0).requires_grad_()

    def run() -> None:
        y = x * 3.0
        z = pg.sqrt(y)  # the root
        total = pg.sum(z * 2.0)
        total.backward()

    message, source = raised(run)
    assert message.startswith("backward of sqrt made the first NaN or infinity; applied at ")
    assert source == "z = pg.sqrt(y)  # the root"


def test_backward_through_transforms_modules_and_checkpoints() -> None:
    model, x = Model(), tensor(1.0, 2.0)

    def loss(m: Model) -> Any:
        return pg.sum(m.root(x))

    for run in (
        lambda: loss(model).backward(),
        lambda: loss(model).backward(create_graph=True),
        lambda: loss(model).backward(inputs=[model.scale]),
        lambda: grad(loss)(model),
        lambda: value_and_grad(loss)(model),
        lambda: grad(lambda m: checkpoint(loss, m))(model),
        lambda: checkpoint(lambda: checkpoint(loss, model)).backward(),
        lambda: grad(lambda m: pg.sum(grad(loss)(m)["scale"]))(model),
    ):
        message, source = raised(run)
        assert message.startswith("backward of sqrt made the first NaN or infinity"), message
        assert source == "r = pg.sqrt(h)  # the root in the module"


def test_a_second_order_names_the_line_of_the_forward_pass() -> None:
    x = tensor(0.0)

    def f(x: Any) -> Any:
        # x ** 1.5 has a derivative at 0, and no second one.
        return pg.sum(x**1.5)  # the power

    with detect_anomaly():
        grad(f)(x)
    _, source = raised(lambda: grad(lambda x: pg.sum(grad(f)(x)))(x))
    assert source == "return pg.sum(x**1.5)  # the power"


def test_a_rule_may_pass_through_an_infinity() -> None:
    with detect_anomaly():
        for p in (2.0, 3.0):
            x, e = tensor(0.0, 1.0), tensor(p, p)
            assert np.isfinite(grad(lambda x, e: pg.sum(x**e), (0, 1))(x, e)[1].numpy()).all()
        assert gradcheck(lambda x: pg.sum(pg.tanh(x) ** 2.0), (tensor(0.3, -0.2),), order=2)


def test_a_custom_rule_is_user_code() -> None:
    @custom_vjp
    def f(x: Any) -> Any:
        return x * 2.0

    def backward(_: Any, ct: Any) -> Any:
        zero = ct * 0.0
        return (ct / zero,)  # in the rule

    f.defvjp(lambda x: (x * 2.0, None), backward)
    message, source = raised(lambda: grad(lambda x: pg.sum(f(x)))(tensor(1.0)))
    assert message.startswith("divide made the first")
    assert source == "return (ct / zero,)  # in the rule"
    f.defvjp(lambda x: (x * 2.0, None), lambda _, ct: (tensor(np.inf),))
    message, source = raised(lambda: grad(lambda x: pg.sum(f(x)))(tensor(1.0)))
    assert message.startswith("backward of f made the first")
    assert "pg.sum(f(x))" in source


def test_a_forward_pass_outside_has_no_line() -> None:
    x = tensor(0.0).requires_grad_()
    y = pg.sqrt(x)
    with (
        detect_anomaly(),
        pytest.raises(AnomalyError, match=r"backward of sqrt .*applied at \(a line outside detect_anomaly\)"),
    ):
        y.backward(tensor(1.0))


def test_several_results_remember_their_line() -> None:
    x = pg.asarray(np.array([[1.0, 2.0]])).requires_grad_()
    with detect_anomaly():
        y, _ = pg.top_k(x, 1)  # two results
    node = getattr(y._node, "node", y._node)
    assert node.line.endswith("y, _ = pg.top_k(x, 1)  # two results")


def test_code_typed_at_a_prompt_is_user_code() -> None:
    scope: dict[str, Any] = {"pg": pg, "x": tensor(0.0)}
    with detect_anomaly(), pytest.raises(AnomalyError, match=r"log made .*, at <stdin>:1, in <module>"):
        exec(compile("pg.log(x)", "<stdin>", "exec"), scope)
    assert "<stdin>" not in sys.modules
