"""A made-up study: the events of a search with rungs, failures and a verdict, no training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from automl.recipe import Recipe
from automl.records import Report, Segment, Status, TaskCard
from automl.space.ranges import Value
from automl.study.state import StudyConfig, replay

Event = dict[str, Any]


def study_event(
    name: str = "digits", *, direction: str = "maximize", metric: str = "accuracy"
) -> Event:
    card = TaskCard(
        name="digits",
        kind="image",
        metric=metric,
        direction=direction,
        space=[],
        steps=90,
        eval_steps=10,
        batch_size=64,
        about="1,797 images 8x8, 10 classes",
        code_fingerprint="c0de",
        data_fingerprint="da7a",
    )
    config = StudyConfig(
        "digits",
        name=name,
        card=card,
        fidelity=(10, 90, 3),
        budget="12trials",
        pack="off",
        seed=0,
        seeds=2,
        workers=2,
    )
    return {"kind": "study", "at": 1_700_000_000.0, "config": config.to_json()}


def recipe(number: int) -> Recipe:
    optimizer = ("adamw", "muon", "lion")[number % 3]
    point: dict[str, Value] = {
        "optimizer": optimizer,
        f"optimizer.{optimizer}.lr": 10.0 ** -(1 + number % 4),
        "schedule": "wsd" if number % 2 else "cosine",
        "batch_size": 32 << number % 3,
        "averaging": "none",
    }
    return Recipe(point, steps=90, seed=number)


def ask(at: float, segment: Segment, phase: str = "search", label: str = "") -> Event:
    return {"kind": "ask", "at": at, "segment": segment.to_json(), "phase": phase, "label": label}


def report(at: float, segment: Segment, status: Status = Status.DONE, **more: Any) -> Event:
    """A curve that rises with the steps, higher for some trials than for others."""
    bad = status == Status.DIVERGED
    steps = range(segment.start + 10, segment.stop + 1, 10)
    curve = tuple(
        (
            s,
            {
                "train/loss": math.nan if bad else 2.0 / s,
                "val/loss": math.inf if bad else 2.1 / s,
                "val/accuracy": math.nan if bad else _value(segment) * (1 - 1 / s),
                "lr": 0.01 * (1 - s / 100),
            },
        )
        for s in steps
    )
    told = Report(
        segment.trial, segment.start, segment.stop, status, curve, seconds=0.5, passes=30.0, **more
    )
    return {"kind": "report", "at": at, "report": told.to_json()}


def _value(segment: Segment) -> float:
    return 0.9 + 0.01 * (segment.recipe.seed * 7 % 10)


def search(trials: int = 12) -> Iterator[Event]:
    """Every third trial goes to the end, one diverges, one runs out of memory."""
    at = study_event()["at"]
    yield study_event()
    for n in range(trials):
        at += 1
        segment = Segment(n, recipe(n), 0, 10)
        yield ask(at, segment, label="baseline" if n == 0 else "")
        at += 1
        if n == 4:
            yield report(at, segment, Status.DIVERGED)
        elif n == 7:
            yield report(at, replace(segment, stop=0), Status.OUT_OF_MEMORY, message="4 GiB asked")
        else:
            yield report(at, segment)
        if n % 3 == 0:
            segment = Segment(n, recipe(n), 10, 90, parent=(n, 10))
            yield ask(at + 1, segment)
            at += 5
            yield report(at, segment)


def study(trials: int = 12) -> list[Event]:
    """The search, two finals each for the best and the baseline, a verdict, the end."""
    events = list(search(trials))
    best = replay(events).incumbent()
    assert best is not None
    at = events[-1]["at"]
    standings: list[Event] = []
    for label, kept in (("finalist 1", best.recipe), ("baseline", recipe(0))):
        numbers: list[int] = []
        for seed in (901, 902):
            number = trials + len(standings) * 2 + len(numbers)
            segment = Segment(number, replace(kept, seed=seed), 0, 90)
            events.append(ask(at + 1, segment, "verdict", label))
            events.append(report(at + 4, segment, test={"accuracy": 0.91}))
            numbers.append(number)
            at += 4
        sample = {"mean": 0.95, "sd": 0.01, "n": 2}
        standings.append(
            {
                "label": label,
                "recipe": kept.to_json(),
                "trials": numbers,
                "validation": sample,
                "test": sample,
            }
        )
    verdict = {"outcome": "better", "keep": "finalist 1", "standings": standings}
    events.append({"kind": "verdict", "at": at + 1, "verdict": verdict})
    events.append({"kind": "end", "at": at + 2, "status": "done", "message": ""})
    return events
