"""What a captured function cannot do: an error that says so, with the user's line, and nothing has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.errors import ArgumentError, CaptureError
from support.captured import bits, same

kept: dict[str, Any] = {}


class Net(nn.Module):
    """A model in whose middle something happens, after random numbers, running statistics and gradients moved."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(8, 2)
        self.register_buffer("seen", pg.zeros(()))
        self.count = 0
        self.happens: Callable[[Any, pg.Tensor], Any] | None = None

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        h = self.drop(pg.relu(self.norm(self.first(x))))
        self.seen.assign(self.seen + pg.sum(h.detach()))
        if self.happens is not None:
            self.happens(self, h)
        return self.last(h)


def branch(_: Any, h: pg.Tensor) -> None:
    if h.sum() > 0:
        h = h * 2


def loop(_: Any, h: pg.Tensor) -> None:
    while h.sum() > 0:
        h = h - 1


def item(_: Any, h: pg.Tensor) -> None:
    h.sum().item()


def numpy(_: Any, h: pg.Tensor) -> None:
    h.detach().numpy()


def numpy_of_a_parameter(net: Any, _: pg.Tensor) -> None:
    net.first.weight.detach().numpy()


def array(_: Any, h: pg.Tensor) -> None:
    np.asarray(h.detach())


def real(_: Any, h: pg.Tensor) -> None:
    float(h.sum())


def integer(_: Any, h: pg.Tensor) -> None:
    range(pg.argmax(h.sum(axis=0), axis=0))  # type: ignore[arg-type]


def nested_lists(_: Any, h: pg.Tensor) -> None:
    h.tolist()


def contained(_: Any, h: pg.Tensor) -> None:
    _ = 1.0 in h


def nonzero(_: Any, h: pg.Tensor) -> None:
    pg.nonzero(h)


def boolean_mask(_: Any, h: pg.Tensor) -> None:
    h[h > 0]


def moved(_: Any, h: pg.Tensor) -> None:
    h.to("null")


def exported(_: Any, h: pg.Tensor) -> None:
    np.from_dlpack(h.detach())


def attribute(net: Any, h: pg.Tensor) -> None:
    net.hidden = h


def counter(net: Any, _: pg.Tensor) -> None:
    net.count += 1


def buffer(net: Any, h: pg.Tensor) -> None:
    net.seen = net.seen + pg.sum(h.detach())


def mode(net: Any, _: pg.Tensor) -> None:
    net.eval()


def freezing(net: Any, _: pg.Tensor) -> None:
    net.first.weight.requires_grad = False


def casting(net: Any, _: pg.Tensor) -> None:
    net.to("float64")


def seeding(_: Any, __: pg.Tensor) -> None:
    pg.random.manual_seed(3)


def assigning_what_needs_a_gradient(net: Any, h: pg.Tensor) -> None:
    net.seen.assign(pg.sum(h))


def users_own(_: Any, __: pg.Tensor) -> None:
    raise KeyError("mine")


ERRORS: list[tuple[Callable[[Any, pg.Tensor], None], type[BaseException], str]] = [
    (branch, CaptureError, r"by bool\(\).*where.*if h.sum\(\) > 0"),
    (loop, CaptureError, r"by bool\(\).*where.*while h.sum\(\) > 0"),
    (item, CaptureError, r"by item\(\).*return it.*h.sum\(\).item\(\)"),
    (numpy, CaptureError, r"by numpy\(\).*return it.*h.detach\(\).numpy\(\)"),
    (numpy_of_a_parameter, CaptureError, r"by numpy\(\)"),
    (array, CaptureError, r"value of a tensor is read.*np.asarray"),
    (real, CaptureError, r"by float\(\).*return it.*float\(h.sum\(\)\)"),
    (integer, CaptureError, r"by index\(\).*range\("),
    (nested_lists, CaptureError, r"by tolist\(\)"),
    (contained, CaptureError, r"by bool\(\).*1.0 in h"),
    (nonzero, CaptureError, r"nonzero.*mask with where.*pg.nonzero\(h\)"),
    (boolean_mask, CaptureError, r"mask with where.*h\[h > 0\]"),
    (moved, CaptureError, r"moves to null.*move its arguments before.*h.to\("),
    (exported, CaptureError, r"exported.*np.from_dlpack"),
    (attribute, CaptureError, r"Net.hidden is set inside.*net.hidden = h.*return the value"),
    (counter, CaptureError, r"Net.count is set inside.*net.count \+= 1"),
    (buffer, CaptureError, r"Net.seen is set inside.*net.seen =.*self.seen.assign"),
    (mode, CaptureError, r"\.training is set inside.*net.eval\(\)"),
    (freezing, CaptureError, r"requires_grad.*before the call.*requires_grad = False"),
    (casting, CaptureError, r"Net.to.*before.*net.to\("),
    (seeding, CaptureError, r"seeded.*before the call.*manual_seed"),
    (assigning_what_needs_a_gradient, CaptureError, r"needs a gradient.*detach it"),
    (users_own, KeyError, "mine"),
]


