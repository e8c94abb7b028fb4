"""IDX files: every type there and back, and every way to be broken."""

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import plugrad.data as pd
from plugrad.errors import DataError, DTypeError, ShapeError

TYPES = ["uint8", "int8", "int16", "int32", "float32", "float64"]
shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("idx")


@given(
    data=st.data(),
    dtype=st.sampled_from(TYPES),
    order=st.sampled_from("<>"),
    suffix=st.sampled_from(["", ".gz"]),
)
def test_there_and_back(folder, data, dtype, order, suffix):
    array = data.draw(hnp.arrays(np.dtype(dtype).newbyteorder(order), shapes))
    path = folder / f"array.idx{suffix}"
    pd.write_idx(path, array)
    back = pd.read_idx(path)
    assert back.dtype == np.dtype(dtype)
    assert back.dtype.isnative
    assert back.shape == array.shape
    assert back.tobytes() == array.astype(dtype).tobytes()  # NaN and -0 too
    back[...] = 1  # it is the caller's own
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []


def test_the_bytes(tmp_path):
    pd.write_idx(tmp_path / "a", np.array([[1, -2, 300]], np.int16))
    content = (tmp_path / "a").read_bytes()
    assert content.hex(" ") == "00 00 0b 02 00 00 00 01 00 00 00 03 00 01 ff fe 01 2c"
    (tmp_path / "b").write_bytes(bytes.fromhex("00000d0100000001 3fc00000"))
    assert pd.read_idx(tmp_path / "b").tolist() == [1.5]


def test_transposed_arrays(tmp_path):
    array = np.arange(6, dtype=np.int32).reshape(2, 3).T
    pd.write_idx(tmp_path / "a", array)
    assert np.array_equal(pd.read_idx(str(tmp_path / "a")), array)


def test_equal_arrays_give_equal_files(tmp_path):
    array = np.arange(100, dtype=np.uint8)
    pd.write_idx(tmp_path / "a.gz", array)
    pd.write_idx(tmp_path / "b.gz", array)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert (tmp_path / "a.gz").read_bytes()[4:8] == bytes(4)  # no time of writing
    assert gzip.decompress((tmp_path / "a.gz").read_bytes())[:4] == b"\0\0\x08\x01"


def test_the_content_says_whether_it_is_packed(tmp_path):
    pd.write_idx(tmp_path / "a", np.arange(3, dtype=np.uint8))
    (tmp_path / "a").rename(tmp_path / "plain.gz")
    assert pd.read_idx(tmp_path / "plain.gz").tolist() == [0, 1, 2]
    pd.write_idx(tmp_path / "b.gz", np.arange(3, dtype=np.uint8))
    (tmp_path / "b.gz").rename(tmp_path / "packed")
    assert pd.read_idx(tmp_path / "packed").tolist() == [0, 1, 2]


def test_every_cut_is_found(tmp_path):
    pd.write_idx(tmp_path / "whole", np.ones((2, 3), np.int16))
    content = (tmp_path / "whole").read_bytes()
    assert len(content) == 24
    path = tmp_path / "cut"
    for cut in range(len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"cut: is cut short: .*this has \d+"):
            pd.read_idx(path)
        path.write_bytes(gzip.compress(content[:cut]))
        with pytest.raises(DataError, match="cut short"):
            pd.read_idx(path)


@pytest.mark.parametrize("packed", [False, True])
def test_trailing_bytes(tmp_path, packed):
    pd.write_idx(tmp_path / "a", np.ones((2, 3), np.int16))
    content = (tmp_path / "a").read_bytes() + b"\0\0\0"
    (tmp_path / "a").write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(
        DataError, match=r"int16 of shape \(2, 3\) has 12 bytes after the header, this has 3 more"
    ):
        pd.read_idx(tmp_path / "a")


@pytest.mark.parametrize(
    "start", ["01 00 08 01", "00 01 08 01", "00 00 0a 01", "00 00 00 01", "89 50 4e 47", "ff", "00 00 07"]
)
def test_wrong_magic(tmp_path, start):
    (tmp_path / "a").write_bytes(bytes.fromhex(start))
    with pytest.raises(DataError, match=f"a: starts with the bytes {start}, an IDX file with 00 00 and 08"):
        pd.read_idx(tmp_path / "a")


def test_every_cut_of_a_packed_file_is_found(tmp_path):
    pd.write_idx(tmp_path / "a.gz", np.arange(40, dtype=np.uint8))
    content = (tmp_path / "a.gz").read_bytes()
    path = tmp_path / "broken.gz"
    for cut in range(2, len(content)):
        path.write_bytes(content[:cut])
        with pytest.raises(DataError, match=r"broken\.gz: .*cut short"):
            pd.read_idx(path)


def test_no_changed_bit_of_a_packed_file_changes_the_array(tmp_path):
    array = np.arange(40, dtype=np.uint8)
    pd.write_idx(tmp_path / "a.gz", array)
    content = (tmp_path / "a.gz").read_bytes()
    path = tmp_path / "broken.gz"
    unnoticed = 0
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        try:
            back = pd.read_idx(path)
        except DataError:
            continue
        unnoticed += 1
        assert np.array_equal(back, array)
    # The time, system and text flag of gzip's header, and the bits that fill up the last byte of the stream.
    assert unnoticed < 8 * 8


def test_a_broken_size_claims_no_memory(tmp_path):
    (tmp_path / "a").write_bytes(b"\0\0\x0e\x04" + struct.pack(">4I", *[2**32 - 1] * 4) + b"data")
    with pytest.raises(DataError, match="this has 4"):
        pd.read_idx(tmp_path / "a")


@pytest.mark.parametrize("shape", [(1,) * 200, (0, 2**32 - 1, 2**32 - 1, 2**32 - 1)])
def test_shapes_that_numpy_lacks(tmp_path, shape):
    data = b"" if 0 in shape else b"\1"
    (tmp_path / "a").write_bytes(bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data)
    with pytest.raises(DataError, match="NumPy holds no array"):
        pd.read_idx(tmp_path / "a")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        pd.read_idx(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        pd.write_idx(tmp_path / "no folder" / "a", np.zeros(1, np.uint8))


@pytest.mark.parametrize(
    "array", [np.zeros(2, np.int64), [1, 2], np.zeros(2, bool), np.array(["a"]), np.zeros(2, np.float16)]
)
def test_dtypes_that_the_format_lacks(tmp_path, array):
    with pytest.raises(DTypeError, match="uint8, int8, int16, int32, float32, float64"):
        pd.write_idx(tmp_path / "a", array)
    assert list(tmp_path.iterdir()) == []


def test_axes_too_long_for_the_format(tmp_path):
    with pytest.raises(ShapeError, match="4294967295"):
        pd.write_idx(tmp_path / "a", np.broadcast_to(np.uint8(0), (2**32,)))


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    pd.write_idx(tmp_path / "a.gz", np.arange(3, dtype=np.uint8))

    def full(self, data):
        raise OSError("no space left")

    monkeypatch.setattr(gzip.GzipFile, "write", full)
    with pytest.raises(OSError, match="no space left"):
        pd.write_idx(tmp_path / "a.gz", np.arange(5, dtype=np.uint8))
    monkeypatch.undo()
    assert pd.read_idx(tmp_path / "a.gz").tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["a.gz"]
