"""``plugrad diff``: the command, and what it prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from plugrad.backend import backend_of, resolve_device
from plugrad.backend.null import NULL
from plugrad.convert import to_host
from plugrad.dispatch.data import TensorData
from plugrad.dtypes import as_dtype
from plugrad.errors import ArgumentError, DeviceError, PlugradError
from plugrad.spec import Device
from plugrad_conformance.diff.agreement import Difference, difference
from plugrad_conformance.diff.application import Application, Host, Number, compute
from plugrad_conformance.diff.lockstep import Follower, Lockstep, Parting, Stop
from plugrad_conformance.diff.saved import read, write
from plugrad_conformance.diff.script import ScriptFailed, run_script

_console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)


def diff_command(
    device_a: Annotated[str, typer.Argument(help="The device whose results are expected.")],
    device_b: Annotated[
        str | None,
        typer.Argument(
            help="The device that is held against it; left out, --replay uses the file's results."
        ),
    ] = None,
    script: Annotated[
        Path | None, typer.Argument(help="A Python script that trains, and names no device itself.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(help="What follows -- is the script's own sys.argv.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Repeat the application that an earlier diff saved in this file.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0.0, help="Largest relative difference, in place of the rule by dtype."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Go on after the first that parts.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Where every random generator starts.")] = 0,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder that saved inputs go to.")
    ] = Path("diff"),
) -> None:
    """Name the first op, forward or backward, whose results on two devices part.

    DEVICE_A runs the script, and DEVICE_B repeats each application of an op at once from DEVICE_A's inputs. Where
    none parts, DEVICE_B runs the script too, and must apply the same ops in the same order. Exit codes: 0 the
    devices agree, 1 they part, 2 it could not be found out.
    """
    try:
        first = _device(device_a)
        second = None if device_b is None else _device(device_b)
        if replay is not None:
            if script is not None:
                raise ArgumentError("diff: takes a script or --replay, not both")
            code = _replay(replay, first, second, tolerance)
        else:
            if second is None or script is None:
                raise ArgumentError(
                    "diff: takes two devices and a script: plugrad diff DEVICE_A DEVICE_B SCRIPT.py"
                )
            if not script.is_file():
                raise ArgumentError(f"diff: there is no script {script}")
            code = _diff(first, second, script, arguments or [], tolerance, every, seed, output)
    except PlugradError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        code = 2
    if code:
        raise typer.Exit(code)


def _device(text: str) -> Device:
    device = resolve_device(text)
    if device.name == NULL:
        raise DeviceError(f"diff: the {NULL} device has no values to compare")
    return device


def _diff(
    first: Device,
    second: Device,
    script: Path,
    arguments: Sequence[str],
    tolerance: float | None,
    every: bool,
    seed: int,
    output: Path,
) -> int:
    lockstep = Lockstep(first, second, tolerance, every=every)
    values: dict[str, Any] = {}
    try:
        values = run_script(script, arguments, first, seed, lockstep)
    except Stop:
        pass
    except ScriptFailed as error:
        _failed(script, first, error)
        if not lockstep.partings:
            return 2
    partings = lockstep.partings
    for parting in partings:
        _print_parting(parting)
        try:
            file = write(parting, output)
        except (OSError, PlugradError) as error:
            _console.print(f"  its inputs are not saved: {error}")
            continue
        _console.print(
            f"  saved as {file}; to repeat it: plugrad diff {first} {second} --replay {quote(str(file))}"
        )
    if partings:
        return 1 if any(p.difference is not None for p in partings) else 2
    if not lockstep.trace:
        raise ArgumentError(
            f"diff: {script} applies no op on {first}; it must leave the device to plugrad.use_device, and not "
            "name one itself"
        )
    return _follow(lockstep, values, script, arguments, seed)


def _follow(
    lockstep: Lockstep, values: dict[str, Any], script: Path, arguments: Sequence[str], seed: int
) -> int:
    """Run the script on the second device, and see that it takes the same way."""
    first, second = lockstep.device, lockstep.other
    left_out = _conversions(first, second)
    follower = Follower(second, lockstep.trace if lockstep.complete else [], left_out)
    follower.complete = lockstep.complete
    theirs: dict[str, Any] = {}
    try:
        theirs = run_script(script, arguments, second, seed, follower)
    except Stop:
        pass
    except ScriptFailed as error:
        _failed(script, second, error)
        return 2
    losses = _losses(values, theirs)
    agreed = f"{len(lockstep.trace)} applications of {len(lockstep.counts)} ops agree"
    if follower.complete and (follower.strayed or follower.count < len(follower.expected)):
        at = follower.count - (follower.strayed is not None)
        _console.print(
            f"{first} and {second} part: {agreed}, each from the same inputs, but the script does not take the same "
            f"way on both. Application {at + 1}:"
        )
        ended = ("nothing more", "")
        for device, (op, line) in (
            (first, follower.expected[at] if at < len(follower.expected) else ended),
            (second, follower.strayed or ended),
        ):
            _console.print(f"  {device} applies {op}{f', at {line}' if line else ''}")
        return 1
    _console.print(f"{first} and {second}: {agreed}{losses}")
    return 0


def _conversions(first: Device, second: Device) -> frozenset[str]:
    """The ops that the core adds on one of the devices alone: where kernels do not broadcast, it does."""
    broadcasting = {backend_of(d).capabilities(d).broadcasting for d in (first, second)}
    return (
        frozenset(("broadcast_to", "broadcast_to.vjp.x", "sum_to")) if len(broadcasting) > 1 else frozenset()
    )


def _losses(*runs: dict[str, Any]) -> str:
    """What the script calls ``loss``, on either device."""
    found = [r.get("loss") for r in runs]
    numbers = [to_host(v).item() if isinstance(v, TensorData) and v.spec.size == 1 else v for v in found]
    if not all(isinstance(n, (int, float)) for n in numbers):
        return ""
    return f"; loss {' and '.join(repr(n) for n in numbers)}"


def _failed(script: Path, device: Device, error: ScriptFailed) -> None:
    _console.print(f"{script} does not run on {device}:")
    _console.print(str(error).rstrip())


def _replay(file: Path, first: Device, second: Device | None, tolerance: float | None) -> int:
    saved = read(file)
    application = saved.application
    _console.print(f"{application.op.name}, saved from {saved.line}")
    _print_application(application)
    results: dict[Device, Sequence[Host | None]] = {}
    for device in (first, second or first):
        try:
            results[device] = compute(application, device).results
        except Exception as error:  # a kernel may raise anything
            raise DeviceError(
                f"diff: {application.op.name} does not run on {device}: {type(error).__name__}: {error}"
            ) from error
    names = (
        (f"the file, from {saved.devices[0]}", str(first)) if second is None else (str(first), str(second))
    )
    expected, got = (saved.expected, results[first]) if second is None else (results[first], results[second])
    found = difference(application, expected, got, tolerance, results)
    if found is None:
        _console.print(f"  the results of {names[0]} and {names[1]} agree")
        return 0
    _print_difference(application, found, names)
    return 1


def _print_parting(parting: Parting) -> None:
    application, (first, second) = parting.application, parting.devices
    op = application.op
    what = "forward" if op.owner is None else "vjp"
    parts = "parts" if parting.difference is not None else f"does not run on {second}"
    _console.print(
        Text.assemble(
            (op.name, "bold red"),
            f" ({what}) {parts}: application {parting.number} of the run, number {parting.of_op} of this op",
        )
    )
    applied = "applied at" if op.owner is None else "in the backward of what was applied at"
    _console.print(f"  {applied} {parting.line}")
    _print_application(application)
    if parting.difference is None:
        error = parting.error
        _console.print(f"  {second} raises {type(error).__name__}: {error}")
        return
    _console.print(f"  computed by: {parting.sources[0]} on {first}, {parting.sources[1]} on {second}")
    _print_difference(application, parting.difference, (str(first), str(second)))
    inside = parting.inside
    while inside is not None and inside.inside is not None:
        inside = inside.inside
    if inside is not None and inside.difference is not None:
        owner, other = inside.devices
        _console.print(
            f"  within its body, as {owner} runs it, it is {inside.application.op.name} that parts:",
        )
        _print_application(inside.application, "    ")
        _print_difference(inside.application, inside.difference, (str(owner), str(other)), "    ")


def _print_application(application: Application, indent: str = "  ") -> None:
    def said(value: Any) -> str:
        if value is None:
            return "None"
        if isinstance(value, tuple):
            return f"[{', '.join(map(said, value))}]"
        if isinstance(value, Number):
            return f"{value.value!r} ({value.dtype})"
        return f"{as_dtype(value.dtype)} {value.shape}"

    inputs = [f"{o.name} {said(v)}" for o, v in zip(application.op.operands, application.inputs, strict=True)]
    attributes = [f"{k}={v!r}" for k, v in application.attributes.items() if not isinstance(v, Device)]
    _console.print(f"{indent}inputs: {'; '.join(inputs) or 'none'}")
    if attributes:
        _console.print(f"{indent}attributes: {', '.join(attributes)}")


def _print_difference(
    application: Application, found: Difference, names: tuple[str, str], indent: str = "  "
) -> None:
    result = _result_name(application, found.result)
    if found.reason:
        _console.print(f"{indent}{result} of {names[0]} against that of {names[1]}: {found.reason}")
        return
    _console.print(
        f"{indent}{result}: {found.wrong} of {found.size} elements differ, the most at "
        f"{list(found.position)}: {found.expected!s} on {names[0]}, {found.got!s} on {names[1]}",
    )
    ulp = "" if found.ulp is None else f"{found.ulp:.3g} ULP, "
    _console.print(
        f"{indent}largest error: {ulp}relative {found.relative:.3g} (a difference of {found.allowed:.3g} "
        "there counts as rounding)",
    )


def _result_name(application: Application, index: int) -> str:
    op = application.op
    if op.owner is None:
        names: Sequence[str] = (*op.outputs, *op.residuals)
        return f"result {names[index]}" if len(names) > 1 and index < len(names) else "the result"
    wrt = application.attributes.get("wrt") or next(v.wrt for v in op.owner.vjps if v.op is op)
    return f"the cotangent of {wrt[index]}" if index < len(wrt) else f"result {index}"


__all__ = ["diff_command"]
