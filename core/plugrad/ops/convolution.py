"""Convolution of 1 to 3 spatial dimensions: `conv`, its adjoint in the data `conv_transpose`, and its adjoint in
the weight `conv_weight`. The derivatives of each are the other two, so that rules of every order close over the three.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from plugrad.dispatch.factors import SUM, Factor
from plugrad.dispatch.op import Autocast, Kind, op
from plugrad.dispatch.sample import ErrorSample, Sample, errors
from plugrad.dtypes import FLOATING
from plugrad.errors import ArgumentError, ShapeError
from plugrad.ops._rules import integer, size
from plugrad.ops._windows import (
    Ints,
    Padding,
    Pairs,
    PerAxis,
    counted,
    padded,
    padding_pairs,
    per_axis,
    positions,
    reach,
    several,
    spatial,
    windows,
)
from plugrad.ops.broadcasting import sum
from plugrad.ops.linear_algebra import matrix_product
from plugrad.ops.movement import permute_dims, reshape, stack
from plugrad.ops.slicing import WHOLE, scatter_slice, strided_slice
from plugrad.spec import Shape, Spec

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

_BIASED = ("x", "weight", "bias")


# -- attributes and shapes --------------------------------------------------------------------------------


def _groups(call: Any, value: Any) -> int:
    groups = integer(call, "groups", value)
    if groups < 1:
        raise ArgumentError(f"{call.op.name}: groups takes an integer of at least 1, got {groups}")
    return groups


def _padding(call: Any, value: Any) -> Pairs:
    """``padding`` as pairs; ``"same"`` puts the odd zero after."""
    if not isinstance(value, str):
        return padding_pairs(call, value)
    if value == "valid":
        return padding_pairs(call, 0)
    if value != "same":
        raise ArgumentError(f"conv: padding takes integers, 'same' or 'valid', got {value!r}")
    if any(s != 1 for s in call.stride):
        raise ArgumentError(f"conv: padding 'same' takes stride 1, got stride {call.stride}")
    spatial(call, call.x)
    _check_weight(call, call.x)
    total = (r - 1 for r in reach(call.weight.shape[2:], call.dilation))
    return tuple((n // 2, n - n // 2) for n in total)


def _check_weight(call: Any, x: Spec) -> None:
    weight: Spec = call.weight
    if weight.ndim != x.ndim or 0 in weight.shape[2:]:
        raise ShapeError(
            f"{call.op.name}: weight has shape {weight.shape}, takes 2 axes of channels and a kernel of {x.ndim - 2} axes, "
            "none empty"
        )


def _check_bias(call: Any, channels: int) -> None:
    bias: Spec | None = call.bias
    if bias is not None and bias.shape != (channels,):
        raise ShapeError(
            f"{call.op.name}: bias has shape {bias.shape}, takes ({channels},), one for each output channel"
        )


def _convolved(call: Any) -> Spec:
    x: Spec = call.x
    weight: Spec = call.weight
    spatial(call, x)
    _check_weight(call, x)
    outs, inner = weight.shape[:2]
    if inner * call.groups != x.shape[1] or outs % call.groups:
        raise ShapeError(
            f"conv: weight has shape {weight.shape} for x of shape {x.shape} and groups {call.groups}; takes "
            "(O, C / groups, kernel...) for (N, C, spatial...), with groups dividing C and O"
        )
    _check_bias(call, outs)
    space = positions(call, x.shape[2:], weight.shape[2:], call.stride, call.padding, call.dilation)
    return x.with_shape((x.shape[0], outs, *space))


def _remainder(call: Any, value: Any) -> Ints:
    """``output_padding``, less than the stride or the dilation."""
    sizes = several(call, "output_padding", value, spatial(call, call.x), 0)
    if any(n >= max(s, d) for n, s, d in zip(sizes, call.stride, call.dilation, strict=True)):
        raise ArgumentError(
            f"conv_transpose: output_padding {sizes} takes less than the stride {call.stride} or the dilation "
            f"{call.dilation}; pad the result for more"
        )
    return sizes


def _transposed(call: Any) -> Spec:
    x: Spec = call.x
    weight: Spec = call.weight
    spatial(call, x)
    _check_weight(call, x)
    channels, inner = weight.shape[:2]
    if channels != x.shape[1] or channels % call.groups:
        raise ShapeError(
            f"conv_transpose: weight has shape {weight.shape} for x of shape {x.shape} and groups {call.groups}; takes "
            "(C, O / groups, kernel...) for (N, C, spatial...), with groups dividing C"
        )
    _check_bias(call, inner * call.groups)
    space = tuple(
        (n - 1) * s - a - b + r + extra
        for n, s, (a, b), r, extra in zip(
            x.shape[2:],
            call.stride,
            call.padding,
            reach(weight.shape[2:], call.dilation),
            call.output_padding,
            strict=True,
        )
    )
    if any(n < 1 for n in space):
        raise ShapeError(
            f"conv_transpose: padding {call.padding} leaves nothing of the result: its spatial shape would be {space}"
        )
    return x.with_shape((x.shape[0], inner * call.groups, *space))


def _weighted(call: Any) -> Spec:
    x: Spec = call.x
    y: Spec = call.y
    spatial(call, x)
    if x.ndim != y.ndim or x.shape[0] != y.shape[0] or x.shape[1] % call.groups or y.shape[1] % call.groups:
        raise ShapeError(
            f"conv_weight: got x of shape {x.shape} and y of shape {y.shape} with groups {call.groups}; takes "
            "(N, C, spatial...) and (N, O, positions...), with groups dividing C and O"
        )
    space = positions(call, x.shape[2:], call.kernel_size, call.stride, call.padding, call.dilation)
    if space != y.shape[2:]:
        raise ShapeError(
            f"conv_weight: y has shape {y.shape}, takes {(*y.shape[:2], *space)} for x of shape {x.shape}"
        )
    return x.with_shape((y.shape[1], x.shape[1] // call.groups, *call.kernel_size))


_GEOMETRY = {"stride": per_axis("stride"), "dilation": per_axis("dilation"), "groups": _groups}


def _leftover(x: Shape, kernel: Shape, stride: Ints, padding: Pairs, dilation: Ints) -> Ints:
    """The elements at the end of each padded axis that no window reaches: what `output_padding` gives back."""
    return tuple(
        (a + n + b - r) % s
        for n, r, s, (a, b) in zip(x[2:], reach(kernel[2:], dilation), stride, padding, strict=True)
    )


# -- samples ----------------------------------------------------------------------------------------------

_CASES: tuple[tuple[Shape, Shape, dict[str, Any]], ...] = (
    ((2, 3, 7), (4, 3, 3), {}),
    ((2, 4, 9), (6, 2, 2), {"stride": 3, "padding": ((2, 1),), "dilation": 2, "groups": 2}),
    ((2, 2, 5, 6), (3, 2, 3, 2), {"padding": 1}),
    ((1, 2, 6, 7), (3, 2, 2, 3), {"stride": (2, 3), "padding": (1, 2), "dilation": (1, 2)}),
    ((2, 3, 4, 4), (6, 1, 3, 3), {"stride": 2, "padding": ((0, 1), (1, 0)), "groups": 3}),
    ((2, 3, 4, 5), (2, 3, 1, 1), {"stride": (2, 1)}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), {"stride": (1, 2, 1), "padding": (0, 1, 1)}),
    ((0, 2, 4), (3, 2, 2), {}),
)


def _conv_samples(rng: np.random.Generator) -> list[Sample]:
    made = [
        Sample(rng.standard_normal(x), rng.standard_normal(w), rng.standard_normal(w[0]), **attributes)
        for x, w, attributes in _CASES
    ]
    same = Sample(rng.standard_normal((1, 2, 5)), rng.standard_normal((2, 2, 4)), padding="same", dilation=2)
    return [*made, same]


def _transpose_samples(rng: np.random.Generator) -> list[Sample]:
    def sample(x: Shape, w: Shape, **attributes: Any) -> Sample:
        outs = w[1] * attributes.get("groups", 1)
        return Sample(rng.standard_normal(x), rng.standard_normal(w), rng.standard_normal(outs), **attributes)

    return [
        sample((2, 3, 4), (3, 4, 3)),
        sample((2, 4, 3), (4, 3, 2), stride=3, padding=((2, 0),), output_padding=1, dilation=2, groups=2),
        sample((1, 2, 3, 4), (2, 3, 3, 2), stride=(2, 1), padding=1, output_padding=(1, 0)),
        sample((2, 3, 2, 3), (3, 1, 2, 2), stride=3, padding=((1, 0), (2, 2)), groups=3),
        sample((1, 2, 2, 3, 2), (2, 2, 2, 2, 2), stride=(1, 2, 2), output_padding=(0, 1, 0)),
        sample((0, 2, 4), (2, 3, 2)),
        sample((2, 3, 4), (3, 2, 2), stride=2, dilation=5, output_padding=3),
        Sample(rng.standard_normal((1, 2, 3)), rng.standard_normal((2, 2, 2)), stride=4, padding=2),
    ]


def _weight_samples(rng: np.random.Generator) -> list[Sample]:
    def sample(x: Shape, y: Shape, kernel_size: Any, **attributes: Any) -> Sample:
        return Sample(rng.standard_normal(x), rng.standard_normal(y), kernel_size=kernel_size, **attributes)

    return [
        sample((2, 3, 7), (2, 4, 5), 3),
        sample((2, 4, 9), (2, 6, 4), 2, stride=3, padding=((2, 1),), dilation=2, groups=2),
        sample((2, 2, 5, 6), (2, 3, 5, 7), (3, 2), padding=1),
        sample((1, 2, 5, 4), (1, 4, 2, 2), 2, stride=2, groups=2),
        sample((1, 2, 3, 4, 3), (1, 2, 2, 3, 2), 2, stride=(1, 2, 1), padding=(0, 1, 0)),
        sample((0, 3, 4), (0, 2, 3), 2),
    ]


# -- the ops ----------------------------------------------------------------------------------------------


def _columns(
    x: Tensor, kernel: Ints, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[Tensor, Ints]:
    """What each window sees, (N, groups, C / groups * kernel, positions), and how many there are on each axis."""
    batch, channels = x.shape[:2]
    space = counted(x.shape[2:], kernel, stride, padding, dilation)
    around = padded(x, padding)
    seen = [strided_slice(around, bounds) for bounds in windows(kernel, space, stride, dilation)]
    columns = stack(seen, axis=2)
    return reshape(columns, (batch, groups, channels // groups * len(seen), size(space))), space


def _factors(call: Any, _: Any) -> Iterable[Factor]:
    """Images; and output channels where there are no groups."""
    yield Factor({"x": 0}, (0,))
    if call.groups == 1:
        yield Factor({"weight": 0} if call.bias is None else {"weight": 0, "bias": 0}, (1,))


def _factors_of_x(call: Any, _: Any) -> Iterable[Factor]:
    yield Factor({"ct": 0, "x": 0}, (0,))
    if call.groups == 1:
        yield Factor({"weight": 1, "x": 1}, (1,))


def _factors_of_weight(call: Any, _: Any) -> Iterable[Factor]:
    if call.groups == 1:
        yield Factor({"ct": 1, "weight": 0}, (0,))
        yield Factor({"x": 1, "weight": 1}, (1,))
    yield Factor({"ct": 0, "x": 0}, (SUM,))


def _factors_of_bias(call: Any, _: Any) -> Iterable[Factor]:
    yield Factor({"ct": 1}, (0,))
    yield from (Factor({"ct": axis}, (SUM,)) for axis in range(call.ct.ndim) if axis != 1)


@op(
    kind=Kind.CONTRACTION,
    infer=_convolved,
    dtypes=FLOATING,
    promote=_BIASED,
    attributes={**_GEOMETRY, "padding": _padding},
    autocast=Autocast.LOW,
    factors=_factors,
    samples=_conv_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((2, 3)), np.zeros((4, 3))),
        ErrorSample(ShapeError, np.zeros((1, 3, 5)), np.zeros((4, 2, 2))),
        ErrorSample(ShapeError, np.zeros((1, 2, 3)), np.zeros((4, 2, 3)), dilation=2),
        ErrorSample(ShapeError, np.zeros((1, 2, 5)), np.zeros((4, 2, 2)), np.zeros(3)),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), np.zeros((4, 2, 2)), stride=0),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), np.zeros((4, 2, 2)), padding=-1),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), np.zeros((4, 2, 2)), padding="same", stride=2),
    ),
)
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding | str = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution without the flip, cross-correlation (`torch.nn.functional.conv1d`, ``conv2d``, ``conv3d``).

    Args:
        x: (N, C, spatial...), 1 to 3 spatial axes, a floating dtype.
        weight: (O, C / groups, kernel...).
        bias: (O,), or None for none.
        stride: how far the window moves; an integer, or one for each spatial axis.
        padding: zeros around ``x``: an integer, one for each spatial axis, or (before, after) for each;
            ``"valid"`` for none; ``"same"`` for as many as keep the size, the odd one after, with stride 1.
        dilation: the distance of kernel elements; an integer, or one for each spatial axis.
        groups: the channels are cut into as many groups, each convolved with weights of its own.

    Returns:
        (N, O, out...) with out = (spatial + before + after - dilation * (kernel - 1) - 1) // stride + 1.

    Raises:
        ShapeError: if the shapes do not fit together, ``groups`` does not divide the channels, or the kernel
            is larger than the padded ``x``.
        ArgumentError: for a stride, dilation or groups below 1, or a negative padding.

    A kernel receives ``stride`` and ``dilation`` as one int, and ``padding`` as (before, after), for each spatial axis.
    16-bit floats accumulate in float32.
    """
    outs, inner, *kernel = weight.shape
    columns, space = _columns(x, tuple(kernel), stride, padding, dilation, groups)
    rows = reshape(weight, (groups, outs // groups, inner * size(kernel)))
    out = reshape(matrix_product(rows, columns), (x.shape[0], outs, *space))
    return _biased(out, bias)


def _biased(out: Tensor, bias: Tensor | None) -> Tensor:
    return out if bias is None else out + reshape(bias, (*bias.shape, *(1,) * (out.ndim - 2)))


def _bias_gradient(ct: Tensor) -> Tensor:
    return sum(ct, axis=(0, *range(2, ct.ndim)))


@op(
    kind=Kind.CONTRACTION,
    infer=_transposed,
    dtypes=FLOATING,
    promote=_BIASED,
    attributes={**_GEOMETRY, "padding": padding_pairs, "output_padding": _remainder},
    autocast=Autocast.LOW,
    samples=_transpose_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((1, 3, 5)), np.zeros((2, 3, 2))),
        ErrorSample(ShapeError, np.zeros((1, 2, 2)), np.zeros((2, 3, 2)), padding=2),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), np.zeros((2, 3, 2)), stride=2, output_padding=2),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), np.zeros((2, 3, 2)), groups=0),
    ),
)
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: PerAxis = 1,
    padding: Padding = 0,
    output_padding: PerAxis = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """Transposed convolution: the adjoint of `conv` in its data (`torch.nn.functional.conv_transpose1d` to ``3d``).

    Args:
        x: (N, C, spatial...), 1 to 3 spatial axes, a floating dtype.
        weight: (C, O / groups, kernel...): the weight of the `conv` that leads from O channels to C.
        bias: (O,), or None for none.
        stride: of that `conv`; an integer, or one for each spatial axis.
        padding: of that `conv`: an integer, one for each spatial axis, or (before, after) for each.
        output_padding: how many elements the result has more than the windows of that `conv` need; less than the
            stride or the dilation.
        dilation: of that `conv`.
        groups: of that `conv`.

    Returns:
        (N, O, out...) with out = (spatial - 1) * stride - before - after + dilation * (kernel - 1) + 1 + output_padding.

    Raises:
        ShapeError: if the shapes do not fit together, ``groups`` does not divide the channels, or nothing is left.
        ArgumentError: for a stride, dilation or groups below 1, a negative padding, or an ``output_padding``
            that is not less than the stride or the dilation.

    A kernel receives the attributes as that of `conv` does. 16-bit floats accumulate in float32.
    """
    return _biased(_stretched(x, weight, stride, padding, output_padding, dilation, groups), bias)


