"""Datasets: a length, examples by number, batches by an array of numbers; all NumPy arrays on the host."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dtypes import as_dtype, promote
from plugrad.errors import ArgumentError, DataError, DTypeError, IndexRangeError, ShapeError

if TYPE_CHECKING:
    from plugrad.data._generator import Indices

__all__ = ["ArrayDataset", "Dataset", "Subset", "as_dataset", "collate"]

Array = np.ndarray[Any, Any]


class Dataset(ABC):
    """Examples that are numbered from 0. A subclass states `__len__` and `__getitem__`; the rest follows.

    An example is an array or a Python number, or a tuple or dict of examples. A subclass that can read many
    examples faster than one by one overrides `take`.
    """

    @abstractmethod
    def __len__(self) -> int:
        """How many examples there are."""

    @abstractmethod
    def __getitem__(self, index: int, /) -> Any:
        """The example of number ``index``.

        Raises:
            IndexRangeError: outside -len to len - 1. Any IndexError ends a ``for`` loop over the dataset.
        """

    def take(self, indices: Any, /) -> Any:
        """The examples of numbers ``indices`` as one batch: like an example, each array with a new first
        axis.

        Args:
            indices: integers of shape (N,), repeats allowed.

        Raises:
            IndexRangeError: if one is outside -len to len - 1.
            DataError: if the examples do not fit each other, or there is none (see `collate`).
        """
        return collate([self[int(i)] for i in check_indices("take", indices, len(self))])

    def map(self, function: Callable[..., Any], *, batched: bool = False) -> Dataset:
        """This dataset with ``function`` applied to each example, whenever it is read.

        Args:
            function: gets an example, a tuple's parts as separate arguments: ``lambda x, y: (2 * x, y)``. It
                returns the new example. It should depend on nothing else: what is random belongs into the
                ``augment`` of a `DataLoader`, which stays reproducible.
            batched: apply it to a whole batch at a time, as `take` gives it, which is faster. It must then
                treat each example alike and keep the first axis.
        """
        return _Mapped(self, function, batched)


class ArrayDataset(Dataset):
    """Examples that are the rows of arrays: number i is element i of the first axis of each.

    The arrays are not copied, and are handed out read-only by ``dataset[i]``; `take` gives arrays of its own.
    Dtypes stay as they are: a float64 array gives float64 batches. Lists of Python numbers become int64 and
    float32, the defaults of the framework.

    Args:
        *arrays: arrays of shape (N, ...), or tensors, which are copied to the host, or nested lists; examples
            are then tuples, also for one array. Or one dict of them; examples are then dicts.

    Attributes:
        arrays: the arrays, as a tuple or as a dict.

    Raises:
        ShapeError: if the arrays differ in N or one has no axis.
        DTypeError: if a dtype is none of the framework's.
        ArgumentError: if there is no array.
    """

    arrays: Any

    def __init__(self, *arrays: Any) -> None:
        named: dict[Any, Array]
        if len(arrays) == 1 and isinstance(arrays[0], Mapping):
            named = {k: _readonly(host_array(f"ArrayDataset: {k!r}", v)) for k, v in arrays[0].items()}
            self.arrays = named
        else:
            named = {i: _readonly(host_array(f"ArrayDataset: array {i}", a)) for i, a in enumerate(arrays)}
            self.arrays = tuple(named.values())
        if not named:
            raise ArgumentError("ArrayDataset: got no array, takes at least one")
        for key, array in named.items():
            if array.ndim == 0:
                raise ShapeError(f"ArrayDataset: array {key!r} has no axis; takes arrays of shape (N, ...)")
        if len({len(a) for a in named.values()}) > 1:
            shapes = ", ".join(f"{key!r}: {a.shape}" for key, a in named.items())
            raise ShapeError(f"ArrayDataset: the arrays differ in length ({shapes}); takes equal first axes")
        self._length = len(next(iter(named.values())))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int, /) -> Any:
        i = check_index("ArrayDataset", index, self._length)
        return self._each(lambda a: a[i])

    def take(self, indices: Any, /) -> Any:
        """The rows ``indices`` of each array, copied; see `Dataset.take`. None of them is a batch of length
        0.
        """
        rows = check_indices("ArrayDataset.take", indices, self._length)
        return self._each(lambda a: a[rows])

    def _each(self, function: Callable[[Array], Any]) -> Any:
        if isinstance(self.arrays, dict):
            return {k: function(a) for k, a in self.arrays.items()}
        return tuple(function(a) for a in self.arrays)


class Subset(Dataset):
    """Some examples of another dataset, in the order given.

    Args:
        dataset: the other dataset.
        indices: integers of shape (N,): the number there of each example here.

    Attributes:
        dataset: the other dataset.
        indices: the numbers, int64 of shape (N,), none negative.

    Raises:
        IndexRangeError: if an index is outside ``dataset``.
    """

    dataset: Dataset
    indices: Indices

    def __init__(self, dataset: Any, indices: Any) -> None:
        self.dataset = as_dataset("Subset", dataset)
        self.indices = check_indices("Subset", indices, len(self.dataset))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Any:
        return self.dataset[int(self.indices[check_index("Subset", index, len(self))])]

    def take(self, indices: Any, /) -> Any:
        """What the other dataset takes at the numbers there; see `Dataset.take`."""
        return self.dataset.take(self.indices[check_indices("Subset.take", indices, len(self))])


class _Mapped(Dataset):
    """See `Dataset.map`."""

    def __init__(self, dataset: Dataset, function: Callable[..., Any], batched: bool) -> None:
        self._dataset = dataset
        self._function = function
        self._batched = batched

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int, /) -> Any:
        i = check_index("map", index, len(self))
        if self._batched:
            return _first(apply(self._function, self._dataset.take([i])))
        return apply(self._function, self._dataset[i])

    def take(self, indices: Any, /) -> Any:
        if self._batched:
            return apply(self._function, self._dataset.take(indices))
        return super().take(indices)


class _Listed(Dataset):
    """A sequence of examples."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self._examples = examples

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int, /) -> Any:
        return self._examples[check_index("dataset", index, len(self._examples))]


