"""Kernels of norms, losses, dropout and recurrent layers write the whole of ``into`` and change no operand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.dispatch.op import Op
from plugrad_numpy.kernels import table
from support.samples import flat, operands, samples_of, stated_ops

NAMES = (
    "layer_norm",
    "rms_norm",
    "group_norm",
    "batch_norm_training",
    "batch_norm_inference",
    "mse_loss",
    "l1_loss",
    "huber_loss",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "dropout_mask",
    "masked_scale",
    "lstm_gates",
    "gru_gates",
    "lstm_sequence",
    "gru_sequence",
    "rnn_sequence",
)


def arrays(values: Any) -> list[np.ndarray[Any, Any]]:
    several = values if isinstance(values, (tuple, list)) else [values]
    return [np.asarray(v) for v in several if v is not None]


class Checked:
    """A kernel that also writes to arrays that it is given, which hold something else before."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *given: Any, **attributes: Any) -> Any:
        before = [np.array(a) for a in arrays(given)]
        out = self.function(*given, **attributes)
        for order in ("C", "F"):
            places = [np.full(np.shape(o), 7, np.asarray(o).dtype, order=order) for o in arrays(out)]
            results = self.function(
                *given, into=tuple(places) if isinstance(out, tuple) else places[0], **attributes
            )
            for result, place, expected in zip(arrays(results), places, arrays(out), strict=True):
                assert np.shares_memory(result, place) or not place.size
                np.testing.assert_array_equal(place, expected)
        for array, old in zip(arrays(given), before, strict=True):
            np.testing.assert_array_equal(array, old)
        self.calls += 1
        return out


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_into(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op: Op[..., Any] = next(o for o in stated_ops() if o.name == name)
    checked: dict[str, Checked] = {}

    def find(self: Any, wanted: Any, specs: Any, attributes: Any) -> Any:
        found = original(self, wanted, specs, attributes)
        if found is None or wanted.name.partition(".")[0] != name:
            return found
        kernel = checked.setdefault(f"{wanted.name} {len(checked)}", Checked(found.function))
        return type(found)(kernel, found.when, found.inplace)

    original = type(table).find
    monkeypatch.setattr(type(table), "find", find)
    kept = dict(op.cache)
    op.cache.clear()
    try:
        for sample in samples_of(op):
            given = operands(sample, dtype, "numpy", requires_grad=bool(op.differentiable))
            for out in flat(sample.apply(op, given)):
                if out.requires_grad:
                    out.backward(pg.ones_like(out), retain_graph=True)
    finally:
        op.cache.clear()
        op.cache.update(kept)
    assert all(c.calls for c in checked.values())
    rules = {k.partition(" ")[0] for k in checked} - {name}
    assert bool(rules) == bool(op.differentiable)
