"""Philox 4x32-10 against the known-answer vectors of its authors (Random123, kat_vectors) and a scalar loop."""

from __future__ import annotations

import numpy as np
import pytest

from plugrad_numpy import _parallel, _philox
from plugrad_numpy._philox import philox, random_bits

ONES = 0xFFFFFFFF
KNOWN = {
    "zeros": ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    "ones": ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def block(key: tuple[int, int], counter: int) -> list[int]:
    """One block in plain integers, as the paper states the rounds."""
    (k0, k1), (c0, c1, c2, c3) = key, (counter >> 32 * i & ONES for i in range(4))
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 >> 32 ^ c1 ^ k0, p1 & ONES, p0 >> 32 ^ c3 ^ k1, p0 & ONES
        k0, k1 = k0 + 0x9E3779B9 & ONES, k1 + 0xBB67AE85 & ONES
    return [c0, c1, c2, c3]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN.values(), ids=KNOWN)
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    got = random_bits(np.array(key, np.uint32), np.array(counter, np.uint32), shape=(4,))
    assert got.dtype == np.uint32
    assert tuple(int(w) for w in got) == words


@pytest.mark.parametrize(
    "start", [0, 12345, 2**32 - 3, 2**64 - 2, 2**96 - 1, 2**128 - 2, 2**32 - 8, 2**64 + 2**32 - 4]
)
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 31])
def test_stream(start: int, n: int) -> None:
    key = (0xDEADBEEF, 0x01234567)
    expected = [word for i in range(8) for word in block(key, (start + i) % 2**128)][:n]
    assert philox(key, start, n).tolist() == expected


def test_a_stream_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    key = (7, 9)
    monkeypatch.setattr(_parallel._state, "size", 3)
    monkeypatch.setattr(_philox, "_WORTH", 1000)
    whole = philox(key, 2**32 - 5000, 40_002)
    monkeypatch.setattr(_parallel._state, "size", 1)
    monkeypatch.setattr(_philox, "_CHUNK", 777)
    np.testing.assert_array_equal(philox(key, 2**32 - 5000, 40_002), whole)
    for i in (0, 4095, 4096, 4999, 5000, 9999):
        assert whole[4 * i : 4 * i + 4].tolist() == block(key, 2**32 - 5000 + i)
    np.testing.assert_array_equal(philox(key, 2**32 - 5000 + 1000, 8), whole[4000:4008])


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (5, 3, 7)])
def test_shapes_and_into(shape: tuple[int, ...]) -> None:
    key, counter = np.array([1, 2], np.uint32), np.array([3, 4, 5, 6], np.uint32)
    bits = random_bits(key, counter, shape=shape)
    assert bits.shape == shape
    size = int(np.prod(shape))
    np.testing.assert_array_equal(bits.ravel(), philox((1, 2), 3 + (4 << 32) + (5 << 64) + (6 << 96), size))
    row_major, column_major = np.zeros(shape, np.uint32), np.zeros(shape, np.uint32, order="F")
    for into in (row_major, column_major):
        assert random_bits(key, counter, shape=shape, into=into) is into
        np.testing.assert_array_equal(into, bits)
