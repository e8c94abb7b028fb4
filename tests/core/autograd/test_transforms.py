"""The transforms on the null device: forms of results, what is recorded, what is freed, and errors."""

from __future__ import annotations

import gc
import weakref
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import tree
from plugrad.autograd import engine, grad, hessian, jacobian, jvp, value_and_grad, vjp
from plugrad.errors import ArgumentError, DTypeError, GradientError
from plugrad.modes import no_grad
from support.owner import Linear

Pair = namedtuple("Pair", "left right")


def total(x: Any) -> pg.Tensor:
    """One number made of all floating tensors in a tree."""
    parts = [pg.sum(pg.exp(t)) for t in tree.tensors(x)]
    result = parts[0]
    for p in parts[1:]:
        result = result * p
    return result


def shapes(x: Any) -> Any:
    return tree.map(lambda t: t.shape, x)


def recorded(x: Any) -> list[bool]:
    return [t.requires_grad for t in tree.tensors(x)]


def nest() -> dict[str, Any]:
    return {
        "list": [pg.ones((2, 3)), pg.ones((), dtype="float64")],
        "pair": Pair(pg.ones(4), None),
        "empty": (),
    }


# -- forms ------------------------------------------------------------------------------------------------


def test_the_gradient_has_the_form_of_the_argument() -> None:
    got = grad(total)(nest())
    assert shapes(got) == {"list": [(2, 3), ()], "pair": Pair((4,), None), "empty": ()}
    assert [t.dtype.name for t in tree.leaves(got)] == ["float32", "float64", "float32"]
    assert recorded(got) == [False] * 3


def test_argnums_choose_arguments() -> None:
    def f(a: Any, b: Any, c: Any, *, scale: float) -> pg.Tensor:
        return total([a, b, c]) * scale

    args = pg.ones(1), [pg.ones(2)], pg.ones(3)
    assert shapes(grad(f)(*args, scale=2.0)) == (1,)
    assert shapes(grad(f, 1)(*args, scale=2.0)) == [(2,)]
    assert shapes(grad(f, -1)(*args, scale=2.0)) == (3,)
    assert shapes(grad(f, (2, 0))(*args, scale=2.0)) == ((3,), (1,))
    assert shapes(grad(f, [1])(*args, scale=2.0)) == ([(2,)],)
    assert shapes(jacobian(f, (0, 1))(*args, scale=2.0)) == ((1,), [(2,)])


def test_value_and_aux() -> None:
    def f(x: pg.Tensor) -> Any:
        h = pg.exp(x)
        return pg.sum(h), {"h": h, "n": 3, "x": x}

    x = pg.ones(2)
    value, gradient = value_and_grad(lambda x: f(x)[0])(x)
    assert (value.shape, gradient.shape) == ((), (2,))
    (value, aux), gradient = value_and_grad(f, has_aux=True)(x)
    assert (value.shape, aux["h"].shape, aux["n"], gradient.shape) == ((), (2,), 3, (2,))
    gradient, aux = grad(f, has_aux=True)(x)
    assert aux["n"] == 3
    assert recorded([value, gradient, aux]) == [False] * 4
    result, pull, aux = vjp(f, x, has_aux=True)
    assert shapes(pull(result)) == ((2,),)
    result, tangent, aux = jvp(f, (x,), (x,), has_aux=True)
    assert (result.shape, tangent.shape, aux["h"].shape) == ((), (), (2,))
    assert recorded([result, tangent, aux]) == [False] * 4


def test_vjp_and_jvp_take_and_give_trees() -> None:
    def f(a: Any, b: pg.Tensor) -> Any:
        return {"y": pg.exp(a[0]) * b, "z": [pg.sum(b)]}

    a, b = [pg.ones((2, 3)), pg.ones(5)], pg.ones(3)
    value, pull = vjp(f, a, b)
    assert shapes(value) == {"y": (2, 3), "z": [()]}
    for _ in range(2):
        assert shapes(pull({"z": [1.0], "y": pg.ones((2, 3))})) == ([(2, 3), (5,)], (3,))
    value, tangent = jvp(f, [a, b], [a, b])
    assert shapes(tangent) == shapes(value) == {"y": (2, 3), "z": [()]}
    assert recorded([value, tangent]) == [False] * 4


