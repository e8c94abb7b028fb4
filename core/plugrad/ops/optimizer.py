"""Updates of optimizers: from a parameter, its gradient and its state to the new parameter and state.

All have bodies; a backend may run each as one kernel. ``lr`` and ``step`` (the number of this update, from 1)
are 0-d tensors of the parameter's dtype, or float32 for a 16-bit one, so that they change without a new
signature. The formulas and the names of their constants are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.factors import Factor, aligned
from plugrad.dispatch.op import op
from plugrad.dispatch.sample import ErrorSample, ErrorSampler, Sample, Sampler, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ShapeError
from plugrad.ops.comparison import where
from plugrad.ops.transcendental import expm1, sqrt
from plugrad.spec import Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor


def _updated(*names: str) -> Any:
    """The results have the specs of the operands of these names, which have one shape; what else there is, is 0-d."""

    def infer(call: Any) -> tuple[Spec, ...]:
        param: Spec = call.param
        for name in (o.name for o in call.op.operands):
            shape = getattr(call, name).shape
            if name not in ("param", "grad", *names) and shape != ():
                raise ShapeError(f"{call.op.name}: {name} has shape {shape}; takes a 0-d tensor")
        for name in ("grad", *names):
            spec: Spec = getattr(call, name)
            if spec.shape != param.shape:
                raise ShapeError(
                    f"{call.op.name}: {name} has shape {spec.shape}, the parameter {param.shape}; "
                    "they must be the same"
                )
        return tuple(getattr(call, name) for name in names)

    return infer


def _elements(call: Any, results: Sequence[Spec]) -> Iterable[Factor]:
    """Each element of a parameter has its own state."""
    given = (o.name for o in call.op.operands if o.name not in ("step", "lr"))
    return aligned(*given)(call, results)


def _samples(states: int, *settings: dict[str, Any]) -> Sampler:
    """A parameter, its gradient, ``states`` positive states, step and lr, for each of the settings."""

    def make(rng: np.random.Generator) -> list[Sample]:
        return [
            Sample(
                rng.standard_normal(shape),
                rng.standard_normal(shape),
                *(rng.uniform(0.5, 1.0, shape) for _ in range(states)),
                np.asarray(step, np.float64),
                np.asarray(0.1),
                **attributes,
            )
            for attributes in settings
            for shape, step in (((3, 5), 1.0), ((), 7.0), ((0,), 2.0))
        ]

    return make


def _refused(states: int, *, step: bool = True, **attributes: Any) -> ErrorSampler:
    """A gradient, a last state and a learning rate of another shape than they must have, one by one."""
    right = [np.zeros((2, 3)), np.zeros((2, 3)), *[np.ones((2, 3))] * states, *[np.ones(())] * (1 + step)]

    def wrong(place: int, shape: tuple[int, ...]) -> ErrorSample:
        operands = [*right[:place], np.ones(shape), *right[place + 1 :]]
        return ErrorSample(ShapeError, *operands, **attributes)

    return errors(
        wrong(1, (3,)), *([wrong(1 + states, (3, 2))] if states else []), wrong(len(right) - 1, (2, 3))
    )


def _decayed(param: Tensor, grad: Tensor, weight_decay: float) -> Tensor:
    """The gradient of the loss with ``weight_decay / 2`` times the squared norm added."""
    return grad + param * weight_decay if weight_decay else grad


@op(
    factors=_elements,
    infer=_updated("param", "velocity"),
    dtypes=FLOATING,
    outputs=("param", "velocity"),
    differentiable=False,
    samples=_samples(
        1,
        {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.01, "nesterov": False},
        {"momentum": 0.9, "dampening": 0.0, "weight_decay": 0.0, "nesterov": True},
    ),
    errors=_refused(1, momentum=0.9, dampening=0.0, weight_decay=0.0, nesterov=False),
)
def sgd_momentum_update(
    param: Tensor,
    grad: Tensor,
    velocity: Tensor,
    step: Tensor,
    lr: Tensor,
    *,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Tensor, Tensor]:
    """Stochastic gradient descent with momentum (Polyak 1964; Nesterov 1983 as Sutskever et al. 2013 write it).

    ``velocity = momentum * velocity + (1 - dampening) * grad``, whose first value is the gradient itself.

    Returns:
        The new parameter and velocity.

    Raises:
        ShapeError: if the gradient or a state has another shape than the parameter, or another operand is not 0-d.
    """
    grad = _decayed(param, grad, weight_decay)
    share = where(step == 1, 1.0, step * 0 + (1 - dampening)).astype(grad.dtype)
    velocity = velocity * momentum + grad * share
    direction = grad + velocity * momentum if nesterov else velocity
    return param - direction * lr.astype(param.dtype), velocity


@op(
    factors=_elements,
    infer=_updated("param"),
    dtypes=FLOATING,
    differentiable=False,
    samples=lambda rng: [
        Sample(*(s.operands[:2] + s.operands[3:]), weight_decay=w)
        for w in (0.0, 0.01)
        for s in _samples(0, {})(rng)
    ],
    errors=_refused(0, step=False, weight_decay=0.0),
)
def sgd_update(param: Tensor, grad: Tensor, lr: Tensor, *, weight_decay: float) -> Tensor:
    """Stochastic gradient descent: ``param - lr * grad``.

    Returns:
        The new parameter.

    Raises:
        ShapeError: if the gradient has another shape than the parameter, or ``lr`` is not 0-d.
    """
    return param - _decayed(param, grad, weight_decay) * lr.astype(param.dtype)


@op(
    factors=_elements,
    infer=_updated("param", "mean", "square"),
    dtypes=FLOATING,
    outputs=("param", "mean", "square"),
    differentiable=False,
    samples=_samples(
        2,
        {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "decoupled": False},
        {"beta1": 0.8, "beta2": 0.9, "eps": 1e-6, "weight_decay": 0.1, "decoupled": False},
        {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "decoupled": True},
    ),
    errors=_refused(2, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False),
)
def adam_update(
    param: Tensor,
    grad: Tensor,
    mean: Tensor,
    square: Tensor,
    step: Tensor,
    lr: Tensor,
    *,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Adam (Kingma and Ba 2015, arXiv:1412.6980); AdamW where the weight decay is ``decoupled`` (arXiv:1711.05101).

    Returns:
        The new parameter, and the running means of the gradient and of its square.

    Raises:
        ShapeError: if the gradient or a state has another shape than the parameter, or another operand is not 0-d.
    """
    if decoupled:
        param = param - param * (lr * weight_decay).astype(param.dtype)
    else:
        grad = _decayed(param, grad, weight_decay)
    mean = mean * beta1 + grad * (1 - beta1)
    square = square * beta2 + grad * grad * (1 - beta2)
    # 1 - beta ** step, which float32 would cancel.
    left1 = -expm1(step * math.log(beta1)) if beta1 else step * 0 + 1
    left2 = -expm1(step * math.log(beta2)) if beta2 else step * 0 + 1
    root = sqrt(square) / sqrt(left2).astype(param.dtype) + eps
    return param - mean / root * (lr / left1).astype(param.dtype), mean, square


