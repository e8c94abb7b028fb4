"""``plugrad conformance``: run the suite on a device, verify a report, compare two."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from plugrad_conformance.cases import Case, Level
from plugrad_conformance.conduct import (
    FAILURES,
    LIMIT,
    NOT_LOADABLE,
    NOTHING_RAN,
    Asked,
    NothingRan,
    NotLoadable,
    conduct,
    rerun,
    verdict,
)
from plugrad_conformance.report.compare import print_comparison
from plugrad_conformance.report.document import read, write
from plugrad_conformance.report.levels import HELD, LEVELS
from plugrad_conformance.report.verify import NOTE, verify
from plugrad_conformance.suite import Suite

_USAGE: Final = 2
"""The exit code that the command line's errors come with."""


class _Commands(typer.core.TyperGroup):
    """The commands; a command line that makes no sense means that nothing ran, not that no device loads."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.Exit:
            raise
        except Exception as error:
            if getattr(error, "exit_code", None) == _USAGE:
                error.exit_code = NOTHING_RAN  # type: ignore[attr-defined]
            raise


app = typer.Typer(
    cls=_Commands,
    help="Hold a backend against the conformance suite.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SHOWN: Final = 20
"""Failures that are printed; all are in the report."""


@app.command("run")
def run_command(
    device: Annotated[str, typer.Argument(help="The device, such as mychip or mychip:0.")],
    level: Annotated[str, typer.Option(help="The highest level to run: L0 to L4.")] = "L4",
    op: Annotated[list[str] | None, typer.Option(help="Only the cases of this op; may be repeated.")] = None,
    case: Annotated[
        list[str] | None, typer.Option(help="Only the case of this name; may be repeated.")
    ] = None,
    cases: Annotated[
        Path | None, typer.Option(help="Only the cases whose names stand in this file, one a line.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes run cases.")] = min(
        os.cpu_count() or 1, 8
    ),
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds that a case may take.")] = LIMIT,
    start_limit: Annotated[
        float, typer.Option(min=0.1, help="Seconds that loading the device may take.")
    ] = LIMIT,
    output: Annotated[Path, typer.Option("-o", "--output", help="The folder of the report.")] = Path(
        "report"
    ),
) -> None:
    """Run the suite on DEVICE and write report.json, junit.xml and report.html.

    The exit code is 0 if the device is conformant at the level asked, 1 if a case failed, 2 if the device does not
    load, and 3 if nothing ran.
    """
    console, errors = Console(), Console(stderr=True)
    try:
        asked = Asked(_level(level), tuple(op or ()), _names(case, cases), jobs, limit, start_limit)
        document = _conduct(console, device, asked, output)
    except (NothingRan, NotLoadable) as error:
        raise _refused(errors, error) from None
    path = write(output, document)
    code, lines = verdict(document)
    _print_summary(console, document, lines)
    console.print(Text(f"report: {path.with_name('report.html')}"), soft_wrap=True)
    raise typer.Exit(code)


@app.command("verify")
def verify_command(
    report: Annotated[Path, typer.Argument(help="A report.json, or the folder that holds it.")],
    again: Annotated[
        int, typer.Option("--rerun", min=0, help="Also repeat so many of its cases, chosen at random.")
    ] = 0,
) -> None:
    """Check that a report holds together, with itself and with the installed suite.

    That finds mistakes and careless edits, not forgery; --rerun repeats cases on the device that it names.
    """
    console = Console()
    document = read(report)
    lines = verify(document, Suite(_lacks(document)))
    if again and not [line for line in lines if not line.startswith(NOTE)]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                lines += rerun(document, again, Path(folder))
            except (NothingRan, NotLoadable) as error:
                raise _refused(Console(stderr=True), error) from None
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    if any(not line.startswith(NOTE) for line in lines):
        raise typer.Exit(FAILURES)
    counted = sum(c["level"] is not None for c in document["cases"])
    repeated = f", and {min(again, counted)} of them came out the same again" if again else ""
    console.print(
        f"The report of {document['device']['name']} holds together: {len(document['cases'])} cases{repeated}.",
        soft_wrap=True,
    )


@app.command("compare")
def compare_command(
    a: Annotated[Path, typer.Argument(help="A report.json, or its folder.")],
    b: Annotated[Path, typer.Argument(help="The other one.")],
    everything: Annotated[bool, typer.Option("--all", help="Print every difference.")] = False,
) -> None:
    """Show two reports side by side: two devices, or two versions of one."""
    print_comparison(Console(), read(a), read(b), limit=None if everything else 200)


def _level(name: str) -> Level:
    if name not in LEVELS:
        raise NothingRan(f"--level is {name!r}, takes {', '.join(LEVELS)}")
    return Level[name]


def _names(case: list[str] | None, cases: Path | None) -> list[str] | None:
    """The names of cases that are asked for; None for all."""
    if case is None and cases is None:
        return None
    names = list(case or ())
    if cases is not None:
        try:
            lines = cases.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise NothingRan(f"--cases {cases}: it cannot be read: {error}") from error
        names += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not names:
        raise NothingRan(f"--cases {cases}: it names no case")
    return names


def _lacks(document: Mapping[str, Any]) -> set[str]:
    """What the device of a report does not have."""
    device = document["device"]
    lacks = {d for d in ("float64", "float16", "bfloat16") if d not in device["dtypes"]}
    return lacks | ({"devices"} if device["devices"] < 2 else set())


def _conduct(console: Console, device: str, asked: Asked, folder: Path) -> dict[str, Any]:
    """Run, with a bar, and a line for each failure as it comes."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    shown = 0

    def begun(cases: Sequence[Case], facts: Mapping[str, Any]) -> None:
        about = facts["device"]
        origin = f" of {about['distribution']} {about['version']}" if about["distribution"] else ""
        console.print(Text(f"{about['name']}{origin}: {about['description']}"), soft_wrap=True)
        counted = sum(c.level is not None for c in cases)
        what = "chosen cases" if asked.filtered else f"cases up to {asked.level.name}"
        more = f" and {len(cases) - counted} that count for none" if counted < len(cases) else ""
        console.print(f"{counted} {what}{more}, {asked.jobs} {'process' if asked.jobs == 1 else 'processes'}")
        bar.add_task("running", total=len(cases))
        bar.start()

    def told(record: Mapping[str, Any]) -> None:
        nonlocal shown
        bar.advance(bar.task_ids[0])
        if record["status"] not in (*HELD, "waived") and record["level"] is not None:
            shown += 1
            if shown <= _SHOWN:
                console.print(_line(record), soft_wrap=True)
            elif shown == _SHOWN + 1:
                console.print("... more of them are in the report")

    try:
        return conduct(device, asked, folder, begun=begun, told=told)
    finally:
        if bar.tasks:
            bar.stop()


