"""The user's code reaches workers that see nothing of the driver's disk but the store, and no
worker that holds a key runs anything else."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from celery import Celery

from automl.archives import archive_of, digest_of
from automl.checkpoints import Store
from automl.executors.celery import TASK as TASK_NAME
from automl.executors.celery import Queue
from automl.executors.leases import Entry, Leases, connect
from automl.executors.valkey import Server
from automl.objects import put
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskCard, TaskSpec
from automl.signing import signed
from automl.space.tree import Space
from automl.study.preparing import saved_state
from automl.tasks.opening import open_task

from .chaos import SETTINGS, automl, tree
from .starting import until, worker

SECRET, KEY = "tell-nobody-4711", "and-nobody-else-0815"

TASK = """
import os
from pathlib import Path
import torch
from inner.net import body

print(dict(os.environ))
torch.manual_seed(0)
x = torch.randn(300, 8)
y = (x[:, 0] > float(Path("inner/level.txt").read_text())).long()
data = (x, y)
metric = "accuracy"
epochs = 2


def model(width: "log 8..64" = 16):
    return body(width)
"""
NET = """
from torch import nn


def body(width):
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 2))
"""


def test_a_study_whose_task_is_gone_ends_in_workers_elsewhere_and_no_secret_shows(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path / "redis")
    redis.Redis.from_url(server.url).config_set("requirepass", SECRET)
    url = f"redis://:{SECRET}@127.0.0.1:{server.port}/0"
    for place in ("task/inner", "here", "there"):
        (tmp_path / place).mkdir(parents=True)
    task = tmp_path / "task"
    (task / "task.py").write_text(TASK)
    (task / "inner" / "net.py").write_text(NET)
    (task / "inner" / "level.txt").write_text("0.1")

    def run(place: str, *command: str) -> subprocess.Popen[bytes]:
        """Two machines on one disk: each has its own folder and cache, both have the store."""
        secrets = {"AUTOML_BROKER": url, "AUTOML_KEY": KEY}
        with (tmp_path / place / "said.txt").open("wb") as file:
            return subprocess.Popen(
                automl(*command, "--queue", "q"),
                cwd=tmp_path / place,
                env={**os.environ, **SETTINGS, **secrets, "AUTOML_CACHE": str(tmp_path / place)},
                stdout=file,
                stderr=file,
            )

    started = run("there", "worker", "start", "--slots", "2")
    study = run(
        "here", "tune", "../task/task.py", "--name", "s", "--budget", "2trials",
        "--strategy", "random", "--seeds", "1", "--pack", "off", "--quiet",
        "--set", "optimizer=adamw", "--checkpoints", str(tmp_path / "store"),
        "--mlflow", f"sqlite:///{tmp_path}/here/mlflow.db",
    )  # fmt: skip
    said = tmp_path / "here" / "said.txt"
    try:
        until("a study that has begun", lambda: list((tmp_path / "store").glob("s-*/code/*.tar")))
        task.rename(tmp_path / "renamed")
        while study.poll() is None:
            for process in [*tree(started.pid), *tree(study.pid)]:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    line = " ".join(process.cmdline())
                    assert SECRET not in line and KEY not in line
                    if "automl.train" in line:
                        assert not {"AUTOML_KEY", "AUTOML_BROKER"} & set(process.environ())
            time.sleep(0.2)
        assert study.returncode in (0, 3), said.read_text()
    finally:
        started.terminate()
        started.wait()
        study.kill()
        study.wait()
        server.stop()
    # What copies the study into MLflow may need longer than its driver waits for it.
    until("all of the study in MLflow", lambda: not _mirrors_of(tmp_path), seconds=600)
    state = saved_state("s", runs=tmp_path / "here" / "runs")
    assert all(t.status == "done" for t in state.trials.values())
    files = [f for f in tmp_path.rglob("*") if f.is_file() and "redis" not in f.parts]
    assert {"journal.db", "mlflow.db", "cpu-0.log", "task.py"} <= {f.name for f in files}
    printed = [f.read_text() for f in files if f.name.endswith(".training.log")]
    assert printed and all("'PATH':" in text for text in printed)  # the task prints its environment
    for word in (SECRET, KEY):
        assert [f for f in files if word.encode() in f.read_bytes()] == []


def _mirrors_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            line = " ".join(process.cmdline())
            found += [process] if "automl.tracking.mlflow" in line and str(folder) in line else []
    return found


# A worker that holds a key --------------------------------------------------------------------

CARD = TaskCard(
    name="digits", kind="image", metric="accuracy", direction="maximize", space=Space({}).to_json(),
    steps=10, eval_steps=10, batch_size=64,
)  # fmt: skip
SPEC = TaskSpec("digits")


@pytest.fixture(scope="module")
def guarded(broker: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A worker with a key, and the folder that it caches code in."""
    cache = tmp_path_factory.mktemp("cache")
    environment = {"AUTOML_KEY": KEY, "AUTOML_CACHE": str(cache)}
    with worker(broker.url, "guarded", cache / "logs", name="g", environment=environment):
        yield cache


