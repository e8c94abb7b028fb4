"""`jit`: a function that is captured once for each signature, and replayed from then on."""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from plugrad import tree
from plugrad.backend import backend_of, current_device
from plugrad.dispatch.call import attribute_key
from plugrad.dispatch.cells import rebind, set_grad, unwatched
from plugrad.dispatch.data import TensorData, wrap
from plugrad.dispatch.modes import Modes, local
from plugrad.dispatch.record import Function, Origin, Slot
from plugrad.dispatch.tracing import capture_error
from plugrad.errors import ArgumentError, GradientError
from plugrad.graph.capture import Assignment, Capture
from plugrad.graph.ir import Graph, Node
from plugrad.graph.passes import Context, run_passes
from plugrad.graph.plan import Plan
from plugrad.graph.profile import Profile, Roofline
from plugrad.graph.trace import CELLS
from plugrad.spec import Tracked

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
        if modes.capturing or modes.anomaly or modes.fallback is not None or modes.observer is not None:
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
        ready = next((c for c in self._captures.get(key, ()) if c.capture.holds(leaves)), None)
        return ready or self._capture(key, structure, leaves, modes), leaves

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


class Captured:
    """A capture with its plans.

    Attributes:
        capture: what the function computed, and what its inputs and outputs are bound to.
        device: where it runs.
        plan: what a call runs.
        pull_plan: what a backward through the results runs; None where none can.
        backend: of the device.
        modes: those of the thread that captured it.
        exact: whether its results are those of eager mode bit for bit.
        described: the signature and the size, for people.
    """

    def __init__(self, capture: Capture, leaves: Sequence[Any], modes: Modes, *, exact: bool = False) -> None:
        self.capture = capture
        self.exact = exact
        graph = capture.graph
        self.device = next((v.spec.device for v in graph.inputs), None) or current_device()
        self.backend = backend_of(self.device)
        self.modes = modes
        forward = graph.nodes[: capture.forward_nodes]
        self._split(forward)
        self._aims: list[tuple[Assignment, int, int]] = []
        self._bindings = [
            (a, None if a.output is None else self._place[a.output]) for a in capture.assignments
        ]
        self._read = {output for output, before in self._replaced().items() if before is not None}
        self._assigned = {self._place[a.output]: a for a in capture.assignments if a.output is not None}
        shown = ", ".join(str(x.spec) if isinstance(x, TensorData) else repr(x)[:20] for x in leaves)
        self.described = f"({shown}): {len(self.plan.graph)} nodes"

    def _split(self, forward: list[Node]) -> None:
        capture, graph = self.capture, self.capture.graph
        backward = graph.nodes[capture.forward_nodes :]
        made_later = {v for n in backward for v in n.results}
        cotangents = [graph.inputs[i] for i in capture.cotangents]
        gradients = [None if i is None else graph.outputs[i] for i in capture.gradients]
        late = {v for v in gradients if v is not None and (v in made_later or v in cotangents)}
        first = [v for v in graph.outputs if v not in made_later and v not in cotangents]
        index = {v: i for i, v in enumerate(graph.outputs)}
        self._place = {index[v]: i for i, v in enumerate(first)}
        wanted = dict.fromkeys(v for n in backward for v in n.reads())
        wanted.update(dict.fromkeys(v for v in gradients if v is not None and v not in late))
        residuals = [v for v in wanted if v not in made_later and v not in cotangents]
        self._first = len(first)
        early = [v for v in graph.inputs if v not in cotangents]
        self._inputs = {v.index: i for i, v in enumerate(early)}
        self.plan = self._planned(
            Graph.of(early, forward, [*first, *residuals], graph.constants), self._replaced()
        )
        self.pull_plan: Plan | None = None
        if capture.followed and not capture.spent:
            outputs = [v for v in gradients if v is not None]
            self.pull_plan = self._planned(
                Graph.of([*residuals, *cotangents], backward, outputs, graph.constants)
            )

    def _planned(self, graph: Graph, replaced: dict[int, int | None] | None = None) -> Plan:
        ready = run_passes(graph, Context(self.backend, self.modes, self.exact))
        return Plan(ready, self.backend, self.modes, replaced)

    def _replaced(self) -> dict[int, int | None]:
        """By the index of an output that is assigned, the input that is what it replaces."""
        capture = self.capture
        cells = {id(cell): self._inputs[index] for cell, index, _ in capture.cells}
        read = {leaf for leaf, index in capture.grads if index is not None}
        found: dict[int, int | None] = {}
        for a in capture.assignments:
            if a.output is not None and (a.leaf is None or a.leaf not in read):
                found[self._place[a.output]] = None if a.cell is None else cells.get(id(a.cell))
        return found

    def _targets(self) -> list[Any]:
        """Memory for what is assigned: that of what it replaces, where nothing else holds it, or new."""
        plan, exclusive = self.plan, self.backend.exclusive
        if len(self._aims) != len(plan.targets):
            self._aims = [(self._assigned[o], o, 2 + (o in self._read)) for o in plan.targets]
        found: list[Any] = []
        for a, _, references in self._aims:
            # References: those of the tensor and of this name, and that of the inputs where it is one; an argument
            # may be the same tensor.
            array = None
            if a.cell is not None:
                array = a.cell._array
            else:
                grad = a.leaf.grad  # type: ignore[union-attr]
                if grad is not None and grad._key is a.key and sys.getrefcount(grad) == _HELD_ONCE:
                    array = grad._array
                grad = None
            if array is not None and not exclusive(array, references):
                array = None
            found.append(array)
        for column in plan.columns:
            if self.backend.joined([found[i] for i in column]) is None:
                new = plan.new_column([plan.targets[i] for i in column])
                for i, array in zip(column, new, strict=True):
                    found[i] = array
        return [plan.new_target(o) if a is None else a for a, o in zip(found, plan.targets, strict=True)]

    def _assign(self, arrays: Sequence[Any]) -> None:
        """Bind cells and gradients to what was computed."""
        quiet = unwatched()
        for a, place in self._bindings:
            array = None if place is None else arrays[place]
            cell, leaf = a.cell, a.leaf
            if cell is not None:
                if quiet and cell._key is a.key:
                    cell._array = array
                else:
                    assert a.key is not None
                    rebind(cell, array, a.key, cell._node if isinstance(a.key, Tracked) else None)
                continue
            assert leaf is not None
            held = leaf.grad
            # A gradient that was written over is held already.
            if not quiet or array is None or held is None or held._array is not array:
                set_grad(leaf, None if array is None else wrap(array, leaf.spec))

    def replay(
        self, leaves: Sequence[Any], fn: Callable[..., Any], times: list[Sequence[float]] | None = None
    ) -> Any:
        """Run the plan on the arguments and on what the cells hold now; bind what it assigns.

        Args:
            leaves: the arguments.
            fn: the function, for its name.
            times: where the seconds of each node are added, if they are wanted.
        """
        capture, places = self.capture, self._inputs
        inputs: list[Any] = [None] * len(places)
        tensors = (x for x in leaves if isinstance(x, TensorData))
        for index, x in zip(capture.arguments, tensors, strict=True):
            inputs[places[index]] = x._array
        with CELLS:
            for cell, index, _ in capture.cells:
                inputs[places[index]] = cell._array
            for leaf, place in capture.grads:
                if place is not None:
                    inputs[places[place]] = leaf.grad._array  # type: ignore[union-attr]
        for i, place in capture.argument_grads:
            if place is not None:
                inputs[places[place]] = leaves[i]._node.grad._array
        if times is None:
            arrays = self.plan.run(inputs, self._targets())
        else:
            arrays, seconds = self.plan.timed(inputs, self._targets())
            times.append(seconds)
        self._assign(arrays)
        if capture.argument_assignments:
            capture.bind_arguments(leaves, lambda output: arrays[self._place[output]])
        results = list(capture.leaves)
        for i, argument in capture.passed:
            results[i] = leaves[argument]
        for i in capture.tensors:
            spec = capture.specs[i]
            assert spec is not None
            results[i] = wrap(arrays[self._place[results[i]]], spec)
        if capture.followed:
            self._record(results, arrays[self._first :], fn, leaves)
        return results[0] if capture.structure.kind is None else tree.unflatten(capture.structure, results)

    def _record(
        self,
        results: list[Any],
        residuals: Sequence[Any],
        fn: Callable[..., Any],
        leaves: Sequence[Any],
    ) -> None:
        """Let gradients go through the results: one node, whose backward is a plan."""
        capture, plan = self.capture, self.pull_plan
        parents = tuple(
            leaves[capture.own[i]]._node if i in capture.own else p for i, p in enumerate(capture.parents)
        )
        specs = tuple(results[i].spec for i in capture.followed)
        name = getattr(fn, "__name__", "a captured function")

        def back(cts: Sequence[Any], create: bool) -> list[Any]:
            assert plan is not None
            arrays = iter(plan.run([*residuals, *(c._array for c in cts)]))
            found = [
                None if i is None else wrap(next(arrays), capture.graph.outputs[i].spec)
                for i in capture.gradients
            ]
            if create:
                _end(name, found, [*parents, *(c._node for c in cts)])
            return found

        node = Function(name, parents, specs, back)
        if capture.spent:
            node.saved = None
        for k, i in enumerate(capture.followed):
            x = results[i]
            results[i] = wrap(x._array, x.spec, node if len(capture.followed) == 1 else Slot(node, k))


def _end(name: str, found: list[Any], parents: Sequence[Origin | None]) -> None:
    """Let gradients be recorded by a node that raises: a plan's backward has no backward."""

    def back(_: Sequence[Any], __: bool) -> list[Any]:
        raise GradientError(
            f"the backward of {name}, which is captured, is differentiated: differentiate twice inside the captured "
            "function, or call it without jit"
        )

    if not any(p is not None for p in parents):
        return
    places = [i for i, x in enumerate(found) if x is not None]
    node = Function(f"backward of {name}", tuple(parents), tuple(found[i].spec for i in places), back)
    for k, i in enumerate(places):
        found[i] = wrap(found[i]._array, found[i].spec, node if len(places) == 1 else Slot(node, k))


def _count_of_one_holder() -> int:
    """What `sys.getrefcount` tells of an object that one attribute and a name here hold: Pythons differ in it."""
    holder = types.SimpleNamespace(value=object())
    held = holder.value
    return sys.getrefcount(held)


_HELD_ONCE: Final = _count_of_one_holder()


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
    captured function that is called inside another one is a part of that. Under `detect_anomaly`, `fallback` and an
    observer, and where the environment variable ``PLUGRAD_JIT`` is 0, the function runs as it is.

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
