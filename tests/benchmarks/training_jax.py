"""The training steps in JAX: plain functions of a dictionary of parameters, compiled, with their buffers given away."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp
from training_cases import ADAMW, GPT_HEADS, GPT_LAYERS, VOCABULARY, Case

Parameters = dict[str, Any]


def _linear(p: Parameters, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


def _conv(p: Parameters, name: str, x: Any, layout: str) -> Any:
    y = lax.conv_general_dilated(
        x, p[f"{name}.weight"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=(layout, "OIHW", layout)
    )
    return y + _channels(p[f"{name}.bias"], layout)


def _channels(x: Any, layout: str) -> Any:
    return x if layout == "NHWC" else x[:, None, None]


def _pool(x: Any, layout: str) -> Any:
    window = tuple(2 if axis in "HW" else 1 for axis in layout)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")


def _flat(x: Any, layout: str) -> Any:
    """The features in the order of the other frameworks."""
    return (x.transpose(0, 3, 1, 2) if layout == "NHWC" else x).reshape(x.shape[0], -1)


def _layer_norm(p: Parameters, name: str, x: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    rstd = lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5)
    return centred * rstd * p[f"{name}.weight"] + p[f"{name}.bias"]


def mlp(p: Parameters, state: Any, x: Any, layout: str) -> Any:
    """Linear layers with ReLU between them."""
    names = [name.removesuffix(".weight") for name in p if name.endswith(".weight")]
    for name in names[:-1]:
        x = jax.nn.relu(_linear(p, name, x))
    return _linear(p, names[-1], x), state


def cnn(p: Parameters, state: Any, x: Any, layout: str) -> Any:
    """Two convolutions with ReLU and pools, and two linear layers."""
    for name in ("0", "3"):
        x = _pool(jax.nn.relu(_conv(p, name, x, layout)), layout)
    return _linear(p, "9", jax.nn.relu(_linear(p, "7", _flat(x, layout)))), state


def batch_norm_cnn(p: Parameters, state: Any, x: Any, layout: str) -> Any:
    """Six convolutions, each with batch norm and ReLU, and a pool after each pair."""
    axes = tuple(i for i, axis in enumerate(layout) if axis != "C")
    running = {}
    for i in range(6):
        x = _conv(p, f"conv{i}", x, layout)
        mean, variance = x.mean(axes), x.var(axes)
        count = x.size // mean.size
        old_mean, old_variance = state[f"norm{i}"]
        running[f"norm{i}"] = (
            0.9 * old_mean + 0.1 * mean,
            0.9 * old_variance + 0.1 * variance * (count / (count - 1)),
        )
        scale = p[f"norm{i}.weight"] * lax.rsqrt(variance + 1e-5)
        shift = p[f"norm{i}.bias"] - mean * scale
        x = jax.nn.relu(x * _channels(scale, layout) + _channels(shift, layout))
        if i % 2:
            x = _pool(x, layout)
    return _linear(p, "head", _flat(x, layout)), running


def gpt(p: Parameters, state: Any, x: Any, layout: str) -> Any:
    """A small language model."""
    n, t = x.shape
    x = p["embedding.weight"][x] + p["embedding_of_place.weight"]
    e = x.shape[-1]
    for i in range(GPT_LAYERS):
        name = f"blocks.{i}"
        parts = _linear(p, f"{name}.qkv", _layer_norm(p, f"{name}.norm1", x))
        q, k, v = jnp.moveaxis(parts.reshape(n, t, 3, GPT_HEADS, e // GPT_HEADS), 2, 0)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + _linear(p, f"{name}.out", y.reshape(n, t, e))
        inner = _linear(p, f"{name}.up", _layer_norm(p, f"{name}.norm2", x))
        x = x + _linear(p, f"{name}.down", jax.nn.gelu(inner, approximate=True))
    return _linear(p, "head", _layer_norm(p, "norm", x)).reshape(-1, VOCABULARY), state


def lstm(p: Parameters, state: Any, x: Any, layout: str) -> Any:
    """A recurrent language model; what the input adds to the gates is one product for all steps."""
    x = p["embedding.weight"][x.T]
    given = x @ p["lstm.weight_ih_l0"].T + (p["lstm.bias_ih_l0"] + p["lstm.bias_hh_l0"])

    def cell(carry: Any, given: Any) -> Any:
        h, c = carry
        i, f, g, o = jnp.split(given + h @ p["lstm.weight_hh_l0"].T, 4, axis=-1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[1], 256), x.dtype)
    _, outputs = lax.scan(cell, (zero, zero), given)
    return _linear(p, "head", outputs.transpose(1, 0, 2)).reshape(-1, VOCABULARY), state


MODELS: dict[str, Callable[..., Any]] = {
    "mlp-small": mlp,
    "mlp-large": mlp,
    "cnn": cnn,
    "cnn-bn": batch_norm_cnn,
    "gpt": gpt,
    "lstm": lstm,
}


def _loss(p: Parameters, state: Any, x: Any, target: Any, *, model: Any, layout: str) -> Any:
    scores, state = model(p, state, x, layout)
    rows = jax.nn.log_softmax(scores)
    return -jnp.take_along_axis(rows, target[:, None], axis=1).mean(), state


def _adamw(p: Any, g: Any, mean: Any, square: Any, t: Any) -> tuple[Any, Any, Any]:
    (beta1, beta2), lr = ADAMW["betas"], ADAMW["lr"]
    mean = beta1 * mean + (1 - beta1) * g
    square = beta2 * square + (1 - beta2) * g * g
    root = jnp.sqrt(square) / jnp.sqrt(1 - beta2**t) + ADAMW["eps"]
    p = p * (1 - lr * ADAMW["weight_decay"]) - lr / (1 - beta1**t) * mean / root
    return p, mean, square


def _step(held: Any, x: Any, target: Any, *, model: Any, layout: str) -> Any:
    p, means, squares, t, state = held
    loss = partial(_loss, model=model, layout=layout)
    (value, state), grads = jax.value_and_grad(loss, has_aux=True)(p, state, x, target)
    t = t + 1
    new = {name: _adamw(p[name], grads[name], means[name], squares[name], t) for name in p}
    parts = [{name: parts[i] for name, parts in new.items()} for i in range(3)]
    return (*parts, t, state), value


def prepare(threads: int) -> None:
    """Load what is loaded late; the environment and the process's affinity have set the threads."""
    del threads
    jax.jit(jax.value_and_grad(lambda w: (w @ w).sum()))(jnp.ones((2, 2)))[0].block_until_ready()


