"""Observers that hold one device against another, application by application."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plugrad.backend import backend_of
from plugrad.dispatch.anomaly import line_of_backward, user_line
from plugrad.dispatch.observer import Source
from plugrad.dispatch.op import Op
from plugrad.dtypes import DType
from plugrad.spec import Device
from plugrad_conformance.diff.agreement import Difference, difference
from plugrad_conformance.diff.application import Application, Host, body_of, compute, on_host


class Stop(BaseException):
    """Leaves the script where the devices part. Not an `Exception`: the script is not to catch it."""


@dataclass(frozen=True, slots=True)
class Parting:
    """An application whose results differ on two devices.

    Attributes:
        application: the application.
        devices: whose inputs and results are expected, and the other.
        sources: what computes it on either.
        line: the user's line that applied it; for a rule, the line that applied its op.
        number: which of the applications of the run it is, from 1.
        of_op: which of those of its op.
        expected, got: the results of either device; empty for one that raises.
        difference: what differs; None where the other device raises.
        error: what the other device raises, or None.
        inside: where it is in the op's body that the devices part, if that is known.
    """

    application: Application
    devices: tuple[Device, Device]
    sources: tuple[Source, Source | None]
    line: str
    number: int
    of_op: int
    expected: tuple[Host | None, ...]
    got: tuple[Host | None, ...]
    difference: Difference | None
    error: Exception | None
    inside: Parting | None


class Outermost(ABC):
    """An observer of the applications on one device that are not made by another one's body.

    A rule that runs as its body counts as one application, as it does where it has a kernel.

    Attributes:
        device: the device.
        complete: whether an op was told of that cannot be seen as one application: one whose results' shapes depend
            on values, where it runs as its body. Then it is False.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.complete = True
        self._inside = False
        self._last: tuple[Op[..., Any] | None, Sequence[Any]] = None, ()

    def settled(
        self,
        op: Op[..., Any],
        source: Source,
        run: Callable[..., Any] | None,
        specs: Sequence[Any],
        attributes: Mapping[str, Any],
        device: Device,
    ) -> Callable[..., Any] | None:
        """See `plugrad.dispatch.observer.Observer`."""
        if device is not self.device:
            return run
        # The rules of an application are settled right after it: they give what its operands are.
        if op.owner is None:
            self._last = op, specs
        owner, operands = self._last
        dtypes = _dtypes(op, owner, operands, attributes) if owner is not None and owner is op.owner else None
        if run is None and op.owner is None:
            self.complete = False
            return None
        inner = run or body_of(op, specs, dtypes)

        def instead(*arrays: Any, **given: Any) -> Any:
            if self._inside:
                return inner(*arrays, **given)
            line = line_of_backward() or user_line(sys._getframe(1))
            self._inside = True
            try:
                return self.applied(
                    op.name,
                    line,
                    source,
                    lambda: inner(*arrays, **given),
                    lambda: Application.of(op, arrays, specs, given, backend_of(device), dtypes),
                )
            finally:
                self._inside = False

        return instead

    @abstractmethod
    def applied(
        self,
        name: str,
        line: str,
        source: Source,
        run: Callable[[], Any],
        application: Callable[[], Application],
    ) -> Any:
        """Run an application.

        Args:
            name: the op's name.
            line: the user's line.
            source: what computes it.
            run: computes it.
            application: copies it to the host; called before ``run``, if at all.

        Returns:
            What ``run`` gives.
        """


