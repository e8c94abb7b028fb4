"""A training that is killed at any moment goes on to the very weights of one that never was."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import plugrad as pg
from plugrad import data, nn, optim, train

PROGRAM = """
import sys

import numpy as np

import plugrad as pg
from plugrad import data, nn, optim, train

pg.random.manual_seed(3)
rng = np.random.default_rng(0)
examples = data.ArrayDataset(
    rng.standard_normal((96, 6)).astype("float32"), rng.integers(0, 3, 96).astype("int64")
)
batches = data.DataLoader(examples, 8, shuffle=True, seed=5)
model = nn.Sequential(
    nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.25), nn.Linear(16, 3)
)
optimizer = optim.AdamW(model.parameters(), lr=1e-2)
schedule = optim.CosineAnnealingLR(optimizer, T_max=6 * len(batches))
trainer = train.Trainer(
    model, nn.CrossEntropyLoss(), optimizer, metrics=[train.Accuracy()], schedule=schedule, schedule_per="step"
)
print("begins", flush=True)
trainer.fit(
    batches, 6, validation=batches and data.DataLoader(examples, 96),
    callbacks=[train.EarlyStopping("val_loss", patience=50)],
    checkpoint=sys.argv[1], checkpoint_every=3, resume=True, progress=False,
)
nn.save(model, sys.argv[2])
"""


def start(program: Path, store: Path, result: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(program), str(store), str(result)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_ends_with_the_weights_of_one_never_killed(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    whole = start(program, tmp_path / "whole", tmp_path / "whole.safetensors")
    _, errors = whole.communicate(timeout=120)
    assert whole.returncode == 0, errors

    kills = 0
    for attempt in range(40):
        run = start(program, tmp_path / "killed", tmp_path / "killed.safetensors")
        assert run.stdout is not None
        run.stdout.readline()
        if kills < 4:
            # At a moment of its own in each attempt, the writing of a checkpoint included.
            time.sleep(random.Random(attempt).uniform(0.0, 0.12))
            run.send_signal(signal.SIGKILL)
        _, errors = run.communicate(timeout=120)
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, errors
        kills += 1
    assert run.returncode == 0
    assert kills > 0, "no run was killed before it ended"
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()


def small(seed: int = 0) -> tuple[train.Trainer, data.DataLoader]:
    pg.random.manual_seed(seed)
    rng = np.random.default_rng(0)
    examples = data.ArrayDataset(
        rng.standard_normal((32, 4)).astype("float32"), rng.integers(0, 2, 32).astype("int64")
    )
    model = nn.Linear(4, 2)
    trainer = train.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    return trainer, data.DataLoader(examples, 8, shuffle=True)


def test_a_damaged_checkpoint_is_named_and_changes_nothing(tmp_path: Path) -> None:
    trainer, batches = small()
    trainer.fit(batches, 2, checkpoint=tmp_path, progress=False)
    newest = train.CheckpointStore(tmp_path).latest()
    assert newest is not None
    file = newest / "tensors.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    again, more = small(seed=1)
    before = {k: t.numpy().copy() for k, t in again.model.state_dict().items()}
    with pytest.raises(
        pg.PlugradError, match=r"tensors.safetensors is damaged.*remove this checkpoint's folder"
    ):
        again.fit(more, 3, checkpoint=tmp_path, resume=True, progress=False)
    for key, value in again.model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[key])
    (newest / "state.json").write_text("{")
    with pytest.raises(pg.PlugradError, match=r"state.json cannot be read"):
        again.fit(more, 3, checkpoint=tmp_path, resume=True, progress=False)
    (newest / "state.json").write_text("{}")
    with pytest.raises(pg.PlugradError, match="is no checkpoint of plugrad"):
        again.fit(more, 3, checkpoint=tmp_path, resume=True, progress=False)
    (newest / "state.json").unlink()
    with pytest.raises(pg.PlugradError, match="is no checkpoint: it has no state.json"):
        again.fit(more, 3, checkpoint=tmp_path, resume=True, progress=False)


def test_a_checkpoint_of_another_model_is_refused_whole(tmp_path: Path) -> None:
    trainer, batches = small()
    trainer.fit(batches, 1, checkpoint=tmp_path, progress=False)
    pg.random.manual_seed(7)
    model = nn.Linear(4, 3)
    other = train.Trainer(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.7))
    before = model.weight.numpy().copy()
    with pytest.raises(pg.PlugradError, match="checkpoint-000001"):
        other.fit(batches, 2, checkpoint=tmp_path, resume=True, progress=False)
    np.testing.assert_array_equal(model.weight.numpy(), before)
    assert other.optimizer.param_groups[0].lr == 0.7


def test_a_second_run_in_a_folder_resumes_as_itself(tmp_path: Path) -> None:
    first, batches = small()
    first.fit(batches, 3, checkpoint=tmp_path, progress=False)
    second, more = small(seed=1)
    second.fit(more, 1, checkpoint=tmp_path, progress=False)
    third, last = small(seed=2)
    third.fit(last, 2, checkpoint=tmp_path, resume=True, progress=False)
    assert third.epoch == 2
    assert third.history[0] == second.history[0]