@op(
    factors=_elements,
    infer=_updated("param", "square", "mean", "velocity"),
    dtypes=FLOATING,
    outputs=("param", "square", "mean", "velocity"),
    differentiable=False,
    may_alias=True,  # without momentum the velocity, and where it is not centered the mean, are given back
    samples=lambda rng: [
        Sample(
            rng.standard_normal((3, 5)),
            rng.standard_normal((3, 5)),
            rng.uniform(0.5, 1.0, (3, 5)),
            rng.uniform(0.1, 0.2, (3, 5)),
            rng.standard_normal((3, 5)),
            rng.uniform(0.1, 0.2, ()),
            alpha=0.9,
            eps=1e-8,
            weight_decay=w,
            momentum=m,
            centered=c,
        )
        for w, m, c in ((0.0, 0.0, False), (0.1, 0.9, False), (0.0, 0.5, True))
    ],
    errors=_refused(3, step=False, alpha=0.9, eps=1e-8, weight_decay=0.0, momentum=0.9, centered=False),
)
def rmsprop_update(
    param: Tensor,
    grad: Tensor,
    square: Tensor,
    mean: Tensor,
    velocity: Tensor,
    lr: Tensor,
    *,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """RMSprop (Tieleman and Hinton 2012; centred as Graves 2013, arXiv:1308.0850, has it).

    Returns:
        The new parameter, the running means of the squared gradient and (if ``centered``) of the gradient, and
        (with ``momentum``) the velocity; a state that is not in use is returned as it came.

    Raises:
        ShapeError: if the gradient or a state has another shape than the parameter, or another operand is not 0-d.
    """
    grad = _decayed(param, grad, weight_decay)
    square = square * alpha + grad * grad * (1 - alpha)
    spread = square
    if centered:
        mean = mean * alpha + grad * (1 - alpha)
        spread = square - mean * mean
    direction = grad / (sqrt(spread) + eps)
    if momentum:
        direction = velocity = velocity * momentum + direction
    return param - direction * lr.astype(param.dtype), square, mean, velocity


@op(
    factors=_elements,
    infer=_updated("param", "total"),
    dtypes=FLOATING,
    outputs=("param", "total"),
    differentiable=False,
    samples=_samples(
        1,
        {"lr_decay": 0.0, "eps": 1e-10, "weight_decay": 0.0},
        {"lr_decay": 0.1, "eps": 1e-6, "weight_decay": 0.1},
    ),
    errors=_refused(1, lr_decay=0.0, eps=1e-10, weight_decay=0.0),
)
def adagrad_update(
    param: Tensor,
    grad: Tensor,
    total: Tensor,
    step: Tensor,
    lr: Tensor,
    *,
    lr_decay: float,
    eps: float,
    weight_decay: float,
) -> tuple[Tensor, Tensor]:
    """Adagrad (Duchi, Hazan and Singer 2011).

    Returns:
        The new parameter, and the sum of the squared gradients.

    Raises:
        ShapeError: if the gradient or a state has another shape than the parameter, or another operand is not 0-d.
    """
    grad = _decayed(param, grad, weight_decay)
    total = total + grad * grad
    rate = (lr / ((step - 1) * lr_decay + 1)).astype(param.dtype)
    return param - grad / (sqrt(total) + eps) * rate, total


__all__ = ["adagrad_update", "adam_update", "rmsprop_update", "sgd_momentum_update", "sgd_update"]
