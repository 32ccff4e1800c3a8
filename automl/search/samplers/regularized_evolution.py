"""Regularized evolution: the young survive, and the best of a few has a child.

    population   the last `_POPULATION` trials that reported: a trial dies of age, not of its loss
    parent       the best of `_SAMPLE` of them, drawn at random
    child        the parent with one active dimension changed, as in `neighbours.py`

Random points until a population has begun. That everybody dies keeps a lucky loss from being
copied for ever, which helps where losses are noisy; meant for architectures.
Source: Real et al. 2018, arXiv:1802.01548.
"""

from __future__ import annotations

from automl.search.samplers.neighbours import NeighbourSampler
from automl.space.ranges import Choice, Value

_POPULATION = 20
_SAMPLE = 5


class RegularizedEvolutionSampler(NeighbourSampler):
    """Aging evolution over a tree of conditions."""

    def _vary(self) -> dict[str, Value]:
        alive = list(self._losses)[-_POPULATION:]  # in the order in which they first reported
        if len(self._points) < _POPULATION or not alive:
            return self._space.sample(self._rng)
        count = min(_SAMPLE, len(alive))
        drawn = self._rng.choice(len(alive), size=count, replace=False)
        parent = min((alive[i] for i in drawn.tolist()), key=lambda t: (self._losses[t], t))
        child = dict(self._points[parent])
        free = [n for n in child if not self._fixed(n)]
        if free:
            ranked = sorted(alive, key=lambda t: (self._losses[t], t))
            name = free[int(self._rng.integers(len(free)))]
            self._change(child, name, (self._points[t] for t in ranked))
        return self._space.complete(child)

    def _fixed(self, name: str) -> bool:
        range_ = self._space[name].range
        if isinstance(range_, Choice):
            return len(range_.options) == 1
        return range_.low == range_.high
