"""Splits: complete, disjoint, repeatable, and stratified within one example."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import plugrad.data as pd
from plugrad.data._generator import Purpose, generator, permutation
from plugrad.errors import ArgumentError, DTypeError, ShapeError


def numbers(n):
    return pd.ArrayDataset(np.arange(n))


@st.composite
def counts(draw):
    return draw(st.lists(st.integers(1, 40), min_size=1, max_size=4))


@given(counts(), st.integers(0, 2**64 - 1))
def test_random_split_gives_every_example_once(sizes, seed):
    n = sum(sizes)
    parts = pd.random_split(numbers(n), sizes, seed=seed)
    assert [len(p) for p in parts] == sizes
    assert sorted(np.concatenate([p.take(np.arange(len(p)))[0] for p in parts])) == list(range(n))
    again = pd.random_split(numbers(n), sizes, seed=seed)
    assert all(np.array_equal(a.indices, b.indices) for a, b in zip(parts, again, strict=True))


@given(counts(), st.integers(1, 6), st.integers(0, 2**32))
def test_stratified_split(sizes, classes, seed):
    n = sum(sizes)
    labels = np.random.default_rng(seed).integers(0, classes, n) - 1
    parts = pd.stratified_split(numbers(n), labels, sizes, seed=seed)
    assert [len(p) for p in parts] == sizes
    assert sorted(np.concatenate([p.indices for p in parts])) == list(range(n))
    for label in np.unique(labels):
        share = (labels == label).sum() * sizes[-1] / n
        assert abs((labels[parts[-1].indices] == label).sum() - share) < 1
        for size, part in zip(sizes, parts, strict=True):
            share = (labels == label).sum() * size / n
            assert abs((labels[part.indices] == label).sum() - share) < len(sizes)


def test_stratified_split_is_shuffled_and_follows_the_seed():
    labels = np.repeat([0, 1], 50)
    first, _ = pd.stratified_split(numbers(100), labels, [0.5, 0.5], seed=1)
    other, _ = pd.stratified_split(numbers(100), labels, [0.5, 0.5], seed=2)
    assert 5 < labels[first.indices[:25]].sum() < 20  # 12 or 13 where classes are mixed, 0 or 25 where not
    assert not np.array_equal(first.indices, other.indices)


def test_labels_may_be_strings_or_booleans():
    for labels in (["b", "a"] * 5, np.array(["b", "a"] * 5), [True, False] * 5, np.arange(10) % 2):
        a, b = pd.stratified_split(numbers(10), labels, [4, 6])
        assert np.bincount(a.indices % 2).tolist() == [2, 2]
        assert np.bincount(b.indices % 2).tolist() == [3, 3]


@pytest.mark.parametrize(
    ("n", "fractions", "sizes"),
    [
        (10, [0.8, 0.2], [8, 2]),
        (1797, [0.8, 0.2], [1438, 359]),
        (7, [1 / 3, 1 / 3, 1 / 3], [2, 3, 2]),
        (3, [1.0], [3]),
    ],
)
def test_fractions(n, fractions, sizes):
    assert [len(p) for p in pd.random_split(numbers(n), fractions)] == sizes
    assert [len(p) for p in pd.stratified_split(numbers(n), [0] * n, fractions)] == sizes


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([0.5, 0.4], "add up to 0.9"),
        ([0.9, 0.2], "add up to 1.1"),
        ([1.5, -0.5], "each needs at least one"),
        ([float("nan"), 0.5], "add up to nan"),
        ([5, 4], "add up to 9, not to the 10 examples"),
        ([12, -2], "each needs at least one"),
        ([10, 0], "each needs at least one"),
        ([0.99, 0.01], r"come to \[10, 0\]"),
        ([], r"\[\]"),
        ([5, 0.5], r"\[5, 0.5\]"),
        (["a"], r"\['a'\]"),
        ([True], r"\[True\]"),
    ],
)
def test_parts_that_are_refused(parts, text):
    with pytest.raises(ArgumentError, match=text):
        pd.random_split(numbers(10), parts)
    with pytest.raises(ArgumentError, match=text):
        pd.stratified_split(numbers(10), np.zeros(10, int), parts)


def test_labels_that_are_refused():
    with pytest.raises(ShapeError, match=r"\(9,\).*\(10,\)"):
        pd.stratified_split(numbers(10), np.zeros(9, int), [5, 5])
    with pytest.raises(ShapeError, match=r"\(10, 1\)"):
        pd.stratified_split(numbers(10), np.zeros((10, 1), int), [5, 5])
    with pytest.raises(DTypeError, match="float64"):
        pd.stratified_split(numbers(10), np.zeros(10), [5, 5])


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, None, True])
def test_seeds_that_are_refused(seed):
    with pytest.raises(ArgumentError, match="seed"):
        pd.random_split(numbers(4), [2, 2], seed=seed)
    with pytest.raises(ArgumentError, match="seed"):
        pd.stratified_split(numbers(4), [0, 0, 1, 1], [2, 2], seed=seed)


def test_permutations_are_the_same_for_good():
    assert permutation(10, 0, Purpose.ORDER).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert permutation(10, 0, Purpose.ORDER, 1).tolist() == [5, 3, 7, 8, 2, 4, 1, 0, 6, 9]
    assert permutation(0, 0, Purpose.ORDER).tolist() == []


def test_positions_of_the_generator_share_no_bits():
    positions = [(s, p, e, b) for s in (0, 1, 2**64 - 1) for p in Purpose for e in (0, 1) for b in (0, 1)]
    words = [generator(*position).bit_generator.random_raw(8).tolist() for position in positions]
    assert len({w for row in words for w in row}) == 8 * len(positions)


def test_every_order_is_about_as_likely():
    counts = np.unique([permutation(3, s, Purpose.ORDER) for s in range(6000)], axis=0, return_counts=True)[1]
    assert len(counts) == 6
    assert abs(counts - 1000).max() < 150  # five standard deviations
