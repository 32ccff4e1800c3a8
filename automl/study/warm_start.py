"""What earlier studies know, as the points that a new one begins with."""

from __future__ import annotations

import math
from collections.abc import Sequence

from automl.errors import StudyError
from automl.search.learnt import Experience, learnt
from automl.search.portfolio import portfolio
from automl.space.ranges import Value
from automl.space.tree import Point, Space
from automl.study.state import State


def starting_points(space: Space, earlier: Sequence[State]) -> list[dict[str, Value]]:
    """Points for `auto` to begin with: learnt from `earlier` studies, then the shipped ones.

    Raises:
        StudyError: a study has no finished trial, or none of what was good fits this space.
    """
    found = learnt(space, [experience(state) for state in earlier])
    if not found:
        raise StudyError("--warm-start: those studies found nothing that differs from the baseline")
    return found + [point for point in portfolio(space) if point not in found]


def experience(state: State) -> Experience:
    """Search trials of a study, as far as each was trained.

    Raises:
        StudyError: none was trained to the end.
    """
    assert state.config is not None
    sign = -1.0 if state.config.card.direction == "maximize" else 1.0
    if not state.finished():
        raise StudyError(f"--warm-start {state.config.name}: no trial of it has finished")
    points: list[Point] = []
    losses: list[float] = []
    shares: list[float] = []
    for trial in state.search_trials():
        value = trial.last(state.metric)
        if (value is None and not trial.failed) or trial.recipe.changes:
            continue  # nothing is known of it yet, or of no one point
        known = value is not None and math.isfinite(value) and not trial.failed
        points.append(trial.recipe.point)
        losses.append(sign * value if known and value is not None else math.inf)
        shares.append(trial.reached / trial.recipe.steps if known else 1.0)
    return Experience(points, losses, shares)
