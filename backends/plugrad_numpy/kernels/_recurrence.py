"""What the kernels of recurrent sequences have in common: who does which steps, on what, and the gradients of weights.

Sequences of a batch are independent: each thread takes some, through all steps, and makes its products by itself. A
step works on rows ``[state, 1, x]``, so that one product with ``[weight_hh, biases, weight_ih]`` gives the gates, and
one product over many steps gives the gradients of all of these.

Threads of Python hand the interpreter's lock to each other at every call of NumPy, and who has to wait for it sleeps
longer than most of these calls take. So what is done in each step is few calls, one of them the product, and the rest
is done for many steps at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np

from plugrad_numpy import _blas, _parallel
from plugrad_numpy._parallel import scratch
from plugrad_numpy.kernels._packed import Apart, Packed
from plugrad_numpy.kernels._precision import given, widened
from plugrad_numpy.kernels._rows import slots
from plugrad_numpy.kernels._silent import silent
from plugrad_numpy.kernels.recurrent import (
    Pieces,
)

Array = Any

_WORTH: Final = 5 << 18
"""Multiplications and additions of a step that are worth a thread: below, threads wait for the interpreter's lock."""

_BLOCK: Final = 64
"""Sequences that are worked on at a time, so that a step stays in cache."""

_OPERANDS: Final = 1 << 17
"""Bytes of rows ``[state, 1, x]`` that are laid out for several steps."""

_CTS: Final = 1 << 20
"""Bytes of cotangents of gates that are collected for a product over several steps. Measured: from 1 MB on the same."""

_ROWS: Final = 256
"""Rows that a product for the gradients of the weights has where there are as many: sums of products cost, too."""

_USES: Final = 64
"""Rows in all products together from which on it pays to rearrange a weight."""


