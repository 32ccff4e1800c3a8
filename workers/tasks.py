"""The one task: `automl.train` with a study's name and an order's, both plain text."""

from __future__ import annotations

import logging

from automl.executors.celery import TASK

from . import app as workers


@workers.app.task(name=TASK)  # type: ignore[untyped-decorator]
def train(study: str, id: str) -> None:
    """Train one order, if its lease is free; nothing it does may end this process.

    An exception here is ours, for those of the user's are reports. MemoryError, raised in a task,
    ends a whole Celery worker; so it is written down, and the order comes back by its lease.
    """
    assert workers.supervisor is not None
    try:
        with workers.pulse:
            workers.supervisor.train(study, id)
    except Exception:
        logging.getLogger(__name__).exception("order %s of %s was given up", id, study)
        workers.supervisor.abandon()
