"""`einsum` against NumPy's, over equations drawn at random, with gradients and errors."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import plugrad as pg
from plugrad.autograd.check import gradcheck
from plugrad.errors import ArgumentError, DTypeError, ShapeError
from support.oracles import assert_same, tensor

CASES: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij,jk->ik", [(2, 3), (3, 4)]),
    ("ij,jk", [(2, 3), (3, 4)]),
    ("ji,kj->ik", [(3, 2), (4, 3)]),
    ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)]),
    ("bqhd,bkhd->bhqk", [(2, 3, 2, 4), (2, 5, 2, 4)]),
    ("bhqk,bkhd->bqhd", [(2, 2, 3, 5), (2, 5, 2, 4)]),
    ("...ij,...jk->...ik", [(2, 1, 2, 3), (3, 3, 4)]),
    ("i...,...i", [(3, 2), (2, 3)]),
    ("ii", [(3, 3)]),
    ("ii->i", [(3, 3)]),
    ("iij->ij", [(3, 3, 2)]),
    ("iiji->ij", [(2, 2, 3, 2)]),
    ("ijij->ij", [(2, 3, 2, 3)]),
    ("ii,ii", [(3, 3), (3, 3)]),
    ("ij->ji", [(2, 3)]),
    ("ba", [(2, 3)]),
    ("ij->", [(2, 3)]),
    ("i,j->ij", [(2,), (3,)]),
    ("i,j->", [(2,), (3,)]),
    ("i,i->i", [(3,), (3,)]),
    (",", [(), ()]),
    (",i->i", [(), (3,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
    ("ab,bc,cd,da->", [(2, 3), (3, 4), (4, 2), (2, 2)]),
    ("abc,a,b,c->", [(2, 3, 4), (2,), (3,), (4,)]),
    ("i j , j k -> i k", [(2, 3), (3, 4)]),
    ("ij,jk->ik", [(2, 1), (3, 4)]),
    ("ij,ij->ij", [(2, 1), (1, 3)]),
    ("ij,ij->i", [(2, 1), (2, 3)]),
    ("ij,jk->ik", [(2, 0), (0, 3)]),
    ("ij,jk->ik", [(0, 2), (2, 3)]),
    ("ii->i", [(0, 0)]),
]


def drawn(rng: random.Random) -> tuple[str, list[tuple[int, ...]]]:
    """An equation with repeated letters, ellipses, and sizes of 0 and 1 that broadcast, and shapes that fit it."""
    letters = "abcdeF"
    sizes = {letter: rng.choice([1, 2, 3, 3, 2, 0]) for letter in letters}
    dots = rng.random() < 0.3
    around = [rng.choice([1, 2, 3]) for _ in range(2)]
    terms, shapes = [], []
    for _ in range(rng.randint(1, 4)):
        term = "".join(rng.choice(letters) for _ in range(rng.randint(0, 4)))
        own = {letter: sizes[letter] if rng.random() < 0.85 else 1 for letter in term}
        shape = [own[letter] for letter in term]
        if dots and rng.random() < 0.7:
            at, count = rng.randint(0, len(term)), rng.randint(0, 2)
            term = f"{term[:at]}...{term[at:]}"
            shape[at:at] = [n if rng.random() < 0.8 else 1 for n in around[2 - count :]]
        terms.append(term)
        shapes.append(tuple(shape))
    equation = ",".join(terms)
    if rng.random() < 0.7:
        used = sorted(set(equation) - set(".,"))
        out = "".join(rng.sample(used, rng.randint(0, len(used))))
        at = rng.randint(0, len(out))
        equation += f"->{out[:at]}...{out[at:]}" if "." in equation else f"->{out}"
    return equation, shapes


def check(equation: str, shapes: list[tuple[int, ...]], device: str) -> None:
    rng = np.random.default_rng(0)
    hosts = [rng.standard_normal(s) for s in shapes]
    got = pg.einsum(equation, *(pg.asarray(h, device=device) for h in hosts))
    expected = np.asarray(np.einsum(equation, *hosts))
    message = f"{equation} {shapes}"
    assert got.shape == expected.shape, message
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-11, atol=1e-11, err_msg=message)


@pytest.mark.parametrize(("equation", "shapes"), CASES)
def test_cases(equation: str, shapes: Any, device: str) -> None:
    check(equation, shapes, device)


@pytest.mark.parametrize("seed", range(5))
def test_equations_drawn_at_random(seed: int, device: str) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        check(*drawn(rng), device)


@pytest.mark.parametrize(
    ("equation", "shapes"), [c for c in CASES if np.prod([len(s) + 1 for s in c[1]]) < 40]
)
def test_gradients(equation: str, shapes: Any, device: str) -> None:
    rng = np.random.default_rng(1)
    operands = tuple(pg.asarray(rng.standard_normal(s), device=device) for s in shapes)
    if any(0 in s for s in shapes):
        leaves = [o.requires_grad_() for o in operands]
        pg.sum(pg.einsum(equation, *leaves)).backward()
        for leaf in leaves:
            assert_same(leaf.grad, np.zeros(leaf.shape))
        return
    assert gradcheck(lambda *xs: pg.einsum(equation, *xs), operands, order=2)


def test_dtypes(device: str) -> None:
    ints = pg.asarray(np.array([[100, 100], [1, 2]], np.int8), device=device)
    assert_same(pg.einsum("ij->i", ints), np.array([-56, 3], np.int8))
    assert pg.einsum("ij->i", ints).dtype is pg.int8
    assert pg.einsum("ij,jk->ik", ints, tensor(np.eye(2), "bfloat16", device)).dtype is pg.bfloat16
    half = tensor(np.ones((2, 4096)), "float16", device)
    assert_same(pg.einsum("ij,ij->i", half, half), [4096.0, 4096.0])


@pytest.mark.parametrize(
    ("equation", "shapes", "error", "message"),
    [
        ("ij,jk->ik", [(2, 3)], ArgumentError, "'ij,jk->ik': has subscripts of 2 operands, got 1"),
        ("ij", [], ArgumentError, "takes at least one operand, got none"),
        ("ij->k", [(2, 3)], ArgumentError, "the result has 'k', which no operand has"),
        ("ij->ii", [(2, 3)], ArgumentError, "the result has 'i' twice"),
        ("i1->i", [(2, 3)], ArgumentError, "'1' in subscript 'i1'; takes letters"),
        ("i.j", [(2, 3)], ArgumentError, r"'\.' in subscript 'i\.j'"),
        ("...i...", [(2, 3)], ArgumentError, "once in each subscript"),
        ("i->i->i", [(2,)], ArgumentError, "'-' in subscript"),
        ("...i->i", [(2, 3)], ArgumentError, "lacks '...', which stands for 1 axes"),
        ("ijk", [(2, 3)], ShapeError, r"subscript 'ijk' of operand 0 takes 3 axes, got shape \(2, 3\)"),
        ("i...jk", [(2, 3)], ShapeError, "takes at least 3 axes"),
        ("ij,jk", [(2, 3), (4, 2)], ShapeError, "axis 'j' has size 3 in operand 0 and 4 in operand 1"),
        ("...,...", [(2,), (3,)], ShapeError, r"axis of '\.\.\.' has size 2 in operand 0 and 3 in operand 1"),
        ("ii", [(2, 3)], ShapeError, "the axes 'i' of operand 0 have sizes 2 and 3"),
    ],
)
def test_errors(equation: str, shapes: Any, error: type[Exception], message: str, device: str) -> None:
    with pytest.raises(error, match=message) as caught:
        pg.einsum(equation, *(pg.zeros(s, device=device) for s in shapes))
    assert str(caught.value).startswith("einsum: ")


def test_wrong_arguments(device: str) -> None:
    x = pg.zeros((2, 2), device=device)
    with pytest.raises(ArgumentError, match="takes an equation such as"):
        pg.einsum(x, "ij")  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="operand 1 is ndarray, takes a tensor: wrap it"):
        pg.einsum("ij,jk", x, np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(DTypeError, match="operand 0 is bool, takes a numeric dtype"):
        pg.einsum("ij", x > 0)
