"""Running many cases in workers that are restarted: one that hangs or dies costs a case, never the run."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from plugrad_conformance.cases import Case
from plugrad_conformance.running import record

START_LIMIT: Final = 120.0
"""Seconds for a worker to load its device."""

Told = Callable[[dict[str, Any]], None]


class Worker:
    """One process, started when it is first needed and again after it was lost."""

    def __init__(self, device: str, log: Path) -> None:
        self._device = device
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()
        self.facts: dict[str, Any] = {}

    def run(self, case: Case, limit: float) -> dict[str, Any]:
        """The record of a case; a failed one where the process was too slow or died."""
        if self._process is None and (trouble := self.start()):
            return record(case, "failed", f"the device does not load in a new process: {trouble}")
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            process.stdin.write(case.id + "\n")
            process.stdin.flush()
            line = self._lines.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return record(
                case, "failed", f"it took more than {limit:g} s: its process was killed", seconds=limit
            )
        except OSError:
            line = None
        if line is None:
            code = process.wait()
            self.stop()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            return record(case, "failed", f"the process that ran it died ({how}){self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """Kill the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def start(self, limit: float = START_LIMIT) -> str:
        """Start the process, which tells `facts`; what went wrong, or the empty string."""
        lines: queue.Queue[str | None] = queue.Queue()
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of this package
                [sys.executable, "-m", "plugrad_conformance.worker", self._device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
        assert process.stdout is not None
        output = process.stdout

        def read() -> None:
            try:
                for line in output:
                    lines.put(line)
            except ValueError:  # closed while it was read
                pass
            lines.put(None)

        threading.Thread(target=read, daemon=True).start()
        self._process, self._lines = process, lines
        try:
            first = lines.get(timeout=limit)
        except queue.Empty:
            self.stop()
            return f"it took more than {limit:g} s to load: its process was killed"
        self.facts = json.loads(first) if first else {"error": "its process died" + self._last_words()}
        if "error" in self.facts:
            process.wait()
            self.stop()
            return str(self.facts["error"])
        return ""

    def _last_words(self) -> str:
        """The last line of what the process wrote, to put after a message."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f"; the last line that it wrote: {lines[-1][:300]}" if lines else ""


def run_cases(
    device: str, cases: Sequence[Case], *, jobs: int, limit: float, folder: Path, told: Told
) -> list[dict[str, Any]]:
    """Run cases in ``jobs`` workers.

    Args:
        device: the device.
        cases: the cases; those of kind ``speed`` run last, one at a time.
        jobs: how many at once.
        limit: seconds for a case.
        folder: where the workers' logs go.
        told: called with each record as it comes.

    Returns:
        The records, in the order of the cases.
    """
    records: dict[str, dict[str, Any]] = {}
    lock = threading.Lock()

    def serve(waiting: queue.SimpleQueue[Case], number: int) -> None:
        worker = Worker(device, folder / f"worker-{number}.log")
        try:
            while not stopped.is_set():
                try:
                    case = waiting.get_nowait()
                except queue.Empty:
                    return
                done = worker.run(case, limit)
                with lock:
                    records[case.id] = done
                    told(done)
        except BaseException as error:
            raised.append(error)
            stopped.set()
        finally:
            worker.stop()

    stopped = threading.Event()
    raised: list[BaseException] = []
    for group, at_once in (
        ([c for c in cases if c.kind != "speed"], jobs),
        ([c for c in cases if c.kind == "speed"], 1),
    ):
        waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
        for case in group:
            waiting.put(case)
        threads = [
            threading.Thread(target=serve, args=(waiting, i), daemon=True)
            for i in range(min(at_once, len(group)))
        ]
        for t in threads:
            t.start()
        try:
            for t in threads:
                t.join()
        except KeyboardInterrupt:
            stopped.set()
            raise
    if raised:
        raise raised[0]
    return [records[c.id] for c in cases]
