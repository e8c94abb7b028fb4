"""`checkpoint`: the same gradients, computed again as the first time, with less memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import random
from plugrad.autograd import checkpoint, custom_vjp, grad, gradcheck, hessian, jvp, value_and_grad
from plugrad.backend import backend_of, resolve_device
from plugrad.errors import GradientError
from plugrad.modes import autocast, no_grad
from support.owner import Linear


@pytest.fixture(autouse=True)
def _device(device: str) -> Iterator[None]:
    with pg.use_device(device):
        yield


def tensor(*values: float) -> pg.Tensor:
    return pg.asarray(np.array(values))


def close(got: Any, expected: Any) -> None:
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def block(x: Any, w: Any) -> Any:
    return pg.tanh(pg.tanh(x * w) * x) + w


def test_gradients_are_those_without_it() -> None:
    x, w = tensor(0.3, -0.7), tensor(1.2, 0.4)
    plain = value_and_grad(lambda x, w: pg.sum(block(x, w)), (0, 1))(x, w)
    got = value_and_grad(lambda x, w: pg.sum(checkpoint(block, x, w=w)), (0, 1))(x, w)
    close(got[0], plain[0].numpy())
    for a, b in zip(got[1], plain[1], strict=True):
        close(a, b.numpy())


def test_backward_reaches_arguments_and_what_else_it_uses() -> None:
    model, x = Linear(2, 2, dtype="float64"), tensor(0.3, -0.7).requires_grad_()
    h = pg.exp(x)
    pg.sum(checkpoint(lambda x: pg.tanh(model(x)) * h, x)).backward()
    got = [t.grad.numpy() for t in (x, model.weight, model.bias) if t.grad is not None]
    for t in (x, model.weight, model.bias):
        t.grad = None
    pg.sum(pg.tanh(model(x)) * pg.exp(x)).backward()
    for g, t in zip(got, (x, model.weight, model.bias), strict=True):
        assert t.grad is not None
        close(t.grad, g)


def test_one_of_several_results_of_an_op_outside_is_reached_once() -> None:
    two = custom_vjp(lambda x: (x * 2.0, x * 3.0))
    two.defvjp(lambda x: ((x * 2.0, x * 3.0), None), lambda _, ct: (2.0 * ct[0] + 3.0 * ct[1],))
    x = tensor(1.0, 2.0).requires_grad_()
    a, b = two(x)
    (pg.sum(checkpoint(lambda a: pg.tanh(a) * x, a)) + pg.sum(b)).backward()
    assert x.grad is not None
    t = np.tanh([2.0, 4.0])
    close(x.grad, 2 * (1 - t**2) * [1.0, 2.0] + t + 3.0)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: checkpoint(lambda x: pg.tanh(x) * x, x),
        lambda x: checkpoint(lambda a: pg.tanh(a) * x, x * x),
        lambda x: checkpoint(lambda a: checkpoint(lambda b: pg.exp(b) * a, a * x) + x, pg.tanh(x)),
        lambda x: checkpoint(lambda a: [pg.exp(a), (a * x, 3)], pg.tanh(x)),
        lambda x: checkpoint(lambda a: grad(lambda b: pg.sum(pg.tanh(b) * b * x))(a), pg.exp(x)),
        lambda x: grad(lambda b: pg.sum(checkpoint(lambda b: pg.tanh(b) * b * x, b)))(pg.exp(x)),
        lambda x: checkpoint(lambda a, b: jvp(lambda c: c * c * b, (a,), (b,))[1], x, pg.tanh(x)),
    ],
)
def test_any_order_any_nesting(f: Callable[[Any], Any]) -> None:
    assert gradcheck(f, (tensor(0.3, -0.7),), order=3)


def test_a_hessian_over_a_module() -> None:
    model, x = Linear(2, 1, dtype="float64"), tensor(0.3, -0.7)

    def loss(m: Linear, wrap: bool) -> Any:
        h = checkpoint(m, x) if wrap else m(x)
        return pg.sum(pg.tanh(h))

    got, expected = (hessian(lambda m, wrap=wrap: loss(m, wrap))(model) for wrap in (True, False))
    for a in ("weight", "bias"):
        for b in ("weight", "bias"):
            close(got[a][b], expected[a][b].numpy())

    # The function itself differentiates the module, and is run again after the transform around it has left.
    def norm(m: Linear, wrap: bool) -> Any:
        def inner() -> Any:
            g = grad(lambda m: pg.sum(pg.tanh(m(x))))(m)
            return pg.sum(g["weight"] * g["weight"])

        return checkpoint(inner) if wrap else inner()

    got, expected = (grad(lambda m, wrap=wrap: norm(m, wrap))(model)["weight"] for wrap in (True, False))
    assert np.abs(expected.numpy()).max() > 0
    close(got, expected.numpy())


def test_a_second_backward() -> None:
    x = tensor(0.3, -0.7).requires_grad_()
    y = pg.sum(checkpoint(block, x, x))
    y.backward(retain_graph=True)
    first = x.grad
    assert first is not None
    y.backward()
    assert x.grad is not None
    close(x.grad, 2 * first.numpy())
    with pytest.raises(GradientError, match=r"freed|second time"):
        y.backward()


def test_without_anything_to_differentiate_it_is_the_call() -> None:
    calls: list[int] = []

    def f(x: Any) -> Any:
        calls.append(1)
        return [x * 2.0, "text"]

    x = tensor(1.0)
    assert not checkpoint(f, x)[0].requires_grad
    with no_grad():
        assert not checkpoint(f, x.requires_grad_())[0].requires_grad
    assert checkpoint(f, x)[1] == "text"
    assert len(calls) == 3


def test_results_that_need_no_gradient_pass_through() -> None:
    x, w = tensor(1.0, 2.0).requires_grad_(), tensor(3.0, 4.0).requires_grad_()
    y, same, text, flags = checkpoint(lambda x: (x * x, w, "text", x > 1.5), x)
    assert same is w
    assert text == "text"
    assert flags.numpy().tolist() == [False, True]
    pg.sum(y).backward()
    assert x.grad is not None
    close(x.grad, [2.0, 4.0])


# -- computed again as the first time ---------------------------------------------------------------------


def test_arguments_are_as_they_were() -> None:
    x = tensor(1.0, 2.0).requires_grad_()
    h = x * 1.0
    y = checkpoint(lambda h: h * h * h, h)
    h += 5.0
    pg.sum(y).backward()
    assert x.grad is not None
    close(x.grad, [3.0, 12.0])


def test_what_it_rebinds_is_as_it_was_and_is_bound_back() -> None:
    """A counter, as of random numbers, read and moved on; and a running mean, only moved."""
    counter, mean = tensor(1.0), tensor(0.0)

    def f(x: Any) -> Any:
        factor = counter.detach()
        counter.assign(counter + 1.0)
        with no_grad():
            mean.assign(0.5 * mean + 0.5 * x.detach())
        factor += counter.detach()
        return x * x * factor

    x = tensor(3.0).requires_grad_()
    y = checkpoint(f, x)  # a factor of 1 + 2
    z = checkpoint(f, x)  # a factor of 2 + 3
    close(counter, [3.0])
    close(mean, [2.25])
    (y + z).backward()
    assert x.grad is not None
    close(x.grad, [6.0 * 3 + 6.0 * 5])
    close(counter, [3.0])
    close(mean, [2.25])


def test_random_numbers_are_drawn_again_and_no_others_later() -> None:
    drawn: list[list[float]] = []

    def f(x: Any) -> Any:
        mask = random.uniform((4,), dtype="float64")
        drawn.append(mask.tolist())
        return x * mask * x

    def step(wrap: bool) -> tuple[list[float], list[float]]:
        random.manual_seed(3)
        x = tensor(1.0, 2.0, 3.0, 4.0).requires_grad_()
        y = checkpoint(lambda x: checkpoint(f, x) * 1.0, x) if wrap else f(x)
        between = random.uniform((2,)).tolist()
        pg.sum(y).backward()
        assert x.grad is not None
        return x.grad.tolist(), between + random.uniform((2,)).tolist()

    assert step(True) == step(False)
    # The forward pass, the outer link again, the inner one again; and without checkpoints.
    assert len(drawn) == 4
    assert all(d == drawn[0] for d in drawn)


def test_nested_checkpoints_rebind_once() -> None:
    counter = tensor(1.0)

    def inner(x: Any) -> Any:
        factor = counter.detach()
        counter.assign(counter + 1.0)
        return x * x * factor

    def outer(x: Any) -> Any:
        return checkpoint(inner, checkpoint(inner, x))  # x ** 4 * 1 ** 2 * 2

    x = tensor(2.0).requires_grad_()
    y = checkpoint(outer, x)
    close(counter, [3.0])
    counter.assign(tensor(10.0))
    y.backward()
    assert x.grad is not None
    close(x.grad, [4 * 8.0 * 2.0])
    close(counter, [10.0])


def test_an_error_while_computing_again_binds_back_too() -> None:
    counter, broken = tensor(1.0), []

    def f(x: Any) -> Any:
        counter.assign(counter + 1.0)
        if broken:
            raise KeyError("broken")
        return x * x

    y = checkpoint(f, tensor(2.0).requires_grad_())
    broken.append(True)
    with pytest.raises(KeyError, match="broken"):
        y.backward()
    close(counter, [2.0])


def test_modes_are_as_they_were() -> None:
    w = pg.ones((2, 2)).requires_grad_()
    seen: list[str] = []

    def f(x: Any) -> Any:
        y = x @ w
        seen.append(y.dtype.name)
        return y

    with autocast("bfloat16"):
        y = checkpoint(f, pg.ones((2, 2)))
    total = pg.sum(y)
    with no_grad():
        total.backward()
    assert seen == ["bfloat16", "bfloat16"]
    assert w.grad is not None
    assert w.grad.dtype.name == "float32"


def test_doing_something_else_is_an_error() -> None:
    message = "checkpoint: computed again, the function gave other results or used other tensors"
    x = tensor(1.0, 2.0).requires_grad_()
    # A closure in a loop, bound late.
    ys = []
    for w in (tensor(1.0, 1.0).requires_grad_(), tensor(2.0, 2.0).requires_grad_()):
        ys.append(checkpoint(lambda x: x * w, x))  # noqa: B023
    with pytest.raises(GradientError, match=message):
        pg.sum(ys[0]).backward()
    shapes = iter([x, pg.concat([x, x])])
    y = checkpoint(lambda: next(shapes) * 2.0)
    with pytest.raises(GradientError, match=message):
        y.backward(pg.asarray(np.ones(2)))


# -- memory -----------------------------------------------------------------------------------------------


def test_a_chain_needs_the_memory_of_its_links_and_one_block(device: str) -> None:
    where = resolve_device(device)
    if not backend_of(where).capabilities(where).host_memory:
        pytest.skip("the memory of this device is not the host's")
    size, links, depth = 1 << 16, 8, 10
    x = pg.asarray(np.full(size, 0.5)).requires_grad_()

    def block(h: Any) -> Any:
        for _ in range(depth):
            h = pg.exp(h) * 0.3
        return h

    def peak(wrap: bool) -> float:
        """The most memory in use through forward and backward, in tensors."""
        h = x
        tracemalloc.start()
        try:
            for _ in range(links):
                h = checkpoint(block, h) if wrap else block(h)
            h.backward(pg.asarray(np.ones(size)))
            return tracemalloc.get_traced_memory()[1] / x.nbytes
        finally:
            tracemalloc.stop()
            x.grad = None

    peak(True)
    assert peak(False) > links * depth
    assert peak(True) < links + 2 * depth + 8
