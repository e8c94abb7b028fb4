"""The training loop: metrics, callbacks, accumulation, precision, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad import data, nn, optim, train
from plugrad.errors import ArgumentError, CheckpointError, DivergenceError, ShapeError


def examples(n: int = 64) -> data.ArrayDataset:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, 4)).astype("float32")
    return data.ArrayDataset(x, (x[:, 0] > x[:, 1]).astype("int64"))


def trainer(device: str, lr: float = 0.1, **options: Any) -> train.Trainer:
    pg.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8, device=device), nn.Tanh(), nn.Linear(8, 2, device=device))
    return train.Trainer(
        model,
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=lr),
        metrics=[train.Accuracy()],
        **options,
    )


def loader(device: str, **options: Any) -> data.DataLoader:
    return data.DataLoader(examples(), 16, shuffle=True, device=device, **options)


def weights(t: train.Trainer) -> np.ndarray:
    return np.concatenate([p.numpy().ravel() for p in t.model.parameters()])


def test_it_learns_and_keeps_a_history(device: str) -> None:
    t = trainer(device, lr=0.5)
    history = t.fit(loader(device), 20, validation=loader(device), progress=False)
    assert len(history) == 20
    assert set(history[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history[-1]["loss"] < 0.3 * history[0]["loss"]
    assert history[-1]["val_accuracy"] > 0.9
    assert t.step == 20 * 4
    assert t.model.training
    assert t.fit(loader(device), 20, progress=False) is history


def test_the_loss_of_an_epoch_is_the_mean_over_examples(device: str) -> None:
    t = trainer(device, lr=0.0)
    batches = data.DataLoader(examples(50), 16, device=device)
    row = t.fit(batches, 1, progress=False)[0]
    x, y = (pg.asarray(a, device=device) for a in examples(50).take(np.arange(50)))
    assert row["loss"] == pytest.approx(float(nn.CrossEntropyLoss()(t.model(x), y)), rel=1e-5)
    assert row["accuracy"] == pytest.approx(t.validate(batches)["accuracy"])


def test_accumulated_batches_are_one_large_batch(device: str) -> None:
    a, b = trainer(device), trainer(device, accumulate=4)
    a.fit(data.DataLoader(examples(), 64, device=device), 3, progress=False)
    b.fit(data.DataLoader(examples(), 16, device=device), 3, progress=False)
    np.testing.assert_allclose(weights(a), weights(b), rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped(device: str) -> None:
    t = trainer(device, lr=1.0, clip_norm=1e-3)
    before = weights(t)
    t.fit(data.DataLoader(examples(), 64, device=device), 1, progress=False)
    assert np.linalg.norm(weights(t) - before) == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns_with_float32_parameters(precision: str, device: str) -> None:
    t = trainer(device, lr=0.5, autocast=precision)
    history = t.fit(loader(device), 15, progress=False)
    assert history[-1]["accuracy"] > 0.9
    assert all(p.dtype is pg.float32 for p in t.model.parameters())
    assert (t.scaler is not None) == (precision == "float16")


def test_the_loss_scale_adapts(device: str) -> None:
    p = pg.ones((2,), device=device).requires_grad_()
    optimizer = optim.SGD([p], lr=1.0)
    scaler = train.LossScaler(scale=8.0, interval=2)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale_loss((p * 0.25).sum()).backward()
        assert scaler.step(optimizer)
    np.testing.assert_allclose(p.numpy(), 0.5)
    assert scaler.scale == 16.0
    p.grad = pg.asarray(np.array([1.0, np.inf], "float32"), device=device)
    assert not scaler.step(optimizer)
    assert scaler.scale == 8.0
    np.testing.assert_allclose(p.numpy(), 0.5)
    other = train.LossScaler()
    other.load_state_dict(scaler.state_dict())
    assert (other.scale, other.good) == (8.0, 0)
    with pytest.raises(CheckpointError, match="LossScaler: takes scale and good"):
        other.load_state_dict({})


def test_early_stopping(device: str) -> None:
    t = trainer(device, lr=0.0)
    # Nothing is learned; batches in another order round their mean loss otherwise.
    stopping = train.EarlyStopping("loss", patience=2, min_delta=1e-5)
    t.fit(loader(device), 50, callbacks=[stopping], progress=False)
    assert t.epoch <= 4
    t = trainer(device, lr=0.5)
    best = train.EarlyStopping("val_accuracy", mode="max", patience=3, restore_best=True)
    t.fit(loader(device), 40, validation=loader(device), callbacks=[best], progress=False)
    assert t.validate(loader(device))["accuracy"] == pytest.approx(best.best)
    with pytest.raises(
        ArgumentError, match=r"no figure 'val_loss' to monitor; this training has loss, accuracy"
    ):
        trainer(device).fit(loader(device), 1, callbacks=[train.EarlyStopping()], progress=False)


def test_callbacks_are_told_in_order(device: str) -> None:
    told: list[str] = []

    class Diary(train.Callback):
        def on_fit_begin(self, trainer: train.Trainer) -> None:
            told.append("fit")

        def on_epoch_begin(self, trainer: train.Trainer) -> None:
            told.append("epoch")

        def on_step_end(self, trainer: train.Trainer) -> None:
            told.append("step")

        def on_epoch_end(self, trainer: train.Trainer, row: dict[str, float]) -> None:
            told.append("row")

        def on_fit_end(self, trainer: train.Trainer) -> None:
            told.append("end")

    trainer(device).fit(loader(device), 2, callbacks=[Diary()], progress=False)
    assert told == ["fit", *(["epoch", *["step"] * 4, "row"] * 2), "end"]


def test_a_loss_that_is_not_finite_stops_the_training(device: str) -> None:
    t = trainer(device)
    t.loss = lambda output, target: output.sum() * math.inf
    with pytest.raises(DivergenceError, match=r"the loss is (nan|inf) in epoch \d+.*lower the learning rate"):
        t.fit(loader(device), 20, progress=False)


def test_validation_changes_nothing(device: str) -> None:
    t = trainer(device)
    before = weights(t)
    t.validate(loader(device))
    np.testing.assert_array_equal(weights(t), before)
    assert t.model.training
    with pytest.raises(ArgumentError, match="validate: there are no batches"):
        t.validate([])


def test_metrics(device: str) -> None:
    accuracy = train.Accuracy()
    assert math.isnan(accuracy.value())
    scores = pg.asarray(np.array([[0.1, 0.9], [0.8, 0.2]], "float32"), device=device)
    accuracy.update(scores, pg.asarray(np.array([1, 1]), device=device))
    accuracy.update(scores, pg.asarray(np.array([1, 0]), device=device))
    assert accuracy.value() == 0.75
    accuracy.reset()
    logits = pg.asarray(np.array([[2.0], [-1.0]], "float32"), device=device)
    accuracy.update(logits, pg.asarray(np.array([[1.0], [1.0]], "float32"), device=device))
    assert accuracy.value() == 0.5
    with pytest.raises(ShapeError, match=r"Accuracy: takes scores \(N, C, ...\)"):
        accuracy.update(scores, pg.asarray(np.array([1, 1, 1]), device=device))
    error = train.MeanAbsoluteError()
    error.update(logits, pg.zeros((2, 1), device=device))
    assert error.value() == 1.5


def test_errors_at_the_door(device: str, tmp_path: Any) -> None:
    t = trainer(device)
    with pytest.raises(ArgumentError, match="fit: resume and checkpoint_every need checkpoint="):
        t.fit(loader(device), 1, resume=True)
    with pytest.raises(ArgumentError, match="checkpoints need a DataLoader"):
        t.fit([], 1, checkpoint=tmp_path)
    with pytest.raises(ArgumentError, match="epochs takes a number of at least 0, got -1"):
        t.fit(loader(device), -1)
    with pytest.raises(ArgumentError, match="there are no batches to learn from"):
        t.fit([], 1, progress=False)
    with pytest.raises(ArgumentError, match=r"takes batches \(input, target\), got int; override compute"):
        t.fit([3], 1, progress=False)
    with pytest.raises(ArgumentError, match="schedule_per takes 'epoch' or 'step', got 'batch'"):
        trainer(device, schedule_per="batch")
    with pytest.raises(ArgumentError, match="accumulate takes a number of at least 1"):
        trainer(device, accumulate=0)
    with pytest.raises(ArgumentError, match="autocast"):
        trainer(device, autocast="int8").fit(loader(device), 1, progress=False)
    model = nn.Linear(4, 2, device=device)
    per_example = train.Trainer(model, nn.CrossEntropyLoss(reduction="none"), optim.SGD(model.parameters()))
    with pytest.raises(ArgumentError, match="the loss must be a 0-d tensor, it has shape"):
        per_example.fit(loader(device), 1, progress=False)
