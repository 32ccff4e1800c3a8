"""A trial that kills what trains it fails after three attempts; the study goes on without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from automl.executors.valkey import Server
from automl.records import Status
from automl.study.controller import run
from automl.study.options import TuneOptions
from automl.study.preparing import prepare
from automl.study.state import ATTEMPTS

from ..workers.starting import worker
from .troubled_task import TASK

TRIALS = 3


@pytest.mark.slow
@pytest.mark.parametrize("where", ["processes", "queue"])
def test_a_poison_segment_ends_as_a_failed_trial(
    where: str, tmp_path: Path, broker: Server
) -> None:
    (tmp_path / "task.py").write_text(TASK)
    sets = ("model.do=learn,exit", "optimizer=adamw")
    queue = f"poison-{where}"
    options = TuneOptions(
        tmp_path / "task.py", sets=sets, epochs=2, budget=f"{TRIALS}trials", strategy="random",
        seeds=1, name="poisoned", workers=1, pack="off", runs=tmp_path / "runs", mlflow="off",
        broker=broker.url if where == "queue" else None, queue=queue,
    )  # fmt: skip
    reports: list[dict[str, Any]] = []

    def listen(event: Any) -> None:
        if event["kind"] == "report":
            reports.append(event["report"])

    if where == "processes":
        state = _run(options, listen)
    else:
        with worker(broker.url, queue, tmp_path / "logs"):
            state = _run(options, listen)
    searched = {t.number: t for t in state.search_trials()}
    deadly = {n for n, t in searched.items() if t.recipe.point["model.do"] == "exit"}
    assert len(searched) == TRIALS and 0 < len(deadly) < TRIALS
    for number, trial in searched.items():
        attempts = [r["status"] for r in reports if r["trial"] == number]
        if number in deadly:
            assert trial.status == Status.LOST
            assert trial.message == "the worker exited with code 3"
            assert attempts == [Status.LOST] * ATTEMPTS
        else:
            assert trial.status == Status.DONE
            assert attempts == [Status.DONE]
    assert state.ended == "done"


def _run(options: TuneOptions, listen: Any) -> Any:
    prepared = prepare(options)
    try:
        return run(prepared, listen=listen)
    finally:
        prepared.close()
