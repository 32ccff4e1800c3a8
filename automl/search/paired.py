"""A sampler and a fidelity rule together: the strategy that all named ones are made of.

The sampler says where to look, the rule who trains on. Values are turned into losses here, at
the door: below it lower is better, and what failed, diverged or is not finite is infinity.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from automl.aims import Outcome
from automl.errors import StrategyError
from automl.recipe import Recipe
from automl.records import Segment
from automl.space.ranges import Value
from automl.space.tree import Point, Space

_SEEDS = 2**31


@dataclass(frozen=True, slots=True)
class Failure:
    """A segment that brought no value; its trial counts as the worst there is."""

    kind: str  # a Status of FAILURES: "out of memory", "user code" ...
    message: str = ""


Values = Mapping[int, float | Outcome]  # by step; an Outcome each where several things count


@dataclass(frozen=True, slots=True)
class Trial:
    """A trial as the strategy knows it: what it was, how far it came, and its value there."""

    number: int
    recipe: Recipe
    step: int
    value: float  # of the first objective
    label: str = ""
    outcome: Outcome | None = None  # where several things count


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A point to try. `full`: train it to the end, whatever the rungs say."""

    point: Mapping[str, Value]
    label: str = ""
    full: bool = False


@dataclass(frozen=True, slots=True)
class Fork:
    """A new trial is to go on from the checkpoint of `parent` at `start`, with other values."""

    parent: int
    start: int
    stop: int
    values: Mapping[str, Value]


class Sampler(Protocol):
    """Where to look. Each trial is either suggested or adopted, once, and then observed."""

    def suggest(self, trial: int) -> Suggestion: ...

    def adopt(self, trial: int, point: Point) -> None:
        """Somebody else has begun `trial` at `point`: learn from it as from one's own."""

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        """The loss of `trial` where it stands; called again when it has trained further.

        `curve`: losses of the last segment by share of a full training, `loss` the last of them.
        """


@runtime_checkable
class Alike(Protocol):
    """A sampler that can keep names at given values: what a pack of trials shares."""

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion: ...


@runtime_checkable
class Sated(Protocol):
    """A sampler that can tell when more trials are hardly worth their cost."""

    def sated(self) -> bool: ...


class Rule(Protocol):
    """Who trains on. Steps are counted from the trial's start."""

    def enter(self, trial: int, *, full: bool) -> int:
        """A new trial: the step that its first segment stops at."""

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        """Losses by step, the last one at the end of the segment; infinity ends the trial."""

    def next(self) -> tuple[int, int, int] | Fork | None:
        """A waiting trial that is to train on now: (trial, start, stop); None when none is."""


@runtime_checkable
class Weighing(Protocol):
    """A rule that weighs a new trial against those that wait."""

    def prefers_new(self) -> bool:
        """Whether a trial should rather begin than train on."""


@runtime_checkable
class Holding(Protocol):
    """A rule under which nothing may begin for a while."""

    def holds(self) -> bool:
        """Whether results are to be awaited, where `next` gives nothing."""


@runtime_checkable
class Forking(Protocol):
    """A rule whose `next` may be a Fork."""

    def seated(self, trial: int, recipe: Recipe, fork: Fork | None) -> None:
        """`trial`, which has just been entered or forked, trains `recipe`."""


@runtime_checkable
class Thrifty(Protocol):
    """A rule that wants to know what training costs."""

    def paid(self, trial: int, steps: int, seconds: float) -> None:
        """So many steps of the trial took so many seconds; told before they are reported."""


