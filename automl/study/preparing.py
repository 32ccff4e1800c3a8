"""Before a study runs: open the task, try it, and find or make the study's folder.

The task is opened by the first worker process, so that the driver never holds the user's code;
that worker then runs the smoke trial: a few steps of the baseline, evaluation included. What is
wrong is found here, within seconds, and nothing is left behind.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from automl.errors import StudyError
from automl.executors.executor import Executor
from automl.executors.processes import Processes
from automl.objects import put
from automl.records import Report, TaskCard
from automl.search.prior import strength
from automl.search.strategy import default_fidelity, make_strategy
from automl.space.tree import Point, Space
from automl.study.architecture import check_budget
from automl.study.budget import Budget
from automl.study.control import Control
from automl.study.crowd import crew, executor_of, key_of, sent_task
from automl.study.journal import Journal
from automl.study.keeping import budget_bytes
from automl.study.live import Live
from automl.study.options import TuneOptions
from automl.study.packing import largest_pack, trainings_alike
from automl.study.prescreening import pool_for
from automl.study.sameness import check_same
from automl.study.smoke import check_aims, full_seconds, smoke_trial
from automl.study.state import State, StudyConfig, replay

Listener = Callable[[Mapping[str, Any]], None]

_STALL_SECONDS = 600.0  # at least, without a sign of life, until a trial counts as hung
_STALL_EVALUATIONS = 10  # as long as so many evaluations are apart, by the smoke trial
_DEADLINE_SECONDS = 3600.0  # at least, until a segment is ended though it still reports
_DEADLINE_FULLS = 100  # full trainings of the baseline; no recipe of sense takes as long


@dataclass
class Prepared:
    """A study that is ready to run: its folder, its journal, open for writing, and its workers."""

    config: StudyConfig
    folder: Path
    journal: Journal
    journal_url: str
    executor: Executor
    live: Live  # for screens in other processes
    state: State
    smoke: Report | None  # None when the study goes on

    @property
    def checkpoints(self) -> str:
        """Where the study's checkpoints lie, a folder or a URL."""
        return f"{self.config.place or self.folder}/checkpoints"

    @property
    def checkpoint_budget(self) -> int | None:
        text = self.config.checkpoint_budget
        return None if text is None else budget_bytes(text)

    @property
    def resumed(self) -> bool:
        return self.smoke is None

    def close(self) -> None:
        """Stop the workers and let go of the journal. A study that never began leaves nothing."""
        self.executor.close()
        self.live.close()
        if self.state.config is None:  # still ours: the next may begin as soon as it is closed
            shutil.rmtree(self.folder, ignore_errors=True)
        self.journal.close()


def prepare(
    options: TuneOptions, *, heed: bool = False, listen: Listener = lambda event: None
) -> Prepared:
    """Open the task and, unless the study is there already, run the smoke trial.

    Args:
        heed: keep what was asked of the study before, such as a pause.

    Raises:
        AutomlError: one line on what is wrong with the task, the options or the folder.
    """
    budget = Budget.parse(options.budget)
    many = crew(options, listen)
    runs = Path(options.runs)
    staging = _staging(runs)
    executor = journal = None
    try:
        sent = sent_task(options)
        executor = Processes(
            sent.spec,
            folder=sent.folder,
            workers=1 if options.broker else options.workers or 0,
            logs=staging / "workers",
            stall_seconds=_STALL_SECONDS,
        )
        card = executor.card
        name = options.name or card.name
        if "/" in name or name in (".", "..") or not name.strip():
            raise StudyError(f"'{name}' is no name for a study; use letters, digits, - and _")
        folder = runs / name
        url = options.journal or str(folder / "journal.db")
        known = _known(folder, url, name)
        config = _config(options, card, name, many or executor.workers)
        if options.checkpoints is not None:
            config = replace(config, place=f"{options.checkpoints}/{key_of(name, url)}")
        if known is not None:
            check_same(known, config)
            journal = _taken(url, name, known)
            executor.adopt_logs(folder / "workers")
            live = _opened(folder, heed=heed)
            state = replay(event for _, event in journal.events())
            known = replace(
                known,
                mlflow=options.mlflow or known.mlflow,
                checkpoint_budget=options.checkpoint_budget or known.checkpoint_budget,
            )
            _set_limits(executor, known)
            crowd = executor_of(executor, sent, options, known, folder, url, both(live, listen))
            return Prepared(known, folder, journal, url, crowd, live, state, None)
        if options.warm_start:
            config = replace(config, portfolio=_learnt(options, card))
        smoke = smoke_trial(executor, config, staging)
        check_aims(smoke, card)
        config = replace(config, full_seconds=full_seconds(smoke, card))
        largest = largest_pack(config, budget.search_fulls(config))
        if config.pack == "auto" and largest > 1:
            trainings = trainings_alike(config, budget.search_fulls(config))
            again = smoke_trial(executor, config, staging, probe=largest, trainings=trainings)
            config = replace(config, packing=again.packing)
        _set_limits(executor, config)
        if config.prescreen is not None:
            config = replace(
                config, pool=pool_for(executor, config, staging / "checkpoints", budget)
            )
        check_budget(config, budget)
        # A strategy that refuses the space or the budget does so before anything is written.
        make_strategy(
            config.strategy,
            Space.from_json(card.space),
            fidelity=config.fidelity,
            direction=card.directions,
            seed=config.seed,
            workers=config.workers,
            budget=budget.search_fulls(config),
            portfolio=config.portfolio,
            prior=strength(config.prior),
        )
        listen(
            {
                "kind": "smoke",
                "seconds": smoke.seconds,
                "full_seconds": config.full_seconds,
                "metrics": dict(smoke.curve[-1][1]) if smoke.curve else {},
                "config": config.to_json(),
            }
        )
        if config.place:
            put(config.place, "study.json", b"{}")  # a store that refuses does so now
        folder.mkdir(parents=True, exist_ok=True)
        journal = _taken(url, name, known)
        executor.adopt_logs(folder / "workers")
        live = _opened(folder, heed=heed)
        crowd = executor_of(executor, sent, options, config, folder, url, both(live, listen))
        return Prepared(config, folder, journal, url, crowd, live, State(), smoke)
    except BaseException:
        if executor is not None:
            executor.close()
        if journal is not None:
            journal.close()
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def resume(
    name: str,
    *,
    runs: Path = Path("runs"),
    journal: str | None = None,
    workers: int | None = None,
    mlflow: str | None = None,
    broker: str | None = None,
    queue: str | None = None,
    heed: bool = False,
    listen: Listener = lambda event: None,
) -> Prepared:
    """Take up the study `name` again, exactly as it was started; None: as before.

    Raises:
        StudyError: there is no such study.
    """
    config = saved_config(name, runs=runs, journal=journal)
    told = {
        **config.kept(),
        "workers": workers or (None if broker else config.workers),
        "mlflow": mlflow,
        "queue": queue or config.queue or "cpu",
        "needs": config.needs if broker else (),
    }
    options = TuneOptions(**told, runs=runs, journal=journal, broker=broker)
    return prepare(options, heed=heed, listen=listen)


