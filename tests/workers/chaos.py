"""A study that is harmed again and again, beside the same study left in peace.

    calm    = the study on this machine, undisturbed
    harmed  = the study in Celery workers, while the faults below come in a fixed order
    proof   = the same trials and values, each segment reported once, nothing left behind

Faults are spread over the study's progress: the n-th of N comes when n/(N + 1) of its trials are
done, so that all of them come and none comes to an idle crew. What a supervisor outside would
start again (a worker, the driver, Redis) is started again.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from celery import Celery

from automl.executors.celery import TASK
from automl.executors.valkey import Server
from automl.records import Status
from automl.study.journal import Journal
from automl.study.preparing import saved_state
from automl.study.state import State

from .proxy import Proxy
from .starting import start

LEASE_SECONDS = 3
SETTINGS = {"AUTOML_LEASE_SECONDS": str(LEASE_SECONDS)}
WORKERS = 3
QUEUE = "chaos"
FAULTS = (
    "worker killed", "worker asked to end", "training killed", "driver killed", "redis killed",
    "frozen", "driver frozen", "delivered twice", "cut off",
)  # fmt: skip
_MARK = "AUTOML_CHAOS"  # in the environment of every process of a stage
_IDLE_SECONDS = 300.0  # without any progress, until the study counts as hanging

TASK_FILE = """
import os
import time

import torch
from torch import nn

PAUSE = float(os.environ.get("CHAOS_PAUSE", "0"))  # seconds an epoch, so that faults find work

torch.manual_seed(0)
x = torch.randn(120, 4)
y = (x[:, 0] * x[:, 1] + 0.3 * torch.randn(120) > 0).long()
data = (x, y)
metric = "accuracy"
epochs = 10
batch_size = 32


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, x):
        if not self.training:
            time.sleep(PAUSE)
        return self.net(x)


def model(width: "log 8..32" = 16):
    return Net(width)
"""


@dataclass
class Outcome:
    """What came of it; `wrong` names every promise that was broken."""

    faults: Counter[str]
    lost: int  # reports of status LOST
    seconds: float
    wrong: list[str] = field(default_factory=list)


def automl(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / "automl"), *arguments]


def tuning(folder: Path, name: str, *, trials: int, workers: int = 2) -> list[str]:
    return automl(
        "tune", str(folder / "task.py"), "--name", name, "--budget", f"{trials}trials",
        "--strategy", "random", "--seeds", "1", "--workers", str(workers), "--pack", "off",
        "--mlflow", "off", "--quiet", "--runs", str(folder / "runs"),
    )  # fmt: skip


def tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def send(signal_: signal.Signals, processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal_)


class Stage:
    """A server, workers that each reach it over a line of their own, and a driver."""

    def __init__(self, folder: Path, *, workers: int = WORKERS, pause: float = 0.0) -> None:
        self.folder, self.mark = folder, uuid.uuid4().hex
        self._environment = {
            **SETTINGS,
            "CHAOS_PAUSE": str(pause),
            _MARK: self.mark,
        }
        self.server = Server(folder / "redis")
        self.lines = [Proxy(self.server.port) for _ in range(workers)]
        self.workers = [self._worker(n) for n in range(workers)]
        self.driver: subprocess.Popen[bytes] | None = None

    def drive(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self._environment, "AUTOML_BROKER": self.server.url}
        with (self.folder / "driver.log").open("ab") as output:
            self.driver = subprocess.Popen(
                [*command, "--queue", QUEUE], env=environment, stdout=output, stderr=output
            )
        return self.driver

    def mend_workers(self) -> None:
        """Start those again that ended, as systemd would."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[number] = self._worker(number)

    def end(self) -> None:
        """Ask the workers to end, and wait for it."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.wait(120)

    def left(self) -> list[str]:
        """Command lines of processes of this stage that live, but for the server."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                mine = process.environ().get(_MARK) == self.mark
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
        return found

    def close(self) -> None:
        for one in [*self.workers, *([self.driver] if self.driver else [])]:
            send(signal.SIGKILL, tree(one.pid))
            one.wait()
        self.server.stop()
        for line in self.lines:
            line.close()

    def _worker(self, number: int) -> subprocess.Popen[bytes]:
        return start(
            self.lines[number].url, QUEUE, self.folder / "logs", name=f"w{number}",
            environment=self._environment,
        )  # fmt: skip


def harm(stage: Stage, fault: str, dice: random.Random) -> None:
    """Do it; what lasts is over when this returns, but for what must be started again."""
    number = dice.randrange(len(stage.workers))
    worker = stage.workers[number]
    family = tree(worker.pid)
    long = LEASE_SECONDS * dice.uniform(1.1, 1.6)
    if fault == "worker killed":
        worker.kill()
        worker.wait()
    elif fault == "worker asked to end":
        worker.terminate()
        worker.wait(120)
    elif fault == "training killed":
        send(signal.SIGKILL, training(family))
    elif fault == "redis killed":
        stage.server.process.kill()
        stage.server.process.wait()
        time.sleep(dice.choice([0.2, 1.0, long]))
        stage.server.start()
    elif fault == "frozen":
        part = dice.choice([family, family[:1], family[1:2], training(family)])
        _freeze(part, long)
    elif fault == "driver killed" and stage.driver:
        stage.driver.kill()
        stage.driver.wait()
    elif fault == "driver frozen" and stage.driver:
        _freeze(tree(stage.driver.pid), long)
    elif fault == "delivered twice":
        deliver_again(stage.server.url)
    elif fault == "cut off":
        stage.lines[number].cut()
        time.sleep(long)
        stage.lines[number].mend()


