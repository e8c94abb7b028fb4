"""Kernels for convolutions over 1 to 3 spatial axes, of images whose channels lie side by side.

The tile is that of `plugrad.graph.source.product`: a number of the image for each of its rows, a vector of output channels.
Nothing is unfolded. Convolutions and their derivatives in the image are one kernel, as the latter are convolutions too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from plugrad.dtypes import DType
from plugrad.graph.source.dialect import Dialect, Source, Writer, decompose, place
from plugrad.graph.source.tile import PLAIN, Epilogue, Tile


def _axes(name: str, ndim: int) -> list[str]:
    return [f"{name}{a}" for a in range(ndim)]


def _image(write: Writer, name: str, dtype: DType, ndim: int, const: bool = True) -> None:
    """Memory, first place, and the strides of the images and of the spatial axes."""
    write.memory(f"{name}_memory", dtype, const)
    write.numbers(f"{name}_start", f"{name}_image", *_axes(f"{name}_s", ndim))


def _geometry(write: Writer, ndim: int) -> None:
    """The sizes of the result and of the image, those of the kernel, its stride, dilation, and the padding before."""
    for name in ("n", "h", "k", "stride", "dilation", "before"):
        write.numbers(*_axes(name, ndim))


@cache
def convolution(
    dialect: Dialect,
    dtype: DType,
    ndim: int,
    rows: int,
    vectors: int,
    columns: int = 0,
    checked: bool = False,
    tail: Epilogue = PLAIN,
) -> Source:
    """One work-item for ``rows`` neighbouring positions of the last axis and ``vectors`` vectors of output channels.

    Args:
        dialect: the language.
        dtype: a dtype that has vectors.
        ndim: spatial axes.
        rows: positions of a tile, at most those of the last axis: tiles at its end move back.
        vectors: of a tile; as many channels a group has at least, and the last of it move back.
        columns: 0, or the output channels of a group where they are fewer than a vector has lanes; the rows of the weight
            have as many elements as that, then.
        checked: whether positions may lie outside of the image, where it is taken to be 0.
        tail: what is done with the sums; its outer axis are the images and all spatial axes but two, its inner axis the last
            but one, its rows the positions of the last.

    Parameters: the image's memory, first place, strides of the images and the spatial axes, its channels lying side by side;
    the weight's memory and first place, laid out (groups, kernel..., channels of a group, output channels of one), then the
    stride of the channels, and where zeros lie, as many as channels; the result as the image; for the spatial axes the
    sizes of the result, of the image, of the kernel, stride, dilation and the padding before; the channels that are taken
    at each position of the kernel, from where to where a group steps; the output channels of a group; tiles of these; the
    groups; then those of the epilogue. Launch: tiles along the last axis, the other positions, and images, groups and tiles
    of output channels.
    """
    lanes = dialect.lanes[dtype]
    wide = columns or lanes * vectors
    kind, index = dialect.types[dtype], dialect.index
    name = f"convolution{ndim}_{rows}_{vectors}" + (f"_{columns}" if columns else "") + "_checked" * checked
    write = Writer(dialect, name, (dtype,))
    _image(write, "x", dtype, ndim)
    write.memory("w_memory", dtype)
    write.numbers("w_start", "w_row", "zeros_at")
    _image(write, "result", dtype, ndim, const=False)
    _geometry(write, ndim)
    write.numbers("channels", "group_step", "m", "panels", "groups")
    tail.parameters(write, dtype)
    last, outer = ndim - 1, ndim - 1
    first, second, third = dialect.indices
    write.line(f"const {index} item = {third}, panel = item % panels;")
    write.line(f"const {index} image = item / panels / groups, group = item / panels % groups;")
    decompose(write, second, _axes("n", outer), _axes("o", outer))
    write.line(f"{index} o{last} = ({index}){first} * {rows}, j = panel * {wide};")
    write.line(f"if (o{last} + {rows} > n{last}) o{last} = n{last} - {rows};")
    write.line(f"if (j + {wide} > m) j = m - {wide};")
    x = dialect.pointer.format(type=f"const {kind}", name="x")
    write.line(f"{x} = x_memory + x_start + image * x_image + group * group_step;")
    b = dialect.pointer.format(type=f"const {kind}", name="b")
    taps = " * ".join(_axes("k", ndim))
    write.line(f"{b} = w_memory + w_start + group * {taps} * channels * w_row + j;")
    if checked:
        write.line(f"{dialect.pointer.format(type=f'const {kind}', name='zeros')} = w_memory + zeros_at;")
    tile = Tile(write, dtype, rows, vectors)
    tile.zero()
    for a in range(ndim):
        write.line(f"for ({index} q{a} = 0; q{a} < k{a}; ++q{a}) {{")
        write.line(f"const {index} y{a} = o{a} * stride{a} - before{a} + q{a} * dilation{a};")
    if checked:
        inside = " && ".join(["1", *(f"y{a} >= 0 && y{a} < h{a}" for a in range(outer))])
        write.line(f"const int here = {inside};")
    write.line(f"const {index} from = {place('0', _axes('y', ndim), _axes('x_s', ndim))};")
    for r in range(rows):
        pointer = dialect.pointer.format(type=f"const {kind}", name=f"p{r}")
        value = f"x + from + {r} * stride{last} * x_s{last}"
        if checked:
            y = f"y{last} + {r} * stride{last}"
            value = f"here && {y} >= 0 && {y} < h{last} ? {value} : zeros"
        write.line(f"{pointer} = {value};")
    write.line(f"for ({index} t = 0; t < channels; ++t, b += w_row) {{")
    tile.step(lambda r: f"p{r}[t]", "b")
    write.line("}" * (ndim + 1))
    inner = f"o{ndim - 2}" if ndim > 1 else "0"
    outside = "image * n0 + o0" if ndim > 2 else "image"
    tail.places(write, f"({outside})", inner)
    target = dialect.pointer.format(type=kind, name="target")
    start = place("result_start", ["image", *_axes("o", ndim)], ["result_image", *_axes("result_s", ndim)])
    write.line(f"{target} = result_memory + {start} + group * m + j;")
    tile.store(lambda r: f"target + {r} * result_s{last}", f"o{last}", "(group * m + j)", wide, tail)
    return write.source()


@cache
def convolution_weight(
    dialect: Dialect,
    dtype: DType,
    ndim: int,
    rows: int,
    vectors: int,
    columns: int = 0,
    checked: bool = False,
) -> Source:
    """One work-item for some channels at a position of the kernel and ``vectors`` vectors of output channels.

    Args:
        dialect: the language.
        dtype: a dtype that has vectors.
        ndim: spatial axes.
        rows: of a tile: channels of one position of the kernel if ``checked``, else of all positions; there are as many.
        vectors: of a tile; as many output channels a group has at least.
        columns: 0, or the output channels of a group where they are fewer than a vector has lanes; those of ``y`` that are
            read for the last group are then in its memory all the same.
        checked: whether positions may lie outside of the image, where they add nothing.

    Parameters: as those of `convolution`, the image, then ``y``, a cotangent of the result, laid out likewise, in the place
    of the weight; the result's memory and first place: parts, each (groups, kernel..., channels of a group, output channels
    of one); the geometry; channels and output channels of a group; the stride of groups in ``y``; tiles of output channels;
    groups; how many lines along the last axis there are in all, and how many a part takes. Launch: tiles of rows, tiles
    of output channels at each position of the kernel that is told apart, parts and groups.
    """
    lanes = dialect.lanes[dtype]
    wide = columns or lanes * vectors
    kind, index = dialect.types[dtype], dialect.index
    name = (
        f"convolution_weight{ndim}_{rows}_{vectors}"
        + (f"_{columns}" if columns else "")
        + "_checked" * checked
    )
    write = Writer(dialect, name, (dtype,))
    _image(write, "x", dtype, ndim)
    _image(write, "y", dtype, ndim)
    write.memory("result_memory", dtype, const=False)
    write.number("result_start")
    _geometry(write, ndim)
    write.numbers("channels", "m", "panels", "groups", "lines", "chunk")
    last, k, q = ndim - 1, _axes("k", ndim), _axes("q", ndim)
    first, second, third = dialect.indices
    taps = " * ".join(k)
    write.line(f"const {index} item = {third}, group = item % groups, part = item / groups;")
    write.line(f"const {index} panel = {second} % panels, tap = {second} / panels;")
    write.line(f"const {index} all = {'channels' if checked else f'{taps} * channels'};")
    write.line(f"{index} i = ({index}){first} * {rows}, j = panel * {wide};")
    write.line(f"if (i + {rows} > all) i = all - {rows};")
    write.line(f"if (j + {wide} > m) j = m - {wide};")
    pointer = dialect.pointer.format(type=f"const {kind}", name="x")
    write.line(f"{pointer} = x_memory + x_start + group * channels;")
    pointer = dialect.pointer.format(type=f"const {kind}", name="y")
    write.line(f"{pointer} = y_memory + y_start + group * m + j;")
    write.line(f"const {index} step = stride{last} * x_s{last};")
    if checked:
        decompose(write, "tap", k, q)
        write.line(f"const {index} shift = q{last} * dilation{last} - before{last};")
        # The positions from low to before high are those whose place in the image is.
        write.line(f"const {index} low = shift >= 0 ? 0 : (stride{last} - 1 - shift) / stride{last};")
        write.line(
            f"{index} high = shift >= h{last} ? 0 : (h{last} - shift + stride{last} - 1) / stride{last};"
        )
        write.line(f"if (high > n{last}) high = n{last};")
    else:
        write.line(f"const {index} low = 0, high = n{last}, shift = -before{last};")
        for r in range(rows):
            write.line(f"{index} d{r};")
            write.line("{")
            write.line(f"const {index} tap_{r} = (i + {r}) / channels;")
            _offset(write, r, k, ndim)
            write.line("}")
    tile = Tile(write, dtype, rows, vectors)
    tile.zero()
    write.line(f"const {index} to = (part + 1) * chunk < lines ? (part + 1) * chunk : lines;")
    write.line(f"for ({index} line = part * chunk; line < to; ++line) {{")
    decompose(write, "line", ["lines", *_axes("n", last)], ["image", *_axes("o", last)])
    for a in range(last):
        position = f"o{a} * stride{a} - before{a}" + (f" + q{a} * dilation{a}" if checked else "")
        write.line(f"const {index} y{a} = {position};")
        if checked:
            write.line(f"if (y{a} < 0 || y{a} >= h{a}) continue;")
    pointers = dialect.pointer.format(type=f"const {kind}", name="a")
    at = place("image * x_image", _axes("y", last), _axes("x_s", last))
    write.line(
        f"{pointers} = x + {at} + (low * stride{last} + shift) * x_s{last}{' + i' if checked else ''};"
    )
    pointers = dialect.pointer.format(type=f"const {kind}", name="b")
    at = place("image * y_image", _axes("o", last), _axes("y_s", last))
    write.line(f"{pointers} = y + {at} + low * y_s{last};")
    write.line(f"for ({index} t = low; t < high; ++t, a += step, b += y_s{last}) {{")
    tile.step((lambda r: f"a[{r}]") if checked else (lambda r: f"a[d{r}]"), "b")
    write.line("}")
    write.line("}")
    target = dialect.pointer.format(type=kind, name="target")
    row = "tap * channels + i" if checked else "i"
    start = f"((part * groups + group) * {taps} * channels + {row}) * m + j"
    write.line(f"{target} = result_memory + result_start + {start};")
    tile.store(lambda r: f"target + {r} * m", "i", "j", wide, PLAIN)
    return write.source()


def _offset(write: Writer, r: int, k: Sequence[str], ndim: int) -> None:
    """Lines that find where the image is read for a row of the tile, counted from the first position of the kernel."""
    names = [f"q{a}_{r}" for a in range(ndim)]
    decompose(write, f"tap_{r}", k, names)
    steps = [f"dilation{a} * x_s{a}" for a in range(ndim)]
    write.line(
        f"d{r} = (i + {r}) % channels + {' + '.join(f'{n} * {s}' for n, s in zip(names, steps, strict=True))};"
    )
