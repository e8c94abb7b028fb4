"""`Statements`: what elementwise ops compute, written as statements of numbers or of vectors.

An expression of the ops' records serves numbers, and vectors too where nothing in it chooses. What chooses, compares or
shifts is written for vectors here: a truth in a lane is an integer, -1 or 0. An op that has no such form is computed lane
by lane by a function that stands before the kernel.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.ir import Graph, Node, Value
from plugrad.graph.source.dialect import Dialect
from plugrad.graph.source.expressions import cast_of, expression_of
from plugrad.graph.source.functions import FUNCTIONS

_CHOOSES: Final = re.compile(r"[<>=!?|&~%]|sizeof|power\(")
_COMPARISONS: Final = {"equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<="}
_SIGNED: Final = {1: dtypes.int8, 2: dtypes.int16, 4: dtypes.int32, 8: dtypes.int64}


@dataclass(frozen=True, slots=True)
class Term:
    """A value in the text of a kernel.

    Attributes:
        text: a name or a literal.
        dtype: its dtype. bool is, as a number, an integer, 0 or 1; as a vector 32-bit integers, 0 or -1 a lane.
        wide: it is a vector.
        exact: it is held by its dtype as it is; else it is yet to be rounded to it, as floats of 16 bits are.
    """

    text: str
    dtype: DType
    wide: bool = False
    exact: bool = True


class Statements:
    """Writes statements.

    Attributes:
        lines: the statements so far.
        helpers: functions that they call, in order.
    """

    def __init__(self, dialect: Dialect, lanes: int, prefix: str = "v") -> None:
        """Begin.

        Args:
            dialect: the language.
            lanes: of the vectors.
            prefix: what the names of new variables begin with.
        """
        self.dialect = dialect
        self.lanes = lanes
        self.lines: list[str] = []
        self.helpers: dict[str, None] = {}
        self._prefix = prefix
        self._count = 0
        self._rounded: dict[str, Term] = {}

    def type_of(self, dtype: DType, wide: bool) -> str:
        """The type that a value of a dtype is computed in."""
        computed = dtypes.int32 if dtype is dtypes.bool else self.dialect.computed(dtype)
        kind = self.dialect.types[computed]
        return self.dialect.vector.format(type=kind, lanes=self.lanes) if wide else kind

    def let(self, text: str, dtype: DType, wide: bool, exact: bool = True) -> Term:
        """A new variable."""
        name = f"{self._prefix}{self._count}"
        self._count += 1
        self.lines.append(f"const {self.type_of(dtype, wide)} {name} = {text};")
        return Term(name, dtype, wide, exact)

    def number(self, value: float, dtype: DType) -> Term | None:
        """A number as a literal, or None for a float that is best a parameter.

        Those that come of sizes, as the divisor of a mean, must not make another kernel of each size.
        """
        if dtype is dtypes.bool:
            return Term(str(int(bool(value))), dtype)
        if not dtype.is_floating:
            return Term(self._integer(int(value), dtype), dtype)
        if float(value) not in (0.0, 1.0, -1.0, 0.5, -0.5, 2.0) or math.copysign(1, value) < 0 == value:
            return None
        text = f"{float(value)!r}{'' if dtype is dtypes.float64 else 'f'}"
        return Term(f"({text})", dtype)

    def _integer(self, value: int, dtype: DType) -> str:
        kind = self.dialect.types[dtype]
        if value > dtypes.iinfo(dtypes.int64).max:
            return f"(({kind}){value}UL)"
        if value == dtypes.iinfo(dtypes.int64).min:
            return f"(({kind})({value + 1} - 1))"
        return f"(({kind}){value})"

    def load(self, dtype: DType, memory: str, place: str, wide: bool) -> Term:
        """An element, or as many as a vector has from a place on."""
        if not wide:
            return self.let(self.dialect.element(dtype, memory, place), dtype, False)
        pattern = self.dialect.vector_loads.get(dtype, self.dialect.load)
        return self.let(pattern.format(lanes=self.lanes, place=f"{memory} + {place}"), dtype, True)

    def gather(self, dtype: DType, memory: str, places: Sequence[str]) -> Term:
        """The vector of elements at several places."""
        found = [self.dialect.element(dtype, memory, p) for p in places]
        if dtype is dtypes.bool:
            found = [f"-({f})" for f in found]
        computed = dtypes.int32 if dtype is dtypes.bool else self.dialect.computed(dtype)
        text = self.dialect.compose.format(
            type=self.dialect.types[computed], lanes=self.lanes, values=", ".join(found)
        )
        return self.let(text, dtype, True)

    def store(self, term: Term, memory: str, place: str, wide: bool) -> None:
        """Write an element, or a vector from a place on."""
        if not wide:
            assert not term.wide
            self.lines.append(self.dialect.write(term.dtype, memory, place, term.text))
            return
        pattern = self.dialect.vector_stores.get(term.dtype, self.dialect.store)
        where = f"{memory} + {place}"
        self.lines.append(pattern.format(lanes=self.lanes, place=where, value=self.widened(term)))

    def scatter(self, term: Term, memory: str, places: Sequence[str]) -> None:
        """Write the lanes of a vector to several places."""
        kind = self.type_of(term.dtype, False)
        name = f"{self._prefix}{self._count}"
        self._count += 1
        self.lines.append(f"{kind} {name}[{self.lanes}];")
        value = self.widened(term)
        if term.dtype is dtypes.bool:
            value = f"{value} & 1"
        self.lines.append(self.dialect.store.format(lanes=self.lanes, value=value, place=name))
        for i, place in enumerate(places):
            self.lines.append(self.dialect.write(term.dtype, memory, place, f"{name}[{i}]"))

    def widened(self, term: Term) -> str:
        """A term as a vector."""
        if term.wide:
            return term.text
        computed = dtypes.int32 if term.dtype is dtypes.bool else self.dialect.computed(term.dtype)
        text = f"-({term.text})" if term.dtype is dtypes.bool else term.text
        return self.dialect.splat.format(type=self.dialect.types[computed], lanes=self.lanes, value=text)

    def exact(self, term: Term) -> Term:
        """A term rounded to its dtype."""
        if term.exact:
            return term
        if term.text not in self._rounded:
            table = self.dialect.narrow_vector if term.wide else self.dialect.narrow
            text = table[term.dtype].format(value=term.text, lanes=self.lanes)
            self._rounded[term.text] = self.let(text, term.dtype, term.wide)
        return self._rounded[term.text]

    def forget(self) -> None:
        """Leave the block in which the last variables stand."""
        self._rounded.clear()

    def cast(self, term: Term, dtype: DType) -> Term:
        """A term in another dtype, as `astype` means it."""
        source = term.dtype
        if source is dtype:
            return term
        term = self.exact(term)
        exact = dtype not in self.dialect.arithmetic
        if self.dialect.computed(source) is self.dialect.computed(dtype):
            return Term(term.text, dtype, term.wide, exact)
        if not term.wide:
            text, helper = cast_of(source, dtype, self.dialect, term.text)
            if helper:
                self.helpers[helper] = None
            return self.let(text if dtype is dtypes.bool else f"({text})", dtype, False, exact)
        if dtype is dtypes.bool:
            return self._truth(f"{term.text} != {self.widened(Term('0', source))}", source)
        computed = self.dialect.computed(dtype)
        if computed is not dtype and source.itemsize > 4:
            # Rounded to the arithmetic's dtype first and then to its own, a number could end up one too far.
            text, helper = cast_of(source, dtype, self.dialect, "x")
            return self._lane_by_lane(f"cast_{dtype.name}", text, helper, {"x": term}, dtype, exact)
        text = f"({term.text} & 1)" if source is dtypes.bool else term.text
        kind = self.type_of(dtype, True)
        return self.let(self.dialect.convert.format(type=kind, value=text), dtype, True, exact)

    def apply(self, op: Any, operands: Sequence[Term], result: DType) -> Term:
        """What an elementwise primitive computes of its operands.

        Args:
            op: the op.
            operands: in its order, the promoted ones of one dtype.
            result: the dtype of the result.
        """
        names = [o.name for o in op.operands]
        promoted = [o.dtype for n, o in zip(names, operands, strict=True) if n in op.promoted]
        dtype = promoted[0] if promoted else operands[0].dtype
        terms = {n: self.exact(o) for n, o in zip(names, operands, strict=True)}
        exact = result not in self.dialect.arithmetic
        text, helper = expression_of(op, dtype, self.dialect)
        if not any(o.wide for o in operands):
            if helper:
                self.helpers[helper] = None
            text = _put(text, {n: t.text for n, t in terms.items()})
            if result is not dtypes.bool:
                text = f"({self.type_of(result, False)})({text})"
            return self.let(text, result, False, exact)
        vectors = {n: self.widened(t) for n, t in terms.items()}
        chosen = self._chosen(op.name, dtype, vectors)
        if chosen is not None:
            return (
                self._truth(chosen, dtype) if result is dtypes.bool else self.let(chosen, result, True, exact)
            )
        own = FUNCTIONS.get(op.name)
        if own is not None and self.dialect.reinterpret and self.dialect.computed(dtype) is dtypes.float32:
            self.helpers[own(self.dialect, self.lanes)] = None
            return self.let(f"{op.name}_{self.lanes}({vectors['x']})", result, True, exact)
        if not _CHOOSES.search(text) and "{" not in text and not dtype.is_integer:
            return self.let(_put(text, vectors), result, True, exact)
        return self._lane_by_lane(f"{op.name}_{dtype.name}", text, helper, terms, result, exact)

    def _chosen(self, name: str, dtype: DType, given: Mapping[str, str]) -> str | None:
        """The expression of vectors of an op that compares, chooses or works on bits; None for another op.

        That of a truth is as wide as the elements of ``dtype``.
        """
        a, b, x = (given.get(n, "") for n in ("x1", "x2", "x"))

        def all_of(value: int) -> str:
            return self.widened(Term(str(value), dtype))

        if name in _COMPARISONS:
            if dtype is dtypes.bool:
                return f"~({a} ^ {b})" if name == "equal" else f"{a} ^ {b}"
            return f"{a} {_COMPARISONS[name]} {b}"
        if name == "where":
            return self._choose(self._mask(given["condition"], dtype), a, b)
        if name in ("maximum", "minimum"):
            sign = ">" if name == "maximum" else "<"
            nan = f" | ({a} != {a})" if dtype.is_floating else ""
            return self._choose(f"({a} {sign} {b}){nan}", a, b)
        if name == "signbit":
            return f"signbit({x}) != 0"
        if name == "sign":
            kind = self.type_of(dtype, True)
            text = self.dialect.convert.format(type=kind, value=f"({x} < {all_of(0)}) - ({x} > {all_of(0)})")
            return self._choose(f"{x} != {x}", x, text) if dtype.is_floating else text
        if dtype.is_floating:
            return None
        simple = {"bitwise_and": "&", "bitwise_or": "|", "bitwise_xor": "^"}
        if name in simple:
            return f"{a} {simple[name]} {b}"
        if name == "bitwise_invert":
            return f"~{x}"
        if dtype is dtypes.bool:
            return None
        wrapping = {"add": "+", "subtract": "-", "multiply": "*"}
        if name in wrapping:
            return f"{a} {wrapping[name]} {b}"
        if name == "negative":
            return f"-{x}"
        if name == "floor":
            return x
        if name == "abs":
            return self._choose(f"{x} < {all_of(0)}", f"-{x}", x) if dtype.kind == "int" else x
        if name.endswith("_shift"):
            within = f"{b} < {all_of(8 * dtype.itemsize)}"
            if name == "bitwise_left_shift":
                return self._choose(within, f"{a} << {b}", all_of(0))
            signed = dtype.kind == "int"
            sign = f"{a} >> {all_of(8 * dtype.itemsize - 1)}" if signed else all_of(0)
            return self._choose(within, f"{a} >> {b}", sign)
        return None

    def _choose(self, condition: str, a: str, b: str) -> str:
        return self.dialect.choose.format(condition=condition, a=a, b=b)

    def _mask(self, text: str, dtype: DType) -> str:
        """A truth of 32 bits a lane in the width of a dtype."""
        size = 4 if dtype is dtypes.bool else self.dialect.computed(dtype).itemsize
        if size == 4:
            return text
        return self.dialect.convert.format(type=self.type_of(_SIGNED[size], True), value=text)

    def _truth(self, text: str, dtype: DType) -> Term:
        """A truth as wide as the elements of a dtype as one of 32 bits a lane."""
        size = 4 if dtype is dtypes.bool else self.dialect.computed(dtype).itemsize
        if size != 4:
            text = self.dialect.convert.format(type=self.type_of(dtypes.int32, True), value=f"({text})")
        return self.let(text, dtypes.bool, True)

    def _lane_by_lane(
        self, name: str, text: str, helper: str, terms: Mapping[str, Term], result: DType, exact: bool
    ) -> Term:
        """An expression of numbers computed in each lane, by a function."""
        if helper:
            self.helpers[helper] = None
        assert result is not dtypes.bool
        lanes, dialect = self.lanes, self.dialect
        name = f"lanes_{name}_{result.name}"
        given = ", ".join(f"const {self.type_of(t.dtype, True)} {n}_all" for n, t in terms.items())
        lines = [f"{dialect.function} {self.type_of(result, True)} {name}({given})", "{"]
        for n, t in terms.items():
            lines.append(f"    {self.type_of(t.dtype, False)} {n}_each[{lanes}];")
            lines.append("    " + dialect.store.format(lanes=lanes, value=f"{n}_all", place=f"{n}_each"))
        kind = self.type_of(result, False)
        lines += [f"    {kind} each[{lanes}];", f"    for (int lane = 0; lane < {lanes}; ++lane) {{"]
        for n, t in terms.items():
            # A truth of a vector is -1.
            value = f"{n}_each[lane]" + (" & 1" if t.dtype is dtypes.bool else "")
            lines.append(f"        const {self.type_of(t.dtype, False)} {n} = {value};")
        lines += [f"        each[lane] = ({kind})({text});", "    }"]
        lines += [f"    return {dialect.load.format(lanes=lanes, place='each')};", "}"]
        self.helpers["\n".join(lines)] = None
        call = f"{name}({', '.join(self.widened(t) for t in terms.values())})"
        return self.let(call, result, True, exact)

    def compute(self, node: Node, operand: Mapping[Value, Term], numbers: Mapping[int, Term]) -> Term:
        """What a node computes, an elementwise primitive or a cast.

        Args:
            node: the node.
            operand: by value that it reads, the term.
            numbers: by the place of an operand that is a number, the term.
        """
        result = node.results[0].spec.dtype
        terms = [operand[o] if isinstance(o, Value) else numbers[i] for i, o in enumerate(node.operands)]
        if node.op.name == "astype":
            return self.cast(terms[0], result)
        return self.apply(node.op, terms, result)


def number_dtype(node: Node) -> DType:
    """The dtype of the Python numbers among a node's operands: that of the tensors which they are promoted with."""
    for operand, given in zip(node.op.operands, node.operands, strict=True):
        if isinstance(given, Value) and operand.name in node.op.promoted:
            return given.spec.dtype
    return node.results[0].spec.dtype


