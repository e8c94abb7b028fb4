"""``properties``: indexing and broadcasting in the variety that people write, against NumPy's meaning of the same.

Hypothesis draws the shapes and the keys, from a fixed seed, and makes a failure as small as it can.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import hypothesis
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import plugrad as pg
from plugrad_conformance.cases import Case, Level
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure

Host = np.ndarray[Any, Any]

EXAMPLES: Final = 60

_SHAPES: Final = arrays.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5)


def cases() -> Iterator[Case]:
    """By name."""
    for name in NAMED:
        yield Case("properties", name, level=Level.L2 if name.endswith("gradients") else Level.L1)


def run(run: Run) -> None:
    """Draw examples, and tell the smallest that fails."""
    NAMED[run.case.subject](run)


def _tried(run: Run, strategy: st.SearchStrategy[Any], hold: Callable[[Any], None]) -> None:
    """Hold a property over what a strategy draws."""

    @hypothesis.seed(run.case.seed)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=False,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        print_blob=False,
        report_multiple_bugs=False,
    )
    @hypothesis.given(strategy)
    def test(example: Any) -> None:
        run.samples += 1
        hold(example)

    test()


def _same(what: str, got: Host, wanted: Host) -> None:
    if got.shape != wanted.shape or not np.array_equal(got, wanted):
        raise Failure(
            f"{what}: got {got.tolist()} of shape {got.shape}, NumPy has {wanted.tolist()} of shape {wanted.shape}"
        )


@st.composite
def _keyed(draw: Any) -> tuple[Host, Any]:
    """An array of distinct numbers, and a key of slices, integers, ellipsis, new axes, masks and arrays of indices."""
    shape = draw(_SHAPES)
    host = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    kind = draw(st.sampled_from(("basic", "integers", "mask", "mixed")))
    if kind == "basic":
        key = draw(arrays.basic_indices(shape, allow_newaxis=True, max_dims=5))
    elif kind == "integers":
        key = draw(
            arrays.integer_array_indices(shape, result_shape=arrays.array_shapes(max_dims=2, max_side=4))
        )
    elif kind == "mask":
        key = draw(arrays.arrays(np.bool_, shape))
    else:
        rows = draw(st.lists(st.integers(-shape[0], shape[0] - 1), min_size=1, max_size=4))
        rest = [draw(st.sampled_from((slice(None), slice(None, None, -1), slice(0, 2)))) for _ in shape[1:]]
        key = (rows, *rest)
    return host, key


def _shown(key: Any) -> str:
    return repr(key).replace("\n", " ")


def _reads(run: Run) -> None:
    """``x[key]``."""

    def hold(example: tuple[Host, Any]) -> None:
        host, key = example
        _same(f"x[{_shown(key)}] of shape {host.shape}", run.subject.tensor(host)[key].numpy(), host[key])

    _tried(run, _keyed(), hold)


def _assigns(run: Run) -> None:
    """``x[key] = value``; where a place is named twice, every value is the same."""

    def hold(example: tuple[Host, Any]) -> None:
        host, key = example
        x, wanted = run.subject.tensor(host), host.copy()
        x[key] = -1.0
        wanted[key] = -1.0
        _same(f"x after x[{_shown(key)}] = -1, of shape {host.shape}", x.numpy(), wanted)

    _tried(run, _keyed(), hold)


def _index_gradients(run: Run) -> None:
    """The gradient of ``x[key]`` adds up where a place is read twice."""

    def hold(example: tuple[Host, Any]) -> None:
        host, key = example
        x = run.subject.tensor(host).requires_grad_()
        y = x[key]
        ct = np.arange(1, y.size + 1, dtype=np.float32).reshape(y.shape)
        y.backward(run.subject.tensor(ct))
        wanted = np.zeros_like(host)
        np.add.at(wanted, key, ct)
        assert x.grad is not None
        _same(f"the gradient of x[{_shown(key)}], of shape {host.shape}", x.grad.numpy(), wanted)

    _tried(run, _keyed(), hold)


_PAIRS: Final = arrays.mutually_broadcastable_shapes(num_shapes=2, max_dims=3, min_side=0, max_side=4)


def _values(shape: tuple[int, ...], start: int) -> Host:
    return (np.arange(np.prod(shape, dtype=int), dtype=np.float32) + start).reshape(shape)


def _broadcasts(run: Run) -> None:
    """``x * y`` of shapes that broadcast."""

    def hold(example: Any) -> None:
        a, b = (_values(s, i + 1) for i, s in enumerate(example.input_shapes))
        got = (run.subject.tensor(a) * run.subject.tensor(b)).numpy()
        _same(f"shapes {a.shape} * {b.shape}", got, a * b)

    _tried(run, _PAIRS, hold)


def _broadcast_gradients(run: Run) -> None:
    """Gradients are summed over what was broadcast."""

    def hold(example: Any) -> None:
        a, b = (_values(s, i + 1) for i, s in enumerate(example.input_shapes))
        x, y = run.subject.tensor(a).requires_grad_(), run.subject.tensor(b).requires_grad_()
        z = x * y
        z.backward(pg.ones_like(z))
        for tensor, own, other in ((x, a, b), (y, b, a)):
            assert tensor.grad is not None
            full = np.broadcast_to(other, z.shape).astype(np.float64)
            lead = full.ndim - own.ndim
            axes = tuple(i for i in range(full.ndim) if i < lead or own.shape[i - lead] == 1)
            wanted = full.sum(axis=axes, keepdims=True).reshape(own.shape) if axes else full
            _same(
                f"a gradient of shapes {a.shape} * {b.shape}", tensor.grad.numpy(), wanted.astype(np.float32)
            )

    _tried(run, _PAIRS, hold)


NAMED: Final[dict[str, Callable[[Run], None]]] = {
    "index-reads": _reads,
    "index-assignments": _assigns,
    "index-gradients": _index_gradients,
    "broadcasting": _broadcasts,
    "broadcast-gradients": _broadcast_gradients,
}
