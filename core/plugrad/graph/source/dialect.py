"""`Dialect`: how a language of the C family says what the templates need; `Source`: the text of one kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from plugrad.dtypes import DType, int64, uint64

MEMORY: Final = "memory"
"""The kind of a parameter that is a pointer to the device's memory."""


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one kernel.

    Attributes:
        name: the kernel's name in the text.
        text: the text.
        parameters: the kind of each parameter: `MEMORY`, or the dtype of a number.
    """

    name: str
    text: str
    parameters: tuple[str | DType, ...]


@dataclass(frozen=True, slots=True)
class Profile:
    """What suits a kind of devices.

    Attributes:
        lanes: elements that a work-item of a fused kernel computes as one vector; 1: as numbers.
        chunk: elements of a line that a work-item takes one after the other, where there are enough of them: many where
            a work-item has a processor to itself, 1 where neighbouring work-items run in step and should read
            neighbouring elements.
        part: elements of a row that are worth a work-item of their own where there are few rows.
        items: so many work-items keep the device busy.
        group: work-items of a group, at most.
    """

    lanes: int = 1
    chunk: int = 1
    part: int = 256
    items: int = 1 << 14
    group: int = 256


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """A language of the C family. Patterns are filled by `str.format` with the names in braces.

    Attributes:
        kernel: what stands before the name of a kernel.
        function: what stands before the result type of a function that kernels call.
        pointer: a parameter ``{name}`` that points to elements of ``{type}`` in the device's memory.
        indices: the work-item's index along the first, second and third axis of a launch.
        types: the C type that stores a dtype, by the dtype. bool is stored as an unsigned integer of 8 bits.
        convert: ``{value}`` of an arithmetic type as ``{type}``: to an integer by truncation, to a float to nearest.
        claim: an expression that is true for the one work-item that changes the 32-bit integer ``{name}[0]`` from 0
            to ``{value}``.
        arithmetic: for dtypes that are stored and not computed with, the dtype of the arithmetic.
        loads: for these, the element ``{place}`` of the pointer ``{memory}``, in the type of the arithmetic.
        stores: for these, a statement that rounds ``{value}`` to nearest, ties to even, and writes it there.
        odd: a function ``odd`` from ``{type}`` to float32 that rounds to odd: what is not held exactly goes towards 0
            and has its last bit set. Another rounding, to a narrower dtype, is then as if it were the only one.
        preambles: text that must stand before the kernels that use a dtype, by the dtype.
        lanes: for the floating dtypes, how many elements a vector has; 1, with the patterns as they come, in a language
            without vectors.
        vector: the type of a vector of ``{lanes}`` elements of ``{type}``.
        load: the vector of ``{lanes}`` elements from the pointer ``{place}`` on, whatever its alignment.
        store: a statement that writes the vector ``{value}`` there.
        splat: the vector that has the number ``{value}`` in each lane.
        fma: ``{a} * {b} + {c}``, as fast as it comes.
        infinity: the number.
        narrow: for dtypes that are stored and not computed with, an arithmetic ``{value}`` rounded to one of them, for
            numbers; and with ``{lanes}`` in ``narrow_vector``.
        vector_loads: for dtypes whose elements are of another type when computed with (bool: a truth, see ``choose``), the
            vector of what is at the pointer ``{place}`` on. The others have ``load``.
        vector_stores: for these, a statement that writes ``{value}`` there.
        choose: of the vectors ``{a}`` and ``{b}``, in each lane ``a`` where ``{condition}`` holds. A truth in a lane is
            a signed integer as wide as the elements, -1 or 0, as a comparison gives it. "" where nothing is chosen by
            vectors: such kernels are then made of numbers.
        reinterpret: the bits of ``{value}`` as ``{type}``, of the same size.
        compose: the vector of the ``{values}``, separated by commas.
        profile: what suits the devices that speak it.
        lane: the element ``{lane}`` of the vector ``{vector}``; "" where vectors are not taken apart.
        shape: names of parameters, int64, that each kernel has after its others, for ``indices`` to use: how many groups
            of work-items there are along the first axis, and along the second. Empty for a language that tells by itself.
    """

    kernel: str
    function: str
    pointer: str
    indices: tuple[str, str, str]
    types: Mapping[DType, str]
    convert: str
    claim: str
    preambles: Mapping[DType, str]
    lanes: Mapping[DType, int]
    arithmetic: Mapping[DType, DType] = field(default_factory=dict)
    loads: Mapping[DType, str] = field(default_factory=dict)
    stores: Mapping[DType, str] = field(default_factory=dict)
    odd: str = ""
    vector: str = "{type}"
    load: str = "*({place})"
    store: str = "*({place}) = {value};"
    splat: str = "({type})({value})"
    fma: str = "{a} * {b} + {c}"
    infinity: str = "INFINITY"
    narrow: Mapping[DType, str] = field(default_factory=dict)
    narrow_vector: Mapping[DType, str] = field(default_factory=dict)
    vector_loads: Mapping[DType, str] = field(default_factory=dict)
    vector_stores: Mapping[DType, str] = field(default_factory=dict)
    choose: str = ""
    compose: str = ""
    reinterpret: str = ""
    profile: Profile = Profile()
    lane: str = ""
    shape: tuple[str, ...] = ()

    @property
    def index(self) -> str:
        """The type of indices and strides: a signed integer of 64 bits."""
        return self.types[int64]

    def computed(self, dtype: DType) -> DType:
        """The dtype of the arithmetic on elements of ``dtype``."""
        return self.arithmetic.get(dtype, dtype)

    def element(self, dtype: DType, memory: str, place: str) -> str:
        """The expression of an element, in the type of its arithmetic."""
        return self.loads.get(dtype, "{memory}[{place}]").format(memory=memory, place=place)

    def write(self, dtype: DType, memory: str, place: str, value: str) -> str:
        """The statement that writes an element."""
        pattern = self.stores.get(dtype, "{memory}[{place}] = {value};")
        return pattern.format(memory=memory, place=place, value=value)

    @property
    def word(self) -> str:
        """The widest unsigned integer, in which the arithmetic of integers wraps around."""
        return self.types[uint64]


class Writer:
    """Collects the parameters and the lines of one kernel."""

    def __init__(self, dialect: Dialect, name: str, dtypes: Sequence[DType] = ()) -> None:
        self.dialect = dialect
        self.name = name
        self.parts = list(dict.fromkeys(p for d in dtypes if (p := dialect.preambles.get(d))))
        self.kinds: list[str | DType] = []
        self.declared: list[str] = []
        self.lines: list[str] = []

    def helper(self, text: str) -> None:
        """Text that stands before the kernel."""
        self.parts.append(text)

    def memory(self, name: str, dtype: DType, const: bool = True) -> None:
        """A parameter that points to elements of ``dtype``, which the kernel only reads if ``const``."""
        kind = ("const " if const else "") + self.dialect.types[dtype]
        self.declared.append(self.dialect.pointer.format(type=kind, name=name))
        self.kinds.append(MEMORY)

    def number(self, name: str, dtype: DType = int64) -> None:
        """A parameter that is a number, of the dtype of the arithmetic."""
        dtype = self.dialect.computed(dtype)
        self.declared.append(f"const {self.dialect.types[dtype]} {name}")
        self.kinds.append(dtype)

    def numbers(self, *names: str) -> None:
        """Parameters that are indices."""
        for name in names:
            self.number(name)

    def line(self, text: str) -> None:
        """A line of the body."""
        self.lines.append("    " + text)

    def source(self) -> Source:
        """The finished kernel."""
        self.numbers(*self.dialect.shape)
        head = f"{self.dialect.kernel} {self.name}({', '.join(self.declared)})"
        text = "\n".join([*self.parts, head, "{", *self.lines, "}", ""])
        return Source(self.name, text, tuple(self.kinds))


def decompose(write: Writer, index: str, sizes: Sequence[str], names: Sequence[str]) -> None:
    """Lines that split a row-major ``index`` into one index for each axis; the sizes are names too."""
    kind = write.dialect.index
    if not names:
        return
    if len(names) == 1:
        write.line(f"const {kind} {names[0]} = {index};")
        return
    write.line(f"{kind} rest_{names[0]} = {index};")
    for i in range(len(names) - 1, 0, -1):
        write.line(f"const {kind} {names[i]} = rest_{names[0]} % {sizes[i]};")
        write.line(f"rest_{names[0]} /= {sizes[i]};")
    write.line(f"const {kind} {names[0]} = rest_{names[0]};")


def place(start: str, indices: Sequence[str], strides: Sequence[str]) -> str:
    """The expression of an element's place; the strides ``"0"`` and ``"1"`` are left out."""
    terms = [start]
    for i, s in zip(indices, strides, strict=True):
        if s != "0":
            terms.append(i if s == "1" else f"{i} * {s}")
    return " + ".join(terms)
