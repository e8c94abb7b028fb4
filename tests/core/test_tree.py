"""Trees: taken apart and put together, matched, and the errors for what does not fit."""

from __future__ import annotations

import gc
import weakref
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

import plugrad as pg
from plugrad import tree
from plugrad.errors import ArgumentError

Pair = namedtuple("Pair", "left right")


@dataclass
class State:
    position: Any
    velocity: Any
    name: str


class Owner:
    def __init__(self) -> None:
        self.weight = pg.zeros((2, 3))
        self.bias = pg.zeros(3)

    def __tensors__(self) -> dict[str, pg.Tensor]:
        return {"weight": self.weight, "bias": self.bias}


@pytest.fixture
def state() -> Iterator[type[State]]:
    tree.register_container(
        State, lambda s: ((s.position, s.velocity), s.name), lambda name, xs: State(*xs, name)
    )
    yield State
    del tree._registered[State]


NESTED = {
    "list": [1, (2, 3), []],
    "named": Pair(4, {"a": None, "b": 5}),
    "ordered": OrderedDict(z=6, a=7),
    "empty": (),
}


def test_leaves_come_in_order_and_the_tree_comes_back() -> None:
    leaves, structure = tree.flatten(NESTED)
    assert leaves == [1, 2, 3, 4, 5, 6, 7]
    again = tree.unflatten(structure, leaves)
    assert again == NESTED
    assert type(again["named"]) is Pair
    assert type(again["ordered"]) is OrderedDict
    assert structure == tree.flatten(again)[1]
    assert structure.size == 7


def test_a_leaf_is_a_tree() -> None:
    leaves, structure = tree.flatten("x")
    assert leaves == ["x"]
    assert structure.kind is None
    assert tree.unflatten(structure, [3]) == 3


def test_none_has_no_leaves() -> None:
    assert tree.leaves([None, (None,), 1]) == [1]
    assert tree.map(lambda x: x + 1, {"a": None, "b": 1}) == {"a": None, "b": 2}


def test_paths_read_like_python() -> None:
    structure = tree.flatten(NESTED)[1]
    assert list(structure.paths("t")) == [
        "t['list'][0]",
        "t['list'][1][0]",
        "t['list'][1][1]",
        "t['named'].left",
        "t['named'].right['b']",
        "t['ordered']['z']",
        "t['ordered']['a']",
    ]


def test_unflatten_counts_the_leaves() -> None:
    structure = tree.flatten([1, 2])[1]
    for leaves in ([1], [1, 2, 3]):
        with pytest.raises(ArgumentError, match=f"the structure has 2 leaves, got {len(leaves)}"):
            tree.unflatten(structure, leaves)


def test_map_takes_several_trees_and_dicts_in_any_order() -> None:
    got = tree.map(lambda x, y: (x, y), {"a": 1, "b": [2]}, {"b": ["two"], "a": "one"})
    assert got == {"a": (1, "one"), "b": [(2, "two")]}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": 1}, "map: tree 1: takes a dict with the keys 'a', 'b', got a dict with the keys 'a'"),
        ({"a": 1, "b": (2,)}, r"map: tree 1\['b'\]: takes a list of 1, got tuple"),
        ({"a": 1, "b": [2, 3]}, r"map: tree 1\['b'\]: takes a list of 1, got a list of 2"),
        (3, "map: tree 1: takes a dict with the keys 'a', 'b', got int"),
    ],
)
def test_a_tree_that_does_not_fit_is_an_error_that_says_where(other: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        tree.map(lambda x, y: x, {"a": 1, "b": [2]}, other)


def test_none_stands_only_where_none_stood() -> None:
    with pytest.raises(ArgumentError, match=r"tree 1\['a'\]: takes None, got int"):
        tree.map(lambda x: x, {"a": None}, {"a": 1})


def test_a_registered_class_is_a_container(state: type[State]) -> None:
    leaves, structure = tree.flatten([state(1, [2], "s")])
    assert leaves == [1, 2]
    assert tree.unflatten(structure, [3, 4]) == [state(3, [4], "s")]
    with pytest.raises(ArgumentError, match="takes a State of 2"):
        tree.map(lambda x, y: x, state(1, 2, "s"), state(1, 2, "other"))


@pytest.mark.parametrize("kind", [list, tuple, dict, OrderedDict, type(None), Pair])
def test_a_container_is_not_registered_again(kind: type) -> None:
    with pytest.raises(ArgumentError, match="is a container already"):
        tree.register_container(kind, lambda x: ((), None), lambda extra, xs: kind())


@pytest.mark.parametrize("kind", [pg.Tensor, Owner])
def test_leaves_are_not_registered(kind: type) -> None:
    with pytest.raises(ArgumentError, match="is a leaf"):
        tree.register_container(kind, lambda x: ((), None), lambda extra, xs: kind())


def test_registered_twice_is_an_error(state: type[State]) -> None:
    with pytest.raises(ArgumentError, match="State is a container already"):
        tree.register_container(state, lambda s: ((), None), lambda extra, xs: state(0, 0, ""))


def test_an_unknown_class_is_a_leaf() -> None:
    thing = State(1, 2, "s")
    assert tree.leaves([thing]) == [thing]


def test_an_owner_stays_itself_and_its_tensors_are_found() -> None:
    owner, x = Owner(), pg.zeros(2)
    leaves, structure = tree.flatten({"m": owner, "x": x})
    assert leaves[0] is owner
    assert tree.unflatten(structure, leaves)["m"] is owner
    found = tree.tensors({"m": owner, "x": x, "n": 3})
    assert [f is t for f, t in zip(found, (owner.weight, owner.bias, x), strict=True)] == [True] * 3


def test_taking_apart_leaves_no_garbage() -> None:
    gc.collect()
    gc.disable()
    try:
        x = pg.zeros(2)
        alive = weakref.ref(x)
        leaves, structure = tree.flatten({"a": [x]})
        tree.map(lambda t, u: t, tree.unflatten(structure, leaves), {"a": [x]})
        del x, leaves
        assert alive() is None
    finally:
        gc.enable()
