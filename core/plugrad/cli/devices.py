"""``plugrad devices``: the installed backends, what they run on, and why one does not work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from json import dumps
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad.backend import BackendReport, DeviceReport, State, backends
from plugrad.dtypes import BOOLEAN, SIGNED, UNSIGNED, DType, bfloat16, float16, float32, float64

_STYLES: Final = {
    State.AVAILABLE: "green",
    State.UNAVAILABLE: "yellow",
    State.BROKEN: "red",
    State.INCOMPATIBLE: "magenta",
}


def devices_command(
    json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also print the kernels by op, and tracebacks.")
    ] = False,
) -> None:
    """List the installed backends: their devices, dtypes and kernels, or why they do not work."""
    reports = backends()
    if json:
        typer.echo(dumps([_as_json(r) for r in reports], indent=2))
        return
    console = Console()
    if not reports:
        console.print("No backend is installed; pip install plugrad brings one.")
        return
    console.print(_table(reports))
    for report in reports:
        _print_details(console, report, verbose)


def _table(reports: Sequence[BackendReport]) -> Table:
    """A row per device; a backend without one has a row of its own."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("backend", "distribution", "API", "state", "device", "dtypes", "kernels"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("API", "state", "kernels"))
    for report in reports:
        name = f"{report.name} ({', '.join(report.aliases)})" if report.aliases else report.name
        own = (
            Text(name),
            Text(f"{report.distribution} {report.version}".strip()),
            Text(" ".join(f"v{m}" for m in report.api)),
            Text(str(report.state), _STYLES[report.state]),
        )
        kernels = Text(f"{report.forward} + {report.vjp} vjp") if report.state is State.AVAILABLE else Text()
        if not report.devices:
            table.add_row(*own, Text(), Text(), kernels)
        for index, device in enumerate(report.devices):
            first = index == 0
            shown = Text(f"{device.device}\n{device.info.description}".strip())
            table.add_row(
                *(own if first else (Text(),) * len(own)),
                shown,
                Text(_families(device.dtypes)),
                kernels if first else Text(),
            )
    return table


def _print_details(console: Console, report: BackendReport, verbose: bool) -> None:
    """What does not fit into the table: reasons, hints, notes; with ``verbose`` kernels and tracebacks."""
    subject = Text(report.name, "bold")
    if report.reason:
        console.print(subject, Text(f"is {report.state}: {report.reason}"), soft_wrap=True)
    for device in report.devices:
        if device.info.hint:
            console.print(Text(str(device.device), "bold"), Text(device.info.hint), soft_wrap=True)
    for note in report.notes:
        console.print(subject, Text(note.text), soft_wrap=True)
    if not verbose:
        if report.traceback or any(n.traceback for n in report.notes):
            console.print(subject, Text("--verbose prints the traceback"), soft_wrap=True)
        return
    for traceback in (report.traceback, *(n.traceback for n in report.notes)):
        if traceback:
            console.print(Text(traceback.rstrip()), soft_wrap=True)
    if report.kernels:
        console.print(subject, Text("has kernels of its own for these ops (where several, how many):"))
        console.print(Text(", ".join(f"{n} ({k})" if k > 1 else n for n, k in report.kernels.items())))


def _families(dtypes: Iterable[DType]) -> str:
    """The names of dtypes; widths of one kind are one word where all are there, such as ``int8-64``."""
    rest = set(dtypes)
    words: list[str] = []
    for family in (BOOLEAN, SIGNED, UNSIGNED, (float16, float32, float64), (bfloat16,)):
        if len(family) > 1 and rest.issuperset(family):
            words.append(f"{family[0].name}-{family[-1].itemsize * 8}")
        else:
            words += [d.name for d in family if d in rest]
    return " ".join(words)


def _as_json(report: BackendReport) -> dict[str, Any]:
    def device(d: DeviceReport) -> dict[str, Any]:
        return {
            "device": str(d.device),
            "description": d.info.description,
            "hint": d.info.hint,
            "dtypes": [t.name for t in d.dtypes],
        }

    return {
        "name": report.name,
        "aliases": list(report.aliases),
        "distribution": report.distribution,
        "version": report.version,
        "api": list(report.api),
        "state": str(report.state),
        "reason": report.reason,
        "traceback": report.traceback,
        "devices": [device(d) for d in report.devices],
        "kernels": dict(report.kernels),
        "notes": [{"text": n.text, "traceback": n.traceback} for n in report.notes],
    }
