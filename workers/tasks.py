"""The one task: `automl.train` with a study's name and an order's, both plain text."""

from __future__ import annotations

from automl.executors.celery import TASK

from . import app as workers


@workers.app.task(name=TASK)  # type: ignore[untyped-decorator]
def train(study: str, id: str) -> None:
    """Train one order, if its lease is free; nothing it does may end this process."""
    assert workers.supervisor is not None
    workers.supervisor.train(study, id)
