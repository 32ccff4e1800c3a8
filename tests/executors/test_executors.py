"""What every executor that trains must do, and what worker processes must survive."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from automl.checkpoints import Store
from automl.errors import AutomlError, ExecutorError, SpaceError, TaskError
from automl.executors.executor import Executor
from automl.executors.inline import Inline
from automl.executors.processes import Processes
from automl.recipe import Recipe
from automl.records import Pack, Progress, Report, Segment, Status, TaskSpec
from automl.tasks.opening import open_task
from automl.train.segment import run

from .troubled_task import TASK

STALL_SECONDS = 2.0


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> TaskSpec:
    path = tmp_path_factory.mktemp("task") / "task.py"
    path.write_text(TASK)
    return TaskSpec(str(path), device="cpu")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def processes(spec: TaskSpec, logs: Path) -> Iterator[Processes]:
    """One worker process for all tests of this file; torch is imported once a crash."""
    executor = Processes(spec, workers=1, logs=logs, stall_seconds=STALL_SECONDS)
    yield executor
    executor.close()


@pytest.fixture(params=["processes", "inline"])
def executor(request: pytest.FixtureRequest, spec: TaskSpec) -> Executor:
    if request.param == "inline":
        task = open_task(spec)
        return Inline(lambda pack, *, progress: run(pack, task, progress=progress))
    processes: Processes = request.getfixturevalue("processes")
    return processes


def segment(do: str = "learn", *, trial: int = 0, stop: int = 20, seed: int = 0) -> Segment:
    point = {"optimizer": "adamw", "optimizer.adamw.lr": 0.01, "model.do": do}
    return Segment(trial, Recipe(point, steps=stop, seed=seed), 0, stop)


def pack(folder: Path, *segments: Segment) -> Pack:
    return Pack(segments, str(folder))


def news_until_reported(
    executor: Executor, count: int = 1, *, seconds: float = 30
) -> list[Report | Progress]:
    news: list[Report | Progress] = []
    deadline = time.monotonic() + seconds
    while sum(isinstance(n, Report) for n in news) < count:
        assert time.monotonic() < deadline, f"no {count} reports in {seconds} s: {news}"
        news += executor.reports(0.2)
    return news


def outcome(executor: Executor, folder: Path, one: Segment) -> Report:
    executor.submit(pack(folder, one))
    report = news_until_reported(executor)[-1]
    assert isinstance(report, Report)
    return report


def gone(pid: int, *, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


# Every executor ------------------------------------------------------------------------------


def test_every_segment_comes_back_once_after_its_progress(
    executor: Executor, tmp_path: Path
) -> None:
    assert executor.capacity == 1
    executor.submit(pack(tmp_path, segment(trial=3), segment(trial=5, seed=1)))
    assert executor.capacity == 0
    news = news_until_reported(executor, 2)
    assert executor.capacity == 1
    reports = {n.trial: n for n in news if isinstance(n, Report)}
    assert sorted(reports) == [3, 5]
    for trial, report in reports.items():
        assert report.status is Status.DONE, report.message
        told = [
            (n.step, dict(n.metrics)) for n in news if isinstance(n, Progress) and n.trial == trial
        ]
        assert told == [(step, dict(metrics)) for step, metrics in report.curve]
        assert Store(tmp_path).steps(trial) == [20]
    assert executor.reports(0) == []


def test_an_error_of_the_users_is_a_report(executor: Executor, tmp_path: Path) -> None:
    report = outcome(executor, tmp_path, segment("asks"))
    assert report.status is Status.USER_CODE
    assert report.message.endswith(")") and "(task.py:" in report.message
    assert executor.capacity == 1


def test_values_do_not_depend_on_the_executor(
    processes: Processes, spec: TaskSpec, tmp_path: Path
) -> None:
    task = open_task(spec)
    (here,) = run(pack(tmp_path / "here", segment()), task)
    there = outcome(processes, tmp_path / "there", segment())
    assert there.curve == here.curve


# Worker processes ----------------------------------------------------------------------------


def test_the_first_worker_says_what_the_task_is(processes: Processes) -> None:
    assert processes.card.metric == "accuracy"
    assert processes.card.batch_size == 16
    assert processes.card.code_fingerprint


@pytest.mark.parametrize(
    ("do", "ended"),
    [
        ("exit", "the worker exited with code 3"),
        ("kill", "the worker was killed (exit -9, likely out of memory)"),
        ("segfault", "the worker died of SIGSEGV"),
    ],
)
def test_a_worker_that_dies_loses_its_segment_and_is_replaced(
    processes: Processes, tmp_path: Path, do: str, ended: str
) -> None:
    report = outcome(processes, tmp_path, segment(do, trial=7))
    assert (report.trial, report.status, report.message) == (7, Status.LOST, ended)
    assert outcome(processes, tmp_path, segment(trial=8)).status is Status.DONE
