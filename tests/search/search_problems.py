"""A space with conditions, a synthetic task on it, and a loop that drives a strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping

from automl.executors.simulated import Measure, Simulated
from automl.recipe import Recipe
from automl.records import Pack, Report, Segment
from automl.search.strategy import Failure, Strategy
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Space

STEPS, FIRST, ETA = 90, 10, 3

SPACE = Space(
    {
        "optimizer": Choice(
            {
                "adamw": {
                    "lr": Float(1e-5, 1e-1, log=True, default=1e-3),
                    "wd": Float(1e-4, 0.5, log=True, default=1e-2),
                },
                "sgd": {
                    "lr": Float(1e-4, 1.0, log=True, default=0.1),
                    "nesterov": Choice([True, False]),
                },
            }
        ),
        "schedule": Choice({"cosine": {}, "one_cycle": {"share": Float(0.1, 0.5)}}),
        "batch_size": Choice([32, 64, 128], default=64),
        "model.depth": Int(1, 4),
        "model.fixed": Float(0.5, 0.5),
    }
)


def error(point: Mapping[str, Value]) -> float:
    """What is lost at the end, 0 for the best lr of sgd and depth 3."""
    sgd = point["optimizer"] == "sgd"
    lr = float(point["optimizer.sgd.lr" if sgd else "optimizer.adamw.lr"])  # type: ignore[arg-type]
    off = abs(math.log10(lr) + (0.5 if sgd else 2.5)) / 4
    return off + (0.0 if sgd else 0.1) + 0.05 * abs(float(point["model.depth"]) - 3)  # type: ignore[arg-type]


def accuracy(recipe: Recipe, step: int) -> float:
    """Rises to 1 - error as 1/step; early ranks are those of the end."""
    return 1 - error(recipe.point) - 0.5 / (1 + step)


def measure(recipe: Recipe, step: int) -> tuple[dict[str, float], float]:
    return {"val/accuracy": accuracy(recipe, step)}, float(step)


def told(report: Report) -> dict[int, float]:
    return {step: metrics["val/accuracy"] for step, metrics in report.curve}


def search(
    strategy: Strategy, *, fulls: float, workers: int = 1, measure: Measure = measure
) -> tuple[list[Segment], float]:
    """Drive a strategy until trainings worth `fulls` full ones are paid; segments, and seconds."""
    executor = Simulated(measure, workers=workers, eval_steps=10)
    segments: dict[int, Segment] = {}
    every: list[Segment] = []
    paid = 0.0
    while paid < fulls * STEPS:
        for segment in strategy.ask(executor.capacity):
            segments[segment.trial] = segment
            every.append(segment)
            executor.submit(Pack((segment,), ""))
        for report in executor.reports():
            paid += report.passes
            strategy.tell(segments[report.trial], told(report))
    return every, executor.now


def answer(segment: Segment) -> dict[int, float] | Failure:
    """What a segment brings back; every fifth trial diverges, every seventh fails."""
    if segment.trial % 5 == 4:
        return {segment.start + 10: math.nan}
    if segment.trial % 7 == 6:
        return Failure("user code", "it raised")
    steps = range(segment.start + 10, segment.stop + 1, 10)
    return {step: accuracy(segment.recipe, step) for step in steps}
