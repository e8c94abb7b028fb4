"""Kernels for the largest element and the mean of windows over 1 to 3 spatial axes, and for their derivatives.

What the windows are stands in the text: a `Window`, and whether channels lie side by side (``wide``): a work-item takes them in
vectors then.

Parameters of all of them: for each array the memory, the first place, and the strides of images, channels and spatial axes; for the
spatial axes the sizes of the result, of the image, and what a kernel says; the channels, how many of them a work-item takes, and
how many work-items there are.

Launch: one axis, a work-item for a line along the last spatial axis, or for all of them, of each block of channels of each
image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer, decompose, place


@dataclass(frozen=True, slots=True)
class Window:
    """How windows lie over the spatial axes.

    Attributes:
        sizes: of a window.
        stride: from one to the next.
        dilation: from one element of a window to the next.
        before: by how much the first window begins before the image.
        inside: whether all that windows see lies in the image.
    """

    sizes: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    inside: bool


class _Elements:
    """How the channels at one place are read and written: as a vector or as a number."""

    def __init__(self, dialect: Dialect, dtype: DType, lanes: int) -> None:
        self.dialect, self.lanes = dialect, lanes
        self.element = dialect.types[dtype]
        self.kind = self.element if lanes == 1 else dialect.vector.format(type=self.element, lanes=lanes)

    def load(self, place: str) -> str:
        """What is at a place."""
        return f"*({place})" if self.lanes == 1 else self.dialect.load.format(lanes=self.lanes, place=place)

    def store(self, place: str, value: str) -> str:
        """The statement that writes there."""
        if self.lanes == 1:
            return f"*({place}) = {value};"
        return self.dialect.store.format(lanes=self.lanes, place=place, value=value)

    def number(self, value: str) -> str:
        """The same number for all."""
        if self.lanes == 1:
            return f"({self.element})({value})"
        return self.dialect.splat.format(type=self.element, lanes=self.lanes, value=value)

    def choose(self, condition: str, a: str, b: str) -> str:
        """``a`` where the condition holds."""
        if self.lanes == 1:
            return f"({condition}) ? {a} : {b}"
        return self.dialect.choose.format(condition=condition, a=a, b=b, lanes=self.lanes)


class _Pooling:
    """Writes what the kernels share."""

    def __init__(
        self,
        dialect: Dialect,
        name: str,
        dtype: DType,
        window: Window,
        wide: bool,
        arrays: Sequence[str],
        numbers: str = "",
    ) -> None:
        self.dialect, self.dtype, self.wide, self.window = dialect, dtype, wide, window
        self.ndim = len(window.sizes)
        self.write = Writer(dialect, f"{name}{self.ndim}{'_wide' * wide}", (dtype,))
        self.arrays = arrays
        for array in arrays:
            self.write.memory(f"{array}_memory", dtype, const=array != "result")
            self.write.numbers(
                f"{array}_start", f"{array}_image", f"{array}_channel", *self.axes(f"{array}_s")
            )
        for each in ("n", "h", *numbers.split()):
            self.write.numbers(*self.axes(each))
        self.write.numbers("channels", "block", "count")

    def axes(self, name: str) -> list[str]:
        """Names for the spatial axes."""
        return [f"{name}{a}" for a in range(self.ndim)]

    def begin(self, sizes: Sequence[str], indices: Sequence[str]) -> None:
        """Lines that find the image, the channels, and the indices of a line, of axes of these sizes."""
        write, index = self.write, self.dialect.index
        write.line(f"const {index} item = {self.dialect.indices[0]};")
        write.line("if (item >= count) return;")
        write.line(f"const {index} blocks = (channels + block - 1) / block;")
        decompose(write, "item", ["count", "blocks", *sizes], ["image", "part", *indices])
        write.line(f"const {index} end = (part + 1) * block < channels ? (part + 1) * block : channels;")
        for array in self.arrays:
            kind = f"{'' if array == 'result' else 'const '}{self.dialect.types[self.dtype]}"
            pointer = self.dialect.pointer.format(type=kind, name=array)
            write.line(f"{pointer} = {array}_memory + {array}_start + image * {array}_image;")

    def loop(self, name: str, low: str, high: str) -> None:
        """A line that begins a loop."""
        self.write.line(f"for ({self.dialect.index} {name} = {low}; {name} < {high}; ++{name}) {{")

    def at(self, array: str, indices: Sequence[str]) -> str:
        """The pointer to the channel ``c`` at these indices of the spatial axes."""
        return place(array, ["c", *indices], [f"{array}_channel", *self.axes(f"{array}_s")])

    def each(self, body: Callable[[_Elements], None]) -> Source:
        """The loop over the channels, in vectors as long as there are as many, and the end of the kernel."""
        write, index = self.write, self.dialect.index
        write.line(f"{index} c = part * block;")
        if self.wide:
            lanes = self.dialect.lanes[self.dtype]
            write.line(f"for (; c + {lanes} <= end; c += {lanes}) {{")
            body(_Elements(self.dialect, self.dtype, lanes))
            write.line("}")
        write.line("for (; c < end; ++c) {")
        body(_Elements(self.dialect, self.dtype, 1))
        write.line("}")
        opened = sum(line.count("{") - line.count("}") for line in write.lines)
        write.line("}" * opened)
        return write.source()

    def seen(self) -> None:
        """Lines that begin the loops over a window, at the positions ``o0``, ...: ``y0``, ... are those of the image."""
        w = self.window
        for a in range(self.ndim):
            self.loop(f"q{a}", "0", str(w.sizes[a]))
            place = f"o{a} * {w.stride[a]} - {w.before[a]} + q{a} * {w.dilation[a]}"
            self.write.line(f"const {self.dialect.index} y{a} = {place};")
            if not w.inside:
                self.write.line(f"if (y{a} < 0 || y{a} >= h{a}) continue;")


def _count(pooling: _Pooling, names: Sequence[str]) -> str:
    """Lines that find how many elements of the window at ``names`` count; the name of the number."""
    write, index = pooling.write, pooling.dialect.index
    w = pooling.window
    for a, name in enumerate(names):
        write.line(
            f"const {index} from{a} = {name} * {w.stride[a]} - {w.before[a]}, to{a} = from{a} + {w.sizes[a]};"
        )
        low, high = f"from{a} > low{a} ? from{a} : low{a}", f"to{a} < high{a} ? to{a} : high{a}"
        write.line(f"const {index} size{a} = ({high}) - ({low});")
    write.line(f"const {index} size = {' * '.join(pooling.axes('size'))};")
    return f"({pooling.dialect.types[pooling.dtype]})size"


@cache
def max_pool(dialect: Dialect, dtype: DType, window: Window, wide: bool) -> Source:
    """The largest element of each window, NaN where it holds one. Arrays: ``x``, the result."""
    pooling = _Pooling(dialect, "max_pool", dtype, window, wide, ("x", "result"))
    o, write = pooling.axes("o"), pooling.write
    pooling.begin(pooling.axes("n")[:-1], o[:-1])
    pooling.loop(o[-1], "0", f"n{pooling.ndim - 1}")

    def body(e: _Elements) -> None:
        write.line(f"{e.kind} m = {e.number(f'-{dialect.infinity}')};")
        pooling.seen()
        write.line(f"const {e.kind} v = {e.load(pooling.at('x', pooling.axes('y')))};")
        write.line(f"m = {e.choose('(v > m) | (v != v)', 'v', 'm')};")
        write.line("}" * pooling.ndim)
        write.line(e.store(pooling.at("result", o), "m"))

    return pooling.each(body)


@cache
def max_pool_derivative(
    dialect: Dialect, dtype: DType, window: Window, wide: bool, apart: bool, whole: bool
) -> Source:
    """What each window's cotangent adds to its first largest element, or its first NaN.

    Arrays: ``x``, ``out``, ``ct``, the result, which holds zeros before, but where windows neither meet nor leave anything
    out.

    Args:
        dialect: the language.
        dtype: the dtype.
        window: how windows lie.
        wide: whether channels lie side by side in all arrays.
        apart: whether no element is seen by two windows: then a work-item takes a line of them, else all.
        whole: whether each element is seen by one.
    """
    pooling = _Pooling(
        dialect,
        "max_pool_derivative" + "_apart" * apart + "_whole" * whole,
        dtype,
        window,
        wide,
        ("x", "out", "ct", "result"),
    )
    o, write, n = pooling.axes("o"), pooling.write, pooling.axes("n")
    pooling.begin(n[:-1] if apart else [], o[:-1] if apart else [])
    for a in range(pooling.ndim - 1 if apart else 0, pooling.ndim):
        pooling.loop(o[a], "0", n[a])

    def body(e: _Elements) -> None:
        write.line(f"const {e.kind} m = {e.load(pooling.at('out', o))};")
        write.line(f"{e.kind} left = {e.load(pooling.at('ct', o))};")
        write.line(f"const {e.kind} zero = {e.number('0')};")
        pooling.seen()
        write.line(f"const {e.kind} v = {e.load(pooling.at('x', pooling.axes('y')))};")
        target = pooling.at("result", pooling.axes("y"))
        # What an element has taken is no longer there for the later ones.
        write.line(f"const {e.kind} taken = {e.choose('(v == m) | (v != v)', 'left', 'zero')};")
        write.line(f"left = {e.choose('(v == m) | (v != v)', 'zero', 'left')};")
        write.line(e.store(target, "taken" if whole else f"{e.load(target)} + taken"))
        write.line("}" * pooling.ndim)

    return pooling.each(body)


@cache
def avg_pool(dialect: Dialect, dtype: DType, window: Window, wide: bool) -> Source:
    """The mean of each window. Arrays: ``x``, the result.

    What it says: for the spatial axes, the places from which on and before which elements count.
    """
    pooling = _Pooling(dialect, "avg_pool", dtype, window, wide, ("x", "result"), "low high")
    o, write = pooling.axes("o"), pooling.write
    pooling.begin(pooling.axes("n")[:-1], o[:-1])
    pooling.loop(o[-1], "0", f"n{pooling.ndim - 1}")
    divisor = _count(pooling, o)

    def body(e: _Elements) -> None:
        write.line(f"{e.kind} sum = {e.number('0')};")
        pooling.seen()
        write.line(f"sum = sum + {e.load(pooling.at('x', pooling.axes('y')))};")
        write.line("}" * pooling.ndim)
        write.line(e.store(pooling.at("result", o), f"sum / {e.number(divisor)}"))

    return pooling.each(body)


@cache
def avg_pool_derivative(dialect: Dialect, dtype: DType, window: Window, wide: bool) -> Source:
    """What the cotangents of all windows that see an element add to it. Arrays: ``ct``, the result.

    What it says: as `avg_pool`. The dilation is 1. Launch: lines of the image.
    """
    pooling = _Pooling(dialect, "avg_pool_derivative", dtype, window, wide, ("ct", "result"), "low high")
    y, write, index = pooling.axes("y"), pooling.write, dialect.index
    pooling.begin(pooling.axes("h")[:-1], y[:-1])
    pooling.loop(y[-1], "0", f"h{pooling.ndim - 1}")
    for a, (k, s, b) in enumerate(zip(window.sizes, window.stride, window.before, strict=True)):
        # The windows from first to before last begin at it or before it, and end behind it.
        write.line(f"const {index} reach{a} = y{a} + {b - k + 1}, place{a} = (y{a} + {b}) / {s} + 1;")
        write.line(f"const {index} first{a} = reach{a} > 0 ? (reach{a} + {s - 1}) / {s} : 0;")
        write.line(f"const {index} last{a} = place{a} < n{a} ? place{a} : n{a};")

    def body(e: _Elements) -> None:
        write.line(f"{e.kind} sum = {e.number('0')};")
        for a in range(pooling.ndim):
            pooling.loop(f"o{a}", f"first{a}", f"last{a}")
        divisor = _count(pooling, pooling.axes("o"))
        write.line(f"sum = sum + {e.load(pooling.at('ct', pooling.axes('o')))} / {e.number(divisor)};")
        write.line("}" * pooling.ndim)
        write.line(e.store(pooling.at("result", y), "sum"))

    return pooling.each(body)
