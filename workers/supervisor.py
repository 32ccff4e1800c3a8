"""Trains one order after the other in a warm process, and holds its lease meanwhile.

    claim -> warm process trains, lease renewed -> commit, and the next order of the route
             members of a pack end: their reports are brought, who joins is let in, all under
             the same lease
             lease lost: the process stops, its work is dropped
             worker leaves: checkpoint, release
             process dies or is overdue: LOST or TIMEOUT is committed, the next gets a new process
             no task of the driver's here: refused, and nothing of the study taken for a while

Redis may be away for as long as it likes: training goes on and the commit waits.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import psutil
from celery.utils.log import get_task_logger

from automl.errors import AutomlError, CheckpointError
from automl.executors.holding import Holder, Lease
from automl.executors.leases import Gone, connect
from automl.executors.needs import memory_bytes
from automl.executors.warm import Warm
from automl.records import FAILURES, Pack, Progress, Report, Segment, Status, TaskSpec
from automl.seals import study_key
from automl.signing import shared_key, unsigned

from . import registry
from .code import admit
from .keeping import Held, Keeper

_said = get_task_logger(__name__)

RUNNER_MEMORY = "AUTOML_RUNNER_MEMORY"
_SAVING_SECONDS = 25.0  # to write a checkpoint before this worker leaves
_LOOK_SECONDS = 0.25  # between looks at the lease and the clock while nothing is heard
_AGAIN_SECONDS = 0.5  # between tries to reach a server that is away
_STAY_SECONDS = 1.0  # on one route; then Celery chooses among those that it listens on
_ORDERS = 20_000  # that one process trains before it is replaced, whatever it leaks

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
        self._client = connect(url, alone=True)
        self._holder = Holder(self._client, owner)
        self._keeper = Keeper(Holder(connect(url), owner))
        self._warm: Warm | None = None
        self._trained = 0
        self._resident, self._most = 0, _most()  # bytes
        self._done = self._failed = 0
        folder = Path(os.environ.get("AUTOML_LOGS", "logs"))
        self._log = folder / f"{owner}.training.log"

    def train(self, study: str, id: str, route: str) -> None:
        """Train what waits on this route, or this order; returns when nothing does, or soon."""
        if self._leaving:
            return  # the driver sends the name again
        lease = self._reach(lambda: self._holder.next(route))
        if lease is None:  # or the list was lost
            lease = self._reach(lambda: self._holder.claim(study, id))
        if lease is None:
            lease = self._reach(lambda: self._holder.next(route, linger=True))
        until = time.monotonic() + _STAY_SECONDS
        while lease is not None:
            lease = self._settle(lease, route, until)
            self._retire()

    def abandon(self) -> None:
        """Drop what is being trained: its lease runs out, and the order comes back."""
        if self._warm is not None and self._warm.pack is not None:
            self._replace("given up")
        registry.note(self._client, self._owner, study="", trials="")

    # ----------------------------------------------------------------------------------------

    def _settle(self, lease: Lease, route: str, until: float) -> Lease | None:
        """Train an order and bring what came of it; the next, if there is one and time for it."""
        holder, pack = self._holder, Pack.from_json(unsigned(lease.order))
        with self._keeper.keep(lease) as held:
            reports = self._trained_reports(held, pack)
        if isinstance(reports, str):
            _said.warning("refused: %s", reports)
            refusal = f"worker {self._owner}: {reports}"
            self._reach(lambda: holder.release(lease, refusal))
            return None
        leaving = bool(self._leaving)
        if reports is None or (leaving and any(r.status is Status.STOPPED for r in reports)):
            self._reach(lambda: holder.release(lease))
            return None
        told = [*chain.from_iterable(held.unbrought), *self._counted(reports)]
        self._resident = self._warm.resident() if self._warm else 0
        settled = (self._done, self._failed, self._resident)
        then = "" if leaving or time.monotonic() > until else route
        _, following = self._reach(
            lambda: holder.commit(lease, told, held.untold, settled=settled, route=then)
        )
        if following is None and then:
            with contextlib.suppress(*Gone):
                following = holder.linger(then)
        return following

    def _trained_reports(self, held: Held, pack: Pack) -> list[Report] | str | None:
        """What the order brought; why this worker must not train it, in one line; or None.

        None: the lease was lost meanwhile, or what was trained could not be saved.
        """
        task = held.lease.task
        try:
            admitted = admit(task, held.lease.order)
        except CheckpointError as error:  # a store that is away may be there at the next try
            message = f"worker {self._owner}: {error}"
            return [
                Report(s.trial, s.start, s.start, Status.LOST, message=message)
                for s in pack.segments
            ]
        except AutomlError as error:
            return str(error)
        pack, bell = admitted.pack, self._keeper.bell
        warm = self._process(TaskSpec.from_json(task["spec"]), admitted.folder)
        warm.train(pack, study_key(shared_key(), str(task.get("study", ""))), waits=False)
        given = {(s.trial, s.start) for s in pack.segments}
        limits = {k: float(task[k]) for k in ("stall_seconds", "deadline_seconds")}
        leave_by: float | None = None
        stopping: set[int] = set()
        checked = False
        while True:
            ready, _, _ = select.select([warm.news, bell], [], [], _LOOK_SECONDS)
            news = warm.read() if warm.news in ready else []
            if news is None or (not ready and warm.process.poll() is not None):
                died = self._replace()
                return str(warm.failure) if warm.failure else died
            if warm.card is not None and not checked:
                checked = True
                refusal = _differs(warm, task)
                if refusal:
                    self._replace()
                    return refusal
            for one in news:
                if isinstance(one, Progress):
                    held.tell(one.to_json())
            reports = [one for one in news if isinstance(one, Report)]
            if warm.pack is None:
                return reports
            if reports:
                held.bring(self._counted(reports))
            if bell in ready:
                newcomers = _newcomers(self._keeper.changed(held), task, given)
                if newcomers:
                    warm.join(newcomers)
                given |= {(s.trial, s.start) for s in newcomers.values()}
                stopping -= {s.trial for s in newcomers.values()}
            if overdue := warm.overdue(**limits):
                return self._replace(overdue)
            if held.lost:
                self._replace("its lease is another's")  # no checkpoint of a stale holder
                return None
            wanted = set(held.cancelled)
            if self._leaving:
                leave_by = leave_by or time.monotonic() + _SAVING_SECONDS
                wanted |= {s.trial for s in warm.pack.segments}
            for trial in wanted - stopping:
                warm.cancel(trial)
            stopping |= wanted
            if leave_by is not None and time.monotonic() > leave_by:
                self._replace("did not save itself in time")
                return None

    def _counted(self, reports: Sequence[Report]) -> list[dict[str, Any]]:
        for report in reports:
            self._failed += report.status in FAILURES
            self._done += report.status not in (*FAILURES, Status.STOPPED)
        return [r.to_json() for r in reports]

    def _process(self, spec: TaskSpec, folder: Path | None) -> Warm:
        """The warm process for this task, new if it was another's."""
        warm = self._warm
        if warm is not None:
            if (warm.spec, warm.folder) == (spec, folder) and warm.process.poll() is None:
                self._trained += 1
                return warm
            warm.end(now=False)
        self._trained = 1
        self._warm = Warm(spec, self._log, folder=folder, environment=self._environment)
        return self._warm

    def _retire(self) -> None:
        """End a process that has trained enough, or holds too much memory."""
        if self._warm is None:
            return
        if self._resident > self._most or self._trained >= _ORDERS:
            found = self._trained, self._resident
            _said.info("the training process is replaced: %d orders, %d bytes", *found)
            self._warm.end(now=False)
            self._warm = None

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


def _most() -> int:
    """Bytes that a training process may hold between two orders."""
    text = os.environ.get(RUNNER_MEMORY)
    return memory_bytes(text, RUNNER_MEMORY) if text else psutil.virtual_memory().total // 2


def _newcomers(
    order: Mapping[str, Any] | None, task: Mapping[str, Any], given: Collection[tuple[int, int]]
) -> dict[int, Segment]:
    """Segments of an order that were not given to train yet, by their places."""
    if order is None:
        return {}
    try:
        pack = admit(task, order).pack
    except AutomlError as error:  # what is not let in comes back to the driver with the commit
        _said.warning("nobody joins: %s", error)
        return {}
    pairs = zip(pack.places, pack.segments, strict=True)
    return {place: s for place, s in pairs if (s.trial, s.start) not in given}


def _differs(warm: Warm, task: Mapping[str, Any]) -> str:
    """Why a process must not train what the driver means; "" when it may."""
    assert warm.card is not None
    for what, here in (
        ("data", warm.card.data_fingerprint),
        ("code", warm.card.code_fingerprint),
    ):
        if here != task[what]:
            return f"other {what}: fingerprint {here}, the driver's is {task[what]}"
    return ""