@pytest.mark.parametrize(("happens", "error", "message"), ERRORS, ids=lambda p: getattr(p, "__name__", ""))
@pytest.mark.parametrize("zero", [True, False])
def test_an_error_leaves_everything_as_it_was(
    happens: Callable[[Any, pg.Tensor], None],
    error: type[BaseException],
    message: str,
    zero: bool,
    device: str,
) -> None:
    def run(fails: bool) -> Any:
        with pg.use_device(device):
            pg.random.manual_seed(0)
            model = Net()
            optimizer = optim.AdamW(model.parameters(), lr=0.01)
            rng = np.random.default_rng(0)
            x = pg.asarray(rng.standard_normal((6, 4)).astype("float32"))
            y = pg.asarray(rng.integers(0, 2, 6))
            for p in model.parameters():
                p.grad = p.detach() * 0.5
            grads = [p.grad for p in model.parameters()]

            @pg.jit
            def step(x: pg.Tensor, y: pg.Tensor) -> pg.Tensor:
                if zero:
                    optimizer.zero_grad()
                nn.CrossEntropyLoss()(model(x[:3]), y[:3]).backward()
                optimizer.step()
                loss = nn.CrossEntropyLoss()(model(x), y)
                loss.backward()
                optimizer.step()
                return loss

            def state() -> Any:
                own = {k: v for k, v in model.__dict__.items() if not isinstance(v, (nn.Module, pg.Tensor))}
                own["_kinds"] = dict(own["_kinds"])
                return [
                    bits(model.state_dict()),
                    bits([p.grad for p in model.parameters()]),
                    bits(optimizer.state_dict()["state"]),
                    pg.random.get_state()["counters"],
                    {k: v for k, v in own.items() if k != "happens"},
                ]

            pg.random.uniform((1,))
            if fails:
                before = state()
                model.happens = happens
                with pytest.raises(error, match=message) as caught:
                    step(x, y)
                if error is CaptureError:
                    assert __file__ in str(caught.value)
                same(state(), before)
                for p, g in zip(model.parameters(), grads, strict=True):
                    assert p.grad is g
                assert not hasattr(model, "hidden")
                model.happens = None
            return [bits([step(x, y), state()]) for _ in range(2)]

    same(run(True), run(False))


def test_a_captured_tensor_says_what_it_is_when_printed(device: str) -> None:
    texts: list[str] = []
    weight = nn.Parameter(pg.ones((2,), device=device))

    @pg.jit
    def fn(x: pg.Tensor) -> pg.Tensor:
        y = x * weight
        texts.extend([repr(x), str(y), f"{weight}"])
        return y

    fn(pg.zeros((3, 2), device=device))
    assert texts[0] == f"tensor(<captured>, shape=(3, 2), dtype=float32, device='{device}')"
    assert texts[1] == f"tensor(<captured>, shape=(3, 2), dtype=float32, device='{device}', made by multiply)"
    assert texts[2] == f"tensor(<captured>, shape=(2,), dtype=float32, device='{device}', requires_grad=True)"
    assert "1." in repr(weight)


def test_a_captured_tensor_that_escapes(device: str) -> None:
    @pg.jit
    def fn(x: pg.Tensor) -> pg.Tensor:
        kept["it"] = x * 2.0
        return x + 1.0

    x = pg.ones((2,), device=device)
    np.testing.assert_array_equal(fn(x).numpy(), [2, 2])
    assert "<captured>" in repr(kept["it"])
    for use in (
        lambda t: t + 1.0,
        lambda t: t.numpy(),
        lambda t: t.sum().item(),
        lambda t: pg.jit(lambda x: x * t)(x),
        lambda t: pg.jit(lambda a: a + 1.0)(t),
    ):
        with pytest.raises(CaptureError, match="return it from"):
            use(kept["it"])
    np.testing.assert_array_equal(fn(x).numpy(), [2, 2])


