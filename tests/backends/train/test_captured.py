"""A `Trainer` captures its step and its validation: the same bits as without, with every option it has."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import data, nn, optim, train
from support.captured import bits, same


class Largest(train.Metric):
    """The largest output, by an ``update`` of its own."""

    name = "largest"

    def update(self, output: pg.Tensor, target: pg.Tensor) -> None:
        del target
        self._total = max(self._total, float(pg.max(output)))
        self._count = 1

    def batch(self, output: pg.Tensor, target: pg.Tensor) -> tuple[pg.Tensor, int]:
        raise AssertionError("update is its own")


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "metrics": {"metrics": [train.Accuracy]},
    "own metric": {"metrics": [train.Accuracy, Largest]},
    "clip": {"clip_norm": 0.5},
    "accumulate": {"accumulate": 3},
    "accumulate and clip": {"accumulate": 2, "clip_norm": 0.1},
    "schedule": {"schedule_per": "step"},
    "bfloat16": {"autocast": "bfloat16"},
    "float16": {"autocast": "float16", "clip_norm": 1.0},
}


def trainer(jit: bool, kind: type[train.Trainer] = train.Trainer, **options: Any) -> train.Trainer:
    pg.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
    optimizer = optim.AdamW(model.parameters(), lr=0.01)
    metrics = [m() for m in options.pop("metrics", ())]
    schedule = optim.CosineAnnealingLR(optimizer, T_max=20) if "schedule_per" in options else None
    return kind(
        model, nn.CrossEntropyLoss(), optimizer, metrics=metrics, schedule=schedule, jit=jit, **options
    )


def examples(device: str, n: int = 22) -> tuple[data.DataLoader, data.DataLoader]:
    rng = np.random.default_rng(0)
    table = data.ArrayDataset(
        rng.standard_normal((n, 5)).astype("float32"), rng.integers(0, 3, n).astype("int64")
    )
    return data.DataLoader(table, 4, shuffle=True, seed=1, device=device), data.DataLoader(
        table, 10, device=device
    )


def state(t: train.Trainer) -> Any:
    return [
        t.history,
        bits(t.model.state_dict()),
        bits(t.optimizer.state_dict()["state"]),
        pg.random.get_state(),
        None if t.scaler is None else t.scaler.state_dict(),
    ]


def captures(t: train.Trainer, what: str) -> int:
    return len(t._captured[what].info())  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_comes_to_the_same_bits(name: str, device: str) -> None:
    found = []
    with pg.use_device(device):
        for jit in (True, False):
            t = trainer(jit, **OPTIONS[name])
            batches, validation = examples(device)
            t.fit(batches, 3, validation=validation, progress=False)
            found.append(state(t))
            shapes = 2  # the last batch is smaller
            steps = {"accumulate": 4, "accumulate and clip": 4}.get(name, shapes)
            if jit:
                assert shapes <= captures(t, "training step") <= steps + shapes
                assert captures(t, "validation") == shapes
            else:
                assert captures(t, "training step") == captures(t, "validation") == 0
    same(bits(found[0]), bits(found[1]))


def test_a_scale_that_falls_is_read_anew(device: str) -> None:
    found = []
    with pg.use_device(device):
        for jit in (True, False):
            t = trainer(jit, autocast="float16")
            assert t.scaler is not None
            t.scaler.scale = 2.0**40  # overflows, and halves at each step until it does not
            batches, _ = examples(device)
            t.fit(batches, 4, progress=False)
            assert t.scaler.scale < 2.0**40
            found.append(state(t))
            if jit:
                assert captures(t, "training step") == 2
    same(bits(found[0]), bits(found[1]))


def test_a_scaled_loss_in_a_captured_function_of_ones_own(device: str) -> None:
    scaler = train.LossScaler(8.0)
    w = nn.Parameter(pg.ones((2,), device=device))
    optimizer = optim.SGD([w], lr=0.5)

    @pg.jit
    def backward(x: pg.Tensor) -> None:
        scaler.scale_loss((x * w).sum()).backward()

    x = pg.ones((2,), device=device)
    for scale in (8.0, 4.0, 16.0):
        scaler.scale = scale
        w.grad = None
        backward(x)
        assert w.grad is not None
        np.testing.assert_array_equal(w.grad.numpy(), [scale, scale])
        scaler.unscale(optimizer)
        np.testing.assert_array_equal(w.grad.numpy(), [1, 1])
        assert scaler.step(optimizer)
    assert len(backward.info()) == 1
    with pytest.raises(pg.errors.CaptureError, match=r"LossScaler.unscale and step after it"):
        pg.jit(lambda: scaler.step(optimizer))()


def test_what_is_set_on_the_trainer_is_not_stale(device: str) -> None:
    class Weighted(train.Trainer):
        beta = 1.0

        def compute(self, batch: Any) -> tuple[pg.Tensor, Any, Any]:
            loss, output, target = super().compute(batch)
            return loss * self.beta, output, target

    class Sets(train.Callback):
        def on_epoch_begin(self, t: train.Trainer) -> None:
            if t.epoch:
                t.beta = 1.0 + t.epoch  # type: ignore[attr-defined]
            t.clip_norm = 0.5 if t.epoch == 1 else None
            if t.epoch == 2:
                t.loss = nn.CrossEntropyLoss(label_smoothing=0.2)

    found = []
    with pg.use_device(device):
        for jit in (True, False):
            t = trainer(jit, Weighted)
            batches, validation = examples(device)
            t.fit(batches, 4, validation=validation, callbacks=[Sets()], progress=False)
            found.append(state(t))
    same(bits(found[0]), bits(found[1]))


class Branches(train.Trainer):
    """A loss that depends on a value."""

    def compute(self, batch: Any) -> tuple[pg.Tensor, Any, Any]:
        loss, output, target = super().compute(batch)
        if loss.item() > 1.0:
            loss = loss * 2.0
        return loss, output, target


class Counts(train.Trainer):
    """A loss that depends on the number of the step."""

    def compute(self, batch: Any) -> tuple[pg.Tensor, Any, Any]:
        loss, output, target = super().compute(batch)
        return loss * (1.0 + 0.1 * self.step), output, target


@pytest.mark.parametrize(("kind", "reason"), [(Branches, r"item\(\)"), (Counts, "Trainer.step is read")])
def test_what_cannot_be_captured_runs_as_it_is_and_says_why(
    kind: type[train.Trainer], reason: str, device: str
) -> None:
    found = []
    with pg.use_device(device):
        for jit in (True, False):
            t = trainer(jit, kind)
            batches, validation = examples(device)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                t.fit(batches, 2, validation=validation, progress=False)
            said = [str(w.message) for w in caught]
            if jit:
                assert len(said) == 2
                with pytest.warns(
                    UserWarning, match=rf"the training step is not captured.*jit=False.*{reason}"
                ):
                    warnings.warn(said[0], stacklevel=1)
                assert "the validation is not captured" in said[1]
                assert __file__ in said[0]
            else:
                assert said == []
            found.append(state(t))
    same(bits(found[0]), bits(found[1]))


def test_a_wrong_loss_is_one_error_captured_too(device: str) -> None:
    with pg.use_device(device):
        t = trainer(True)
        t.loss = nn.CrossEntropyLoss(reduction="none")
        batches, _ = examples(device)
        before = bits(t.model.state_dict())
        with pytest.raises(pg.errors.ArgumentError, match="the loss must be a 0-d tensor"):
            t.fit(batches, 1, progress=False)
        same(bits(t.model.state_dict()), before)
