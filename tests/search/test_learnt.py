"""Portfolios learnt from finished studies: what is chosen, and what is made of foreign points."""

from __future__ import annotations

import math

import numpy as np

from automl.search.learnt import Experience, fitted, learnt
from automl.space.ranges import Choice, Float, Value
from automl.space.tree import Point, Space

from .search_problems import SPACE, error

HILLS = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})


def hill(at: float, *, seed: int, trials: int = 30) -> Experience:
    """A study of a task whose best x is `at`; y does nothing."""
    rng = np.random.default_rng(seed)
    points: list[Point] = [HILLS.sample(rng) for _ in range(trials)]
    losses = [(_x(p) - at) ** 2 for p in points]
    return Experience(points, losses, [1.0] * trials)


def _x(point: Point) -> float:
    return float(point["x"])  # type: ignore[arg-type]


def test_the_points_serve_tasks_that_want_different_things() -> None:
    found = learnt(HILLS, [hill(0.1, seed=0), hill(0.9, seed=1)], size=3)
    for at in (0.1, 0.9):
        assert min(abs(_x(p) - at) for p in found) < 0.06


def test_the_first_point_is_the_best_on_the_whole() -> None:
    tasks = [hill(0.2, seed=0), hill(0.25, seed=1), hill(0.9, seed=2)]
    assert _x(learnt(HILLS, tasks)[0]) < 0.5


def test_points_of_other_spaces_keep_what_fits() -> None:
    narrow = Space({"optimizer": Choice({"adamw": {"lr": Float(1e-4, 1e-2, log=True)}})})
    foreign: dict[str, Value] = {"optimizer": "adamw", "optimizer.adamw.lr": 0.5, "model.depth": 3}
    assert fitted(narrow, foreign) == narrow.default()
    assert fitted(narrow, {**foreign, "optimizer.adamw.lr": 5e-3})["optimizer.adamw.lr"] == 5e-3


def test_failures_and_trials_that_were_stopped_early_are_used() -> None:
    rng = np.random.default_rng(0)
    points: list[Point] = [SPACE.sample(rng) for _ in range(24)]
    shares = [1.0 if i % 3 == 0 else 1 / 9 for i in range(24)]
    losses = [error(p) + 0.5 * (1 - s) for p, s in zip(points, shares, strict=True)]
    losses[0] = math.inf
    found = learnt(SPACE, [Experience(points, losses, shares)])
    best = sorted(range(24), key=lambda i: error(points[i]))[:6]
    assert found and dict(points[0]) not in found
    assert found[0] in [points[i] for i in best]
    for point in found:
        SPACE.validate(point)


def test_a_study_that_only_knows_the_default_teaches_nothing() -> None:
    assert learnt(HILLS, [Experience([HILLS.default()], [0.1], [1.0])]) == []
