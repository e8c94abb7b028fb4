"""`gradcheck` passes what is right, and says where something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd import custom_vjp, gradcheck
from plugrad.errors import ArgumentError, DTypeError, GradientError
from support.owner import Linear


@pytest.fixture(autouse=True)
def _device(device: str) -> Iterator[None]:
    with pg.use_device(device):
        yield


def tensor(values: Any) -> pg.Tensor:
    return pg.asarray(np.asarray(values, np.float64))


def with_rule(
    backward: Callable[[Any, Any], Any], forward: Callable[[Any], Any] = lambda x: (x * x, x)
) -> custom_vjp:
    f = custom_vjp(lambda x: x * x)
    f.defvjp(forward, backward)
    return f


def test_what_is_right_passes_at_every_order() -> None:
    f = with_rule(lambda x, ct: (2.0 * x * ct,))
    assert gradcheck(f, (tensor([1.0, -2.0]),), order=3)
    assert gradcheck(lambda x: x * x, tensor([1.0, -2.0]))
    assert gradcheck(
        lambda x, p: [p["s"] * x, {"n": 3, "m": p["m"](x)}],
        [tensor([[1.0, 2.0]]), {"s": 2.0, "m": Linear(2, 3, dtype="float64")}],
        order=2,
    )


def test_a_wrong_gradient_is_named_with_its_place() -> None:
    wrong = with_rule(lambda x, ct: (ct * 2.0 * x * tensor([[1.0, 1.0, 1.0], [1.0, 1.1, 1.0]]),))
    with pytest.raises(
        GradientError,
        match=r"gradcheck: the derivative of order 1 with respect to inputs\[1\]\['x'\] at index \(1, 1\) is "
        r"(-?[\d.]+); expected (-?[\d.]+) by central differences",
    ) as error:
        gradcheck(lambda a, p: pg.sum(a) * wrong(p["x"]), (tensor(1.0), {"x": tensor(np.ones((2, 3)))}))
    got, expected = (
        float(str(error.value).split(word)[1].split()[0].rstrip(";")) for word in (" is ", "expected ")
    )
    np.testing.assert_allclose(got, 1.1 * expected, rtol=1e-6)


def test_a_wrong_second_derivative_is_found_at_order_two() -> None:
    # Right at first order; the residual is computed outside the record.
    wrong = with_rule(lambda r, ct: (r * ct,), lambda x: (x * x, 2.0 * x.detach()))
    x = tensor([1.0, 2.0])
    assert gradcheck(wrong, (x,))
    with pytest.raises(
        GradientError, match=r"derivative of order 2 with respect to inputs\[0\] at index \(0,\)"
    ):
        gradcheck(wrong, (x,), order=2)


def test_a_wrong_derivative_in_the_cotangent_is_found_at_order_two() -> None:
    wrong = with_rule(lambda x, ct: (2.0 * x * ct.detach(),))
    with pytest.raises(GradientError, match=r"order 2 with respect to inputs\['cotangent 1'\]\[0\]"):
        gradcheck(wrong, (tensor([1.0, 2.0]),), order=2)


def test_a_wrong_parameter_gradient_is_named() -> None:
    model = Linear(2, 1, dtype="float64")
    before = model.weight.detach().numpy().copy()

    def f(m: Linear) -> pg.Tensor:
        return m(tensor([[1.0, 2.0]])) + pg.sum(m.bias.detach() * m.bias)

    with pytest.raises(GradientError, match=r"with respect to inputs\[0\]\['bias'\] at index \(0,\)"):
        gradcheck(f, (model,))
    np.testing.assert_array_equal(model.weight.detach().numpy(), before)
    assert model.weight.requires_grad


def test_a_nan_is_wrong() -> None:
    wrong = with_rule(lambda x, ct: (ct * float("nan"),))
    with pytest.raises(GradientError, match="is nan; expected"):
        gradcheck(wrong, (tensor(1.0),))


def test_inputs_are_left_as_they_are() -> None:
    x = tensor([1.0, 2.0]).requires_grad_()
    gradcheck(lambda x: pg.exp(x), (x,))
    np.testing.assert_array_equal(x.detach().numpy(), [1.0, 2.0])
    assert x.grad is None


@pytest.mark.parametrize(
    ("fn", "inputs", "options", "error", "message"),
    [
        (lambda x: x, 3, {}, ArgumentError, "no floating tensor among the inputs"),
        (lambda x: 3, 1.0, {}, ArgumentError, "no floating tensor in the result"),
        (lambda x: x, 1.0, {"order": 0}, ArgumentError, "order takes an int of at least 1, got 0"),
        (lambda x: x, 1.0, {"order": True}, ArgumentError, "order takes an int of at least 1, got True"),
        (3, 1.0, {}, ArgumentError, "takes a function, got int"),
    ],
)
def test_bad_calls(fn: Any, inputs: Any, options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gradcheck(fn, inputs, **options)


def test_float64_is_asked_for() -> None:
    with pytest.raises(DTypeError, match=r"inputs\[0\]\['x'\] is float32; central differences need float64"):
        gradcheck(lambda p: p["x"], ({"x": pg.ones(2)},))
    with pytest.raises(DTypeError, match=r"inputs\[0\]\['weight'\] is float32"):
        gradcheck(lambda m: m(pg.ones((1, 2))), (Linear(2, 1),))
