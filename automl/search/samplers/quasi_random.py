"""Quasi-random search: points that cover the space evenly, whatever came back.

A scrambled Sobol (or Halton) sequence leaves no holes and draws no near-twins. The space is a tree:
dimensions with the same conditions share a sequence of their own, which moves on only when they
are drawn. So what an option opens is covered evenly however often the option comes.
Sources: Owen 1998, J. Complexity 14 (scrambling); Bousquet et al. 2017, arXiv:1706.03200.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.stats import qmc

from automl.search.paired import Suggestion
from automl.space.tree import Condition, Dimension, Point, Space


class QuasiRandomSampler:
    """Draws from `space` evenly; learns nothing."""

    def __init__(self, space: Space, *, seed: int, halton: bool = False) -> None:
        self._space = space
        self._seed = seed
        self._kind = qmc.Halton if halton else qmc.Sobol
        self._groups: dict[tuple[Condition, ...], list[Dimension]] = {}
        for d in space:
            self._groups.setdefault(d.when, []).append(d)
        self._sequences: dict[tuple[Condition, ...], qmc.QMCEngine] = {}

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        drawn = dict(fixed)
        point = self._space.complete(drawn)
        for when, group in self._groups.items():
            if group[0].active(point):
                for d, u in zip(group, self._next(when), strict=True):
                    drawn.setdefault(d.name, d.range.decode(float(u)))
                point = self._space.complete(drawn)
        return Suggestion(point)

    def adopt(self, trial: int, point: Point) -> None:
        pass

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        pass

    def _next(self, when: tuple[Condition, ...]) -> np.ndarray:
        if when not in self._sequences:
            place = list(self._groups).index(when)
            rng = np.random.default_rng([self._seed, 5, place])
            self._sequences[when] = self._kind(len(self._groups[when]), rng=rng)
        found: np.ndarray = self._sequences[when].random(1)[0]
        return found
