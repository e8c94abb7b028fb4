"""``plugrad ops``: every op, and the list of primitives that a vendor works from."""

from __future__ import annotations

import inspect
import json as json_module
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import all_ops


def ops_command(
    primitives: Annotated[
        bool, typer.Option("--primitives", help="Only the primitives, with the rule of each.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the ops: what each does, its kind, and whether a backend must have a kernel for it."""
    stated = [o for _, o in sorted(all_ops().items()) if o.owner is None and (o.primitive or not primitives)]
    if json:
        typer.echo(json_module.dumps([_as_json(o) for o in stated], indent=2))
        return
    console = Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("op", "kind", "rule" if primitives else "needs a kernel", "what it gives"):
        table.add_column(heading, overflow="fold")
    for o in stated:
        third = _rules(o) if primitives else ("yes" if o.primitive else "")
        table.add_row(*map(Text, (o.name, o.kind.value, third, _summary(o))))
    console.print(table)
    count = sum(o.primitive for o in stated)
    console.print(f"{len(stated)} ops, {count} of them primitives: what a backend must have kernels for.")


def _summary(o: Op[..., Any]) -> str:
    doc = inspect.getdoc(o) or ""
    return " ".join(doc.split("\n\n")[0].split())


def _rules(o: Op[..., Any]) -> str:
    """The ops of the rules of ``o`` with what each reads; or why there is none."""
    if not o.vjps:
        return "none: no derivative" if not o.differentiable else "none"
    rules = []
    for vjp in o.vjps:
        reads = ", ".join(operand.name for operand in vjp.op.operands)
        rules.append(f"{vjp.op.name}({reads})")
    return "\n".join(rules)


def _as_json(o: Op[..., Any]) -> dict[str, Any]:
    return {
        "name": o.name,
        "kind": o.kind.value,
        "primitive": o.primitive,
        "operands": [operand.name for operand in o.operands],
        "attributes": list(o.attributes),
        "outputs": list(o.outputs),
        "residuals": list(o.residuals),
        "differentiable": list(o.differentiable),
        "data_dependent": o.data_dependent,
        "may_alias": o.may_alias,
        "expression": o.expression,
        "dtypes": {name: [d.name for d in taken] for name, taken in o.dtypes.items()},
        "rules": [
            {
                "name": v.op.name,
                "wrt": list(v.wrt),
                "operands": [operand.name for operand in v.op.operands],
                "attributes": list(v.op.attributes),
            }
            for v in o.vjps
        ],
        "summary": _summary(o),
    }
