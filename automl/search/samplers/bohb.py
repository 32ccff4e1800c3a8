"""BOHB's sampler: one TPE a rung, of which the deepest that knows enough proposes.

Losses of different rungs are not comparable, so each rung has a model of its own. Early on only the
first one has seen enough trials; later the model of full trainings takes over. A third of the
points is drawn at random, so that a misled model cannot lock the search in. A trial that a model
proposed and that never comes to its rung counts there as a bad one.
Source: Falkner et al. 2018, arXiv:1807.01774; its kernel densities are those of our TPE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from automl.search.paired import Suggestion
from automl.search.samplers.tpe import TpeSampler
from automl.space.ranges import Value
from automl.space.tree import Point, Space

_RANDOM = 1 / 3
_FEWEST = 8  # trials at a rung before its model proposes


class BohbSampler:
    """`rungs`: shares of a full training at which trials are compared, the last one 1."""

    def __init__(self, space: Space, *, seed: int, rungs: Sequence[float]) -> None:
        self._space = space
        self._rng = np.random.default_rng([seed, 11])
        self._models = {
            share: TpeSampler(space, seed=seed + i, startup=_FEWEST)
            for i, share in enumerate(rungs)
        }
        self._known: dict[float, set[int]] = {share: set() for share in rungs}  # to the model
        self._told: dict[float, set[int]] = {share: set() for share in rungs}
        self._points: dict[int, Mapping[str, Value]] = {}

    def suggest(self, trial: int) -> Suggestion:
        return self.suggest_like(trial, {})

    def suggest_like(self, trial: int, fixed: Point) -> Suggestion:
        """As `suggest`, with these names fixed."""
        ready = [share for share in self._models if len(self._told[share]) >= _FEWEST]
        if ready and self._rng.random() >= _RANDOM:
            suggestion = self._models[ready[-1]].suggest_like(trial, fixed)
            self._known[ready[-1]].add(trial)
        else:
            suggestion = Suggestion(self._space.sample(self._rng, fixed))
        self._points[trial] = suggestion.point
        return suggestion

    def adopt(self, trial: int, point: Point) -> None:
        self._points[trial] = point

    def observe(self, trial: int, loss: float, curve: Mapping[float, float] | None = None) -> None:
        for share, value in (curve or {1.0: loss}).items():
            if share not in self._models:
                continue
            model = self._models[share]
            if trial not in self._known[share]:
                self._known[share].add(trial)
                model.adopt(trial, self._points[trial])
            model.observe(trial, value)
            self._told[share].add(trial)
