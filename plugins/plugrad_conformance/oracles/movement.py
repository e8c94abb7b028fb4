"""Oracles of the ops that move elements and change none. Slices and their adjoints: `slicing`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from plugrad_conformance.oracles._held import Array
from plugrad_conformance.oracles._register import oracle

Ints = tuple[int, ...]


@oracle("reshape")
def _reshape(x: Array, *, shape: Ints, copy: bool | None) -> Array:
    # False asks a device to say where it would have to copy; the elements are the same.
    del copy
    return np.reshape(x, shape)


@oracle("permute_dims")
def _permute_dims(x: Array, *, axes: Ints) -> Array:
    return np.transpose(x, axes)


@oracle("matrix_transpose")
def _matrix_transpose(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


@oracle("moveaxis")
def _moveaxis(x: Array, *, source: Ints, destination: Ints) -> Array:
    return np.moveaxis(x, source, destination)


@oracle("expand_dims")
def _expand_dims(x: Array, *, axis: Ints) -> Array:
    return np.expand_dims(x, axis)


@oracle("squeeze")
def _squeeze(x: Array, *, axis: Ints) -> Array:
    return np.squeeze(x, axis=axis)


@oracle("broadcast_to")
def _broadcast_to(x: Array, *, shape: Ints) -> Array:
    return np.array(np.broadcast_to(x, shape))


@oracle("tile")
def _tile(x: Array, *, repetitions: Ints) -> Array:
    return np.tile(x, repetitions)


@oracle("concatenate")
def _concatenate(arrays: Sequence[Array], *, axis: int) -> Array:
    return np.concatenate(list(arrays), axis=axis)


@oracle("concat")
def _concat(arrays: Sequence[Array], *, axis: int | None) -> Array:
    return np.concatenate(list(arrays), axis=axis)


@oracle("stack")
def _stack(arrays: Sequence[Array], *, axis: int) -> Array:
    return np.stack(list(arrays), axis=axis)


@oracle("flip")
def _flip(x: Array, *, axis: Ints) -> Array:
    return np.asarray(np.flip(x, axis=axis))


@oracle("roll")
def _roll(x: Array, *, shift: Ints, axis: Ints | None) -> Array:
    if axis is None:
        return np.roll(x.reshape(-1), sum(shift)).reshape(x.shape)
    for by, along in zip(shift, axis, strict=True):
        x = np.roll(x, by, axis=along)
    return x


@oracle("pad")
def _pad(x: Array, *, pad_width: tuple[tuple[int, int], ...], mode: str, value: bool | int | float) -> Array:
    if x.ndim == 0:
        return np.array(x)
    if mode == "constant":
        return np.pad(x, pad_width, mode="constant", constant_values=value)
    return np.pad(x, pad_width, mode=mode)  # type: ignore[call-overload,no-any-return]
