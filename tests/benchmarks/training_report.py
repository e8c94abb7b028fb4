"""The comparison of training steps: measures the peers in turn, round after round, and prints ratios beside the floors."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from typing import Any

from processes import measured
from rich.console import Console
from rich.table import Table
from training import PEERS
from training_cases import CASES, Case

SCRIPT = "training.py"
OURS = "plugrad"
TOLERANCE = 1e-3
"""By how much losses may differ, of the largest of them."""

_IMAGES = ("cnn", "cnn-bn")


def peers_of(case: Case) -> list[str]:
    """The peers that a case is measured on: other layouts for images, another optimizer where there is one."""
    left_out = ["tinygrad"]
    left_out += [] if case.name in _IMAGES else ["torch channels last", "jax channels last"]
    if not case.shapes:
        left_out.append("torch fused")
    return [p for p in PEERS if p not in left_out]


def compare(console: Console, names: Sequence[str], rounds: int, threads: int) -> dict[str, Any]:
    """Measure the cases, print the tables, and give everything that was measured."""
    cases = [CASES[name] for name in names]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    machine: list[dict[str, Any]] = []
    found: dict[str, dict[str, list[dict[str, Any]]]] = {c.name: {p: [] for p in peers_of(c)} for c in cases}
    for number in range(rounds):
        machine.append(measured(SCRIPT, ["machine"], threads))
        for case in cases:
            for peer, results in found[case.name].items():
                console.log(f"round {number + 1} of {rounds}: {case.name}, {peer}")
                results.append(measured(SCRIPT, [peer, case.name], threads))
    overhead = {c.name: measured(SCRIPT, ["overhead", c.name], threads) for c in cases}
    figures = {c.name: {p: joined(results) for p, results in found[c.name].items()} for c in cases}
    rates = reached(machine, names)
    floors = {c.name: floor(c, rates) for c in cases}
    versions = {p: r["version"] for peers in figures.values() for p, r in peers.items()}
    ours = versions[OURS]
    console.print(
        f"plugrad {ours}; PyTorch {versions['torch']}; JAX {versions['jax']}; {threads} threads each"
    )
    say_machine(console, rates, load)
    console.print(_times(cases, figures))
    console.print(_ratios(cases, figures))
    console.print(_costs(cases, figures))
    console.print(_plans(cases, figures, overhead, floors))
    differences = say_apart(console, cases, figures)
    return {
        "load before": load,
        "rates": rates,
        "figures": figures,
        "overhead": overhead,
        "floors": floors,
        "differences": differences,
        "rounds": found,
        "rates by round": machine,
    }


def reached(machine: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """The best rates of the rounds."""
    return {
        "products": max(m["products"] for m in machine),
        "copies": {name: max(m["copies"][name] for m in machine) for name in names},
    }


def say_machine(console: Console, rates: dict[str, Any], load: float) -> None:
    """Print what the machine allows, and whether it had other work."""
    console.print(
        f"product of 1024x1024: {rates['products'] / 1e9:.0f} GFLOP/s; load of the machine before: {load:.1f}"
    )
    if load > 0.5:
        console.print(
            "[yellow]the machine had other work: times are longer than they would be, and less even[/]"
        )


def say_apart(console: Console, cases: Sequence[Case], figures: dict[str, Any]) -> list[str]:
    """Print, and give, which peers' losses differ."""
    lines = apart(cases, figures)
    for line in lines:
        console.print(f"[red]{line}[/]")
    if not lines:
        console.print("losses of the first steps are the same everywhere")
    return lines


