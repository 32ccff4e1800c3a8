"""A search from its options to its files: what `automl tune` does, as a call.

state = automl.tune("digits", budget="20full", name="first")
print("\\n".join(automl.verdict_lines(state)))
automl.winner_recipe(state).point          # the files lie in runs/first

checked    options as typed -> TuneOptions, or one line on what is wrong
conduct    a prepared study -> run, files written, copied into MLflow
tune       both, without a screen
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from automl.aims import first_metric, read_constraint
from automl.errors import StrategyError, StudyError, TaskError
from automl.executors.broker import broker_url
from automl.executors.needs import checked as needs_checked
from automl.objects import checked_place
from automl.records import TaskSpec
from automl.search.catalogue import look_up
from automl.search.prior import strength
from automl.space.files import names_of
from automl.study import controller
from automl.study.architecture import checked_nas
from automl.study.budget import Budget
from automl.study.controller import Stop
from automl.study.keeping import budget_bytes
from automl.study.packing import checked_pack
from automl.study.preparing import Listener, Prepared, TuneOptions, both, prepare
from automl.study.preparing import resume as take_up
from automl.study.prescreening import checked_proxy
from automl.study.state import State
from automl.tracking import mirror

DEFAULT_BUDGET = "40full"
_MIRROR_SECONDS = 20.0  # that the end waits for MLflow; what is left then is written without us


def tune(
    task: str | Path | None = None,
    *,
    budget: str | Sequence[str] = DEFAULT_BUDGET,
    space: str | Path | None = None,
    sets: Sequence[str] = (),
    strategy: str = "auto",
    metric: str | None = None,
    target: str | None = None,
    epochs: float | None = None,
    seeds: int = 3,
    name: str | None = None,
    workers: int | None = None,
    seed: int = 0,
    pack: str = "auto",
    spend_all: bool = False,
    warm_start: Sequence[str] = (),
    prior: str = "off",
    prescreen: str | None = None,
    nas: str | None = None,
    cmd: str | None = None,
    metric_regex: str | None = None,
    device: str = "auto",
    runs: str | Path = "runs",
    journal: str | None = None,
    mlflow: str | None = None,
    broker: str | None = None,
    queue: str = "cpu",
    needs: Sequence[str] = (),
    priority: int = 1,
    checkpoints: str | None = None,
    checkpoint_budget: str | None = None,
    objectives: Sequence[str] = (),
    constraints: Sequence[str] = (),
    listen: Listener = lambda event: None,
    stop: Stop = lambda: 0,
) -> State:
    """Search for the best way to train a network; returns when the verdict is there.

    A study of this name that was interrupted goes on; one that has ended is returned as it is.

    Args:
        task: "digits", or a path: table.csv, images/, corpus.txt, task.py; None with `cmd`.
        budget: "30m", "100trials" or "20full" (full trainings); of several, whichever comes first.
        space: a shipped space or a TOML file; None: the task's own.
        sets: "NAME=RANGE" entries, as after --set.
        strategy: one of `automl.strategies()`.
        metric: what is compared; None: the task's own.
        target: the column of a table to predict.
        epochs: length of a full training; None: the task's own.
        seeds: fresh seeds in the verdict.
        name: of the study, and of its folder in `runs`; None: the task's.
        workers: processes that train; None: one a core, or one a GPU.
        seed: of the search.
        pack: "auto", "off", or how many trials of one structure train as one program.
        spend_all: go on to the budget's end even where no more is expected of the search.
        warm_start: earlier studies, by name, whose good points this one begins with.
        prior: how often new trials are drawn near the defaults, for as long as that pays: "off",
            "weak", "strong" or a number from 0 to 1.
        prescreen: a proxy that ranks networks before they are trained: "naswot", "jacob_cov",
            "synflow" or "params".
        nas: a search for an architecture that comes first, on a supernet: "darts", "pc-darts",
            "gdas", "fair", "beta", "sdarts", "darts-pt", "p-darts", "oneshot" or "random".
        cmd: a command line with {placeholders}, instead of `task`.
        metric_regex: finds the metric in what `cmd` prints.
        device: "auto", "cpu", "cuda" or "cuda:1".
        runs: folder of all studies.
        journal: database URL; None: a file in the study's folder.
        mlflow: URI of an MLflow store; None: mlflow.db in `runs`; "off": none.
        broker: redis://HOST:6379/0 of Celery workers, or @FILE that holds it; None: what
            AUTOML_BROKER says, or else processes of this machine.
        queue: of those workers; several with commas: "gpu,cpu".
        needs: what those workers must have: "gpu", "memory=40g".
        priority: the study's part of workers that others want, too: of priority 2, twice that of 1.
        checkpoints: folder or URL (s3://bucket/studies) that driver and workers reach; None: in
            `runs`.
        checkpoint_budget: that checkpoints may take, "10g": those that nothing needs any more
            stay while there is room; None: they go at once.
        objectives: what is searched for, the metric first: "val/accuracy", "params:min"; ():
            the metric alone.
        constraints: what a recipe must keep: "latency<5ms", "params<100k".
        listen: hears every event of the journal, and "smoke", "progress" and "phase" events.
        stop: asked often; 1 ends the study cleanly (it can go on later), 2 at once.

    Raises:
        AutomlError: one line on what is wrong with the task or an option.
        StudyError: the task fails whatever the recipe.
    """
    options = checked(
        task=None if task is None else str(task),
        command=cmd,
        metric_regex=metric_regex,
        metric=metric,
        target=target,
        space=None if space is None else str(space),
        sets=tuple(sets),
        epochs=epochs,
        device=device,
        budget=(budget,) if isinstance(budget, str) else tuple(budget),
        strategy=strategy,
        seeds=seeds,
        name=name,
        workers=workers,
        seed=seed,
        pack=pack,
        spend_all=spend_all,
        warm_start=tuple(warm_start),
        prior=prior,
        prescreen=prescreen,
        nas=nas,
        runs=Path(runs),
        journal=journal,
        mlflow=mlflow,
        broker=broker,
        queue=queue,
        needs=tuple(needs),
        priority=priority,
        checkpoints=checkpoints,
        checkpoint_budget=checkpoint_budget,
        objectives=tuple(objectives),
        constraints=tuple(constraints),
    )
    with contextlib.closing(prepare(options, listen=listen)) as prepared:
        return conduct(prepared, listen=listen, stop=stop)


def resume(
    name: str,
    *,
    workers: int | None = None,
    runs: str | Path = "runs",
    journal: str | None = None,
    mlflow: str | None = None,
    broker: str | None = None,
    queue: str | None = None,
    listen: Listener = lambda event: None,
    stop: Stop = lambda: 0,
) -> State:
    """Go on with a study that was interrupted, to the budget that it was started with.

    Raises:
        StudyError: there is no such study, or its task fails whatever the recipe.
    """
    with contextlib.closing(
        take_up(
            name,
            runs=Path(runs),
            journal=journal,
            workers=workers,
            mlflow=mlflow,
            broker=broker_url(broker),
            queues=None if queue is None else queues_of(queue),
            listen=listen,
        )
    ) as prepared:
        return conduct(prepared, listen=listen, stop=stop)


def checked(
    *,
    task: str | None,
    command: str | None,
    metric_regex: str | None,
    metric: str | None,
    target: str | None,
    space: str | None,
    sets: tuple[str, ...],
    epochs: float | None,
    device: str,
    budget: tuple[str, ...],
    strategy: str,
    seeds: int,
    name: str | None,
    workers: int | None,
    seed: int,
    pack: str,
    spend_all: bool = False,
    warm_start: tuple[str, ...] = (),
    prior: str = "off",
    runs: Path,
    journal: str | None,
    mlflow: str | None,
    prescreen: str | None = None,
    nas: str | None = None,
    broker: str | None = None,
    queue: str = "cpu",
    needs: tuple[str, ...] = (),
    priority: int = 1,
    checkpoints: str | None = None,
    checkpoint_budget: str | None = None,
    objectives: tuple[str, ...] = (),
    constraints: tuple[str, ...] = (),
) -> TuneOptions:
    """The options as a study takes them; what can be refused at once is refused here.

    Raises:
        AutomlError: one line on the first that cannot be, by its name on the command line.
    """
    if task is None and command is None:
        raise TaskError("nothing to tune: give a task (try `automl tune digits`) or --cmd")
    if task is not None and command is not None:
        raise TaskError(f"'{task}' and --cmd: give one of them")
    if metric_regex is not None and command is None:
        raise TaskError("--metric-regex reads what a --cmd prints; there is no --cmd")
    if command is not None and metric_regex is None:
        raise TaskError("--cmd needs --metric-regex, e.g. --metric-regex 'accuracy=([0-9.]+)'")
    if epochs is not None and not (epochs > 0 and math.isfinite(epochs)):
        raise TaskError(f"--epochs {epochs:g}: a training needs a length above 0")
    if device not in ("auto", "cpu", "cuda") and not device.startswith("cuda:"):
        raise TaskError(f"--device {device}: give auto, cpu, cuda or cuda:N")
    for option, count, least in (
        ("seeds", seeds, 1),
        ("workers", workers, 1),
        ("seed", seed, 0),
        ("priority", priority, 1),
    ):
        if count is not None and count < least:
            raise StudyError(f"--{option} {count}: give {least} or more")
    Budget.parse(budget)
    checked_pack(pack)
    checked_proxy(prescreen)
    checked_nas(nas)
    names_of(sets)
    if checkpoint_budget is not None:
        budget_bytes(checkpoint_budget)
    look_up(strategy)
    strength(prior)
    if warm_start and strategy != "auto":
        raise StrategyError(f"--warm-start is for the strategy auto, not for {strategy}")
    first = first_metric(objectives)
    if first is not None and metric not in (None, first):
        raise TaskError(
            f"--metric {metric} and --objective {objectives[0]}: the first objective is the "
            "metric; leave one of them out"
        )
    for text in constraints:
        read_constraint(text)
    spec = TaskSpec(
        source=command or task or "",
        command=command is not None,
        target=target,
        metric=metric or first,
        metric_regex=metric_regex,
        space=space,
        sets=sets,
        epochs=epochs,
        device=device,
        nas=nas,
        objectives=objectives,
        constraints=constraints,
    )
    return TuneOptions(
        spec=spec,
        budget=budget,
        strategy=strategy,
        seeds=seeds,
        name=name,
        workers=workers,
        seed=seed,
        pack=pack,
        spend_all=spend_all,
        warm_start=warm_start,
        prior=prior,
        prescreen=prescreen,
        runs=runs,
        journal=journal,
        mlflow=mlflow,
        broker=broker_url(broker),
        queues=queues_of(queue),
        needs=needs_checked(needs),
        priority=priority,
        checkpoints=checkpoints and checked_place(checkpoints, "--checkpoints"),
        checkpoint_budget=checkpoint_budget,
    )


def queues_of(text: str) -> tuple[str, ...]:
    """Queues as typed: "gpu,cpu".

    Raises:
        StudyError: one of them has no name.
    """
    queues = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if not all(queues) or any(" " in name for name in queues):
        raise StudyError(f"--queue {text}: give a name, or several with commas: gpu,cpu")
    return queues


def conduct(
    prepared: Prepared,
    *,
    listen: Listener = lambda event: None,
    stop: Stop = lambda: 0,
    ended: Callable[[State], None] = lambda state: None,
    trouble: Callable[[str], None] = lambda text: None,
) -> State:
    """Run a prepared study to its end, or until `stop` says so, and write its files.

    Args:
        prepared: stays open; the caller closes it.
        listen, stop: see `tune`.
        ended: hears the state once the files are there; MLflow may need seconds more.
        trouble: hears, last, why MLflow has not everything yet.

    Raises:
        StudyError: the task fails whatever the recipe, or the files cannot be written.
    """
    store = store_address(prepared.config.mlflow, prepared.folder.parent)
    listen = both(prepared.live, listen)
    with _mirrored(prepared, store, stop, trouble):
        state = controller.run(prepared, listen=listen, stop=stop)
        if state.ended != "interrupted":
            from automl.reports.export import write_all  # pandas and matplotlib: seconds

            write_all(state, prepared.folder)
        ended(state)
    return state


def store_address(given: str | None, runs: Path) -> str:
    """Address of the MLflow store; "" for none ("off")."""
    if given == "off":
        return ""
    return given or f"sqlite:///{(runs / 'mlflow.db').absolute()}"


@contextlib.contextmanager
def _mirrored(
    prepared: Prepared, store: str, stop: Stop, trouble: Callable[[str], None]
) -> Iterator[None]:
    """Copy the study into MLflow during the block."""
    if not store:
        yield
        return
    process = mirror.start(prepared.journal_url, prepared.config.name, store, prepared.folder)
    wait = 0.0  # whoever stopped the study wants the prompt back; the mirror goes on without us
    try:
        yield
        wait = 0.0 if stop() else _MIRROR_SECONDS
    finally:
        if not process.finish(wait):
            trouble(process.trouble or "is still being written, in the background")
