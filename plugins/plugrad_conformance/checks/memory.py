"""``memory``: what goes to the device comes back, and nobody else's changes to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

import plugrad as pg
from plugrad.dtypes import ALL, BOOLEAN, DType, as_dtype, float32, iinfo, int64, uint32
from plugrad.spec import Spec
from plugrad_conformance.cases import Case, Level, needed
from plugrad_conformance.checks._applying import Run
from plugrad_conformance.measure import Failure

Host = np.ndarray[Any, Any]

FIRST: Final = (*BOOLEAN, uint32, int64, float32)
"""The dtypes that every device must hold from the start."""

SHAPES: Final = ((), (0,), (0, 3), (3, 0, 2), (1,), (7,), (3, 5), (1, 1, 1), (2, 3, 4, 5), (65539,))


def cases() -> Iterator[Case]:
    """A round trip in each dtype, and what is tried by name."""
    for d in ALL:
        level = Level.L0 if d in FIRST else Level.L3
        yield Case("memory", "round-trip", d.name, level=level, needs=needed(d.name))
    for name in NAMED:
        # A device is at L0 before it has a kernel, and assignment takes some.
        yield Case("memory", name, level=Level.L1 if name == "reads-are-stable" else Level.L0)


def run(run: Run) -> None:
    """One case."""
    if run.case.subject == "round-trip":
        _round_trip(run, as_dtype(run.case.dtype))
    else:
        NAMED[run.case.subject](run)


def _values(dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> Host:
    if dtype.kind == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.is_integer:
        info = iinfo(dtype)
        values = np.asarray(rng.integers(info.min, info.max, shape, dtype.numpy, endpoint=True))
        edges = np.array([info.min, info.max], dtype.numpy)
    else:
        values = np.asarray(rng.standard_normal(shape)).astype(dtype.numpy)
        edges = np.array([np.nan, np.inf, -np.inf, -0.0, float(pg.finfo(dtype).max)]).astype(dtype.numpy)
    values.reshape(-1)[: edges.size] = edges[: values.size]
    return values


def _same(what: str, got: Host, wanted: Host) -> None:
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        raise Failure(f"{what}: got {got.dtype}{list(got.shape)}, wanted {wanted.dtype}{list(wanted.shape)}")
    if np.ascontiguousarray(got).tobytes() != np.ascontiguousarray(wanted).tobytes():
        raise Failure(f"{what}: the elements are not those that were sent")


def _round_trip(run: Run, dtype: DType) -> None:
    subject, rng = run.subject, run.rng()
    for shape in SHAPES:
        host = _values(dtype, shape, rng)
        array = subject.backend.from_host(host, subject.device)
        if tuple(subject.backend.shape(array)) != shape:
            raise Failure(
                f"the array of {host.dtype}{list(shape)} says it has shape {subject.backend.shape(array)}"
            )
        _same(f"{dtype} of shape {shape}", np.asarray(subject.backend.to_host(array)), host)
        run.samples += 1


def _strided(run: Run) -> None:
    """Host arrays of any strides are taken."""
    wide = run.rng().standard_normal((6, 8)).astype(np.float32)
    frozen = wide.copy()
    frozen.flags.writeable = False
    forms = [
        wide.T,
        wide[::2, ::3],
        wide[::-1, ::-1],
        np.broadcast_to(wide[:1], (5, 8)),
        wide[2:5, 3:],
        np.asfortranarray(wide),
        frozen,
    ]
    for form in forms:
        array = run.subject.backend.from_host(form, run.subject.device)
        _same(f"a host array of strides {form.strides}", np.asarray(run.subject.backend.to_host(array)), form)
        run.samples += 1


def _copied(run: Run) -> None:
    """The host's memory may be reused at once."""
    for size in (5, 70_001, 3_000_001):
        host = np.arange(size, dtype=np.float32)
        array = run.subject.backend.from_host(host, run.subject.device)
        host[...] = -1
        _same(
            f"{size} elements, the host's memory overwritten after from_host",
            np.asarray(run.subject.backend.to_host(array)),
            np.arange(size, dtype=np.float32),
        )
        run.samples += 1


