"""Who trains a study: processes of the driver's own, or the workers of a queue in their place."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from automl.errors import ExecutorError, QueueAway
from automl.executors.broker import lease_seconds
from automl.executors.executor import Executor
from automl.executors.processes import Processes
from automl.signing import shared_key
from automl.study.options import TuneOptions
from automl.study.shipping import Shipped, shipped
from automl.study.state import StudyConfig

_AWAY_SECONDS = 30.0


def crew(options: TuneOptions, listen: Callable[[Mapping[str, Any]], None]) -> int:
    """Workers of the queues that fit, at least one; 0 without a queue.

    A study that was begun waits a while for a server that is away: whatever keeps drivers may
    start this one before it.

    Raises:
        ExecutorError: there is no queue where the options say, or needs without one.
    """
    if options.broker is None:
        if options.needs:
            raise ExecutorError("--needs chooses among the workers of a queue: give --broker, too")
        return 0
    from automl.executors.celery import living  # celery: only who asks for a queue loads it
    from automl.executors.sharing import Claim

    begun = options.name is not None and (Path(options.runs) / options.name).is_dir()
    until = time.monotonic() + (_AWAY_SECONDS if begun else 0.0)
    told = False
    while True:
        try:
            workers = living(options.broker)
            break
        except QueueAway as error:
            if time.monotonic() > until:
                raise
            if not told:
                told = True
                text = f"{error}; it is waited for, {_AWAY_SECONDS:.0f} s at most"
                listen({"kind": "note", "text": text})
            time.sleep(0.5)
    fit = Claim("", options.queues, tuple(options.needs)).fits(workers)
    return options.workers or max(len(fit), 1)


def sent_task(options: TuneOptions) -> Shipped:
    """The task as its workers open it: from a snapshot, where they are elsewhere."""
    if options.broker is None:
        return Shipped(options.spec)
    shared_key()  # one that cannot be read is told before anything is trained
    places = [Path(p) for p in (options.runs, options.checkpoints) if p is not None]
    return shipped(options.spec, leave_out=places)


def executor_of(
    local: Processes,
    sent: Shipped,
    options: TuneOptions,
    config: StudyConfig,
    folder: Path,
    journal: str,
    listen: Callable[[Mapping[str, Any]], None],
) -> Executor:
    """Who trains the study: the local workers, or those of the queue in their place."""
    if options.broker is None:
        return local
    from automl.executors.celery import Queue  # as above

    place = config.place or str(folder.absolute())
    sent.publish(place)
    queue = Queue(
        options.broker,
        study=key_of(config.name, journal),
        spec=sent.spec,
        place=place,
        snapshot=sent.digest,
        key=shared_key(),
        card=config.card,
        stall_seconds=local.stall_seconds,
        deadline_seconds=local.deadline_seconds,
        queues=options.queues,
        needs=options.needs,
        priority=options.priority,
        workers=options.workers or 0,
        lease_seconds=lease_seconds(),
        listen=listen,
    )
    local.close()
    return queue


def key_of(name: str, journal: str) -> str:
    """The study's name among all that share a server or a store."""
    place = journal if "://" in journal else str(Path(journal).absolute())
    return f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
