"""Kernels for the steps of recurrent layers: a product with the state, and what is done with it, in one.

A work-item makes some rows of the batch and one vector, or two, of the features. Formulas and gates are those of
`plugrad.ops.recurrent`, the order of a step's parameters is that of its docstring.

Parameters of all of them: the left operand of the product, the weight, and the arrays that a step names, each as memory, first
place and stride of the rows; how many elements the product sums up, 0 where there is no state yet; the rows, n, and the
features, m, as many at least as a work-item makes. Nothing is written that the same step reads: what two work-items at an end
make is the same. Launch: tiles of rows, tiles of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer
from plugrad.graph.source.tile import Tile


class _Step:
    """Writes what the steps share."""

    def __init__(
        self,
        dialect: Dialect,
        name: str,
        dtype: DType,
        rows: int,
        vectors: int,
        spread: bool,
        reads: Sequence[str],
        writes: Sequence[str],
        bias: bool = False,
    ) -> None:
        """Begin a step.

        Args:
            dialect: the language.
            name: of the kernel.
            dtype: a dtype that has vectors.
            rows: of a tile.
            vectors: of a tile.
            spread: whether they are vectors of neighbouring features, or of the same ones for several gates.
            reads: the arrays that the step reads beside the product's.
            writes: those that it writes.
            bias: whether there is one.
        """
        self.dialect, self.rows, self.vectors, self.spread = dialect, rows, vectors, spread
        self.lanes, self.index = dialect.lanes[dtype], dialect.index
        self.write = write = Writer(dialect, f"{name}_{rows}_{vectors}", (dtype,))
        self.kind = dialect.types[dtype]
        arrays = ["a", "b", *reads, *writes]
        for array in arrays:
            write.memory(f"{array}_memory", dtype, const=array not in writes)
            write.numbers(f"{array}_start", f"{array}_row")
        if bias:
            write.memory("bias_memory", dtype)
            write.number("bias_start")
        write.numbers("k", "n", "m")
        self.tile = Tile(write, dtype, rows, vectors)
        wide = self.lanes * (vectors if spread else 1)
        first, second, _ = dialect.indices
        write.line(f"{self.index} i = ({self.index}){first} * {rows}, j = ({self.index}){second} * {wide};")
        write.line(f"if (i + {rows} > n) i = n - {rows};")
        write.line(f"if (j + {wide} > m) j = m - {wide};")
        for array in arrays:
            kind = self.kind if array in writes else f"const {self.kind}"
            pointer = dialect.pointer.format(type=kind, name=array)
            at = " + j" if array == "b" else f" + i * {array}_row" + (" + j" if array != "a" else "")
            write.line(f"{pointer} = {array}_memory + {array}_start{at};")
        self.tile.zero()
        write.line(f"for ({self.index} t = 0; t < k; ++t, b += b_row) {{")
        self.tile.step(lambda r: f"a[{r} * a_row + t]", "b", "" if spread else "m")
        write.line("}")

    @property
    def places(self) -> list[tuple[int, int]]:
        """The rows and the vectors of features of the tile."""
        return [(r, v) for r in range(self.rows) for v in range(self.vectors if self.spread else 1)]

    def at(self, array: str, r: int, v: int, gate: int = 0) -> str:
        """The pointer to a vector of features, of a gate, in a row."""
        return f"{array} + {r} * {array}_row + {gate} * m + {v * self.lanes}"

    def load(self, name: str, array: str, r: int, v: int, gate: int = 0) -> None:
        """A line that reads a vector."""
        value = self.dialect.load.format(lanes=self.lanes, place=self.at(array, r, v, gate))
        self.set(name, value)

    def set(self, name: str, value: str) -> None:
        """A line that gives a vector a name."""
        self.write.line(f"    const {self.tile.vector} {name} = {value};")

    def store(self, value: str, array: str, r: int, v: int, gate: int = 0) -> None:
        """A line that writes a vector."""
        place = self.at(array, r, v, gate)
        self.write.line("    " + self.dialect.store.format(lanes=self.lanes, value=value, place=place))

    def number(self, value: str) -> str:
        """The vector of one number."""
        return self.dialect.splat.format(type=self.kind, lanes=self.lanes, value=value)

    def chosen(self, condition: str, a: str, b: str) -> str:
        """``a`` where the condition holds."""
        return self.dialect.choose.format(condition=condition, a=a, b=b, lanes=self.lanes)


@cache
def lstm_step(dialect: Dialect, dtype: DType, rows: int, kept: bool) -> Source:
    """A step of an LSTM.

    Reads what the input comes to, (n, 4m), and the cell; writes the new state, the new cell, and if ``kept`` the gates,
    (n, 4m). The weight is (m, 4m).
    """
    writes = ["state", "after", *(["gates"] if kept else [])]
    step = _Step(dialect, "lstm_step" + "_kept" * kept, dtype, rows, 4, False, ["inputs", "before"], writes)
    names = ("take", "keep", "candidate", "show")
    for r, v in step.places:
        step.write.line("{")
        for gate, name in enumerate(names):
            step.load(f"{name}_x", "inputs", r, v, gate)
            total = f"{name}_x + c{r}_{gate}"
            step.set(name, f"tanh({total})" if name == "candidate" else _sigmoid(total))
            if kept:
                step.store(name, "gates", r, v, gate)
        step.load("old", "before", r, v)
        step.set("new", "keep * old + take * candidate")
        step.store("new", "after", r, v)
        step.store("show * tanh(new)", "state", r, v)
        step.write.line("}")
    return step.write.source()


@cache
def lstm_step_back(dialect: Dialect, dtype: DType, rows: int, vectors: int) -> Source:
    """A step back of an LSTM.

    Reads the cotangent of the state from outside, the gates, (n, 4m), the cell before and after, and the cotangent of the
    latter; writes the cotangents of the gates, (n, 4m), and of the cell. The product is that of the gates' cotangents of the
    step after with the weight, (4m, m).
    """
    reads = ["ct", "gates", "before", "after", "ct_after"]
    step = _Step(dialect, "lstm_step_back", dtype, rows, vectors, True, reads, ["ct_gates", "ct_before"])
    names = ("take", "keep", "candidate", "show")
    for r, v in step.places:
        step.write.line("{")
        step.load("from_outside", "ct", r, v)
        step.set("ct_state", f"from_outside + c{r}_{v}")
        for gate, name in enumerate(names):
            step.load(name, "gates", r, v, gate)
        for array in ("before", "after", "ct_after"):
            step.load(f"own_{array}", array, r, v)
        step.set("squashed", "tanh(own_after)")
        step.set("ct_cell", "own_ct_after + ct_state * show * (1 - squashed * squashed)")
        cotangents = (
            "ct_cell * candidate * take * (1 - take)",
            "ct_cell * own_before * keep * (1 - keep)",
            "ct_cell * take * (1 - candidate * candidate)",
            "ct_state * squashed * show * (1 - show)",
        )
        for gate, value in enumerate(cotangents):
            step.store(value, "ct_gates", r, v, gate)
        step.store("ct_cell * keep", "ct_before", r, v)
        step.write.line("}")
    return step.write.source()


@cache
def gru_step(dialect: Dialect, dtype: DType, rows: int, kept: bool, bias: bool) -> Source:
    """A step of a GRU.

    Reads what the input comes to, (n, 3m), and the state; writes the new state, and if ``kept`` reset gate, update gate,
    hidden part and candidate, (n, 4m). The weight is (m, 3m), the bias, if there is one, (3m,).
    """
    name = "gru_step" + "_kept" * kept + "_bias" * bias
    writes = ["state", *(["gates"] if kept else [])]
    step = _Step(dialect, name, dtype, rows, 3, False, ["inputs", "before"], writes, bias)
    for r, v in step.places:
        step.write.line("{")
        for gate, name in enumerate(("reset", "renew", "hidden")):
            step.load(f"{name}_x", "inputs", r, v, gate)
            total = f"c{r}_{gate}"
            if bias:
                place = f"bias_memory + bias_start + {gate} * m + j"
                step.set(f"{name}_b", dialect.load.format(lanes=step.lanes, place=place))
                total = f"({total} + {name}_b)"
            step.set(name, total if name == "hidden" else _sigmoid(f"{name}_x + {total}"))
        step.set("candidate", "tanh(hidden_x + reset * hidden)")
        step.load("old", "before", r, v)
        step.store("candidate + renew * (old - candidate)", "state", r, v)
        if kept:
            for gate, name in enumerate(("reset", "renew", "hidden", "candidate")):
                step.store(name, "gates", r, v, gate)
        step.write.line("}")
    return step.write.source()


@cache
def gru_step_back(dialect: Dialect, dtype: DType, rows: int, vectors: int) -> Source:
    """A step back of a GRU.

    Reads the cotangent of the state from outside, what `gru_step` kept, the state before, and what the step after passed
    on; writes the cotangents of the input's part and of the state's, (n, 3m) each, and what this step passes on. The
    product is that of the cotangents of the state's part, of the step after, with the weight, (3m, m).
    """
    reads = ["ct", "gates", "before", "passed"]
    writes = ["ct_inputs", "ct_hidden", "passes"]
    step = _Step(dialect, "gru_step_back", dtype, rows, vectors, True, reads, writes)
    for r, v in step.places:
        step.write.line("{")
        step.load("from_outside", "ct", r, v)
        step.load("own_passed", "passed", r, v)
        step.set("ct_state", f"from_outside + (own_passed + c{r}_{v})")
        for gate, name in enumerate(("reset", "renew", "hidden", "candidate")):
            step.load(name, "gates", r, v, gate)
        step.load("old", "before", r, v)
        step.set("ct_renew", "ct_state * (old - candidate) * renew * (1 - renew)")
        step.set("ct_candidate", "ct_state * (1 - renew) * (1 - candidate * candidate)")
        step.set("ct_reset", "ct_candidate * hidden * reset * (1 - reset)")
        for array in ("ct_inputs", "ct_hidden"):
            step.store("ct_reset", array, r, v, 0)
            step.store("ct_renew", array, r, v, 1)
        step.store("ct_candidate", "ct_inputs", r, v, 2)
        step.store("ct_candidate * reset", "ct_hidden", r, v, 2)
        step.store("ct_state * renew", "passes", r, v)
        step.write.line("}")
    return step.write.source()


@cache
def rnn_step(dialect: Dialect, dtype: DType, rows: int, vectors: int, nonlinearity: str) -> Source:
    """A step of a plain recurrent layer: reads what the input comes to, writes the state, (n, m) each.

    The weight is (m, m).
    """
    step = _Step(dialect, f"rnn_step_{nonlinearity}", dtype, rows, vectors, True, ["inputs"], ["state"])
    for r, v in step.places:
        step.write.line("{")
        step.load("x", "inputs", r, v)
        step.set("total", f"x + c{r}_{v}")
        step.set("zero", step.number("0"))
        positive = step.chosen("(total > zero) | (total != total)", "total", "zero")
        step.store("tanh(total)" if nonlinearity == "tanh" else positive, "state", r, v)
        step.write.line("}")
    return step.write.source()


@cache
def rnn_step_back(dialect: Dialect, dtype: DType, rows: int, vectors: int, nonlinearity: str) -> Source:
    """A step back of a plain recurrent layer.

    Reads the cotangent of the state from outside, and the state; writes the cotangent of the sums. The product is that of
    this one of the step after with the weight, (m, m).
    """
    name = f"rnn_step_back_{nonlinearity}"
    step = _Step(dialect, name, dtype, rows, vectors, True, ["ct", "state"], ["inner"])
    for r, v in step.places:
        step.write.line("{")
        step.load("from_outside", "ct", r, v)
        step.load("own", "state", r, v)
        step.set("ct_state", f"from_outside + c{r}_{v}")
        step.set("zero", step.number("0"))
        where = step.chosen("own > zero", "ct_state", "zero")
        value = "ct_state * (1 - own * own)" if nonlinearity == "tanh" else where
        step.store(value, "inner", r, v)
        step.write.line("}")
    return step.write.source()


def _sigmoid(x: str) -> str:
    return f"1 / (1 + exp(-({x})))"
