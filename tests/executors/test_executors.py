"""What every executor that trains must do, and what worker processes must survive."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
import redis
from celery import Celery

from automl.checkpoints import Store
from automl.errors import AutomlError, ExecutorError, SpaceError
from automl.executors.celery import TASK as TASK_NAME
from automl.executors.celery import Queue, living
from automl.executors.executor import Executor
from automl.executors.inline import Inline
from automl.executors.processes import Processes
from automl.executors.valkey import Server
from automl.recipe import Recipe
from automl.records import Pack, Progress, Report, Segment, Status, TaskSpec
from automl.space.ranges import Value
from automl.tasks.opening import open_task
from automl.train.segment import run

from ..workers.starting import worker
from .troubled_task import TASK

RUNNER_MEMORY = "450m"  # an opened task takes 260
PATIENCE_SECONDS = 300.0  # of the executors here, unless a test says something else: see `limits`


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
    executor = Processes(
        spec, workers=1, logs=logs, stall_seconds=PATIENCE_SECONDS,
        deadline_seconds=PATIENCE_SECONDS,
    )  # fmt: skip
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def queue(spec: TaskSpec, logs: Path, broker: Server) -> Iterator[Queue]:
    """One Celery worker for all tests of this file, and the driver's side of its queue."""
    card = open_task(spec).card
    with worker(broker.url, "executors", logs, environment={"AUTOML_RUNNER_MEMORY": RUNNER_MEMORY}):
        executor = Queue(
            broker.url, study="executors", spec=spec, card=card, stall_seconds=PATIENCE_SECONDS,
            deadline_seconds=PATIENCE_SECONDS, queues=["executors"], workers=1,
        )  # fmt: skip
        yield executor
        executor.close()


@pytest.fixture(params=["processes", "queue"])
def apart(request: pytest.FixtureRequest) -> Executor:
    """An executor whose workers are other processes."""
    executor: Executor = request.getfixturevalue(request.param)
    return executor


@pytest.fixture(params=["processes", "queue", "inline"])
def executor(request: pytest.FixtureRequest, spec: TaskSpec) -> Executor:
    if request.param == "inline":
        task = open_task(spec)
        return Inline(lambda pack, *, progress: run(pack, task, progress=progress))
    made: Executor = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def hold(spec: TaskSpec) -> Iterator[Path]:
    """The file that keeps a held segment in its midst, until it is taken away."""
    path = Path(spec.source).with_name("hold")
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def limits(executor: Executor, **seconds: float) -> Iterator[None]:
    """Other limits for the segments that are submitted now."""

    def patient(times: Mapping[str, float]) -> None:
        if isinstance(executor, Queue):
            executor._leases.announce({**executor._task, **times})
        else:
            vars(executor).update(times)

    patient(seconds)
    try:
        yield
    finally:
        patient(dict.fromkeys(seconds, PATIENCE_SECONDS))


def segment(do: str = "learn", *, trial: int = 0, stop: int = 20, seed: int = 0) -> Segment:
    point: dict[str, Value] = {"optimizer": "adamw", "optimizer.adamw.lr": 0.01, "model.do": do}
    return Segment(trial, Recipe(point, steps=stop, seed=seed), 0, stop)


def pack(folder: Path, *segments: Segment) -> Pack:
    return Pack(segments, str(folder))


