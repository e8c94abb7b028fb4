"""A network approximates a function, the better the wider it is (Cybenko 1989; Hornik et al. 1989)."""

from __future__ import annotations

import math

import numpy as np

from plugrad import data, nn, optim
from plugrad.train.jobs.settings import Settings
from plugrad.train.progress import ProgressReporter
from plugrad.train.trainer import Trainer

WIDTHS = (1, 3, 8, 32)


def curve(settings: Settings) -> None:
    """Train networks of growing width on one function, and print their errors."""
    samples = data.curve(lambda x: np.sin(2 * x) + 0.5 * x, 256, -3.0, 3.0)
    settings.console.print("approximating sin(2x) + x / 2 on [-3, 3] with one hidden layer")
    for width in WIDTHS:
        epochs = settings.begin(200)
        batches = data.DataLoader(
            samples, batch_size=32, shuffle=True, seed=settings.seed, device=settings.device
        )

        model = nn.Sequential(
            nn.Linear(1, width, device=settings.device),
            nn.Tanh(),
            nn.Linear(width, 1, device=settings.device),
        )
        optimizer = optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.0)
        schedule = optim.CosineAnnealingLR(optimizer, T_max=max(epochs, 1))
        trainer = Trainer(model, nn.MSELoss(), optimizer, schedule=schedule, jit=settings.jit)
        trainer.fit(
            batches,
            epochs,
            checkpoint=settings.folder / "curve" / f"width-{width}",
            resume=settings.resume,
            progress=ProgressReporter(settings.console, rows=False),
        )
        error = math.sqrt(trainer.validate(batches)["loss"])
        settings.console.print(
            f"width {width:>3}: root mean square error {error:.4f}  {'#' * max(1, round(60 * error))}",
            highlight=False,
            soft_wrap=True,
        )
