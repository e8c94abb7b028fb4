"""The table of `growth`."""

from __future__ import annotations

from typing import Any

from processes import measured
from rich.console import Console
from rich.table import Table

NODES = (100, 1_000, 10_000)


def show(console: Console, threads: int) -> dict[str, Any]:
    """Measure each size in a process of its own, after one that compiles what all need; print the table."""
    measured("growth.py", [str(NODES[0])], threads)
    found = {nodes: measured("growth.py", [str(nodes)], threads) for nodes in NODES}
    table = Table("nodes", title="growth with the nodes of a graph", title_justify="left")
    for heading in (
        "first call, s",
        "until replays, s",
        "us / node",
        "replay, ms",
        "us / node",
        "its call, ms",
    ):
        table.add_column(heading, justify="right")
    for nodes, f in found.items():
        table.add_row(
            f"{nodes}",
            f"{f['first']:.2f}",
            f"{f['ready']:.2f}",
            f"{f['ready'] / nodes * 1e6:.0f}",
            f"{f['replay'] * 1e3:.3g}",
            f"{f['replay'] / nodes * 1e6:.2f}",
            f"{f['call'] * 1e3:.3g}",
        )
    console.print(table)
    return {"seconds": found}
