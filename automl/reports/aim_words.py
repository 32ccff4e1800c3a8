"""Objectives and constraints in words: "params 2.4k", "latency 0.31 ms"."""

from __future__ import annotations

import math
from collections.abc import Mapping

from automl.aims import COST, OWN_UNIT, plain_name
from automl.reports.numerals import Scale, counted, duration
from automl.study.comparison import Sample
from automl.study.state import State, Trial
from automl.study.tradeoffs import Further
from automl.study.verdict import Verdict

_SHOWN = 4  # trials of a front that a line names


def written(name: str, value: float | None) -> str:
    """A value of a curve's name, with its unit.

    >>> written("val/accuracy", 0.98), written("cost/params", 12345), written("cost/size", 4096)
    ('98.00 %', '12.3k', '4.00 KiB')
    """
    if value is None:
        return "-"
    if not name.startswith(COST):
        return Scale(name.rsplit("/", 1)[-1]).value(value)
    kind = name.removeprefix(COST)
    if kind == "seconds":
        return duration(value)
    if kind in ("latency", "memory"):
        return f"{value:.3g} {'ms' if kind == 'latency' else 'MiB'}"
    bytes_ = kind == "size"
    step, units = (1024.0, ("B", "KiB", "MiB", "GiB")) if bytes_ else (1e3, ("", "k", "M", "G"))
    place = 0
    while abs(value) >= step and place + 1 < len(units):
        value, place = value / step, place + 1
    digits = f"{value:.0f}" if place == 0 else f"{value:.2f}" if bytes_ else f"{value:.3g}"
    return f"{digits} {units[place]}" if bytes_ else f"{digits}{units[place]}"


def unit_of(name: str) -> str:
    """The unit in which a curve's name is kept; "" for counts and metrics."""
    return OWN_UNIT.get(name.removeprefix(COST), "") if name.startswith(COST) else ""


def spread(name: str, sample: Sample) -> str:
    """Mean and spread: "0.31 ms ± 0.01 ms"; the spread only where there is one."""
    text = written(name, sample.mean)
    return f"{text} ± {written(name, sample.sd)}" if sample.sd else text


def values_words(values: Mapping[str, float]) -> str:
    """ "accuracy 98.00 %, params 12.3k"."""
    return ", ".join(f"{plain_name(n)} {written(n, v)}" for n, v in values.items())


def front_words(state: State) -> str:
    """How many recipes the front holds, the best of each objective, and the compromise; of one
    objective how many keep the constraints."""
    aims = state.aims
    if not aims.several:
        return kept_words(state)
    front = state.front()
    if not front:
        return "no recipe keeps the constraints yet" if state.finished() else ""
    best = {}
    for o in aims.objectives:
        values = [t.curve[-1][1][o.name] for t in front]
        best[o.name] = min(values, key=o.loss)
    words = f"front of {counted(len(front), 'recipe')}; best {values_words(best)}"
    middle = state.compromise()
    return words + (f"; compromise {_named(state, middle)}" if middle else "")


def place_words(state: State, trial: Trial) -> str:
    """The values of a trial on the front; "" of any other, and where one objective counts."""
    if not state.aims.several or trial not in state.front():
        return ""
    return _values(state, trial)


def _named(state: State, trial: Trial) -> str:
    return f"trial {trial.number} ({_values(state, trial)})"


def _values(state: State, trial: Trial) -> str:
    return values_words({o.name: trial.curve[-1][1][o.name] for o in state.aims.objectives})


def kept_words(state: State) -> str:
    """How many finished trials keep the constraints; "" without any."""
    aims, ended = state.aims, state.finished()
    if not aims.constraints or not ended:
        return ""
    kept = sum(state.violation(t) == 0 for t in ended)
    listed = " and ".join(c.text for c in aims.constraints)
    return f"{kept} of {len(ended)} keep {listed}"


def broken_words(state: State, trial: Trial) -> str:
    """Which constraints the trial breaks, with its values: "breaks latency<5ms (7.2 ms)"."""
    metrics = trial.curve[-1][1] if trial.curve else {}
    broken = [c for c in state.aims.constraints if c.violation(metrics.get(c.name, math.nan)) > 0]
    return ", ".join(f"breaks {c.text} ({written(c.name, metrics.get(c.name))})" for c in broken)


def aim_notes(verdict: Verdict) -> list[str]:
    """What the verdict says beside its metric, a sentence each."""
    notes = []
    rivals = verdict.keep != "baseline"
    objectives = [f for f in verdict.further if f.direction]
    if objectives:
        notes.append(f"Beside it: {'; '.join(_against(f, rivals=rivals) for f in objectives)}.")
    for f in verdict.further:
        if f.constraint and f.kept.mean is not None:
            verb = "breaks" if f.broken else "keeps"
            base = ""
            if rivals and f.baseline.mean is not None:
                said = "breaks it" if f.baseline_broken else "keeps it"
                base = f"; the baseline {said} ({written(f.name, f.baseline.mean)})"
            notes.append(f"It {verb} {f.constraint} ({spread(f.name, f.kept)}){base}.")
    if verdict.front:
        shown = [f"trial {p.trial} ({values_words(p.values)})" for p in verdict.front[:_SHOWN]]
        rest = len(verdict.front) - len(shown)
        more = f", and {rest} more" if rest > 0 else ""
        notes.append(f"Front of {counted(len(verdict.front), 'recipe')}: {'; '.join(shown)}{more}.")
        for p in verdict.front:
            if p.compromise:
                notes.append(f"Its compromise: trial {p.trial} ({values_words(p.values)}).")
    return notes


def _against(f: Further, *, rivals: bool) -> str:
    own = f"{plain_name(f.name)} {spread(f.name, f.kept)}"
    if not rivals or f.baseline.mean is None:
        return own
    return f"{own} against {spread(f.name, f.baseline)} of the baseline"
