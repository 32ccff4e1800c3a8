"""A study in Celery workers ends as it would have, whatever is killed, frozen or sent twice."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery

from automl.checkpoints import Store
from automl.executors.celery import TASK

from .chaos import FAULTS, QUEUE, TASK_FILE, Stage, automl, storm, tuning
from .starting import until


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "task.py").write_text(TASK_FILE)
    made = Stage(tmp_path, workers=1, pause=0.02)
    yield made
    made.close()


@pytest.mark.slow
def test_ten_faults_change_no_trial_and_leave_nothing_behind(tmp_path: Path) -> None:
    outcome = storm(tmp_path, faults=10, trials=10, seed=0, pause=0.05)
    assert set(outcome.faults) == set(FAULTS)
    assert outcome.wrong == []


def test_a_worker_that_is_asked_to_end_hands_its_segment_over(stage: Stage) -> None:
    long = (stage.folder / "task.py").read_text().replace("epochs = 10", "epochs = 30000")
    (stage.folder / "task.py").write_text(long)
    (worker,) = stage.workers
    driver = stage.drive(tuning(stage.folder, "s", trials=1))
    store = Store(stage.folder / "runs" / "s" / "checkpoints")
    client = redis.Redis.from_url(stage.server.url, decode_responses=True)
    until("progress", lambda: any(client.scan_iter(match="automl:s-*:progress")))
    worker.terminate()
    assert worker.wait(180) == 0
    assert store.steps(0)  # where it stood
    (order,) = client.scan_iter(match="automl:*:order:*")
    assert client.hget(order, "token") is None
    driver.kill()
    driver.wait()


def test_a_password_on_the_command_line_is_refused_in_one_line() -> None:
    done = subprocess.run(
        automl("worker", "ls", "--broker", "redis://:hush@127.0.0.1:1/0"),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "hush" not in done.stderr and "AUTOML_BROKER" in done.stderr


def test_a_pickled_message_is_refused_and_the_worker_lives_on(stage: Stage, tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {mark}",)

    with Celery(broker=stage.server.url) as app, app.connection_for_write() as line:
        queue = line.SimpleQueue(QUEUE)
        queue.put([[Evil()], {}, {}], serializer="pickle", headers={"task": TASK, "id": "evil"})
        queue.close()
    log = tmp_path / "logs"
    until("a refusal in a log", lambda: any(
        "ContentDisallowed" in f.read_text() for f in log.glob("w*.log")
    ))  # fmt: skip
    assert not mark.exists()
    assert all(w.poll() is None for w in stage.workers)