def statements_of(graph: Graph, names: Sequence[Term], write: Statements) -> list[Term]:
    """Write what a graph of elementwise nodes of one shape computes.

    Args:
        graph: elementwise primitives and casts; its numbers are written as literals.
        names: for each input, the number or the vector that holds it.
        write: where to.

    Returns:
        A term for each output.
    """
    terms: dict[Value, Term] = dict(zip(graph.inputs, names, strict=True))
    for node in graph.nodes:
        dtype = number_dtype(node)
        numbers = {
            i: write.number(o, dtype) or Term(_literal(write.dialect, o, dtype), dtype)
            for i, o in enumerate(node.operands)
            if not isinstance(o, Value)
        }
        terms[node.results[0]] = write.compute(node, terms, numbers)
    return [terms[v] for v in graph.outputs]


def _literal(dialect: Dialect, value: float, dtype: DType) -> str:
    """Any float as it is written, rounded to its dtype once."""
    rounded = float(dtype.numpy.type(value))
    sign = "-" if math.copysign(1, rounded) < 0 else ""
    if math.isinf(rounded):
        return f"({sign}{dialect.infinity})"
    if math.isnan(rounded):
        return f"({dialect.infinity} - {dialect.infinity})"
    return f"({rounded!r}{'' if dialect.computed(dtype) is dtypes.float64 else 'f'})"


def _put(text: str, given: Mapping[str, str]) -> str:
    """An expression over other names."""
    return re.sub(r"\b(" + "|".join(map(re.escape, given)) + r")\b", lambda m: f"({given[m[1]]})", text)
