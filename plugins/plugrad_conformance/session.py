"""Running many cases in workers that are restarted: one that hangs or dies costs a case, never the run."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from plugrad_conformance.cases import Case
from plugrad_conformance.running import record

TRIES: Final = 3
"""How often in a row the device may fail to load before the cases that are left fail without another try."""

Told = Callable[[dict[str, Any]], None]


class Worker:
    """One process, started when it is first needed and again after it was lost.

    Attributes:
        facts: what it tells of its device; empty until it was started.
    """

    def __init__(self, device: str, log: Path, start_limit: float) -> None:
        """Make a worker; no process is started.

        Args:
            device: the device.
            log: the file that gets what the process writes to its standard streams.
            start_limit: seconds for loading the device.
        """
        self.facts: dict[str, Any] = {}
        self._device = device
        self._log = log
        self._log_start = 0
        self._start_limit = start_limit
        self._failed_starts = 0
        self._trouble = ""
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.Queue[str | None] = queue.Queue()

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
            message = f"it took more than {limit:g} s: its process was killed"
            return record(case, "failed", message, seconds=limit)
        except OSError:
            line = None
        if line is None:
            died = self._died(process)
            self.stop()
            return record(case, "failed", f"the process that ran it {died}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """Kill the process and those that it started, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        _kill(process)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def start(self) -> str:
        """Start the process, which tells `facts`; what went wrong, or the empty string."""
        if self._failed_starts >= TRIES:
            return self._trouble
        self._trouble = self._start()
        self._failed_starts = self._failed_starts + 1 if self._trouble else 0
        return self._trouble

    def _start(self) -> str:
        lines: queue.Queue[str | None] = queue.Queue()
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of this package
                [sys.executable, "-P", "-m", "plugrad_conformance.worker", self._device],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)},
                # An interrupt from the terminal is for the run, which then stops its workers and what they started.
                start_new_session=True,
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
            first = lines.get(timeout=self._start_limit)
        except queue.Empty:
            self.stop()
            return f"it took more than {self._start_limit:g} s to load: its process was killed"
        if first is None:
            died = self._died(process)
            self.stop()
            return f"the process that loads it {died}"
        self.facts = json.loads(first)
        if "error" in self.facts:
            self.stop()
            wrote = self._log.stat().st_size > self._log_start
            return f"{self.facts['error']}{f'; the traceback is in {self._log}' if wrote else ''}"
        return ""

    def _died(self, process: subprocess.Popen[str]) -> str:
        """How a process ended that should not have."""
        try:
            code = process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return f"closed the files that it answers by{self._last_words()}"
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        if -code in signal.valid_signals():
            how = signal.Signals(-code).name
        return f"died ({how}){self._last_words()}"

    def _last_words(self) -> str:
        """The last line of what the process wrote, to put after a message."""
        try:
            wrote = self._log.read_bytes()[self._log_start :]
        except OSError:
            return ""
        lines = wrote.decode("utf-8", errors="replace").strip().splitlines()
        return f"; the last line that it wrote: {lines[-1][:300]}" if lines else ""


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a process and, where the system has sessions, those that it started."""
    if sys.platform == "win32":
        process.kill()
        return
    with suppress(ProcessLookupError, PermissionError):  # all of them have ended
        os.killpg(process.pid, signal.SIGKILL)


def run_cases(
    workers: Sequence[Worker], cases: Sequence[Case], *, limit: float, told: Told
) -> list[dict[str, Any]]:
    """Run cases in workers, which are stopped at the end.

    Args:
        workers: as many as cases are to run at once.
        cases: the cases; those of kind ``speed`` run last, one at a time.
        limit: seconds for a case.
        told: called with each record as it comes.

    Returns:
        The records, in the order of the cases.
    """
    records: dict[str, dict[str, Any]] = {}
    lock = threading.Lock()
    stopped = threading.Event()
    raised: list[BaseException] = []

    def serve(worker: Worker, waiting: queue.SimpleQueue[Case]) -> None:
        try:
            while not stopped.is_set():
                try:
                    case = waiting.get_nowait()
                except queue.Empty:
                    return
                done = worker.run(case, limit)
                with lock:
                    if not stopped.is_set():
                        records[case.id] = done
                        told(done)
        except BaseException as error:
            raised.append(error)
            stopped.set()

    try:
        for group, serving in (
            ([c for c in cases if c.kind != "speed"], workers),
            ([c for c in cases if c.kind == "speed"], workers[:1]),
        ):
            waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
            for case in group:
                waiting.put(case)
            threads = [threading.Thread(target=serve, args=(w, waiting), daemon=True) for w in serving]
            for t in threads[: len(group)]:
                t.start()
            for t in threads[: len(group)]:
                t.join()
    finally:
        stopped.set()
        for worker in workers:
            worker.stop()
    if raised:
        raise raised[0]
    return [records[c.id] for c in cases]
