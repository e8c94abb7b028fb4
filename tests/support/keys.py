"""Random keys for ``x[key]``, each twice: as NumPy takes it, and with tensors, lists and NumPy numbers among its items."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

import plugrad as pg


def random_key(shape: tuple[int, ...], rng: random.Random, device: str) -> tuple[Any, Any]:
    """A key for NumPy and the same one for a tensor. Most fit ``shape``; what indexes fits its axis."""
    numpy_rng = np.random.default_rng(rng.getrandbits(32))
    places = rng.choice([(), (2,), (3,), (2, 1), (1, 3), (0,)])
    theirs: list[Any] = []
    ours: list[Any] = []
    axis, dots = 0, False

    def add(item: Any, tensor: Any) -> None:
        theirs.append(item)
        ours.append(tensor)

    kinds = [
        "integer",
        "numpy integer",
        "tensor integer",
        "slice",
        "slice",
        "new",
        "dots",
        "array",
        "mask",
        "flag",
    ]
    while rng.random() < 0.8:
        kind = rng.choice([*kinds, "array", "list"])
        if kind == "new":
            add(None, None)
        elif kind == "dots" and not dots:
            dots = True
            add(Ellipsis, Ellipsis)
        elif kind == "flag" and rng.random() < 0.3:
            flag = rng.random() < 0.5
            add(flag, pg.asarray(flag, device=device) if rng.random() < 0.3 else flag)
        elif kind == "mask" and axis < len(shape) and not dots:
            covered = rng.randint(1, len(shape) - axis)
            mask = numpy_rng.random(shape[axis : axis + covered]) < 0.5
            add(mask, pg.asarray(mask, device=device) if rng.random() < 0.5 else mask)
            axis += covered
        elif kind in ("new", "dots", "flag", "mask") or axis >= len(shape):
            continue
        else:
            # After an ellipsis the axis is not known yet: what fits the smallest fits it.
            n = min(shape) if dots else shape[axis]
            if kind == "slice":
                limits = [None, None, *range(-n - 1, n + 2)]
                cut = slice(rng.choice(limits), rng.choice(limits), rng.choice([None, 1, 2, -1, -2]))
                add(cut, cut)
            elif n == 0:
                continue
            elif "integer" in kind:
                i = rng.randrange(-n, n)
                given = {"integer": i, "numpy integer": np.int32(i)}
                add(i, given.get(kind, pg.asarray(i, device=device)))
            else:
                array = numpy_rng.integers(-n, n, places)
                forms = [pg.asarray(array, device=device), array, array.astype(np.int8), array.tolist()]
                add(array, forms[3] if kind == "list" and array.ndim else forms[rng.randrange(3)])
            axis += 1
    if len(theirs) == 1 and rng.random() < 0.5:
        return theirs[0], ours[0]
    return tuple(theirs), tuple(ours)
