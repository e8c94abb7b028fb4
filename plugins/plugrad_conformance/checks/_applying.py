"""Applying an op to a sample on the device, and holding its results and its gradients against what is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad.autograd import engine
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dtypes import DType, float64
from plugrad_conformance.cases import Case
from plugrad_conformance.measure import Failure, Wanted, Worst, compare
from plugrad_conformance.reference import REFERENCE, Application
from plugrad_conformance.subject import Subject, flat, placed, rounded, tensors
from plugrad_conformance.tolerances import bound_of, gradient_bound

Host = np.ndarray[Any, Any]
Place = Callable[[Host], pg.Tensor]

STEP: Final = 1e-4
"""The step of finite differences; with one extrapolation their error is about 1e-11 of the result."""

IDENTITY: Final = 1e-7
"""How far a rule in float64 may be from finite differences of the oracle, relative to the terms' magnitudes."""


@dataclass(slots=True)
class Run:
    """A case that runs.

    Attributes:
        case: the case.
        subject: the device under test.
        worst: the largest error met.
        samples: how many applications were held against something.
        not_exercised: why the device gave no occasion to go wrong, or the empty string.
        told: what a case that counts for no level found out.
    """

    case: Case
    subject: Subject
    worst: Worst = field(default_factory=Worst)
    samples: int = 0
    not_exercised: str = ""
    told: str = ""

    def rng(self) -> np.random.Generator:
        """Random numbers that follow from the case's name."""
        return np.random.default_rng(self.case.seed)


def place_on(subject: Subject) -> Place:
    """Host arrays as they come, on the device."""
    return lambda host: pg.asarray(host, device=subject.device)


def on_reference(host: Host) -> pg.Tensor:
    """A host array on the reference device, floating ones in float64."""
    value = host if host.dtype.kind in "biu" else host.astype(np.float64)
    return pg.asarray(value, device=REFERENCE)


def unmutated(
    what: str, subject: Subject, operands: Sequence[Any], before: Sequence[Any], name: str = "operand"
) -> None:
    """Raise if an operand, or what else has that name, is not on the device what it was."""
    hosts = [h for h in flat(list(before)) if isinstance(h, np.ndarray)]
    for i, (tensor, host) in enumerate(zip(tensors(list(operands)), hosts, strict=True)):
        now = subject.host(tensor)
        if now.tobytes() != np.ascontiguousarray(host).tobytes():
            raise Failure(f"{what}: {name} {i} was changed by the op")


def forward(
    run: Run,
    op: Op[..., Any],
    sample: Sample,
    dtype: DType,
    *,
    place: Place | None = None,
    operands: Sequence[Any] | None = None,
    check: Callable[[Application, list[Host], list[Host]], None] | None = None,
    apply: Callable[[list[Any]], Any] | None = None,
) -> None:
    """Apply ``op`` to a sample in ``dtype`` and hold the results against the oracle's.

    Args:
        run: the case.
        op: the op.
        sample: the sample.
        dtype: the dtype of the floating operands.
        place: brings a host array to the device; in another layout, for example.
        operands: host operands instead of the sample's own.
        check: also called, with the application, what was got, and what is wanted.
        apply: what applies the op to the operands on the device; the op itself by default.

    Raises:
        Failure: if a result is not as wanted, or an operand was changed.
    """
    subject = run.subject
    hosts = [rounded(o, dtype) for o in (sample.operands if operands is None else operands)]
    application = Application.of(op, sample, hosts, dtype)
    given = placed(hosts, place or place_on(subject))
    results = tensors(sample.apply(op, given) if apply is None else apply(given))
    heads, tails = application.exact()
    if len(results) != len(heads):
        raise Failure(f"{sample}: {len(results)} results, wanted {len(heads)}")
    terms: Sequence[tuple[Host, Host] | None] = application.terms() or [None] * len(heads)
    largest = application.largest(heads[0].shape)
    got = []
    for i, (result, head, tail, term) in enumerate(zip(results, heads, tails, terms, strict=True)):
        host = subject.host(result)
        what = f"{sample}" if len(heads) == 1 else f"{sample}, result {i}"
        wanted = _either_order(application, host, head)
        compare(
            what, host, Wanted(wanted, tail, term, largest=largest), result.dtype, bound_of(op), run.worst
        )
        got.append(host)
    if check is not None:
        check(application, got, heads)
    unmutated(f"{sample}", subject, given, hosts)
    run.samples += 1


