"""Random numbers, drawn from the counter-based generator of `plugrad.ops.drawing`.

A `Generator` has a stream for each device: a key, made of its seed and the device's index, and a counter. Both are
tensors on that device. A draw takes what the counter says and moves it on by as many blocks as it needs, so that
no two draws share bits, in one thread or in several. The same seed gives the same bits on every backend; floating
numbers are made of them by the same operations everywhere, and agree to rounding.

The functions draw from the generator of the process unless another one is given. It is seeded by the operating
system; `manual_seed` makes a run repeatable::

    plugrad.random.manual_seed(0)
    x = plugrad.random.normal((3, 4))

`plugrad.checkpoint` repeats the draws of what it computes again: a counter is a tensor that a draw rebinds.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from plugrad import ops
from plugrad.backend import resolve_device
from plugrad.backend.null import NULL
from plugrad.convert import asarray, to_host
from plugrad.dispatch.modes import changed, local
from plugrad.dispatch.tracing import refuse
from plugrad.dtypes import DType, as_dtype, float32, int64
from plugrad.errors import ArgumentError, DeviceError
from plugrad.ops.drawing import (
    bernoulli_words,
    integers_words,
    normal_words,
    permutation_words,
    uniform_words,
)
from plugrad.spec import Device, Shape

if TYPE_CHECKING:
    from plugrad.tensor import Tensor

ShapeLike = int | Sequence[int]

_PURPOSE: Final = 0x706C7567
"""The upper word of the counters that make keys from seeds; what is drawn for users starts at counter 0."""


class Generator:
    """A source of random numbers: a stream for each device, all made from one seed.

    A generator may be used by several threads; each draw is a part of the stream of its own. Which thread gets
    which part depends on their order: for draws that can be repeated, give each thread a generator (`split`).
    While a thread computes a `plugrad.checkpoint` again, the counter is back where it was then, and a draw of
    another thread from the same generator repeats numbers.
    """

    def __init__(self, seed: int | None = None, device: Device | str | None = None) -> None:
        """Make a generator.

        Args:
            seed: an int from 0 to 2**64 - 1; by default the operating system gives one.
            device: the one device that this generator draws on; by default any.

        Raises:
            ArgumentError: if ``seed`` is no such int.
            DeviceError: if there is no such device.
        """
        self._seed = secrets.randbits(64) if seed is None else _checked_seed("Generator", seed)
        self._device = None if device is None else resolve_device(device)
        self._streams: dict[Device, _Stream] = {}
        # Counters of devices that were not drawn on yet, by the text of the device.
        self._waiting: dict[str, list[int]] = {}
        self._lock = threading.Lock()
        # A generator that a captured function makes is its own; the streams of another outlive the function.
        self._captured = local.modes.capturing

    @property
    def seed(self) -> int:
        """The seed."""
        return self._seed

    @property
    def device(self) -> Device | None:
        """The one device that this generator draws on, or None for any."""
        return self._device

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed``; returns this generator.

        Raises:
            ArgumentError: if ``seed`` is no int from 0 to 2**64 - 1.
        """
        seed = _checked_seed("manual_seed", seed)
        self._check_own("is seeded")
        self._restart(seed, {})
        return self

    def draw(self, words: int, device: Device | str | None = None) -> tuple[Tensor, Tensor]:
        """Take a part of the stream of a device, for an op that takes a key and a counter.

        Args:
            words: how many words of 32 bits the op needs.
            device: by default that of this generator, else the current one.

        Returns:
            The key, uint32 (2,), and the counter, uint32 (4,), on the device. The key is the generator's own cell:
            hand it to the op, and do not keep it.

        Raises:
            DeviceError: if the generator is of another device.
        """
        where = self._device if device is None and self._device is not None else resolve_device(device)
        if self._device is not None and where is not self._device:
            raise DeviceError(
                f"random: the generator is of {self._device}, numbers on {where} are asked for; "
                "draw on its device and move them with .to(device), or make a generator for any device"
            )
        with self._lock:
            stream = self._streams.get(where) or self._add(where)
            start, following = ops.advance_counter(stream.counter, blocks=-(-words // 4))
            stream.counter.assign(following)
        return stream.key, start

    def split(self, n: int) -> list[Generator]:
        """``n`` new generators of the same device, or of any, with seeds drawn from this one.

        Raises:
            ArgumentError: if ``n`` is negative or no int.
        """
        if not isinstance(n, int) or isinstance(n, bool) or n < 0:
            raise ArgumentError(f"split: takes an int of at least 0, got {n!r}")
        key, counter = self.draw(2 * n)
        words = to_host(ops.random_bits(key, counter, shape=(n, 2))).tolist()
        return [Generator(low + (high << 32), self._device) for low, high in words]

    def state_dict(self) -> dict[str, Any]:
        """Where this generator is, as JSON takes it: the seed, and the counter of each device drawn on."""
        with self._lock:
            counters = dict(self._waiting)
            for device, stream in self._streams.items():
                if device.name != NULL:  # which has no values, and nothing to go on from
                    counters[str(device)] = to_host(stream.counter).tolist()
        return {
            "seed": self._seed,
            "device": None if self._device is None else str(self._device),
            "counters": counters,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where the generator was that gave ``state``; devices that are not there do not matter.

        Raises:
            ArgumentError: if ``state`` is none, or that of a generator of another device; nothing changes then.
        """
        seed, device, counters = _checked_state(state)
        self._check_own("is set back")
        own = None if self._device is None else str(self._device)
        if device != own:
            raise ArgumentError(
                f"random state: it is of a generator of {device or 'any device'}, this one is of {own or 'any device'}"
            )
        self._restart(seed, counters)

    def _check_own(self, what: str) -> None:
        if not self._captured:
            refuse(f"a generator from outside {what}", "do it before the call", "where it would be done once")

    def _restart(self, seed: int, counters: Mapping[str, list[int]]) -> None:
        """Set every stream in place: what was captured keeps its cells."""
        with self._lock:
            self._seed = seed
            waiting = dict(counters)
            for device, stream in self._streams.items():
                stream.key.assign(_key(seed, device.index, device))
                stream.counter.assign(_words(waiting.pop(str(device), [0] * 4), device))
            self._waiting = waiting

    def _add(self, device: Device) -> _Stream:
        counter = self._waiting.pop(str(device), [0] * 4)
        with changed(capturing=self._captured, recording=False, observer=None):
            key = _key(self._seed, device.index, device)
            stream = self._streams[device] = _Stream(key, _words(counter, device))
        return stream

    def __reduce__(self) -> Any:
        return _restored, (self.state_dict(),)

    def __repr__(self) -> str:
        place = "" if self._device is None else f", device='{self._device}'"
        return f"Generator(seed={self._seed}{place})"


class _Stream:
    """The cells of one device."""

    __slots__ = ("counter", "key")

    def __init__(self, key: Tensor, counter: Tensor) -> None:
        self.key = key
        self.counter = counter


def _restored(state: dict[str, Any]) -> Generator:
    generator = Generator(0, state["device"])
    generator.load_state_dict(state)
    return generator


def _words(values: Sequence[int], device: Device) -> Tensor:
    return asarray(np.array(values, np.uint32), device=device)


def _key(seed: int, index: int, device: Device) -> Tensor:
    """The key of the stream of a device of this index: words of a block whose key is the seed."""
    words = _words([seed & 0xFFFFFFFF, seed >> 32], device)
    return ops.random_bits(words, _words([index, 0, 0, _PURPOSE], device), shape=(2,))


def _checked_seed(name: str, seed: Any) -> int:
    if isinstance(seed, np.integer):
        seed = int(seed)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        raise ArgumentError(f"{name}: seed takes an int from 0 to 2**64 - 1, got {seed!r}")
    return seed


def _checked_state(state: Any) -> tuple[int, str | None, dict[str, list[int]]]:
    try:
        seed, device, counters = (
            _checked_seed("random state", state["seed"]),
            state["device"],
            state["counters"],
        )
        good = device is None or isinstance(device, str)
        for name, words in counters.items():
            good = good and isinstance(name, str) and len(words) == 4
            good = good and all(isinstance(w, int) and 0 <= w < 1 << 32 for w in words)
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good:
        raise ArgumentError(f"random state: takes what state_dict() or get_state() gives, got {state!r}")
    return seed, device, {name: list(words) for name, words in counters.items()}


# -- the generator of the process -------------------------------------------------------------------------


class _Local(threading.local):
    generator: Generator | None = None


_process: Final = Generator()
_local: Final = _Local()


def default_generator() -> Generator:
    """The generator that the functions draw from where none is given."""
    return _local.generator or _process


def manual_seed(seed: int) -> Generator:
    """Start the default generator again from ``seed``, on every device; returns it.

    Args:
        seed: an int from 0 to 2**64 - 1.

    Raises:
        ArgumentError: if ``seed`` is no such int.
    """
    return default_generator().manual_seed(seed)


def get_state() -> dict[str, Any]:
    """Where the default generator is, as JSON takes it; for `set_state` and `replayed`."""
    return default_generator().state_dict()


def set_state(state: Mapping[str, Any]) -> None:
    """Go to where the default generator was when `get_state` gave ``state``.

    Raises:
        ArgumentError: if ``state`` is none; nothing changes then.
    """
    default_generator().load_state_dict(state)


@contextmanager
def replayed(state: Mapping[str, Any]) -> Iterator[Generator]:
    """While the block runs, draws of this thread are those that followed when `get_state` gave ``state``.

    The default generator itself does not move: after the block it goes on from where it was before, and other
    threads draw from it meanwhile.

    Args:
        state: what `get_state` gave.

    Raises:
        ArgumentError: if ``state`` is none.
    """
    generator = Generator(0)
    generator.load_state_dict(state)
    before, _local.generator = _local.generator, generator
    try:
        yield generator
    finally:
        _local.generator = before


def draw(
    words: int, device: Device | str | None = None, *, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """The key and the counter for an op that takes ``words`` random words; see `Generator.draw`."""
    return (generator or default_generator()).draw(words, device)


# -- what people draw -------------------------------------------------------------------------------------


def _shape(shape: ShapeLike) -> Shape:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _size(shape: Shape) -> int:
    n = 1
    for length in shape:
        n *= length
    return n


def uniform(
    shape: ShapeLike = (),
    low: float = 0.0,
    high: float = 1.0,
    *,
    dtype: DType | str = float32,
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Numbers that are uniform in [low, high); see `random_uniform`.

    Args:
        shape: of the result.
        low: the smallest number.
        high: the limit, which is not reached.
        dtype: a floating dtype.
        device: by default the generator's, else the current one.
        generator: what to draw from; by default `default_generator`.

    Raises:
        ArgumentError: if ``low`` is not less than ``high`` in the dtype.
        DTypeError: if the dtype is not floating.
    """
    shape, dtype = _shape(shape), as_dtype(dtype)
    key, counter = draw(uniform_words(_size(shape), dtype), device, generator=generator)
    return ops.random_uniform(key, counter, shape=shape, dtype=dtype, low=low, high=high)


def normal(
    shape: ShapeLike = (),
    mean: float = 0.0,
    std: float = 1.0,
    *,
    dtype: DType | str = float32,
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Numbers of the normal distribution; see `random_normal`.

    Args:
        shape: of the result.
        mean: the mean.
        std: the standard deviation.
        dtype: a floating dtype.
        device: by default the generator's, else the current one.
        generator: what to draw from; by default `default_generator`.

    Raises:
        DTypeError: if the dtype is not floating.
    """
    shape, dtype = _shape(shape), as_dtype(dtype)
    key, counter = draw(normal_words(_size(shape), dtype), device, generator=generator)
    return ops.random_normal(key, counter, shape=shape, dtype=dtype, mean=mean, std=std)


def bernoulli(
    shape: ShapeLike = (),
    p: float = 0.5,
    *,
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Whether events of probability ``p`` happen, as bool; see `random_bernoulli`.

    Args:
        shape: of the result.
        p: the probability of True, from 0 to 1. For probabilities in a tensor write ``uniform(p.shape) < p``.
        device: by default the generator's, else the current one.
        generator: what to draw from; by default `default_generator`.

    Raises:
        ArgumentError: if ``p`` is no probability.
    """
    shape = _shape(shape)
    key, counter = draw(bernoulli_words(_size(shape)), device, generator=generator)
    return ops.random_bernoulli(key, counter, shape=shape, p=p)


def integers(
    shape: ShapeLike,
    low: int,
    high: int,
    *,
    dtype: DType | str = int64,
    device: Device | str | None = None,
    generator: Generator | None = None,
) -> Tensor:
    """Integers of [low, high), equally likely to within a factor of 1 - 2**-32 to 1 + 2**-32; see `random_integers`.

    Args:
        shape: of the result.
        low: the smallest integer.
        high: the limit, which is not reached.
        dtype: an integer dtype.
        device: by default the generator's, else the current one.
        generator: what to draw from; by default `default_generator`.

    Raises:
        ArgumentError: if ``low`` is not less than ``high``, or the dtype does not hold them.
        DTypeError: if the dtype is not an integer one.
    """
    shape = _shape(shape)
    key, counter = draw(integers_words(_size(shape), low, high), device, generator=generator)
    return ops.random_integers(key, counter, shape=shape, low=low, high=high, dtype=dtype)


def permutation(n: int, *, device: Device | str | None = None, generator: Generator | None = None) -> Tensor:
    """The numbers 0 to n - 1 in random order, int64 (n,); see `random_permutation`.

    Args:
        n: how many.
        device: by default the generator's, else the current one.
        generator: what to draw from; by default `default_generator`.

    Raises:
        ArgumentError: if ``n`` is negative.
    """
    key, counter = draw(permutation_words(n), device, generator=generator)
    return ops.random_permutation(key, counter, n=n)


__all__ = [
    "Generator",
    "bernoulli",
    "default_generator",
    "draw",
    "get_state",
    "integers",
    "manual_seed",
    "normal",
    "permutation",
    "replayed",
    "set_state",
    "uniform",
]