def training(family: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            if "automl.train" in process.cmdline():
                found.append(process)
    return found


def _freeze(processes: list[psutil.Process], seconds: float) -> None:
    send(signal.SIGSTOP, processes)
    time.sleep(seconds)
    send(signal.SIGCONT, processes)


def deliver_again(url: str) -> None:
    """Send two more messages for every order that is out."""
    client = redis.Redis.from_url(url, decode_responses=True)
    with Celery(broker=url) as app:
        for key in client.scan_iter(match="automl:*:order:*"):
            _, study, _, id = str(key).split(":")
            for _ in range(2):
                app.send_task(TASK, [study, id], queue=QUEUE, ignore_result=True)


def storm(
    folder: Path,
    *,
    faults: int,
    trials: int,
    seed: int,
    pause: float,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Run both studies in `folder` and compare them."""
    (folder / "task.py").write_text(TASK_FILE)
    calm = subprocess.run(
        tuning(folder, "calm", trials=trials), capture_output=True, text=True,
        env={k: v for k, v in os.environ.items() if k != "AUTOML_BROKER"},
    )  # fmt: skip
    assert calm.returncode in (0, 3), calm.stderr
    dice = random.Random(seed)
    plan = [FAULTS[n % len(FAULTS)] for n in range(faults)]
    dice.shuffle(plan)
    command = tuning(folder, "harmed", trials=trials, workers=WORKERS + 1)
    stage = Stage(folder, pause=pause)
    began = time.monotonic()
    try:
        stage.drive(command)
        for n, fault in enumerate(plan, 1):
            _until(stage, command, n * trials // (faults + 1))
            time.sleep(dice.uniform(0, 1))
            say(f"{time.monotonic() - began:6.1f} s  {n:3} {fault}")
            harm(stage, fault, dice)
        code = _until(stage, command, None)
        seconds = time.monotonic() - began
        outcome = Outcome(Counter(plan), 0, seconds)
        outcome.wrong += [] if code in (0, 3) else [f"the driver ended with code {code}"]
        outcome.wrong += _differences(folder, outcome)
        outcome.wrong += _left_behind(stage)
        return outcome
    finally:
        stage.close()


def _until(stage: Stage, command: list[str], done: int | None) -> int:
    """Wait until so many trials are done, or the driver is; start again what was killed."""
    journal = stage.folder / "runs" / "harmed" / "journal.db"
    heard, seen = time.monotonic(), -1
    while True:
        stage.mend_workers()
        assert stage.driver is not None
        code = stage.driver.poll()
        # A driver that begins while the server is away says so and ends; whoever keeps it, such
        # as systemd, starts it again, as one that was killed.
        log = (stage.folder / "driver.log").read_text()
        away = code == 2 and "no Redis at" in log[-500:]
        if code is not None and code >= 0 and not away:
            return code
        if code is not None:
            stage.drive(command)
        count = sum(_reported(journal).values())
        if done is not None and count >= done:
            return 0
        if count != seen:
            heard, seen = time.monotonic(), count
        assert time.monotonic() - heard < _IDLE_SECONDS, f"hangs at {count} reports: {log}"
        time.sleep(0.1)


def _reported(journal: Path) -> Counter[tuple[int, int]]:
    """How often each segment (trial, first step) came to an end."""
    return Counter(
        (r["trial"], r["start"])
        for r in _reports(journal)
        if r["status"] not in (Status.LOST, Status.STOPPED)
    )


def _reports(journal: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(Exception):  # its driver is making it, or was killed while it did
        reader = Journal(journal, "harmed")
        try:
            yield from (e["report"] for _, e in reader.events() if e["kind"] == "report")
        finally:
            reader.close()


def fingerprint(state: State) -> dict[int, str]:
    """Everything of each trial that must not depend on what happened to its workers."""
    return {
        t.number: json.dumps([
            t.recipe.key, t.phase, t.label, t.status, t.reached, t.passes,
            [(step, dict(m)) for step, m in t.curve], t.test and dict(t.test),
        ])
        for t in state.trials.values()
    }  # fmt: skip


def _differences(folder: Path, outcome: Outcome) -> Iterator[str]:
    harmed = saved_state("harmed", runs=folder / "runs")
    calm = saved_state("calm", runs=folder / "runs")
    journal = folder / "runs" / "harmed" / "journal.db"
    outcome.lost = sum(r["status"] == Status.LOST for r in _reports(journal))
    if harmed.ended != "done":
        yield f"the study ended as {harmed.ended!r}"
    ours, theirs = fingerprint(harmed), fingerprint(calm)
    for number in sorted(ours.keys() | theirs.keys()):
        if ours.get(number) != theirs.get(number):
            trial = harmed.trials.get(number)
            yield f"trial {number} differs: {trial and (trial.status, trial.message)}"
    yield from (f"{s} reported {n} times" for s, n in _reported(journal).items() if n != 1)


def _left_behind(stage: Stage) -> Iterator[str]:
    client = redis.Redis.from_url(stage.server.url, decode_responses=True)
    yield from (f"a key was left: {k}" for k in client.scan_iter(match="automl:harmed*"))
    stage.end()
    deadline = time.monotonic() + 60
    while (left := stage.left()) and time.monotonic() < deadline:
        time.sleep(0.1)
    yield from (f"a process was left: {command}" for command in left)
    yield from (f"a worker was left: {k}" for k in client.scan_iter(match="automl:worker:*"))