def news_until_reported(
    executor: Executor, count: int = 1, *, seconds: float = 120
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


def gone(pid: int, *, seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def trainers() -> set[int]:
    """Processes that train, whoever's children they are."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "automl.train" in process.cmdline():
                found.add(process.pid)
    return found


def children() -> set[int]:
    return {p.pid for p in psutil.Process().children() if p.status() != psutil.STATUS_ZOMBIE}


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


@pytest.mark.parametrize(
    ("do", "status"),
    [
        ("memory", Status.OUT_OF_MEMORY),
        ("cuda", Status.OUT_OF_MEMORY),
        ("sys_exit", Status.USER_CODE),
    ],
)
def test_what_can_be_caught_costs_no_worker(
    executor: Executor, tmp_path: Path, do: str, status: Status
) -> None:
    assert outcome(executor, tmp_path, segment()).status is Status.DONE
    before = trainers()
    assert outcome(executor, tmp_path, segment(do, trial=1)).status is status
    assert outcome(executor, tmp_path, segment(trial=2)).status is Status.DONE
    assert trainers() == before


def test_values_do_not_depend_on_the_executor(
    apart: Executor, spec: TaskSpec, tmp_path: Path
) -> None:
    task = open_task(spec)
    (here,) = run(pack(tmp_path / "here", segment()), task)
    there = outcome(apart, tmp_path / "there", segment())
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
    apart: Executor, tmp_path: Path, do: str, ended: str
) -> None:
    report = outcome(apart, tmp_path, segment(do, trial=7))
    assert (report.trial, report.status, report.message) == (7, Status.LOST, ended)
    assert outcome(apart, tmp_path, segment(trial=8)).status is Status.DONE


def test_a_dead_worker_is_noticed_though_its_child_lives_on(
    processes: Processes, tmp_path: Path
) -> None:
    report = outcome(processes, tmp_path, segment("orphan"))
    assert (report.status, report.message) == (Status.LOST, "the worker exited with code 5")


def test_a_worker_takes_subnormal_numbers_for_zeros(apart: Executor, tmp_path: Path) -> None:
    report = outcome(apart, tmp_path, segment("faint"))
    assert report.status is Status.DONE, report.message


def test_a_worker_that_hangs_is_killed_after_the_stall_limit(
    apart: Executor, tmp_path: Path
) -> None:
    assert outcome(apart, tmp_path, segment(trial=1)).status is Status.DONE  # it is open
    began = time.monotonic()
    with limits(apart, stall_seconds=1):
        report = outcome(apart, tmp_path, segment("hang", trial=2))
    assert (report.trial, report.status) == (2, Status.TIMEOUT)
    assert report.message == "no sign of life for 1 s; killed"
    assert time.monotonic() - began > 1


def test_a_segment_that_takes_too_long_is_ended_though_it_reports(
    apart: Executor, tmp_path: Path
) -> None:
    with limits(apart, deadline_seconds=2):
        report = outcome(apart, tmp_path, segment("slow", trial=1, stop=20_000))
    assert (report.trial, report.status) == (1, Status.TIMEOUT)
    assert report.message == "not done after 2 s, the limit of a segment; killed"
    assert outcome(apart, tmp_path, segment(trial=2)).status is Status.DONE


def test_a_training_process_that_has_grown_is_replaced_after_its_segment(
    queue: Queue, broker: Server, tmp_path: Path
) -> None:
    assert outcome(queue, tmp_path, segment()).status is Status.DONE
    before = trainers()
    assert outcome(queue, tmp_path, segment("leak", trial=1)).status is Status.DONE
    (w0,) = (w for name, w in living(broker.url).items() if name == "w0@executors")
    assert int(w0["resident"]) > 450e6
    assert outcome(queue, tmp_path, segment(trial=2)).status is Status.DONE
    assert len(before - trainers()) == 1
    assert outcome(queue, tmp_path, segment(trial=3)).status is Status.DONE


def test_a_segment_that_is_delivered_thrice_is_trained_once(
    queue: Queue, broker: Server, hold: Path, tmp_path: Path
) -> None:
    before = settled(broker)
    queue.submit(pack(tmp_path, segment("held", trial=6, stop=60)))
    queue.reports(0)  # it is laid down
    client = redis.Redis.from_url(broker.url, decode_responses=True)
    (key,) = client.scan_iter(match="automl:executors:order:*")
    with Celery(broker=broker.url) as app:
        for _ in range(2):
            app.send_task(TASK_NAME, ["executors", key.split(":")[3]], queue="executors")
    hold.unlink()
    assert [n.trial for n in news_until_reported(queue) if isinstance(n, Report)] == [6]
    assert outcome(queue, tmp_path, segment(trial=7)).status is Status.DONE
    assert queue.reports(0) == []
    assert settled(broker) == before + 2


def test_an_order_that_nobody_can_read_costs_no_worker(
    queue: Queue, broker: Server, tmp_path: Path
) -> None:
    client = redis.Redis.from_url(broker.url)
    client.hset("automl:executors:order:odd", "order", '{"segments": 5}')
    with Celery(broker=broker.url) as app:
        app.send_task(TASK_NAME, ["executors", "odd"], queue="executors")
    assert outcome(queue, tmp_path, segment()).status is Status.DONE
    client.delete("automl:executors:order:odd")


def settled(broker: Server) -> int:
    """Segments that the queue's worker has brought to a good end."""
    return int(living(broker.url)["w0@executors"]["done"])


def test_what_the_user_prints_goes_to_the_log_and_nowhere_else(
    processes: Processes, logs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = outcome(processes, tmp_path, segment("chatter"))
    assert report.status is Status.DONE
    log = (logs / "0.log").read_text()
    assert '{"reports": []}\nfrom a child\nfrom C' in log
    assert capfd.readouterr() == ("", "")


def test_a_cancelled_trial_stops_with_a_checkpoint_and_goes_on_to_the_same_end(
    apart: Executor, hold: Path, tmp_path: Path
) -> None:
    one = segment("held", trial=4, stop=120)
    apart.submit(pack(tmp_path / "cut", one))
    news: list[Report | Progress] = []
    while not any(isinstance(n, Progress) for n in news):
        news += apart.reports(0.2)
    apart.cancel(4)
    apart.cancel(99)  # of a trial that does not run: heard and forgotten
    stopped = news_until_reported(apart)[-1]
    assert isinstance(stopped, Report)
    assert stopped.status is Status.STOPPED
    assert 0 < stopped.reached < 120
    assert Store(tmp_path / "cut").steps(4) == [stopped.reached]
    hold.unlink()
    rest = outcome(apart, tmp_path / "cut", one)
    whole = outcome(apart, tmp_path / "whole", one)
    assert (rest.status, rest.curve) == (Status.DONE, whole.curve)


# Beginning and end ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "sets", "kind", "match"),
    [
        (TASK, ("model.do=lern",), SpaceError, r"lern"),
        ("import os\nprint('bye', flush=True)\nos._exit(3)\n", (), ExecutorError,
         r"^the worker exited with code 3 while it opened the task; .* log: bye$"),
    ],
    ids=["space", "death"],
)  # fmt: skip
def test_what_is_wrong_with_the_task_is_raised_here_in_one_line(
    tmp_path: Path, text: str, sets: tuple[str, ...], kind: type[AutomlError], match: str
) -> None:
    path, before = tmp_path / "task.py", children()
    path.write_text(text)
    with pytest.raises(kind, match=match) as error:
        Processes(TaskSpec(str(path), sets=sets), workers=1, logs=tmp_path, stall_seconds=9)
    assert "\n" not in str(error.value)
    assert children() == before


def test_closing_in_the_middle_of_a_training_leaves_no_process(
    spec: TaskSpec, tmp_path: Path
) -> None:
    before = children()
    executor = Processes(spec, workers=2, logs=tmp_path, stall_seconds=60)
    executor.submit(pack(tmp_path / "c", segment("slow", trial=0, stop=100_000)))
    executor.submit(pack(tmp_path / "c", segment("hang", trial=1)))
    assert executor.capacity == 0
    assert len(children() - before) == 2
    while not any(isinstance(n, Progress) for n in executor.reports(0.2)):
        pass
    began = time.monotonic()
    executor.close()
    executor.close()
    assert time.monotonic() - began < 300  # it waits for neither: they take 600 and 2,000
    assert children() == before


DRIVER = """
import sys
from pathlib import Path
from automl.executors.processes import Processes
from automl.records import Pack, TaskSpec
import json
spec, pack, logs = sys.argv[1:]
executor = Processes(TaskSpec.from_json(json.loads(spec)), workers=1, logs=Path(logs),
                     stall_seconds=60)
executor.submit(Pack.from_json(json.loads(pack)))
executor.reports(1.0)
print("started", flush=True)
while True:
    executor.reports(1.0)
"""


def test_a_driver_that_is_killed_leaves_no_worker(spec: TaskSpec, tmp_path: Path) -> None:
    order = pack(tmp_path / "c", segment("hang"))
    arguments = [json.dumps(spec.to_json()), json.dumps(order.to_json()), str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments], stdout=subprocess.PIPE, text=True
    ) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "started\n"
            workers = [p.pid for p in psutil.Process(driver.pid).children(recursive=True)]
            assert len(workers) == 1
        finally:
            driver.kill()
    assert gone(workers[0])