def joined(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds; of the fastest steps the fastest."""
    joined = dict(results[0])
    for key in ("median", "call", "first", "ready", "peak"):
        joined[key] = statistics.median(r[key] for r in results)
    joined["fastest"] = min(r["fastest"] for r in results)
    return joined


def floor(case: Case, rates: dict[str, Any]) -> dict[str, float]:
    """Seconds that the products and the traffic take at the measured rates."""
    return {
        "products": case.products / rates["products"],
        "traffic": case.traffic() / rates["copies"][case.name],
    }


def best(figures: dict[str, Any], family: str, key: str) -> float:
    """Of the variants of a peer, the best."""
    return min(r[key] for p, r in figures.items() if p.split()[0] == family)


def ratio(value: float, floor: float) -> str:
    return f"[{'green' if value >= floor else 'red'}]{value:.2f}[/]"


def table(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table("step", title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def _times(cases: Sequence[Case], figures: dict[str, Any]) -> Table:
    rows = []
    for case in cases:
        f = figures[case.name]
        seconds = [f[p]["median"] for p in (OURS, "plugrad eager", "torch")]
        seconds += [best(f, family, "median") for family in ("torch", "jax")]
        rows.append((case.name, *(f"{s * 1e3:.3g}" for s in seconds)))
    return table(
        "milliseconds of a step", ("plugrad", "its eager", "PyTorch", "PyTorch's best", "JAX's best"), rows
    )


def _ratios(cases: Sequence[Case], figures: dict[str, Any]) -> Table:
    rows = []
    for case in cases:
        f = figures[case.name]
        ours, fastest = f[OURS]["median"], f[OURS]["fastest"]
        rows.append(
            (
                case.name,
                ratio(f["torch"]["median"] / ours, case.floor),
                f"{case.floor:.1f}",
                f"{best(f, 'torch', 'median') / ours:.2f}",
                ratio(best(f, "jax", "median") / ours, 1),
                f"{f['torch']['fastest'] / fastest:.2f}",
                f"{best(f, 'jax', 'fastest') / fastest:.2f}",
            )
        )
    headings = ("PyTorch", "floor", "PyTorch's best", "JAX's best", "fastest: PyTorch", "JAX")
    return table("the peer's time / ours", headings, rows)


def _costs(cases: Sequence[Case], figures: dict[str, Any]) -> Table:
    rows = []
    for case in cases:
        f = figures[case.name]
        peaks = [f[OURS]["peak"], f["plugrad eager"]["peak"]]
        peaks += [best(f, family, "peak") for family in ("torch", "jax")]
        firsts = [f[OURS]["first"], *(best(f, family, "first") for family in ("torch", "jax"))]
        rows.append((case.name, *(f"{p / 1e6:.0f}" for p in peaks), *(f"{s:.2f}" for s in firsts)))
    headings = ("plugrad, MB", "eager", "PyTorch", "JAX", "plugrad, s", "PyTorch", "JAX")
    return table("peak memory over the idle process, MB; the first step, s", headings, rows)


def _plans(
    cases: Sequence[Case], figures: dict[str, Any], overhead: dict[str, Any], floors: dict[str, Any]
) -> Table:
    rows = []
    for case in cases:
        ours, floor, plan = figures[case.name][OURS], floors[case.name], overhead[case.name]
        rows.append(
            (
                case.name,
                f"{plan['nodes']:.0f}",
                f"{plan['first'] * 1e3:.0f}",
                f"{plan['seconds'] * 1e6:.0f}",
                f"{plan['seconds'] / plan['nodes'] * 1e6:.2f}",
                *(f"{floor[k] * 1e3:.3g}" for k in ("products", "traffic")),
                f"{max(floor.values()) / ours['median']:.0%}",
            )
        )
    headings = (
        *("nodes", "first, ms", "replay, us", "us / node"),
        *("products, ms", "traffic, ms", "share"),
    )
    return table(
        "plans: first call, replay without kernels; roofline: products, traffic, and the share reached",
        headings,
        rows,
    )


def apart(cases: Sequence[Case], figures: dict[str, Any]) -> list[str]:
    """What is said of peers whose losses differ from PyTorch's."""
    lines = []
    for case in cases:
        reference = figures[case.name]["torch"]["losses"]
        allowed = TOLERANCE * max(map(abs, reference))
        for peer, found in figures[case.name].items():
            worst = max(abs(a - b) for a, b in zip(reference, found["losses"], strict=True))
            if not worst <= allowed:
                lines.append(
                    f"{case.name}: losses of {peer} differ by {worst:.2g}: {found['losses']}, PyTorch {reference}"
                )
    return lines
