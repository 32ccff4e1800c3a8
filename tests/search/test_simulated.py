"""Virtual time: workers, clock, cancelling, and whole searches in it."""

from __future__ import annotations

import hashlib
import math

import pytest

from automl.executors.simulated import Simulated
from automl.recipe import Recipe
from automl.records import Metrics, Pack, Segment, Status
from automl.search.strategy import make_strategy
from automl.space.ranges import Float, Int
from automl.space.tree import Space

from .search_problems import ETA, FIRST, SPACE, STEPS, measure, search


def segment(trial: int, start: int, stop: int) -> Segment:
    recipe = Recipe({"trial": trial}, steps=90)
    return Segment(trial, recipe, start, stop, (trial, start) if start else None)


def slow(recipe: Recipe, step: int) -> tuple[Metrics, float]:
    """Trial n takes n + 1 seconds a step; trial 3 diverges after step 25."""
    trial = int(recipe.point["trial"])  # type: ignore[arg-type]
    value = math.nan if trial == 3 and step > 25 else 0.01 * step
    return {"val/accuracy": value}, step * (trial + 1.0)


PLAIN = Space({"lr": Float(1e-4, 1.0, log=True), "width": Int(8, 64), "wd": Float(0.0, 1.0)})


def uneven(recipe: Recipe, step: int) -> tuple[Metrics, float]:
    """A value and a speed that hang on the whole point, the same in every process."""
    digest = hashlib.sha256(repr(sorted(recipe.point.items())).encode()).digest()
    return {"val/accuracy": 1 - digest[0] / 256 - 1 / (step + 1)}, step * (1 + digest[1] / 16)


def test_reports_come_in_order_of_virtual_time() -> None:
    executor = Simulated(slow, workers=2, eval_steps=10)
    executor.submit(Pack((segment(1, 0, 30),), ""))
    executor.submit(Pack((segment(0, 0, 30),), ""))
    assert executor.capacity == 0
    (first,) = executor.reports()
    assert (first.trial, first.status, executor.now) == (0, Status.DONE, 30)
    assert [step for step, _ in first.curve] == [10, 20, 30]
    (second,) = executor.reports()
    assert (second.trial, executor.now) == (1, 60)
    assert executor.reports() == []


def test_a_continued_trial_pays_only_the_added_steps() -> None:
    executor = Simulated(slow, workers=1, eval_steps=10)
    executor.submit(Pack((segment(1, 30, 50),), ""))
    (report,) = executor.reports()
    assert (report.start, report.reached, report.seconds, report.passes) == (30, 50, 40, 20)


def test_divergence_ends_a_segment_where_it_is_seen() -> None:
    executor = Simulated(slow, workers=1, eval_steps=10)
    executor.submit(Pack((segment(3, 0, 90),), ""))
    (report,) = executor.reports()
    assert (report.status, report.reached) == (Status.DIVERGED, 30)


def test_a_cancelled_segment_stops_at_its_last_evaluation() -> None:
    executor = Simulated(slow, workers=2, eval_steps=10)
    executor.submit(Pack((segment(0, 0, 30), segment(1, 0, 90)), ""))
    executor.reports()
    executor.cancel(1)
    (report,) = executor.reports()
    assert (report.status, report.reached, report.seconds) == (Status.STOPPED, 10, 30)
    assert executor.now == 30


def test_asha_finds_a_better_recipe_than_full_training_for_the_same_cost() -> None:
    best = {"tpe": 0.0, "asha": 0.0}
    for name in best:
        for seed in range(5):
            strategy = make_strategy(
                name, SPACE, fidelity=(FIRST, STEPS, ETA), direction="maximize", seed=seed
            )
            search(strategy, fulls=12)
            found = strategy.incumbent()
            assert found is not None
            best[name] += found.value / 5
    assert best["asha"] > best["tpe"]


def test_asha_tries_more_recipes_than_full_training_for_the_same_cost() -> None:
    tried = {}
    for name in ("random", "asha"):
        strategy = make_strategy(
            name, SPACE, fidelity=(FIRST, STEPS, ETA), direction="maximize", seed=0
        )
        segments, _ = search(strategy, fulls=30)
        tried[name] = len({s.trial for s in segments})
    assert tried["asha"] >= 2 * tried["random"]


def test_more_workers_take_less_virtual_time_for_the_same_cost() -> None:
    seconds = {}
    for workers in (1, 4):
        strategy = make_strategy(
            "asha", SPACE, fidelity=(FIRST, STEPS, ETA), direction="maximize", seed=0
        )
        _, seconds[workers] = search(strategy, fulls=12, workers=workers)
    assert seconds[4] < 0.4 * seconds[1]


@pytest.mark.parametrize("name", ["auto", "gp", "asha", "bohb"])
def test_one_seed_is_one_run_with_eight_workers_too(name: str) -> None:
    # Durations differ between points, so results arrive out of order; with and without a portfolio
    # (what has none begins with a screened start).
    for space in (SPACE, PLAIN):
        runs = [
            search(
                make_strategy(
                    name, space, fidelity=(FIRST, STEPS, ETA), direction="maximize", seed=seed,
                    workers=8, budget=15.0,
                ),
                fulls=15, workers=8, measure=uneven,
            )
            for seed in (3, 3, 4)
        ]  # fmt: skip
        assert runs[0] == runs[1]
        assert runs[0][0] != runs[2][0]


def test_measures_are_asked_at_evaluations_only() -> None:
    asked: set[int] = set()

    def noted(recipe: Recipe, step: int) -> tuple[Metrics, float]:
        asked.add(step)
        return measure(recipe, step)

    executor = Simulated(noted, workers=1, eval_steps=10)
    executor.submit(Pack((Segment(0, Recipe(SPACE.default(), steps=90), 0, 35),), ""))
    executor.reports()
    assert asked == {10, 20, 30, 35}
