"""One neuron learns AND, OR and NOT (Rosenblatt 1958)."""

from __future__ import annotations

from plugrad import data, nn, optim
from plugrad.dispatch.modes import changed
from plugrad.ops import sigmoid
from plugrad.tensor import Tensor
from plugrad.train.jobs.settings import Settings
from plugrad.train.metrics import Accuracy
from plugrad.train.progress import ProgressReporter
from plugrad.train.trainer import Trainer


def logic(settings: Settings) -> None:
    """Train one neuron for each of the three functions, and print what it answers."""
    for name in ("and", "or", "not"):
        epochs = settings.begin(300)
        table = data.logic(name)
        batches = data.DataLoader(table, batch_size=4, device=settings.device)
        inputs = table[0][0].shape[0]

        model = nn.Linear(inputs, 1, device=settings.device)
        trainer = Trainer(
            model,
            nn.BCEWithLogitsLoss(),
            optim.SGD(model.parameters(), lr=2.0),
            metrics=[Accuracy()],
            jit=settings.jit,
        )
        trainer.fit(
            batches,
            epochs,
            checkpoint=settings.folder / "logic" / name,
            resume=settings.resume,
            progress=ProgressReporter(settings.console, rows=False),
        )
        result = trainer.validate(batches)
        settings.console.print(
            f"{name.upper():>4}: {epochs} epochs, loss {result['loss']:.4f}, "
            f"accuracy {result['accuracy']:.0%}",
            highlight=False,
            soft_wrap=True,
        )
        print_answers(settings, model, batches)


def print_answers(settings: Settings, model: nn.Module, batches: data.DataLoader) -> None:
    """Print each row of a truth table with the probability that ``model`` gives for 1."""
    with changed(recording=False):
        for x, target in batches:
            answers: Tensor = sigmoid(model(x))
            for row, answer, truth in zip(x.tolist(), answers.tolist(), target.tolist(), strict=True):
                given = ", ".join(f"{v:.0f}" for v in row)
                settings.console.print(
                    f"      ({given}) -> {answer[0]:.3f}, should be {truth[0]:.0f}",
                    highlight=False,
                    soft_wrap=True,
                )
