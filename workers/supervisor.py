"""Trains one order after the other in a warm process, and holds its lease meanwhile.

    claim -> warm process trains, lease renewed -> commit
             lease lost: the process stops, its work is dropped
             worker leaves: checkpoint, release
             process dies or is overdue: LOST or TIMEOUT is committed, the next gets a new process

Redis may be away for as long as it likes: training goes on and the commit waits.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from celery.utils.log import get_task_logger

from automl.errors import AutomlError, CheckpointError
from automl.executors import crew
from automl.executors.leases import Gone, Lease, Leases, connect
from automl.executors.warm import Warm
from automl.records import FAILURES, Pack, Progress, Report, Status, TaskSpec
from automl.signing import unsigned

from . import registry
from .code import admit
from .keeping import Keeper

_said = get_task_logger(__name__)

_SAVING_SECONDS = 25.0  # to write a checkpoint before this worker leaves
_LOOK_SECONDS = 0.25  # between looks at the lease and the clock while nothing is heard
_AGAIN_SECONDS = 0.5  # between tries to reach a server that is away
_ORDERS = 500  # that one process trains before it is replaced, whatever it leaks

T = TypeVar("T")


class Supervisor:
    """The training side of one worker; lives in the one process that runs its tasks.

    Args:
        url: of the Redis server.
        owner: the worker's name.
        leaving: true once the worker was asked to end.
        environment: variables of the training process, which pin it to its device.
    """

    def __init__(
        self, url: str, owner: str, leaving: registry.Flag, *, environment: Mapping[str, str]
    ) -> None:
        self._owner, self._leaving = owner, leaving
        self._environment = environment
        self._client = connect(url)
        self._warm: Warm | None = None
        self._trained = 0
        self._done = self._failed = 0
        folder = Path(os.environ.get("AUTOML_LOGS", "logs"))
        self._log = folder / f"{owner}.training.log"
        self._idle()

    def train(self, study: str, id: str) -> None:
        """Train the order if nobody else does; returns when it is settled."""
        if self._leaving:
            return  # the driver sends the name again
        leases = Leases(self._client, study)
        lease = self._reach(lambda: leases.claim(id, self._owner))
        if lease is None:
            return
        pack = Pack.from_json(unsigned(lease.order))
        registry.note(self._client, self._owner, **crew.occupied(study, pack))
        try:
            self._settle(leases, lease, pack)
        finally:
            self._idle()

    def abandon(self) -> None:
        """Drop what is being trained: its lease runs out, and the order comes back."""
        if self._warm is not None and self._warm.pack is not None:
            self._replace("given up")

    # ----------------------------------------------------------------------------------------

    def _idle(self) -> None:
        counts = {"done": self._done, "failed": self._failed}
        registry.note(self._client, self._owner, **crew.IDLE, **counts)

    def _settle(self, leases: Leases, lease: Lease, pack: Pack) -> None:
        with Keeper(leases, lease) as keeper:
            reports = self._trained_reports(keeper, lease, pack)
        if reports is None:
            if not keeper.lost:
                self._reach(lambda: leases.release(lease))
            return
        if self._leaving and any(r.status is Status.STOPPED for r in reports):
            self._reach(lambda: leases.release(lease))
        else:
            told = [r.to_json() for r in reports]
            self._reach(lambda: leases.commit(lease, told, keeper.untold))
        for report in reports:
            self._failed += report.status in FAILURES
            self._done += report.status not in (*FAILURES, Status.STOPPED)

    def _trained_reports(self, keeper: Keeper, lease: Lease, pack: Pack) -> list[Report] | None:
        """What the order brought; None when it was lost meanwhile, or could not be saved."""
        task = lease.task
        try:
            admitted = admit(task, lease.order)
        except AutomlError as error:  # a store that cannot be reached is no fault of the order
            lost = isinstance(error, CheckpointError)
            return self._refused(pack, str(error), Status.LOST if lost else Status.INVALID)
        pack = admitted.pack
        warm = self._process(TaskSpec.from_json(task["spec"]), admitted.folder)
        warm.train(pack)
        limits = {k: float(task[k]) for k in ("stall_seconds", "deadline_seconds")}
        leave_by: float | None = None
        reports: list[Report] = []
        stopping: set[int] = set()
        checked = False
        while len(reports) < len(pack.segments):
            ready, _, _ = select.select([warm.news], [], [], _LOOK_SECONDS)
            news = warm.read() if ready else []
            if news is None or (not ready and warm.process.poll() is not None):
                died = self._replace()
                return self._refused(pack, str(warm.failure)) if warm.failure else died
            for one in news:
                if isinstance(one, Progress):
                    keeper.tell(one.to_json())
                else:
                    reports.append(one)
            if warm.card is not None and not checked:
                checked = True
                refusal = self._refusal(warm, task, pack)
                if refusal:
                    self._replace()
                    return refusal
            if overdue := warm.overdue(**limits):
                return self._replace(overdue)
            if keeper.lost:
                self._replace("its lease is another's")  # no checkpoint of a stale holder
                return None
            wanted = set(keeper.cancelled)
            if self._leaving:
                leave_by = leave_by or time.monotonic() + _SAVING_SECONDS
                wanted |= {s.trial for s in pack.segments}
            for trial in wanted - stopping:
                warm.cancel(trial)
            stopping |= wanted
            if leave_by is not None and time.monotonic() > leave_by:
                self._replace("did not save itself in time")
                return None
        return reports

    def _refusal(self, warm: Warm, task: Mapping[str, Any], pack: Pack) -> list[Report]:
        """Reports that say why this worker must not train; empty when it may."""
        assert warm.card is not None
        for what, here in (
            ("data", warm.card.data_fingerprint),
            ("code", warm.card.code_fingerprint),
        ):
            if here != task[what]:
                found = f"other {what}: fingerprint {here}, the driver's is {task[what]}"
                return self._refused(pack, found)
        return []

    def _refused(self, pack: Pack, why: str, status: Status = Status.INVALID) -> list[Report]:
        """Reports that this worker did not train, and why; its log says so, too."""
        message = f"worker {self._owner}: {why}"
        _said.warning("refused: %s", why)
        return [Report(s.trial, s.start, s.start, status, message=message) for s in pack.segments]

    def _process(self, spec: TaskSpec, folder: Path | None) -> Warm:
        """The warm process for this task, new if it was another's or has trained enough."""
        warm = self._warm
        if warm is not None:
            worn = self._trained >= _ORDERS or warm.process.poll() is not None
            if (warm.spec, warm.folder) == (spec, folder) and not worn:
                self._trained += 1
                return warm
            warm.end(now=False)
        self._trained = 1
        self._warm = Warm(spec, self._log, folder=folder, environment=self._environment)
        return self._warm

    def _replace(self, overdue: str = "") -> list[Report]:
        """End the process, at once if it is overdue; the next order starts a new one."""
        assert self._warm is not None
        warm, self._warm = self._warm, None
        warm.end(now=bool(overdue))
        return warm.lost(overdue)

    def _reach(self, call: Callable[[], T]) -> T:
        """The answer, however long the server is away."""
        while True:
            try:
                return call()
            except Gone:
                time.sleep(_AGAIN_SECONDS)
