"""`custom_vjp` by value: its rule is the derivative, at every order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import custom_vjp, grad, gradcheck, hessian, jvp, vjp
from plugrad.modes import no_grad
from support.owner import Linear


@pytest.fixture(autouse=True)
def _device(device: str) -> Iterator[None]:
    with pg.use_device(device):
        yield


def tensor(*values: float) -> pg.Tensor:
    return pg.asarray(np.array(values))


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def exponential(residual: str) -> custom_vjp:
    """exp, with what its backward needs kept in one of several ways."""

    @custom_vjp
    def f(x: Any) -> Any:
        return pg.exp(x)

    def forward(x: Any) -> Any:
        y = pg.exp(x)
        kept = {"argument": x, "result": y, "computed": pg.exp(x), "computed from the argument": x * 1.0}
        return y, kept[residual]

    def backward(kept: Any, ct: Any) -> Any:
        return (ct * (kept if residual in ("result", "computed") else pg.exp(kept)),)

    f.defvjp(forward, backward)
    return f


@pytest.mark.parametrize("residual", ["argument", "result", "computed", "computed from the argument"])
def test_every_order_is_right_whatever_is_kept(residual: str) -> None:
    f, x = exponential(residual), tensor(0.3, -0.5)
    assert gradcheck(lambda x: f(x * x) * x, (x,), order=3)
    expected = np.exp([0.3, -0.5])
    close(hessian(lambda x: pg.sum(f(x)))(x), np.diag(expected))
    close(jvp(f, (x,), (x,))[1], expected * [0.3, -0.5])
    close(grad(lambda x: pg.sum(grad(lambda x: pg.sum(f(x)))(x)))(x), expected)


def test_the_rule_counts_and_not_the_function() -> None:
    """Rounding with the derivative of the identity, a straight-through estimate."""

    @custom_vjp
    def rounded(x: Any) -> Any:
        return pg.round(x)

    rounded.defvjp(lambda x: (pg.round(x), None), lambda _, ct: (ct,))
    x = tensor(0.4, 1.6)
    close(grad(lambda x: pg.sum(rounded(x) * x))(x), np.round([0.4, 1.6]) + [0.4, 1.6])


def test_a_result_found_without_a_record() -> None:
    """The root of ``y ** 3 + y = x`` by Newton's method; its derivative by the implicit function theorem."""

    @custom_vjp
    def root(x: Any) -> Any:
        with no_grad():
            y = x
            for _ in range(60):
                y = y - (y * y * y + y - x) / (3.0 * y * y + 1.0)
            return y

    def forward(x: Any) -> Any:
        y = root.fun(x)
        return y, y

    root.defvjp(forward, lambda y, ct: (ct / (3.0 * y * y + 1.0),))
    assert gradcheck(root, (tensor(0.5, 2.0),), order=3)


def test_an_argument_passed_through_is_the_argument_to_higher_orders() -> None:
    @custom_vjp
    def doubled_gradient(x: Any) -> Any:
        return x

    doubled_gradient.defvjp(lambda x: (x, x), lambda x, ct: (2.0 * ct * x,))
    x = tensor(3.0)
    once = grad(lambda x: pg.sum(doubled_gradient(x)))
    close(once(x), [6.0])
    # The residual x is the argument, so that d(2 x)/dx = 2.
    close(grad(lambda x: pg.sum(once(x)))(x), [2.0])


def test_an_argument_passed_through_that_needs_no_gradient_is_constant() -> None:
    scaled = custom_vjp(lambda x, s: x)
    scaled.defvjp(lambda x, s: (x, x), lambda x, ct: (None, pg.sum(ct * x)))
    x, s = tensor(3.0, 4.0), pg.asarray(np.array(1.0))
    once = grad(lambda s: pg.sum(scaled(x, s)))
    close(once(s), 7.0)
    close(grad(once)(s), 0.0)


def test_a_backward_made_of_transforms() -> None:
    def inner(x: Any, w: Any) -> Any:
        return pg.tanh(x * w) * x

    @custom_vjp
    def f(x: Any, w: Any) -> Any:
        return inner(x, w)

    f.defvjp(lambda x, w: (inner(x, w), (x, w)), lambda r, ct: vjp(inner, *r)[1](ct))
    assert gradcheck(f, (tensor(0.3, 0.7), tensor(1.1, -0.2)), order=3)


def test_parameters_of_a_module() -> None:
    @custom_vjp
    def f(m: Linear, x: Any) -> Any:
        return m(x)

    def backward(residuals: Any, ct: Any) -> Any:
        m, x = residuals
        return vjp(lambda m, x: m(x), m, x)[1](ct)

    f.defvjp(lambda m, x: (m(x), (m, x)), backward)
    model, x = Linear(2, 2, dtype="float64"), tensor(1.0, 2.0)
    got = grad(lambda m: pg.sum(pg.tanh(f(m, x))))(model)
    expected = grad(lambda m: pg.sum(pg.tanh(m(x))))(model)
    for name in ("weight", "bias"):
        close(got[name], expected[name].numpy())
    pg.sum(f(model, x)).backward()
    assert model.bias.grad is not None
    close(model.bias.grad, model.frozen.numpy())
