"""The smoke trial: a few steps of the baseline, before a study begins.

What fails here would fail in every trial. How long it takes tells how long a full training will.
"""

from __future__ import annotations

from pathlib import Path

from automl.aims import BY_DRIVER, COST
from automl.errors import TaskError
from automl.executors.processes import Processes
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment, Status, TaskCard
from automl.space.tree import Space
from automl.study.state import StudyConfig

SMOKE_TRIAL = -1
_SMOKE_STEPS = 20


def smoke_trial(
    executor: Processes,
    config: StudyConfig,
    staging: Path,
    *,
    probe: int = 0,
    trainings: float = 0.0,
) -> Report:
    """Train a few steps of the baseline and evaluate; what fails here, fails the command.

    Asked again to probe packs, the worker trains nothing twice.

    Raises:
        TaskError: what the trainer or the user's code said, in one line.
    """
    card = config.card
    recipe = Recipe(Space.from_json(card.space).default(), steps=card.steps, seed=config.seed)
    stop = min(_SMOKE_STEPS, card.eval_steps, card.steps)
    segment = Segment(SMOKE_TRIAL, recipe, 0, stop)
    place = str(staging.absolute() / "checkpoints")
    executor.submit(Pack((segment,), place, probe=probe, trainings=trainings))
    while True:
        for report in executor.reports(1.0):
            if isinstance(report, Report):
                if report.status in (Status.DONE, Status.DIVERGED):
                    return report
                raise TaskError(report.message or f"the smoke trial failed: {report.status}")


def check_aims(smoke: Report, card: TaskCard) -> None:
    """See that the task tells all that it is tuned for.

    Raises:
        TaskError: a loop of the user's does not report one of the names.
    """
    if card.aims is None or not smoke.curve:
        return
    told = {name for _, metrics in smoke.curve for name in metrics}
    told |= {COST + name for name in BY_DRIVER}
    missing = [n for n in card.aims.names if n not in told]
    if missing:
        known = ", ".join(sorted(n.removeprefix("val/") for n in told))
        raise TaskError(f"the task reports no {missing[0].removeprefix('val/')}; it has: {known}")


def full_seconds(smoke: Report, card: TaskCard) -> float:
    return smoke.seconds / max(smoke.reached, 1) * card.steps
