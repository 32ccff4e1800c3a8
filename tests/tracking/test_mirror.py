"""The mirror on a real SQLite store: everything arrives, once, whatever is killed or away."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from mlflow import MlflowClient

from automl.records import Segment
from automl.study.journal import Journal
from automl.tracking import mirror, view, writing
from automl.tracking import mlflow as process

from .made_up import Event, ask, recipe, report, search, study, study_event

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.filterwarnings(  # MLflow's own; the mirror's process silences them too
    "ignore::DeprecationWarning", "ignore::ResourceWarning"
)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated store; laying the tables takes seconds, so each test copies this one."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    writing._make_store(f"sqlite:///{path}")
    return path


@pytest.fixture
def runs(tmp_path: Path, empty_store: Path) -> Path:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    (tmp_path / "digits").mkdir()
    return tmp_path


class Store:
    """What a person would find in the store of `runs`."""

    def __init__(self, runs: Path) -> None:
        self.uri = f"sqlite:///{runs / 'mlflow.db'}"
        self.path = runs / "mlflow.db"
        self.client: Any = MlflowClient(self.uri, registry_uri=self.uri)

    @property
    def experiment(self) -> Any:
        return self.client.get_experiment_by_name("digits")

    def runs(self, kind: str) -> dict[str, Any]:
        found = self.client.search_runs(
            [self.experiment.experiment_id], f"tags.`automl.kind` = '{kind}'", max_results=1000
        )
        by_name = {r.data.tags.get("automl.trial", "study"): r for r in found}
        assert len(by_name) == len(found)  # none twice
        return by_name

    def content(self) -> list[list[tuple[Any, ...]]]:
        """Every row that says something, without the ids that a run is given by chance."""
        names = "SELECT r.name, r.status, r.end_time"
        tables = {
            "params p": "p.key, p.value",
            "metrics p": "p.key, p.value, p.is_nan, p.step, p.timestamp",
            "tags p": "p.key, p.value",
        }
        file = sqlite3.connect(self.path)
        rows = [
            sorted(
                row
                for row in file.execute(
                    f"{names}, {columns} FROM {table} JOIN runs r USING (run_uuid)"
                )
                # The curve of the best so far has a point for each piece that was written.
                if row[3] != "mlflow.parentRunId" and not row[3].startswith("best/")
            )
            for table, columns in tables.items()
        ]
        file.close()
        return rows


def journal_of(runs: Path, events: list[Event]) -> str:
    path = runs / "digits" / "journal.db"
    with Journal(path, "digits", write=True) as journal:
        journal.append(events)
    return str(path)


def mirrored(runs: Path, events: list[Event]) -> Store:
    """Copy `events` in this process, as a driver that has left would have it."""
    store = Store(runs)
    failure = process.run(
        journal_of(runs, events), "digits", store.uri, runs / "digits", told_to_leave=_left
    )
    assert failure == ""
    return store


def _left(seconds: float) -> bool:
    return True


def test_a_study_is_a_parent_run_and_each_trial_its_child(runs: Path) -> None:
    for name in ("report.html", "best.toml", "curves.png", "journal.txt"):
        (runs / "digits" / name).write_text(name)
    store = mirrored(runs, study())
    parent = store.runs("study")["study"]
    assert parent.info.run_name == "digits"
    assert parent.info.status == "FINISHED"
    assert parent.data.params["strategy"] == "auto"
    assert parent.data.tags["automl.state"] == "done"
    assert parent.data.tags["automl.best"] == "trial 009"
    assert parent.data.tags["automl.verdict"] == "better"
    assert parent.data.tags["automl.code"] == "c0de"
    files = {f.path for f in store.client.list_artifacts(parent.info.run_id)}
    assert files == {"report.html", "best.toml", "curves.png"}
    assert (runs / "mlflow-artifacts").is_dir()

    trials = store.runs("trial")
    assert len(trials) == 16
    assert {r.data.tags["mlflow.parentRunId"] for r in trials.values()} == {parent.info.run_id}
    assert [n for n, r in trials.items() if r.data.tags["automl.best"]] == ["9"]
    best = trials["9"]
    assert best.info.run_name == "★ trial 009 adamw wsd"
    assert best.data.tags["automl.rank"] == "01"
    assert best.data.tags["automl.rung"] == "full"
    assert best.data.params == {
        **{name: str(value) for name, value in recipe(9).point.items()},
        "lr": "0.01",
        "lr_log10": "-2.000",
        "seed": "9",
        "steps": "90",
    }
    curve = store.client.get_metric_history(best.info.run_id, "val/accuracy")
    assert [(m.step, m.value) for m in curve] == [
        (s, pytest.approx(0.93 * (1 - 1 / s), rel=1e-5)) for s in range(10, 91, 10)
    ]
    assert [m.timestamp for m in curve] == sorted({m.timestamp for m in curve})
    assert best.data.metrics["time/train_seconds"] == 1.0
    assert best.data.metrics["steps_trained"] == 90
    final = trials["12"]
    assert final.info.run_name == "trial 012 finalist 1 seed 901"
    assert final.data.metrics["test/accuracy"] == 0.91


def test_failures_are_marked_and_their_values_are_nan(runs: Path) -> None:
    trials = mirrored(runs, study()).runs("trial")
    diverged, crashed, stopped = trials["4"], trials["7"], trials["5"]
    assert (diverged.info.status, diverged.data.tags["automl.state"]) == ("FAILED", "diverged")
    assert math.isnan(diverged.data.metrics["val/accuracy"])
    assert math.isnan(diverged.data.metrics["val/loss"])  # an infinity would flatten the chart
    assert (crashed.info.status, crashed.data.tags["automl.state"]) == ("FAILED", "out of memory")
    assert crashed.data.tags["automl.message"] == "4 GiB asked"
    assert (stopped.info.status, stopped.data.tags["automl.state"]) == ("FINISHED", "stopped")
    assert stopped.data.tags["automl.rung"] == "rung 1"
    assert trials["6"].data.tags["automl.state"] == "done"


def test_the_experiment_carries_the_view_and_the_note(runs: Path) -> None:
    store = mirrored(runs, study())
    tags = store.experiment.tags
    assert tags["mlflow.note.content"].startswith("**Study digits**: ★ trial 009")
    page = view.read_view(tags["mlflow.sharedViewState." + view.share_key("digits")])
    assert page["compareRunCharts"][0]["selectedMetrics"] == ["val/accuracy"]
    # The filter of the view, asked of the real store: the winner stands first.
    found = store.client.search_runs(
        [store.experiment.experiment_id],
        page["searchFilter"],
        order_by=[page["orderByKey"] + " DESC"],
    )
    assert len(found) == 12
    assert found[0].info.run_name.startswith("★")
    address = mirror.page_url("http://127.0.0.1:5000/", runs / "digits")
    assert address == (
        f"http://127.0.0.1:5000/#/experiments/{store.experiment.experiment_id}/runs"
        + view.query("digits")
    )
    parent = store.runs("study")["study"].info.run_id
    assert f"/runs/{parent}?" in mirror.study_url("http://127.0.0.1:5000", runs / "digits")
    assert view.saved_views(store.uri, "http://127.0.0.1:5000/") == {"digits": address}


def test_copying_again_changes_nothing(runs: Path) -> None:
    store = mirrored(runs, study())
    once = store.content()
    parent = store.runs("study")["study"].info.run_id
    assert (
        process.run(
            str(runs / "digits" / "journal.db"), "digits", store.uri, None, told_to_leave=_left
        )
        == ""
    )
    assert store.content() == once
    # As if nothing of it had been vouched for: every run is found and written over.
    store.client.set_tag(parent, "automl.seq", "0")
    process.run(str(runs / "digits" / "journal.db"), "digits", store.uri, None, told_to_leave=_left)
    assert store.content() == once


class Flaky:
    """A client whose every third or so writing call fails, before or after its effect."""

    def __init__(self, client: Any, rng: random.Random) -> None:
        self._client, self._rng = client, rng

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **more: Any) -> Any:
            fate = self._rng.random()
            if fate < 0.02:
                raise ConnectionError("before")
            result = method(*args, **more)
            if fate < 0.04:
                raise ConnectionError("after")
            return result

        return call


def test_a_store_that_fails_at_any_call_ends_up_the_same(
    runs: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("flaky")
    shutil.copy(runs / "mlflow.db", other)
    (other / "digits").mkdir()
    calm = mirrored(runs, study())
    client, rng = MlflowClient, random.Random(3)
    failures = 0

    def flaky(*args: Any, **more: Any) -> Flaky:
        nonlocal failures
        failures += 1  # each failure makes a new mirror, hence a new client
        return Flaky(client(*args, **more), rng)

    store = Store(other)
    monkeypatch.setattr(writing, "MlflowClient", flaky)
    monkeypatch.setattr(writing, "PIECE", 7)
    monkeypatch.setattr(process, "_PAUSE", (0.0, 0.0))
    journal = journal_of(other, study())
    assert process.run(journal, "digits", store.uri, None, told_to_leave=_left) == ""
    assert failures > 5
    for mine, theirs in zip(store.content(), calm.content(), strict=True):
        assert set(mine) ^ set(theirs) == set()
        assert mine == theirs


class Last:
    """A client that fails once, right after its call number `last` took effect."""

    def __init__(self, client: Any, last: int) -> None:
        self._client, self._left = client, last

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **more: Any) -> Any:
            result = method(*args, **more)
            self._left -= 1
            if self._left == -1:
                raise ConnectionError(name)
            return result

        return call


def test_a_mirror_cut_short_after_any_of_its_calls_loses_nothing(
    runs: Path, tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PAUSE", (0.0, 0.0))
    monkeypatch.setattr(writing, "PIECE", 5)
    events = study(1)
    calm = mirrored(runs, events).content()
    client = MlflowClient
    for last in range(1000):
        other = tmp_path / str(last)
        (other / "digits").mkdir(parents=True)
        shutil.copy(empty_store, other / "mlflow.db")
        made: list[Last] = []

        def once(*args: Any, last: int = last, made: list[Last] = made, **more: Any) -> Last:
            made.append(Last(client(*args, **more), last if not made else -1))
            return made[-1]

        monkeypatch.setattr(writing, "MlflowClient", once)
        store = Store(other)
        journal = journal_of(other, events)
        assert process.run(journal, "digits", store.uri, None, told_to_leave=_left) == ""
        for mine, theirs in zip(store.content(), calm, strict=True):
            assert set(mine) ^ set(theirs) == set(), last
        if len(made) == 1:  # all calls of an undisturbed mirror have had their turn
            break
    assert last > 20


def test_an_interrupted_study_says_so_and_goes_on_in_the_same_runs(runs: Path) -> None:
    events = study()
    cut = next(i for i, e in enumerate(events) if e["kind"] == "ask" and i > 24) + 1
    end = {"kind": "end", "at": events[cut - 1]["at"], "status": "interrupted", "message": ""}
    store = mirrored(runs, [*events[:cut], end])
    open_trial = str(events[cut - 1]["segment"]["trial"])
    run = store.runs("trial")[open_trial]
    assert (run.info.status, run.data.tags["automl.state"]) == ("KILLED", "interrupted")
    parent = store.runs("study")["study"]
    assert (parent.info.status, parent.data.tags["automl.state"]) == ("KILLED", "interrupted")

    mirrored(runs, [{"kind": "resume", "at": end["at"] + 1, "pid": 1}, *events[cut:]])
    again = store.runs("trial")[open_trial]
    assert again.info.run_id == run.info.run_id
    assert again.info.status == "FINISHED"
    parent = store.runs("study")["study"]
    assert (parent.info.status, parent.data.tags["automl.state"]) == ("FINISHED", "done")
    assert len(store.runs("trial")) == 16


def test_a_long_curve_is_written_in_calls_that_mlflow_takes(runs: Path) -> None:
    segment = Segment(0, recipe(0), 0, 90)
    told = report(1_700_000_009.0, segment)
    told["report"]["curve"] = [[s, {"train/loss": 1.0 / s, "lr": 0.1}] for s in range(1, 1201)]
    store = mirrored(runs, [study_event(), ask(1_700_000_000.0, segment), told])
    run = store.runs("trial")["0"]
    assert len(store.client.get_metric_history(run.info.run_id, "train/loss")) == 1200


def test_an_experiment_deleted_in_the_web_pages_is_used_again(runs: Path) -> None:
    store = Store(runs)
    made = store.client.create_experiment("digits")
    store.client.delete_experiment(made)
    mirrored(runs, list(search(2)))
    assert store.experiment.lifecycle_stage == "active"
    assert len(store.runs("trial")) == 2


def test_a_store_that_stays_away_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.2)
    (tmp_path / "digits").mkdir()
    journal = journal_of(tmp_path, study())
    failure = process.run(
        journal, "digits", "http://127.0.0.1:1", tmp_path / "digits", told_to_leave=_left
    )
    assert failure.startswith("study 'digits' is not whole in MLflow at http://127.0.0.1:1: ")
    assert "\n" not in failure


def test_a_journal_that_never_comes_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "GRACE", 0.0)
    failure = process.run(
        str(tmp_path / "journal.db"),
        "digits",
        f"sqlite:///{tmp_path / 'mlflow.db'}",
        None,
        told_to_leave=_left,
    )
    assert "no journal there" in failure


def _wait_for(condition: Any, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_process_follows_a_running_study_and_leaves_when_told(runs: Path) -> None:
    store, folder = Store(runs), runs / "digits"
    events = list(search())
    with Journal(folder / "journal.db", "digits", write=True) as journal:
        journal.append(events[:2])
        running = mirror.start(str(folder / "journal.db"), "digits", store.uri, folder)
        _wait_for(lambda: (folder / mirror.ADDRESS).exists())
        _wait_for(lambda: "0" in store.runs("trial"))
        assert store.runs("trial")["0"].info.status == "RUNNING"
        assert os.getpriority(os.PRIO_PROCESS, running.pid) >= 10
        journal.append(events[2:])
        assert running.finish(600)
    assert running.trouble == ""
    assert len(store.runs("trial")) == 12
    assert store.runs("study")["study"].data.tags["automl.state"] == "interrupted"  # no end event
    assert (folder / mirror.LOG).read_text() == ""


DRIVER = """
    import os, sys, time
    from pathlib import Path
    from automl.tracking import mirror
    folder = Path(sys.argv[1])
    running = mirror.start(str(folder / "journal.db"), "digits", sys.argv[2], folder)
    print(running.pid, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def driver(runs: Path) -> Iterator[subprocess.Popen[str]]:
    journal_of(runs, study())
    command = [sys.executable, "-c", textwrap.dedent(DRIVER), str(runs / "digits"), Store(runs).uri]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_the_mirror_of_a_killed_driver_writes_the_rest_and_leaves(
    runs: Path, driver: subprocess.Popen[str]
) -> None:
    assert driver.stdout is not None
    pid = int(driver.stdout.readline())
    driver.kill()
    # Our child's child: it is gone when nobody holds the folder's lock any more.
    _wait_for(lambda: _has_ended(pid))
    assert len(Store(runs).runs("trial")) == 16


def _has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_killed_mirrors_neither_double_a_run_nor_lose_one(
    runs: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("calm")
    shutil.copy(runs / "mlflow.db", other)
    (other / "digits").mkdir()
    calm = mirrored(other, study(40))
    journal, store = journal_of(runs, study(40)), Store(runs)
    rng = random.Random(11)
    for _ in range(3):
        running = mirror.start(journal, "digits", store.uri, runs / "digits")
        _wait_for(lambda: store.experiment is not None)
        time.sleep(rng.uniform(0.0, 0.5))
        os.kill(running.pid, signal.SIGKILL)
        assert not running.finish(10)
    running = mirror.start(journal, "digits", store.uri, runs / "digits")
    assert running.finish(600)
    assert store.content() == calm.content()


def test_a_store_cut_short_in_its_migrations_is_made_anew(tmp_path: Path) -> None:
    part = tmp_path / ".mlflow.db.part"
    file = sqlite3.connect(part)
    file.execute("CREATE TABLE experiments (half INTEGER)")
    file.commit()
    file.close()
    (tmp_path / "digits").mkdir()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    journal = journal_of(tmp_path, list(search(1)))
    assert process.run(journal, "digits", uri, None, told_to_leave=_left) == ""
    assert len(Store(tmp_path).runs("trial")) == 1
    assert not part.exists()
