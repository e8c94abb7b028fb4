"""A small module: an object that owns tensors."""

from __future__ import annotations

import numpy as np

import plugrad as pg


class Linear:
    """``x @ weight + bias``, with ``frozen`` among its parameters, which needs no gradient."""

    def __init__(
        self, inputs: int, outputs: int, *, dtype: str = "float32", device: str | None = None
    ) -> None:
        rng = np.random.default_rng(inputs * 10 + outputs)

        def parameter(*shape: int) -> pg.Tensor:
            return pg.asarray(rng.standard_normal(shape), dtype=dtype, device=device)

        self.weight = parameter(inputs, outputs).requires_grad_()
        self.bias = parameter(outputs).requires_grad_()
        self.frozen = parameter(outputs)

    def __tensors__(self) -> dict[str, pg.Tensor]:
        return {"weight": self.weight, "bias": self.bias, "frozen": self.frozen}

    def __call__(self, x: pg.Tensor) -> pg.Tensor:
        return (x @ self.weight + self.bias) * self.frozen
