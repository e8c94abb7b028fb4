"""The ``plugrad`` command. Its own commands stand here; those of plugins are imported when they are invoked."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from plugrad.backend import PluginEntry, State, extensions, load_hooks
from plugrad.backend.loading import failure_of
from plugrad.cli.devices import devices_command
from plugrad.cli.graph import graph_command
from plugrad.cli.new_backend import new_backend_command
from plugrad.cli.ops import ops_command
from plugrad.cli.train import train_command
from plugrad.errors import PlugradError
from plugrad.version import VERSION

app = typer.Typer(
    name="plugrad",
    help="plugrad: a deep-learning framework that any accelerator can plug into.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("devices")(devices_command)
app.command("graph")(graph_command)
app.command("new-backend")(new_backend_command)
app.command("ops")(ops_command)
app.command("train")(train_command)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"plugrad {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    del version


def _add_plugin_command(name: str, entry: PluginEntry) -> None:
    """List the command of a plugin; the plugin is imported when the command runs."""

    def run(context: typer.Context) -> None:
        try:
            hooks = load_hooks(entry)
        except Exception as error:
            failure = failure_of(entry, error)
            if failure.state is not State.UNAVAILABLE:
                raise
            raise failure.error(f"plugrad {name} of {entry.origin}") from error
        command = dict(hooks.plugrad_commands() or {}).get(name)
        if command is None:
            raise PlugradError(f"{entry.distribution}: its plugrad_commands gives no command {name!r}")
        inner = command if isinstance(command, typer.Typer) else _single(command)
        inner(args=context.args, prog_name=f"plugrad {name}")

    app.command(
        name,
        help=f"A command of {entry.distribution} {entry.version}.",
        # Whatever follows the first word is the plugin's to read, a "--" among it.
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "allow_interspersed_args": False,
            "help_option_names": [],
        },
    )(run)


def _single(function: Any) -> typer.Typer:
    """A typer app of one command."""
    inner = typer.Typer(pretty_exceptions_enable=False)
    inner.command()(function)
    return inner


def main() -> None:
    """Run the command; an error that plugrad raises on purpose is printed in one piece, without a traceback."""
    taken = {c.name for c in app.registered_commands} | {g.name for g in app.registered_groups}
    for name, entry in extensions("command"):
        if name not in taken and entry.compatible:
            taken.add(name)
            _add_plugin_command(name, entry)
    try:
        app()
    except PlugradError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