def build(case: Case, variant: str) -> tuple[Callable[[], Any], Callable[[], int]]:
    """The step of a case; the variants are ``default`` and ``channels_last``."""
    x, target = case.example()
    if not case.shapes:
        return _activation(x, target), lambda: 0
    layout = "NHWC" if variant == "channels_last" else "NCHW"
    if x.ndim == 4 and layout == "NHWC":
        x = x.transpose(0, 2, 3, 1)
    p = {name: jnp.array(value) for name, value in case.parameters().items()}
    zeros, again = ({name: jnp.zeros_like(v) for name, v in p.items()} for _ in range(2))
    state = {}
    if case.name == "cnn-bn":
        sizes = {f"norm{i}": p[f"norm{i}.weight"].shape for i in range(6)}
        state = {name: (jnp.zeros(size), jnp.ones(size)) for name, size in sizes.items()}
    held = (p, zeros, again, jnp.zeros((), jnp.float32), state)
    inputs, labels = jnp.array(x), jnp.array(target.reshape(-1).astype(np.int32))
    run = jax.jit(partial(_step, model=MODELS[case.name], layout=layout), donate_argnums=0)

    def step() -> Any:
        nonlocal held
        held, loss = run(held, inputs, labels)
        return loss

    # The loss may be there before the parameters are: wait for those, too.
    return (lambda: (step(), held)), lambda: 0


def _activation(x: Any, ct: Any) -> Callable[[], Any]:
    @jax.jit
    def run(x: Any, ct: Any) -> Any:
        y, pull = jax.vjp(partial(jax.nn.gelu, approximate=True), x)
        return y, pull(ct)[0]

    arrays = jnp.array(x), jnp.array(ct)
    return lambda: run(*arrays)


def read(result: Any) -> list[Any]:
    """The results as NumPy arrays."""
    return [np.asarray(r) for r in result if not isinstance(r, tuple)]


def wait(result: Any) -> None:
    """Return when the results are there."""
    jax.block_until_ready(result)


def describe() -> str:
    """The version."""
    return jax.__version__
