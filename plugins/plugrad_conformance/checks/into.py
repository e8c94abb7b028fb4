"""``into``: kernels write the whole of the memory that they are given, and nothing beside it.

Each kernel of the device runs as dispatch called it, once more with ``into``: slices of larger buffers, whose other
elements stand guard. Where the device copies when it slices, plain arrays are given, and the guards are not exercised.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad import ops
from plugrad.dispatch.observer import Source
from plugrad.dispatch.op import Op
from plugrad.dispatch.statement import all_ops
from plugrad.dtypes import as_dtype, float32
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run, gradient, place_on
from plugrad_conformance.checks.forward import has_floats, op_of
from plugrad_conformance.checks.layout import writes_through
from plugrad_conformance.measure import Failure
from plugrad_conformance.subject import (
    WATCH,
    Settled,
    Subject,
    names_missing_dtype,
    placed,
    rounded,
    samples_of,
    stated_ops,
)

Host = np.ndarray[Any, Any]

GUARD: Final = 64
"""Elements before and after."""


def cases() -> Iterator[Case]:
    """Every op and every rule that may have a kernel."""
    for op in stated_ops():
        if op.transparent or op.data_dependent:
            continue
        yield Case("into", op.name, "float32", "", Level.L3, frozenset(), op.name, "forward")
        for vjp in op.vjps:
            yield Case("into", vjp.op.name, "float32", "", Level.L3, frozenset(), op.name, "vjp")


def run(run: Run) -> None:
    """Listen to the kernel of the subject over all samples, and run it again."""
    op, target = op_of(run), all_ops()[run.case.subject]
    subject = run.subject
    met: list[tuple[Settled, tuple[Any, ...], dict[str, Any], Any]] = []
    before = _times(target)

    def listen(told: Settled, arrays: tuple[Any, ...], given: dict[str, Any], results: Any) -> None:
        if told.op is target and told.source is Source.KERNEL:
            met.append((told, arrays, given, results))

    WATCH.listener = listen
    try:
        for sample in samples_of(op, run.case.seed):
            if names_missing_dtype(sample, subject):
                continue
            if run.case.direction == "forward":
                operands = placed([rounded(o, float32) for o in sample.operands], place_on(subject))
                sample.apply(op, operands)
            elif has_floats(sample):
                gradient(Run(run.case, subject), op, sample, float32, identity=False, loose=True)
    finally:
        WATCH.listener = None
    exercised = True
    for told, arrays, given, results in met:
        exercised &= _again(subject, target, told, arrays, given, results)
        run.samples += 1
    if not met:
        run.not_exercised = (
            "the device has no kernel of its own for it"
            if _times(target) > before
            else "no sample comes to it by itself"
        )
    elif not exercised:
        run.not_exercised = "the device copies where a slice is asked for, so that nothing can stand guard"


def _times(op: Op[..., Any]) -> int:
    """How often an op, or a rule, ran on the device so far, by whatever."""
    return sum(WATCH.calls[op.name, source] for source in Source)


def _again(
    subject: Subject,
    op: Op[..., Any],
    told: Settled,
    arrays: tuple[Any, ...],
    given: dict[str, Any],
    results: Any,
) -> bool:
    """Run a kernel with ``into``; whether guards stood around it."""
    assert told.run is not None
    several = isinstance(results, tuple)
    flat = list(results) if several else [results]
    if any(r is None or isinstance(r, (list, tuple)) for r in flat):
        return True  # a rule that gives no gradient of an operand, or one for each of a sequence, has nothing to fill
    hosts = [np.array(subject.backend.to_host(r)) for r in flat]
    inputs = [np.array(subject.backend.to_host(a)) for a in _arrays(arrays)]
    slots = [_slot(subject, h) for h in hosts]
    into: Any = tuple(s[1]._array for s in slots) if several else slots[0][1]._array
    told.run(*arrays, **given, into=into)
    what = f"{op.name} with into"
    guarded = True
    for host, (base, view) in zip(hosts, slots, strict=True):
        got = np.array(subject.host(view))
        if got.tobytes() != host.tobytes() and not _close(got, host):
            raise Failure(
                f"{what}: the memory does not hold the result of shape {host.shape}: {_first(got, host)}"
            )
        around = np.array(subject.host(base))
        guards = np.concatenate((around[:GUARD], around[GUARD + host.size :]))
        if (guards != _sentinel(host)).any():
            raise Failure(f"{what}: it wrote outside the memory that it was given, of shape {host.shape}")
        if host.size:
            inside = around[GUARD : GUARD + host.size]
            guarded &= inside.tobytes() == np.ascontiguousarray(got).tobytes() and writes_through(
                subject, *_probe(subject)
            )
    for array, before in zip(_arrays(arrays), inputs, strict=True):
        if np.array(subject.backend.to_host(array)).tobytes() != before.tobytes():
            raise Failure(f"{what}: it changed an operand")
    _overlapping(subject, op, told, arrays, given, results)
    return guarded


def _overlapping(
    subject: Subject,
    op: Op[..., Any],
    told: Settled,
    arrays: tuple[Any, ...],
    given: dict[str, Any],
    result: Any,
) -> None:
    """Where a kernel says that ``into`` may be an operand, it may."""
    kernel = subject.backend.kernels.find(op, told.specs, {**told.attributes, "matmul_precision": "highest"})
    if kernel is None:
        return
    several = isinstance(result, tuple)
    hosts = [np.array(subject.backend.to_host(r)) for r in (result if several else (result,))]
    given_in: dict[int, Any] = {}
    for i, operand in enumerate(op.operands):
        if operand.name not in kernel.inplace or not _plain(arrays[i]):
            continue
        own = np.array(subject.backend.to_host(arrays[i]))
        # Of several results, each replaces the operand of its name.
        at = op.outputs.index(operand.name) if several and operand.name in op.outputs else 0
        if (
            own.shape == hosts[at].shape
            and own.dtype == hosts[at].dtype
            and (not several or operand.name in op.outputs)
        ):
            given_in[i] = (at, subject.backend.from_host(own, subject.device))
    # Of several results all at once, as a plan does it; else one operand after the other.
    for group in [given_in] if several else [{i: v} for i, v in given_in.items()]:
        if len(group) < len(hosts):
            continue
        into = [place for _, place in sorted(group.values(), key=lambda v: v[0])]
        given_arrays = [group[i][1] if i in group else a for i, a in enumerate(arrays)]
        told.run(*given_arrays, **given, into=tuple(into) if several else into[0])  # type: ignore[misc]
        for host, place in zip(hosts, into, strict=True):
            got = np.array(subject.backend.to_host(place))
            if got.tobytes() != host.tobytes() and not _close(got, host):
                names = ", ".join(op.operands[i].name for i in group)
                raise Failure(f"{op.name} with into on top of {names}: {_first(got, host)}")


def _slot(subject: Subject, host: Host) -> tuple[pg.Tensor, pg.Tensor]:
    """A buffer with guards, and the slice between them in the shape of ``host``."""
    long = np.full(host.size + 2 * GUARD, _sentinel(host), host.dtype)
    base = pg.asarray(long, device=subject.device)
    return base, ops.reshape(base[GUARD : GUARD + host.size], host.shape)


def _probe(subject: Subject) -> tuple[pg.Tensor, pg.Tensor]:
    return _slot(subject, np.zeros(3, np.float32))


def _sentinel(host: Host) -> Any:
    return True if host.dtype.kind == "b" else host.dtype.type(113)


def _arrays(values: tuple[Any, ...]) -> list[Any]:
    flat = [a for v in values for a in (v if isinstance(v, list) else [v])]
    return [a for a in flat if _plain(a)]


def _plain(value: Any) -> bool:
    """Whether an argument of a kernel is one of the device's arrays."""
    return value is not None and not isinstance(value, (bool, int, float, list))


def _close(got: Host, wanted: Host) -> bool:
    """Equal but for the rounding of another order of summation."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype or got.dtype.kind in "biu":
        return False
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    eps = float(pg.finfo(as_dtype(wanted.dtype)).eps)
    scale = float(np.max(np.abs(b), where=np.isfinite(b), initial=0.0))
    with np.errstate(all="ignore"):
        return bool(np.all((np.abs(a - b) <= 64 * eps * scale) | (np.isnan(a) & np.isnan(b)) | (a == b)))


def _first(got: Host, wanted: Host) -> str:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return f"it has shape {got.shape} and dtype {got.dtype}"
    at = tuple(int(i) for i in np.argwhere(got != wanted)[0])
    return f"got {got[at]!r} at {list(at)}, and without into {wanted[at]!r}"