class Recurrence:
    """The sizes of a sequence, the memory of its results, and which thread does what.

    Attributes:
        depth: elements of a row ``[state, 1, x]``.
        wide: the dtype to compute in.
    """

    steps: int
    batch: int
    features: int

    def __init__(self, x: Array, hidden: Array, gates: int, reverse: bool) -> None:
        self.x, self.hidden, self.reverse = x, hidden, reverse
        self.steps, self.batch, self.features = x.shape
        self.size = hidden.shape[1]
        self.gates = gates * self.size
        self.depth = self.size + 1 + self.features
        self.wide = widened(np.empty(0, x.dtype)).dtype
        self.few = self.batch * self.steps < _USES
        self.threads = self._threads()
        self._bounds = [self.batch * i // self.threads for i in range(self.threads + 1)]

    def _threads(self) -> int:
        """With c threads a step takes 1/c of the time, and c of them want the interpreter's lock."""
        if self.few or _parallel.is_inside():
            return 1
        most = math.isqrt(2 * self.batch * self.gates * self.depth // _WORTH)
        return max(1, min(most, _parallel.thread_count(), self.batch))

    def run(self, work: Callable[[slice, int], None]) -> None:
        """Call ``work(rows, thread)`` for all sequences, some at a time."""

        def each(i: int) -> None:
            a, b = self._bounds[i : i + 2]
            for start in range(a, b, _BLOCK):
                work(slice(start, min(start + _BLOCK, b)), i)

        if self.threads == 1:
            each(0)
        else:
            with _blas.single_threaded():
                _parallel.run(silent(each), range(self.threads))

    def chunks(self, rows: slice, width: int, limit: int, *, back: bool = False) -> Iterator[range]:
        """Steps that are worked on together, in the order in which they are made.

        Args:
            rows: the sequences.
            width: elements of a row.
            limit: bytes of all of these, beyond which steps do not go but for a product of `_ROWS` rows.
            back: in the opposite order.
        """
        n = max(1, rows.stop - rows.start)
        count = max(1, _ROWS // n, limit // max(1, n * width * self.wide.itemsize))
        forth = self.reverse == back
        starts = range(0, self.steps, count)
        for start in starts if forth else reversed(starts):
            found = range(start, min(start + count, self.steps))
            yield found if forth else found[::-1]

    def before(self, span: slice, rows: slice, states: Array, first: Array) -> Pieces:
        """The states before some steps, from those after all steps (T, N, H) and the first ones (N, H)."""
        a, b = span.start, span.stop
        if self.reverse:
            pieces = [(slice(b - a), states[a + 1 : b + 1, rows])]
            return (
                pieces
                if b < self.steps
                else [(slice(b - a - 1), pieces[0][1]), (slice(-1, None), first[None, rows])]
            )
        if a:
            return [(slice(None), states[a - 1 : b - 1, rows])]
        return [(slice(1, None), states[: b - 1, rows]), (slice(1), first[None, rows])]

    @property
    def rows(self) -> int:
        """Sequences that are worked on at a time, at most."""
        return min(_BLOCK, max(1, -(-self.batch // self.threads)))

    def weight(self, name: str, pieces: Sequence[Array], scale: Array | None = None) -> Packed | Apart:
        """A matrix for products with the rows of a step, its pieces one below the other, its columns times ``scale``."""
        kind = Apart if self.few else Packed
        return kind(name, [widened(p) for p in pieces], self.rows, scale)

    def bias(self, *biases: Array | None) -> Array:
        """The sum of biases, (1, gates)."""
        present = [widened(bias) for bias in biases if bias is not None]
        if not present:
            return np.zeros((1, self.gates), self.wide)
        return functools.reduce(np.add, present)[None]

    def operands(self, steps: range, rows: slice, more: int = 0) -> Array:
        """Rows ``[state, 1, x]`` of these steps and of ``more``, in the order of time, with x of these and 1 in it."""
        n = rows.stop - rows.start
        found = scratch("sequence.operands", (len(steps) + more, n, self.depth), self.wide)
        found[:, :, self.size] = 1
        inputs = found[more:] if self.reverse else found[: len(steps)]
        np.copyto(inputs[:, :, self.size + 1 :], self.x[_span(steps), rows], casting="unsafe")
        return found

    def forth(
        self, rows: slice, outputs: Array, inputs: Callable[[Array], Array] | None = None
    ) -> Iterator[tuple[int, Array, Array, Array | None]]:
        """Step by step, its number, its rows ``[state, 1, x]``, where the state after it goes, and what inputs gave.

        Args:
            rows: the sequences.
            outputs: where all states go, (T, N, H).
            inputs: called for some steps at a time, with their rows (steps, N, depth), of which it may read ``[1, x]``.
        """
        on = -1 if self.reverse else 1
        state = self.scratch("state", rows)
        np.copyto(state, self.hidden[rows], casting="unsafe")
        for steps in self.chunks(rows, self.depth, _OPERANDS):
            span = _span(steps)
            operands = self.operands(steps, rows, 1)
            own = None if inputs is None else inputs(operands[1:] if self.reverse else operands[:-1])
            states = operands[:, :, : self.size]
            first = span.start - 1 if self.reverse else span.start
            states[steps[0] - first] = state
            for t in steps:
                i = t - first
                yield t, operands[i], states[i + on], None if own is None else own[t - span.start]
            np.copyto(state, states[steps[-1] - first + on])
            found = states[:-1] if self.reverse else states[1:]
            np.copyto(outputs[span, rows], found, casting="unsafe")

    def scratch(self, name: str, rows: slice, times: int = 1) -> Array:
        """Memory for ``times`` the size of a state."""
        shape = (rows.stop - rows.start, times * self.size)
        return scratch(f"sequence.{name}", shape, self.wide)

    def like_x(self, features: int, dtype: Any, into: Array | None = None) -> Array:
        """A place for (T, N, features): ``into``, or new memory that runs as that of x does."""
        if into is not None and into.dtype == dtype:
            return into
        if self.x.strides[0] < self.x.strides[1]:
            return np.empty((self.batch, self.steps, features), dtype).transpose(1, 0, 2)
        return np.empty((self.steps, self.batch, features), dtype)

    def kept(self, times: int, into: Array | None) -> Array:
        """A place for a residual of ``times`` the features of a state."""
        if into is not None and into.dtype == self.wide and into.strides[2] == into.itemsize:
            return into
        return np.empty((self.steps, self.batch, times * self.size), self.wide)


def _span(steps: range) -> slice:
    """Neighbouring steps in the order of time."""
    return slice(min(steps), max(steps) + 1)


class Backward:
    """What the rules have in common: the way back, and the gradients of x and of the weights.

    The cotangents of the gates of several steps are collected. One product of these with the rows ``[state, 1, x]`` of
    the steps gives the gradients of ``[weight_hh, biases, weight_ih]``, and one with ``weight_ih`` that of x.
    """

    def __init__(
        self,
        s: Recurrence,
        outputs: Array,
        weight_ih: Array,
        weight_hh: Array,
        wrt: tuple[str, ...],
        into: Any,
        *,
        gru: bool = False,
    ) -> None:
        """Prepare.

        Args:
            s: the sequence.
            outputs: the states after each step, (T, N, H).
            weight_ih: (gates, I).
            weight_hh: (gates, H).
            wrt: the names of the results.
            into: where they go.
            gru: whether the cotangents of the gates are those that `gru_back` gives.
        """
        self._s, self._outputs, self._wrt = s, outputs, wrt
        self._places = dict(zip(wrt, slots(into, len(wrt)), strict=True))
        n, gates = s.size, s.gates
        self._columns = gates + n if gru else gates
        self._hidden = slice(n, None) if gru else slice(None)
        self._inputs = slice(gates) if gru else slice(None)
        whole, state, inputs = slice(None), slice(n + 1), slice(n, None)
        if gru:
            self._regions = [(slice(n), inputs), (slice(n, 3 * n), whole), (slice(3 * n, None), state)]
            self._rows = {
                "ih": [(slice(n, 3 * n), slice(2 * n)), (slice(n), slice(2 * n, None))],
                "hh": [(slice(n, None), whole)],
            }
            weight_ih = np.concatenate([weight_ih[2 * n :], weight_ih[: 2 * n]])
        else:
            self._regions = [(whole, whole)]
            self._rows = {source: [(whole, whole)] for source in ("ih", "hh")}
        self._weight_hh, self._weight_ih = s.weight("hh", [weight_hh]), widened(weight_ih)
        self._ct_x = s.like_x(s.features, s.wide, self._places["x"]) if "x" in wrt else None
        self._totals: Any = None
        if any(name.startswith(("weight", "bias")) for name in wrt):
            self._totals = scratch("sequence.totals", (s.threads, self._columns, s.depth), s.wide)
        self._started = [False] * s.threads

    def steps(
        self, rows: slice, thread: int, slopes: Callable[[slice, Array], None] | None = None
    ) -> Iterator[tuple[int, Array]]:
        """Step by step, its number, and where its cotangents of the gates belong, which are worked on afterwards.

        Args:
            rows: the sequences.
            thread: the number of the thread.
            slopes: called for some steps at a time, to write to the place of the cotangents (steps, N, gates) what does
                not depend on those of the states.
        """
        s, n = self._s, rows.stop - rows.start
        for steps in s.chunks(rows, self._columns, _CTS, back=True):
            cts = scratch("sequence.cts", (len(steps), n, self._columns), s.wide)
            span = _span(steps)
            if slopes is not None:
                slopes(span, cts)
            for t in steps:
                yield t, cts[t - span.start]
            flat = cts.reshape(-1, self._columns)
            if self._ct_x is not None:
                found = scratch("sequence.ct_x", (len(flat), s.features), s.wide)
                _blas.matmul(flat[:, self._inputs], self._weight_ih, found)
                self._ct_x[span, rows] = found.reshape(len(steps), n, s.features)
            if self._totals is not None:
                self._add(thread, flat, self._operands(steps, rows).reshape(-1, s.depth))

    def pull(self, cts: Array, out: Array) -> None:
        """From the cotangents of the gates of a step, what goes to the state before through the weight."""
        self._weight_hh.product(cts[:, self._hidden], out)

    def _operands(self, steps: range, rows: slice) -> Array:
        """Rows ``[state, 1, x]`` of these steps, in the order of time."""
        s = self._s
        operands = s.operands(steps, rows)
        for place, states in s.before(_span(steps), rows, self._outputs, s.hidden):
            np.copyto(operands[place, :, : s.size], states, casting="unsafe")
        return operands

    def _add(self, thread: int, cts: Array, operands: Array) -> None:
        total = self._totals[thread]
        for rows, columns in self._regions:
            left, right, result = cts[:, rows].T, operands[:, columns], total[rows, columns]
            if self._started[thread]:
                found = scratch("sequence.product", result.shape, result.dtype)
                result += _blas.matmul(left, right, found)
            else:
                _blas.matmul(left, right, result)
        self._started[thread] = True

    def _total(self, name: str) -> Array:
        """The gradient of a weight or a bias: the sum of what the threads have found."""
        s, (kind, source) = self._s, name.split("_")
        n = s.size
        columns = slice(n, n + 1)
        if kind == "weight":
            columns = slice(n) if source == "hh" else slice(n + 1, None)
        place = self._places[name]
        if place is None or place.dtype != s.wide:
            place = np.empty(
                (s.gates, n if source == "hh" else s.features) if kind == "weight" else s.gates, s.wide
            )
        out = place if kind == "weight" else place[:, None]
        found = [self._totals[i] for i in range(s.threads) if self._started[i]]
        if not found:
            out[...] = 0
        for rows, to in self._rows[source] if found else ():
            parts = [total[rows, columns] for total in found]
            np.copyto(out[to], parts[0])
            for part in parts[1:]:
                out[to] += part
        return place

    def results(self, states: dict[str, Array]) -> tuple[Array, ...]:
        """All of them, in their order, from those of the states, (N, H)."""
        found = []
        for name in self._wrt:
            result = self._ct_x if name == "x" else states.get(name)
            result = self._total(name) if result is None else result
            place = self._places[name]
            if result is not place:
                result = given(result.astype(self._s.x.dtype, copy=False), place)
            found.append(result)
        return tuple(found)
