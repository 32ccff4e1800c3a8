"""Writes one study, as its journal tells it, into one MLflow store.

The journal is read in pieces, and the parent run's tag `automl.seq` says up to which event MLflow
has everything. A `Mirror` that follows a killed one goes on after that tag: runs that may be
there already are looked up by their tags, and since every timestamp comes from the journal,
writing a piece twice writes the same rows.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

# Before MLflow is imported, which reads them then.
os.environ |= {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the pauses are ours, below
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from automl.study.journal import Journal
from automl.study.state import State, StudyConfig, Trial
from automl.tracking import view, words
from automl.tracking.mirror import ADDRESS

PIECE = 200  # events; what a restart may find half written
_BATCH = 1000  # metrics in one log_batch, MLflow's limit
_RANKED = 50  # places that get the tag automl.rank
_ARTIFACTS = (
    "report.html",
    "best.toml",
    "best.safetensors",
    "train_best.py",
    "trials.csv",
    "arch.svg",
    "pareto.svg",
    "plots",
    "*.png",
)


class Mirror:
    """One study's copy in one store, from opening until an error of either end.

    After an error a new one goes on where the store says that this one came to.
    """

    def __init__(self, journal: Journal, store_uri: str, folder: Path | None) -> None:
        self._journal = journal
        self._folder = folder
        self._store_uri = store_uri
        _make_store(store_uri)
        self._client: Any = MlflowClient(store_uri, registry_uri=store_uri)
        self.state = State()
        self._seq = 0  # events folded into the state
        self._written = 0  # the parent's automl.seq when this mirror began
        self._first_seen: dict[int, int] = {}  # trial: number of the event that asked for it
        self._asked: dict[int, float] = {}  # trial: when its open segment was handed out
        self._points: dict[int, dict[int, int]] = {}  # trial: step -> milliseconds
        self._runs: dict[int, str] = {}
        self._sent: dict[int, int] = {}  # trial: points of its curve in MLflow
        self._optimizers: dict[object, int] = {}  # name: place, for its colour
        self._best: int | None = None
        self._viewed = 0
        self._experiment = self._parent = ""

    # Reading -----------------------------------------------------------------------------

    def step(self) -> bool:
        """Copy the next piece of the journal; False when there was none."""
        events = self._journal.events(after=self._seq)
        if not events:
            return False
        if not self._parent:
            self._open_study(events)
        while events:
            piece, events = events[:PIECE], events[PIECE:]
            touched = dict.fromkeys(t for seq, e in piece for t in self._fold(seq, e))
            best = words.winner(self.state)
            if self._seq > self._written:
                self._write(list(touched), best)
            self._best = best.number if best else None
        return True

    def _fold(self, seq: int, event: dict[str, Any]) -> list[int]:
        """Take one event; the trials whose runs it changes."""
        touched: list[int] = []
        if event["kind"] == "ask":
            number = event["segment"]["trial"]
            self._first_seen.setdefault(number, seq)
            self._asked[number] = event["at"]
            optimizer = event["segment"]["recipe"]["point"].get("optimizer")
            self._optimizers.setdefault(optimizer, len(self._optimizers))
            touched = [number]
        elif event["kind"] == "report":
            report = event["report"]
            number, begun = report["trial"], self._asked[report["trial"]]
            length = max(1, report["reached"] - report["start"])
            times = self._points.setdefault(number, {})
            for step, _ in report["curve"]:  # the journal has the segment's time, not the point's
                share = min(1.0, (step - report["start"]) / length)
                times[step] = round(1000 * (begun + share * (event["at"] - begun)))
            touched = [number]
        elif event["kind"] in ("end", "resume"):
            touched = list(self.state.open)
        self.state.apply(event)
        self._seq = seq
        return touched

    # Writing -----------------------------------------------------------------------------

    @property
    def _config(self) -> StudyConfig:
        assert self.state.config is not None  # the journal's first event
        return self.state.config

    def _open_study(self, events: list[tuple[int, dict[str, Any]]]) -> None:
        """Find the study's experiment and parent run, or make them."""
        first = events[0][1]
        config = StudyConfig.from_json(first["config"])
        found = self._client.get_experiment_by_name(config.card.name)
        if found and found.lifecycle_stage == "deleted":  # its name stays taken
            self._client.restore_experiment(found.experiment_id)
        self._experiment = (
            found.experiment_id
            if found
            else self._client.create_experiment(
                config.card.name,
                artifact_location=_artifacts_of(self._store_uri, config.card.name),
                tags={"mlflow.experimentKind": "custom_model_development"},
            )
        )
        parent = self._find(config.name, "study")
        if parent is None:
            parent = self._client.create_run(
                self._experiment,
                run_name=config.name,
                start_time=round(1000 * first["at"]),
                tags={"automl.kind": "study", "automl.study": config.name, "automl.seq": "0"},
            )
        elif parent.info.status != "RUNNING" and len(events) > int(parent.data.tags["automl.seq"]):
            self._client.update_run(parent.info.run_id, status="RUNNING")
        self._parent = parent.info.run_id
        self._written = int(parent.data.tags.get("automl.seq", 0))
        if not self._written:  # also of a mirror that was killed before it came to this
            self._client.log_batch(self._parent, params=_params(words.study_params(config)))
        self._leave_address(config)

    def _find(self, study: str, kind: str, trial: int | None = None) -> Any:
        text = f"tags.`automl.study` = {words.quoted(study)} and tags.`automl.kind` = '{kind}'"
        if trial is not None:
            text += f" and tags.`automl.trial` = '{trial}'"
        found = self._client.search_runs([self._experiment], text, max_results=1)
        return found[0] if found else None

    def _write(self, touched: list[int], best: Trial | None) -> None:
        before, self._best = self._best, best.number if best else None
        changed = before != self._best
        if changed:
            touched = [*touched, *(n for n in (before, self._best) if n is not None)]
        for trial in dict.fromkeys(touched):
            self._write_trial(self.state.trials[trial])
        trials = len(self.state.trials)
        closing = bool(self.state.ended or self.state.verdict)
        if closing or trials >= 2 * self._viewed:
            self._viewed = trials
            self._client.set_experiment_tag(self._experiment, *view.saved_view(self.state))
        if closing or changed:
            note = words.note(self.state, self._config)
            self._client.set_experiment_tag(self._experiment, "mlflow.note.content", note)
        # Last: it vouches for everything above.
        tags = {**words.study_tags(self.state, self._config), "automl.seq": str(self._seq)}
        self._client.log_batch(self._parent, tags=_tags(tags), metrics=self._best_so_far())

    def _write_trial(self, trial: Trial) -> None:
        over = bool(self.state.ended)
        tags = words.trial_tags(trial, self._config, best=trial.number == self._best, over=over)
        run, new = self._run(trial, tags)
        sent = self._sent.get(trial.number, 0)
        times = self._points.get(trial.number, {})
        metrics = [
            Metric(words.key(name), words.shown(value), times.get(step, 0), step)
            for step, values in trial.curve[sent:]
            for name, value in values.items()
        ]
        if trial.status != "running":
            end = round(1000 * (trial.ended or trial.started))
            metrics += [Metric(n, v, end, trial.reached) for n, v in words.totals(trial).items()]
        for start in range(_BATCH, len(metrics), _BATCH):
            self._client.log_batch(run, metrics=metrics[start : start + _BATCH])
        self._client.log_batch(
            run,
            metrics=metrics[:_BATCH],
            params=[] if sent else _params(words.params(trial.recipe)),
            tags=[] if new else _tags(tags),
        )
        self._sent[trial.number] = len(trial.curve)
        status = words.run_status(trial, over=over)
        if status == "RUNNING":
            if not new:  # gone on after a rung, or resumed
                self._client.update_run(run, status="RUNNING")
        else:
            self._client.set_terminated(run, status, round(1000 * (trial.ended or time.time())))

    def _run(self, trial: Trial, tags: dict[str, str]) -> tuple[str, bool]:
        """(run id, whether it was made just now)."""
        run = self._runs.get(trial.number)
        if run is None and self._first_seen[trial.number] <= self._written + PIECE:
            found = self._find(self._config.name, "trial", trial.number)
            run = found.info.run_id if found else None
        made = run is None
        if run is None:
            run = self._client.create_run(
                self._experiment,
                run_name=tags["mlflow.runName"],
                start_time=round(1000 * trial.started),
                tags={
                    **tags,
                    "mlflow.parentRunId": self._parent,
                    "mlflow.runColor": words.colour(
                        self._optimizers[trial.recipe.point.get("optimizer")]
                    ),
                },
            ).info.run_id
        self._runs[trial.number] = run
        return run, made

    def _best_so_far(self) -> list[Any]:
        """The study's own curve: the best value over the number of trials."""
        if self._best is None:
            return []
        value = self.state.trials[self._best].last(self.state.metric)
        now = round(1000 * self.state.updated)
        name = words.key(f"best/{self._config.card.metric}")
        return [] if value is None else [Metric(name, value, now, len(self.state.trials))]

    # The end -----------------------------------------------------------------------------

    def finish(self) -> None:
        """Close the study's run: ranks, files, status. Harmless twice."""
        if not self._parent:
            return
        ended = self.state.ended
        if ended:
            for place, trial in enumerate(words.ranking(self.state)[:_RANKED], 1):
                if self._runs.get(trial.number) is None:
                    self._run(trial, words.trial_tags(trial, self._config, best=False, over=True))
                self._client.set_tag(self._runs[trial.number], "automl.rank", f"{place:02d}")
            note = words.note(self.state, self._config)
            self._client.set_tag(self._parent, "mlflow.note.content", note)
            for pattern in _ARTIFACTS if self._folder else ():
                for path in sorted((self._folder or Path()).glob(pattern)):
                    if path.is_dir():
                        self._client.log_artifacts(self._parent, str(path), path.name)
                    else:
                        self._client.log_artifact(self._parent, str(path))
        else:
            self._client.set_tag(self._parent, "automl.state", "interrupted")
        status = {"done": "FINISHED", "failed": "FAILED"}.get(ended, "KILLED")
        end = round(1000 * self.state.updated)
        self._client.set_terminated(self._parent, status, end)

    def _leave_address(self, config: StudyConfig) -> None:
        """A file for `automl ui`, which must not import MLflow to know where to look."""
        if self._folder is None:
            return
        maximize = config.card.direction == "maximize"
        metric = words.key(f"val/{config.card.metric}")
        address = {
            "experiment": self._experiment,
            "run": self._parent,
            "query": view.query(config.name),
            "plain": view.plain_query(config.name, metric, maximize=maximize),
        }
        path = self._folder / ADDRESS
        path.with_suffix(".part").write_text(json.dumps(address))
        path.with_suffix(".part").replace(path)


def _params(values: dict[str, str]) -> list[Any]:
    return [Param(name, value) for name, value in values.items()]


def _tags(values: dict[str, str]) -> list[Any]:
    return [RunTag(name, value) for name, value in values.items()]


def _make_store(store_uri: str) -> None:
    """Lay MLflow's tables in a SQLite store that is not there yet, whole or not at all.

    Its migrations take seconds, and a file in which they were cut short, or run by two mirrors
    at once, is never opened again.
    """
    store = Path(store_uri.removeprefix("sqlite:///"))
    if not store_uri.startswith("sqlite:///") or store.exists():
        return
    part = store.with_name(f".{store.name}.part")
    with part.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if store.exists():
            return
        part.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{part}", registry_uri=f"sqlite:///{part}").search_experiments()
        part.replace(store)


def _artifacts_of(store_uri: str, experiment: str) -> str | None:
    """Beside a SQLite store; a server knows its own place."""
    if not store_uri.startswith("sqlite:///"):
        return None
    store = Path(store_uri.removeprefix("sqlite:///")).absolute()
    return (store.parent / "mlflow-artifacts" / words.key(experiment)).as_uri()