def _either_order(application: Application, got: Host, wanted: Host) -> Host:
    """Indices of an order that is not stable: any that bring the operand into the same order will do."""
    if application.attributes.get("stable", True) or wanted.dtype.kind not in "iu":
        return wanted
    x, axis = application.operands[0], application.attributes["axis"]
    if got.shape != wanted.shape or (np.sort(got, axis) != np.sort(wanted, axis)).any():
        return wanted
    same = np.take_along_axis(x, got, axis) == np.take_along_axis(x, wanted, axis)
    return np.where(same, got, wanted)


def floating_at(operands: Sequence[Any]) -> list[int]:
    """The indices, sequences taken apart, of the operands that a gradient is asked of."""
    arrays = [np.asarray(v) for v in flat(list(operands)) if isinstance(v, (np.ndarray, np.generic))]
    return [i for i, v in enumerate(arrays) if v.dtype.kind not in "biu"]


def pulled(
    op: Op[..., Any],
    sample: Sample,
    hosts: Sequence[Any],
    cts: Callable[[list[pg.Tensor]], list[pg.Tensor]],
    place: Place,
    wrt: Sequence[int],
    apply: Callable[[list[Any]], Any] | None = None,
) -> tuple[list[pg.Tensor | None], list[Any], list[pg.Tensor]]:
    """The gradients with respect to the operands ``wrt``, the operands on the device, and the results."""
    given = placed(hosts, place)
    leaves = tensors(given)
    for i in wrt:
        leaves[i].requires_grad_()
    results = sample.apply(op, given) if apply is None else apply(given)
    outs = [t for t in tensors(results) if t.requires_grad]
    if not outs:
        return [None for _ in wrt], given, outs
    seeds: list[Any] = [(o._node, c) for o, c in zip(outs, cts(outs), strict=True)]
    found = engine.run(seeds)
    return [found.get(leaves[i]._node) for i in wrt], given, outs  # type: ignore[arg-type]


def gradient(
    run: Run,
    op: Op[..., Any],
    sample: Sample,
    dtype: DType,
    *,
    place: Place | None = None,
    place_ct: Place | None = None,
    wrt: Sequence[int] | None = None,
    operands: Sequence[Any] | None = None,
    ct: Callable[[Host], Host] | None = None,
    identity: bool = True,
    loose: bool = False,
    apply: Callable[[list[Any]], Any] | None = None,
) -> bool:
    """Hold the gradients of ``op`` at a sample, for random cotangents, against those of its rule on oracles.

    Args:
        run: the case.
        op: the op.
        sample: the sample.
        dtype: the dtype of the floating operands.
        place: brings operands to the device.
        place_ct: brings cotangents there; as ``place`` by default.
        wrt: the floating operands whose gradients are asked; all by default.
        operands: host operands instead of the sample's own.
        ct: changes the random cotangents first.
        identity: hold that rule, in turn, against finite differences of the op's oracle: the adjoint identity
            ``<ct, J t> = <vjp(ct), t>`` for random ``ct`` and ``t``.
        loose: leave out what is not finite.
        apply: what applies the op to the operands on the device; the op itself by default.

    Returns:
        Whether there was a gradient to hold.

    Raises:
        Failure: if a gradient is not as wanted.
    """
    subject, rng = run.subject, run.rng()
    hosts = [rounded(o, dtype) for o in (sample.operands if operands is None else operands)]
    asked = floating_at(hosts) if wrt is None else list(wrt)
    if not asked:
        return False
    drawn: list[Host] = []
    before: list[Host] = []
    seeds: list[pg.Tensor] = []

    def draw(outs: list[pg.Tensor]) -> list[pg.Tensor]:
        bring = place_ct or place or place_on(subject)
        for out in outs:
            random = np.asarray(rng.standard_normal(out.shape))
            drawn.append((random if ct is None else ct(random)).astype(out.dtype.numpy))
            before.append(np.array(subject.host(out)))
        seeds.extend(bring(c) for c in drawn)
        return seeds

    got, given, outs = pulled(op, sample, hosts, draw, place or place_on(subject), asked, apply)
    if not outs:
        return False
    wanted, _, _ = pulled(op, sample, hosts, lambda _: [on_reference(c) for c in drawn], on_reference, asked)
    arrays = [v for v in flat(hosts) if isinstance(v, np.ndarray)]
    bound = gradient_bound(op)
    largest = np.asarray(max((_magnitude(c) for c in drawn), default=0.0))
    references: list[Host] = []
    for i, found, ref in zip(asked, got, wanted, strict=True):
        reference = np.zeros(arrays[i].shape) if ref is None else np.asarray(ref._array, np.float64)
        references.append(reference)
        what = f"{sample}, gradient of operand {i}"
        if found is None:
            if reference.any():
                raise Failure(f"{what}: none was given")
            continue
        if found.shape != arrays[i].shape:
            raise Failure(f"{what}: it has shape {found.shape}, the operand {arrays[i].shape}")
        passed = ~np.isfinite(reference) if loose else None
        compare(
            what,
            subject.host(found),
            Wanted(reference, loose=passed, largest=largest),
            found.dtype,
            bound,
            run.worst,
        )
    unmutated(f"{sample}, in its backward", subject, given, hosts)
    unmutated(f"{sample}, in its backward", subject, seeds, drawn, "cotangent")
    unmutated(f"{sample}, in its backward", subject, outs, before, "result")
    if identity:
        _hold_identity(op, sample, hosts, asked, drawn, references, rng)
    run.samples += 1
    return True


