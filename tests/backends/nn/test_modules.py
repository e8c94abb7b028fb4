"""Modules by value: state that is taken whole or not at all, gradients by transforms, moves, initialisation."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import plugrad as pg
from plugrad import nn, optim
from plugrad.errors import CheckpointError


class Tied(nn.Module):
    """Two layers with one weight, a frozen parameter and a buffer."""

    def __init__(self, device: str) -> None:
        super().__init__()
        pg.manual_seed(2)
        self.first = nn.Linear(3, 3, device=device)
        self.second = nn.Linear(3, 3, bias=False, device=device)
        self.second.weight = self.first.weight
        self.register_parameter("scale", pg.full((3,), 2.0, device=device))
        self.register_buffer("shift", pg.full((3,), 0.5, device=device))

    def forward(self, x: pg.Tensor) -> pg.Tensor:
        return self.second(pg.tanh(self.first(x))) * self.scale + self.shift


def inputs(device: str) -> pg.Tensor:
    return pg.asarray(np.random.default_rng(0).standard_normal((4, 3)).astype("float32"), device=device)


def values(module: nn.Module) -> dict[str, np.ndarray]:
    return {k: t.numpy().copy() for k, t in module.state_dict().items()}


def test_a_state_that_does_not_fit_changes_no_value(device: str) -> None:
    net = Tied(device)
    before = values(net)
    for wrong in (
        {"shift": pg.zeros((2,), device=device)},
        {"unknown": pg.zeros((2,), device=device)},
        {"scale": pg.zeros((3,), dtype="int64", device=device)},
        {"scale": object()},
    ):
        state = {k: t * 0 for k, t in net.state_dict().items()}
        with pytest.raises(CheckpointError, match=next(iter(wrong))):
            net.load_state_dict({**state, **wrong})
    for key, value in values(net).items():
        np.testing.assert_array_equal(value, before[key])
    net.load_state_dict({k: v + 1 for k, v in before.items()})
    for key, value in values(net).items():
        np.testing.assert_array_equal(value, before[key] + 1)
    assert net.first.weight is net.second.weight
    assert net.first.weight.requires_grad
    assert not net.scale.requires_grad


def test_a_state_dict_keeps_its_values_while_training_goes_on(device: str) -> None:
    net = Tied(device)
    state, before = net.state_dict(), values(net)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    net(inputs(device)).sum().backward()
    optimizer.step()
    assert (net.first.weight.numpy() != before["first.weight"]).any()
    for key, value in before.items():
        np.testing.assert_array_equal(state[key].numpy(), value)


def test_transforms_differentiate_a_module_as_backward_does(device: str) -> None:
    net, x = Tied(device), inputs(device)

    def loss(module: Tied, x: pg.Tensor) -> pg.Tensor:
        return (module(x) ** 2).mean()

    value, grads = pg.value_and_grad(loss)(net, x)
    assert list(grads) == ["first.weight", "first.bias"]
    whole = loss(net, x)
    assert float(whole) == pytest.approx(float(value), rel=1e-6)
    whole.backward()
    for name, p in net.named_parameters():
        if p.requires_grad:
            np.testing.assert_allclose(grads[name].numpy(), p.grad.numpy(), rtol=1e-5, atol=1e-7)
    by_input = pg.grad(loss, argnums=1)(net, x)
    x.requires_grad = True
    loss(net, x).backward()
    np.testing.assert_allclose(by_input.numpy(), x.grad.numpy(), rtol=1e-5, atol=1e-7)


def test_copies_share_among_themselves_alone(device: str) -> None:
    net, x = Tied(device), inputs(device)
    net.eval()
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.first.weight is other.second.weight
        assert other.first.weight is not net.first.weight
        assert not other.scale.requires_grad
        assert other.first.weight.requires_grad
        assert not other.first.training
        assert [n for n, _ in other.named_children()] == ["first", "second"]
        np.testing.assert_array_equal(other(x).numpy(), net(x).numpy())


def test_an_optimizer_keeps_its_parameters_through_a_move(device: str) -> None:
    net = Tied(device)
    with_gradient = [net.first.weight, net.first.bias]
    optimizer = optim.SGD(with_gradient, lr=0.5)
    net(inputs(device)).sum().backward()
    grad = net.first.bias.grad.numpy()
    net.to("float64")
    assert net.first.bias is with_gradient[1]
    np.testing.assert_allclose(net.first.bias.grad.numpy(), grad)
    before = net.first.bias.numpy().copy()
    optimizer.step()
    np.testing.assert_allclose(net.first.bias.numpy(), before - 0.5 * grad, rtol=1e-6)
    assert net(inputs(device).astype("float64")).dtype is pg.float64


def test_initialisations_have_the_spread_that_they_say(device: str) -> None:
    pg.manual_seed(0)
    weight = pg.zeros((300, 40, 5), device=device)
    fan_in, fan_out = 200, 1500
    relu = np.sqrt(2)
    cases = [
        (nn.init.xavier_uniform, {"gain": 2.0}, 2 * np.sqrt(2 / (fan_in + fan_out)), True),
        (nn.init.xavier_normal, {}, np.sqrt(2 / (fan_in + fan_out)), False),
        (nn.init.kaiming_uniform, {}, relu / np.sqrt(fan_in), True),
        (nn.init.kaiming_uniform, {"a": np.sqrt(5)}, 1 / np.sqrt(3 * fan_in), True),
        (nn.init.kaiming_normal, {"mode": "fan_out", "nonlinearity": "relu"}, relu / np.sqrt(fan_out), False),
        (nn.init.kaiming_normal, {"nonlinearity": "tanh"}, 5 / 3 / np.sqrt(fan_in), False),
        (nn.init.normal, {"std": 0.3}, 0.3, False),
        (nn.init.uniform, {"a": -1.0, "b": 1.0}, 1 / np.sqrt(3), True),
    ]
    for fill, options, std, is_uniform in cases:
        assert fill(weight, **options) is weight
        host = weight.numpy()
        assert host.std() == pytest.approx(std, rel=0.02)
        assert abs(host.mean()) < 4 * std / np.sqrt(host.size)
        # A uniform distribution ends at sqrt(3) deviations, a normal one of this many draws beyond 4.
        assert (np.abs(host).max() / std < 1.8) == is_uniform
    np.testing.assert_array_equal(nn.init.ones(weight).numpy(), np.ones(weight.shape))
    np.testing.assert_array_equal(nn.init.constant(weight, -2.5).numpy(), np.full(weight.shape, -2.5))
    np.testing.assert_array_equal(nn.init.zeros(weight).numpy(), np.zeros(weight.shape))


@pytest.mark.parametrize("shape", [(4, 6), (6, 4), (5, 2, 3)])
def test_orthogonal(shape: tuple[int, ...], device: str) -> None:
    weight = nn.init.orthogonal(pg.zeros(shape, dtype="float64", device=device), gain=2.0)
    m = weight.numpy().reshape(shape[0], -1)
    square = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(square, 4 * np.eye(len(square)), atol=1e-12)


def test_initialisation_is_seeded_and_records_nothing(device: str) -> None:
    layers = []
    for _ in range(2):
        pg.manual_seed(7)
        layers.append(nn.Sequential(nn.Conv2d(2, 3, 3, device=device), nn.LSTM(3, 4, device=device)))
    for a, b in zip(layers[0].parameters(), layers[1].parameters(), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert a.is_leaf
        assert a.requires_grad
    weight = layers[0][0].weight
    before = weight.numpy().copy()
    layers[0][0].reset_parameters()
    assert weight is layers[0][0].weight
    assert (weight.numpy() != before).any()
    generator = pg.random.Generator(3)
    a = nn.init.normal(pg.zeros((5,), device=device), generator=generator).numpy()
    b = nn.init.normal(pg.zeros((5,), device=device), generator=pg.random.Generator(3)).numpy()
    np.testing.assert_array_equal(a, b)
    embedding = nn.Embedding(4, 3, padding_idx=-2, device=device)
    assert (embedding.weight.numpy() == 0).all(axis=1).tolist() == [False, False, True, False]
