"""A study in Celery workers that refills its packs: killed thrice over, each trial as by itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from automl.executors.celery import Queue
from automl.executors.executor import Refilling
from automl.executors.valkey import Server
from automl.records import FAILURES, Pack, Segment, Status, TaskCard, TaskSpec
from automl.study.controller import run
from automl.study.journal import Journal
from automl.study.live import Live
from automl.study.preparing import Prepared
from automl.study.state import State, StudyConfig, replay
from automl.tasks.opening import open_task
from automl.tasks.task import ModelTask
from automl.train import segment

from ..study.test_refilling import SPACE
from .starting import start

QUEUE = "refilled"
TASK = """
import time

import torch
from torch import nn

x = torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
data = (x, (x[:, 0] * x[:, 1] > 0).long())
metric = "accuracy"
batch_size = 16
epochs = 8


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        if not self.training:
            time.sleep(0.06)
        return self.net(x)


def model():
    return Net()
"""
Event = dict[str, Any]


class Crash(Exception):
    """The driver is gone between two lines."""


class Stage:
    """One study, driver after driver, and the one worker of its queue."""

    def __init__(self, folder: Path, broker: Server) -> None:
        self.folder, self.broker = folder, broker
        (folder / "task.py").write_text(TASK)
        self.spec = TaskSpec(str(folder / "task.py"), device="cpu")
        self.task = open_task(self.spec)
        assert isinstance(self.task, ModelTask)
        self.card: TaskCard = replace(self.task.card, space=SPACE.to_json())
        self.worker = self.started()

    def started(self) -> Any:
        return start(self.broker.url, QUEUE, self.folder / "logs")

    def drive(
        self,
        listen: Callable[[Event], None] = lambda event: None,
        stop: Callable[[State], bool] = lambda state: False,
    ) -> list[Event]:
        """Begin the study, or go on with it; its events so far. A Crash leaves all as it is."""
        steps = self.card.steps
        config = StudyConfig(
            self.spec.source, device="cpu", name="t", card=self.card, strategy="asha",
            fidelity=(steps // 4, steps, 2), budget=("14trials",), seed=3, seeds=1, workers=1,
            pack="4", refill=True, spend_all=True, queue=QUEUE,
        )  # fmt: skip
        journal = Journal(self.folder / "journal.db", "t", write=True)
        state = replay(event for _, event in journal.events())
        queue = Queue(
            self.broker.url, study="refilled-t", spec=self.spec, card=self.card, stall_seconds=60,
            queues=[QUEUE], workers=1, lease_seconds=2,
        )  # fmt: skip
        assert isinstance(queue, Refilling)
        live = Live(self.folder)
        prepared = Prepared(config, self.folder, journal, "", queue, live, state, None)
        with contextlib.ExitStack() as left:
            left.callback(live.close)
            left.callback(journal.close)
            run(prepared, listen=lambda e: listen(dict(e)), stop=lambda: int(stop(state)))
            queue.close()
            return [event for _, event in journal.events()]


@pytest.fixture
def stage(tmp_path: Path, broker: Server) -> Iterator[Stage]:
    made = Stage(tmp_path, broker)
    yield made
    made.worker.kill()
    made.worker.wait()


def test_what_is_killed_costs_no_member_of_a_refilled_pack_and_none_counts_twice(
    stage: Stage,
) -> None:
    joined: list[set[int]] = [set(), set(), set()]  # trials, by driver
    beyond: list[int] = []  # members that trained when the worker was killed

    def crashing(event: Event) -> None:
        if event.get("joined"):
            joined[0].add(event["segment"]["trial"])
            raise Crash  # it is in the journal, and nobody has been told

    def killing(event: Event) -> None:
        if event.get("joined"):
            joined[1].add(event["segment"]["trial"])
        if event["kind"] == "progress" and event["trial"] in joined[0] | joined[1] and not beyond:
            stage.worker.kill()
            stage.worker.wait()
            beyond.append(event["trial"])
            stage.worker = stage.started()

    def counting(event: Event) -> None:
        if event.get("joined"):
            joined[2].add(event["segment"]["trial"])

    with pytest.raises(Crash):
        stage.drive(crashing)
    once = len(joined[0])
    first = stage.drive(killing, stop=lambda s: bool(beyond and joined[1] - joined[0] and s.joined))
    assert first[-1]["status"] == "interrupted" and beyond and once == 1
    stopped = [e["report"] for e in first if e["kind"] == "report"]
    assert any(r["status"] == Status.STOPPED for r in stopped)
    events = stage.drive(counting)
    state = replay(events)
    assert state.ended == "done" and not state.open and not state.slots and not state.joined
    assert joined[1] and joined[2] and state.searched == 14

    reports = [e["report"] for e in events if e["kind"] == "report"]
    ended = Counter((r["trial"], r["start"]) for r in reports if r["status"] != Status.STOPPED)
    asked = {(e["segment"]["trial"], e["segment"]["start"]) for e in events if e["kind"] == "ask"}
    assert set(ended.values()) == {1} and ended.keys() == asked
    assert not {r["status"] for r in reports} & set(FAILURES)
    assert any(r["packed"] == 4 for r in reports)

    assert isinstance(stage.task, ModelTask)
    for trial in state.trials.values():
        whole = Segment(trial.number, trial.recipe, 0, trial.reached)
        (alone,) = segment.run(Pack((whole,), str(stage.folder / "alone")), stage.task)
        curve = dict(trial.curve)
        assert len(curve) >= 2
        for step, metrics in alone.curve:
            assert curve[step] == pytest.approx(dict(metrics), rel=1e-9)
        assert trial.passes == pytest.approx(alone.passes)

    client = redis.Redis.from_url(stage.broker.url, decode_responses=True)
    assert list(client.scan_iter(match="automl:refilled-t:*")) == []
