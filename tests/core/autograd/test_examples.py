"""The examples in docstrings run."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

import pytest

import plugrad as pg
from plugrad import modes, tree
from plugrad.autograd import custom_vjp, grad
from plugrad.dispatch.modes import local


def run(doc: Any, **names: Any) -> dict[str, Any]:
    """Run the indented blocks of a docstring that follow a ``::``."""
    blocks = re.findall(r"::\n\n((?: {4}.*\n|\n)+)", f"{inspect.getdoc(doc)}\n")
    assert blocks
    scope = {"plugrad": pg, "Tensor": pg.Tensor, **names}
    for block in blocks:
        exec("from __future__ import annotations\n" + inspect.cleandoc("\n" + block), scope)
    return scope


def test_custom_vjp() -> None:
    scope = run(custom_vjp, custom_vjp=custom_vjp, clip=pg.clip)
    assert grad(lambda x: pg.sum(scope["clip_gradient"](x, 0.5)))(pg.ones(3)).shape == (3,)


def test_register_container() -> None:
    scope = run(tree.register_container, dataclass=dataclass, register_container=tree.register_container)
    try:
        state = scope["State"](pg.ones(2), pg.ones(3))
        assert grad(lambda s: pg.sum(s.position) * pg.sum(s.velocity))(state).velocity.shape == (3,)
    finally:
        del tree._registered[scope["State"]]


def test_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in modes.__all__:
        monkeypatch.setattr(pg, name, getattr(modes, name), raising=False)
    before = local.modes
    run(modes)
    run(modes.set_matmul_precision, set_matmul_precision=modes.set_matmul_precision)
    modes.set_matmul_precision("highest")
    assert local.modes is before
