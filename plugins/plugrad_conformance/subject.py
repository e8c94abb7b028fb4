"""`Subject`: the device under test, and what ran on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad.backend import backend_of, resolve_device, use_device
from plugrad.dispatch.modes import changed
from plugrad.dispatch.observer import Source
from plugrad.dispatch.op import Op
from plugrad.dispatch.sample import Sample
from plugrad.dispatch.statement import all_ops
from plugrad.dtypes import DType, as_dtype
from plugrad.spec import Device
from plugrad_conformance.cases import FEATURES

Host = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Settled:
    """What computes a signature on the device: see `plugrad.dispatch.observer.Observer.settled`."""

    op: Op[..., Any]
    source: Source
    run: Callable[..., Any] | None
    specs: Sequence[Any]
    attributes: Mapping[str, Any]


class Watch:
    """The suite's one observer: counts what computes the ops, and hands each call to whoever listens."""

    def __init__(self) -> None:
        self.device: Device | None = None
        self.calls: Counter[tuple[str, Source]] = Counter()
        self.listener: Callable[[Settled, tuple[Any, ...], dict[str, Any], Any], None] | None = None

    def settled(
        self,
        op: Op[..., Any],
        source: Source,
        run: Callable[..., Any] | None,
        specs: Sequence[Any],
        attributes: Mapping[str, Any],
        device: Device,
    ) -> Callable[..., Any] | None:
        """Count each call, by the op and what computes it."""
        if device is not self.device:
            return run
        key = op.name, source
        if run is None:
            self.calls[key] += 1
            return None
        told = Settled(op, source, run, specs, dict(attributes))

        def counted(*arrays: Any, **given: Any) -> Any:
            self.calls[key] += 1
            results = run(*arrays, **given)
            if self.listener is not None:
                self.listener(told, arrays, given, results)
            return results

        return counted


WATCH: Final = Watch()
"""Modes, and what is settled under them, are kept for good: one observer serves the process."""


class Subject:
    """A device under test.

    Attributes:
        device: the device.
        backend: its backend.
        capabilities: what it says it can do.
        lacks: those of `FEATURES` that it does not have.
    """

    def __init__(self, device: str | Device) -> None:
        self.device = resolve_device(device)
        self.backend = backend_of(self.device)
        self.capabilities = self.backend.capabilities(self.device)
        self.count = len(self.backend.devices())
        there = {d.name for d in self.capabilities.dtypes} | ({"devices"} if self.count > 1 else set())
        self.lacks = frozenset(FEATURES) - there

    @contextmanager
    def watched(self) -> Iterator[None]:
        """A block in which the device is the current one, what runs on it is counted, and the fallback is off."""
        WATCH.device = self.device
        with use_device(self.device), changed(observer=WATCH, fallback=None):
            yield

    def has(self, dtype: DType) -> bool:
        """Whether the device computes a dtype."""
        return dtype in self.capabilities.dtypes

    def tensor(self, host: Any, dtype: str | None = None) -> pg.Tensor:
        """An array of the host as a tensor on the device, floating ones as ``dtype``."""
        value = np.asarray(host)
        if dtype is not None and value.dtype.kind not in "biu":
            with np.errstate(all="ignore"):
                value = value.astype(as_dtype(dtype).numpy)
        return pg.asarray(value, device=self.device)

    def host(self, tensor: pg.Tensor) -> Host:
        """The elements as the backend gives them: nothing between its array and the comparison."""
        return self.backend.to_host(tensor._array)


def stated_ops() -> list[Op[..., Any]]:
    """Every op that states samples, those of rules excluded."""
    return [op for op in all_ops().values() if op.owner is None and op.sampler is not None]


def rules() -> list[Op[..., Any]]:
    """The ops of rules of `stated_ops`."""
    return [v.op for op in stated_ops() for v in op.vjps]


def samples_of(op: Op[..., Any], case_seed: int) -> list[Sample]:
    """The samples of an op for a case."""
    assert op.sampler is not None
    return list(op.sampler(np.random.default_rng(case_seed)))


def names_missing_dtype(sample: Sample, subject: Subject) -> bool:
    """Whether an attribute of the sample is a dtype that the device need not have, and has not."""
    for value in sample.attributes.values():
        try:
            dtype = as_dtype(value) if isinstance(value, (str, DType)) else None
        except pg.errors.DTypeError:
            continue
        if dtype is not None and dtype.name in subject.lacks:
            return True
    return False


def rounded(value: Any, dtype: DType) -> Any:
    """A sample's operand with its floating elements in ``dtype``; scalars and None as they are."""
    if isinstance(value, list):
        return [rounded(v, dtype) for v in value]
    if isinstance(value, (np.ndarray, np.generic)):
        host = np.asarray(value)
        if host.dtype.kind in "biu":
            return host
        with np.errstate(all="ignore"):
            return host.astype(dtype.numpy)
    return value


def placed(values: Sequence[Any], place: Callable[[Host], pg.Tensor]) -> list[Any]:
    """Host operands on the device."""

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(v) for v in value]
        return place(value) if isinstance(value, np.ndarray) else value

    return [convert(v) for v in values]


def flat(values: Any) -> Iterator[Any]:
    """What nested lists and tuples hold."""
    for v in values if isinstance(values, (list, tuple)) else [values]:
        if isinstance(v, (list, tuple)):
            yield from flat(v)
        else:
            yield v


def tensors(values: Any) -> list[pg.Tensor]:
    """The tensors in nested lists and tuples."""
    return [v for v in flat(values) if isinstance(v, pg.Tensor)]