def _magnitude(host: Host) -> float:
    """The largest magnitude of what is finite."""
    wide = np.abs(host.astype(np.float64))
    return float(np.max(wide, where=np.isfinite(wide), initial=0.0))


def _hold_identity(
    op: Op[..., Any],
    sample: Sample,
    hosts: Sequence[Any],
    asked: Sequence[int],
    cts: Sequence[Host],
    gradients: Sequence[Host],
    rng: np.random.Generator,
) -> None:
    """Raise if the op's rule is not the adjoint of its derivative, which finite differences of the oracle give."""
    wide = [_wide(h) for h in hosts]
    arrays = [v for v in flat(wide) if isinstance(v, np.ndarray)]
    tangents = {i: rng.standard_normal(arrays[i].shape) for i in asked}

    def results(step: float) -> list[Host]:
        at = iter(range(len(arrays)))

        def move(value: Any) -> Any:
            if isinstance(value, list):
                return [move(v) for v in value]
            if not isinstance(value, np.ndarray):
                return value
            i = next(at)
            return np.asarray(value + step * tangents[i]) if i in tangents else value

        outs = Application.of(op, sample, [move(v) for v in wide], float64).oracle()
        if op.differentiable and len(op.differentiable) < len(op.outputs):
            outs = [o for o, n in zip(outs, op.outputs, strict=True) if n in op.differentiable]
        return [o for o in outs if o.dtype.kind == "f"]

    def slope(step: float) -> list[Host]:
        plus, minus = results(step), results(-step)
        return [(p - m) / (2 * step) for p, m in zip(plus, minus, strict=True)]

    with np.errstate(all="ignore"):
        coarse, fine = slope(STEP), slope(STEP / 2)
        terms = [c.astype(np.float64) * (4 * f - k) / 3 for c, f, k in zip(cts, fine, coarse, strict=True)]
        expected = sum(float(t.sum()) for t in terms)
        products = [g * tangents[i] for i, g in zip(asked, gradients, strict=True)]
        got = sum(float(p.sum()) for p in products)
        scale = sum(float(np.abs(t).sum()) for t in (*terms, *products))
    if not abs(got - expected) <= IDENTITY * max(scale, 1e-3):
        raise Failure(
            f"{sample}: the op's rule is not the adjoint of its derivative: <vjp(ct), t> is {got!r}, and finite "
            f"differences of the oracle give <ct, J t> as {expected!r}"
        )


def _wide(value: Any) -> Any:
    if isinstance(value, list):
        return [_wide(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biu":
        return value.astype(np.float64)
    return value
