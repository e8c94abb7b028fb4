"""The progress bar of a training, and a line for each epoch."""

from __future__ import annotations

import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class ProgressReporter:
    """Shows a live bar on a terminal, and prints a line per epoch everywhere.

    The bar is drawn a few times a second; `due` says whether reading the loss for it is worth the wait.
    """

    def __init__(self, console: Console | None = None, enabled: bool = True, rows: bool = True) -> None:
        """Set what is shown.

        Args:
            console: where; by default the terminal.
            enabled: False shows nothing.
            rows: whether there is a line for each epoch.
        """
        self.console = console or Console()
        self.enabled = enabled
        self.rows = rows and enabled
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._drawn = 0.0
        self._width = 1

    def epoch(self, number: int, epochs: int, steps: int, done: int) -> None:
        """An epoch begins at step ``done`` of ``steps``."""
        self._width = len(str(epochs))
        if not self.enabled or not self.console.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[figures]}"),
                TimeRemainingColumn(compact=True),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=steps, figures="")
        self._bar.reset(
            self._task,
            total=steps,
            completed=done,
            description=f"epoch {number:>{self._width}}/{epochs}",
            figures="",
        )

    def due(self) -> bool:
        """Whether the bar is to be drawn again."""
        return self._bar is not None and time.monotonic() - self._drawn > 0.1

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Draw the bar."""
        if self._bar is not None:
            self._drawn = time.monotonic()
            self._bar.update(self._task, completed=done, figures=format_row(figures))

    def row(self, number: int, epochs: int, row: Mapping[str, float], seconds: float) -> None:
        """Print the line of an epoch."""
        if self.rows:
            self.console.print(
                f"epoch {number:>{self._width}}/{epochs}  {format_row(row)}  {seconds:.1f} s",
                highlight=False,
                soft_wrap=True,
            )

    def note(self, text: str) -> None:
        """Print a remark."""
        if self.enabled:
            self.console.print(text, highlight=False, markup=False)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def format_row(row: Mapping[str, float]) -> str:
    """The figures of an epoch in one line."""
    return "  ".join(f"{name} {value:.4f}" for name, value in row.items())
