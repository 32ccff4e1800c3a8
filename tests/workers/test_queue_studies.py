"""A study in Celery workers ends as it would have, whatever is killed, frozen or sent twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery

from automl.executors.celery import TASK, living
from automl.executors.valkey import Server
from automl.study.preparing import saved_state

from ..study.test_kill import TASK as TASK_FILE
from ..study.test_kill import fingerprint
from .starting import start

FAULTS = 10
SETTINGS = {"AUTOML_LEASE_SECONDS": "3"}


def automl(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "automl"), *arguments]


def tuning(folder: Path, name: str, *, trials: int) -> list[str]:
    return automl(
        "tune", str(folder / "task.py"), "--name", name, "--budget", f"{trials}trials",
        "--strategy", "random", "--seeds", "1", "--workers", "2", "--pack", "off",
        "--mlflow", "off", "--quiet", "--runs", str(folder / "runs"),
    )  # fmt: skip


def tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


class Stage:
    """A server, two workers and a driver, all of them to be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder / "redis")
        self.workers = [self.worker(n) for n in range(2)]
        self.driver: subprocess.Popen[bytes] | None = None

    def worker(self, number: int) -> subprocess.Popen[bytes]:
        return start(self.server.url, "chaos", self.folder / "logs", name=f"w{number}")

    def drive(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **SETTINGS, "AUTOML_BROKER": self.server.url}
        with (self.folder / "driver.log").open("ab") as output:
            self.driver = subprocess.Popen(
                [*command, "--queue", "chaos"], env=environment, stdout=output, stderr=output
            )
        return self.driver

    def replace(self, number: int) -> None:
        self.workers[number].wait()
        self.workers[number] = self.worker(number)

    def close(self) -> None:
        for one in [*self.workers, *([self.driver] if self.driver else [])]:
            for process in tree(one.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            one.wait()
        self.server.stop()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    (tmp_path / "task.py").write_text(TASK_FILE)
    made = Stage(tmp_path)
    yield made
    made.close()


def until(what: str, true: object, *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def harm(stage: Stage, fault: str, number: int) -> None:
    """Do it, and start again what a supervisor outside would start again."""
    worker = stage.workers[number]
    if fault == "worker":
        worker.kill()
        stage.replace(number)
    elif fault == "terminate":
        worker.terminate()
        stage.replace(number)
    elif fault == "runner":
        for process in tree(worker.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "automl.train" in process.cmdline():
                    process.kill()
    elif fault == "redis":
        stage.server.process.kill()
        stage.server.process.wait()
        time.sleep(0.3)
        stage.server.start()
    elif fault == "freeze":
        frozen = tree(worker.pid)
        for signal_ in (signal.SIGSTOP, signal.SIGCONT):
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal_)
            time.sleep(1.0)
    elif fault == "twice":
        client = redis.Redis.from_url(stage.server.url, decode_responses=True)
        with Celery(broker=stage.server.url) as app:
            for key in client.scan_iter(match="automl:*:order:*"):
                _, study, _, id = str(key).split(":")
                for _ in range(2):
                    app.send_task(TASK, [study, id], queue="chaos", ignore_result=True)


@pytest.mark.slow
def test_ten_faults_change_no_trial_and_leave_nothing_behind(stage: Stage) -> None:
    undisturbed = subprocess.run(
        [*tuning(stage.folder, "calm", trials=5)],
        env={k: v for k, v in os.environ.items() if k != "AUTOML_BROKER"},
    )
    assert undisturbed.returncode in (0, 3)
    dice = random.Random(0)
    faults = ["worker", "terminate", "runner", "redis", "freeze", "twice", "driver"]
    faults += ["driver", "runner", "twice"]
    dice.shuffle(faults)
    assert len(faults) == FAULTS
    command = tuning(stage.folder, "harmed", trials=5)
    driver = stage.drive(command)
    begun = stage.folder / "runs" / "harmed" / "checkpoints"
    until("the first checkpoint", begun.exists)
    for n, fault in enumerate(faults):
        time.sleep(dice.uniform(0.2, 1.0))
        if fault == "driver":
            driver.kill()
            driver.wait()
            driver = stage.drive(command)
        else:
            harm(stage, fault, n % 2)
    assert driver.wait(150) in (0, 3), (stage.folder / "driver.log").read_text()
    runs = stage.folder / "runs"
    assert fingerprint(saved_state("harmed", runs=runs)) == fingerprint(
        saved_state("calm", runs=runs)
    )
    client = redis.Redis.from_url(stage.server.url)
    assert list(client.scan_iter(match="automl:harmed*")) == []


def test_a_worker_that_is_asked_to_end_hands_its_segment_over(stage: Stage) -> None:
    long = (stage.folder / "task.py").read_text().replace("epochs = 60", "epochs = 3000")
    (stage.folder / "task.py").write_text(long)
    spare = stage.workers.pop()
    spare.kill()
    spare.wait()
    (worker,) = stage.workers
    driver = stage.drive(tuning(stage.folder, "s", trials=1))
    until("a worker that trains", lambda: any(
        w.get("doing") for w in living(stage.server.url).values()
    ))  # fmt: skip
    time.sleep(3)
    began = time.monotonic()
    worker.terminate()
    assert worker.wait(20) == 0
    assert time.monotonic() - began < 15
    client = redis.Redis.from_url(stage.server.url, decode_responses=True)
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
        queue = line.SimpleQueue("chaos")
        queue.put([[Evil()], {}, {}], serializer="pickle", headers={"task": TASK, "id": "evil"})
        queue.close()
    log = tmp_path / "logs"
    until("a refusal in a log", lambda: any(
        "ContentDisallowed" in f.read_text() for f in log.glob("w*.log")
    ))  # fmt: skip
    assert not mark.exists()
    assert all(w.poll() is None for w in stage.workers)
