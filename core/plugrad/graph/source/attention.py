"""Kernels for scaled dot-product attention and its derivative: scores are made, used and forgotten a block at a time.

A work-item takes some rows of queries and goes through the keys in blocks. What an earlier block has come to is brought to the
largest score so far (Milakov, Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv:1805.02867; Dao et al.,
"FlashAttention", 2022, arXiv:2205.14135).

Parameters of both: for each array the memory, the first place, and the strides of the outer and the inner batch axis and of the
rows, elements of a row lying side by side; keys and, in the derivative, values are also taken turned, their rows as long
as full tiles; for a mask the stride of its columns as well. Then what a kernel says; the matrices of the inner batch axis, how
many rows queries and keys have, how many elements a row of queries and of values; and the scale.

Launch: tiles of rows, matrices.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final

from plugrad import dtypes
from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer
from plugrad.graph.source.lanes import few
from plugrad.graph.source.tile import Tile

BLOCK: Final = 128
"""Keys of a block."""


class _Rows:
    """Writes what the two kernels share: some rows of queries, and their scores of a block of keys in ``scores``."""

    def __init__(
        self,
        dialect: Dialect,
        name: str,
        dtype: DType,
        rows: int,
        vectors: int,
        arrays: Sequence[str],
        results: Sequence[str],
        mask: DType | None,
        causal: bool,
    ) -> None:
        self.dialect, self.dtype, self.rows, self.mask, self.causal = dialect, dtype, rows, mask, causal
        self.lanes = dialect.lanes[dtype]
        self.kind, self.index = dialect.types[dtype], dialect.index
        self.vector = dialect.vector.format(type=self.kind, lanes=self.lanes)
        kinds = "" if mask is None else f"_{mask.name}"
        self.write = write = Writer(dialect, f"{name}_{rows}_{vectors}{kinds}{'_causal' * causal}", (dtype,))
        for array in (*arrays, *results):
            write.memory(f"{array}_memory", dtype, const=array not in results)
            write.numbers(f"{array}_start", f"{array}_outer", f"{array}_inner", f"{array}_row")
        if mask is not None:
            write.memory("mask_memory", mask)
            write.numbers("mask_start", "mask_outer", "mask_inner", "mask_row", "mask_column")
        self.tile = Tile(write, dtype, rows, vectors)
        self.pointers = [(a, a not in results) for a in (*arrays, *results)]

    def begin(self) -> None:
        """Lines that find the rows, of which ``i`` is the first, and where the arrays' rows begin."""
        write, index = self.write, self.index
        write.numbers("inners", "queries", "keys", "width", "value_width")
        write.number("scale", self.dtype)
        first, second, _ = self.dialect.indices
        write.line(f"const {index} batch = {second}, outer = batch / inners, inner = batch % inners;")
        write.line(f"{index} i = ({index}){first} * {self.rows};")
        write.line(f"if (i + {self.rows} > queries) i = queries - {self.rows};")
        for array, const in self.pointers:
            kind = f"const {self.kind}" if const else self.kind
            pointer = self.dialect.pointer.format(type=kind, name=array)
            at = f"{array}_start + outer * {array}_outer + inner * {array}_inner"
            of_query = (
                "" if array in ("key", "turned_key", "value", "turned_value") else f" + i * {array}_row"
            )
            write.line(f"{pointer} = {array}_memory + {at}{of_query};")
        if self.mask is not None:
            pointer = self.dialect.pointer.format(type=f"const {self.dialect.types[self.mask]}", name="mask")
            at = "mask_start + outer * mask_outer + inner * mask_inner + i * mask_row"
            write.line(f"{pointer} = mask_memory + {at};")
        seen = f"i + {self.rows} < keys ? i + {self.rows} : keys" if self.causal else "keys"
        write.line(f"const {index} end = {seen};")
        write.line(f"{self.kind} scores[{self.rows * BLOCK}];")

    def blocks(self) -> None:
        """Lines that begin the loop over blocks: ``n`` keys from ``from`` on."""
        self.write.line(f"for ({self.index} from = 0; from < end; from += {BLOCK}) {{")
        self.write.line(f"const {self.index} n = end - from < {BLOCK} ? end - from : {BLOCK};")

    def products(self, left: str, right: str, length: str, into: str, scale: str = "") -> None:
        """Lines that write the products of some rows with the rows of a turned array for a block, in whole tiles."""
        write, tile, lanes = self.write, self.tile, self.lanes
        wide = lanes * tile.vectors
        write.line(f"for ({self.index} j = 0; j < n; j += {wide}) {{")
        pointer = self.dialect.pointer.format(type=f"const {self.kind}", name="b")
        write.line(f"{pointer} = {right} + from + j;")
        tile.zero()
        write.line(f"for ({self.index} t = 0; t < {length}; ++t, b += {right}_row) {{")
        tile.step(lambda r: f"{left}[{r} * {left}_row + t]", "b")
        write.line("}")
        for r in range(self.rows):
            for v in range(tile.vectors):
                place = f"{into} + {r * BLOCK + v * lanes} + j"
                write.line(self.dialect.store.format(lanes=lanes, value=f"c{r}_{v}{scale}", place=place))
        write.line("}")

    def masked(self) -> None:
        """Lines that make the scores minus infinity where a position takes no part."""
        write, index = self.write, self.index
        write.line(f"for ({index} r = 0; r < {self.rows}; ++r) {{")
        write.line(f"    {index} limit = n;")
        if self.causal:
            write.line("    if (i + r + 1 - from < limit) limit = i + r + 1 > from ? i + r + 1 - from : 0;")
        if self.mask is not None:
            value = self.dialect.element(self.mask, "mask", "r * mask_row + (from + j) * mask_column")
            write.line(f"    for ({index} j = 0; j < limit; ++j)")
            if self.mask is dtypes.bool:
                write.line(f"        if (!{value}) scores[r * {BLOCK} + j] = -{self.dialect.infinity};")
            else:
                write.line(f"        scores[r * {BLOCK} + j] += ({self.kind}){value};")
        wide = self.lanes * self.tile.vectors
        write.line(f"    for ({index} j = limit; j < (n + {wide - 1}) / {wide} * {wide}; ++j)")
        write.line(f"        scores[r * {BLOCK} + j] = -{self.dialect.infinity};")
        write.line("}")

    def across(self, vector: str, name: str, step: str) -> None:
        """Lines that make the number ``name`` of the lanes of a vector; ``step`` joins ``{a}`` and ``{b}`` in ``{a}``."""
        write, lanes, width = self.write, self.lanes, few(self.dtype)
        small = self.dialect.vector.format(type=self.kind, lanes=width)
        write.line(f"{self.kind} {name}_side[{lanes}];")
        write.line(self.dialect.store.format(lanes=lanes, value=vector, place=f"{name}_side"))
        for p in range(lanes // width):
            load = self.dialect.load.format(lanes=width, place=f"{name}_side + {p * width}")
            write.line(f"{small} {name}{p} = {load};")
            if p:
                write.line(self.joined(f"{name}0", f"{name}{p}", step, width))
        for p in range(width):
            write.line(f"{self.kind} {name}_{p} = {self.dialect.lane.format(vector=f'{name}0', lane=p)};")
            if p:
                write.line(self.joined(f"{name}_0", f"{name}_{p}", step, 1))
        write.line(f"const {self.kind} {name} = {name}_0;")

    def joined(self, a: str, b: str, step: str, lanes: int) -> str:
        """The statement that joins ``b`` to ``a``: by ``"sum"``, or ``"max"``, where NaN is the largest."""
        if step == "sum":
            return f"{a} = {a} + {b};"
        condition = f"({b} > {a}) | ({b} != {b})"
        chosen = f"({condition}) ? {b} : {a}"
        if lanes > 1:
            chosen = self.dialect.choose.format(condition=condition, a=b, b=a, lanes=lanes)
        return f"{a} = {chosen};"

    def each_row(self) -> None:
        """A line that begins a loop over the rows."""
        self.write.line(f"for ({self.index} r = 0; r < {self.rows}; ++r) {{")

    def each_vector(self, high: str) -> None:
        """A line that begins a loop over the vectors of so many elements."""
        self.write.line(f"for ({self.index} j = 0; j < {high}; j += {self.lanes}) {{")

    def load(self, place: str) -> str:
        """The vector at a place."""
        return self.dialect.load.format(lanes=self.lanes, place=place)

    def store(self, place: str, value: str) -> str:
        """The statement that writes a vector there."""
        return self.dialect.store.format(lanes=self.lanes, place=place, value=value)

    def number(self, value: str) -> str:
        """The vector of one number."""
        return self.dialect.splat.format(type=self.kind, lanes=self.lanes, value=value)

    def accumulate(self, tile: Tile, width: int, left: str, right: str, factor: str) -> None:
        """Lines that add the products of a block's ``left`` with the rows of ``right`` to ``sums``, times a factor first."""
        write, lanes = self.write, self.lanes
        wide = lanes * tile.vectors
        pointer = self.dialect.pointer.format(type=f"const {self.kind}", name="b")
        for number, column in enumerate(_columns(width, wide)):
            write.line("{")
            for r in range(self.rows):
                for v in range(tile.vectors):
                    place = f"sums + {r * _stored(width, wide) + number * wide + v * lanes}"
                    write.line(f"{self.vector} c{r}_{v} = {self.load(place)}{factor.format(r=r)};")
            write.line(f"{pointer} = {right} + from * {right}_row + {column};")
            write.line(f"for ({self.index} t = 0; t < n; ++t, b += {right}_row) {{")
            tile.step(lambda r: f"{left}[{r * BLOCK} + t]", "b")
            write.line("}")
            for r in range(self.rows):
                for v in range(tile.vectors):
                    place = f"sums + {r * _stored(width, wide) + number * wide + v * lanes}"
                    write.line(self.store(place, f"c{r}_{v}"))
            write.line("}")

    def finish(self, tile: Tile, width: int, result: str, factor: str) -> None:
        """Lines that write ``sums``, times a factor, to the rows of a result."""
        write, lanes = self.write, self.lanes
        wide = lanes * tile.vectors
        self.each_row()
        write.line(f"    const {self.vector} factor = {self.number(factor)};")
        for number, column in enumerate(_columns(width, wide)):
            for v in range(tile.vectors):
                value = self.load(f"sums + r * {_stored(width, wide)} + {number * wide + v * lanes}")
                place = f"{result} + r * {result}_row + {column + v * lanes}"
                write.line("    " + self.store(place, f"{value} * factor"))
        write.line("}")


def _columns(width: int, wide: int) -> list[int]:
    """Where tiles begin that cover so many columns: the last moves back."""
    return [min(c, width - wide) for c in range(0, width, wide)]


def _stored(width: int, wide: int) -> int:
    return len(_columns(width, wide)) * wide


def _vectors(width: int, lanes: int) -> int:
    """Vectors of a tile over so many columns, at least as many as a vector has lanes."""
    return 2 if width >= 2 * lanes else 1


def tile_columns(keys: int, lanes: int) -> int:
    """The columns of a tile of scores: turned keys and values have rows of a multiple of them."""
    return lanes * _vectors(keys, lanes)


@cache
def attention(
    dialect: Dialect, dtype: DType, rows: int, vectors: int, width: int, mask: DType | None, causal: bool
) -> Source:
    """Rows of ``softmax(query @ key.T * scale + mask) @ value``, and the logarithm of each row's sum of exponentials.

    Arrays: ``query``, ``turned_key``, ``value``, ``out``; what it says: the memory and the first place of the
    logarithms, one for each row of all matrices.

    Args:
        dialect: the language.
        dtype: a dtype that has vectors.
        rows: of a tile; there are as many queries at least.
        vectors: of a tile of scores.
        width: of the values, that of a vector at least.
        mask: its dtype, or None for no mask.
        causal: whether a query sees only the keys up to its own place.
    """
    arrays = ("query", "turned_key", "value")
    own = _Rows(dialect, f"attention_{width}", dtype, rows, vectors, arrays, ("out",), mask, causal)
    write, kind, vector = own.write, own.kind, own.vector
    write.memory("log_sum", dtype, const=False)
    write.number("log_sum_start")
    own.begin()
    tile = Tile(write, dtype, rows, _vectors(width, own.lanes))
    size = rows * _stored(width, own.lanes * tile.vectors)
    write.line(f"{kind} sums[{size}], top[{rows}], total[{rows}], kept[{rows}];")
    write.line(f"for (int e = 0; e < {size}; ++e) sums[e] = 0;")
    write.line(f"for (int r = 0; r < {rows}; ++r) {{ top[r] = -{dialect.infinity}; total[r] = 0; }}")
    own.blocks()
    own.products("query", "turned_key", "width", "scores", " * " + own.number("scale"))
    own.masked()
    own.each_row()
    write.line(f"{vector} highest = {own.load(f'scores + r * {BLOCK}')};")
    own.each_vector("n")
    write.line(f"const {vector} v = {own.load(f'scores + r * {BLOCK} + j')};")
    write.line(own.joined("highest", "v", "max", own.lanes))
    write.line("}")
    own.across("highest", "now", "max")
    write.line(f"{kind} high = top[r];")
    write.line(own.joined("high", "now", "max", 1))
    write.line(f"const {kind} base = high == -{dialect.infinity} ? 0 : high;")
    write.line(f"{vector} sum = {own.number('0')};")
    own.each_vector("n")
    write.line(f"const {vector} e = exp({own.load(f'scores + r * {BLOCK} + j')} - {own.number('base')});")
    write.line(own.store(f"scores + r * {BLOCK} + j", "e"))
    write.line("sum = sum + e;")
    write.line("}")
    own.across("sum", "here", "sum")
    write.line("kept[r] = exp(top[r] - base);")
    write.line("total[r] = total[r] * kept[r] + here;")
    write.line("top[r] = high;")
    write.line("}")
    own.accumulate(tile, width, "scores", "value", " * " + own.number("kept[{r}]"))
    write.line("}")
    # Where no position takes part, the row is 0, and the logarithm too.
    write.line(f"for (int r = 0; r < {rows}; ++r) {{")
    write.line("    if (total[r] == 0) total[r] = 1;")
    write.line(f"    const {kind} base = top[r] == -{dialect.infinity} ? 0 : top[r];")
    write.line("    log_sum[log_sum_start + batch * queries + i + r] = base + log(total[r]);")
    write.line("}")
    own.finish(tile, width, "out", "1 / total[r]")
    return write.source()


@cache
def attention_derivative(
    dialect: Dialect, dtype: DType, rows: int, vectors: int, width: int, mask: DType | None, causal: bool
) -> Source:
    """From a cotangent, the weights and the cotangents of the scores, and the cotangent of the queries.

    The cotangents of keys and values are products of what is written here, as `scaled_dot_product_attention` says.

    Arrays: ``query``, ``key``, ``turned_key``, ``turned_value``, ``ct``, ``out``, the results ``weights`` and ``slope``, with
    rows as long as those of ``turned_key``, and ``ct_query``; what it says: the logarithms, as `attention`; then the length
    of the rows of ``weights``.

    Args:
        dialect: the language.
        dtype: a dtype that has vectors.
        rows: of a tile; there are as many queries at least.
        vectors: of a tile of scores.
        width: of the queries, that of a vector at least.
        mask: its dtype, or None for no mask.
        causal: whether a query sees only the keys up to its own place.
    """
    arrays = ("query", "key", "turned_key", "turned_value", "ct", "out")
    results = ("weights", "slope", "ct_query")
    own = _Rows(dialect, f"attention_derivative_{width}", dtype, rows, vectors, arrays, results, mask, causal)
    write, kind, vector, lanes, index = own.write, own.kind, own.vector, own.lanes, own.index
    write.memory("log_sum", dtype)
    write.numbers("log_sum_start", "length")
    own.begin()
    tile = Tile(write, dtype, rows, _vectors(width, lanes))
    size = rows * _stored(width, lanes * tile.vectors)
    write.line(f"{kind} slopes[{rows * BLOCK}], sums[{size}], mean[{rows}];")
    write.line(f"for (int e = 0; e < {size}; ++e) sums[e] = 0;")
    # The sum of ct * out over a row is that of weights * slope.
    own.each_row()
    write.line(f"{vector} both = {own.number('0')};")
    write.line(f"{index} j = 0;")
    write.line(f"for (; j + {lanes} <= value_width; j += {lanes})")
    write.line(f"    both = both + {own.load('ct + r * ct_row + j')} * {own.load('out + r * out_row + j')};")
    own.across("both", "sum", "sum")
    write.line("mean[r] = sum;")
    write.line("for (; j < value_width; ++j) mean[r] += ct[r * ct_row + j] * out[r * out_row + j];")
    write.line("}")
    own.blocks()
    own.products("query", "turned_key", "width", "scores", " * " + own.number("scale"))
    own.masked()
    own.products("ct", "turned_value", "value_width", "slopes")
    own.each_row()
    write.line(f"const {vector} base = {own.number('log_sum[log_sum_start + batch * queries + i + r]')};")
    write.line(f"const {vector} middle = {own.number('mean[r]')};")
    own.each_vector("n")
    write.line(f"const {vector} weight = exp({own.load(f'scores + r * {BLOCK} + j')} - base);")
    write.line(f"const {vector} pull = weight * ({own.load(f'slopes + r * {BLOCK} + j')} - middle);")
    write.line(own.store("weights + r * weights_row + from + j", "weight"))
    write.line(own.store("slope + r * slope_row + from + j", "pull"))
    write.line(own.store(f"slopes + r * {BLOCK} + j", "pull"))
    write.line("}")
    write.line("}")
    own.accumulate(tile, width, "slopes", "key", "")
    write.line("}")
    own.each_row()
    write.line(f"for ({index} j = (end + {lanes - 1}) / {lanes} * {lanes}; j < length; j += {lanes}) {{")
    for name in ("weights", "slope"):
        write.line("    " + own.store(f"{name} + r * {name}_row + j", own.number("0")))
    write.line("}")
    write.line("}")
    own.finish(tile, width, "ct_query", "scale")
    return write.source()
