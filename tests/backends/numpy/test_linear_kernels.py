"""The roads of small linear layers: rows that are turned first, and views."""

from __future__ import annotations

import numpy as np
import pytest

import plugrad as pg

SIZES = [
    (32, 64, 128),
    (16, 8, 300),
    (15, 64, 128),
    (17, 33, 70),
    (1, 5, 64),
    (16, 128, 64),
    (20, 0, 64),
    (0, 4, 64),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "depth", "columns"), SIZES)
def test_small_layers_and_their_gradients(rows: int, depth: int, columns: int, bias: bool) -> None:
    generator = np.random.default_rng(0)
    x, w, b, ct = (
        generator.standard_normal(s).astype(np.float32)
        for s in ((rows, depth), (columns, depth), (columns,), (rows, columns))
    )
    for turned in (False, True):
        tensors = [pg.asarray(a, device="numpy") for a in ((x.T, w.T, b, ct) if turned else (x, w, b, ct))]

        def step(
            x: pg.Tensor, w: pg.Tensor, b: pg.Tensor, ct: pg.Tensor, turned: bool = turned
        ) -> tuple[pg.Tensor, ...]:
            if turned:
                x, w = x.mT, w.mT

            def loss(x: pg.Tensor, w: pg.Tensor, b: pg.Tensor) -> pg.Tensor:
                return (pg.linear(x, w, b if bias else None) * ct).sum()

            return (pg.linear(x, w, b if bias else None), *pg.grad(loss, argnums=(0, 1, 2))(x, w, b))

        wide = [a.astype(np.float64) for a in (x, w, b, ct)]
        wanted = [
            wide[0] @ wide[1].T + (wide[2] if bias else 0),
            wide[3] @ wide[1],
            wide[3].T @ wide[0],
            wide[3].sum(0) if bias else np.zeros(columns),
        ]
        captured = pg.jit(step)
        for found in (step(*tensors), captured(*tensors), captured(*tensors)):
            for got, want in zip(found, wanted, strict=True):
                np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-4)