def as_dataset(what: str, value: Any) -> Dataset:
    """``value`` if it is a `Dataset`, else a dataset of the examples that it holds.

    Args:
        what: who asks, for the error.
        value: a `Dataset`, or anything with ``__len__`` and ``__getitem__`` by integers, such as a list.

    Raises:
        DTypeError: for anything else, and for a tuple or dict, which is more likely one of arrays.
    """
    if isinstance(value, Dataset):
        return value
    if isinstance(value, tuple):
        raise DTypeError(
            f"{what}: got a tuple, takes a dataset; write ArrayDataset(*arrays), or a list of examples"
        )
    if isinstance(value, Mapping):
        raise DTypeError(f"{what}: got a {type(value).__name__}, takes a dataset; write ArrayDataset(arrays)")
    if not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise DTypeError(
            f"{what}: got {type(value).__name__}, takes a dataset: __len__ and __getitem__ by integers"
        )
    return _Listed(value)


def collate(examples: Sequence[Any]) -> Any:
    """A batch from a list of examples: like an example, each array with a new first axis.

    Arrays keep their dtype, and where dtypes differ take the one that they promote to. Python numbers become
    int64, float32 and bool. Tensors are copied to the host. Lists are taken as arrays.

    Args:
        examples: arrays or Python numbers, or tuples or dicts of them, all alike; at least one.

    Raises:
        ShapeError: if arrays that should be stacked differ in shape.
        DTypeError: if a value is no number or array of the framework's dtypes.
        DataError: if there is no example, or one differs in structure from the first.
    """
    if not examples:
        raise DataError("collate: got no example, takes at least one: without one a batch has no shape")
    first = examples[0]
    if isinstance(first, tuple):
        if any(not isinstance(e, tuple) or len(e) != len(first) for e in examples):
            raise DataError(f"collate: the first example is a tuple of {len(first)}, another is not")
        return tuple(collate([e[i] for e in examples]) for i in range(len(first)))
    if isinstance(first, Mapping):
        if any(not isinstance(e, Mapping) or e.keys() != first.keys() for e in examples):
            raise DataError(f"collate: the first example is a dict of {list(first)}, another is not")
        return {k: collate([e[k] for e in examples]) for k in first}
    if any(isinstance(e, (tuple, Mapping)) for e in examples):
        raise DataError("collate: the first example is an array or a number, another is a tuple or a dict")
    arrays = [host_array("collate", e) for e in examples]
    if len({a.shape for a in arrays}) > 1:
        shapes = " and ".join(str(s) for s in sorted({a.shape for a in arrays})[:4])
        raise ShapeError(
            f"collate: examples differ in shape ({shapes}); pad or crop them to one, or pass collate="
        )
    dtype = promote(*(as_dtype(d) for d in dict.fromkeys(a.dtype for a in arrays)))
    return np.stack([a.astype(dtype.numpy, copy=False) for a in arrays])


