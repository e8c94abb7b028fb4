"""Image sets: the handwritten digits that come with plugrad, MNIST and Fashion-MNIST from files."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.data.dataset import ArrayDataset
from plugrad.data.idx import read_idx
from plugrad.data.split import stratified_split
from plugrad.errors import DataError

if TYPE_CHECKING:
    import os

__all__ = ["digits", "fashion_mnist", "load_digits", "mnist"]

Array = np.ndarray[Any, Any]


def load_digits() -> tuple[Array, Array]:
    """The 1,797 handwritten digits of 8x8 pixels that come with plugrad, in the order of the source.

    Returns:
        The images, float32 of shape (1797, 1, 8, 8) in [0, 1] (the source's 0 to 16, divided by 16), and what
        they show, int64 of shape (1797,), 0 to 9.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
        Repository
    1998, https://doi.org/10.24432/C50P49, CC BY 4.0: its test set, written by 13 people.
    """
    folder = resources.files("plugrad.data") / "digits"
    with resources.as_file(folder / "images.idx.gz") as path:
        images = read_idx(path)
    with resources.as_file(folder / "labels.idx.gz") as path:
        labels = read_idx(path)
    return images[:, np.newaxis].astype(np.float32) / np.float32(16), labels.astype(np.int64)


def digits() -> tuple[ArrayDataset, ArrayDataset]:
    """The digits of `load_digits` as 1,437 examples to train on and 360 held back.

    The split is fixed: `stratified_split` by what they show, with seed 0.

    Returns:
        Two datasets of examples (image, label): float32 of shape (1, 8, 8) in [0, 1], int64 from 0 to 9.
    """
    images, labels = load_digits()
    train, held_back = stratified_split(ArrayDataset(images, labels), labels, (1437, 360), seed=0)
    return tuple(ArrayDataset(images[s.indices], labels[s.indices]) for s in (train, held_back))  # type: ignore[return-value]


def mnist(folder: str | os.PathLike[str], train: bool = True) -> ArrayDataset:
    """MNIST, handwritten digits, from its files in ``folder``.

    Args:
        folder: holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, ``t10k-images-idx3-ubyte`` and
            ``t10k-labels-idx1-ubyte``, or those of them that are asked for, with or without ``.gz``.
        train: the 60,000 images to train on, else the 10,000 to test with.

    Returns:
        Examples (image, label): float32 of shape (1, 28, 28) in [0, 1], int64 from 0 to 9.

    Raises:
        DataError: if a file is missing, broken, or does not fit the other.

    Source: Y. LeCun, C. Cortes, C. Burges, http://yann.lecun.com/exdb/mnist/.
    """
    return _images("mnist", folder, train)


def fashion_mnist(folder: str | os.PathLike[str], train: bool = True) -> ArrayDataset:
    """Fashion-MNIST, articles of clothing in ten classes, from files of the same names and form as `mnist`'s.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine
        learning
    algorithms", arXiv:1708.07747.
    """
    return _images("fashion_mnist", folder, train)


def _images(what: str, folder: str | os.PathLike[str], train: bool) -> ArrayDataset:
    part = "train" if train else "t10k"
    names = [f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"]
    found = [
        next((p for p in (Path(folder, n), Path(folder, n + ".gz")) if p.is_file()), None) for n in names
    ]
    missing = [n for n, p in zip(names, found, strict=True) if p is None]
    if missing:
        looked = " and ".join(f"{n} or {n}.gz" for n in missing)
        raise DataError(
            f"{what}: {folder} lacks {looked}; download the files there, or name the folder they are in"
        )
    image_path, label_path = (p for p in found if p is not None)
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise DataError(
            f"{image_path}: holds {images.dtype} of shape {images.shape}, {what} uint8 of (N, 28, 28)"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(f"{label_path}: holds {labels.dtype} of shape {labels.shape}, {what} uint8 of (N,)")
    if len(images) != len(labels):
        raise DataError(f"{image_path} holds {len(images)} images, {label_path} {len(labels)} labels")
    if labels.size and labels.max() > 9:
        raise DataError(f"{label_path}: holds the label {labels.max()}, {what} has 0 to 9")
    scaled = images[:, np.newaxis].astype(np.float32)
    scaled /= 255
    return ArrayDataset(scaled, labels.astype(np.int64))