class Paired:
    """The strategy made of a sampler and a rule; trial 0 is the baseline, trained to the end."""

    def __init__(
        self,
        space: Space,
        sampler: Sampler,
        rule: Rule,
        *,
        steps: int,
        maximize: bool,
        seed: int,
        early_end: bool = False,
    ) -> None:
        """`early_end`: begin no more trials once the sampler is sated, if it can tell."""
        self._space = space
        self._sampler = sampler
        self._rule = rule
        self._steps = steps
        self._sign = -1.0 if maximize else 1.0
        self._early_end = early_end
        self._first_seed = int.from_bytes(hashlib.sha256(f"trials {seed}".encode()).digest()[:4])
        self._recipes: list[Recipe] = []  # by trial number
        self._labels: dict[int, str] = {}
        self._forks: set[int] = set()
        self._open: dict[int, int] = {}  # trial -> step at which its running segment stops
        self._best: dict[int, tuple[float, int]] = {}  # step -> (loss, trial)
        self._queue: list[Suggestion] = []  # to be begun before anything else

    def ask(self, n: int, *, new: bool = True, like: Recipe | None = None) -> list[Segment]:
        """Up to n segments: trials that are to train on first, then new ones."""
        segments: list[Segment] = []
        while len(segments) < n:
            begins = new and not self.ended()
            rule = self._rule
            prefers = begins and isinstance(rule, Weighing) and rule.prefers_new()
            going_on = None if prefers else rule.next()
            if isinstance(going_on, Fork):
                segments.append(self._fork(going_on))
            elif going_on is not None:
                trial, start, stop = going_on
                segments.append(
                    Segment(trial, self._recipes[trial], start, stop, parent=(trial, start))
                )
                self._open[trial] = stop
            elif begins and not (isinstance(rule, Holding) and not prefers and rule.holds()):
                segments.append(self._begin(like))
            else:
                break
        return segments

    def tell(self, segment: Segment, values: Values | Failure, *, seconds: float = 0.0) -> None:
        """Take the values of an open segment, known by its trial.

        Raises:
            StrategyError: the trial has no open segment.
        """
        trial = segment.trial
        if trial not in self._open:
            raise StrategyError(f"trial {trial} was told a result, but runs no segment")
        stop = self._open.pop(trial)
        losses = self._losses(values, stop)
        if seconds > 0 and isinstance(self._rule, Thrifty):
            self._rule.paid(trial, stop - segment.start, seconds)
        self._rule.report(trial, losses)
        self._learn(trial, stop, losses)

    def reserve(self, recipe: Recipe, label: str) -> int:
        """The number of a trial that is not the strategy's own: it is told nothing of it."""
        self._recipes.append(recipe)
        self._labels[len(self._recipes) - 1] = label
        return len(self._recipes) - 1

    def enqueue(self, point: Point, label: str) -> None:
        """Begin a trial at `point` next, trained to the end."""
        self._queue.append(Suggestion(point, label, full=True))

    @property
    def queued(self) -> int:
        """Trials that were enqueued and have not begun."""
        return len(self._queue)

    def incumbent(self) -> Trial | None:
        """The best finished trial; before one has finished, the best at the highest step."""
        if not self._best:
            return None
        step = max(self._best)
        loss, number = self._best[step]
        return Trial(number, self._recipes[number], step, self._sign * loss, self.label(number))

    def ended(self) -> str:
        """Why no more trials are begun, for people; "" while they are."""
        if self._early_end and isinstance(self._sampler, Sated) and self._sampler.sated():
            return "more search is not expected to find anything better"
        return ""

    def label(self, trial: int) -> str:
        """Why the trial was begun: "baseline", "portfolio", or nothing."""
        return self._labels.get(trial, "")

    def _learn(self, trial: int, stop: int, losses: Mapping[int, float]) -> None:
        loss = losses[stop]
        curve = {step / self._steps: value for step, value in losses.items()}
        if trial not in self._forks:  # what a line of descent came to is no place in the space
            self._sampler.observe(trial, loss, curve)
        if loss < math.inf:
            self._best[stop] = min(self._best.get(stop, (math.inf, trial)), (loss, trial))

    def _begin(self, like: Recipe | None) -> Segment:
        trial = len(self._recipes)
        if trial == 0:
            suggestion = Suggestion(self._space.default(), "baseline", full=True)
            self._sampler.adopt(0, suggestion.point)
        elif self._queue and like is None:
            suggestion = self._queue.pop(0)
            self._sampler.adopt(trial, suggestion.point)
        elif like is not None and isinstance(self._sampler, Alike):
            suggestion = self._sampler.suggest_like(trial, like.shared)
        else:
            suggestion = self._sampler.suggest(trial)
        recipe = Recipe(suggestion.point, steps=self._steps, seed=self._seed(trial))
        self._recipes.append(recipe)
        if suggestion.label:
            self._labels[trial] = suggestion.label
        self._open[trial] = stop = self._rule.enter(trial, full=suggestion.full)
        if isinstance(self._rule, Forking):
            self._rule.seated(trial, recipe, None)
        return Segment(trial, recipe, 0, stop)

    def _fork(self, fork: Fork) -> Segment:
        """The seed is the parent's: trained from its start, the child's recipe is its line."""
        trial = len(self._recipes)
        recipe = self._recipes[fork.parent].changed(fork.start, fork.values)
        self._recipes.append(recipe)
        self._forks.add(trial)
        self._labels[trial] = f"from {fork.parent}"
        self._open[trial] = fork.stop
        assert isinstance(self._rule, Forking)
        self._rule.seated(trial, recipe, fork)
        return Segment(trial, recipe, fork.start, fork.stop, parent=(fork.parent, fork.start))

    def _seed(self, trial: int) -> int:
        # A step of odd size meets each residue once: a point that comes again is another recipe.
        return (self._first_seed + trial * 2654435761) % _SEEDS

    def _losses(self, values: Values | Failure, stop: int) -> dict[int, float]:
        if not isinstance(values, Mapping) or not values:
            return {stop: math.inf}
        losses = {step: self._sign * _number(values[step]) for step in sorted(values)}
        if not all(math.isfinite(loss) for loss in losses.values()):
            return {stop: math.inf}
        losses.setdefault(stop, losses[max(losses)])
        return losses


def _number(value: float | Outcome) -> float:
    if isinstance(value, Outcome):
        raise StrategyError("told an Outcome; a strategy of one objective takes numbers")
    return float(value)
