"""`custom_vjp` on the null device: what runs, what is kept, forms and errors."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import plugrad as pg
from plugrad.autograd import custom_vjp, grad, hessian, jvp, vjp
from plugrad.errors import ArgumentError, GradientError
from plugrad.modes import no_grad
from support.owner import Linear


def scaled(
    backward: Callable[..., Any] = lambda residuals, ct: (ct * residuals[1], None),
    forward: Callable[..., Any] = lambda x, factor: (x * factor, (x, factor)),
) -> custom_vjp:
    @custom_vjp
    def scale(x: Any, factor: float) -> Any:
        """Times a number."""
        return x * factor

    scale.defvjp(forward, backward)
    return scale


def test_it_looks_like_the_function() -> None:
    f = scaled()
    assert (f.__name__, f.__doc__, repr(f)) == ("scale", "Times a number.", "<custom_vjp scale>")


def test_what_runs() -> None:
    ran: list[str] = []

    @custom_vjp
    def f(x: pg.Tensor) -> pg.Tensor:
        ran.append("function")
        return pg.exp(x)

    def forward(x: pg.Tensor) -> Any:
        ran.append("forward")
        return pg.exp(x), x

    def backward(x: pg.Tensor, ct: pg.Tensor) -> Any:
        ran.append(f"backward {x.requires_grad} {ct.requires_grad}")
        return (pg.exp(x) * ct,)

    f.defvjp(forward, backward)
    x = pg.ones(2)
    f(x)
    with no_grad():
        f(pg.ones(2).requires_grad_())
    assert ran == ["function", "function"]
    ran.clear()
    grad(lambda x: pg.sum(f(x)))(x)
    assert ran == ["forward", "backward False False"]
    ran.clear()
    hessian(lambda x: pg.sum(f(x) * 2.0))(pg.ones(1))
    assert ran == ["forward", "backward True False"]
    ran.clear()
    jvp(f, (x,), (x,))
    assert ran == ["forward", "backward True True"]


def test_arguments_and_results_of_any_form() -> None:
    @custom_vjp
    def f(p: dict[str, Any], mode: str, model: Linear, n: pg.Tensor) -> Any:
        return {"y": model(p["x"]) * n.astype("float32"), "mode": mode, "n": n}

    def forward(p: Any, mode: str, model: Linear, n: pg.Tensor) -> Any:
        return f.fun(p, mode, model, n), (p, mode, n)

    def backward(residuals: Any, ct: Any) -> Any:
        p, mode, n = residuals
        assert mode == "fast"
        assert n.dtype.name == "int64"
        assert set(ct) == {"y", "mode", "n"}
        assert ct["mode"] is None
        assert ct["n"] is None
        x = p["x"]
        return {"x": pg.ones(x.shape), "k": None}, None, {"weight": pg.ones((3, 2))}, None

    f.defvjp(forward, backward)
    model, n = Linear(3, 2), pg.ones((), dtype="int64")
    p = {"x": pg.ones((4, 3)), "k": pg.ones(5)}
    got = grad(lambda p, m: pg.sum(f(p, "fast", m, n)["y"]), (0, 1))(p, model)
    assert got[0]["x"].shape == (4, 3)
    assert got[0]["k"].shape == (5,)
    assert got[1]["weight"].shape == (3, 2)
    assert got[1]["bias"].shape == (2,)


def test_several_results() -> None:
    @custom_vjp
    def f(x: pg.Tensor) -> Any:
        return pg.exp(x), [pg.sum(x)]

    def forward(x: pg.Tensor) -> Any:
        y = pg.exp(x)
        return (y, [pg.sum(x)]), y

    f.defvjp(forward, lambda y, ct: (y * ct[0] + ct[1][0],))
    x = pg.ones(3)
    (y, [s]), pull = vjp(f, x)
    assert (y.shape, s.shape) == ((3,), ())
    assert pull((y, [s]))[0].shape == (3,)
    # One of them alone: the other's cotangent is zeros.
    assert grad(lambda x: f(x)[1][0])(x).shape == (3,)
    assert hessian(lambda x: pg.sum(f(x)[0]))(x).shape == (3, 3)


def test_keywords_and_defaults_are_positions() -> None:
    @custom_vjp
    def f(x: Any, factor: float = 2.0) -> Any:
        return x * factor

    f.defvjp(lambda x, factor=2.0: (x * factor, factor), lambda factor, ct: (ct * factor, None))
    x = pg.ones(2)
    assert grad(lambda x: pg.sum(f(factor=3.0, x=x)))(x).shape == (2,)
    with pytest.raises(TypeError, match="unexpected keyword argument 'wrong'"):
        f(x, wrong=1)


def test_nondiff_arguments_come_first() -> None:
    seen: list[Any] = []

    def power(x: Any, n: int, m: int) -> Any:
        return x**n * m

    def backward(n: int, m: int, x: Any, ct: Any) -> Any:
        seen.append((n, m))
        return (ct * m * n * x ** (n - 1),)

    f = custom_vjp(power, nondiff_argnums=(1, -1))
    f.defvjp(lambda x, n, m: (power(x, n, m), x), backward)
    assert grad(lambda x: pg.sum(f(x, 3, 5)))(pg.ones(2)).shape == (2,)
    assert seen == [(3, 5)]


def test_a_residual_keeps_no_more_than_it_needs() -> None:
    nodes: list[weakref.ref[Any]] = []

    def forward(x: Any, factor: float) -> Any:
        h = pg.exp(x)
        nodes.append(weakref.ref(h._node))
        y = h * factor
        nodes.append(weakref.ref(y._node))
        return y, (y, factor)

    gc.collect()
    gc.disable()
    try:
        y = scaled(forward=forward)(pg.ones(2).requires_grad_(), 2.0)
        assert [n() for n in nodes] == [None, None]
        node = weakref.ref(y._node)
        pg.sum(y).backward()
        del y
        assert node() is None
    finally:
        gc.enable()


# -- errors -----------------------------------------------------------------------------------------------


def run(f: custom_vjp, x: pg.Tensor | None = None) -> Any:
    return grad(lambda x: pg.sum(f(x, 2.0)))(pg.ones(2) if x is None else x)


def test_the_derivative_is_given_first() -> None:
    f = custom_vjp(lambda x: x)
    f.__name__ = "mine"
    with pytest.raises(GradientError, match=r"mine: give its derivative first, with mine.defvjp"):
        f(pg.ones(2))


@pytest.mark.parametrize("wrong", [3, None, pg.float32])
def test_functions_are_asked_for(wrong: Any) -> None:
    with pytest.raises(ArgumentError, match="custom_vjp: takes a function"):
        custom_vjp(wrong)
    with pytest.raises(ArgumentError, match="defvjp: takes a function"):
        custom_vjp(lambda x: x).defvjp(lambda x: (x, x), wrong)


def test_keyword_only_arguments_are_refused() -> None:
    f = custom_vjp(lambda x, *, k: x)
    f.defvjp(lambda x, *, k: (x, None), lambda r, ct: (ct,))
    with pytest.raises(ArgumentError, match="takes no keyword-only arguments"):
        f(pg.ones(2), k=1)


@pytest.mark.parametrize("given", [lambda x: x, lambda x: (x,), lambda x: (x, x, x)])
def test_forward_returns_a_pair(given: Any) -> None:
    with pytest.raises(GradientError, match=r"scale: forward returns \(result, residuals\)"):
        run(scaled(forward=lambda x, factor: given(x)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda ct: ct, "backward returns a tuple of 2 cotangents, one for each argument, got a Tensor"),
        (lambda ct: (ct,), "got 1 cotangents"),
        (
            lambda ct: (pg.ones(3), None),
            r"the cotangent of argument 0 takes a tensor of Spec\(\(2,\), float32.*got Spec\(\(3,\)",
        ),
        (lambda ct: (ct.astype("float64"), None), r"argument 0 takes .*got Spec\(\(2,\), float64"),
        (lambda ct: ("text", None), "argument 0 takes .*got str"),
    ],
)
def test_cotangents_fit_the_arguments(given: Any, message: str) -> None:
    with pytest.raises(GradientError, match=f"scale: .*{message}"):
        run(scaled(lambda residuals, ct: given(ct)))


def test_the_form_of_a_cotangent_is_that_of_its_argument() -> None:
    f = custom_vjp(lambda p: p["x"])
    f.defvjp(lambda p: (p["x"], None), lambda r, ct: ([ct],))
    with pytest.raises(
        ArgumentError, match="cotangent of argument 0: takes a dict with the keys 'x', got list"
    ):
        grad(lambda x: pg.sum(f({"x": x})))(pg.ones(2))
    f = custom_vjp(lambda m, x: m(x))
    f.defvjp(lambda m, x: (m(x), None), lambda r, ct: ({"weights": ct}, None))
    with pytest.raises(GradientError, match=r"argument 0 takes a dict by names, some of weight, bias"):
        grad(lambda m: pg.sum(f(m, pg.ones((1, 3)))))(Linear(3, 2))


@pytest.mark.parametrize("argument", [lambda: pg.ones(2), lambda: pg.ones(2).requires_grad_()])
def test_a_tensor_from_elsewhere_is_an_argument_or_an_error(argument: Any) -> None:
    w = pg.ones(2).requires_grad_()
    message = "scale: it uses a tensor that needs a gradient and is not among its arguments; pass it"

    @custom_vjp
    def scale(x: Any) -> Any:
        return x * w

    scale.defvjp(lambda x: (x * w, None), lambda r, ct: (ct,))
    with pytest.raises(GradientError, match=message):
        scale(argument())
    scale.defvjp(lambda x: (x * 2.0, w), lambda r, ct: (ct,))
    with pytest.raises(GradientError, match=message):
        scale(pg.ones(2).requires_grad_())
    scale.defvjp(lambda x: (x * w.detach(), w.detach()), lambda r, ct: (ct * r,))
    assert scale(pg.ones(2).requires_grad_()).requires_grad