def apply(function: Callable[..., Any], example: Any, **options: Any) -> Any:
    """``function`` of an example or a batch, with a tuple's parts as separate arguments."""
    return function(*example, **options) if isinstance(example, tuple) else function(example, **options)


def _first(batch: Any) -> Any:
    """The only example of a batch of one."""
    if isinstance(batch, tuple):
        return tuple(_first(b) for b in batch)
    if isinstance(batch, Mapping):
        return {k: _first(b) for k, b in batch.items()}
    return batch[0]


def _readonly(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _holds_numpy(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_numpy, value))
    return isinstance(value, (np.ndarray, np.generic))


def host_array(what: str, value: Any) -> Array:
    """``value`` as a NumPy array of one of the framework's dtypes, in native byte order, not copied if it is
    one.

    Raises:
        ShapeError: if it is a ragged list.
        DTypeError: if its dtype is none of the framework's.
    """
    if isinstance(value, (np.ndarray, np.generic)):
        array: Array = np.asarray(value)
    elif hasattr(value, "numpy"):
        array = np.asarray(value.numpy())
    else:
        try:
            array = np.array(value)
        except ValueError as error:
            raise ShapeError(f"{what}: got a ragged list, takes one whose rows are of equal shape") from error
        if array.dtype.kind in "if" and not _holds_numpy(value):
            array = array.astype(np.int64 if array.dtype.kind == "i" else np.float32)
    try:
        dtype = as_dtype(array.dtype)
    except DTypeError as error:
        raise DTypeError(f"{what}: got {type(value).__name__} of dtype {array.dtype}: {error}") from None
    return array.astype(dtype.numpy, copy=False)


def check_index(what: str, index: Any, length: int) -> int:
    """``index`` as a number from 0 to length - 1; a negative one counts from the end.

    Raises:
        IndexRangeError: if it is outside -length to length - 1.
        DTypeError: if it is no integer.
    """
    try:
        i = operator.index(index)
    except TypeError:
        raise DTypeError(
            f"{what}: got the index {index!r}, takes an integer; take(indices) and Subset take several"
        ) from None
    if not -length <= i < length:
        raise IndexRangeError(f"{what}: index {i} is outside the {length} examples")
    return i + length if i < 0 else i


def check_indices(what: str, indices: Any, length: int) -> Indices:
    """``indices`` as int64 of shape (N,), from 0 to length - 1; negative ones count from the end.

    Raises:
        IndexRangeError: if one is outside -length to length - 1.
        ShapeError: if they have another number of axes.
        DTypeError: if they are no integers.
    """
    array = host_array(what, indices)
    if array.ndim != 1:
        raise ShapeError(f"{what}: got indices of shape {array.shape}, takes shape (N,)")
    if array.size and array.dtype.kind not in "iu":
        fix = "; numpy.flatnonzero(mask) makes indices from a mask" if array.dtype.kind == "b" else ""
        raise DTypeError(f"{what}: got indices of dtype {array.dtype}, takes integers{fix}")
    outside = (array < -length) | (array >= length)
    if outside.any():
        raise IndexRangeError(f"{what}: index {int(array[outside][0])} is outside the {length} examples")
    result: Indices = array.astype(np.int64)
    result[result < 0] += length
    return result
