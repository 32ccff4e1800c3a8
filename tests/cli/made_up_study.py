"""Events of a study that nobody ran, to draw the screen and print lines from."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Any

from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.study.state import StudyConfig

Event = dict[str, Any]

STEPS, RUNG = 900, 100
OPTIMIZERS = {"adamw": 0.96, "muon": 0.98, "sgd": 0.95, "lion": 0.955}


def config(*, workers: int = 2, budget: str = "12trials") -> StudyConfig:
    card = TaskCard(
        name="digits",
        kind="image",
        metric="accuracy",
        direction="maximize",
        space=[],
        steps=STEPS,
        eval_steps=RUNG,
        batch_size=64,
        sizes={"train": 1078, "valid": 359, "test": 360},
        about="1,797 images 8x8, 10 classes",
    )
    return StudyConfig(
        name="digits",
        task="digits",
        pack="off",
        card=card,
        strategy="asha",
        fidelity=(RUNG, STEPS, 3),
        budget=(budget,),
        seed=0,
        seeds=3,
        workers=workers,
        full_seconds=10.0,
    )


def events(
    *, trials: int = 12, workers: int = 2, end: bool = True, now: float = 1000.0, seed: int = 0
) -> Iterator[Event]:
    """A search of `trials` trials, one after the other; every sixth diverges, one fails."""
    rng = random.Random(seed)
    plan = config(workers=workers, budget=f"{trials}trials")
    smoke = {"kind": "smoke", "seconds": 0.3, "full_seconds": 10.0, "metrics": {}}
    yield {**smoke, "config": plan.to_json()}
    yield {"kind": "study", "config": plan.to_json(), "at": now}
    yield {"kind": "phase", "phase": "search"}
    for number in range(trials):
        recipe = Recipe(_point(number, rng), steps=STEPS)
        top = OPTIMIZERS[str(recipe.point["optimizer"])] + rng.uniform(-0.02, 0.015)
        label = "baseline" if number == 0 else ""
        yield _ask(number, recipe, 0, STEPS, now, label=label)
        curve = [(s, _metrics(s, top)) for s in range(RUNG, STEPS + 1, RUNG)]
        for step, metrics in curve:
            now += 1
            yield {"kind": "progress", "trial": number, "step": step, "metrics": metrics}
        yield _report(number, curve, now, _status(number))
    for number in range(trials, trials + workers if not end else trials):
        recipe = Recipe(_point(number, rng), steps=STEPS)
        yield _ask(number, recipe, 0, STEPS, now)
        for step in (100, 200, 300):
            metrics = _metrics(step, 0.96)
            yield {"kind": "progress", "trial": number, "step": step, "metrics": metrics}
    if end:
        yield {"kind": "judge", "allowance": 10.0, "at": now}
        yield {"kind": "phase", "phase": "verdict"}


def _status(number: int) -> Status:
    if number and number % 6 == 0:
        return Status.DIVERGED
    return Status.OUT_OF_MEMORY if number == 5 else Status.DONE


def _point(number: int, rng: random.Random) -> dict[str, Any]:
    optimizer = "adamw" if number == 0 else rng.choice(list(OPTIMIZERS))
    lr = 1e-3 if number == 0 else 10 ** rng.uniform(-4, -1)
    schedule = "cosine" if number == 0 else rng.choice(["cosine", "wsd", "one_cycle"])
    return {
        "optimizer": optimizer,
        f"optimizer.{optimizer}.lr": lr,
        "schedule": schedule,
        "batch": "none" if number % 2 == 0 else "flip_crop+mixup",
        "batch_size": rng.choice([32, 64, 128]),
    }


def _metrics(step: int, top: float) -> dict[str, float]:
    return {
        "val/accuracy": top * (1 - math.exp(-step / 200)),
        "val/loss": math.exp(-step / 200),
        "train/loss": math.exp(-step / 180),
    }


def _ask(
    number: int, recipe: Recipe, start: int, stop: int, now: float, *, label: str = ""
) -> Event:
    segment = Segment(number, recipe, start, stop)
    return {
        "kind": "ask",
        "segment": segment.to_json(),
        "phase": "search",
        "label": label,
        "new": start == 0,
        "at": now,
    }


def _report(number: int, curve: list[Any], now: float, status: Status) -> Event:
    if status is not Status.DONE:
        curve = curve[:2]
    report = Report(
        number,
        0,
        curve[-1][0],
        status,
        curve=tuple(curve),
        seconds=9.0,
        passes=curve[-1][0],
        message="the loss is not finite" if status is Status.DIVERGED else "",
    )
    return {"kind": "report", "report": report.to_json(), "at": now}