def test_jacobian_and_hessian_nest_the_result_around_the_argument() -> None:
    def f(x: Any) -> Any:
        return [pg.exp(x["a"]), total(x)]

    x = {"a": pg.ones(3), "b": pg.ones((2, 1))}
    assert shapes(jacobian(f)(x)) == [{"a": (3, 3), "b": (3, 2, 1)}, {"a": (3,), "b": (2, 1)}]
    assert shapes(hessian(total)(x)) == {
        "a": {"a": (3, 3), "b": (3, 2, 1)},
        "b": {"a": (2, 1, 3), "b": (2, 1, 2, 1)},
    }
    assert shapes(hessian(lambda x: pg.sum(x * x))(pg.ones((2, 3)))) == (2, 3, 2, 3)
    assert shapes(jacobian(lambda x: pg.exp(x))(pg.ones((0, 2)))) == (0, 2, 0, 2)


def test_python_floats_are_tensors_of_no_axes() -> None:
    got = grad(lambda p: p["a"] * p["b"])({"a": 1.0, "b": pg.ones((), dtype="float64")})
    assert [(t.shape, t.dtype.name) for t in got.values()] == [((), "float32"), ((), "float64")]


def test_what_is_not_reached_is_zeros() -> None:
    got = grad(lambda x, y: pg.sum(x), (0, 1))(pg.ones(2), {"y": pg.ones((3, 1), dtype="float64")})
    assert (got[1]["y"].shape, got[1]["y"].dtype.name) == ((3, 1), "float64")
    assert grad(lambda x: pg.ones(()))(pg.ones(2)).shape == (2,)
    assert jvp(lambda x: pg.ones(3), (pg.ones(2),), (pg.ones(2),))[1].shape == (3,)
    assert jacobian(lambda x: pg.ones(3))(pg.ones(2)).shape == (3, 2)


def test_a_module_has_a_dict_of_gradients_in_its_place() -> None:
    model, x = Linear(3, 2), pg.ones((4, 3))
    value, (of_model, of_x) = value_and_grad(lambda m, x: pg.sum(m(x)), (0, 1))(model, x)
    assert shapes(of_model) == {"weight": (3, 2), "bias": (2,)}
    assert of_x.shape == (4, 3)
    assert recorded([value, of_model, of_x]) == [False] * 4
    assert model.weight.grad is None
    assert shapes(grad(lambda ms: pg.sum(ms[0](x)))([model, model])) == [shapes(of_model)] * 2
    _, pull = vjp(lambda m: m(x), model)
    assert shapes(pull(pg.ones((4, 2)))) == (shapes(of_model),)
    tangent = {"bias": model.bias.detach(), "weight": model.weight.detach()}
    assert jvp(lambda m: m(x), (model,), (tangent,))[1].shape == (4, 2)
    assert shapes(hessian(lambda m: total(m(x)))(model))["weight"] == {
        "weight": (3, 2, 3, 2),
        "bias": (3, 2, 2),
    }


def test_the_name_and_the_doc_are_those_of_the_function() -> None:
    def loss(x: pg.Tensor) -> pg.Tensor:
        """How far off."""
        return pg.sum(x)

    for transform in (grad, value_and_grad, jacobian, hessian):
        assert (transform(loss).__name__, transform(loss).__doc__) == ("loss", "How far off.")
    assert grad(Linear(3, 1))  # an object that can be called has no name
    assert not hasattr(grad(Linear(3, 1)), "weight")


def test_gradients_are_tensors_of_their_own() -> None:
    x = pg.ones(2)
    a, b = grad(lambda x, y: pg.sum(x + y), (0, 1))(x, x)
    assert a is not b
    ct = pg.ones(2)
    _, pull = vjp(lambda x: x, x)
    assert pull(ct)[0] is not ct


