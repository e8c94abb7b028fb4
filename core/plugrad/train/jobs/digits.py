"""A convolutional network reads handwritten digits (as LeCun et al. 1998)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from plugrad import data, nn, optim
from plugrad.train.checkpoint import CheckpointStore
from plugrad.train.jobs.settings import Settings
from plugrad.train.metrics import Accuracy
from plugrad.train.progress import ProgressReporter
from plugrad.train.trainer import Trainer

Array = np.ndarray[Any, Any]


def network(device: Any = None) -> nn.Sequential:
    """Two convolutions, a pool, two linear layers: (N, 1, 8, 8) to scores (N, 10)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1, device=device),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, device=device),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(64 * 4 * 4, 128, device=device),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 10, device=device),
    )


def shifted(images: Array, labels: Array, *, rng: np.random.Generator) -> tuple[Array, Array]:
    """Each image moved by at most one pixel each way, so that the network learns shapes and not places."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    moved = np.empty_like(images)
    for i, (dy, dx) in enumerate(rng.integers(0, 3, (len(images), 2))):
        moved[i] = padded[i, :, dy : dy + 8, dx : dx + 8]
    return moved, labels


def digits(settings: Settings) -> None:
    """Train on 1,437 of the digits and validate on the other 360."""
    started = time.monotonic()
    epochs = settings.begin(20)
    training, held_back = data.digits()
    batches = data.DataLoader(
        training, 32, shuffle=True, seed=settings.seed, augment=shifted, device=settings.device
    )
    validation = data.DataLoader(held_back, 360, device=settings.device)

    model = network(settings.device)
    optimizer = optim.AdamW(model.parameters(), lr=2e-3)
    schedule = optim.CosineAnnealingLR(optimizer, T_max=max(epochs, 1))
    trainer = Trainer(
        model, nn.CrossEntropyLoss(), optimizer, metrics=[Accuracy()], schedule=schedule, jit=settings.jit
    )
    store = CheckpointStore(settings.folder / "digits")
    trainer.fit(
        batches,
        epochs,
        validation=validation,
        checkpoint=store,
        resume=settings.resume,
        progress=ProgressReporter(settings.console),
    )
    result = trainer.validate(validation)
    settings.console.print(
        f"{result['accuracy']:.2%} of {len(held_back)} held-back digits are read right, after "
        f"{trainer.epoch} epochs and {time.monotonic() - started:.1f} s on {settings.device}",
        highlight=False,
        soft_wrap=True,
    )
    settings.console.print(
        f"checkpoint: {store.latest()}; plugrad train digits --resume goes on from it",
        highlight=False,
        soft_wrap=True,
    )
