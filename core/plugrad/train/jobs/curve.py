"""A network approximates a function, the better the wider it is (Cybenko 1989; Hornik et al. 1989)."""

from __future__ import annotations

import math

import numpy as np

from plugrad import data, nn, optim
from plugrad.train.jobs.settings import Settings
from plugrad.train.progress import ProgressReporter
from plugrad.train.trainer import Trainer

WIDTHS = (2, 8, 32, 128)


def curve(settings: Settings) -> None:
    """Train networks of growing width on one function, and print their errors."""
    samples = data.curve(lambda x: np.sin(3 * x) + 0.3 * np.cos(9 * x), 256, -2.0, 2.0)
    settings.console.print("approximating sin(3x) + 0.3 cos(9x) on [-2, 2] with one hidden layer")
    for width in WIDTHS:
        epochs = settings.begin(150)
        batches = data.DataLoader(
            samples, batch_size=32, shuffle=True, seed=settings.seed, device=settings.device
        )

        model = nn.Sequential(
            nn.Linear(1, width, device=settings.device),
            nn.Tanh(),
            nn.Linear(width, 1, device=settings.device),
        )
        optimizer = optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.0)
        schedule = optim.CosineAnnealingLR(optimizer, T_max=max(epochs, 1))
        trainer = Trainer(model, nn.MSELoss(), optimizer, schedule=schedule)
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