def saved_state(name: str, *, runs: Path = Path("runs"), journal: str | None = None) -> State:
    """The state of a study on disk; never blocks its driver.

    Raises:
        StudyError: there is no such study.
    """
    url = journal or str(runs / name / "journal.db")
    if journal is None and not Path(url).exists():
        raise StudyError(f"no study named '{name}' in {runs}{_others(runs)}")
    reader = Journal(url, name)
    try:
        state = replay(event for _, event in reader.events())
    finally:
        reader.close()
    if state.config is None and journal is None:
        raise StudyError(
            f"study '{name}' was ended before it began: {url} holds no event; begin it again, or "
            f"automl rm {name}"
        )
    if state.config is None:
        raise StudyError(f"no study named '{name}' in {journal}{_others(runs)}")
    return state


def saved_config(
    name: str, *, runs: Path = Path("runs"), journal: str | None = None
) -> StudyConfig:
    """The configuration of a study on disk; see `saved_state`."""
    config = saved_state(name, runs=runs, journal=journal).config
    assert config is not None
    return config


def both(live: Live, listen: Listener) -> Listener:
    """Whoever listens hears it, and so does every other process that follows the study."""

    def hear(event: Mapping[str, Any]) -> None:
        live.hear(event)
        listen(event)

    return hear


def _opened(folder: Path, *, heed: bool) -> Live:
    """The files beside the journal, now that the study is ours."""
    if not heed:
        Control(folder).ask("go")
    return Live(folder)


def _staging(runs: Path) -> Path:
    try:
        runs.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".starting-", dir=runs))
    except OSError as error:
        raise StudyError(
            f"cannot write in {runs}: {error.strerror}; choose another --runs"
        ) from None


def _known(folder: Path, url: str, name: str) -> StudyConfig | None:
    """The study's configuration if its journal has begun."""
    if "://" not in url and not Path(url).exists():
        return None
    reader = Journal(url, name)
    try:
        state = replay(event for _, event in reader.events())
    finally:
        reader.close()
    return state.config


def _taken(url: str, name: str, known: StudyConfig | None) -> Journal:
    """The study's journal, ours from now on.

    Raises:
        StudyError: another process has begun or deleted the study since it was looked for.
    """
    journal = Journal(url, name, write=True)
    if (known is None) == (journal.last == 0):
        return journal
    journal.close()
    done = "begun" if known is None else "deleted"
    raise StudyError(f"study '{name}' was {done} by another process meanwhile; type this again")


def _config(options: TuneOptions, card: TaskCard, name: str, workers: int) -> StudyConfig:
    told = {
        **options.kept(),
        "name": name,
        "workers": workers,
        "queue": options.queue if options.broker else "",
    }
    low, high, eta = default_fidelity(card.steps, card.eval_steps)
    refill = options.pack == "auto"
    return StudyConfig(**told, card=card, fidelity=(low, high, eta), refill=refill)


def _learnt(options: TuneOptions, card: TaskCard) -> tuple[Point, ...]:
    """What the earlier studies that the options name know of this task's space."""
    from automl.study.warm_start import starting_points  # its model's scipy costs half a second

    earlier = [
        saved_state(name, runs=Path(options.runs), journal=options.journal)
        for name in options.warm_start
    ]
    return tuple(starting_points(Space.from_json(card.space), earlier))


def _set_limits(executor: Processes, config: StudyConfig) -> None:
    apart = config.full_seconds * config.card.eval_steps / config.card.steps
    executor.stall_seconds = max(_STALL_SECONDS, _STALL_EVALUATIONS * apart)
    executor.deadline_seconds = max(_DEADLINE_SECONDS, _DEADLINE_FULLS * config.full_seconds)


def _others(runs: Path) -> str:
    names = sorted(p.parent.name for p in runs.glob("*/journal.db"))
    return f"; there are: {', '.join(names)}" if names else "; `automl ls` lists what is there"