def test_a_module_that_the_function_sets_back_is_no_error(device: str) -> None:
    with pg.use_device(device):
        model = Net()
        x = pg.ones((3, 4))

        def fn(x: pg.Tensor) -> pg.Tensor:
            model.eval()
            out = model(x)
            model.train()
            return out

        captured = pg.jit(fn)
        for _ in range(2):
            with pg.no_grad():
                same(bits(captured(x)), bits(fn(x)))
        assert len(captured.info()) == 1
        assert model.training


def test_a_backward_inside_that_leads_outside(device: str) -> None:
    w = nn.Parameter(pg.ones((2,), device=device))

    @pg.jit
    def fn(h: pg.Tensor) -> pg.Tensor:
        loss = (h * h).sum()
        loss.backward()
        return loss

    h = w * 2.0
    with pytest.raises(CaptureError, match=r"multiply computed outside.*detach.*loss.backward\(\)"):
        fn(h)
    assert w.grad is None
    (h * h).sum().backward()
    assert w.grad is not None
    np.testing.assert_array_equal(w.grad.numpy(), [8, 8])


def test_rates_are_set_outside(device: str) -> None:
    with pg.use_device(device):
        model = nn.Linear(2, 2)
        optimizer = optim.SGD(model.parameters(), lr=0.5)
        schedule = optim.StepLR(optimizer, 1)

        @pg.jit
        def fn(x: pg.Tensor, how: str) -> pg.Tensor:
            if how == "rate":
                optimizer.param_groups[0].lr = 0.25
            elif how == "setting":
                optimizer.param_groups[0]["weight_decay"] = 0.25
            elif how == "schedule":
                schedule.step()
            return x + 1.0

        x = pg.ones((2,))
        with pytest.raises(CaptureError, match="learning rate is set inside.*after the call"):
            fn(x, "rate")
        with pytest.raises(CaptureError, match="a schedule steps inside.*after the call"):
            fn(x, "schedule")
        with pytest.raises(CaptureError, match="weight_decay is set inside"):
            fn(x, "setting")
        group = optimizer.param_groups[0]
        assert (group.lr, group.rate.item(), group["weight_decay"], schedule.steps) == (0.5, 0.5, 0.0, 0)
        np.testing.assert_array_equal(fn(x, "").numpy(), [2, 2])


def test_arguments_that_cannot_be_told_apart(device: str) -> None:
    fn = pg.jit(lambda x, other: x)
    x = pg.ones((2,), device=device)
    with pytest.raises(
        CaptureError, match=r"an argument of type ndarray cannot be told.*pass tensors.*fn\(x"
    ):
        fn(x, np.ones(2))
    with pytest.raises(CaptureError, match="an argument of type set"):
        fn(x, {1, 2})
    assert fn(x, (1, 2)) is x


def test_what_is_no_function_or_gives_no_value() -> None:
    def generator() -> Iterator[int]:
        yield 1

    async def coroutine() -> None:
        pass

    with pytest.raises(ArgumentError, match="takes a function, got int"):
        pg.jit(3)  # type: ignore[arg-type]
    for fn in (generator, coroutine):
        with pytest.raises(ArgumentError, match="generator or coroutine"):
            pg.jit(fn)


def test_results_that_would_keep_symbols(device: str) -> None:
    class Result:
        def __init__(self, value: pg.Tensor) -> None:
            self.value = value

    x = pg.ones((2,), device=device)
    with pytest.raises(CaptureError, match="used up once: return a list"):
        pg.jit(lambda x: (x * i for i in range(3)))(x)
    with pytest.raises(
        CaptureError, match=r"an object of type Result with tensors inside.*register_container"
    ):
        pg.jit(lambda x: Result(x * 2.0))(x)
    with pytest.raises(CaptureError, match="an object of type set with tensors inside"):
        pg.jit(lambda x: {x * 2.0})(x)


def test_errors_of_ops_are_those_of_eager_mode(device: str) -> None:
    x = pg.ones((2, 3), device=device)
    with pytest.raises(ValueError, match="add"):
        pg.jit(lambda x: x + pg.ones((4,), device=device))(x)
    with pytest.raises(TypeError):
        pg.jit(lambda x: x & 1)(x)
    index = pg.asarray([0, 7], device=device)
    captured = pg.jit(lambda x, i: pg.take(x, i, axis=0))
    with pytest.raises(IndexError):
        captured(x, index).numpy()
    np.testing.assert_array_equal(captured(x, pg.asarray([0, 1], device=device)).numpy(), np.ones((2, 3)))
