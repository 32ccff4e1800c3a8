"""NSGA-II: the best fronts have children, and of a front those with the most room around them.

    population   the best `_POPULATION` of all trials that reported, by constraints, front, crowding
    parent       the better of two of them, drawn at random; a child has two (`mating.py`)

Random points until `_STARTUP` trials have reported. There are no generations: each child is made
from all that is known when it is asked for, so that workers never wait for one another. With one
objective it is a steady-state genetic algorithm.
Source: Deb et al. 2002, IEEE TEC 6; steady state as in Durillo et al. 2009.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from automl.search.paired import Suggestion
from automl.search.pareto import order
from automl.search.samplers.mating import Mating
from automl.space.ranges import Value
from automl.space.tree import Point, Space

_POPULATION = 24
_STARTUP = 12


class Nsga2Sampler:
    """Evolves a front on a tree of conditions."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 13])
        self._mating = Mating(space, self._rng)
        self._points: dict[int, Mapping[str, Value]] = {}
        self._told: dict[int, tuple[tuple[float, ...], float]] = {}  # losses, violation
        self._reported = 0

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        parents = self._parents() if self._reported >= _STARTUP else []
        if parents:
            point = self._mating.child(parents[0], parents[1], fixed)
        else:
            point = self._mating.fresh(fixed)
        self.adopt(trial, point)
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        self._points[trial] = dict(point)
        self._mating.note(point)

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self.observe_losses(trial, (loss,), 0.0 if np.isfinite(loss) else np.inf)

    def observe_losses(self, trial: int, losses: Sequence[float], violation: float) -> None:
        if trial not in self._points:
            return  # it did not survive
        self._reported += trial not in self._told
        self._told[trial] = tuple(losses), violation
        if len(self._told) >= 2 * self._size():
            kept = set(self._survivors())
            for gone in [t for t in self._told if t not in kept]:
                del self._told[gone], self._points[gone]

    def _size(self) -> int:
        return _POPULATION

    def _survivors(self) -> list[int]:
        """The population, best first."""
        trials = list(self._told)
        ranked = order([self._told[t][0] for t in trials], [self._told[t][1] for t in trials])
        return [trials[i] for i in ranked[: self._size()]]

    def _parents(self) -> list[Point]:
        """Two points, each the better of two; the same twice where there is but one."""
        alive = self._survivors()
        drawn = self._rng.integers(len(alive), size=4)
        return [self._points[alive[int(min(pair))]] for pair in (drawn[:2], drawn[2:])]
