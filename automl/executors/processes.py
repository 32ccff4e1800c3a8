"""Warm worker processes on this machine, one JSON line a message.

Each worker holds torch and the opened task, and trains one pack after the other. It is a process
of its own so that what a trial does (a crash, a hang, all the memory, `os._exit`) costs that
trial alone: its worker is replaced, and its segment comes back as LOST or TIMEOUT.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

from automl import errors
from automl.errors import AutomlError, ExecutorError
from automl.records import Pack, Progress, Report, Status, TaskCard, TaskSpec

_OPEN_SECONDS = 600.0  # to import torch and read the data
_END_SECONDS = 2.0  # for a worker to exit after its pipe is closed, before it is killed

# glibc maps and unmaps large activations at every step; kept in the heap they cost no page fault.
# One thread a worker, whatever the cores: with more, small operations wait for each other, and on a
# machine that does something else besides a step was seen to take a hundred times as long.
_ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


class _Worker:
    """One worker process and the pack that it trains."""

    def __init__(self, number: int, log: Path) -> None:
        self.number = number
        self.pack: Pack | None = None
        self.card: TaskCard | None = None
        self.failure: AutomlError | None = None
        self.heard = time.monotonic()
        self._buffer = b""
        inward, self._orders = os.pipe()
        self.news, outward = os.pipe()
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **_ENVIRONMENT}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "automl.train", str(inward), str(outward)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(inward, outward),
                env=environment,
            )
        os.close(inward)
        os.close(outward)

    @property
    def silent_seconds(self) -> float:
        return time.monotonic() - self.heard

    def order(self, message: dict[str, Any]) -> None:
        try:
            os.write(self._orders, json.dumps(message).encode() + b"\n")
        except BrokenPipeError:
            return  # it is gone; its news pipe says so too

    def read(self) -> list[dict[str, Any]] | None:
        """Messages that have arrived; None when the worker is gone."""
        data = os.read(self.news, 1 << 20)
        if not data:
            return None
        self.heard = time.monotonic()
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def end(self, *, now: bool) -> None:
        """Close the pipes, which ends an idle worker, and make sure of the rest."""
        os.close(self._orders)
        try:
            if now:
                self.process.kill()
            self.process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.news)


class Processes:
    """An executor of warm worker processes; the first opens the task when this is made.

    Args:
        spec: the task; every worker opens it for itself.
        workers: how many; 0: one a core, or one a GPU.
        logs: folder for what the workers print, one file each.
        stall_seconds: a worker that says nothing for so long while it trains is killed.

    Raises:
        AutomlError: what the worker found wrong with the task, of its class.
        ExecutorError: the worker died while it opened the task.
    """

    def __init__(self, spec: TaskSpec, *, workers: int, logs: Path, stall_seconds: float) -> None:
        self._spec, self._logs, self.stall_seconds = spec, logs, stall_seconds
        cores = len(os.sched_getaffinity(0))
        self.workers = workers or cores
        self._pool: list[_Worker] = [self._start(0)]
        self._closed = False
        try:
            self.card = self._opened(self._pool[0])
        except BaseException:
            self.close()
            raise
        if not workers and self.card.device.startswith("cuda"):
            self.workers = 1

    @property
    def capacity(self) -> int:
        return self.workers - sum(w.pack is not None for w in self._pool)

    def submit(self, pack: Pack) -> None:
        """Give the pack to an idle worker; the next one starts when all there are busy."""
        worker = next((w for w in self._pool if w.pack is None), None)
        if worker is None:
            worker = self._start(len(self._pool))
            self._pool.append(worker)
        self._give(worker, pack)

    def reports(self, timeout: float) -> list[Report | Progress]:
        news: list[Report | Progress] = []
        by_pipe = {w.news: w for w in self._pool}
        ready, _, _ = select.select(list(by_pipe), [], [], timeout)
        for pipe in ready:
            worker = by_pipe[pipe]
            messages = worker.read()
            if messages is None:
                news += self._gone(worker, Status.LOST)
                continue
            for message in messages:
                news += self._heard(worker, message)
        for worker in list(self._pool):
            # A child of the user's may hold a dead worker's pipe open: no end of file then.
            if worker.news not in ready and worker.process.poll() is not None:
                news += self._gone(worker, Status.LOST)
            elif worker.pack is not None and worker.silent_seconds > self._limit(worker):
                news += self._gone(worker, Status.TIMEOUT)
        return news

    def cancel(self, trial: int) -> None:
        for worker in self._pool:
            if worker.pack and any(s.trial == trial for s in worker.pack.segments):
                worker.order({"op": "cancel", "trial": trial})

    def adopt_logs(self, folder: Path) -> None:
        """Move the workers' logs to `folder`; what is open for writing goes with it."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():  # a study that goes on keeps its older logs
            for file in self._logs.iterdir():
                file.rename(folder / f"{int(time.time())}-{file.name}")
        else:
            self._logs.rename(folder)
        self._logs = folder

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            for worker in self._pool:
                worker.end(now=True)

    # Workers --------------------------------------------------------------------------------

    def _start(self, number: int) -> _Worker:
        worker = _Worker(number, self._logs / f"{number}.log")
        worker.order({"op": "open", "spec": self._spec.to_json()})
        return worker

    def _limit(self, worker: _Worker) -> float:
        """Seconds of silence that a worker is allowed: more while it still opens the task."""
        return _OPEN_SECONDS if worker.card is None else self.stall_seconds

    def _give(self, worker: _Worker, pack: Pack) -> None:
        worker.pack, worker.heard = pack, time.monotonic()
        worker.order({"op": "train", "pack": pack.to_json()})

    def _opened(self, worker: _Worker) -> TaskCard:
        """Wait until the worker has opened the task."""
        deadline = time.monotonic() + _OPEN_SECONDS
        while worker.card is None:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([worker.news], [], [], max(left, 0))
            messages = worker.read() if ready else None
            if messages is None:
                raise ExecutorError(
                    f"the worker {_exit(worker)} while it opened the task; "
                    f"the last line of its log: {self._tail(worker)}"
                )
            for message in messages:
                self._heard(worker, message)
            if worker.failure is not None:
                raise worker.failure
        return worker.card

    def _heard(self, worker: _Worker, message: dict[str, Any]) -> list[Report | Progress]:
        if "progress" in message:
            return [Progress.from_json(message["progress"])]
        if "reports" in message:
            worker.pack = None
            return [Report.from_json(r) for r in message["reports"]]
        if "card" in message:
            worker.card = TaskCard.from_json(message["card"])
        elif "error" in message:
            name, text = message["error"]
            worker.failure = cast(type[AutomlError], getattr(errors, name))(text)
        return []

    def _gone(self, worker: _Worker, status: Status) -> list[Report | Progress]:
        """Replace a worker that died or hangs; what it trained comes back as `status`."""
        worker.end(now=status is Status.TIMEOUT)
        self._pool[self._pool.index(worker)] = self._start(worker.number)
        pack = worker.pack
        if pack is None:
            return []
        if status is Status.TIMEOUT:
            message = f"no sign of life for {self._limit(worker):.0f} s; killed"
        elif worker.failure is not None:
            message = str(worker.failure)  # the task no longer opens
        else:
            message = f"the worker {_exit(worker)}"
        return [
            Report(s.trial, s.start, s.start, status, message=message, device=self.card.device)
            for s in pack.segments
        ]

    def _tail(self, worker: _Worker) -> str:
        path = self._logs / f"{worker.number}.log"
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1] if lines else "empty"


def _exit(worker: _Worker) -> str:
    """How a process ended, in words."""
    code = worker.process.wait()
    if code == -signal.SIGKILL:
        return "was killed (exit -9, likely out of memory)"
    if code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"exited with code {code}"
