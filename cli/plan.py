"""What `automl tune` is about to do: the plan of `--dry-run`."""

from __future__ import annotations

import math

import typer

from automl.recipe import Recipe
from automl.reports.numerals import counted, duration
from automl.reports.tables import recipe_title
from automl.search.catalogue import look_up
from automl.space.tree import Space
from automl.study.budget import Budget
from automl.study.options import TuneOptions
from automl.study.preparing import Prepared, prepare
from automl.study.state import StudyConfig

from .wording import TOO_LITTLE, about


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
    whole = not look_up(config.strategy)[0].stops
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
        f"verdict   {_verdict(config, budget)}",
    ]
    if prepared.resumed:
        done = len(prepared.state.trials)
        lines.append(
            f"study     {config.name} exists with {counted(done, 'trial')}; it would go on"
        )
    else:
        lines.append(f"study     {prepared.folder}; nothing is written yet")
    return lines


def _verdict(config: StudyConfig, budget: Budget) -> str:
    seeds = budget.verdict_seeds(config)
    if seeds < min(2, config.seeds):
        return TOO_LITTLE
    each = f"{counted(seeds, 'fresh seed')} each"
    return f"the best recipes and the baseline again, {each}; then what each change gives"


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
