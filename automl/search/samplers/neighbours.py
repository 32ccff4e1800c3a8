"""Change a few things of what is good: points near the best trials so far.

    parent = one of the `_ELITE` best trials, drawn with weights 1, 1/2, 1/3 ... by rank
    each of its active dimensions changes with probability `_CHANGES` / dimensions, at least one
        number    a normal step of `_STEP` of its range, on its own scale, turned back at the edges
        choice    another option, all alike; what it opens begins at the value that the best trial
                  with this option had, else at its default

In a tree of forty dimensions twenty trials teach a density model next to nothing, but which of two
recipes is better is plain: so good parts are kept, and one or two are varied. Defaults are priors
here too, since the first parent is the baseline. Steady-state evolution, in other words.
Source: the (mu + 1) scheme of Whitley 1989 (GENITOR); Real et al. 2018, arXiv:1802.01548.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from automl.search.paired import Suggestion
from automl.search.standings import Standings
from automl.space.ranges import Choice, Value
from automl.space.tree import Point, Space

_ELITE = 4
_CHANGES = 2.0  # expected
_STEP = 0.25
_DRAWS = 20  # before a point is taken that was tried already


class NeighbourSampler:
    """Variations of the best trials; random points until one has reported."""

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng([seed, 2])
        self._points: dict[int, dict[str, Value]] = {}
        self._losses: dict[int, float] = {}
        self._standings = Standings()
        self._seen: set[tuple[tuple[str, Value], ...]] = set()

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        for _ in range(_DRAWS):
            point = self._space.complete({**self._vary(), **fixed})
            if tuple(point.items()) not in self._seen:
                break
        self.adopt(trial, point)
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        self._points[trial] = dict(point)
        self._seen.add(tuple(point.items()))

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        self._losses[trial] = loss
        self._standings.put(trial, loss)

    def _vary(self) -> dict[str, Value]:
        elite = [self._points[n] for n in self._standings.best(_ELITE)]
        if not elite:
            return self._space.sample(self._rng)
        weights = 1 / np.arange(1, len(elite) + 1)
        parent = elite[int(self._rng.choice(len(elite), p=weights / weights.sum()))]
        free = [n for n in parent if not _single(self._space, n)]
        if not free:
            return dict(parent)
        changed = self._rng.random(len(free)) < _CHANGES / len(free)
        changed[self._rng.integers(len(free))] = True
        child = dict(parent)
        for name in np.array(free, dtype=object)[changed]:
            self._change(child, name, (self._points[n] for n in self._standings))
        return self._space.complete(child)

    def _change(
        self, child: dict[str, Value], name: str, ranked: Iterable[dict[str, Value]]
    ) -> None:
        range_, value = self._space[name].range, child[name]
        if not isinstance(range_, Choice):
            place = range_.encode(value) + _STEP * self._rng.standard_normal()
            place = 1 - abs(1 - abs(place) % 2)  # turned back at the edges
            child[name] = range_.decode(place)
            return
        others = [o for o in range_.options if o != value]
        child[name] = option = others[int(self._rng.integers(len(others)))]
        model = next((p for p in ranked if p.get(name) == option), {})
        for d in self._space:
            if any(n == name for n, _ in d.when) and d.name in model:
                child.setdefault(d.name, model[d.name])


def _single(space: Space, name: str) -> bool:
    range_ = space[name].range
    return len(range_.options) == 1 if isinstance(range_, Choice) else range_.low == range_.high
