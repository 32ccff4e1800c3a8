"""A study made up of journal events: a search under rungs, finals and ablations on a known rule."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.space.ranges import Choice, Float, Int, Value
from automl.space.tree import Condition, Dimension, Space
from automl.study.state import State, StudyConfig
from automl.study.verdict import judge, next_trials

MakeStudy = Callable[..., State]


def _if(text: str) -> tuple[Condition, ...]:
    name, _, value = text.partition("=")
    return ((name, (value,)),)


SPACE = Space(
    [
        Dimension("optimizer", Choice(["adamw", "sgd", "muon"])),
        Dimension(
            "optimizer.adamw.lr",
            Float(1e-5, 0.1, log=True, default=1e-3),
            _if("optimizer=adamw"),
        ),
        Dimension(
            "optimizer.adamw.wd",
            Float(1e-4, 0.5, log=True, default=0.01),
            _if("optimizer=adamw"),
        ),
        Dimension(
            "optimizer.sgd.lr", Float(1e-3, 1.0, log=True, default=0.1), _if("optimizer=sgd")
        ),
        Dimension(
            "optimizer.muon.lr", Float(1e-4, 3e-2, log=True, default=3e-3), _if("optimizer=muon")
        ),
        Dimension("schedule", Choice(["cosine", "wsd", "one_cycle"])),
        Dimension("schedule.cosine.warmup", Float(0.0, 0.2, default=0.05), _if("schedule=cosine")),
        Dimension("batch", Choice(["none", "mixup"])),
        Dimension("batch.mixup.alpha", Float(0.1, 1.0, default=0.2), _if("batch=mixup")),
        Dimension("loss", Choice(["cross_entropy"])),
        Dimension("loss.cross_entropy.smoothing", Float(0.0, 0.2, default=0.0)),
        Dimension("averaging", Choice(["none", "ema"])),
        Dimension("batch_size", Choice([32, 64, 128], default=64)),
        Dimension("model.width", Int(16, 256, log=True, default=64)),
        Dimension("model.act", Choice(["relu", "gelu"])),
    ]
)
_BEST_LR = {"adamw": 2e-3, "sgd": 0.15, "muon": 6e-3}
_GIFT = {"adamw": 0.0, "sgd": -0.006, "muon": 0.006}


def truth(point: dict[str, Value]) -> float:
    """Validation accuracy of a point after full training, without noise."""
    optimizer = str(point["optimizer"])
    lr = float(point[f"optimizer.{optimizer}.lr"])  # type: ignore[arg-type]
    value = 0.981 + _GIFT[optimizer]
    value -= 0.012 * min(math.log10(lr / _BEST_LR[optimizer]) ** 2, 3)
    value += {"cosine": 0.0, "wsd": 0.001, "one_cycle": -0.001}[str(point["schedule"])]
    value += 0.004 * (point["batch"] == "mixup")
    value += 0.003 * math.log2(float(point["model.width"]) / 64) / 2  # type: ignore[arg-type]
    return value


def make_study(
    trials: int = 40, *, seed: int = 0, verdict: bool = True, metric: str = "accuracy"
) -> State:
    """A study of `trials` search trials, judged; "rmse" turns the same rule upside down."""
    maximize = metric == "accuracy"
    card = TaskCard(
        name="digits",
        kind="image",
        metric=metric,
        direction="maximize" if maximize else "minimize",
        space=SPACE.to_json(),
        steps=540,
        eval_steps=60,
        batch_size=64,
        sizes={"train": 1078, "valid": 359, "test": 360},
        about="1,797 images 8x8, 10 classes",
        classes=tuple("0123456789"),
    )
    budget = ("20m", f"{trials}trials")
    config = StudyConfig(
        "digits", name="digits-1", card=card, fidelity=(60, 540, 3), budget=budget, seed=seed,
        workers=2, full_seconds=3.1, pack="off",
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    state = State()
    clock = [1.7e9]

    def tell(**event: Any) -> None:
        state.apply(json.loads(json.dumps({**event, "at": clock[0]})))

    def train(number: int, recipe: Recipe, phase: str, label: str) -> None:
        final = truth(dict(recipe.point)) + rng.normal(0, 0.0012)
        diverges = float(recipe.point.get("optimizer.sgd.lr", 0.0)) > 0.7  # type: ignore[arg-type]
        rungs = (60, 180, 540) if phase == "search" else (540,)
        start = 0
        for stop in rungs:
            segment = Segment(number, recipe, start, stop, (number, start) if start else None)
            tell(kind="ask", segment=segment.to_json(), phase=phase, label=label)
            clock[0] += 1.3 * (stop - start) / 180
            curve = []
            for step in range(start + 60, stop + 1, 60):
                miss = 0.35 * math.exp(-step / 110) + rng.normal(0, 0.001)
                value = final - miss if maximize else 1.2 - final + miss
                loss = 0.05 + 2.2 * math.exp(-step / 90)
                curve.append((step, {f"val/{metric}": value, "train/loss": loss, "lr": 1e-3}))
            status = Status.DIVERGED if diverges else Status.DONE
            test = None
            if phase != "search":
                shown = final - 0.004 + rng.normal(0, 0.001)
                test = {f"test/{metric}": shown if maximize else 1.2 - shown}
            report = Report(
                number, start, stop, status, tuple(curve), 1.3 * (stop - start) / 180,
                float(stop - start), test=test, message="loss is not finite" if diverges else "",
            )  # fmt: skip
            tell(kind="report", report=report.to_json())
            start = stop
            # The more it lags, the sooner it stops: what a rung rule does, roughly.
            if diverges or (phase == "search" and number and final < 0.984 - 0.01 * rng.random()):
                break

    tell(kind="study", config=config.to_json())
    for number in range(trials):
        point = SPACE.default() if number == 0 else SPACE.sample(rng)
        label = "baseline" if number == 0 else ""
        train(number, Recipe(point, steps=540, seed=0), "search", label)
    if verdict:
        tell(kind="judge", allowance=18.0)
        while plans := next_trials(state):
            for plan in plans:
                train(len(state.trials), plan.recipe, plan.phase, plan.label)
        tell(kind="verdict", verdict=judge(state).to_json())
        tell(kind="end", status="done", message="")
    return state


@pytest.fixture(scope="session")
def made_up() -> MakeStudy:
    """`made_up(trials)`: a judged study; treat it as read-only, equal calls share it."""
    return cache(make_study)
