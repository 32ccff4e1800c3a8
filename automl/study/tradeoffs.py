"""What a verdict says beside its metric: further objectives, constraints, and the front.

The first objective decides, on fresh seeds; here is what the recipe that is kept costs for it, on
the same runs, beside the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl.records import Status
from automl.study.comparison import Sample
from automl.study.state import State, Trial


@dataclass(frozen=True, slots=True)
class Further:
    """One more thing that counts, over the runs of the recipe that is kept and the baseline's."""

    name: str  # as in curves: "cost/params"
    direction: str  # of an objective; "" for a constraint
    kept: Sample
    baseline: Sample
    constraint: str = ""  # as typed
    broken: bool = False  # by the mean of the recipe that is kept
    baseline_broken: bool = False

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Further:
        return cls(
            **{**data, "kept": Sample(**data["kept"]), "baseline": Sample(**data["baseline"])}
        )


@dataclass(frozen=True, slots=True)
class Place:
    """A trial on the front of the search, with its value for each objective by name."""

    trial: int
    values: Mapping[str, float]
    compromise: bool = False  # the front's knee


def further(state: State, kept: Sequence[int], baseline: Sequence[int]) -> tuple[Further, ...]:
    """Further objectives, then constraints, over the trials of these numbers."""
    aims, found = state.aims, []
    for o in aims.objectives[1:]:
        found.append(
            Further(o.name, o.direction, _sample(state, kept, o.name),
                    _sample(state, baseline, o.name))
        )  # fmt: skip
    for c in aims.constraints:
        mine, theirs = (_sample(state, numbers, c.name) for numbers in (kept, baseline))
        found.append(
            Further(
                c.name, "", mine, theirs, c.text,
                broken=mine.mean is not None and c.violation(mine.mean) > 0,
                baseline_broken=theirs.mean is not None and c.violation(theirs.mean) > 0,
            )
        )  # fmt: skip
    return tuple(found)


def places(state: State) -> tuple[Place, ...]:
    """The front, best of the first objective first; () where one objective counts."""
    aims = state.aims
    if not aims.several:
        return ()
    knee = state.compromise()
    return tuple(
        Place(t.number, {o.name: t.curve[-1][1][o.name] for o in aims.objectives}, t is knee)
        for t in state.front()
    )


def _sample(state: State, numbers: Sequence[int], name: str) -> Sample:
    trials = [state.trials[n] for n in numbers]
    values = [v for t in trials if (v := _value(t, name)) is not None]
    return Sample.of(values)


def _value(trial: Trial, name: str) -> float | None:
    value = trial.last(name) if trial.status == Status.DONE else None
    return value if value is not None and math.isfinite(value) else None
