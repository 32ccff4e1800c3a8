"""What `automl tune` is about to do: its options checked, and the plan of `--dry-run`."""

from __future__ import annotations

import math
from pathlib import Path

import typer

from automl.errors import StrategyError, TaskError
from automl.recipe import Recipe
from automl.records import TaskSpec
from automl.registry import nearest
from automl.reports.numerals import counted, duration, short
from automl.reports.tables import recipe_title
from automl.space.files import names_of
from automl.space.tree import Space
from automl.study.budget import Budget
from automl.study.preparing import Prepared, TuneOptions, prepare

from .wording import about

_WHOLE = ("random", "tpe")  # strategies that train every trial to its end


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
    runs: Path,
    journal: str | None,
) -> TuneOptions:
    """The options as the study takes them; what can be refused at once is refused here.

    Raises:
        AutomlError: one line on the first that cannot be.
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
        raise TaskError(f"--epochs {short(epochs)}: a training needs a length above 0")
    if device not in ("auto", "cpu", "cuda") and not device.startswith("cuda:"):
        raise TaskError(f"--device {device}: give auto, cpu, cuda or cuda:N")
    Budget.parse(budget)
    names_of(sets)
    from automl.search.strategy import strategies

    if strategy not in strategies():
        near = nearest(strategy, strategies()) or f"; there are: {', '.join(strategies())}"
        raise StrategyError(f"no strategy named '{strategy}'{near}")
    spec = TaskSpec(
        source=command or task or "",
        command=command is not None,
        target=target,
        metric=metric,
        metric_regex=metric_regex,
        space=space,
        sets=sets,
        epochs=epochs,
        device=device,
    )
    return TuneOptions(
        spec=spec,
        budget=budget,
        strategy=strategy,
        seeds=seeds,
        name=name,
        workers=workers,
        seed=seed,
        runs=runs,
        journal=journal,
    )


def show_plan(options: TuneOptions) -> None:
    """Open the task, run the smoke trial, print the plan; nothing of it stays."""
    prepared = prepare(options)
    try:
        lines = plan_lines(prepared)
    finally:
        prepared.close()
    typer.echo("\n".join(lines))


def plan_lines(prepared: Prepared) -> list[str]:
    """The plan as text, one fact a line."""
    config = prepared.config
    card = config.card
    space = Space.from_json(card.space)
    low, high, eta = config.fidelity
    whole = config.strategy in _WHOLE
    rungs = [high] if whole else _rungs(low, high, eta)
    budget = Budget.parse(config.budget)
    fulls = budget.search_fulls(config)
    each = 1.0 if whole else _mean_cost(rungs, eta)
    trials = max(int(fulls / each), 1)
    if budget.trials is not None:
        trials = min(trials, budget.trials) if budget.seconds or budget.fulls else budget.trials
        fulls = min(fulls, trials * each)
    seconds = fulls * config.full_seconds / max(config.workers, 1)
    better = "higher" if card.direction == "maximize" else "lower"
    lines = [
        f"task      {card.name}: {card.about}",
        f"metric    {card.metric} on the validation split, {better} is better",
        f"space     {counted(len(space), 'hyperparameter')}, {_size(space)} points",
        f"baseline  {recipe_title(Recipe(space.default(), card.steps))}",
        f"training  {card.steps} steps, about {duration(config.full_seconds)} on one worker "
        "(from the smoke trial)",
        f"rungs     at {', '.join(str(r) for r in rungs)} steps"
        + (": every trial trains to its end" if whole else f"; about 1 in {eta} goes on from each"),
        f"search    strategy {config.strategy}, budget {', '.join(config.budget)}: about "
        f"{counted(trials, 'trial')} in {about(seconds)} with {counted(config.workers, 'worker')}",
        f"verdict   the best recipes and the baseline again, {counted(config.seeds, 'fresh seed')} "
        "each; then what each change gives",
    ]
    if prepared.resumed:
        done = len(prepared.state.trials)
        lines.append(
            f"study     {config.name} exists with {counted(done, 'trial')}; it would go on"
        )
    else:
        lines.append(f"study     {prepared.folder}; nothing is written yet")
    return lines


def _rungs(low: int, high: int, eta: int) -> list[int]:
    rungs = []
    step = low
    while step < high:
        rungs.append(step)
        step *= eta
    return [*rungs, high]


def _mean_cost(rungs: list[int], eta: int) -> float:
    """Full trainings that a trial costs on average when one in eta goes on from each rung."""
    cost, before = 0.0, 0
    for level, rung in enumerate(rungs):
        cost += (rung - before) / eta**level
        before = rung
    return cost / rungs[-1]


def _size(space: Space) -> str:
    size = space.size()
    if math.isinf(size):
        return "infinitely many"
    return f"{int(size):,}" if size < 1e6 else f"{size:.2g}"
