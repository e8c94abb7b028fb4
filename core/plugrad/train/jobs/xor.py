"""One hidden layer learns XOR, which no single neuron can (Minsky and Papert 1969; Rumelhart et al. 1986)."""

from __future__ import annotations

from plugrad import data, nn, optim
from plugrad.train.jobs.logic import print_answers
from plugrad.train.jobs.settings import Settings
from plugrad.train.metrics import Accuracy
from plugrad.train.progress import ProgressReporter
from plugrad.train.trainer import Trainer


def xor(settings: Settings) -> None:
    """Train the network and print what it answers."""
    epochs = settings.begin(300)
    batches = data.DataLoader(data.xor(), batch_size=4, device=settings.device)

    model = nn.Sequential(
        nn.Linear(2, 8, device=settings.device), nn.Tanh(), nn.Linear(8, 1, device=settings.device)
    )
    trainer = Trainer(
        model,
        nn.BCEWithLogitsLoss(),
        optim.AdamW(model.parameters(), lr=0.05),
        metrics=[Accuracy()],
        jit=settings.jit,
    )
    trainer.fit(
        batches,
        epochs,
        checkpoint=settings.folder / "xor",
        resume=settings.resume,
        progress=ProgressReporter(settings.console, rows=False),
    )
    result = trainer.validate(batches)
    settings.console.print(
        f" XOR: {epochs} epochs, loss {result['loss']:.4f}, accuracy {result['accuracy']:.0%}",
        highlight=False,
        soft_wrap=True,
    )
    print_answers(settings, model, batches)
