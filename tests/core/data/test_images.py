"""Image sets: the digits that come with plugrad, and MNIST's files."""

import hashlib
from importlib import resources

import numpy as np
import pytest

import plugrad.data as pd
from plugrad.errors import DataError


def test_the_digits_are_those_of_the_source():
    images, labels = pd.load_digits()
    assert (images.shape, images.dtype) == ((1797, 1, 8, 8), np.float32)
    assert (labels.shape, labels.dtype) == ((1797,), np.int64)
    assert (images.min(), images.max()) == (0, 1)
    pixels = images * 16
    assert np.array_equal(pixels, pixels.round())
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    checksum = hashlib.sha256(
        pixels.astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    ).hexdigest()
    assert checksum == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_the_digits_are_small_and_attributed():
    folder = resources.files("plugrad.data") / "digits"
    assert sum(len((folder / n).read_bytes()) for n in ("images.idx.gz", "labels.idx.gz")) < 57_000
    readme = (folder / "README.md").read_text()
    for text in ("E. Alpaydin, C. Kaynak", "10.24432/C50P49", "creativecommons.org/licenses/by/4.0"):
        assert text in readme


def test_the_split_of_the_digits_is_fixed():
    train, held_back = pd.digits()
    assert (len(train), len(held_back)) == (1437, 360)
    assert np.bincount(train.arrays[1]).tolist() == [143, 145, 142, 146, 145, 146, 144, 143, 140, 143]
    assert np.bincount(held_back.arrays[1]).tolist() == [35, 37, 35, 37, 36, 36, 37, 36, 34, 37]
    images, labels = pd.load_digits()
    parts = pd.stratified_split(pd.ArrayDataset(images, labels), labels, (1437, 360), seed=0)
    for part, dataset in zip(parts, (train, held_back), strict=True):
        assert np.array_equal(dataset.arrays[0], images[part.indices])
        assert np.array_equal(dataset.arrays[1], labels[part.indices])
    checksum = hashlib.sha256(parts[1].indices.astype("<i8").tobytes()).hexdigest()
    assert checksum == "2909c5c714341f2fed920eba9945e9d86de0561a9ec4a4eb8343e5fecef114e7"


@pytest.fixture(params=[pd.mnist, pd.fashion_mnist])
def read(request):
    return request.param


def write(folder, part="train", images=None, labels=None, suffix=""):
    images = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8) if images is None else images
    labels = np.array([9, 0, 5], np.uint8) if labels is None else labels
    pd.write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
    pd.write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
    return images


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_mnist(tmp_path, read, suffix):
    images = write(tmp_path, suffix=suffix)
    write(tmp_path, "t10k", images[:1], np.array([7], np.uint8), suffix)
    train, test = read(tmp_path), read(str(tmp_path), train=False)
    assert (len(train), len(test)) == (3, 1)
    x, y = train.arrays
    assert (x.shape, x.dtype, y.dtype) == ((3, 1, 28, 28), np.float32, np.int64)
    assert np.array_equal(x[:, 0], images.astype(np.float32) / 255)
    assert y.tolist() == [9, 0, 5]
    assert test.arrays[1].tolist() == [7]


def test_missing_files_are_one_error(tmp_path, read):
    with pytest.raises(DataError) as caught:
        read(tmp_path / "nowhere", train=False)
    for text in (read.__name__, "nowhere", "t10k-images-idx3-ubyte or", "t10k-labels-idx1-ubyte.gz"):
        assert text in str(caught.value)
    write(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="lacks train-labels-idx1-ubyte or") as caught:
        read(tmp_path)
    assert "images" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [
        (np.zeros((3, 27, 28), np.uint8), None, r"images.*\(3, 27, 28\)"),
        (np.zeros((3, 28), np.uint8), None, r"images.*\(3, 28\)"),
        (np.zeros((3, 28, 28), np.int8), None, "images.*int8"),
        (None, np.zeros((3, 1), np.uint8), r"labels.*\(3, 1\)"),
        (None, np.zeros(3, np.int32), "labels.*int32"),
        (None, np.zeros(2, np.uint8), "3 images, .* 2 labels"),
        (None, np.array([0, 10, 1], np.uint8), "label 10"),
    ],
)
def test_files_that_do_not_fit(tmp_path, read, images, labels, text):
    write(tmp_path, images=images, labels=labels)
    with pytest.raises(DataError, match=text):
        read(tmp_path)


def test_a_broken_file_is_named(tmp_path, read):
    write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="train-images-idx3-ubyte: is cut short"):
        read(tmp_path)
