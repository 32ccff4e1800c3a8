"""Population based training: the worst members go on as changed copies of the best.

    every `low` steps    a member has a loss, to be compared with the others' at that very step
    exploit              one of the worst fifth is replaced by a fork of a random one of the best
                         fifth: its weights, its optimizer's state, its values
    explore              of these values, those that may change while training do (`exploring.py`)

What wins is a line of descent: a recipe whose numbers change at certain steps.

A population goes from step to step together: its members wait for each other, and nothing else
begins meanwhile. Of those at one step the worst go on first, as copies, the best last: so what is
copied still has its checkpoint. Equal losses: the later trial is the worse. A member that diverged
or failed is replaced in any case, and given up where nobody can be copied. When all members are on
their way or done and a worker is free, another population begins.
Source: Jaderberg et al. 2017, arXiv:1711.09846 (truncation selection).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from automl.recipe import Recipe
from automl.search.fidelity.exploring import Explorer
from automl.search.paired import Fork

_SHARE = 0.2  # of a population: copied, and replaced
_SIZE, _LEAST = 10, 4  # members


@dataclass
class _Member:
    """Who holds a place in a population now, and the segment that it runs or waits after."""

    trial: int
    recipe: Recipe
    start: int
    stop: int
    loss: float = math.inf  # where it stands: at `start`, or at `stop` where it waits
    reached: int = 0  # the last step that has a checkpoint of its own
    runs: bool = True
    waits: bool = False


@dataclass
class _Group:
    """A population, and all losses that were measured in it: by step, by trial."""

    members: list[_Member] = field(default_factory=list)
    losses: dict[int, dict[int, float]] = field(default_factory=dict)


class Population:
    """The rule of who trains on, and who as another's copy.

    Args:
        size: members of a population, see `population_size`.
        explorer: finds other values for a copy.
    """

    def __init__(self, low: int, high: int, *, size: int, seed: int, explorer: Explorer) -> None:
        self.steps: tuple[int, ...] = (*range(low, high, low), high)
        self._size, self._explorer = size, explorer
        self._rng = np.random.default_rng([seed, 11])
        self._groups: list[_Group] = []
        self._seats: dict[int, tuple[_Group, int]] = {}  # by trial, also of those replaced
        self._entering: int | None = None
        self._leaving: tuple[_Group, int] | None = None

    def prefers_new(self) -> bool:
        """Until the youngest population is whole."""
        return not self._groups or len(self._groups[-1].members) < self._size

    def holds(self) -> bool:
        """While members wait for others of their population."""
        return any(m.waits for group in self._groups for m in group.members)

    def enter(self, trial: int, *, full: bool) -> int:
        self._entering = None if full else trial
        return self.steps[-1] if full else self.steps[0]

    def seated(self, trial: int, recipe: Recipe, fork: Fork | None) -> None:
        """A new trial takes a new seat, a fork that of the member it replaces."""
        if fork is not None and self._leaving is not None:
            group, seat = self._leaving
            loss = group.losses[fork.start][fork.parent]
            group.members[seat] = _Member(trial, recipe, fork.start, fork.stop, loss)
        elif trial == self._entering:
            if self._groups == [] or len(self._groups[-1].members) >= self._size:
                self._groups.append(_Group())
            group, seat = self._groups[-1], len(self._groups[-1].members)
            group.members.append(_Member(trial, recipe, 0, self.steps[0]))
        else:
            return
        self._seats[trial] = group, seat

    def report(self, trial: int, losses: Mapping[int, float]) -> None:
        if trial not in self._seats:
            return
        group, seat = self._seats[trial]
        member = group.members[seat]
        before, loss = member.loss, losses[member.stop]
        if math.isfinite(before) and math.isfinite(loss):
            point = member.recipe.at(member.start).point
            self._explorer.learn(point, member.start, before, loss)
        member.loss, member.runs = loss, False
        member.reached = member.stop if math.isfinite(loss) else 0  # nothing of it can be copied
        member.waits = member.stop < self.steps[-1]
        group.losses.setdefault(member.stop, {})[trial] = loss

    def next(self) -> tuple[int, int, int] | Fork | None:
        for member, group in self._waiting():
            member.waits, step = False, member.stop
            worst, best = self._ends(group, step)
            if member.trial in worst or member.loss == math.inf:
                fork = self._fork(group, best, step)
                if fork is not None:
                    self._leaving = self._seats[member.trial]
                    return fork
            if member.loss < math.inf:
                member.start, member.stop, member.runs = step, self._after(step), True
                return member.trial, step, member.stop
        return None

    # ----------------------------------------------------------------------------------------

    def _waiting(self) -> list[tuple[_Member, _Group]]:
        """Who may be judged, in this order: see above."""
        found = []
        for age, group in enumerate(self._groups):
            last = min((m.stop for m in group.members if m.waits), default=0)
            if any(m.runs and m.stop <= last for m in group.members):
                continue
            for seat, member in enumerate(group.members):
                if member.waits and member.stop == last:
                    worst, best = self._ends(group, member.stop)
                    place = 0 if member.trial in worst else 2 if member.trial in best else 1
                    found.append((age, place, seat, member, group))
        found.sort(key=lambda entry: entry[:3])
        return [(member, group) for *_, member, group in found]

    def _ends(self, group: _Group, step: int) -> tuple[set[int], set[int]]:
        """The worst and the best fifth, at least one, of those that have come to the step."""
        known = group.losses[step]
        if len(known) < 2:
            return set(), set()
        ranked, count = self._ranked(known), max(1, int(_SHARE * len(known)))
        best = {trial for trial in ranked[:count] if known[trial] < math.inf}
        return set(ranked[-count:]) - best, best

    def _ranked(self, losses: Mapping[int, float]) -> list[int]:
        """Trials from the best to the worst."""
        return sorted(losses, key=lambda trial: (losses[trial], trial))

    def _fork(self, group: _Group, best: set[int], step: int) -> Fork | None:
        """A changed copy of one of the best that stands there; None: of nobody."""
        parents = [m for m in group.members if m.trial in best and m.reached == step]
        if not parents:
            return None
        parent = parents[int(self._rng.integers(len(parents)))]
        others = [m.recipe.at(step).point for m in group.members if m.start == step and m.runs]
        values = self._explorer.explore(parent.recipe.at(step).point, step, others)
        return Fork(parent.trial, step, self._after(step), values) if values else None

    def _after(self, step: int) -> int:
        return self.steps[self.steps.index(step) + 1]


def population_size(budget: float | None, workers: int = 1) -> int:
    """Members, for a search that can expect so many full trainings, the baseline's among them.

    About ten, so that whole populations fit into the budget; as many for each worker.

    >>> [population_size(b) for b in (None, 3, 9, 15, 21, 101)]
    [10, 4, 8, 14, 10, 10]
    >>> [population_size(21, workers) for workers in (2, 3, 8, 32)]
    [10, 9, 8, 10]
    """
    size = _SIZE
    if budget is not None:
        left = budget - 1
        size = max(_LEAST, int(left / max(1, round(left / _SIZE))))
    return size // workers * workers or size
