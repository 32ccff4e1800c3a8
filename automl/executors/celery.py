"""Workers elsewhere: Celery carries an order's name, Redis holds the order and its lease.

What was submitted comes back once: as the reports that its holder committed, or as LOST when its
lease ran out again and again. A message is only a bell, rung when fewer lie in the broker's queue
than orders wait (see `leases`). It may come twice, and the lease refuses the second; it may be
lost, and is sent again when its order waits for long. An order that a worker refuses (it has other
data, or another key) waits for another worker, and whoever looks is told. While Redis is away
nothing is known to be lost: workers train on, and the sweep for dead leases waits one lease's
length after Redis has come back.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from automl.buckets import is_url
from automl.errors import QueueAway
from automl.executors import crew
from automl.executors.broker import redacted
from automl.executors.leases import LEASE_SECONDS, Entry, Gone, Leases, connect
from automl.executors.needs import routes
from automl.executors.sharing import Claim, announce, claims, share, withdraw
from automl.records import Pack, Progress, Report, Segment, Status, TaskCard, TaskSpec, Vacancy
from automl.signing import signed

TASK = "automl.train"  # the Celery task's name
SETTINGS = {
    "accept_content": ["json"],  # nothing that arrives is unpickled
    "task_serializer": "json",
    "task_ignore_result": True,  # results go by a fenced commit
    "task_acks_late": True,
    "task_reject_on_worker_lost": False,  # else a poison segment would go round for ever
    "worker_prefetch_multiplier": 1,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,
    # Redelivery is a backstop that the lease refuses; it must not come while a segment trains.
    "broker_transport_options": {
        "visibility_timeout": 43_200,
        "socket_keepalive": True,
        "socket_timeout": 30,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
    },
}
_COUNT_SECONDS = 1.0  # between looks at which workers live
_REFUSED_SECONDS = 2.0  # until a bell is rung again that a worker may have heard in vain
_AWAY_SECONDS = 0.2  # between tries to reach a server that is away


def living(url: str) -> dict[str, dict[str, str]]:
    """Workers that live, by name, with the fields of `automl.executors.crew`.

    Raises:
        QueueAway: no server answers.
    """
    client = connect(url)
    try:
        return crew.living(client)
    except Gone as error:
        raise QueueAway(f"no Redis at {redacted(url)}: {_why(error)}") from None
    finally:
        client.close()


def drain(url: str, names: list[str]) -> None:
    """Let these workers finish what they train, and leave; nobody joins their packs any more."""
    client = connect(url)
    with contextlib.suppress(*Gone):
        crew.close(client, names)
    client.close()
    with Celery("automl", broker=url) as app:
        app.conf.update(SETTINGS)
        app.control.shutdown(destination=names)


@dataclass
class _Out:
    """A pack that is out: what of it has no report yet."""

    pack: Pack
    vacant: bool = False  # members have ended since it was last said who takes their places
    sent: float = -math.inf  # when its name was last sent
    again: int = 0  # times that it was sent though others may lie in the queue before it
    cancelled: frozenset[int] = frozenset()


class Queue:
    """An executor of Celery workers on queues of a Redis server.

    Args:
        study: names the keys; the same driver finds them again after a crash.
        spec: the task, as every worker can open it: its path is one on the workers' disks.
        card: what the driver found there; workers with other code or data refuse.
        needs: what its workers must have; see `automl.executors.needs`.
        priority: its part of workers that other studies want, too; see `automl.executors.sharing`.
        workers: packs that are out at once; 0: as many as workers live.
        place: of checkpoints and code, a folder or URL; workers may know it by another address.
        snapshot: digest of the code that lies there; "": none is needed.
        key: that the announcement and all orders are signed with.
        listen: hears a "crew" event whenever the queue's workers, or what they do, change.

    Raises:
        QueueAway: no server answers.
    """

    def __init__(
        self,
        url: str,
        *,
        study: str,
        spec: TaskSpec,
        card: TaskCard,
        stall_seconds: float,
        deadline_seconds: float = math.inf,
        queues: Sequence[str] = ("cpu",),
        needs: Sequence[str] = (),
        priority: int = 1,
        workers: int = 0,
        lease_seconds: float = LEASE_SECONDS,
        place: str = "",
        snapshot: str = "",
        key: bytes | None = None,
        listen: Callable[[Mapping[str, Any]], None] = lambda event: None,
    ) -> None:
        self.card = card
        self._claim = Claim(study, tuple(queues), tuple(needs), priority)
        self._routes = routes(queues, needs)
        self._listen, self._told = listen, {"kind": ""}
        self._asked = workers
        self._client = connect(url)
        self._leases = Leases(self._client, study, seconds=lease_seconds)
        self._app = Celery("automl", broker=url)
        self._app.conf.update(SETTINGS)
        self._out: dict[str, _Out] = {}
        self._refusals: set[str] = set()  # what workers said that will not train this study
        self._unlaid: list[str] = []  # orders that the server may not know
        self._changed: dict[str, bool] = {}  # orders that it knows as they were; whether more join
        self._seen: list[str] = []  # entries that the driver has, but may not have journaled
        self._reports = "0-0"
        self._swept = time.monotonic()
        self._looked = -_COUNT_SECONDS
        self._share = 0  # of the workers that live
        self._most = 0  # orders that were out at once since the last look
        self._key = key
        task = {
            "study": study,
            "place": place,
            "snapshot": snapshot,
            "spec": spec.to_json(),
            "code": card.code_fingerprint,
            "data": card.data_fingerprint,
            "stall_seconds": stall_seconds,
            "deadline_seconds": deadline_seconds,
            "lease_seconds": lease_seconds,
        }
        self._task = signed(task, key)
        try:
            self._leases.announce(self._task)
            self._progress = self._leases.last_progress()
        except Gone as error:
            raise QueueAway(f"no Redis at {redacted(url)}: {_why(error)}") from None
        self._look()

    @property
    def workers(self) -> int:
        """Packs that may be out at once."""
        self._look()
        return max(self._share, 1)

    @property
    def capacity(self) -> int:
        return self.workers - len(self._out)

    def submit(self, pack: Pack) -> None:
        """Have the order laid down by the next `reports`, or as soon as Redis is back."""
        if not is_url(pack.checkpoints):
            pack = replace(pack, checkpoints=str(Path(pack.checkpoints).absolute()))
        id, places = _name(pack), pack.places
        if pack.name and id in self._out:  # its company trains on
            self._join(id, dict(zip(places, pack.segments, strict=True)))
            return
        self._out[id] = _Out(pack)
        self._most = max(self._most, len(self._out))
        self._unlaid.append(id)

    def vacancies(self) -> list[Vacancy]:
        """Those of a study with no more than its share: what others wait for is not refilled."""
        if self.capacity < 0:
            return []
        return [
            Vacancy(id, out.pack.segments, out.pack.free)
            for id, out in self._out.items()
            if out.vacant and out.pack.segments
        ]

    def join(self, vacancy: Vacancy, newcomers: Mapping[int, Segment]) -> None:
        id = str(vacancy.where)
        self._out[id].vacant = False
        if newcomers:
            self._join(id, newcomers)

    def reports(self, timeout: float) -> list[Report | Progress]:
        """News; those of the call before are forgotten here, for by now they are journaled."""
        self._look()
        try:
            self._lay()
            lacking: list[str] = []
            if time.monotonic() - self._swept > self._patience() / 4:
                self._swept = time.monotonic()
                self._leases.sweep()
                lacking = self._leases.missing(set(self._out) - set(self._unlaid))
                self._send_again()
            entries, told = self._leases.read(self._reports, self._progress, timeout)
            news: list[Report | Progress] = [Progress.from_json(p) for _, p in told]
            if told:
                self._progress = told[-1][0]
            for entry in entries:
                self._reports = entry.at
                self._seen.append(entry.at)
                news += self._came(entry)
            # Not committed, but forgotten by a server that crashed.
            self._unlaid += [id for id in lacking if id in self._out]
        except (*Gone, OperationalError):
            self._swept = time.monotonic() + self._leases.seconds  # its holders first
            time.sleep(min(timeout, _AWAY_SECONDS))
            return []
        return news

    def cancel(self, trial: int) -> None:
        for id, out in self._out.items():
            if any(s.trial == trial for s in out.pack.segments):
                out.cancelled |= {trial}
                with contextlib.suppress(*Gone):
                    self._withdraw(id)

    def close(self) -> None:
        """Withdraw what is out: its holders stop at their next step, or are refused."""
        with contextlib.suppress(*Gone):
            withdraw(self._client, self._claim.study)
            self._leases.clear()
        self._out = {}
        self._app.close()
        self._client.close()

    # ----------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Which workers there are, and our part; while the server is away, as it was."""
        now = time.monotonic()
        if now - self._looked < _COUNT_SECONDS:
            return
        self._looked = now
        out, self._most = self._most, len(self._out)
        hungry = out >= max(self._share, 1)
        with contextlib.suppress(*Gone):
            announce(self._client, replace(self._claim, out=out, hungry=hungry))
            workers, wanted = crew.living(self._client), claims(self._client)
            fit = self._claim.fits(workers)
            alone = not any(c.study != self._claim.study and c.fits(fit) for c in wanted)
            part = math.ceil(share(self._claim, wanted, workers) - 1e-9)
            self._share = self._asked if alone and self._asked else min(self._asked or part, part)
            claim = self._claim
            event = crew.seen(claim.study, claim.queues, claim.needs, workers, fit)
            if event != self._told:
                self._told = event
                self._listen(event)

    def _lay(self) -> None:
        """Lay down what was submitted, forget what is journaled, and ring where it is needed."""
        packs = {id: self._out[id].pack for id in self._unlaid if id in self._out}
        orders = {id: signed(pack.to_json(), self._key) for id, pack in packs.items()}
        rings = self._leases.turn(orders, self._routes, self._seen)
        self._unlaid, self._seen = [], []
        while self._changed:
            id, joined = next(iter(self._changed.items()))
            if id in self._out:
                order = signed(self._out[id].pack.to_json(), self._key)
                self._leases.change(id, order, joined=joined)
            del self._changed[id]
        for id, queues in rings.items():
            self._send(id, queues)
            if self._out[id].cancelled:  # before the server knew of it
                self._withdraw(id)

    def _join(self, id: str, newcomers: Mapping[int, Segment]) -> None:
        out = self._out[id]
        out.pack = out.pack.joined(newcomers)
        out.cancelled -= {s.trial for s in newcomers.values()}
        self._changed[id] = True

    def _withdraw(self, id: str) -> None:
        out = self._out[id]
        whole = {s.trial for s in out.pack.segments} <= out.cancelled
        self._leases.cancel(id, sorted(out.cancelled), whole=whole)

    def _send(self, id: str, queues: Sequence[str]) -> None:
        """Ring in these queues: whoever is free first has it, the lease refuses others."""
        for queue in queues:
            self._app.send_task(
                TASK, [self._leases.study, id], queue=queue, retry=False, ignore_result=True
            )
        self._out[id].sent = time.monotonic()

    def _send_again(self) -> None:
        """Send the names of orders that wait though no message for them may be left.

        None can be in an empty queue. In those that others keep full, after a time that doubles.
        """
        now, lease = time.monotonic(), self._patience()
        old = {id: out for id, out in self._out.items() if out.sent < now - lease}
        if not old:
            return
        empty = [queue for queue in self._routes if not self._client.llen(queue)]
        for id in self._leases.waiting(old):
            if empty or old[id].sent < now - lease * 2 ** old[id].again:
                old[id].again += not empty
                self._send(id, empty or self._routes)

    def _patience(self) -> float:
        """Seconds that an order may wait until its bell is thought lost.

        A worker that refused the study heeds no bell of it, and leaves no sign that it heard one.
        """
        return _REFUSED_SECONDS if self._refusals else self._leases.seconds

    def _came(self, entry: Entry) -> Iterator[Report]:
        out = self._out.get(entry.id)
        if out is None:
            return  # of an earlier life of this driver, and in its journal
        if entry.kind == "refused" and entry.data not in self._refusals:
            self._refusals.add(entry.data)
            text = f"{entry.data}; its segments wait for other workers"
            self._listen({"kind": "note", "text": text})
        if entry.kind in ("handed", "refused"):
            self._send(entry.id, self._leases.again(entry.id, self._routes))
            return
        if entry.kind in ("ended", "closing"):
            yield from self._ended(out, entry)
            out.vacant = entry.kind == "ended"
            self._changed.setdefault(entry.id, False)
            return
        del self._out[entry.id]
        if entry.kind == "reports":
            yield from self._ended(out, entry)
            if out.pack.segments:  # they joined too late
                self.submit(out.pack)
        elif entry.kind == "withdrawn":  # nobody had begun it
            for s in out.pack.segments:
                yield Report(s.trial, s.start, s.start, Status.STOPPED)
        else:
            message = f"worker {entry.data} went away"
            for s in out.pack.segments:
                yield Report(s.trial, s.start, s.start, Status.LOST, message=message)

    @staticmethod
    def _ended(out: _Out, entry: Entry) -> list[Report]:
        """Reports of what is out; others of the pack were brought before, and told twice."""
        reports = [Report.from_json(r) for r in json.loads(entry.data)]
        training = {(s.trial, s.start) for s in out.pack.segments}
        out.pack = out.pack.without(reports)
        return [r for r in reports if (r.trial, r.start) in training]


def _name(pack: Pack) -> str:
    """The same for the same order: a driver that comes back finds what it had handed out."""
    if pack.name:
        digest = hashlib.sha256(f"{pack.name} {pack.checkpoints}".encode()).hexdigest()[:12]
        return f"pack-{digest}"
    text = json.dumps(pack.to_json(), sort_keys=True)
    first = pack.segments[0]
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{first.trial}-{first.start}-{first.stop}-{digest}"


def _why(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
