"""`Sample`: an example application of an op. Tests, gradient checks and conformance run them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from plugrad.errors import PlugradError

Host = np.ndarray[Any, Any]


class Sample:
    """Operands and attributes of one application.

    Attributes:
        operands: floating operands as float64 arrays, to be cast to the dtype under test; integer and
            boolean operands as they are; a Python scalar, None or a list of arrays where the op takes it.
        attributes: static attributes by name.
    """

    def __init__(self, *operands: Any, **attributes: Any) -> None:
        self.operands = operands
        self.attributes = attributes

    def apply(self, op: Callable[..., Any], operands: Sequence[Any]) -> Any:
        """``op`` applied to ``operands``, made of those of this sample, with its attributes.

        An attribute that stands between operands in the op's signature is given in its place.
        """
        given, attributes = list(operands), dict(self.attributes)
        names = {o.name for o in op.operands}  # type: ignore[attr-defined]
        args = []
        for name in op.positional:  # type: ignore[attr-defined]
            if not given or (name not in names and name not in attributes):
                break
            args.append(given.pop(0) if name in names else attributes.pop(name))
        return op(*args, *given, **attributes)

    def __repr__(self) -> str:
        shown = [f"{o.dtype}{list(o.shape)}" if isinstance(o, np.ndarray) else repr(o) for o in self.operands]
        shown += [f"{k}={v!r}" for k, v in self.attributes.items()]
        return f"Sample({', '.join(shown)})"


class ErrorSample(Sample):
    """An application that the op refuses, on any device.

    Attributes:
        error: the class of the error.
    """

    def __init__(self, error: type[PlugradError], *operands: Any, **attributes: Any) -> None:
        super().__init__(*operands, **attributes)
        self.error = error


ErrorSampler = Callable[[np.random.Generator], Sequence[ErrorSample]]
Sampler = Callable[[np.random.Generator], Sequence[Sample]]

SHAPES = ((), (0, 3), (1,), (7,), (3, 5), (2, 3, 4))
"""Shapes that every elementwise op is tried on."""


def uniform(low: float, high: float, *, operands: int = 1, **attributes: Any) -> Sampler:
    """Operands of one shape each, uniform in [low, high), over `SHAPES`; pairs also broadcast."""

    def make(rng: np.random.Generator) -> list[Sample]:
        samples = [
            Sample(*(rng.uniform(low, high, s) for _ in range(operands)), **attributes) for s in SHAPES
        ]
        if operands > 1:
            samples.append(
                Sample(
                    rng.uniform(low, high, (4, 1)),
                    *(rng.uniform(low, high, (3,)) for _ in range(operands - 1)),
                )
            )
            samples.append(
                Sample(
                    rng.uniform(low, high, ()), *(rng.uniform(low, high, (2, 3)) for _ in range(operands - 1))
                )
            )
        return samples

    return make


def integers(low: int, high: int, *, operands: int = 1) -> Sampler:
    """int64 operands in [low, high), over `SHAPES`; pairs also broadcast."""

    def make(rng: np.random.Generator) -> list[Sample]:
        samples = [Sample(*(rng.integers(low, high, s) for _ in range(operands))) for s in SHAPES]
        if operands > 1:
            samples.append(Sample(rng.integers(low, high, (4, 1)), rng.integers(low, high, (3,))))
        return samples

    return make


def booleans(operands: int = 1) -> Sampler:
    """Boolean operands, over `SHAPES`."""

    def make(rng: np.random.Generator) -> list[Sample]:
        return [Sample(*(rng.random(s) < 0.5 for _ in range(operands))) for s in SHAPES]

    return make


def errors(*refused: ErrorSample) -> ErrorSampler:
    """Error samples, given one by one."""
    return lambda _: refused


def samples(*makers: Sampler | Sample) -> Sampler:
    """Several samplers, or samples, as one."""

    def make(rng: np.random.Generator) -> list[Sample]:
        out: list[Sample] = []
        for maker in makers:
            out.extend([maker] if isinstance(maker, Sample) else maker(rng))
        return out

    return make