def _stretched(
    x: Tensor, weight: Tensor, stride: Any, padding: Any, output_padding: Any, dilation: Any, groups: int
) -> Tensor:
    """`conv` with the turned weight of ``x``, whose elements are ``stride`` apart in a field of zeros."""
    channels, inner, *kernel = weight.shape
    shape, taken, laid = [*x.shape[:2]], [WHOLE, WHOLE], [WHOLE, WHOLE]
    for n, s, (before, after), r, extra in zip(
        x.shape[2:], stride, padding, reach(tuple(kernel), dilation), output_padding, strict=True
    ):
        start, length = r - 1 - before, (n - 1) * s - before - after + 2 * (r - 1) + 1 + extra
        low, high = max(0, -(start // s)), min(n, -((start - length) // s))
        if high <= low:
            low = high = 0
        taken.append((low, high, 1))
        laid.append((start + low * s, start + (high - 1) * s + 1, s) if high else (0, 0, 1))
        shape.append(length)
    field = scatter_slice(strided_slice(x, taken), shape=tuple(shape), bounds=laid)
    grouped = reshape(weight, (groups, channels // groups, inner, *kernel))
    swapped = permute_dims(grouped, (0, 2, 1, *range(3, grouped.ndim)))
    turned = strided_slice(
        reshape(swapped, (groups * inner, channels // groups, *kernel)),
        (WHOLE, WHOLE, *((None, None, -1),) * len(kernel)),
    )
    return conv(field, turned, dilation=dilation, groups=groups)


@op(
    kind=Kind.CONTRACTION,
    infer=_weighted,
    dtypes=FLOATING,
    promote=("x", "y"),
    attributes={**_GEOMETRY, "padding": padding_pairs, "kernel_size": per_axis("kernel_size")},
    autocast=Autocast.LOW,
    samples=_weight_samples,
    errors=errors(
        ErrorSample(ShapeError, np.zeros((1, 2, 5)), np.zeros((1, 3, 5)), kernel_size=2),
        ErrorSample(ShapeError, np.zeros((1, 2, 5)), np.zeros((2, 3, 4)), kernel_size=2),
        ErrorSample(ShapeError, np.zeros((1, 2, 5)), np.zeros((1, 3, 1)), kernel_size=6),
        ErrorSample(ArgumentError, np.zeros((1, 2, 5)), np.zeros((1, 3, 4)), kernel_size=(2, 2)),
    ),
)
def conv_weight(
    x: Tensor,
    y: Tensor,
    *,
    kernel_size: PerAxis,
    stride: PerAxis = 1,
    padding: Padding = 0,
    dilation: PerAxis = 1,
    groups: int = 1,
) -> Tensor:
    """The adjoint of `conv` in its weight: what each element of the weight has seen of ``x``, weighted by ``y``.

    Args:
        x: (N, C, spatial...), a floating dtype.
        y: (N, O, positions...), a cotangent of the result of that `conv`.
        kernel_size: of that `conv`; an integer, or one for each spatial axis.
        stride: of that `conv`.
        padding: of that `conv`: an integer, one for each spatial axis, or (before, after) for each.
        dilation: of that `conv`.
        groups: of that `conv`.

    Returns:
        (O, C / groups, kernel...).

    Raises:
        ShapeError: if that `conv` of ``x`` has not the shape of ``y``.
        ArgumentError: as `conv`.

    A kernel receives the attributes as that of `conv` does. 16-bit floats accumulate in float32.
    """
    kernel = cast("Ints", kernel_size)
    columns, _ = _columns(x, kernel, stride, padding, dilation, groups)
    (batch, outs), (_, _, inner, count) = y.shape[:2], columns.shape
    left = permute_dims(reshape(y, (batch, groups, outs // groups, count)), (1, 2, 0, 3))
    right = reshape(permute_dims(columns, (1, 0, 3, 2)), (groups, batch * count, inner))
    out = matrix_product(reshape(left, (groups, outs // groups, batch * count)), right)
    return reshape(out, (outs, x.shape[1] // groups, *kernel))


# -- the rules --------------------------------------------------------------------------------------------


@conv.defvjp("x", factors=_factors_of_x)
def _(
    ct: Tensor, x: Spec, weight: Tensor, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Tensor:
    rest = _leftover(x.shape, weight.shape, stride, padding, dilation)
    return conv_transpose(
        ct, weight, stride=stride, padding=padding, output_padding=rest, dilation=dilation, groups=groups
    )


@conv.defvjp("weight", factors=_factors_of_weight)
def _(
    ct: Tensor, x: Tensor, weight: Spec, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Tensor:
    size = weight.shape[2:]
    return conv_weight(
        x, ct, kernel_size=size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@conv.defvjp("bias", factors=_factors_of_bias)
def _(ct: Tensor) -> Tensor:
    return _bias_gradient(ct)


@conv_transpose.defvjp("x")
def _(
    ct: Tensor, x: Spec, weight: Tensor, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int
) -> Tensor:
    seen = conv(ct, weight, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if seen.shape == x.shape:
        return seen
    # An output_padding of the stride or more leaves room for windows that made nothing of the result.
    return strided_slice(seen, tuple((0, n, 1) for n in x.shape))


@conv_transpose.defvjp("weight")
def _(
    ct: Tensor,
    x: Tensor,
    weight: Spec,
    *,
    stride: Ints,
    padding: Pairs,
    output_padding: Ints,
    dilation: Ints,
    groups: int,
) -> Tensor:
    x = padded(x, tuple((0, rest // s) for rest, s in zip(output_padding, stride, strict=True)))
    size = weight.shape[2:]
    return conv_weight(
        ct, x, kernel_size=size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )


@conv_transpose.defvjp("bias", factors=_factors_of_bias)
def _(ct: Tensor) -> Tensor:
    return _bias_gradient(ct)


@conv_weight.defvjp("x")
def _(ct: Tensor, x: Spec, y: Tensor, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Tensor:
    rest = _leftover(x.shape, ct.shape, stride, padding, dilation)
    return conv_transpose(
        y, ct, stride=stride, padding=padding, output_padding=rest, dilation=dilation, groups=groups
    )


@conv_weight.defvjp("y")
def _(ct: Tensor, x: Tensor, *, stride: Ints, padding: Pairs, dilation: Ints, groups: int) -> Tensor:
    return conv(x, ct, stride=stride, padding=padding, dilation=dilation, groups=groups)


__all__ = ["conv", "conv_transpose", "conv_weight"]
