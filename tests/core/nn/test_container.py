"""Modules made of modules."""

from __future__ import annotations

import pytest

import plugrad as pg
from plugrad import nn
from plugrad.errors import ArgumentError


def layers(*widths: int) -> list[nn.Module]:
    return [nn.Linear(n, n) for n in widths]


def test_a_sequence() -> None:
    a, b = nn.Linear(2, 2), nn.ReLU()
    sequence = nn.Sequential(a, b)
    assert sequence[0] is a
    assert sequence[-1] is b
    assert len(sequence) == 2
    assert list(sequence) == [a, b]
    assert sequence(pg.zeros((3, 2))).shape == (3, 2)
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"Sequential: there is no module {index}, it has 2"):
            sequence[index]
    assert nn.Sequential()(a) is a
    with pytest.raises(ArgumentError, match="Sequential: takes modules, argument 1 is function"):
        nn.Sequential(a, lambda x: x)  # type: ignore[arg-type]


def test_a_sequence_with_names() -> None:
    a, b, c = layers(1, 2, 3)
    named = nn.Sequential({"first": a, "second": b})
    assert list(named.state_dict()) == ["first.weight", "first.bias", "second.weight", "second.bias"]
    assert named.first is a
    named.append(c)
    assert [n for n, _ in named.named_children()] == ["first", "second", "2"]
    assert [n for n, _ in named[1:].named_children()] == ["second", "1"]
    del named[0]
    assert [n for n, _ in named.named_children()] == ["second", "1"]
    for name in ("append", "forward", "a.b"):
        with pytest.raises(ArgumentError, match="needs another name"):
            nn.Sequential({name: a})
    with pytest.raises(ArgumentError, match="Sequential: takes modules, got int"):
        nn.Sequential({"a": 3})  # type: ignore[dict-item]


@pytest.mark.parametrize("make", [lambda modules: nn.Sequential(*modules), nn.ModuleList])
def test_lists_change_as_lists_do(make: type[nn.ModuleList]) -> None:
    a, b, c, d, e = layers(1, 2, 3, 4, 5)
    modules, plain = make([a, b, c]), [a, b, c]

    def same() -> bool:
        numbered = [n for n, _ in modules.named_children()] == [str(i) for i in range(len(plain))]
        return numbered and list(modules) == plain and len(modules) == len(plain)

    assert same()
    modules.insert(1, d)
    plain.insert(1, d)
    assert same()
    modules[-1] = e
    plain[-1] = e
    assert same()
    del modules[0]
    del plain[0]
    assert same()
    assert modules.extend([a, c]) is modules
    plain.extend([a, c])
    assert same()
    assert list(modules[1:4:2]) == plain[1:4:2]
    assert type(modules[:2]) is type(modules)
    del modules[::2]
    del plain[::2]
    assert same()
    for wrong in (None, 3, "x"):
        for change in (
            lambda w: modules.append(w),
            lambda w: modules.insert(0, w),
            lambda w: modules.__setitem__(0, w),
        ):
            with pytest.raises(ArgumentError, match="takes modules, got"):
                change(wrong)
    with pytest.raises(IndexError, match="there is no module 7"):
        del modules[7]
    assert same()


def test_a_dict() -> None:
    a, b = layers(1, 2)
    table = nn.ModuleDict({"a": a})
    table["b"] = b
    assert table.keys() == ["a", "b"]
    assert table.values() == [a, b]
    assert table.items() == [("a", a), ("b", b)]
    assert list(table) == ["a", "b"]
    assert len(table) == 2
    assert "b" in table
    assert table["b"] is b
    table.update({"b": a})
    assert table["b"] is a
    del table["a"]
    assert table.keys() == ["b"]
    assert list(table.state_dict()) == ["b.weight", "b.bias"]
    for absent in ("a", "training", "keys"):
        assert absent not in table
        with pytest.raises(KeyError, match=absent):
            table[absent]
        with pytest.raises(KeyError, match=absent):
            del table[absent]
    for name in ("keys", "training", "", "x.y"):
        with pytest.raises(ArgumentError, match="needs another name"):
            table[name] = a
    with pytest.raises(ArgumentError, match="ModuleDict: takes modules, got NoneType"):
        table["c"] = None  # type: ignore[assignment]
