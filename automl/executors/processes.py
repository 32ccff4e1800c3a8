"""Warm worker processes on this machine, each training one pack at a time.

A worker that dies or hangs is replaced; its segment comes back as LOST or TIMEOUT.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections.abc import Mapping
from pathlib import Path

from automl.errors import ExecutorError
from automl.executors.warm import OPEN_SECONDS, Warm
from automl.records import Pack, Progress, Report, Segment, TaskCard, TaskSpec, Vacancy


class Processes:
    """An executor of warm worker processes; the first opens the task when this is made.

    Args:
        spec: the task; every worker opens it for itself.
        workers: how many; 0: one a core, or one a GPU.
        logs: folder for what the workers print, one file each.
        stall_seconds: a worker that says nothing for so long while it trains is killed.
        deadline_seconds: and one that trains a segment for longer than this.
        folder: that they run in; None: the present one.

    Raises:
        AutomlError: what the worker found wrong with the task, of its class.
        ExecutorError: the worker died while it opened the task.
    """

    def __init__(
        self,
        spec: TaskSpec,
        *,
        workers: int,
        logs: Path,
        stall_seconds: float,
        deadline_seconds: float = math.inf,
        folder: Path | None = None,
    ) -> None:
        self._spec, self._logs, self._folder = spec, logs, folder
        self.stall_seconds, self.deadline_seconds = stall_seconds, deadline_seconds
        cores = len(os.sched_getaffinity(0))
        self.workers = workers or cores
        self._pool: list[Warm] = [self._start(0)]
        self._closed = False
        try:
            self.card = _opened(self._pool[0])
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
        worker.train(pack)

    def reports(self, timeout: float) -> list[Report | Progress]:
        news: list[Report | Progress] = []
        by_pipe = {w.news: w for w in self._pool}
        ready, _, _ = select.select(list(by_pipe), [], [], timeout)
        for pipe in ready:
            worker = by_pipe[pipe]
            read = worker.read()
            news += self._gone(worker) if read is None else read
        for worker in list(self._pool):
            # A child of the user's may hold a dead worker's pipe open: no end of file then.
            if worker.news not in ready and worker.process.poll() is not None:
                news += self._gone(worker)
            elif overdue := worker.overdue(
                stall_seconds=self.stall_seconds, deadline_seconds=self.deadline_seconds
            ):
                news += self._gone(worker, overdue)
        return news

    def vacancies(self) -> list[Vacancy]:
        return [
            Vacancy(number, worker.pack.segments, worker.free)
            for number, worker in enumerate(self._pool)
            if worker.pack is not None and worker.free is not None
        ]

    def join(self, vacancy: Vacancy, newcomers: Mapping[int, Segment]) -> None:
        self._pool[int(vacancy.where)].join(newcomers)

    def cancel(self, trial: int) -> None:
        for worker in self._pool:
            worker.cancel(trial)

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

    def _start(self, number: int) -> Warm:
        return Warm(self._spec, self._logs / f"{number}.log", folder=self._folder)

    def _gone(self, worker: Warm, overdue: str = "") -> list[Report]:
        """Replace a worker that died or is overdue; what it trained comes back as such."""
        worker.end(now=bool(overdue))
        number = self._pool.index(worker)
        self._pool[number] = self._start(number)
        return worker.lost(overdue)


def _opened(worker: Warm) -> TaskCard:
    """Wait until the worker has opened the task."""
    deadline = time.monotonic() + OPEN_SECONDS
    while worker.card is None:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([worker.news], [], [], max(left, 0))
        if not ready or worker.read() is None:
            raise ExecutorError(
                f"the worker {worker.exit() if ready else 'said nothing for too long'} while it "
                f"opened the task; the last line of its log: {worker.last_words()}"
            )
        if worker.failure is not None:
            raise worker.failure
    return worker.card
