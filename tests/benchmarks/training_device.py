"""The comparison of training steps where plugrad runs on another device than its default, beside PyTorch and tinygrad."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import training_report as report
from processes import measured
from rich.console import Console
from rich.table import Table
from training_cases import CASES, Case

OURS, SCRIPT, TINYGRAD = report.OURS, report.SCRIPT, "tinygrad"

FLOORS = {"mlp-small": 1.5, "mlp-large": 1.5, "cnn": 1.2, "cnn-bn": 1.2, "gpt": 1.8, "lstm": 1.3, "gelu": 3.0}
"""At least so many times as fast as PyTorch."""

FLOOR_TO_TINYGRAD = 5.0
"""At least so many times as fast as tinygrad."""

COMPILED = "gpt"
"""The step whose compilation is measured."""


def peers_of(case: Case) -> list[str]:
    """The peers that a case is measured on.

    tinygrad has no layer for a whole sequence: an LSTM over 64 places is a graph that it compiles for minutes.
    """
    found = [p for p in report.peers_of(case) if not p.startswith("jax")]
    return found if case.name in ("lstm", "gelu") else [*found, TINYGRAD]


def compare(console: Console, names: Sequence[str], rounds: int, threads: int) -> dict[str, Any]:
    """Measure the cases, print the tables, and give everything that was measured."""
    cases = [CASES[name] for name in names]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    found: dict[str, dict[str, list[dict[str, Any]]]] = {c.name: {p: [] for p in peers_of(c)} for c in cases}
    machine = []
    for number in range(rounds):
        machine.append(measured(SCRIPT, ["machine"], threads))
        for case in cases:
            for peer, results in found[case.name].items():
                # tinygrad compiles a step for longer than all the rest takes: it is measured once.
                if peer != TINYGRAD or not results:
                    console.log(f"round {number + 1} of {rounds}: {case.name}, {peer}")
                    results.append(measured(SCRIPT, [peer, case.name], threads))
    compiled = _compiled(threads) if COMPILED in names else {}
    figures = {c.name: {p: report.joined(results) for p, results in found[c.name].items()} for c in cases}
    rates = report.reached(machine, names)
    floors = {c.name: report.floor(c, rates) for c in cases}
    versions = {p: r["version"] for peers in figures.values() for p, r in peers.items()}
    console.print("; ".join(f"{p} {versions[p]}" for p in (OURS, "torch", TINYGRAD) if p in versions))
    report.say_machine(console, rates, load)
    console.print(_times(cases, figures))
    console.print(_ratios(cases, figures))
    console.print(_costs(cases, figures, floors))
    for state, seconds in compiled.items():
        console.print(
            f"{COMPILED}, kernels {state}: {seconds['first']:.2f} s to the first loss, {seconds['ready']:.2f} s to the fifth"
        )
    return {
        "load before": load,
        "rates": rates,
        "figures": figures,
        "floors": floors,
        "compiled": compiled,
        "differences": report.say_apart(console, cases, figures),
        "rounds": found,
        "rates by round": machine,
    }


def _compiled(threads: int) -> dict[str, Any]:
    """The step in a process that finds no compiled kernels on disk, and in one that finds them."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {"XDG_CACHE_HOME": folder, "POCL_CACHE_DIR": str(Path(folder) / "pocl")}
        found = [measured(SCRIPT, [OURS, COMPILED], threads, variables) for _ in range(2)]
    return dict(zip(("to be compiled", "on disk"), found, strict=True))


def _times(cases: Sequence[Case], figures: dict[str, Any]) -> Table:
    rows = []
    for case in cases:
        f = figures[case.name]
        seconds = [f[p]["median"] for p in (OURS, "plugrad eager", "torch")]
        seconds.append(report.best(f, "torch", "median"))
        row = [f"{s * 1e3:.3g}" for s in seconds]
        row.append(f"{f[TINYGRAD]['median'] * 1e3:.3g}" if TINYGRAD in f else "-")
        rows.append((case.name, *row))
    headings = ("plugrad", "its eager", "PyTorch", "PyTorch's best", "tinygrad")
    return report.table("milliseconds of a step", headings, rows)


def _ratios(cases: Sequence[Case], figures: dict[str, Any]) -> Table:
    rows = []
    for case in cases:
        f = figures[case.name]
        ours, fastest = f[OURS]["median"], f[OURS]["fastest"]
        rows.append(
            (
                case.name,
                report.ratio(f["torch"]["median"] / ours, FLOORS[case.name]),
                f"{FLOORS[case.name]:.1f}",
                f"{report.best(f, 'torch', 'median') / ours:.2f}",
                report.ratio(f[TINYGRAD]["median"] / ours, FLOOR_TO_TINYGRAD) if TINYGRAD in f else "-",
                f"{f['torch']['fastest'] / fastest:.2f}",
            )
        )
    headings = ("PyTorch", "floor", "PyTorch's best", "tinygrad", "fastest: PyTorch")
    return report.table("the peer's time / ours", headings, rows)


def _costs(cases: Sequence[Case], figures: dict[str, Any], floors: dict[str, Any]) -> Table:
    rows = []
    for case in cases:
        f, floor = figures[case.name], floors[case.name]
        ours = f[OURS]
        rows.append(
            (
                case.name,
                f"{ours['nodes']}",
                f"{ours['call'] * 1e3:.3g}",
                *(f"{floor[k] * 1e3:.3g}" for k in ("products", "traffic")),
                f"{max(floor.values()) / ours['median']:.0%}",
                *(f"{p / 1e6:.0f}" for p in (ours["peak"], report.best(f, "torch", "peak"))),
                f"{ours['first']:.2f}",
            )
        )
    headings = (
        *("nodes", "call, ms", "products, ms", "traffic, ms", "share"),
        *("peak, MB", "PyTorch's", "first, s"),
    )
    return report.table(
        "the call, which does not wait for the device; the roofline; peak memory; the first step",
        headings,
        rows,
    )
