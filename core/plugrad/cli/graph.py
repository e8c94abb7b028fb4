"""``plugrad graph SCRIPT.py:fn``: what a captured function computes, before and after each pass."""

from __future__ import annotations

import contextlib
import difflib
import enum
import functools
import json
import runpy
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from plugrad.errors import ArgumentError
from plugrad.graph.drawing import dot, svg
from plugrad.graph.ir import Graph
from plugrad.graph.jitted import Jitted, jit
from plugrad.graph.passes import Context, all_passes, run_passes
from plugrad.graph.printing import text
from plugrad.graph.serial import same, to_json

Step = tuple[str, Graph, Graph]


class Format(enum.StrEnum):
    """How a graph is written."""

    TEXT = "text"
    JSON = "json"
    DOT = "dot"
    SVG = "svg"


def graph_command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="SCRIPT.py:FUNCTION",
            help="A script, and the name of a function there (a.b for one within).",
        ),
    ],
    pass_: Annotated[
        str | None,
        typer.Option("--pass", metavar="NAME", help="Before and after this pass; json, dot, svg: after it."),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Before the passes and after each (text, json).")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="How it is written.")] = Format.TEXT,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where it goes, by default printed.")
    ] = None,
    capture: Annotated[
        int | None, typer.Option(min=1, help="Which capture, from 1 in their order; by default the latest.")
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="text: the script's line behind each node.")] = False,
) -> None:
    """Show the graph of a captured function: as it was captured, and what each pass makes of it.

    The script runs as an imported module does: what stands under `if __name__ == "__main__"` does not run, and what
    it prints goes to the standard error. Either it calls the function, or it defines example_args(), whose result is
    the tuple of arguments that the function is called with; then the function need not be captured by itself.
    """
    if pass_ is not None and all_:
        raise ArgumentError("graph: takes --pass or --all, not both")
    if all_ and format_ in (Format.DOT, Format.SVG):
        raise ArgumentError(f"graph: --all takes --format text or json; for {format_} choose one with --pass")
    if pass_ is not None and pass_ not in all_passes():
        raise ArgumentError(f"graph: there is no pass {pass_!r}; there are {', '.join(all_passes())}")
    captures = _captures(target)
    which = len(captures) if capture is None else capture
    if which > len(captures):
        raise ArgumentError(f"graph: there is no capture {which}; there are {len(captures)}")
    ready = captures[which - 1]
    steps: list[Step] = []
    if pass_ is not None or all_:
        context = Context(ready.backend, ready.modes)
        run_passes(ready.capture.graph, context, lambda *step: steps.append(step))
        steps = [s for s in steps if all_ or s[0] == pass_]
    if format_ is Format.TEXT:
        heading = f"# {target}, capture {which} of {len(captures)}: {ready.described}"
        written = "\n\n".join([heading, *_texts(ready.capture.graph, steps, lines)]) + "\n"
    elif format_ is Format.JSON:
        written = _json(ready.capture.graph, steps, all_)
    else:
        draw = dot if format_ is Format.DOT else svg
        # After a pass there is no telling by number where the backward begins.
        written = draw(steps[0][2]) if steps else draw(ready.capture.graph, ready.capture.forward_nodes)
    if output is None:
        typer.echo(written, nl=False)
        return
    try:
        output.write_text(written, encoding="utf-8")
    except OSError as error:
        raise ArgumentError(f"graph: cannot write {output}: {error.strerror}") from None


def _texts(captured: Graph, steps: list[Step], lines: bool) -> list[str]:
    if not steps:
        return [text(captured, lines=lines)]
    first, before, _ = steps[0]
    parts = [f"# before {first}: {len(before)} nodes\n{text(before, lines=lines)}"]
    for name, before, after in steps:
        if same(before, after):
            parts.append(f"# after {name}: the same")
        else:
            parts.append(f"# after {name}: {len(after)} nodes\n{text(after, lines=lines)}")
    return parts


def _json(captured: Graph, steps: list[Step], several: bool) -> str:
    if not several:
        return to_json(steps[0][2] if steps else captured, indent=1) + "\n"
    row = [{"pass": None, "graph": json.loads(to_json(captured))}]
    row += [{"pass": name, "graph": json.loads(to_json(after))} for name, _, after in steps]
    return json.dumps(row, indent=1) + "\n"


def _captures(target: str) -> list[Any]:
    """Run the script; the captures of the function, in their order."""
    script, _, name = target.rpartition(":")
    if not script or not name:
        raise ArgumentError(f"graph: takes SCRIPT.py:FUNCTION, got {target!r}")
    if not Path(script).is_file():
        raise ArgumentError(f"graph: there is no file {script}")
    argv, path = sys.argv[:], sys.path[:]
    sys.argv, sys.path = [script], [str(Path(script).resolve().parent), *path]
    try:
        with contextlib.redirect_stdout(sys.stderr):
            scope = runpy.run_path(script, run_name="__plugrad_graph__")
            function = _found(scope, name, script)
            if not function.captures():
                if not callable(scope.get("example_args")):
                    raise ArgumentError(
                        f"graph: {script} neither calls {name} nor defines example_args(); add to it "
                        "def example_args(), which returns the tuple of arguments to call it with"
                    )
                _called(function, scope["example_args"](), script)
    finally:
        sys.argv, sys.path = argv, path
    found = function.captures()
    if not found:
        raise ArgumentError("graph: nothing is captured; is PLUGRAD_JIT 0 in the environment?")
    return found


def _found(scope: dict[str, Any], name: str, script: str) -> Jitted[..., Any]:
    first, *rest = name.split(".")
    if first not in scope:
        near = difflib.get_close_matches(first, [k for k, v in scope.items() if callable(v)], 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ArgumentError(f"graph: {script} defines no {first!r}{hint}")
    function = scope[first]
    for part in rest:
        if not hasattr(function, part):
            raise ArgumentError(f"graph: {name}: {type(function).__name__} has no {part!r}")
        function = getattr(function, part)
    if isinstance(function, functools.partial) and isinstance(function.func, Jitted):
        function = function.func  # a method
    if not callable(function):
        raise ArgumentError(f"graph: {name} is no function, but {type(function).__name__}")
    return function if isinstance(function, Jitted) else jit(function)


def _called(function: Jitted[..., Any], args: Any, script: str) -> None:
    if not isinstance(args, tuple):
        raise ArgumentError(
            f"graph: example_args() of {script} returns {type(args).__name__}; return a tuple of arguments"
        )
    function(*args)