_STYLES: Final = {"failed": "bold red", "unsupported": "yellow"}


def _line(record: Mapping[str, Any]) -> Text:
    message = record["message"].splitlines()[0] if record["message"] else ""
    return Text.assemble(
        (f"{record['status']:>11} ", _STYLES.get(record["status"], "")), f"{record['id']}: {message[:400]}"
    )


def _print_summary(console: Console, document: Mapping[str, Any], lines: list[str]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("level")
    for heading in ("cases", "passed", "not exercised", "failed", "unsupported", "waived"):
        table.add_column(heading, justify="right")
    for item in document["levels"]:
        held = item["passed"] + item["not_exercised"] == item["cases"]
        numbers = (item["passed"], item["not_exercised"], item["failed"], item["unsupported"], item["waived"])
        style = "green" if held else "red"
        table.add_row(
            Text(item["level"], style),
            str(item["cases"]),
            *(str(n) if n else "" for n in numbers),
        )
    console.print(table)
    waived = {c["id"] for c in document["cases"] if c["status"] == "waived"}
    for waiver in document["waivers"]:
        if waiver["case"] in waived:
            console.print(Text(f"waived: {waiver['case']}: {waiver['reason']}", "magenta"), soft_wrap=True)
    sources = document["sources"].values()
    kernel, body = (sum(s[name] for s in sources) for name in ("kernel", "body"))
    if kernel + body:
        console.print(f"{kernel} applications by the device's own kernels, {body} by bodies")
    for line in lines:
        console.print(Text(line, "yellow"), soft_wrap=True)
    if document["filtered"]:
        console.print(Text("a filtered run: no level", "bold yellow"))
    else:
        reached = document["reached"]
        console.print(Text(f"level reached: {reached or 'none'}", "bold green" if reached else "bold red"))
    console.print(f"{document['seconds']:.1f} s")


def _refused(console: Console, error: NothingRan | NotLoadable) -> typer.Exit:
    """Print why there was no run; what ends the command."""
    console.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
    return typer.Exit(NOTHING_RAN if isinstance(error, NothingRan) else NOT_LOADABLE)
