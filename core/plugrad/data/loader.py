"""`DataLoader`: batches of a dataset, shuffled, made ahead in a thread, and resumable at any batch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad.backend import resolve_device
from plugrad.convert import asarray
from plugrad.data._generator import Purpose, check_int, check_seed, generator, permutation
from plugrad.data._prefetch import Prefetcher
from plugrad.data.dataset import Dataset, apply, as_dataset
from plugrad.errors import ArgumentError, CheckpointError, DataError

if TYPE_CHECKING:
    from plugrad.spec import Device

__all__ = ["BatchIterator", "DataLoader", "to_tensors"]

_STATE: Final = {"seed": (0, 2**64), "epoch": (0, 2**63), "batch": (0, 2**63)}


class DataLoader:
    """Batches of a dataset: ``for x, y in loader`` goes through it once, an epoch, and gives tensors.

    The order of epoch e is a function of (seed, e) alone, the same on every machine, backend and release of
    NumPy; nothing else draws from the loader's generator. `state_dict` and `load_state_dict` give and take
    the position, and iteration goes on with exactly the batches that would have come.

    ``iter(loader)`` starts the epoch at the loader's position. A loop that is left early ends its epoch: the
    next one starts the next epoch at its first batch (to go on inside the epoch instead, load the state
    again). Two iterators at once each go through their epoch; the newest moves the position.

    Batches are made on the host, in the thread; they are moved to the device where they are asked for, so
    that they follow the modes and the device of the thread that trains.

    Args:
        dataset: a `Dataset`, or anything with ``__len__`` and ``__getitem__`` by integers, such as a list.
        batch_size: examples per batch, at least 1. The last batch of an epoch holds what is left.
        shuffle: draw a new order for each epoch; else the order is that of the dataset.
        drop_last: leave out a last batch of fewer examples.
        seed: of the order and of ``augment``, from 0 to 2**64 - 1.
        prefetch: how many batches a background thread may be ahead; 0 makes each batch when it is asked for.
        collate: makes a batch from a list of examples; without it the dataset's `take` does, which is faster.
        augment: changes each batch at random: gets the batch, a tuple's parts as separate arguments, and
            ``rng``, a `numpy.random.Generator` at a position of its own for each (seed, epoch, batch);
            returns the new batch. So random augmentation is reproducible and resumes too.
        device: where the tensors are made; None is the current device.
        as_tensors: False gives NumPy arrays on the host instead.

    Raises:
        ArgumentError: for an option outside what is taken, and if ``drop_last`` would leave no batch at all.
        DTypeError: if ``dataset`` is none.
        DeviceError: if there is no such device.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        seed: int = 0,
        prefetch: int = 2,
        collate: Callable[[list[Any]], Any] | None = None,
        augment: Callable[..., Any] | None = None,
        device: Device | str | None = None,
        as_tensors: bool = True,
    ) -> None:
        self.dataset: Dataset = as_dataset("DataLoader", dataset)
        self.batch_size = check_int("DataLoader: batch_size", batch_size, 1)
        self.shuffle = bool(shuffle)
        self.drop_last = bool(drop_last)
        self.seed = check_seed("DataLoader", seed)
        self.prefetch = check_int("DataLoader: prefetch", prefetch, 0)
        self.collate = collate
        self.augment = augment
        self.device = None if device is None else resolve_device(device)
        self.as_tensors = bool(as_tensors)
        if self.drop_last and 0 < len(self.dataset) < self.batch_size:
            raise ArgumentError(
                f"DataLoader: drop_last with batch_size {self.batch_size} leaves no batch of "
                f"{len(self.dataset)} examples; take a smaller batch_size or drop_last=False"
            )
        self._epoch = 0
        self._batch = 0
        self._moved = False  # whether the newest iterator has given a batch of this epoch
        self._newest: object | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the position, from 0: how many have been completed or left."""
        return self._epoch

    @property
    def batch(self) -> int:
        """How many batches of the epoch the consumer has been given."""
        return self._batch

    def __len__(self) -> int:
        """Batches per epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> BatchIterator:
        if self._moved:
            self._epoch, self._batch, self._moved = self._epoch + 1, 0, False
        return BatchIterator(self)

    def state_dict(self) -> dict[str, int | bool]:
        """The position and what it depends on, as numbers that fit JSON.

        ``seed``, ``epoch`` and ``batch`` (batches given to the consumer, not those that the thread has ready)
        are the state; ``length``, ``batch_size``, ``shuffle`` and ``drop_last`` say which loader it fits.
        """
        return {"seed": self.seed, "epoch": self._epoch, "batch": self._batch, **self._facts()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `state_dict` gave; the next ``iter(loader)`` starts there. Takes over the
        seed.

        Iterators made before go on, but no longer move the position.

        Raises:
            CheckpointError: if the state is none of a loader with this dataset's length and these options;
                then nothing has changed.
        """
        facts = self._facts()
        if not isinstance(state, Mapping) or state.keys() != {*_STATE, *facts}:
            found = sorted(map(str, state)) if isinstance(state, Mapping) else type(state).__name__
            raise CheckpointError(f"DataLoader: got a state of {found}, takes {sorted({*_STATE, *facts})}")
        other = [f"{k} {state[k]!r}, here {v!r}" for k, v in facts.items() if state[k] != v]
        if other:
            raise CheckpointError(f"DataLoader: the state is of another loader: {'; '.join(other)}")
        try:
            seed, epoch, batch = (check_int(k, state[k], *bounds) for k, bounds in _STATE.items())
        except ArgumentError as error:
            raise CheckpointError(f"DataLoader: the state is broken: {error}") from None
        if batch > len(self):
            raise CheckpointError(f"DataLoader: the state is at batch {batch} of {len(self)}")
        self.seed, self._epoch, self._batch, self._moved = seed, epoch, batch, False
        self._newest = None

    def _facts(self) -> dict[str, int | bool]:
        return {
            "length": len(self.dataset),
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "drop_last": self.drop_last,
        }

    def _host_batches(self, epoch: int, start: int, stop: int) -> Generator[Any, None, None]:
        """The batches ``start`` to ``stop`` - 1 of an epoch, on the host."""
        n, seed = len(self.dataset), self.seed
        order = permutation(n, seed, Purpose.ORDER, epoch) if self.shuffle else np.arange(n)
        for b in range(start, stop):
            rows = order[b * self.batch_size : (b + 1) * self.batch_size]
            try:
                if self.collate is None:
                    batch = self.dataset.take(rows)
                else:
                    batch = self.collate([self.dataset[int(i)] for i in rows])
                if self.augment is not None:
                    batch = apply(self.augment, batch, rng=generator(seed, Purpose.AUGMENT, epoch, b))
            except Exception as error:
                raise DataError(
                    f"DataLoader: making batch {b} of epoch {epoch} raised {type(error).__name__}: {error}"
                ) from error
            yield batch
            del batch  # the consumer's now


class BatchIterator(Iterator[Any]):
    """One pass of a `DataLoader` over its dataset, made by ``iter(loader)``.

    Dropping it ends its thread; `close` does so at once. After an error, KeyboardInterrupt included, it gives
    nothing more, and the loader's position is right behind the last batch that it gave.
    """

    def __init__(self, loader: DataLoader) -> None:
        self._loader = loader
        self._closed = False
        self._token = loader._newest = object()
        source = loader._host_batches(loader.epoch, loader.batch, len(loader))
        self._source: Prefetcher[Any] | Generator[Any, None, None] = source
        if loader.prefetch:
            self._source = Prefetcher(source, loader.prefetch)

    def __next__(self) -> Any:
        """The next batch.

        Raises:
            DataError: if making it raised; the original error is chained.
        """
        if self._closed:
            raise StopIteration
        loader = self._loader
        try:
            batch = next(self._source)
            if loader.as_tensors:
                batch = to_tensors(batch, loader.device)
            if loader._newest is self._token:
                loader._batch, loader._moved = loader._batch + 1, True
            return batch
        except StopIteration:
            self.close()
            if loader._newest is self._token:
                loader._epoch, loader._batch, loader._moved = loader._epoch + 1, 0, False
                loader._newest = None
            raise
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """End the pass and wait until the thread has ended; it finishes only the batch that it is making."""
        self._closed = True
        self._source.close()

    def _stop(self) -> None:
        self._closed = True
        if isinstance(self._source, Prefetcher):
            self._source.stop()


def to_tensors(batch: Any, device: Device | str | None = None) -> Any:
    """``batch`` with every NumPy array in it, in nested tuples, lists and dicts, as a tensor of its dtype.

    Args:
        batch: any value; what is no array or container is passed on.
        device: where the tensors are made; None is the current device.
    """
    if isinstance(batch, (np.ndarray, np.generic)):
        return asarray(batch, device=device)
    if isinstance(batch, (tuple, list)):
        return type(batch)(to_tensors(b, device) for b in batch)
    if isinstance(batch, Mapping):
        return {k: to_tensors(b, device) for k, b in batch.items()}
    return batch
