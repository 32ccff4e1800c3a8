"""Why a study found what it found: what mattered, the winner's path, what each stage gave.

    what mattered   shares of the variance of the trials' ranks (`automl.reports.importance`), with
                    the options of a choice beside each other
    the path        every trial that was the best so far when it ended, and what was new in it
    the stages      trials, full trainings, and gain on the best so far, by who proposed them

It speaks of the search, which saw one seed a trial; what is proven, the verdict says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from automl.recipe import Recipe
from automl.records import Status
from automl.reports.importance import ENOUGH, Importance, importances
from automl.reports.numerals import Scale, counted, duration, short
from automl.reports.tables import recipe_title
from automl.space.ranges import Choice
from automl.space.tree import Space
from automl.study.state import State, Trial

_BARS = 8  # hyperparameters that are listed
_LEAST = 0.01  # share of the variance below which one is not listed
_OPTIONS = 4
_MODEL = "the model"  # who proposed trials without a label


@dataclass(frozen=True, slots=True)
class Stage:
    """What one part of the strategy did; `gain` is on the best so far, None when it was first."""

    name: str
    trials: int
    fulls: float  # full trainings
    gain: float | None


def explain_lines(state: State) -> list[str]:
    """Plain text, one paragraph a line; tables are indented."""
    assert state.config is not None
    scale = Scale(state.config.card.metric)
    return [*_mattered(state, scale), "", *_path(state, scale), "", *_stages(state, scale)]


def path(state: State) -> list[tuple[Trial, float]]:
    """Trials that were the best so far when they ended, each with its gain on the one before."""
    found: list[tuple[Trial, float]] = []
    best: float | None = None
    for trial in sorted(state.finished(), key=lambda t: (t.ended, t.number)):
        value = trial.last(state.metric)
        if value is None or not math.isfinite(value) or state.violation(trial) > 0:
            continue
        if best is None or state.better(value, best):
            gain = 0.0 if best is None else abs(value - best)
            found.append((trial, gain))
            best = value
    return found


def stages(state: State) -> list[Stage]:
    """The parts of the strategy in the order in which they first proposed something."""
    assert state.config is not None
    gains: dict[str, float | None] = {}
    for i, (trial, gain) in enumerate(path(state)):
        name = trial.label or _MODEL
        gains[name] = None if i == 0 else (gains.get(name) or 0.0) + gain
    trials: dict[str, list[Trial]] = {}
    for trial in state.search_trials():
        trials.setdefault(trial.label or _MODEL, []).append(trial)
    steps = state.config.card.steps
    return [
        Stage(name, len(own), sum(t.passes for t in own) / steps, gains.get(name, 0.0))
        for name, own in trials.items()
    ]


def _mattered(state: State, scale: Scale) -> list[str]:
    found = [i for i in importances(state) if i.share >= _LEAST][:_BARS]
    if not found:
        return [f"What mattered cannot be told from fewer than {ENOUGH} trials."]
    heard = sum(bool(t.curve) for t in state.search_trials())
    lines = [
        f"What mattered: how much of the ranks of {counted(heard, 'trial')} each setting explains,",
        "and its options by the median of those that were trained to the end (so many):",
    ]
    wide = max(len(i.name) for i in found)
    for one in found:
        words = _options(state, one, scale)
        lines.append(f"  {one.name:<{wide}}  {100 * one.share:3.0f} %  {words}".rstrip())
    return lines


def _options(state: State, one: Importance, scale: Scale) -> str:
    """The options of a choice by their median value among trials at the end, the best first."""
    assert state.config is not None
    range_ = Space.from_json(state.config.card.space)[one.name].range
    best = state.incumbent()
    if not isinstance(range_, Choice):
        value = best.recipe.point.get(one.name) if best and not best.recipe.changes else None
        return "" if value is None else f"best trial: {short(value)}"
    groups: dict[str, list[float]] = {}
    for trial in state.finished():
        value_ = trial.last(state.metric)
        named = one.name in trial.recipe.point and not trial.recipe.changes
        if named and value_ is not None and math.isfinite(value_):
            groups.setdefault(short(trial.recipe.point[one.name]), []).append(value_)
    worst_last = state.better(1, 0)
    ranked = sorted(groups.items(), key=lambda g: median(g[1]), reverse=worst_last)
    words = [f"{name} {scale.value(median(v))} ({len(v)})" for name, v in ranked[:_OPTIONS]]
    return ", ".join(words)


def _path(state: State, scale: Scale) -> list[str]:
    steps = path(state)
    if not steps:
        return ["No trial was trained to its end."]
    lines = ["How the best was found:"]
    before: Recipe | None = None
    for trial, gain in steps:
        value = scale.value(trial.last(state.metric))
        more = f"+{scale.size(gain)}{scale.unit}" if before else ""
        what = recipe_title(trial.recipe, before)
        who = trial.label or _MODEL
        lines.append(f"  trial {trial.number:<4} {value:>9}  {more:>13}  {who:<9}  {what}")
        before = trial.recipe
    return lines


def _stages(state: State, scale: Scale) -> list[str]:
    lines = ["What each part of the search gave:"]
    lines += list(_stage_rows(state, scale))
    diverged = sum(t.status == Status.DIVERGED for t in state.search_trials())
    if diverged:
        lines.append(f"{counted(diverged, 'trial')} diverged.")
    if state.ended_early:
        lines.append(f"It ended before its budget did: {state.ended_early}.")
    lines.append(f"The search took {duration(state.wall_seconds)} with the verdict.")
    return lines


def _stage_rows(state: State, scale: Scale) -> Iterator[str]:
    for stage in stages(state):
        gain = "first" if stage.gain is None else f"+{scale.size(stage.gain)}{scale.unit}"
        cost = f"{stage.fulls:.1f} full trainings"
        yield f"  {stage.name:<9}  {counted(stage.trials, 'trial'):>10}  {cost:>19}  {gain:>13}"
