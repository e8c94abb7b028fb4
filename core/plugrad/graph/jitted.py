"""`jit`: a function that is captured once for each signature, and replayed from then on."""

from __future__ import annotations

import functools
import inspect
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from plugrad import tree
from plugrad.backend import current_device
from plugrad.dispatch.call import attribute_key
from plugrad.dispatch.data import TensorData
from plugrad.dispatch.modes import Modes, local
from plugrad.dispatch.tracing import capture_error
from plugrad.errors import ArgumentError
from plugrad.graph.capture import Capture
from plugrad.graph.captured import Captured
from plugrad.graph.profile import Profile, Roofline
from plugrad.graph.trace import CELLS

P = ParamSpec("P")
R = TypeVar("R")

RUNS: Final = 20
"""Calls that a profile is the median of."""

CAPTURES: Final = 16
"""Captures that a function keeps; beyond it the oldest goes."""

_STATIC: Final = (str, int, float, bool, type(None))


class Jitted(Generic[P, R]):
    """A captured function; see `jit`."""

    def __init__(self, fn: Callable[P, R], *, exact: bool = False) -> None:
        self._fn = fn
        self._exact = exact
        self._captures: dict[Any, list[Captured]] = {}
        self._lock = threading.RLock()
        self._warned = False
        self._name = str(getattr(fn, "__name__", type(fn).__name__))
        # Without its attributes: the function may be a module.
        functools.update_wrapper(self, fn, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Replay the capture of this signature, or capture it first."""
        found = self._found(args, kwargs)
        if found is None:
            return self._fn(*args, **kwargs)
        ready, leaves = found
        if ready.capture.assigns:
            with CELLS:  # two threads that read and then assign take turns
                result: R = ready.replay(leaves, self._fn)
        else:
            result = ready.replay(leaves, self._fn)
        return result

    def _found(self, args: Any, kwargs: Any) -> tuple[Captured, Sequence[Any]] | None:
        """The capture of a signature, made if there is none, and the leaves of the arguments; None to run eagerly."""
        modes = local.modes
        if modes.capturing or modes.anomaly or modes.observer is not None:
            return None
        if not _enabled():
            return None
        leaves: Sequence[Any]
        if not kwargs and all(isinstance(a, TensorData) for a in args):
            # Nothing but tensors, by position: what they are is all that there is to tell.
            leaves, structure = args, _positional(len(args))
            key: Any = (*[a._key for a in args], modes, current_device())
        else:
            leaves, structure = tree.flatten((args, kwargs))
            key = (structure, tuple(map(_key, leaves)), modes, current_device())
        for ready in self._captures.get(key, ()):
            if ready.capture.holds(leaves):
                return ready, leaves
        return self._capture(key, structure, leaves, modes), leaves

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method that is captured: the object is an argument, known by its identity."""
        return self if instance is None else functools.partial(self, instance)

    def info(self) -> list[str]:
        """A line for each capture: its signature, its nodes."""
        with self._lock:
            return [c.described for captures in self._captures.values() for c in captures]

    def captures(self) -> list[Captured]:
        """The captures with their plans, by signature, the oldest of each first."""
        with self._lock:
            return [c for captures in self._captures.values() for c in reversed(captures)]

    def profile(self, *args: P.args, **kwargs: P.kwargs) -> Profile:
        """Call the function `RUNS` times, and time each node of its plan.

        The calls do what calls do: a training step that is profiled trains.

        Returns:
            The profile of the plan; that of a backward which runs outside is not in it.

        Raises:
            CaptureError: if the function cannot be captured, or is not, as under `detect_anomaly`.
        """
        for _ in range(2):  # the first call learns what the second one uses
            self(*args, **kwargs)
        times: list[Sequence[float]] = []
        profiled: Captured | None = None
        for _ in range(RUNS):
            found = self._found(args, kwargs)
            if found is None:
                raise capture_error(f"jit: {self._name} is not captured here, so it has no plan to profile")
            ready, leaves = found
            if ready is not profiled:  # what it read has changed: another plan runs from here on
                profiled, times = ready, []
            with CELLS:
                ready.replay(leaves, self._fn, times)
        assert profiled is not None
        return Profile(profiled.plan, times, Roofline.measure(profiled.backend, profiled.device))

    def _capture(self, key: Any, structure: tree.Structure, leaves: Sequence[Any], modes: Modes) -> Captured:
        with self._lock:
            for ready in self._captures.get(key, ()):  # another thread's
                if ready.capture.holds(leaves):
                    return ready
            ready = Captured(Capture(self._fn, structure, leaves), leaves, modes, exact=self._exact)
            self._captures.setdefault(key, []).insert(0, ready)
            if sum(map(len, self._captures.values())) > CAPTURES:
                oldest = next(iter(self._captures))
                self._captures[oldest].pop()
                if not self._captures[oldest]:
                    del self._captures[oldest]
                if not self._warned:
                    self._warned = True
                    warnings.warn(
                        f"jit: {self._name} was captured more than {CAPTURES} times: its shapes or static "
                        "arguments change all the time; pad to few shapes, or pass changing numbers as tensors",
                        stacklevel=4,
                    )
            return ready


@functools.cache
def _positional(count: int) -> tree.Structure:
    """The structure of the arguments of a call with this many positional ones that are leaves."""
    return tree.flatten(((None.__class__,) * count, {}))[1]


def _key(leaf: Any) -> Any:
    if isinstance(leaf, TensorData):
        return leaf._key
    if isinstance(leaf, _STATIC):
        return attribute_key(leaf)
    try:
        hash(leaf)
    except TypeError:
        raise capture_error(
            f"jit: an argument of type {type(leaf).__name__} cannot be told from another one; pass tensors, numbers, "
            "strings, or an object that can be hashed"
        ) from None
    return type(leaf), leaf


def _enabled() -> bool:
    return os.environ.get("PLUGRAD_JIT", "1") != "0"


@overload
def jit(fn: Callable[P, R], /, *, exact: bool = False) -> Jitted[P, R]: ...


@overload
def jit(*, exact: bool = False) -> Callable[[Callable[P, R]], Jitted[P, R]]: ...


def jit(fn: Callable[..., Any] | None = None, /, *, exact: bool = False) -> Any:
    """Capture a function: it runs once for each signature, and what it computed is replayed from then on.

    A whole training step can be captured, as it is written for eager mode::

        @plugrad.jit
        def step(images, labels):
            optimizer.zero_grad()
            loss = loss_fn(model(images), labels)
            loss.backward()
            optimizer.step()
            return loss

    The signature is what the arguments are: shapes, dtypes and devices of tensors, the values of numbers and
    strings, the identity of other objects; and the modes and the device of the thread. Tensors that the function
    reads from outside, such as parameters, are read anew at each call, and those that it assigns are assigned.
    Attributes of modules and the settings of optimizers are watched: where they change, the function is captured
    again. Whatever else it reads of Python, a global number, the time, is a constant from the capture on.

    Gradients go through the results as through those of any op, once: a second derivative is taken inside. A
    captured function that is called inside another one is a part of that. Under `detect_anomaly` and an observer, and
    where the environment variable ``PLUGRAD_JIT`` is 0, the function runs as it is.

    Args:
        fn: a function of trees of tensors (see `plugrad.tree`) and of static arguments; None for a decorator with
            options, ``@plugrad.jit(exact=True)``.
        exact: whether results are those of eager mode bit for bit. Else they agree within the tolerance of each op:
            regions of the graph run part by part, and the kernels of a part may add in another order.

    Returns:
        A function that does the same.

    Raises:
        ArgumentError: if ``fn`` is no function that can be captured.
        CaptureError: when it is called, for what a captured function cannot do: branch on a value, read one, use a
            shape that depends on values, move to another device. Nothing outside has changed then.
    """
    if fn is None:
        return functools.partial(jit, exact=exact)
    if not callable(fn):
        raise ArgumentError(f"jit: takes a function, got {type(fn).__name__}")
    if any(
        kind(fn)
        for kind in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    ):
        raise ArgumentError(
            f"jit: {fn.__name__} is a generator or coroutine, which cannot be captured: return a list"
        )
    return Jitted(fn, exact=exact)
