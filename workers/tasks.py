"""The one task: `automl.train` with a study's name and an order's, both plain text."""

from __future__ import annotations

import logging
from typing import Any

from automl.executors.celery import TASK

from . import app as workers


@workers.app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
def train(self: Any, study: str, id: str) -> None:
    """Train this order, or what waits before it on its way; nothing may end this process.

    An exception here is ours, for those of the user's are reports. MemoryError, raised in a task,
    ends a whole Celery worker; so it is written down, and the order comes back by its lease.
    """
    assert workers.supervisor is not None
    try:
        with workers.pulse:
            workers.supervisor.train(study, id, self.request.delivery_info["routing_key"])
    except Exception:
        logging.getLogger(__name__).exception(
            "an order was given up; heard of by %s of %s", id, study
        )
        workers.supervisor.abandon()
