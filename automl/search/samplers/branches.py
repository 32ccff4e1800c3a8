"""Which branch of the condition tree gets the next trial: a bandit over branches.

A branch is what all unordered choices, and all choices that open something, are set to: within it
every point has the same dimensions. A tree can have more branches than there will ever be trials,
so they are opened one by one, and the more trials the more of them:

    open another    while there are fewer than 1 + sqrt(trials): half the time the best branch
                    with one choice changed, else one drawn at random
    else            argmax  share of trials that its better half beats  + c sqrt(ln N / n)

N trials in all, n of them in the branch (running ones count, so that workers spread out). The
first branch is that of the defaults.
Sources: Auer et al. 2002 (UCB1); Coulom 2007 (progressive widening).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np

from automl.search.columns import ordered
from automl.space.ranges import Choice, Value
from automl.space.tree import Dimension, Point, Space

Branch = tuple[tuple[str, Value], ...]

_EXPLORE = 0.3  # c
_DRAWS = 10  # before it is given up to find a branch that is not known


@dataclass
class _Arm:
    trials: int = 0
    losses: dict[int, float] = field(default_factory=dict)


class Branches:
    """The branches of `space` that have been opened, and how they did."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng([seed, 8])
        parents = {name for d in space for name, _ in d.when}
        self._forks: dict[str, Choice] = {
            d.name: d.range
            for d in space
            if isinstance(d.range, Choice) and (d.name in parents or not ordered(d.range))
        }
        self._arms: dict[Branch, _Arm] = {}
        self._of: dict[int, Branch] = {}

    def of(self, point: Point) -> Branch:
        """The branch in which `point` lies."""
        return tuple((n, v) for n, v in point.items() if n in self._forks)

    def dimensions(self, branch: Branch) -> list[Dimension]:
        """The dimensions that vary within it."""
        point = self._space.complete(dict(branch))
        return [
            d
            for d in self._space
            if d.name in point and d.name not in self._forks and not _single(d)
        ]

    def choose(self, fixed: Point) -> Branch:
        """The branch for the next trial, among those that agree with `fixed`."""
        known = [b for b in self._arms if all(fixed.get(n, v) == v for n, v in b)]
        if known and not self._forks:
            return known[0]
        trials = sum(self._arms[b].trials for b in known)
        if not known or len(known) < 1 + math.sqrt(trials):
            found = self._another(fixed, known)
            if found is not None:
                return found
        every = sorted(x for b in known for x in self._arms[b].losses.values() if x < math.inf)

        def promise(branch: Branch) -> float:
            arm = self._arms[branch]
            good = sorted(arm.losses.values())[: max(1, (len(arm.losses) + 1) // 2)]
            beaten = [1 - bisect_left(every, x) / max(len(every), 1) for x in good]
            share = float(np.mean(beaten)) if beaten else 1.0
            return share + _EXPLORE * math.sqrt(math.log(max(trials, 2)) / max(arm.trials, 1))

        return max(known, key=promise)

    def began(self, trial: int, point: Point) -> Branch:
        """`trial` was begun at `point`; its branch."""
        branch = self.of(point)
        self._arms.setdefault(branch, _Arm()).trials += 1
        self._of[trial] = branch
        return branch

    def observe(self, trial: int, loss: float) -> Branch | None:
        """The branch of a trial that has reported."""
        branch = self._of.get(trial)
        if branch is not None:
            self._arms[branch].losses[trial] = loss
        return branch

    def _another(self, fixed: Point, known: list[Branch]) -> Branch | None:
        if not known:
            return self.of(self._space.complete(fixed))
        best = min(known, key=lambda b: min(self._arms[b].losses.values(), default=math.inf))
        for _ in range(_DRAWS if self._forks else 0):
            if self._rng.random() < 0.5:
                chosen: dict[str, Value] = dict(best)
                name = list(chosen)[int(self._rng.integers(len(chosen)))]
                options = self._forks[name].options
                chosen[name] = options[int(self._rng.integers(len(options)))]
            else:
                chosen = {
                    n: r.options[int(self._rng.integers(len(r.options)))]
                    for n, r in self._forks.items()
                }
            found = self.of(self._space.complete({**chosen, **fixed}))
            if found not in self._arms:
                return found
        return None


def _single(d: Dimension) -> bool:
    range_ = d.range
    return len(range_.options) == 1 if isinstance(range_, Choice) else range_.low == range_.high
