"""The verdict: is the winner really better than the baseline, by how much, and because of what.

The winner is the contender (a finalist or the baseline) with the best bound of its validation value
over the fresh seeds (`race.py`). How much better it is than the baseline is then measured where
nothing was chosen: on the test split if there is one. The interval and the p-value are Welch's
(`comparison.py`).

    better        the 95 % interval of the difference lies above 0
    worse         it lies below 0: validation misled; the baseline is the one to keep
    tied          it holds 0; the text says how large a difference could still hide in it
    baseline      no finalist had a better bound than the baseline itself
    not measured  fewer than two seeds on one side, so no interval

Choosing the best of three on the same seeds, and measuring it there, costs little: choosing makes
"worse" as rare as it makes "better" more frequent. Simulated with normal noise and no difference,
three seeds, three finalists (20,000 studies): "better" is said in 1.3 % when test and validation
luck are independent, 2.8 % at correlation 0.5, 3.9 % when they are one (no test split). The
two-sided promise is 5 %.

A diverged final is a result, the worst: a contender with more of them ranks lower, and a baseline
that diverged on every seed has lost. Runs that failed otherwise are left out and counted.

Ablations give the gain of a change as the winner's mean minus the mean without the change over
shared seeds, beside the noise: half the 95 % interval of such a difference, its spread pooled over
all contenders. A gain inside the noise is said to be so.

Pure functions of the State. `next_trials`, what is still to be trained, lives in `finals.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from automl.recipe import Recipe
from automl.records import FAILURES, Status
from automl.space.ranges import Value
from automl.study.comparison import LEVEL, Difference, Sample, noise, welch
from automl.study.contenders import (
    BASELINE,
    SHARES,
    Contender,
    Split,
    baseline_recipe,
    count,
    ranking,
    resolution,
    same_point,
    value_of,
    values_of,
    violation_of,
)
from automl.study.finals import Planned, affordable, changes, next_trials, spending
from automl.study.state import State
from automl.study.tradeoffs import Further, Place, further, places

Outcome = Literal["better", "worse", "tied", "baseline", "not measured"]


@dataclass(frozen=True, slots=True)
class Standing:
    """One contender's finals."""

    label: str  # "baseline", "finalist 1"
    recipe: Recipe  # with the seed that it had in the search
    trials: tuple[int, ...]  # numbers of its finals
    validation: Sample
    test: Sample  # n = 0 without a test split
    diverged: int = 0
    failed: int = 0
    searched: float | None = None  # its validation value in the search

    def on(self, split: Split) -> Sample:
        return self.test if split == "test" else self.validation

    def to_json(self) -> dict[str, Any]:
        return {**asdict_shallow(self), "recipe": self.recipe.to_json(),
                "validation": asdict(self.validation), "test": asdict(self.test)}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Standing:
        return cls(
            **{
                **data,
                "recipe": Recipe.from_json(data["recipe"]),
                "trials": tuple(data["trials"]),
                "validation": Sample(**data["validation"]),
                "test": Sample(**data["test"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Ablation:
    """What a change of the winner gives, or what several together do, from runs without it.

    `gain` is positive when the change helps; None when every run without it diverged or failed,
    or when none was run.
    `noise` is None when no contender has two seeds to tell the spread.
    """

    label: str
    group: str  # "optimizer", "batch_size"; "" for several that were taken back together
    changed: Mapping[str, tuple[Value, Value]]  # name: (baseline's value, winner's)
    value: Sample  # without the change, on the split of the verdict
    gain: float | None
    noise: float | None
    diverged: int = 0
    failed: int = 0

    @property
    def proven(self) -> bool:
        """Whether the gain, or the loss, stands out of the noise; diverging without it does."""
        if self.gain is None:
            return self.diverged > 0
        return self.noise is not None and abs(self.gain) > self.noise

    def to_json(self) -> dict[str, Any]:
        return {**asdict_shallow(self), "value": asdict(self.value),
                "changed": {n: list(v) for n, v in self.changed.items()}}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Ablation:
        changed = {n: (v[0], v[1]) for n, v in data["changed"].items()}
        return cls(**{**data, "value": Sample(**data["value"]), "changed": changed})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a study has found out; differences are positive when the winner is the better one."""

    outcome: Outcome
    metric: str  # "accuracy"
    direction: str
    split: Split  # where the difference was measured
    winner: str  # label; "" when nothing was trained to the end
    keep: str  # label of the recipe to keep: the winner, or the baseline if that proved better
    standings: tuple[Standing, ...] = ()  # best first, by their bounds on validation
    rival: str = ""  # whom the difference is with: the baseline, or its best rival if it won
    difference: Difference | None = None
    ties: tuple[str, ...] = ()  # finalists that cannot be told from the winner
    optimism: float | None = None  # how much better the winner looks on validation than on test
    luck: float | None = None  # how much better its value in the search was than on fresh seeds
    ablations: tuple[Ablation, ...] = ()
    reason: str = ""  # for "not measured": why
    further: tuple[Further, ...] = ()  # what counts beside the metric
    front: tuple[Place, ...] = ()  # of the search, where several objectives count

    def standing(self, label: str) -> Standing | None:
        return next((s for s in self.standings if s.label == label), None)

    @property
    def hidden(self) -> float | None:
        """The largest difference, either way, that the interval leaves possible."""
        d = self.difference
        if d is None or d.low is None or d.high is None:
            return None
        return max(abs(d.low), abs(d.high))

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict_shallow(self),
            "standings": [s.to_json() for s in self.standings],
            "difference": self.difference.to_json() if self.difference else None,
            "ablations": [a.to_json() for a in self.ablations],
            "further": [asdict(f) for f in self.further],
            "front": [asdict(p) for p in self.front],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        found = data["difference"]
        return cls(
            **{
                **data,
                "standings": tuple(Standing.from_json(s) for s in data["standings"]),
                "difference": Difference.from_json(found) if found else None,
                "ties": tuple(data["ties"]),
                "ablations": tuple(Ablation.from_json(a) for a in data["ablations"]),
                "further": tuple(Further.from_json(f) for f in data.get("further", ())),
                "front": tuple(Place(**p) for p in data.get("front", ())),
            }
        )


def judge(state: State) -> Verdict:
    """The verdict on what has been trained so far; never raises, whatever is missing."""
    found = _judged(state)
    kept, base = found.standing(found.keep), found.standing(BASELINE)
    return replace(
        found,
        further=further(state, kept.trials if kept else (), base.trials if base else ()),
        front=places(state),
    )


def _judged(state: State) -> Verdict:
    """The verdict on the first objective."""
    assert state.config is not None
    card = state.config.card
    order = ranking(state)
    if not order:
        return _unmeasured(state)
    winner = order[0]
    base = next((c for c in order if c.label == BASELINE), None)
    rivals = [c for c in order if c.label != winner.label]
    rival = base if base is not None and winner.label != BASELINE else next(iter(rivals), None)
    split = _split(state, winner, rival)
    difference = _difference(state, winner, rival, split)
    outcome, reason = _outcome(winner, rival, difference)
    standings = tuple(_standing(state, c) for c in order)
    first = standings[0]
    sign = 1 if card.direction == "maximize" else -1
    return Verdict(
        outcome=outcome,
        metric=card.metric,
        direction=card.direction,
        split=split,
        winner=winner.label,
        keep=BASELINE if outcome == "worse" and _allowed(state, rival, winner) else winner.label,
        standings=standings,
        rival=rival.label if rival else "",
        difference=difference,
        ties=tuple(_ties(state, order, split)),
        optimism=_minus(first.validation.mean, first.test.mean, sign),
        luck=_minus(first.searched, first.validation.mean, sign),
        ablations=tuple(_ablations(state, order, split)),
        reason=reason,
    )


def _allowed(state: State, rival: Contender | None, winner: Contender) -> bool:
    """Whether the rival keeps the constraints as well as the winner does."""
    return rival is not None and violation_of(state, rival) <= violation_of(state, winner)


def _unmeasured(state: State) -> Verdict:
    """No finals: what the search itself saw, one run each, proves nothing and is said so."""
    assert state.config is not None
    card = state.config.card
    best, first = state.incumbent(), state.baseline()
    shown = {t.number: t for t in (best, first) if t is not None}
    standings = []
    for trial in shown.values():
        value = trial.last(state.metric) if trial.status == Status.DONE else None
        known = [value] if value is not None and math.isfinite(value) else []
        standings.append(
            Standing(
                label=BASELINE if trial is first else "incumbent",
                recipe=trial.recipe,
                trials=(trial.number,),
                validation=Sample.of(known),
                test=Sample.of([]),
                diverged=int(trial.status == Status.DIVERGED),
                searched=value,
            )
        )
    if best is None:
        reason = "no trial was trained to its last step"
    else:
        why = "the search has not ended" if state.allowance is None else "the budget left none"
        reason = f"no training on fresh seeds: {why}"
    label = "" if best is None else "baseline" if best is first else "incumbent"
    return Verdict("not measured", card.metric, card.direction, "validation", label, label,
                   standings=tuple(standings), reason=reason)  # fmt: skip


def _outcome(
    winner: Contender, rival: Contender | None, difference: Difference | None
) -> tuple[Outcome, str]:
    if winner.label == BASELINE:
        return "baseline", "" if rival else "nothing else was trained to its last step"
    if rival is None:
        return "not measured", "the baseline has no run on a fresh seed"
    gone = count(rival, Status.DIVERGED)
    if difference is None:
        if gone >= 2 and count(winner, Status.DIVERGED) == 0:
            return "better", f"the baseline diverged on all {gone} seeds"
        return "not measured", "the baseline has no finished run on a fresh seed"
    if not difference.measured:
        few = min(len(winner.trials), len(rival.trials)) < 2
        return "not measured", (
            "an interval needs at least two seeds on each side" if few
            else "every seed gave exactly the same value, so there is no luck to measure"
        )  # fmt: skip
    assert difference.low is not None and difference.high is not None
    if difference.low > 0:
        return "better", ""
    return ("worse" if difference.high < 0 else "tied"), ""


def _split(state: State, winner: Contender, rival: Contender | None) -> Split:
    """Test when every finished final of both sides has been evaluated on it."""
    for contender in (winner, rival):
        if contender is not None:
            seen = values_of(state, contender, "test")
            if not seen or len(seen) < len(values_of(state, contender, "validation")):
                return "validation"
    return "test"


def _difference(state: State, a: Contender, b: Contender | None, split: Split) -> Difference | None:
    assert state.config is not None
    if b is None:
        return None
    sign = 1 if state.config.card.direction == "maximize" else -1
    left, right = values_of(state, a, split), values_of(state, b, split)
    return welch(left, right, sign=sign, resolution=resolution(state, split))


def _ties(state: State, order: Sequence[Contender], split: Split) -> list[str]:
    winner, *others = order
    found = []
    for other in others:
        if other.label == BASELINE or count(other, Status.DIVERGED):
            continue
        difference = _difference(state, winner, other, split)
        if difference is not None and difference.p is not None and difference.p > 1 - LEVEL:
            found.append(other.label)
    return found


def _ablations(state: State, order: Sequence[Contender], split: Split) -> list[Ablation]:
    """Gains of the winner's changes, the largest first."""
    assert state.config is not None
    winner = order[0]
    if winner.label == BASELINE:
        return []
    sign = 1 if state.config.card.direction == "maximize" else -1
    groups = [values_of(state, c, split) for c in order]
    step = resolution(state, split)
    base, found = baseline_recipe(state).point, []
    trainings = affordable(state, winner.recipe, spending(state.allowance))
    for change in changes(state, winner.recipe, trainings):
        without_it = same_point(change.without)
        runs = [
            t
            for t in state.trials.values()
            if t.phase != "search" and same_point(t.recipe) == without_it
        ]
        without = {t.recipe.seed: v for t in runs if (v := value_of(state, t, split)) is not None}
        diverged = sum(t.status == Status.DIVERGED for t in runs)
        failed = sum(t.failed for t in runs)
        whole = {t.recipe.seed: value_of(state, t, split) for t in winner.trials}
        shared = [s for s in without if whole.get(s) is not None]
        left, right = [whole[s] for s in shared], [without[s] for s in shared]
        value = Sample.of(right)
        gain = _minus(Sample.of([v for v in left if v is not None]).mean, value.mean, sign)
        wide = noise(groups, len(left), len(right), resolution=step) if shared else None
        changed = {n: (base.get(n), winner.recipe.point.get(n)) for n in change.names}
        counts = {"diverged": diverged, "failed": failed}
        found.append(Ablation(change.label, change.group, changed, value, gain, wide, **counts))
    return sorted(found, key=_worth)


def _worth(a: Ablation) -> float:
    """Sorts what training diverges without first, what nobody ran last."""
    return -a.gain if a.gain is not None else -math.inf if a.diverged else math.inf


def _standing(state: State, contender: Contender) -> Standing:
    return Standing(
        label=contender.label,
        recipe=contender.recipe,
        trials=tuple(t.number for t in contender.trials),
        validation=Sample.of(values_of(state, contender, "validation")),
        test=Sample.of(values_of(state, contender, "test")),
        diverged=count(contender, Status.DIVERGED),
        failed=count(contender, *FAILURES),
        searched=contender.searched,
    )


def _minus(a: float | None, b: float | None, sign: int) -> float | None:
    return None if a is None or b is None else sign * (a - b)


def asdict_shallow(record: Any) -> dict[str, Any]:
    """Fields of a dataclass, its values as they are."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


__all__ = [
    "BASELINE", "SHARES", "Ablation", "Difference", "Planned", "Sample", "Standing", "Verdict",
    "judge", "next_trials", "ranking",
]  # fmt: skip
