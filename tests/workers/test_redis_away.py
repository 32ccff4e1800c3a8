"""The server goes away and comes back: what was trained meanwhile is kept, and all go on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from automl.checkpoints import Store
from automl.errors import QueueAway
from automl.executors.celery import SETTINGS, TASK, Queue, living
from automl.executors.valkey import Server
from automl.recipe import Recipe
from automl.records import Pack, Progress, Report, Segment, Status, TaskSpec
from automl.space.ranges import Value
from automl.study.crowd import crew
from automl.study.options import TuneOptions
from automl.tasks.opening import open_task

from ..executors.troubled_task import TASK as TASK_FILE
from .chaos import automl
from .starting import until, worker

CRASHES = 3
LEASE_SECONDS = 2.0
STEPS = 100


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "redis")
    yield made
    made.stop()


def held(trial: int) -> Segment:
    point: dict[str, Value] = {
        "optimizer": "adamw", "optimizer.adamw.lr": 0.01, "model.do": "held",
    }  # fmt: skip
    return Segment(trial, Recipe(point, steps=STEPS, seed=0), 0, STEPS)


def next_report(queue: Queue) -> Report:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        reports = [n for n in queue.reports(0.2) if isinstance(n, Report)]
        if reports:
            (report,) = reports
            return report
    raise AssertionError("no report in 180 s")


@pytest.mark.slow
def test_what_was_trained_while_the_server_was_away_is_committed_once(
    tmp_path: Path, server: Server
) -> None:
    (tmp_path / "task.py").write_text(TASK_FILE)
    spec = TaskSpec(str(tmp_path / "task.py"), device="cpu")
    store, hold = Store(tmp_path / "checkpoints"), tmp_path / "hold"
    with worker(server.url, "away", tmp_path / "logs"):
        queue = Queue(
            server.url, study="away", spec=spec, card=open_task(spec).card, stall_seconds=60,
            queues=["away"], workers=1, lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
        for trial in range(CRASHES):
            hold.touch()  # it does not end before the server does
            queue.submit(Pack((held(trial),), str(store.root)))
            while not any(isinstance(n, Progress) for n in queue.reports(0.2)):
                pass
            server.process.kill()
            server.process.wait()
            hold.unlink()
            until("the end of the training", partial(store.exists, trial, STEPS))
            if trial == 0:  # longer than the lease; the other times it is back at once
                time.sleep(LEASE_SECONDS)
            server.start()
            report = next_report(queue)
            assert (report.trial, report.status) == (trial, Status.DONE), report.message
            assert queue.reports(LEASE_SECONDS) == []
        client = redis.Redis.from_url(server.url, decode_responses=True)
        assert list(client.scan_iter(match="automl:away:order:*")) == []
        assert client.zcard("automl:away:leases") == 0
        queue.close()
        assert list(client.scan_iter(match="automl:away*")) == []


def test_a_study_that_was_begun_waits_for_a_server_that_is_away(
    tmp_path: Path, server: Server
) -> None:
    options = TuneOptions(
        "digits", budget="1trials", strategy="random", seeds=1, name="begun", runs=tmp_path,
        broker=server.url,
    )  # fmt: skip
    server.process.kill()
    server.process.wait()
    said: list[str] = []

    def listen(event: Mapping[str, Any]) -> None:
        said.append(event["text"])
        server.start()

    with pytest.raises(QueueAway, match="no Redis at redis://127.0.0.1"):
        crew(options, listen)
    assert said == []
    (tmp_path / "begun").mkdir()
    assert crew(options, listen) == 1
    (line,) = said
    assert line.startswith("no Redis at redis://")
    assert line.endswith("; it is waited for, 30 s at most")


def test_a_worker_that_takes_no_message_though_one_waits_is_started_again(
    tmp_path: Path, server: Server
) -> None:
    command = automl("worker", "start", "--queue", "deaf", "--logs", str(tmp_path / "logs"))
    settings = {"AUTOML_BROKER": server.url, "AUTOML_DEAF_SECONDS": "2"}
    with (tmp_path / "said.txt").open("wb") as said:
        crew = subprocess.Popen(command, env={**os.environ, **settings}, stdout=said)
    client = redis.Redis.from_url(server.url)
    try:
        until("a worker", lambda: living(server.url))
        (before,) = living(server.url).values()
        with Celery(broker=server.url) as app:
            app.conf.update(SETTINGS)
            until("an answer", lambda: app.control.cancel_consumer("deaf", reply=True, timeout=9))
            app.send_task(TASK, ["no study", "no order"], queue="deaf")
        until("another process", lambda: any(
            w["pid"] != before["pid"] for w in living(server.url).values()
        ))  # fmt: skip
        until("an empty queue", lambda: client.llen("deaf") == 0)
    finally:
        crew.terminate()
        crew.wait()
    assert "cpu-0 ended with code 75; it is started again" in (tmp_path / "said.txt").read_text()
