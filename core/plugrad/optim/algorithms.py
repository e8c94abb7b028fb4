"""The optimizers. Each is its settings and the op of one update; the formulas stand in `plugrad.ops.optimizer`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from plugrad import ops
from plugrad.errors import ArgumentError
from plugrad.optim.optimizer import Optimizer, ParamGroup
from plugrad.tensor import Tensor

Params = Iterable[Tensor] | Iterable[Mapping[str, Any]]


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Polyak 1964) and Nesterov's variant of it."""

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        """Take the parameters.

        Args:
            params: parameters, or groups of them; see `Optimizer`.
            lr: learning rate.
            momentum: share of the last direction that is kept, in [0, 1).
            dampening: share of the gradient that is left out of the direction.
            weight_decay: adds ``weight_decay * param`` to the gradient.
            nesterov: look one step ahead; needs momentum, and no dampening.
        """
        settings = {
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
        }
        super().__init__(params, lr, settings)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ArgumentError if a setting is impossible."""
        super().check(settings)
        if settings["nesterov"] and (settings["momentum"] <= 0 or settings["dampening"] != 0):
            raise ArgumentError("SGD: nesterov needs a momentum above 0 and a dampening of 0")

    states = ("velocity",)

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: ParamGroup) -> None:
        """Change one parameter."""
        s = group.settings
        if not s["momentum"]:
            p.assign(ops.sgd_update(p, grad, group.rate, weight_decay=s["weight_decay"]))
            return
        new, velocity = ops.sgd_momentum_update(p, grad, state["velocity"], state["step"], group.rate, **s)
        p.assign(new)
        state["velocity"].assign(velocity)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, arXiv:1412.6980)."""

    states = ("mean", "square")
    _decoupled = False

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        """Take the parameters.

        Args:
            params: parameters, or groups of them; see `Optimizer`.
            lr: learning rate.
            betas: shares of the running means of the gradient and of its square that are kept, in [0, 1).
            eps: added to the root of the mean square.
            weight_decay: adds ``weight_decay * param`` to the gradient; in AdamW, takes
                ``lr * weight_decay * param`` from the parameter.
        """
        super().__init__(params, lr, {"betas": tuple(betas), "eps": eps, "weight_decay": weight_decay})

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ArgumentError if a setting is impossible."""
        super().check(settings)
        betas = settings["betas"]
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise ArgumentError(f"{type(self).__name__}: betas takes two numbers in [0, 1), got {betas}")

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: ParamGroup) -> None:
        """Change one parameter."""
        s = group.settings
        new, mean, square = ops.adam_update(
            p,
            grad,
            state["mean"],
            state["square"],
            state["step"],
            group.rate,
            beta1=s["betas"][0],
            beta2=s["betas"][1],
            eps=s["eps"],
            weight_decay=s["weight_decay"],
            decoupled=self._decoupled,
        )
        p.assign(new)
        state["mean"].assign(mean)
        state["square"].assign(square)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101)."""

    _decoupled = True

    def __init__(
        self,
        params: Params,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        """Take the parameters; the arguments are those of `Adam`."""
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """RMSprop (Tieleman and Hinton 2012)."""

    states = ("square", "mean", "velocity")

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ) -> None:
        """Take the parameters.

        Args:
            params: parameters, or groups of them; see `Optimizer`.
            lr: learning rate.
            alpha: share of the running mean of the squared gradient that is kept, in [0, 1].
            eps: added to the root of that mean.
            weight_decay: adds ``weight_decay * param`` to the gradient.
            momentum: share of the last direction that is kept.
            centered: divide by the standard deviation of the gradient (Graves 2013, arXiv:1308.0850).
        """
        settings = {
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "centered": centered,
        }
        super().__init__(params, lr, settings)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Raise ArgumentError if a setting is impossible."""
        super().check(settings)
        if not 0 <= settings["alpha"] <= 1:
            raise ArgumentError(f"RMSprop: alpha takes a number in [0, 1], got {settings['alpha']}")

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: ParamGroup) -> None:
        """Change one parameter."""
        results = ops.rmsprop_update(
            p, grad, state["square"], state["mean"], state["velocity"], group.rate, **group.settings
        )
        p.assign(results[0])
        for name, value in zip(self.states, results[1:], strict=True):
            state[name].assign(value)


class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan and Singer 2011)."""

    states = ("total",)

    def __init__(
        self,
        params: Params,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        """Take the parameters.

        Args:
            params: parameters, or groups of them; see `Optimizer`.
            lr: learning rate.
            lr_decay: divides the learning rate by ``1 + (step - 1) * lr_decay``.
            weight_decay: adds ``weight_decay * param`` to the gradient.
            initial_accumulator_value: where the sum of squared gradients starts.
            eps: added to the root of that sum.
        """
        if not initial_accumulator_value >= 0:
            raise ArgumentError(
                f"Adagrad: initial_accumulator_value takes a number of at least 0, got {initial_accumulator_value}"
            )
        self._start = float(initial_accumulator_value)
        super().__init__(params, lr, {"lr_decay": lr_decay, "weight_decay": weight_decay, "eps": eps})

    def initial(self, name: str, p: Tensor) -> Tensor:
        """The first sum of squares."""
        del name
        return ops.full(p.shape, self._start, dtype=p.dtype, device=p.device)

    def update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: ParamGroup) -> None:
        """Change one parameter."""
        new, total = ops.adagrad_update(p, grad, state["total"], state["step"], group.rate, **group.settings)
        p.assign(new)
        state["total"].assign(total)
