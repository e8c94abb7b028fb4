"""The transforms against formulas, against `backward`, against each other, and nested."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import grad, hessian, jacobian, jvp, value_and_grad, vjp
from plugrad.modes import autocast, no_grad
from support.owner import Linear


@pytest.fixture(autouse=True)
def _device(device: str) -> Any:
    with pg.backend.use_device(device):
        yield


def tensor(*values: float) -> pg.Tensor:
    return pg.asarray(np.array(values))


def close(got: Any, expected: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(got.numpy(), np.asarray(expected), rtol=rtol, atol=1e-12)


A = np.array([[2.0, -1.0, 0.5], [0.3, 1.5, -2.0], [1.0, 0.7, 0.2]])


# -- one order --------------------------------------------------------------------------------------------


def test_grad_by_formula() -> None:
    x = tensor(1.0, 2.0, 3.0)
    close(grad(lambda x: pg.sum(x * x * x))(x), [3.0, 12.0, 27.0])
    value, (gx, gy) = value_and_grad(lambda x, y: pg.sum(pg.exp(x) * y["w"]), (0, 1))(x, {"w": 2.0 * x})
    close(value, (np.exp([1.0, 2, 3]) * [2.0, 4, 6]).sum(), 1e-7)
    close(gx, np.exp([1.0, 2, 3]) * [2.0, 4, 6])
    close(gy["w"], np.exp([1.0, 2, 3]))


def test_backward_and_grad_are_one_engine() -> None:
    model = Linear(3, 2, dtype="float64")
    x = pg.asarray(A)

    def loss(m: Linear) -> pg.Tensor:
        return pg.sum(pg.tanh(m(x)))

    value, gradient = value_and_grad(loss)(model)
    loss(model).backward()
    assert model.weight.grad is not None
    assert model.bias.grad is not None
    close(gradient["weight"], model.weight.grad.numpy(), 1e-15)
    close(gradient["bias"], model.bias.grad.numpy(), 1e-15)
    close(value, loss(model).detach().numpy())


def test_vjp_and_jvp_are_adjoint() -> None:
    rng = np.random.default_rng(0)
    x, t, ct = (pg.asarray(rng.standard_normal((3, 3))) for _ in range(3))

    def f(x: pg.Tensor) -> pg.Tensor:
        return pg.tanh(x @ pg.asarray(A)) / (1.0 + x * x)

    value, pull = vjp(f, x)
    again, tangent = jvp(f, (x,), (t,))
    close(again, value.numpy())
    np.testing.assert_allclose((tangent.numpy() * ct.numpy()).sum(), (pull(ct)[0].numpy() * t.numpy()).sum())


def test_jvp_of_what_no_cotangent_reaches_is_zero() -> None:
    x = tensor(1.0, 2.0)
    value, tangent = jvp(lambda a, b: {"a": a * a, "c": tensor(5.0)}, (x, x), (x, x))
    close(tangent["a"], [2.0, 8.0])
    close(tangent["c"], [0.0])
    close(value["c"], [5.0])


def test_jacobian_by_formula() -> None:
    x = tensor(1.0, 2.0, 3.0)
    close(jacobian(lambda x: pg.asarray(A) @ x)(x), A)
    got = jacobian(lambda x, y: [x * x, pg.sum(x) * y], (0, 1))(x, tensor(4.0, 5.0))
    close(got[0][0], np.diag([2.0, 4.0, 6.0]))
    close(got[0][1], np.zeros((3, 2)))
    close(got[1][0], np.outer([4.0, 5.0], np.ones(3)))
    close(got[1][1], 6.0 * np.eye(2))


def test_hessian_by_formula() -> None:
    x = tensor(0.5, -1.0, 2.0)
    a = pg.asarray(A)
    close(hessian(lambda x: pg.sum(x * (a @ x)))(x), A + A.T)
    got = hessian(lambda p: pg.sum(pg.exp(p["a"]) * p["b"]))({"a": x, "b": 2.0 * x})
    v = x.numpy()
    close(got["a"]["a"], np.diag(np.exp(v) * 2 * v))
    close(got["a"]["b"], np.diag(np.exp(v)))
    close(got["b"]["a"], np.diag(np.exp(v)))
    close(got["b"]["b"], np.zeros((3, 3)))


def test_hessian_of_a_vector() -> None:
    x = tensor(1.0, 2.0)
    got = hessian(lambda x: x * x * x)(x).numpy()
    expected = np.zeros((2, 2, 2))
    expected[0, 0, 0], expected[1, 1, 1] = 6.0, 12.0
    np.testing.assert_allclose(got, expected)


def test_broadcast_operands_are_summed() -> None:
    x, y = pg.asarray(A), tensor(1.0, 2.0, 3.0)
    close(grad(lambda y: pg.sum(x * y))(y), A.sum(0))
    close(grad(lambda s: pg.sum(x * s))(2.0), np.float32(A.sum()), 1e-6)


@pytest.mark.parametrize("create", [False, True])
def test_backward_computes_in_the_dtypes_of_the_forward_pass(create: bool) -> None:
    """A forward pass in float32 has a gradient in float32, whatever the modes are by then."""
    rng = np.random.default_rng(5)
    a, b = (pg.asarray(rng.standard_normal((3, 3)), dtype="float32").requires_grad_() for _ in range(2))
    grads = []
    for mode in (autocast(None), autocast("bfloat16")):
        y = pg.sum(pg.tanh(a @ b))
        with mode:
            y.backward(create_graph=create)
        assert a.grad is not None
        grads.append(a.grad.detach().numpy())
        a.grad = b.grad = None
    np.testing.assert_array_equal(*grads)


# -- nested: no perturbation is confused with another -----------------------------------------------------


@pytest.mark.parametrize(
    ("f", "at", "expected"),
    [
        (lambda x: x * grad(lambda y: x * y)(1.0), 2.0, 4.0),
        (lambda x: x * grad(lambda y: x + y)(1.0), 2.0, 1.0),
        (lambda x: grad(lambda y: x * y * y)(x), 3.0, 12.0),
        (lambda x: grad(lambda x: x * x * x)(x), 2.0, 12.0),
        (lambda x: grad(grad(lambda y: y * y * y * x))(x), 2.0, 24.0),
        (lambda x: jvp(lambda y: x * y, (x,), (x,))[1], 3.0, 6.0),
        (lambda x: jvp(lambda y: x * y, (x.detach(),), (pg.ones(()),))[1], 3.0, 1.0),
        (lambda x: vjp(lambda y: x * y * y, x)[1](x)[0], 2.0, 24.0),
        (lambda x: x * value_and_grad(lambda y: x * y)(3.0)[0], 2.0, 12.0),
        (lambda x: grad(lambda y: y * grad(lambda z: x * y * z)(1.0))(x), 3.0, 12.0),
        (lambda x: x * grad(lambda y: y * y)(5.0), 2.0, 10.0),
    ],
)
def test_nested_grad(f: Any, at: float, expected: float) -> None:
    close(grad(f)(at), expected, 1e-6)
    # The same as a vjp, a jvp and a Jacobian, and with a leaf in place of a transform.
    close(vjp(f, at)[1](1.0)[0], expected, 1e-6)
    close(jvp(f, (at,), (1.0,))[1], expected, 1e-6)
    close(jacobian(f)(at), expected, 1e-6)
    x = pg.asarray(at).requires_grad_()
    f(x).backward()
    assert x.grad is not None
    close(x.grad, expected, 1e-6)


def test_what_was_computed_outside_is_constant_inside() -> None:
    model = Linear(2, 1, dtype="float64")
    x = tensor(1.0, 2.0)
    early = pg.sum(model.weight * model.weight)
    got = grad(lambda m: early * pg.sum(m.weight))(model)
    close(got["weight"], np.full((2, 1), early.detach().numpy()))
    # And it is differentiated outside.
    pg.sum(got["weight"]).backward()
    assert model.weight.grad is not None
    close(model.weight.grad, 2 * 2 * model.weight.detach().numpy())
    del x


def test_three_ways_to_a_hessian_vector_product() -> None:
    rng = np.random.default_rng(1)
    x, v = (pg.asarray(rng.standard_normal(3)) for _ in range(2))

    def f(x: pg.Tensor) -> pg.Tensor:
        return pg.sum(pg.tanh(pg.asarray(A) @ x) * x)

    expected = hessian(f)(x).numpy() @ v.numpy()
    close(jvp(grad(f), (x,), (v,))[1], expected)
    close(grad(lambda x: pg.sum(grad(f)(x) * v))(x), expected)
    close(vjp(grad(f), x)[1](v)[0], expected)
    leaf = pg.asarray(x.numpy()).requires_grad_()
    f(leaf).backward(create_graph=True)
    assert leaf.grad is not None
    once, leaf.grad = leaf.grad, None
    pg.sum(once * v).backward()
    assert leaf.grad is not None
    close(leaf.grad, expected)


def test_a_hessian_vector_product_over_a_module() -> None:
    model, x = Linear(3, 2, dtype="float64"), pg.asarray(A)
    rng = np.random.default_rng(2)
    direction = {n: pg.asarray(rng.standard_normal(t.shape)) for n, t in model.__tensors__().items()}
    del direction["frozen"]

    def loss(m: Linear) -> pg.Tensor:
        return pg.sum(pg.tanh(m(x)))

    def along(m: Linear) -> pg.Tensor:
        g = grad(loss)(m)
        return pg.sum(g["weight"] * direction["weight"]) + pg.sum(g["bias"] * direction["bias"])

    got = grad(along)(model)
    forward = jvp(lambda m: grad(loss)(m), (model,), (direction,))[1]

    def gradient_at(step: float) -> dict[str, np.ndarray]:
        moved = Linear(3, 2, dtype="float64")
        with no_grad():
            for name, d in direction.items():
                getattr(moved, name).assign(getattr(model, name) + step * d)
        return {n: g.numpy() for n, g in grad(loss)(moved).items()}

    plus, minus = gradient_at(1e-5), gradient_at(-1e-5)
    for name in direction:
        expected = (plus[name] - minus[name]) / 2e-5
        np.testing.assert_allclose(got[name].numpy(), expected, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(forward[name].numpy(), expected, rtol=1e-6, atol=1e-8)


def test_a_shared_parameter_has_one_gradient_in_both_places() -> None:
    a, b = Linear(2, 2, dtype="float64"), Linear(2, 2, dtype="float64")
    b.weight = a.weight
    x = tensor(1.0, 2.0)
    ga, gb = grad(lambda a, b: pg.sum(b(a(x))), (0, 1))(a, b)
    pg.sum(b(a(x))).backward()
    assert a.weight.grad is not None
    close(ga["weight"], a.weight.grad.numpy())
    close(gb["weight"], a.weight.grad.numpy())


def test_a_penalty_on_a_gradient_reaches_the_parameters() -> None:
    model = Linear(3, 2, dtype="float64")
    x = pg.asarray(A)

    def penalty(weight: np.ndarray) -> float:
        m = Linear(3, 2, dtype="float64")
        with no_grad():
            m.weight.assign(pg.asarray(weight))
            return float(pg.sum(grad(lambda x: pg.sum(pg.tanh(m(x))))(x) ** 2.0))

    g = grad(lambda x: pg.sum(pg.tanh(model(x))))(x)
    pg.sum(g * g).backward()
    assert model.weight.grad is not None
    w = model.weight.detach().numpy()
    for index in np.ndindex(w.shape):
        step = np.zeros_like(w)
        step[index] = 1e-6
        expected = (penalty(w + step) - penalty(w - step)) / 2e-6
        assert math.isclose(model.weight.grad.numpy()[index], expected, rel_tol=1e-5, abs_tol=1e-7)


def test_learning_to_learn() -> None:
    """A gradient through three steps of gradient descent, against central differences."""
    target = tensor(1.0, -2.0)

    def tuned(rate: pg.Tensor) -> pg.Tensor:
        w = tensor(0.3, 0.4)
        for _ in range(3):
            w = w - rate * grad(lambda w: pg.sum((pg.tanh(w) - target) ** 2.0))(w)
        return pg.sum((w - target) ** 2.0)

    rate = pg.asarray(np.array(0.1))
    sides = [float(tuned(pg.asarray(np.array(0.1 + s)))) for s in (1e-6, -1e-6)]
    assert math.isclose(float(grad(tuned)(rate)), (sides[0] - sides[1]) / 2e-6, rel_tol=1e-6)


def test_derivatives_up_to_the_fifth() -> None:
    f, x = pg.exp, pg.asarray(np.array(0.5))
    g: Any = lambda x: f(2.0 * x)  # noqa: E731
    for order in range(1, 6):
        g = grad(g)
        close(g(x), 2.0**order * math.exp(1.0), 1e-12)


def test_pull_is_linear_and_can_be_differentiated_in_its_cotangent() -> None:
    x, ct = tensor(1.0, 2.0), tensor(3.0, 4.0)
    _, pull = vjp(lambda x: x * x, x)
    close(grad(lambda ct: pg.sum(pull(ct)[0] * ct))(ct), 2 * 2 * np.array([1.0, 2.0]) * [3.0, 4.0])
    close(pull(ct)[0], [6.0, 16.0])


def test_a_gradient_through_assignments() -> None:
    def f(x: pg.Tensor) -> pg.Tensor:
        y = x * x
        y += x
        y[0] = x[1] * 5.0
        x *= 3.0  # the argument itself: its name stands for another value now
        return pg.sum(y) + pg.sum(x)

    x = tensor(1.0, 2.0)
    close(grad(f)(x), [3.0, 5.0 + 5.0 + 3.0])
    close(x, [1.0, 2.0])
    close(hessian(f)(x), [[0.0, 0.0], [0.0, 2.0]])


def test_threads_differentiate_one_module() -> None:
    model, x = Linear(3, 2, dtype="float64"), pg.asarray(A)
    expected = grad(lambda m: pg.sum(pg.tanh(m(x))))(model)["weight"].numpy()
    results: list[np.ndarray] = []
    device = pg.backend.current_device()

    def body() -> None:
        with pg.backend.use_device(device):
            for _ in range(10):
                results.append(grad(lambda m: pg.sum(pg.tanh(m(x))))(model)["weight"].numpy())
                pg.sum(model(x)).backward()

    threads = [threading.Thread(target=body) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 40
    for r in results:
        np.testing.assert_array_equal(r, expected)
    # Every backward was added.
    once = Linear(3, 2, dtype="float64")
    pg.sum(once(x)).backward()
    assert once.weight.grad is not None
    assert model.weight.grad is not None
    close(model.weight.grad, 40 * once.weight.grad.numpy())
