"""`Profile`: where the time of a plan goes, node by node, held against what the device can do at most."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from plugrad.dispatch.statement import register
from plugrad.dtypes import float32
from plugrad.graph.cost import bytes_of, flops_of
from plugrad.spec import Device, Spec

if TYPE_CHECKING:
    from plugrad.backend.interface import Backend
    from plugrad.graph.plan import Plan


@dataclass(frozen=True, slots=True)
class Roofline:
    """What a device does at most, measured on it.

    Attributes:
        flops: floating-point operations a second, of a product of float32 matrices.
        bandwidth: bytes a second, read and written, of a copy of an array that no cache holds.
    """

    flops: float
    bandwidth: float

    @classmethod
    def measure(cls, backend: Backend, device: Device, *, size: int = 1024) -> Roofline:
        """Measure a device: the best of several runs."""

        def array(*shape: int) -> Any:
            return backend.from_host(np.ones(shape, np.float32), device)

        def best(op: Any, *arrays: Any) -> float:
            specs = [Spec(tuple(backend.shape(a)), float32, device) for a in arrays]
            found = backend.kernels.find(op, specs, {"matmul_precision": "highest"})
            if found is None:
                return float("nan")
            times = []
            for _ in range(5):
                backend.synchronize(device)
                start = perf_counter()
                found.function(*arrays)
                backend.synchronize(device)
                times.append(perf_counter() - start)
            return min(times)

        square, long = array(size, size), array(16 * size * size)
        return cls(
            2 * size**3 / best(register["matrix_product"], square, square),
            8 * 16 * size * size / best(register["negative"], long),
        )

    def seconds(self, flops: float, moved: float) -> float:
        """The least time for this many operations and bytes."""
        return max(flops / self.flops, moved / self.bandwidth)


@dataclass(frozen=True, slots=True)
class Row:
    """A node in a profile.

    Attributes:
        name: the op's name, or those of ops that run as one.
        results: the specs of its results, as text.
        line: the user's line.
        seconds: the median time.
        bytes: what it must read and write.
        flops: its floating-point operations.
        share: the least time that the device could need, over the time that it took.
    """

    name: str
    results: str
    line: str
    seconds: float
    bytes: int
    flops: int
    share: float


class Profile:
    """The nodes of a plan with their times.

    Attributes:
        rows: the nodes in the order in which they run; views, which cost nothing, are left out.
        roofline: what the device does at most.
    """

    def __init__(self, plan: Plan, times: Sequence[Sequence[float]], roofline: Roofline) -> None:
        """Sum up.

        Args:
            plan: the plan.
            times: by run, the seconds of each node.
            roofline: of the device.
        """
        self.roofline = roofline
        self.rows: list[Row] = []
        for node, seconds in zip(plan.graph.nodes, zip(*times, strict=True), strict=True):
            took = median(seconds)
            if not took:
                continue
            flops, moved = flops_of(node), bytes_of(node)
            self.rows.append(
                Row(
                    node.label,
                    ", ".join(str(v.spec) for v in node.results),
                    node.line,
                    took,
                    moved,
                    flops,
                    roofline.seconds(flops, moved) / took,
                )
            )

    @property
    def seconds(self) -> float:
        """The sum of the times."""
        return sum(r.seconds for r in self.rows)

    def write(self, path: str | Path) -> None:
        """Write a trace in Chrome's event format, which https://ui.perfetto.dev and chrome://tracing open."""
        events, at = [], 0.0
        for r in self.rows:
            events.append(
                {
                    "name": r.name,
                    "ph": "X",
                    "ts": at * 1e6,
                    "dur": r.seconds * 1e6,
                    "pid": 0,
                    "tid": 0,
                    "args": {
                        "results": r.results,
                        "line": r.line,
                        "bytes": r.bytes,
                        "flops": r.flops,
                        "share of roofline": round(r.share, 3),
                    },
                }
            )
            at += r.seconds
        Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ms"}), encoding="utf-8")

    def __str__(self) -> str:
        head = f"{'us':>9}  {'MB':>8}  {'MFLOP':>8}  {'roofline':>8}  op"
        lines = [
            f"{r.seconds * 1e6:9.1f}  {r.bytes / 1e6:8.2f}  {r.flops / 1e6:8.2f}  {r.share:8.0%}  {r.name} {r.results}"
            for r in self.rows
        ]
        floor = sum(r.share * r.seconds for r in self.rows)
        return "\n".join(
            (
                head,
                *lines,
                f"{self.seconds * 1e6:9.1f} us in all, of which the device needs {floor * 1e6:.1f} at least "
                f"({self.roofline.flops / 1e9:.0f} GFLOP/s, {self.roofline.bandwidth / 1e9:.1f} GB/s)",
            )
        )
