"""``random``: the bits are those of the published generator, and what is drawn from them is distributed as it says.

The seeds are fixed, so a device that computes the right bits always passes; the limits are those of one false alarm in
a million.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from scipy import stats

import plugrad as pg
from plugrad import ops
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure

Host = np.ndarray[Any, Any]

FALSE_ALARM: Final = 1e-6

VECTORS: Final = (
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)
"""Counter, key and words of Philox 4x32-10, as published with the generator (Salmon et al., SC 2011; Random123)."""


def cases() -> Iterator[Case]:
    """The vectors are level 1, distributions level 4."""
    for name in NAMED:
        yield Case("random", name, level=Level.L1 if name == "published-vectors" else Level.L4)


def run(run: Run) -> None:
    """One case."""
    NAMED[run.case.subject](run)
    run.samples += 1


def _generator(run: Run, seed: int) -> pg.random.Generator:
    return pg.random.Generator(seed, device=run.subject.device)


def _drawn(run: Run, draw: Callable[..., pg.Tensor], seed: int, *given: Any) -> Host:
    """What a function of `plugrad.random` draws from a new generator of the device."""
    return draw(*given, generator=_generator(run, seed)).numpy()


def _vectors(run: Run) -> None:
    for counter, key, words in VECTORS:
        place = run.subject.tensor
        got = ops.random_bits(
            place(np.array(key, np.uint32)), place(np.array(counter, np.uint32)), shape=(4,)
        )
        if tuple(int(w) for w in run.subject.host(got)) != words:
            shown = " ".join(f"{int(w):08x}" for w in run.subject.host(got))
            raise Failure(
                f"counter {counter}, key {key}: got {shown}, published {' '.join(f'{w:08x}' for w in words)}"
            )


def _likely(what: str, p: float) -> None:
    if p < FALSE_ALARM:
        raise Failure(f"{what}: so far from it comes once in {1 / max(p, 1e-300):.3g} times")


def _uniform(run: Run) -> None:
    x = np.asarray(_drawn(run, pg.random.uniform, 1, (200_000,)), np.float64)
    if x.min() < 0 or x.max() >= 1:
        raise Failure(f"uniform numbers from {x.min()} to {x.max()}, wanted in [0, 1)")
    _likely("uniform numbers, Kolmogorov-Smirnov", float(stats.kstest(x, "uniform").pvalue))


def _normal(run: Run) -> None:
    x = np.asarray(_drawn(run, pg.random.normal, 2, (200_000,)), np.float64)
    _likely("normal numbers, Kolmogorov-Smirnov", float(stats.kstest(x, "norm").pvalue))
    _likely("normal numbers, neighbours", float(stats.pearsonr(x[:-1], x[1:]).pvalue))


def _integers(run: Run) -> None:
    x = _drawn(run, pg.random.integers, 3, (200_000,), 0, 97)
    _likely("integers, chi-squared", float(stats.chisquare(np.bincount(x, minlength=97)).pvalue))


def _bernoulli(run: Run) -> None:
    x = _drawn(run, pg.random.bernoulli, 4, (200_000,), 0.3)
    _likely("bernoulli numbers", float(stats.binomtest(int(x.sum()), x.size, 0.3).pvalue))


def _permutations(run: Run) -> None:
    generator = _generator(run, 5)
    first = np.zeros(8, np.int64)
    for _ in range(800):
        order = pg.random.permutation(8, generator=generator).numpy()
        if sorted(order.tolist()) != list(range(8)):
            raise Failure(f"a permutation of 8 gives {order.tolist()}")
        first[order[0]] += 1
    _likely("where permutations begin, chi-squared", float(stats.chisquare(first).pvalue))


def _streams(run: Run) -> None:
    """Draws of one generator, and generators of other seeds, share no block of words."""
    blocks: set[bytes] = set()
    drawn = 0
    for seed in range(6):
        generator = _generator(run, seed)
        for _ in range(5):
            words = ops.random_bits(*generator.draw(400), shape=(100, 4)).numpy()
            blocks.update(row.tobytes() for row in words)
            drawn += len(words)
    if len(blocks) != drawn:
        raise Failure(f"{drawn - len(blocks)} of {drawn} blocks of four words came twice: streams overlap")


def _repeated(run: Run) -> None:
    """The same seed gives the same numbers."""
    first, again = (_drawn(run, pg.random.normal, 9, (1000,)).tobytes() for _ in range(2))
    if first != again:
        raise Failure("the same seed gives other numbers")


NAMED: Final[dict[str, Callable[[Run], None]]] = {
    "published-vectors": _vectors,
    "uniform": _uniform,
    "normal": _normal,
    "integers": _integers,
    "bernoulli": _bernoulli,
    "permutations": _permutations,
    "streams": _streams,
    "repeats": _repeated,
}