def refusal(broker: Server, place: Path | str, **change: Any) -> str:
    """Why a guarded worker refuses an order of a driver with these arguments.

    The order waits on, for another worker.
    """
    arguments: dict[str, Any] = {
        "spec": SPEC,
        "place": str(place),
        "card": CARD,
        "key": KEY.encode(),
    }
    said: list[str] = []

    def listen(event: Mapping[str, Any]) -> None:
        if event["kind"] == "note":
            said.append(event["text"])

    queue = Queue(
        broker.url, study="guarded", stall_seconds=60, queues=["guarded"], workers=1,
        listen=listen, **{**arguments, **change},
    )  # fmt: skip
    segment = Segment(0, Recipe({}, steps=10, seed=0), 0, 10)
    try:
        queue.submit(Pack((segment,), f"{place}/checkpoints"))
        deadline = time.monotonic() + 180
        while not said:
            assert time.monotonic() < deadline
            assert queue.reports(0.2) == []
        assert queue.capacity == 0
        (line,) = said
        start, end = "worker g@guarded: ", "; its segments wait for other workers"
        assert line.startswith(start) and line.endswith(end) and "\n" not in line
        return line.removeprefix(start).removesuffix(end)
    finally:
        queue.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    put(str(tmp_path), "checkpoints/.here", b"")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "found"), [(None, "is not signed"), (b"another key of 24 bytes", "by another key")]
)
def test_a_study_without_the_workers_key_is_refused_in_one_line(
    guarded: Path, broker: Server, place: Path, key: bytes | None, found: str
) -> None:
    line = refusal(broker, place, key=key)
    assert line.startswith("the study ") and found in line and "AUTOML_KEY_FILE" in line
    log = guarded / "logs" / "g.log"
    until("a line in the log", lambda: line in log.read_text())


def test_an_order_that_was_changed_on_its_way_is_refused(
    guarded: Path, broker: Server, place: Path
) -> None:
    client = connect(broker.url)
    leases = Leases(client, "changed", seconds=5)
    task = {"spec": SPEC.to_json(), "place": str(place), "lease_seconds": 5, "stall_seconds": 60}
    leases.announce(signed(task, KEY.encode()))
    segment = Segment(0, Recipe({}, steps=10, seed=0), 0, 10)
    order = signed(Pack((segment,), "").to_json(), KEY.encode())
    leases.put("0", {**order, "test": True})
    with Celery(broker=broker.url) as app:
        app.send_task(TASK_NAME, ["changed", "0"], queue="guarded", ignore_result=True)
    entries: list[Entry] = []
    deadline = time.monotonic() + 180
    while not entries:
        assert time.monotonic() < deadline
        entries, _ = leases.read("0-0", "0-0", 1.0)
    assert entries[0].kind == "refused"
    assert "the order is signed by another key" in entries[0].data
    leases.clear()
    client.close()


def test_code_that_is_not_what_was_sent_is_refused(
    guarded: Path, broker: Server, place: Path
) -> None:
    (place / "task.py").write_text("")
    sent = digest_of(archive_of({"task.py": place / "task.py"}))
    put(str(place), f"code/{sent}.tar", b"something else")
    line = refusal(broker, place, spec=replace(SPEC, source="task.py"), snapshot=sent)
    assert "is not what was sent" in line
    assert "no code" in refusal(broker, place, snapshot="0" * 64)
    assert "is no digest" in refusal(broker, place, snapshot="../../etc")


def test_signed_code_that_reaches_out_of_its_folder_is_refused(
    guarded: Path, broker: Server, place: Path
) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"))
    sent = digest_of(out.getvalue())
    put(str(place), f"code/{sent}.tar", out.getvalue())
    assert "outside of its folder" in refusal(broker, place, snapshot=sent)
    assert not list(guarded.rglob("evil"))


def test_a_worker_that_does_not_see_the_store_says_where_it_looked(
    guarded: Path, broker: Server, tmp_path: Path
) -> None:
    line = refusal(broker, tmp_path / "nowhere")
    assert f"no checkpoints of this study in {tmp_path}/nowhere here" in line
    assert Store(tmp_path / "nowhere" / "checkpoints").trials() == []


def test_a_worker_with_other_data_names_both_fingerprints(
    guarded: Path, broker: Server, place: Path
) -> None:
    card = replace(CARD, code_fingerprint="", data_fingerprint="0123456789abcdef")
    assert re.fullmatch(
        r"other data: fingerprint [0-9a-f]{16}, the driver's is 0123456789abcdef",
        refusal(broker, place, card=card),
    )


def test_a_checkpoint_that_someone_else_wrote_is_not_loaded(
    guarded: Path, broker: Server, place: Path
) -> None:
    recipe = Recipe({"optimizer": "adamw"}, steps=10, seed=0)
    queue = Queue(
        broker.url, study="sealed", stall_seconds=60, queues=["guarded"], workers=1, spec=SPEC,
        place=str(place), card=open_task(SPEC).card, key=KEY.encode(),
    )  # fmt: skip

    def outcome(start: int, stop: int) -> Report:
        parent = (0, start) if start else None
        queue.submit(Pack((Segment(0, recipe, start, stop, parent),), f"{place}/checkpoints"))
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            for news in queue.reports(0.2):
                if isinstance(news, Report):
                    return news
        raise AssertionError("no report in 180 s")

    try:
        assert outcome(0, 5).status is Status.DONE
        store = Store(place / "checkpoints")
        tensors, meta = store.load(0, 5)
        assert outcome(5, 8).status is Status.DONE
        store.delete(0, 8)
        store.save(0, 5, {name: t * 0 for name, t in tensors.items()}, meta)
        report = outcome(5, 8)
        assert (report.status, "has no seal" in report.message) == (Status.LOST, True)
    finally:
        queue.close()