class Lockstep(Outermost):
    """Has another device repeat each application, from the same inputs, at once.

    Since both start from the inputs that the first device has, roundings do not add up from op to op, and nothing is
    kept of an application whose results agree but its name and line.

    Attributes:
        other: the other device.
        every: whether to go on after a parting.
        partings: those found.
        trace: op and line of each application.
    """

    def __init__(
        self, device: Device, other: Device, tolerance: float | None = None, *, every: bool = False
    ) -> None:
        super().__init__(device)
        self.other = other
        self.tolerance = tolerance
        self.every = every
        self.partings: list[Parting] = []
        self.trace: list[tuple[str, str]] = []
        self.counts: Counter[str] = Counter()
        self._interned: dict[tuple[str, str], tuple[str, str]] = {}

    def applied(
        self,
        name: str,
        line: str,
        source: Source,
        run: Callable[[], Any],
        application: Callable[[], Application],
    ) -> Any:
        """Run it, and hold what the other device gives against it.

        Raises:
            Stop: if they part, unless every parting is asked for.
        """
        copied = application()
        results = run()
        key = name, line
        self.trace.append(self._interned.setdefault(key, key))
        self.counts[name] += 1
        parting = self._compared(copied, source, on_host(results, backend_of(self.device)), line)
        if parting is not None:
            self.partings.append(parting)
            if not self.every:
                raise Stop
        return results

    def _compared(
        self, application: Application, source: Source, expected: tuple[Host | None, ...], line: str
    ) -> Parting | None:
        def parting(
            by: Source | None,
            got: tuple[Host | None, ...],
            found: Difference | None,
            error: Exception | None,
            inside: Parting | None,
        ) -> Parting:
            return Parting(
                application,
                (self.device, self.other),
                (source, by),
                line,
                len(self.trace),
                self.counts[application.op.name],
                expected,
                got,
                found,
                error,
                inside,
            )

        try:
            theirs = compute(application, self.other)
        except Exception as error:  # a kernel may raise anything
            return parting(None, (), None, error, None)
        found = difference(
            application,
            expected,
            theirs.results,
            self.tolerance,
            {self.device: expected, self.other: theirs.results},
        )
        if found is None:
            return None
        sources = {self.device: source, self.other: theirs.source}
        inside = _inside(application, sources, self.tolerance)
        return parting(theirs.source, theirs.results, found, None, inside)


def _inside(
    application: Application, sources: Mapping[Device, Source], tolerance: float | None
) -> Parting | None:
    """The first application in the op's body, as a device runs it, that the other device computes otherwise."""
    devices = list(sources)
    for device, other in zip(devices, reversed(devices), strict=True):
        if sources[device] is not Source.BODY:
            continue
        lockstep = Lockstep(device, other, tolerance)
        try:
            compute(application, device, lockstep)
        except Stop:
            found = lockstep.partings[0]
            # A device that cannot run a part of another's body has no reason to.
            if found.error is None:
                return found
    return None


class Follower(Outermost):
    """Holds the sequence of applications on a device against that of another.

    Attributes:
        count: how many there were.
        strayed: op and line of the first that is another one than expected, or None.
    """

    def __init__(self, device: Device, trace: Sequence[tuple[str, str]], left_out: Collection[str]) -> None:
        """Make one.

        Args:
            device: the device.
            trace: the sequence of the other device.
            left_out: ops that do not count.
        """
        super().__init__(device)
        self.expected = [t for t in trace if t[0] not in left_out]
        self.count = 0
        self.strayed: tuple[str, str] | None = None
        self._left_out = left_out

    def applied(
        self,
        name: str,
        line: str,
        source: Source,
        run: Callable[[], Any],
        application: Callable[[], Application],
    ) -> Any:
        """Run it, if it is the one that is expected.

        Raises:
            Stop: if it is another one.
        """
        del source, application
        if self.complete and name not in self._left_out:
            at, self.count = self.count, self.count + 1
            if at >= len(self.expected) or self.expected[at][0] != name:
                self.strayed = name, line
                raise Stop
        return run()


def _dtypes(
    rule: Op[..., Any], owner: Op[..., Any], specs: Sequence[Any], attributes: Mapping[str, Any]
) -> tuple[DType | None, ...]:
    """The dtypes of the results of a rule, given the specs of the operands of the op that it belongs to."""
    served = next(v.wrt for v in owner.vjps if v.op is rule)
    named = dict(zip((o.name for o in owner.operands), specs, strict=True))
    wanted = [named[n] for n in attributes.get("wrt", served)]
    return tuple(s and s.dtype for w in wanted for s in (w if isinstance(w, tuple) else (w,)))


__all__ = ["Follower", "Lockstep", "Outermost", "Parting", "Stop"]
