"""An observer is told what computes each op, and what it returns runs instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plugrad as pg
from plugrad.backend.null import NOTHING
from plugrad.dispatch.anomaly import line_of_backward
from plugrad.dispatch.modes import changed
from plugrad.dispatch.observer import Source
from plugrad.dispatch.op import Op
from plugrad.spec import Device

NULL = Device("null")


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, Source]] = []
        self.ran: list[str] = []

    def settled(
        self,
        op: Op[..., Any],
        source: Source,
        run: Callable[..., Any] | None,
        specs: Sequence[Any],
        attributes: Mapping[str, Any],
        device: Device,
    ) -> Callable[..., Any] | None:
        assert device is NULL
        self.told.append((op.name, source))
        if run is None:
            return None

        def instead(*arrays: Any, **attributes: Any) -> Any:
            self.ran.append(op.name)
            return run(*arrays, **attributes)

        return instead


def test_told_once_and_run_each_time() -> None:
    recorder = Recorder()
    x = pg.ones((2, 3), device="null").requires_grad_()
    with changed(observer=recorder):
        for _ in range(2):
            pg.exp(x).backward(pg.ones((2, 3), device="null"))
    assert recorder.told.count(("exp", Source.KERNEL)) == 1
    assert recorder.told.count(("exp.vjp.x", Source.KERNEL)) == 1
    assert recorder.ran.count("exp") == recorder.ran.count("exp.vjp.x") == 2
    before = len(recorder.ran)
    pg.exp(x)
    assert len(recorder.ran) == before, "outside its block nothing is told"


def test_what_it_returns_runs_instead() -> None:
    class Instead(Recorder):
        def settled(self, op: Op[..., Any], *rest: Any) -> Callable[..., Any]:
            return lambda *arrays, **attributes: "mine" if op.name == "sin" else NOTHING

    with changed(observer=Instead()):
        assert pg.sin(pg.ones((2,), device="null"))._array == "mine"


def test_a_backward_tells_the_line_that_made_what_it_passes_through() -> None:
    class Lines(Recorder):
        def settled(self, op: Op[..., Any], *rest: Any) -> Callable[..., Any]:
            def run(*arrays: Any, **attributes: Any) -> Any:
                self.ran.append(f"{op.name}: {line_of_backward()}")
                return NOTHING

            return run

    recorder = Lines()
    x = pg.ones((2,), device="null").requires_grad_()
    with changed(observer=recorder):
        y = pg.exp(x)  # forward
        pg.sin(y).sum().backward()
        for through in (pg.cos(x).sum(), pg.tan(x).sum()):
            pg.grad(lambda x: pg.tanh(x).sum())(x.detach())
            through.backward(inputs=[x])
    assert "exp: None" in recorder.ran
    (backward,) = [r for r in recorder.ran if r.startswith("exp.vjp.x: ")]
    assert backward.endswith("y = pg.exp(x)  # forward")
    assert __file__ in backward
    assert [r for r in recorder.ran if r.startswith("tanh.vjp") and r.endswith("tanh(x).sum())(x.detach())")]
    assert [r for r in recorder.ran if r.startswith("cos.vjp") and "for through in" in r]
