"""Run benchmarks side by side with the peers: ``python tests/benchmarks/run.py [NAME ...] [--rounds N] [--json FILE]``.

A benchmark is a file of this folder. Called with a peer's name it measures that peer and prints JSON, seconds
by figure. Here the peers of a benchmark run in turn, each in a process of its own, round after round, so that
a machine that slows down slows them all; medians over the rounds are printed, and as ratios to plugrad.
``training`` has several steps, of which ``--only`` takes some, and tables of its own: see `training_report`. With
``--device`` plugrad runs on another device than its default; ``training`` then has other peers: see `training_device`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import growth_report
import training_device
import training_report
from processes import measured
from rich.console import Console
from rich.table import Table
from training_cases import CASES

PEERS = {
    "eager": ("plugrad", "torch", "autograd"),
    "kernels": ("plugrad", "torch", "torch out", "tinygrad"),
}
BENCHMARKS = (*PEERS, "growth", "training")
OURS = "plugrad"


def compare(console: Console, name: str, rounds: int, threads: int) -> dict[str, Any]:
    """Measure a benchmark whose figures are seconds, print its table, and give what was measured."""
    found: dict[str, list[dict[str, float]]] = {peer: [] for peer in PEERS[name]}
    for _ in range(rounds):
        for peer, results in found.items():
            results.append(measured(f"{name}.py", [peer], threads))
    medians = {
        peer: {figure: statistics.median(r[figure] for r in results) for figure in results[0]}
        for peer, results in found.items()
    }
    table = Table(title=f"{name}: medians of {rounds} rounds", title_justify="left")
    table.add_column("figure")
    for peer in medians:
        table.add_column(f"{peer}, us", justify="right")
    for peer in medians:
        if peer != OURS:
            table.add_column(f"{OURS} / {peer}", justify="right")
    for figure, ours in medians[OURS].items():
        row = [figure]
        row += [f"{m[figure] * 1e6:.2f}" if figure in m else "-" for m in medians.values()]
        row += [f"{ours / m[figure]:.2f}" if figure in m else "-" for p, m in medians.items() if p != OURS]
        table.add_row(*row)
    console.print(table)
    return {"seconds": medians, "rounds": found}


def main() -> None:
    """Measure, print a table for each benchmark, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only", action="append", choices=list(CASES), help="a training step, repeatable; all by default"
    )
    parser.add_argument("--device", help="where plugrad runs, such as opencl")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"))
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if options.device:
        os.environ["PLUGRAD_DEVICE"] = options.device
    console = Console()
    report: dict[str, object] = {
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "threads": options.threads,
        "rounds": options.rounds,
        "device": options.device,
    }
    for name in options.names or BENCHMARKS:
        if name == "training":
            steps = options.only or list(CASES)
            compared = training_device.compare if options.device else training_report.compare
            report[name] = compared(console, steps, options.rounds, options.threads)
        elif name == "growth":
            report[name] = growth_report.show(console, options.threads)
        else:
            report[name] = compare(console, name, options.rounds, options.threads)
    options.json.write_text(json.dumps(report, indent=1))
    console.print(f"written to {options.json}")


if __name__ == "__main__":
    main()