def _stable(run: Run) -> None:
    """What was read stays as it was read."""
    x = run.subject.tensor(np.arange(12.0).reshape(3, 4), "float32")
    read = x.numpy()
    before = read.copy()
    x[1] = 99.0
    x += 1
    _same("what was read, after the tensor was assigned to", read, before)
    if read.flags.writeable:
        read[...] = 7
        wanted = before.copy()
        wanted[1] = 99
        _same("the tensor, after what was read was written to", x.numpy(), wanted + 1)
    run.samples += 1


def _allocated(run: Run) -> None:
    """Memory of any shape is made, with the shape and the dtype that were asked."""
    for shape in SHAPES:
        for dtype in FIRST:
            array = run.subject.backend.allocate(Spec(shape, dtype, run.subject.device))
            host = np.asarray(run.subject.backend.to_host(array))
            if host.shape != shape or host.dtype != dtype.numpy:
                raise Failure(f"allocate({dtype}{list(shape)}) gives {host.dtype}{list(host.shape)}")
        run.samples += 1


def _many(run: Run) -> None:
    """Many arrays at once keep their values while others come and go."""
    kept = []
    for i in range(500):
        value = np.full(i % 37 + 1, i, np.float32)
        array = run.subject.backend.from_host(value, run.subject.device)
        if i % 3 == 0:
            kept.append((array, value))
    for array, value in kept:
        _same(f"one of many, of {value.size} elements", np.asarray(run.subject.backend.to_host(array)), value)
    run.samples += len(kept)


def _statistics(run: Run) -> None:
    """Statistics are bytes by name."""
    stats = run.subject.backend.memory_stats(run.subject.device)
    for name, value in dict(stats).items():
        if not isinstance(name, str) or not isinstance(value, int) or value < 0:
            raise Failure(f"memory_stats gives {name!r}: {value!r}; bytes by name are asked")
    run.samples += 1
    run.subject.backend.synchronize(run.subject.device)


def _capabilities(run: Run) -> None:
    """What a device says it can do stays, and is true."""
    subject = run.subject
    can = subject.backend.capabilities(subject.device)
    if can != subject.capabilities:
        raise Failure("the capabilities of the device change while the process runs")
    if missing := [d.name for d in FIRST if d not in can.dtypes]:
        raise Failure(
            f"every device holds {', '.join(d.name for d in FIRST)}; this one has no {', '.join(missing)}"
        )
    host = np.arange(6, dtype=np.float32).reshape(2, 3)
    x = subject.tensor(host)
    if can.dlpack:
        again = pg.from_dlpack(x)
        if again.device != x.device:
            raise Failure(f"dlpack: a tensor of {x.device} comes back on {again.device}")
        _same("through DLPack", subject.host(again), host)
        if not isinstance(subject.backend.dlpack_device(x._array), tuple):
            raise Failure("dlpack_device gives no tuple of device type and id")
    if can.copy:
        copy = subject.backend.copy_from(x._array, subject.device, subject.device)
        _same("copy_from, on one device", np.asarray(subject.backend.to_host(copy)), host)
    if can.host_memory:
        _same("np.asarray of a tensor in host memory", np.asarray(x), host)
    else:
        try:
            np.asarray(x)
        except pg.errors.DeviceError:
            pass
        else:
            raise Failure(
                "np.asarray takes a tensor to the host in silence, though its memory is not the host's"
            )
    run.samples += 1


NAMED: Final[dict[str, Callable[[Run], None]]] = {
    "strided-host": _strided,
    "host-is-copied": _copied,
    "reads-are-stable": _stable,
    "allocate": _allocated,
    "many-arrays": _many,
    "statistics": _statistics,
    "capabilities": _capabilities,
}