# -- what is recorded -------------------------------------------------------------------------------------


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the ops whose backward is recorded."""
    names: list[str] = []
    original = engine._walk

    def walk(seeds: Any, inputs: Any, needed: Any, create: bool, *rest: Any) -> Any:
        names.append("recorded" if create else "first order" if needed is None else "first order, some")
        return original(seeds, inputs, needed, create, *rest)

    monkeypatch.setattr(engine, "_walk", walk)
    return names


def test_first_order_is_not_recorded(applied: list[str]) -> None:
    model, x = Linear(3, 2), pg.ones((4, 3))
    grad(total)(x)
    grad(lambda m: pg.sum(m(x)))(model)
    vjp(total, x)[1](pg.ones(()))
    jacobian(lambda x: pg.exp(x))(pg.ones(2))
    with no_grad():
        grad(total)(x)
    assert applied == ["first order"] * 6


def test_of_two_orders_one_is_recorded(applied: list[str]) -> None:
    grad(lambda x: pg.sum(grad(total)(x)))(pg.ones(2))
    assert applied == ["recorded", "first order"]
    applied.clear()
    hessian(total)(pg.ones(2))
    assert applied == ["recorded", "first order", "first order"]
    applied.clear()
    grad(lambda m: pg.sum(grad(lambda m: total(m(pg.ones((1, 3)))))(m)["weight"]))(Linear(3, 2))
    assert applied == ["recorded", "first order"]
    applied.clear()
    # A vjp of a vjp. The record of the first is beyond the second's arguments, and of no interest.
    jvp(total, (pg.ones(2),), (pg.ones(2),))
    assert applied == ["recorded", "first order, some"]


def test_what_is_outside_and_reached_is_recorded(applied: list[str]) -> None:
    w, x = pg.ones(2).requires_grad_(), pg.ones(2)
    g = grad(lambda x: pg.sum(pg.exp(x) * w))(x)
    assert g.requires_grad
    pg.sum(g).backward()
    assert w.grad is not None
    assert applied == ["recorded", "first order"]


def test_what_is_outside_and_not_reached_is_not(applied: list[str]) -> None:
    w = pg.ones(2).requires_grad_()
    grad(lambda x: pg.sum(x * w.detach()))(pg.ones(2))
    grad(lambda w: pg.sum(w * grad(total)(pg.ones(2))))(pg.ones(2))
    assert applied == ["first order"] * 3


def test_an_argument_that_is_followed_stays_so() -> None:
    w = pg.ones(2).requires_grad_()
    value, gradient = value_and_grad(total)(w)
    assert recorded([value, gradient]) == [True, True]
    pg.sum(gradient * value).backward()
    assert w.grad is not None
    value, pull = vjp(total, w * 2.0)
    assert value.requires_grad
    assert pull(pg.ones(()))[0].requires_grad


def test_under_no_grad_nothing_outside_is_followed(applied: list[str]) -> None:
    w = pg.ones(2).requires_grad_()
    h = pg.exp(w)
    with no_grad():
        got = value_and_grad(lambda x: pg.sum(pg.exp(x) * w * h))(pg.ones(2))
        also = value_and_grad(lambda x: pg.sum(pg.exp(x)))(w)
        forward = jvp(lambda x: pg.exp(x) * h, (pg.ones(2),), (pg.ones(2),))
    assert recorded([got, also, forward]) == [False] * 6
    assert "recorded" in applied  # the inner vjp of jvp
    # The record of what was outside was left alone.
    pg.sum(h).backward()
    assert w.grad is not None


def test_a_result_that_aux_shares_with_something_outside_can_go_backward() -> None:
    w = pg.ones(2).requires_grad_()

    def f(x: pg.Tensor) -> Any:
        h = pg.exp(x)
        return pg.sum(h * h), h * w

    gradient, aux = grad(f, has_aux=True)(pg.ones(2))
    pg.sum(aux).backward()
    assert w.grad is not None
    assert gradient.shape == (2,)


def test_a_tensor_from_outside_comes_back_as_it_is() -> None:
    w = pg.ones(2).requires_grad_()
    _, aux = grad(lambda x: (pg.sum(x), [w, x, "text"]), has_aux=True)(pg.ones(2))
    assert aux[0] is w
    assert not aux[1].requires_grad
    assert aux[2] == "text"


def test_pull_is_recorded_for_a_cotangent_that_is_followed() -> None:
    _, pull = vjp(pg.exp, pg.ones(2))
    ct = pg.ones(2).requires_grad_()
    assert pull(ct)[0].requires_grad
    assert not pull(pg.ones(2))[0].requires_grad
    with no_grad():
        assert not pull(ct)[0].requires_grad


def test_transforms_leave_grad_alone() -> None:
    w = pg.ones(2).requires_grad_()
    grad(lambda x: pg.sum(x * w))(w)
    assert w.grad is None


# -- memory -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evaluate",
    [
        lambda f, x: grad(f)(x),
        lambda f, x: value_and_grad(f)(x),
        lambda f, x: jvp(f, (x,), (x,)),
        lambda f, x: jacobian(f)(x),
        lambda f, x: hessian(f)(x),
        lambda f, x: grad(lambda x: pg.sum(grad(f)(x)))(x),
        lambda f, x: vjp(f, x)[1](pg.ones(())),
    ],
)
def test_nothing_of_the_record_is_left_behind(evaluate: Callable[[Any, Any], Any]) -> None:
    nodes: list[weakref.ref[Any]] = []

    def f(x: pg.Tensor) -> pg.Tensor:
        h = pg.exp(x)
        nodes.append(weakref.ref(h._node))
        return pg.sum(h * x)

    gc.collect()
    gc.disable()
    try:
        kept = evaluate(f, pg.ones(2))
        assert nodes
        assert not any(n() for n in nodes)
        del kept
    finally:
        gc.enable()


def test_pull_keeps_the_record_until_it_is_dropped() -> None:
    nodes: list[weakref.ref[Any]] = []

    def f(x: pg.Tensor) -> pg.Tensor:
        h = pg.exp(x)
        nodes.append(weakref.ref(h._node))
        return h

    gc.disable()
    try:
        value, pull = vjp(f, pg.ones(2))
        assert nodes[0]() is not None
        del pull
        assert nodes[0]() is None
        del value
    finally:
        gc.enable()


# -- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fn", "args", "message"),
    [
        (pg.exp, (pg.ones,), r"args\[0\] is function; takes floating tensors: leave it out"),
        (pg.exp, (1,), r"args\[0\] is int; takes floating tensors: write it as a float"),
        (pg.exp, ({"n": "text"},), r"args\[0\]\['n'\] is str"),
        (pg.exp, ([np.ones(2)],), r"args\[0\]\[0\] is ndarray; .* wrap it with plugrad.asarray"),
    ],
)
def test_only_floating_tensors_are_differentiated(fn: Any, args: Any, message: str) -> None:
    with pytest.raises(DTypeError, match=f"grad: {message}"):
        grad(fn)(*args)


def test_integer_tensors_are_not_differentiated() -> None:
    n = pg.ones(3, dtype="int64")
    with pytest.raises(DTypeError, match=r"grad: args\[1\]\['n'\] is int64; takes floating dtypes: cast it"):
        grad(lambda a, b: total(a), (0, 1))(pg.ones(2), {"n": n})
    with pytest.raises(DTypeError, match=r"vjp: primals\[1\] is int64"):
        vjp(lambda a, b: total(a), pg.ones(2), n)
    # Beside what is differentiated they are welcome.
    assert grad(lambda a, b: pg.sum(a * b.astype("float32")))(pg.ones(3), n).shape == (3,)


def test_the_function_returns_one_number() -> None:
    x = pg.ones((2, 3))
    with pytest.raises(GradientError, match=r"grad: .* one tensor of no axes, got shape \(2, 3\); reduce it"):
        grad(pg.exp)(x)
    with pytest.raises(GradientError, match=r"value_and_grad: .* got tuple; .*has_aux=True"):
        value_and_grad(lambda x: (pg.sum(x), x))(x)
    with pytest.raises(GradientError, match=r"got shape \(1,\)"):
        grad(lambda x: pg.ones(1))(x)


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (lambda x: 3.0, GradientError, "the result is float; the function must return tensors"),
        (lambda x: None, GradientError, "the function must return a tensor, got None"),
        (lambda x: [], GradientError, r"the function must return a tensor, got \[\]"),
        (lambda x: {"y": [x, "text"]}, GradientError, r"the result\['y'\]\[1\] is str"),
        (lambda x: x > 0.0, DTypeError, "the result is bool; takes floating dtypes: return it beside"),
    ],
)
@pytest.mark.parametrize("call", ["grad", "vjp", "jvp", "jacobian"])
def test_the_function_returns_floating_tensors(
    call: str, result: Any, error: type[Exception], message: str
) -> None:
    x = pg.ones(2)
    run: dict[str, Callable[[], Any]] = {
        "grad": lambda: grad(result)(x),
        "vjp": lambda: vjp(result, x),
        "jvp": lambda: jvp(result, (x,), (x,)),
        "jacobian": lambda: jacobian(result)(x),
    }
    with pytest.raises(error, match=f"{call}: {message}"):
        run[call]()


@pytest.mark.parametrize("result", [3, (1, 2, 3), pg.exp])
def test_aux_comes_in_a_pair(result: Any) -> None:
    with pytest.raises(GradientError, match=r"with has_aux=True the function returns \(result, aux\)"):
        grad(lambda x: result, has_aux=True)(pg.ones(2))


@pytest.mark.parametrize(
    ("argnums", "message"),
    [
        (2, "argnums=2, but the function was called with 2 positional arguments"),
        (-3, "argnums=-3, but"),
        ((0, 0), "names argument 0 twice"),
        ((1, -1), "names argument 1 twice"),
        ("x", "takes an int or a sequence of ints, got 'x'"),
        (1.0, "takes an int or a sequence of ints, got 1.0"),
    ],
)
def test_argnums_name_arguments(argnums: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        grad(lambda x, y: total([x, y]), argnums)(pg.ones(2), pg.ones(2))


def test_there_is_something_to_differentiate() -> None:
    with pytest.raises(GradientError, match=r"grad: there is no tensor to differentiate .* in args"):
        grad(lambda x: pg.ones(()))({"a": [], "b": None})
    with pytest.raises(GradientError, match="vjp: there is no tensor"):
        vjp(lambda: pg.ones(()))
    model = Linear(3, 2)
    model.weight.requires_grad = model.bias.requires_grad = False
    with pytest.raises(GradientError, match="every parameter is frozen"):
        grad(lambda m: total(m(pg.ones((1, 3)))))(model)


@pytest.mark.parametrize("transform", [grad, value_and_grad, jacobian, hessian, vjp])
def test_transforms_take_functions(transform: Any) -> None:
    with pytest.raises(ArgumentError, match=r"takes a function, got Tensor; a result .* \.backward\(\)"):
        transform(pg.ones(()))
    with pytest.raises(ArgumentError, match=r"takes a function, got int$"):
        transform(3)


@pytest.mark.parametrize(
    ("ct", "error", "message"),
    [
        (lambda: pg.ones(3), GradientError, r"ct\['y'\] takes a tensor of Spec\(\(2,\).*got Spec\(\(3,\)"),
        (lambda: 1.0, GradientError, r"ct\['y'\] takes a tensor of .*got float"),
        (lambda: None, GradientError, "got NoneType"),
        (lambda: pg.ones(2, dtype="float64"), GradientError, "got Spec.*float64"),
    ],
)
def test_a_cotangent_fits_the_value(ct: Any, error: type[Exception], message: str) -> None:
    _, pull = vjp(lambda x: {"y": pg.exp(x)}, pg.ones(2))
    with pytest.raises(error, match=message):
        pull({"y": ct()})


def test_a_cotangent_has_the_form_of_the_value() -> None:
    _, pull = vjp(lambda x: {"y": pg.exp(x)}, pg.ones(2))
    with pytest.raises(ArgumentError, match="ct: takes a dict with the keys 'y', got Tensor"):
        pull(pg.ones(2))


def test_tangents_fit_the_primals() -> None:
    x = pg.ones(2)
    with pytest.raises(ArgumentError, match="jvp: primals takes a tuple or list of arguments, got Tensor"):
        jvp(pg.exp, x, (x,))  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="jvp: tangents takes a tuple or list of arguments, got Tensor"):
        jvp(pg.exp, (x,), x)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="tangents: takes a tuple of 1, got a tuple of 2"):
        jvp(pg.exp, (x,), (x, x))
    with pytest.raises(GradientError, match=r"jvp: tangents\[0\] takes a tensor of .*got Spec\(\(3,\)"):
        jvp(pg.exp, (x,), (pg.ones(3),))
    model = Linear(3, 2)
    for tangent, got in ((3.0, "float"), ({"weight": model.weight}, "the keys weight")):
        with pytest.raises(ArgumentError, match=rf"tangents\[0\]: takes a dict .*weight, bias; got {got}"):
            jvp(lambda m: total(m(pg.ones((1, 3)))), (model,), (tangent,))


def test_an_error_in_the_function_leaves_the_thread_as_it_was() -> None:
    def fail(x: Any) -> Any:
        raise KeyError("inside")

    with pytest.raises(KeyError, match="inside"), no_grad():
        grad(fail)(pg.ones(2))
    g = grad(total)(pg.ones(2))
    assert not g.requires_grad
