"""Who competes in the verdict, and how they stand: the baseline and the finalists.

A finalist is a point of the search trained to its last step; seeds of one point count as their
mean. Finals are its trainings on fresh seeds; they are raced (`automl.study.race`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from automl.recipe import Recipe
from automl.records import Status
from automl.space.ranges import Value
from automl.space.tree import Space
from automl.study import race
from automl.study.state import State, Trial

Split = Literal["test", "validation"]

BASELINE = "baseline"
FINALISTS = 4

# Metrics that count samples: they move in steps of 1/N, and people read them in percent.
SHARES = ("accuracy", "balanced_accuracy", "error", "top5")

Identity = tuple[frozenset[tuple[str, Value]], int, tuple[object, ...]]


def same_point(recipe: Recipe) -> Identity:
    """What two recipes share that differ in their seed only.

    As `Recipe.point_key`, but a hundred times as fast: the screen asks at each redraw.
    """
    changes = tuple((at, frozenset(values.items())) for at, values in recipe.changes)
    return frozenset(recipe.point.items()), recipe.steps, changes


@dataclass(frozen=True, slots=True)
class Contender:
    """The baseline or a finalist: its recipe as the search trained it, and its finals so far."""

    label: str
    recipe: Recipe
    trials: tuple[Trial, ...] = ()
    searched: float | None = None  # its value in the search


def contenders(state: State) -> list[Contender]:
    """The baseline, then the finalists in the order of the search; finals that ran keep a label."""
    baseline = baseline_recipe(state)
    finals = of_phase(state, "verdict")
    fixed = {t.label: t.recipe for t in finals}
    taken = {same_point(baseline)} | {same_point(r) for r in fixed.values()}
    ranked = _ranked(state)
    others = [key for key in ranked if key not in taken]
    out = [Contender(BASELINE, baseline)]
    for place in range(1, FINALISTS + 1):
        label = f"finalist {place}"
        if label in fixed:
            out.append(Contender(label, fixed[label]))
        elif others:
            out.append(Contender(label, ranked[others.pop(0)][1]))
    return [
        replace(
            c,
            trials=tuple(t for t in finals if t.label == c.label),
            searched=ranked[same_point(c.recipe)][0] if same_point(c.recipe) in ranked else None,
        )
        for c in out
    ]


def baseline_recipe(state: State) -> Recipe:
    """Trial 0's recipe; before there is one, the space's defaults at full length."""
    assert state.config is not None
    first = state.baseline()
    if first is not None:
        return first.recipe
    card = state.config.card
    return Recipe(Space.from_json(card.space).default(), steps=card.steps, seed=state.config.seed)


def ranking(state: State) -> list[Contender]:
    """Contenders that have an ended final, best first.

    Fewest diverged, then by how far they break constraints, then by the bound of validation.
    """
    heard = {
        c.label: c
        for c in contenders(state)
        if values_of(state, c, "validation") or count(c, Status.DIVERGED)
    }
    runs = {label: runs_of(state, c) for label, c in heard.items()}
    ranked = [heard[n] for n in race.order(runs, resolution=resolution(state, "validation"))]
    return ranked if ranked and values_of(state, ranked[0], "validation") else []


def runs_of(state: State, contender: Contender, seeds: Collection[int] | None = None) -> race.Runs:
    """Its validation losses and divergences, of all its finals or of those on `seeds` alone."""
    assert state.config is not None
    sign = -1 if state.config.card.direction == "maximize" else 1
    if seeds is not None:
        kept = tuple(t for t in contender.trials if t.recipe.seed in seeds)
        contender = replace(contender, trials=kept)
    losses = [sign * v for v in values_of(state, contender, "validation")]
    return race.Runs(losses, count(contender, Status.DIVERGED), violation_of(state, contender))


def resolution(state: State, split: Split) -> float:
    """The smallest step of the metric on this split; 0 for one that moves freely."""
    assert state.config is not None
    card = state.config.card
    samples = card.sizes.get("test" if split == "test" else "valid", 0)
    return 1 / samples if samples and card.metric in SHARES else 0.0


def values_of(state: State, contender: Contender, split: Split) -> list[float]:
    found = (value_of(state, t, split) for t in contender.trials)
    return [v for v in found if v is not None]


def value_of(state: State, trial: Trial, split: Split) -> float | None:
    """A finished run's value; None when it has none that is finite."""
    assert state.config is not None
    if trial.status != Status.DONE:
        return None
    if split == "validation":
        value = trial.last(state.metric)
    else:
        value = (trial.test or {}).get(f"test/{state.config.card.metric}")
    return value if value is not None and math.isfinite(value) else None


def violation_of(state: State, contender: Contender) -> float:
    """How far the contender's finished finals break the constraints, on average."""
    found = [state.violation(t) for t in contender.trials if t.status == Status.DONE]
    return _mean(found) if found else 0.0


def count(contender: Contender, *statuses: Status) -> int:
    return sum(t.status in statuses for t in contender.trials)


def _ranked(state: State) -> dict[Identity, tuple[float, Recipe]]:
    """Points trained to the end with a finite value, best first; seeds of one point averaged."""
    assert state.config is not None
    runs: dict[Identity, list[Trial]] = {}
    for trial in state.finished():
        value = trial.last(state.metric)
        if value is not None and math.isfinite(value):
            runs.setdefault(same_point(trial.recipe), []).append(trial)
    sign = -1 if state.config.card.direction == "maximize" else 1
    front = {t.number for t in state.front()} if state.aims.several else set()
    broken = {k: _mean([state.violation(t) for t in ts]) for k, ts in runs.items()}
    behind = {k: not any(t.number in front for t in ts) for k, ts in runs.items()}
    means = {k: _mean([t.last(state.metric) for t in ts]) for k, ts in runs.items()}
    best = sorted(runs, key=lambda k: (broken[k], behind[k], sign * means[k], runs[k][0].number))
    return {k: (means[k], runs[k][0].recipe) for k in best}


def _mean(values: Sequence[float | None]) -> float:
    known = [v for v in values if v is not None]
    return math.fsum(known) / len(known)


def of_phase(state: State, phase: str) -> list[Trial]:
    return [t for t in state.trials.values() if t.phase == phase]
